"""Wrapping ExaBGP's methods, once each, so that the original can be called and is put back.

Only the mechanism; what is wrapped, and that it still looks as we know it, is `plugin.compat`'s
table and the modules named there.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

_undo: list[Callable[[], None]] = []


def wrap(owner: object, name: str, around: Callable[..., Any]) -> None:
    """Replace `owner.name` by a function that calls around(original, *arguments)."""
    original = getattr(owner, name)

    @wraps(original)
    def wrapped(*arguments: Any, **named: Any) -> Any:
        return around(original, *arguments, **named)

    replace(owner, name, wrapped)


def replace(owner: object, name: str, value: object) -> None:
    """Replace `owner.name`, which it must have itself (KeyError otherwise)."""
    original = owner.__dict__[name]
    _undo.append(lambda: setattr(owner, name, original))
    setattr(owner, name, value)


def add(mapping: dict[Any, Any], key: object, value: object) -> None:
    """Add an entry to a table of ExaBGP's that must not have it yet."""
    if key in mapping:
        raise KeyError(f'{key!r} is there already')
    _undo.append(lambda: mapping.pop(key))
    mapping[key] = value


def installed() -> bool:
    """True while anything is patched."""
    return bool(_undo)


def restore() -> None:
    """Put everything back: for tests, which also look at ExaBGP as it is."""
    while _undo:
        _undo.pop()()
