"""Small sets on disk, and `facedistill data` run on them as a user does."""

import io

from PIL import Image

from facedistill.cli.main import main
from facedistill.data.formats.shards.reader import write_shards
from tests.data.formats.drawn_set import DrawnSet

DRAWN = DrawnSet(3, 4)


def shards(path, faces=DRAWN, names=("0", "1", "2")):
    labels = [None] * len(faces) if faces.labels is None else faces.labels.tolist()
    write_shards(path, ((faces.encoded(i), labels[i]) for i in range(len(faces))), names, per_shard=5)
    return path


def folder(path, images):
    for name, content in images.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def encoded(mode="RGB", size=(112, 112), form="PNG"):
    file = io.BytesIO()
    Image.new(mode, size).save(file, form)
    return file.getvalue()


def run(capsys, *arguments):
    code = main(["data", *(str(argument) for argument in arguments)])
    said = capsys.readouterr()
    return code, said.out, said.err


def damaged_folder(path):
    good = {f"{name}/{n}.png": DRAWN.encoded(n) for name in "ab" for n in range(3)}
    return folder(path, {**good, "a/1.png": DRAWN.encoded(1)[:200], "b/2.png": b"no image"})
