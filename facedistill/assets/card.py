"""An asset card: the source of a weights file, its hash and its licence."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

MEBI = 1024 * 1024
_DEFAULT_SIZE_MB = 2048.0


@dataclass(frozen=True)
class Member:
    """One file inside an archive (or the delivered file itself), and the hash that it must have."""

    path: str
    sha256: str

    @property
    def name(self) -> str:
        """The base file name: the key under which a converter finds it."""
        return PurePosixPath(self.path).name


@dataclass(frozen=True)
class AssetCard:
    """Contents of `conf/asset/<name>.yaml`; `docs/assets.md` describes every key.

    Attributes:
        name: The asset's name, also the stem of its files in the cache.
        source: `package`, `hub`, `url` or `file`; decides which of the address keys are needed.
        members: The files wanted, each with its sha256.
        licence: What a user must agree to, shown at first use and in every report.
        licence_note: One more sentence on the licence chain.
        origin: Who made the weights, from what data.
        size_mb: Size of all members together, MiB; reading stops at twice this size.
        convert: Dotted path of a function `(members: Mapping[str, Path]) -> dict[str, Tensor]` of facedistill, or one
            that the user admits with `trust=`; empty to use the single member unchanged.
        convert_version: Increased when the converter's output changes, so that older cache files are not used.
    """

    name: str
    source: str
    members: tuple[Member, ...]
    licence: str
    licence_note: str = ""
    origin: str = ""
    size_mb: float = _DEFAULT_SIZE_MB
    convert: str = ""
    convert_version: int = 1
    index: str = ""
    package: str = ""
    version: str = ""
    archive_sha256: str = ""
    repo: str = ""
    filename: str = ""
    revision: str = ""
    url: str = ""
    file: str = ""

    @property
    def max_bytes(self) -> int:
        """Maximum size of one member, bytes: a little over twice the stated size."""
        return int(2 * self.size_mb * MEBI) + MEBI

    @property
    def variable(self) -> str:
        """The environment variable that names a local file for this asset."""
        return "FACEDISTILL_ASSET_" + re.sub(r"[^A-Z0-9]", "_", self.name.upper())

    @property
    def fix(self) -> str:
        """What a user without a network can do, as the end of a sentence."""
        example = self.members[0].name if len(self.members) == 1 else "the-archive"
        return (
            f"on a machine with network run `facedistill assets fetch {self.name}`, "
            f"or give the file: {self.variable}=/path/to/{example}"
        )
