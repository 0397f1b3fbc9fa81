"""Pickles of others: what they hold comes back, what they would run does not run."""

from __future__ import annotations

import collections
import io
import os
import pickle
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from facedistill.assets.pickle.reader import Inert, Named, module_tensors, read_inert
from facedistill.errors import AssetError
from tests.helpers.pickles import Hostile

Save = Callable[[Any, Path], object]


def plain(protocol: int) -> Save:
    return lambda value, path: path.write_bytes(pickle.dumps(value, protocol))


SAVERS: dict[str, Save] = {
    "torch zip": torch.save,
    "torch older": lambda value, path: torch.save(value, path, _use_new_zipfile_serialization=False),
    **{f"pickle {protocol}": plain(protocol) for protocol in range(6)},
}
every_format = pytest.mark.parametrize("save", SAVERS.values(), ids=SAVERS)


def contents() -> dict[str, Any]:
    base = torch.arange(24.0).reshape(4, 6)
    return {
        "tensors": [base, base.T, base[1:, ::2], torch.zeros(0, 3), torch.tensor(2.5)],
        "types": [
            torch.tensor([1.5, -2]).to(kind)
            for kind in (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool)
        ],
        "parameter": nn.Parameter(torch.ones(2)),
        "arrays": [
            np.arange(6, dtype=kind).reshape(order) for kind, order in (("<f4", (2, 3)), (">i2", (3, 2)))
        ],
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "scalar": np.float32(0.1),
        "plain": (1, -(2**70), 0.5, "ä", b"\xff", None, True, {1, 2}, frozenset({3}), bytearray(b"x"), 1j),
        "ordered": collections.OrderedDict(a=1, b=[()]),
        "size": torch.Size([2, 3]),
    }


def assert_same(found: Any, wanted: Any) -> None:
    if isinstance(wanted, torch.Tensor):
        assert found.dtype == wanted.dtype
        assert torch.equal(found, wanted.detach())
    elif isinstance(wanted, np.ndarray | np.generic):
        assert np.array_equal(found, wanted)
        assert found.dtype.newbyteorder("<") == wanted.dtype.newbyteorder("<")  # some readers swap
    elif isinstance(wanted, dict):
        assert list(found) == list(wanted)
        for name in wanted:
            assert_same(found[name], wanted[name])
    elif isinstance(wanted, list):
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            assert_same(one, other)
    else:
        assert found == wanted


@every_format
def test_data_come_back_as_they_were(save: Save, tmp_path: Path) -> None:
    path = tmp_path / "file.pt"
    save(contents(), path)
    assert_same(read_inert(path), contents())


@every_format
def test_a_module_comes_back_as_its_state(save: Save, tmp_path: Path) -> None:
    path = tmp_path / "network.pt"
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Sequential(nn.Linear(4, 2, bias=False)))
    save({"epoch": 3, "model": network}, path)
    found = read_inert(path)["model"]
    assert isinstance(found, Inert)
    assert found.what == Named("torch.nn.modules.container", "Sequential")
    assert_same(
        dict(sorted(module_tensors(found).items())),
        dict(sorted(dict(network.state_dict()).items())),
    )


def test_shared_storage_stays_shared(tmp_path: Path) -> None:
    base = torch.arange(6.0)
    for save in (SAVERS["torch zip"], SAVERS["torch older"]):
        save([base, base[2:4]], tmp_path / "file.pt")
        whole, part = read_inert(tmp_path / "file.pt")
        whole[2] = 9
        assert part.tolist() == [9, 3]


@every_format
def test_nothing_is_run_and_nothing_imported(
    save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = tmp_path / "marker"
    module = tmp_path / "modules" / "booby_trapped.py"
    module.parent.mkdir()
    module.write_text(
        f"open({str(marker)!r}, 'w').close()\nclass Trap: pass\ndef trap(*_): open({str(marker)!r}, 'w').close()\n"
    )
    monkeypatch.syspath_prepend(str(module.parent))
    monkeypatch.delitem(sys.modules, "booby_trapped", raising=False)
    import booby_trapped  # type: ignore[import-not-found]

    path = tmp_path / "file.pt"
    code = f"open({str(marker)!r}, 'w').close()"

    class Evaluated:
        def __reduce__(self) -> Any:
            return eval, (code,)

    class Imported:
        def __reduce__(self) -> Any:
            return __import__, ("booby_trapped",)

    class Trapped:
        def __reduce__(self) -> Any:
            return booby_trapped.trap, ("x",)

    save([Hostile(marker), Evaluated(), Imported(), booby_trapped.Trap(), Trapped()], path)
    del sys.modules["booby_trapped"]
    marker.unlink()
    found = read_inert(path)
    assert not marker.exists()
    assert "booby_trapped" not in sys.modules
    assert {"posix.system", "nt.system"} & {str(found[0].what)}
    assert found[0].args == (f"touch {marker}",)
    assert str(found[4].what) == "booby_trapped.trap"
    assert found[4].args == ("x",)
    if save is SAVERS["pickle 0"]:  # the same bytes do run where a pickle is loaded
        pickle.loads(path.read_bytes())
        assert marker.exists()


def test_names_of_ours_do_not_open_a_way(tmp_path: Path) -> None:
    """The rebuilders are given hostile arguments: a name, a stand-in, text."""
    marker = tmp_path / "marker"

    class Through:
        def __init__(self, what: Any, *args: Any) -> None:
            self.call = what, args

        def __reduce__(self) -> Any:
            return self.call

    rebuild = torch._tensor._rebuild_from_type_v2
    for value in (
        Through(rebuild, os.system, torch.Tensor, (f"touch {marker}",), {}),
        Through(collections.OrderedDict, [(1, Hostile(marker))]),
        Through(getattr, os, "system"),
        Through(torch.storage._load_from_bytes, pickle.dumps(Hostile(marker))),
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pickle, "whichmodule", lambda thing, name: getattr(thing, "__module__", "os"))
            try:
                content = pickle.dumps(value)
            except (TypeError, pickle.PicklingError):  # a module cannot be pickled by reference
                continue
        (tmp_path / "file.pkl").write_bytes(content)
        read_inert(tmp_path / "file.pkl")
        assert not marker.exists()


def opcodes(*parts: bytes) -> bytes:
    return b"\x80\x04" + b"".join(parts)


MALFORMED = {
    "nothing": (b"", "is truncated or no pickle (ValueError: pickle exhausted before seeing STOP)"),
    "text": (b"?", "is truncated or no pickle (ValueError: at position"),
    "web page": (b"\n<!DOCTYPE html>quota", "is a web page and no pickle; download the file itself"),
    "pointer": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0",
        "is a Git LFS pointer and no pickle; run `git lfs pull` where it lies",
    ),
    "no end": (
        opcodes(b"]"),
        "is truncated or no pickle (ValueError: pickle exhausted before seeing STOP)",
    ),
    "extension": (opcodes(b"\x82\x01."), "cannot be read as data: it has the opcode EXT1"),
    "buffer": (opcodes(b"\x97."), "cannot be read as data: it has the opcode NEXT_BUFFER"),
    "list as key": (opcodes(b"}]Ns."), "cannot be read as data: it has a list as a key"),
    "deep key": (
        opcodes(b"})" + b"\x85" * 500_000 + b"Ns."),
        "cannot be read as data: it has a tuple as a key",
    ),
    "items": (opcodes(b"NNNs."), "cannot be read as data: it has items for a NoneType"),
    "empty stack": (opcodes(b"."), "is truncated or no pickle (IndexError"),
    "unknown memo": (opcodes(b"h\x07."), "is truncated or no pickle (KeyError: 7)"),
    "no arguments": (opcodes(b"cos\nsystem\nNR."), "cannot be read as data: it has a call without arguments"),
    "persistent": (opcodes(b"NQ."), "cannot be read as data: it has a persistent id outside a torch file"),
    "tensor of a list": (
        opcodes(b"ctorch._utils\n_rebuild_tensor_v2\n(]K\x00)))tR."),
        "cannot be read as data: it has a tensor without a storage",
    ),
}


@pytest.mark.parametrize(("content", "message"), MALFORMED.values(), ids=MALFORMED)
def test_damage_is_one_sentence(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "file.pkl"
    path.write_bytes(content)
    with pytest.raises(AssetError) as caught:
        read_inert(path)
    assert str(caught.value).startswith(f"file.pkl {message}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("save", [SAVERS["torch zip"], SAVERS["torch older"], SAVERS["pickle 4"]])
def test_every_truncation_is_one_sentence(save: Save, tmp_path: Path) -> None:
    path = tmp_path / "file.pt"
    save({"a": torch.arange(5.0), "b": np.arange(3)}, path)
    whole = path.read_bytes()
    for length in range(0, len(whole) - 1, 7):
        path.write_bytes(whole[:length])
        with pytest.raises(AssetError, match=r"^file\.pt "):
            read_inert(path)


def test_sizes_that_the_file_cannot_hold_are_refused(tmp_path: Path) -> None:
    path, content = tmp_path / "file.pt", io.BytesIO()
    torch.save(torch.arange(4.0), path)
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(content, "w") as new:
        for name in old.namelist():
            member = old.read(name)
            if name.endswith("data.pkl"):  # 4 elements become 2**31 - 1
                assert member.count(b"K\x04") == 2
                member = member.replace(b"K\x04", b"J\xff\xff\xff\x7f", 1)
            new.writestr(name, member)
    path.write_bytes(content.getvalue())
    with pytest.raises(AssetError, match="it has a storage of 8589934588 bytes, more than the file has"):
        read_inert(path)
    path.write_bytes(pickle.dumps(torch.zeros(1).expand(2**20, 2**20)))
    with pytest.raises(AssetError, match=f"it has a tensor of {2**40} elements on 1"):
        read_inert(path)


@pytest.mark.parametrize("name", [b"_codecs\nencode", b"__builtin__\nbytearray"])
def test_a_call_repeated_on_one_value_is_bounded(name: bytes, tmp_path: Path) -> None:
    text = b"X" + (1 << 20).to_bytes(4, "little") + b"a" * (1 << 20) + b"q\x000"  # in the memo at 0
    call = b"c" + name + b"\nh\x00\x85Ra"
    (tmp_path / "bomb.pkl").write_bytes(b"\x80\x02" + text + b"]" + 14_000 * call + b".")
    tracemalloc.start()
    try:
        with pytest.raises(
            AssetError, match=r"it has values of more than \d+ MiB in a file of a fraction of that"
        ):
            read_inert(tmp_path / "bomb.pkl")
        assert tracemalloc.get_traced_memory()[1] < 200 << 20
    finally:
        tracemalloc.stop()


def test_modules_that_contain_themselves(tmp_path: Path) -> None:
    outer = nn.Sequential(nn.Identity())
    outer._modules["0"] = outer
    path = tmp_path / "file.pkl"
    path.write_bytes(pickle.dumps(outer))
    with pytest.raises(AssetError, match="is no module"):
        module_tensors(read_inert(path))
    with pytest.raises(AssetError, match=r"^\[1\] at 'the top' is no module; give the network's own file$"):
        module_tensors([1])


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match=r"none\.pkl cannot be read \(No such file or directory\)"):
        read_inert(tmp_path / "none.pkl")
