"""Job files for SkyPilot and Kubernetes: their fields, and that nothing is started or written."""

from __future__ import annotations

import shlex

import pytest
import yaml

from facedistill.cli.main import main
from facedistill.config import compose
from facedistill.errors import ConfigError
from facedistill.sweeps.launchers.job_files import KubernetesFile, SkyPilotFile

ARGUMENTS = ["debug=smoke", "seed=1,2", "name=It is"]
JOBS = [("debug=smoke", "seed=1", "name=It is"), ("debug=smoke", "seed=2", "name=It is")]


def _task(**settings):
    return SkyPilotFile(bucket="s3://ours", **settings).render("It_is-1a2b", ARGUMENTS, JOBS)


def _job(**settings):
    return KubernetesFile(image="ours:1", claim="runs", **settings).render("It_is-1a2b", ARGUMENTS, JOBS)


def test_a_task_for_several_machines_sends_the_jobs_through_ray():
    task = _task(nodes=3, gpus=8, resources={"use_spot": True}, mounts={"/data": "s3://faces"}, workdir=".")
    assert list(task) == ["name", "num_nodes", "resources", "workdir", "file_mounts", "setup", "run"]
    assert task["name"] == "it-is-1a2b"
    assert task["resources"] == {"accelerators": "H100:8", "use_spot": True}
    assert task["file_mounts"] == {
        "/runs": {"source": "s3://ours", "mode": "MOUNT_CACHED"},
        "/data": "s3://faces",
    }
    command = task["run"].splitlines()[3]
    assert shlex.split(command) == [
        "facedistill", "train", "-m", *ARGUMENTS, "runs_dir=/runs", "launcher=ray", "launcher.address=auto",
        "launcher.storage=copy",
    ]  # fmt: skip
    alone = _task(gpus=0)
    assert "resources" not in alone
    assert alone["run"] == "set -e\nfacedistill train -m debug=smoke seed=1,2 'name=It is' runs_dir=/runs\n"


def test_a_kubernetes_job_has_one_pod_per_run():
    job = _job(gpus=2, memory_gb=32, max_jobs=1)
    assert (job["apiVersion"], job["kind"], job["metadata"]) == ("batch/v1", "Job", {"name": "it-is-1a2b"})
    assert job["spec"]["completions"], job["spec"]["parallelism"] == (2, 1)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"] == {"cpu": 8, "memory": "32G", "nvidia.com/gpu": 2}
    lines = container["command"][2].splitlines()
    words = shlex.split(lines[2])
    assert words == ["1)", "exec", "facedistill", "train", *JOBS[1], "runs_dir=/runs", "logger.wandb.group=It_is-1a2b", ";;"]  # fmt: skip
    composed = compose("train", words[4:-1])
    assert composed.logger.wandb.group == "It_is-1a2b"


def test_what_has_no_default_is_asked_for():
    with pytest.raises(ConfigError, match=r"launcher.bucket=null: name the bucket that keeps the runs"):
        SkyPilotFile()
    with pytest.raises(ConfigError, match=r"launcher.claim=null: name the PersistentVolumeClaim"):
        KubernetesFile(image="ours:1")


def test_the_command_prints_the_file_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    sweep = [
        "train",
        "-m",
        "debug=smoke",
        "seed=1,2",
        "launcher=kubernetes",
        "launcher.image=a",
        "launcher.claim=b",
    ]
    assert main([*sweep, "--dry"]) == 0
    job = yaml.safe_load(capsys.readouterr().out)
    assert job["metadata"]["name"].startswith("smoke-")
    assert job["spec"]["completions"] == 2
    for arguments, sentence in (
        (sweep, "launcher=kubernetes: renders a job file and starts nothing; add --dry"),
        (["train", "-m", "seed=1,2", "--dry"], "--dry: prints the job file of launcher=skypilot or"),
        (["train", "--dry"], "--dry: prints the job file of a sweep"),
        ([*sweep[:3], "seed=1,-2", *sweep[4:], "--dry"], "seed=-2: must be in"),
        ([*sweep, "force=true", "--dry"], "force=true: launcher=kubernetes starts a job again after a preemption"),
    ):  # fmt: skip
        assert main(arguments) == 2
        captured = capsys.readouterr()
        assert sentence in " ".join(captured.err.split())
        assert not captured.out
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, {"nodes": 3, "resources": {"use_spot": True}}, {"gpus": 0}])
def test_the_task_passes_skypilots_own_schema(settings):
    schemas = pytest.importorskip("sky.utils.schemas", reason="needs skypilot")
    import jsonschema

    task = yaml.safe_load(yaml.safe_dump(_task(**settings)))
    jsonschema.validate(task, schemas.get_task_schema())
    jsonschema.validate(task.get("resources", {}), schemas.get_resources_schema())
    schema = schemas.get_storage_schema()
    validator = jsonschema.validators.extend(
        jsonschema.Draft202012Validator, {"case_insensitive_enum": _enum}
    )
    validator(schema).validate(task["file_mounts"]["/runs"])
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**task, "nodes": 3}, schemas.get_task_schema())


def _enum(validator, values, instance, schema):
    import jsonschema

    if instance.upper() not in values:
        yield jsonschema.ValidationError(f"{instance} is not one of {values}")


@pytest.mark.slow
def test_the_job_passes_kubernetes_own_schema():
    validate = pytest.importorskip("kubernetes_validate", reason="needs kubernetes-validate")
    validate.validate(yaml.safe_load(yaml.safe_dump(_job(memory_gb=1.5))), "1.33", strict=True)


def test_reproduce_takes_a_launcher_and_nothing_else(capsys):
    for given, sentence in (
        ("seed=1", "seed=1: rows.yaml says what runs; only launcher=… and its settings can be given"),
        (
            "launcher.bucket=s3://a",
            "launcher=skypilot: renders job files of train -m; use launcher=local, ray or",
        ),
    ):
        assert main(["reproduce", "pocket", "launcher=skypilot", given]) == 2
        assert sentence in " ".join(capsys.readouterr().err.split())
