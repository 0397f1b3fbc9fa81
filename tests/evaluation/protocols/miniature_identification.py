"""Synthetic images, not of people, in the layouts of IJB-C, TinyFace and RFW."""

import io
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

from facedistill.models.detectors.similarity import ARCFACE_TEMPLATE
from tests.evaluation.protocols.miniature_benchmark import draw

CROP_PX = 140
SHIFT_PX = 14  # a loose crop holds the aligned face in its middle


def write_ijbc(folder: Path) -> Path:
    """12 people; two templates each of 2 to 5 faces in 1 to 3 media, in shuffled order; 1:N files."""
    rng = np.random.default_rng(0)
    root = folder / "IJBC"
    (root / "loose_crop").mkdir(parents=True)
    (root / "meta").mkdir()
    faces = []  # person, template, media
    for person in range(12):
        for kind in range(2):
            template = 1000 - 17 * person - 300 * kind  # neither dense nor in order
            faces += [(person, template, int(rng.integers(1, 4))) for _ in range(rng.integers(2, 6))]
    faces = [faces[i] for i in rng.permutation(len(faces))]
    points, places = [], []
    for number, (person, template, media) in enumerate(faces, start=1):
        name = f"{number}.jpg"
        aligned = Image.open(io.BytesIO(draw(person, number)))
        loose = Image.new("RGB", (CROP_PX, CROP_PX), (90, 20, 60))
        loose.paste(aligned, (SHIFT_PX, SHIFT_PX))
        loose.save(root / "loose_crop" / name, format="PNG")
        landmarks = " ".join(f"{v:.4f}" for v in (ARCFACE_TEMPLATE + SHIFT_PX).ravel())
        points.append(f"{name} {landmarks} {rng.uniform(0.4, 1):.6f}")
        places.append(f"{name} {template} {media}")
    meta = root / "meta"
    (meta / "ijbc_name_5pts_score.txt").write_text("\n".join(points) + "\n")
    (meta / "ijbc_face_tid_mid.txt").write_text("\n".join(places) + "\n")
    templates = sorted({template for _, template, _ in faces})
    person_of = {template: person for person, template, _ in faces}
    pairs = [(a, b, int(person_of[a] == person_of[b])) for a in templates for b in templates if a < b]
    (meta / "ijbc_template_pair_label.txt").write_text("".join(f"{a} {b} {s}\n" for a, b, s in pairs))
    galleries = {"gallery_G1": [], "gallery_G2": [], "probe_mixed": []}
    for template in templates:
        person = person_of[template]
        first = template > 700 - 17 * person
        where = "probe_mixed" if not first else ("gallery_G1" if person < 6 else "gallery_G2")
        lines = [
            f"{template},{100 + person},img/{n}.jpg,7" for n, face in enumerate(faces) if face[1] == template
        ]
        galleries[where] += lines
    for where, lines in galleries.items():
        text = "\n".join(["TEMPLATE_ID,SUBJECT_ID,FILENAME,SIGHTING_ID", *lines]) + "\n"
        (meta / f"ijbc_1N_{where}.csv").write_text(text)
    return root


def write_tinyface(folder: Path, *, compress: bool = True) -> Path:
    """5 people with 2 gallery faces and 3 probes each, 7 distractors."""
    root = folder / "tinyface"
    lists, aligned = root / "Testing_Set", root / "aligned"
    lists.mkdir(parents=True)
    names: dict[str, list[str]] = {"gallery": [], "probe": []}
    ids: dict[str, list[int]] = {"gallery": [], "probe": []}
    for kind, place, shots in (("gallery", "Gallery_Match", 2), ("probe", "Probe", 3)):
        (aligned / place).mkdir(parents=True)
        for person in (4, 2, 3, 0, 1):
            for shot in range(shots):
                name = f"{person}_{kind}_{shot}.jpg"
                (aligned / place / name).write_bytes(draw(person, shot + (10 if kind == "probe" else 0)))
                names[kind].append(name)
                ids[kind].append(person)
    (aligned / "Gallery_Distractor").mkdir()
    for number in range(7):
        (aligned / "Gallery_Distractor" / f"{number}.jpg").write_bytes(draw(50 + number, 0))
    for kind, file in (("gallery", "gallery_match"), ("probe", "probe")):
        cells = np.empty((len(names[kind]), 1), dtype=object)
        cells[:, 0] = names[kind]
        content = {f"{kind}_set": cells, f"{kind}_ids": np.array(ids[kind], dtype=np.uint16)[:, None]}
        savemat(lists / f"{file}_img_ID_pairs.mat", content, do_compression=compress)
    return root


def write_rfw(folder: Path) -> Path:
    """Three groups with 4 people; ten folds of 2 genuine and 2 impostor pairs."""
    root = folder / "rfw"
    for group_number, group in enumerate(("African", "Asian", "Indian")):
        people = [f"m.0{group_number}{letter}" for letter in "wxyz"]
        for number, person in enumerate(people):
            for shot in range(1, 6):
                path = root / "data" / group / person / f"{person}_{shot:04d}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(draw(10 * group_number + number, shot))
        lines = []
        for fold in range(10):
            one, two = people[fold % 4], people[(fold + 1) % 4]
            lines += [f"{one}\t1\t{2 + fold % 4}", f"{two}\t2\t{3 + fold % 3}"]
            lines += [f"{one}\t1\t{two}\t{1 + fold % 5}", f"{one}\t2\t{two}\t{1 + fold % 4}"]
        lists = root / "txts" / group
        lists.mkdir(parents=True)
        (lists / f"{group}_pairs.txt").write_text("\n".join(lines) + "\n")
    return root
