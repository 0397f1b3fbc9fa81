"""`python -m my_faces.files`: random weights and images in the places of a user's own, so that the page's commands run."""

from pathlib import Path

import torch
from PIL import Image

from my_faces.networks import Wide

PEOPLE, IMAGES = 4, 6  # of each person


def write_files(folder: Path) -> None:
    """Writes wide.pth, my_photographs/<person>/<image>.jpg, and my_pairs.tsv with pairs of them in two folds."""
    torch.manual_seed(0)
    torch.save({"network": Wide().state_dict()}, folder / "wide.pth")
    names = [[f"{person}/{image}" for image in range(IMAGES)] for person in range(PEOPLE)]
    for name in (name for own in names for name in own):
        path = folder / "my_photographs" / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        small = Image.fromarray(torch.randint(256, (7, 7, 3), dtype=torch.uint8).numpy())
        small.resize((112, 112), Image.Resampling.BICUBIC).save(path)
    pairs = []
    for person, own in enumerate(names):
        other = names[(person + 1) % PEOPLE]
        pairs += [(own[k - 1], own[k], 1, k % 2) for k in range(1, IMAGES)]
        pairs += [(own[k], other[k], 0, k % 2) for k in range(IMAGES)]
    lines = ["\t".join(map(str, pair)) for pair in pairs]
    (folder / "my_pairs.tsv").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    write_files(Path())
