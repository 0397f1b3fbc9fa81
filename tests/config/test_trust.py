"""No configuration runs code that neither facedistill's table nor the user admits."""

import json
import sys

import pytest
from omegaconf import OmegaConf

from facedistill.cli.main import main
from facedistill.config import compose
from facedistill.config.trust import find_class, refuse_foreign_code
from facedistill.errors import ConfigError, UserError
from facedistill.runs.folder import RunFolder
from facedistill.runs.sources import instantiate
from facedistill.system import trust
from tests.helpers.errors import command_error, error_message

EVIL = "evil_package_that_writes"
GADGETS = [
    {"_target_": "os.system", "command": "touch executed"},
    {"_target_": f"{EVIL}.anything"},
    {"_target_": "shutil.copyfile", "src": "run.json", "dst": "executed"},
    {"_target_": "builtins.exec", "_args_": ["open('executed', 'w')"]},
    {"_target_": "hydra.utils.get_method", "path": "os.system"},
    {"_target_": "hydra._internal.utils._locate", "path": f"{EVIL}.anything"},
    {"_target_": "facedistill.sweeps.launchers.guard.main", "command": ["touch", "executed"]},
    {"_target_": "facedistill.launch.guard.main", "command": ["touch", "executed"]},
    {"_target_": "facedistill.system.files.write_atomically", "path": "executed", "content": "x"},
    {"_target_": "facedistill.losses.embedding.torch.hub.load", "repo_or_dir": ".", "source": "local"},
    {"_target_": "facedistill.methods.kd.KD.load_from_checkpoint", "checkpoint_path": "last.ckpt"},
    {"_target_": "lightning.pytorch.loggers.CSVLogger.__class__", "_partial_": True},
]
LIKE_ADMITTED = ("facedistill.losses.embedding.torch", "lightning.pytorch.loggers", "facedistill.methods.kd")
KEYS = [
    "backbone", "teacher.network", "generator.network", "head", "method", "method.losses.a.loss", "data.source", "optimizer",
    "data.source.augment", "scheduler", "logger.csv", "launcher", "sweep", "callbacks.mine", "optimizer.lr",
]  # fmt: skip


@pytest.fixture
def somewhere(tmp_path, monkeypatch):
    """A folder with a package that leaves a file when it is imported."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / f"{EVIL}.py").write_text(
        "open('executed', 'w').close()\nanything = print\nclass Thin: pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(trust, "_admitted", set())
    monkeypatch.setenv("SECRET_KEY", "secret")
    yield tmp_path
    sys.modules.pop(EVIL, None)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("gadget", GADGETS, ids=lambda gadget: gadget["_target_"])
def test_no_gadget_is_accepted_at_any_key(somewhere, gadget):
    path = gadget["_target_"]
    for key in KEYS:
        for value in (gadget, [{"inside": gadget}], {"deeper": [gadget]}):
            config = OmegaConf.create({})
            OmegaConf.update(config, key, value)
            if path.startswith(LIKE_ADMITTED) and key.startswith(("method", "logger")):
                continue  # refused when it is looked up
            message = error_message(ConfigError, refuse_foreign_code, config)
            assert f"_target_: {path}" in message
            assert f"add trust={path.rpartition('.')[0]}" in message
    with pytest.raises(ConfigError, match=r"if you trust that code, add trust=|cannot be imported"):
        instantiate(OmegaConf.create({"a": [gadget]}))


def test_the_message_names_key_class_and_trust(somewhere, capsys):
    expected = (
        f"backbone._target_: {EVIL}.Thin is no class of facedistill.models.backbones; if you trust that code, add "
        f"trust={EVIL} to the command line"
    )
    assert command_error(capsys, "train", f"backbone._target_={EVIL}.Thin").endswith(expected)
    wrong = error_message(ConfigError, compose, "train", ["+optimizer.x={y: [{_target_: os.system}]}"])
    assert wrong.startswith(
        "optimizer.x.y.0._target_: os.system is at a key that takes no class; if you trust"
    )


@pytest.mark.parametrize("where", ["backbone", "logger.x", "evaluation.places.lfw"])
def test_a_run_folder_and_a_job_file_run_nothing(somewhere, capsys, where):
    folder = somewhere / "runs" / "demo-12345678"
    folder.mkdir(parents=True)
    config = compose("train", ["experiment=demo"])
    OmegaConf.set_struct(config, False)
    OmegaConf.update(config, where, {"_target_": f"{EVIL}.Thin"}, merge=False)
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(config))
    (folder / "run.json").write_text(json.dumps({"status": "running", "name": "demo"}))
    (folder / "student.safetensors").write_bytes(b"x")
    for command in (["evaluate", folder], ["train", "--config", folder / "config.yaml"]):
        assert f"{folder / 'config.yaml'}: {where}._target_: {EVIL}.Thin" in command_error(capsys, *command)
    for command in ("report", "push"):
        arguments = [str(folder), *(["--repo", "a/b", "--dry"] if command == "push" else [])]
        assert main([command, *arguments]) in (0, 2)


@pytest.mark.parametrize(("value", "is_refused"), [
    ("${oc.env:SECRET_KEY}", True), ("${oc.${name}:SECRET_KEY}", True), ("x${oc.decode:${oc.env:SECRET_KEY}}", True),
    ("${oc.env:FACEDISTILL_${oc.env:SECRET_KEY}}", True), ("${teacher.embedding_dim}", False),
    ("${oc.env:FACEDISTILL_DATA,data}", False), ("${oc.create:{_target_: os.system}}", True),
])  # fmt: skip
def test_a_configuration_does_not_read_the_environment(somewhere, value, is_refused):
    config = OmegaConf.create({"name": value, "teacher": {"embedding_dim": 5}})
    if not is_refused:
        return refuse_foreign_code(config)
    message = error_message(ConfigError, refuse_foreign_code, config)
    assert message.startswith(f"name: {value} reads more than other keys, such as environment variables")
    trust.admit(["oc.env"])
    if value == "${oc.env:SECRET_KEY}":
        refuse_foreign_code(config)


def test_only_the_command_line_admits(somewhere, capsys):
    assert trust.take_trust(["a=1", "trust=[x.y, z]", "trust=w"]) == ["a=1"]
    assert trust.as_arguments() == ["trust=[w,x.y,z]"]
    assert trust.is_admitted("x.y.Thin")
    assert not trust.is_admitted("x.you")
    for wrong in ("", "[]", "*", "../x", "a-b"):
        assert "expected the dotted name" in error_message(ConfigError, trust.take_trust, [f"trust={wrong}"])
    with pytest.raises(
        ConfigError, match="unknown override 'trust'"
    ):  # such as the overrides of a table's row
        compose("train", [f"trust={EVIL}"])


@pytest.mark.parametrize("convert", [
    f"{EVIL}.anything", "os.system", "facedistill.sweeps.launchers.guard.main", "facedistill.system.files.convert",
])  # fmt: skip
def test_a_teacher_names_no_other_converter(somewhere, convert):
    message = error_message(ConfigError, compose, "train", [f"teacher.convert={convert}", "teacher=student"])
    assert message == (
        f"teacher.convert: {convert} is no converter of facedistill.models; if you trust that code, add "
        f"trust={convert.rpartition('.')[0]} to the command line"
    )


def test_a_program_needs_the_users_word(somewhere):
    chosen = ["teacher=torch_program", "teacher.file=x.pt", "teacher.network.trusted=true"]
    message = error_message(ConfigError, compose, "train", chosen)
    assert message.startswith(
        "teacher.network.trusted: lets the file of TorchProgram run code; if you trust its author"
    )
    by_position = OmegaConf.create(
        {"teacher": {"network": {"_target_": "facedistill.models.teachers.TorchProgram"}}}
    )
    by_position.teacher.network._args_ = [48, True]
    assert "teacher.network._args_: give the arguments" in error_message(
        ConfigError, refuse_foreign_code, by_position
    )
    trust.admit(["facedistill.models.teachers.TorchProgram"])
    assert compose("train", chosen).teacher.network.trusted


@pytest.mark.parametrize("flag", ["--cfg", "--help"])
def test_a_recipe_does_not_set_hydra(somewhere, capsys, flag):
    (somewhere / "experiment").mkdir()
    evil = "# @package _global_\nhydra: {hydra_logging: {formatters: {x: {'()': evil_package_that_writes.anything}}}}\n"
    (somewhere / "experiment" / "evil.yaml").write_text(evil)
    words = [
        "train",
        "experiment=evil",
        f"hydra.searchpath=[file://{somewhere}]",
        flag,
        *(["job"] if flag == "--cfg" else []),
    ]
    assert (
        "experiment/evil.yaml: hydra: sets Hydra itself, which only the command line may do"
        in command_error(capsys, *words)
    )


def test_named_libraries_are_admitted(somewhere):
    config = compose("train", ["optimizer._target_=torch.optim.RMSprop", "logger=csv"])
    config.logger.csv._target_ = "lightning.pytorch.loggers.CSVLogger"
    refuse_foreign_code(config)
    assert find_class("torch.optim.RMSprop").__name__ == "RMSprop"
    assert find_class("lightning.pytorch.loggers.CSVLogger").__name__ == "CSVLogger"
    wrong = error_message(ConfigError, find_class, "torch.optim.lr_scheduler.StepLR")
    assert wrong.startswith(
        "torch.optim.lr_scheduler.StepLR is no subclass of torch.optim.optimizer.Optimizer"
    )


def test_a_broken_config_yaml_is_reported(somewhere):
    folder = RunFolder(somewhere)
    (somewhere / "config.yaml").write_text("[]")
    assert error_message(UserError, folder.config).endswith("is no configuration; restore it from a copy")
    (somewhere / "config.yaml").write_text("a: [")
    assert "cannot be read" in error_message(UserError, folder.config)


def test_references_to_other_keys_do_not_grow_without_limit(somewhere):
    chain = {"a": "x" * 9} | {b: 3 * f"${{{a}}}" for a, b in zip("abcde", "bcdef", strict=True)}
    assert error_message(ConfigError, refuse_foreign_code, OmegaConf.create(chain), "x.yaml").startswith(
        "x.yaml: its values join 15"
    )
    refuse_foreign_code(OmegaConf.create({key: chain[key] for key in "abcde"}), "x.yaml")


def test_a_config_yaml_that_lacks_keys_is_one_sentence(somewhere, capsys, monkeypatch):
    run = somewhere / "demo-12345678"
    run.mkdir()
    (run / "run.json").write_text('{"status": "finished"}')
    (run / "student.safetensors").touch()
    (run / "config.yaml").write_text("name: demo\n")
    message = command_error(capsys, "evaluate", run)
    assert message.startswith(f"error  {run / 'config.yaml'}: ")
    assert message.endswith("; restore it from a copy")
