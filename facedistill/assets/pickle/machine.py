"""A pickle interpreter that cannot import or call anything.

Pickle is a stack language. `pickletools` (standard library) splits a file into opcodes without running them. This module
runs them, but a name of a class or function stays a name, and a call becomes a record of the call.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Any

_SCALARS = (str, int, float, complex, bool, bytes, type(None))
_LITERALS = frozenset((
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
    "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES",
    "BINBYTES8", "BYTEARRAY8",
))  # fmt: skip
_FRESH: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
    "EMPTY_SET": set,
}


class MalformedError(ValueError):
    """The opcodes do not fit together, or are not used by data files; the message continues "it has …"."""


@dataclass(frozen=True)
class Named:
    """The name of a class or function in a pickle."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False)
class Inert:
    """Represents an object whose class a pickle names: the callable, its arguments and its state.

    Attributes:
        what: The class or function, a `Named`, or another `Inert` if the pickle calls the result of a call.
        args: Positional arguments of the call.
        kwargs: Keyword arguments of the call.
        state: The argument of `__setstate__`, or None.
        entries: Items of a subclass of dict.
        elements: Elements of a subclass of list or set.
    """

    what: Any
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    state: Any = None
    entries: dict[Any, Any] = field(default_factory=dict)
    elements: list[Any] = field(default_factory=list)

    @property
    def attributes(self) -> dict[str, Any]:
        """The object's attributes if its state is one dictionary or a pair of `__dict__` and slots."""
        parts = self.state if isinstance(self.state, tuple) else (self.state,)
        return {key: value for part in parts if isinstance(part, dict) for key, value in part.items()}

    def __repr__(self) -> str:
        return f"Inert({self.what})"


Call = Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]


def run(
    stream: IO[bytes], call: Call, build: Callable[[Any, Any], None], persistent: Callable[[Any], Any]
) -> Any:
    """Runs one pickle; the stream is at its end afterwards.

    Args:
        stream: At the first byte of the pickle.
        call: Receives the callable, positional and keyword arguments; returns a representation of the result.
        build: Receives an object and its state.
        persistent: Returns a representation of a persistent id.

    Raises:
        ValueError, IndexError, KeyError, TypeError: If the pickle is damaged or contains something that is not data.
    """
    machine = _Machine(call, build, persistent)
    for opcode, argument, _ in pickletools.genops(stream):
        if opcode.name == "STOP":
            return machine.stack.pop()
        machine.step(opcode.name, argument)
    raise MalformedError("no end")


def key(value: Any) -> Any:
    """`value` as a key: a scalar, an `Inert` or a tuple of scalars (hashing deep tuples overflows the C stack)."""
    flat = value if isinstance(value, tuple) else (value,)
    if all(isinstance(part, (*_SCALARS, Named, Inert)) for part in flat):
        return value
    raise MalformedError(f"a {type(value).__name__} as a key")


class _Machine:
    def __init__(
        self, call: Call, build: Callable[[Any, Any], None], persistent: Callable[[Any], Any]
    ) -> None:
        self.call, self.build, self.persistent = call, build, persistent
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        """Runs one opcode."""
        if name in _LITERALS:
            self.stack.append(bytearray(argument) if name == "BYTEARRAY8" else argument)
        elif name in _FRESH:
            self.stack.append(_FRESH[name]())
        elif name in ("PROTO", "FRAME"):
            return
        else:
            method = getattr(self, f"_{name.lower()}", None)
            if method is None:
                raise MalformedError(f"the opcode {name}")
            method() if argument is None else method(argument)

    def _since_mark(self) -> list[Any]:
        start = self.marks.pop()
        taken = self.stack[start:]
        del self.stack[start:]
        return taken

    def _mark(self) -> None:
        self.marks.append(len(self.stack))

    def _pop(self) -> None:
        if self.marks and self.marks[-1] == len(self.stack):
            self.marks.pop()
        else:
            self.stack.pop()

    def _pop_mark(self) -> None:
        self._since_mark()

    def _dup(self) -> None:
        self.stack.append(self.stack[-1])

    def _memoize(self) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def _put(self, number: int) -> None:
        self.memo[number] = self.stack[-1]

    def _get(self, number: int) -> None:
        self.stack.append(self.memo[number])

    _binput = _long_binput = _put
    _binget = _long_binget = _get

    def _tuple(self) -> None:
        self.stack.append(tuple(self._since_mark()))

    def _last(self, count: int) -> None:
        if len(self.stack) < count:
            raise MalformedError("an empty stack")
        self.stack[-count:] = [tuple(self.stack[-count:])]

    def _tuple1(self) -> None:
        self._last(1)

    def _tuple2(self) -> None:
        self._last(2)

    def _tuple3(self) -> None:
        self._last(3)

    def _list(self) -> None:
        self.stack.append(self._since_mark())

    def _dict(self) -> None:
        items = self._since_mark()
        self.stack.append({})
        self._fill(items)

    def _frozenset(self) -> None:
        self.stack.append(frozenset(map(key, self._since_mark())))

    def _append(self) -> None:
        self._extend([self.stack.pop()])

    def _appends(self) -> None:
        self._extend(self._since_mark())

    _additems = _appends

    def _extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, set):
            target.update(map(key, items))
        elif isinstance(target, list | Inert):
            (target.elements if isinstance(target, Inert) else target).extend(items)
        else:
            raise MalformedError(f"elements for a {type(target).__name__}")

    def _setitem(self) -> None:
        value, name = self.stack.pop(), self.stack.pop()
        self._fill([name, value])

    def _setitems(self) -> None:
        self._fill(self._since_mark())

    def _fill(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict | Inert) or len(items) % 2:
            raise MalformedError(f"items for a {type(target).__name__}")
        entries = target.entries if isinstance(target, Inert) else target
        entries.update(zip(map(key, items[::2]), items[1::2], strict=True))

    def _global(self, names: str) -> None:
        module, _, name = names.partition(" ")
        self.stack.append(Named(module, name))

    def _stack_global(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise MalformedError("a name that is no text")
        self.stack.append(Named(module, name))

    def _reduce(self) -> None:
        args, what = self.stack.pop(), self.stack.pop()
        self._call(what, args)

    _newobj = _reduce

    def _newobj_ex(self) -> None:
        kwargs, args, what = self.stack.pop(), self.stack.pop(), self.stack.pop()
        self._call(what, args, kwargs)

    def _inst(self, names: str) -> None:
        args = tuple(self._since_mark())
        self._global(names)
        self._call(self.stack.pop(), args)

    def _obj(self) -> None:
        what, *args = self._since_mark()
        self._call(what, tuple(args))

    def _call(self, what: Any, args: Any, kwargs: Any = None) -> None:
        if not isinstance(args, tuple) or not isinstance(kwargs, dict | None):
            raise MalformedError("a call without arguments")
        self.stack.append(self.call(what, args, kwargs or {}))

    def _build(self) -> None:
        state = self.stack.pop()
        self.build(self.stack[-1], state)

    def _persid(self, name: str) -> None:
        self.stack.append(self.persistent(name))

    def _binpersid(self) -> None:
        self.stack.append(self.persistent(self.stack.pop()))
