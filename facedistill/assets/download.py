"""Downloads one file from an address, with resuming, or from a model hub."""

from __future__ import annotations

import errno
import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from facedistill.assets.card import AssetCard
from facedistill.errors import AssetError
from facedistill.system.files import move_into_place

_CHUNK = 1 << 18
_ATTEMPTS = 3
_TIMEOUT_S = 30.0


def download_url(card: AssetCard, folder: Path, *, quiet: bool) -> Path:
    """Downloads `card.url` into `folder`; an existing `.part` file is resumed.

    Raises:
        AssetError: If the address does not answer, refuses, the connection fails three times, or the file is far too large.
    """
    folder.mkdir(parents=True, exist_ok=True)
    key = hashlib.sha256(
        "\n".join([card.url, card.archive_sha256, *(m.sha256 for m in card.members)]).encode()
    )
    suffix = Path(card.url.split("?")[0].split("#")[0]).suffix
    target = folder / f"{card.name}-{key.hexdigest()[:8]}{suffix}"
    part = target.with_name(target.name + ".part")
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), disable=quiet, transient=True) as progress:
        task = progress.add_task(card.name, total=None)
        problem = "no answer"
        for _ in range(_ATTEMPTS):
            try:
                _stream(card, part, lambda done, total: progress.update(task, completed=done, total=total))
                move_into_place(part, target)
            except urllib.error.HTTPError as error:
                if error.code == 416:  # the part is as long as the server's file, or longer: start again
                    part.unlink(missing_ok=True)
                problem = f"the server answered {error.code}"
                if error.code in (401, 403, 404, 410):
                    break
            except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
                problem = _broken(part) or _no_answer(error)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):  # do not hold on to a full disk
                    part.unlink(missing_ok=True)
                raise
            else:
                return target
    raise AssetError(f"asset {card.name}: cannot download {Path(card.url).name} ({problem}); {card.fix}")


def _stream(card: AssetCard, part: Path, report: Callable[[int, int | None], object]) -> None:
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(
        card.url, headers={"User-Agent": "facedistill", "Accept-Encoding": "identity"}
    )
    if have:
        request.add_header("Range", f"bytes={have}-")
    with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
        resumed = answer.status == 206
        have = have if resumed else 0
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length else None
        with part.open("ab" if resumed else "wb") as out:
            while chunk := answer.read(_CHUNK):
                have += len(chunk)
                if have > 10 * card.max_bytes:
                    raise AssetError(
                        f"asset {card.name}: {Path(card.url).name} is far larger than the card's size_mb "
                        f"({card.size_mb:g}); the address does not hold what the card describes"
                    )
                out.write(chunk)
                report(have, total)
    if total is not None and have < total:
        raise ConnectionError("broken off")


def _broken(part: Path) -> str | None:
    """The message after a partial download, which is resumed next time."""
    if not part.exists() or not (size := part.stat().st_size):
        return None
    return f"the connection broke after {size / 1e6:.1f} MB, which are kept to resume from"


def _no_answer(error: Exception) -> str:
    reason = getattr(error, "reason", error)
    return (
        "the address did not answer in time"
        if isinstance(reason, TimeoutError)
        else "the address did not answer"
    )


def download_hub(card: AssetCard, folder: Path) -> Path:
    """Downloads `filename` of `repo` at `revision` from the model hub into `folder`.

    Raises:
        AssetError: If the hub does not answer, has no such repository, revision or file, or restricts access to it.
    """
    # Slow to import, and needed only for cards with source hub.
    try:
        from huggingface_hub import errors, hf_hub_download
    except ImportError as error:
        raise AssetError(
            f"asset {card.name}: source hub needs the package huggingface_hub; install it, or give the file: "
            f"{card.variable}=/path/to/{card.members[0].name}"
        ) from error
    what = f"{card.repo}/{card.filename}@{card.revision}"
    try:
        return Path(hf_hub_download(card.repo, card.filename, revision=card.revision, local_dir=folder))
    except errors.GatedRepoError:
        why = "its owner asks you to accept terms there and to log in"
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.RemoteEntryNotFoundError):
        why = "the hub has no such repository, revision or file"
    except (errors.HfHubHTTPError, errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled):
        why = "the hub did not answer"
    except ValueError:
        why = "not a valid repository name"
    except OSError:  # of the disk
        raise
    except Exception as error:  # of the client's HTTP library, which changes with its version
        why = f"the download broke off, {type(error).__name__}"
    raise AssetError(f"asset {card.name}: cannot download {what} ({why}); {card.fix}")
