"""Every method x backbone x data x strategy: what composes and validates, and why the rest is refused.

    python benchmarks/compositions.py

Each choice is composed once. The nodes that it changes are merged, with the same result as composing all four choices;
`tests/contracts/test_compositions.py` compares this with Hydra and the refusals with its rules.
Writes `results/compositions.md`.
"""

from __future__ import annotations

import itertools
import re
import time
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from facedistill.config import compose
from facedistill.config.validate import validate
from facedistill.errors import ConfigError
from facedistill.system.paths import config_dir

RESULTS = Path(__file__).parent / "results"
AXES = ("method", "backbone", "data", "strategy")
# What a choice leaves to the user.
GIVEN = {
    "backbone=timm": ["backbone.name=test_efficientnet"],
    **{f"data={name}": ["data.path=/faces"] for name in ("faces", "folder", "lmdb", "mixed", "parquet", "recordio", "webdataset")},
}  # fmt: skip
# The allowed reasons for a refusal, each with the pattern of its message.
REASONS = {
    "labels needed": r"^data: \w+ needs labels, and \w+ offers none; use data=",
    "finite set needed": r"^data: \w+ needs indices, and \w+ offers none; use data=",
    "teacher centers needed": r"^data: \w+ needs class_centers, and \w+ offers none; use data=",
    "dynamic resampling without agreement": r"^data\.source\.resampling=dynamic: \w+ reports no agreement",
}
Combination = tuple[str, str, str, str]


@lru_cache
def choices(axis: str) -> list[str]:
    """Names of `conf/<axis>`, in alphabetical order."""
    return sorted(path.stem for path in (config_dir() / axis).glob("*.yaml"))


def combinations() -> list[Combination]:
    """All of them, in order."""
    return list(itertools.product(*(choices(axis) for axis in AXES)))


def overrides(combination: Combination) -> list[str]:
    """What a user types for one of them."""
    chosen = [f"{axis}={name}" for axis, name in zip(AXES, combination, strict=True)]
    return [*chosen, *(text for choice in chosen for text in GIVEN.get(choice, []))]


class Product:
    """The configurations of all combinations, from each choice composed once."""

    def __init__(self) -> None:
        self.base = _plain(compose("train", []))
        self.nodes = {
            (axis, name): self._changed(f"{axis}={name}") for axis in AXES for name in choices(axis)
        }

    def _changed(self, choice: str) -> dict[str, Any]:
        """The nodes that this choice changes."""
        plain = _plain(compose("train", [choice, *GIVEN.get(choice, [])]))
        assert plain.keys() == self.base.keys()
        return {key: node for key, node in plain.items() if node != self.base[key]}

    def plain(self, combination: Combination) -> dict[str, Any]:
        """One configuration, unresolved."""
        merged = dict(self.base)
        for choice in zip(AXES, combination, strict=True):
            merged |= self.nodes[choice]
        return merged

    def reasons(self) -> Iterator[tuple[Combination, frozenset[str]]]:
        """Every combination with the reasons why it is refused."""
        for method, data in itertools.product(choices("method"), choices("data")):
            config, before = None, None
            for backbone, strategy in itertools.product(choices("backbone"), choices("strategy")):
                combination = (method, backbone, data, strategy)
                plain = self.plain(combination)
                if config is None or before is None:
                    config = OmegaConf.create(plain)
                else:  # only what differs from the last one: creating all of it takes three times as long
                    for key in (key for key in plain if plain[key] is not before[key]):
                        config[key] = plain[key]
                before = plain
                yield combination, refusals(config)


def refusals(config: DictConfig) -> frozenset[str]:
    """The reasons why a configuration is refused; none if it is valid.

    Raises:
        ConfigError: If it is refused for a reason that is not in `REASONS`.
    """
    try:
        validate(config)
    except ConfigError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:]]
        found = [
            next((r for r, sentence in REASONS.items() if re.search(sentence, line)), None) for line in lines
        ]
        if None in found:
            raise
        return frozenset(reason for reason in found if reason)
    return frozenset()


def _plain(config: DictConfig) -> dict[str, Any]:
    plain = OmegaConf.to_container(config, resolve=False)
    assert isinstance(plain, dict)
    return {str(key): node for key, node in plain.items()}


def main() -> None:
    """Validates all of them and writes the table."""
    begin = time.process_time()
    counts = Counter(", ".join(sorted(reasons)) for _, reasons in Product().reasons())
    seconds = time.process_time() - begin
    total = sum(counts.values())
    sizes = " x ".join(f"{len(choices(axis))} {axis}" for axis in AXES)
    rows = [f"| {reason or 'valid'} | {count} |" for reason, count in counts.most_common()]
    text = "\n".join(
        [
            "# Every combination of four choices", "",
            f"`python benchmarks/compositions.py`; {sizes} = {total} combinations in {seconds:.0f} s of processor time, "
            f"{1000 * seconds / total:.1f} ms each. Every refusal is one of the four reasons below; any other would stop "
            "the script.", "", "| refused for | combinations |", "|---|--:|", *rows, "",
        ]
    )  # fmt: skip
    (RESULTS / "compositions.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
