"""Heavy packages are imported in the functions that use them, so that a command starts fast."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import facedistill

HEAVY = {"wandb", "onnx", "onnxruntime", "matplotlib", "optuna", "pyarrow"}
LIGHT = """
import sys
import facedistill
assert not {"torch", "numpy", "omegaconf"} & set(sys.modules)
import facedistill.cli.embed, facedistill.export
found = {"lightning", "torchvision", "timm", "onnx", "onnxruntime", "matplotlib", "scipy"} & set(sys.modules)
assert not found, found
"""
NETWORKS_OF_A_RUN = """
import sys
from facedistill.models import backbones, generators, teachers
backbones.MobileNetV2, teachers.ArcFaceMobileFaceNet, generators.FaceGenerator  # searches all modules of each package
assert "timm" not in sys.modules
"""


def _at_import(node: ast.AST) -> Iterator[str]:
    """Packages that a module imports when it is imported itself."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        return
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        return
    if isinstance(node, ast.Import):
        yield from (name.name.partition(".")[0] for name in node.names)
    if isinstance(node, ast.ImportFrom):
        yield str(node.module).partition(".")[0]
    for child in ast.iter_child_nodes(node):
        yield from _at_import(child)


def test_no_module_imports_a_heavy_package_when_it_is_imported():
    """Lightning and timm import matplotlib and wandb themselves, so sys.modules would not tell."""
    root = Path(facedistill.__file__).parent
    found = {
        str(path.relative_to(root)): HEAVY & set(_at_import(ast.parse(path.read_text("utf-8"))))
        for path in root.rglob("*.py")
    }
    assert not {name: packages for name, packages in found.items() if packages}


def test_embedding_images_needs_neither_lightning_nor_torchvision():
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_finding_a_network_does_not_import_timm():
    done = subprocess.run([sys.executable, "-c", NETWORKS_OF_A_RUN], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
