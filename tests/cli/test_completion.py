import subprocess

from facedistill.cli.main import main


def test_bash_completes_commands_choices_and_keys(capsys, tmp_path):
    assert main(["completion", "bash"]) == 0
    (tmp_path / "completion.sh").write_text(capsys.readouterr().out)

    def complete(*words):
        script = f"source {tmp_path}/completion.sh; COMP_WORDS=(facedistill {' '.join(words)}); "
        script += f'COMP_CWORD={len(words)}; _facedistill; echo "${{COMPREPLY[@]}}"'
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
        return done.stdout.split()

    assert complete("ev") == ["evaluate"]
    assert complete("train", "backbone=tiny") == [
        "backbone=tinyfar_a",
        "backbone=tinyfar_b",
        "backbone=tinyfar_c",
    ]
    assert complete("train", "data.source.rh") == ["data.source.rho="]
    assert complete("teacher", "") == ["add", "convert", "-h", "--help"]
    assert complete("reproduce", "--r") == ["--rows", "--render"]
    assert complete("completion", "z") == ["zsh"]
    assert complete("methods", "backbone=tiny") == []
