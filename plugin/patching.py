"""The wrapping of ExaBGP's methods, once each, so that the original can be called and restored.

Only the mechanism; `plugin.compat`'s table, and the modules named there, know what is wrapped and
check its signature.
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
    """Add an entry to a table of ExaBGP's. Raises KeyError if it is there already."""
    if key in mapping:
        raise KeyError(f'{key!r} is there already')
    _undo.append(lambda: mapping.pop(key))
    mapping[key] = value


def installed() -> bool:
    """Return True while anything is patched."""
    return bool(_undo)


def restore() -> None:
    """Undo all patches: for tests, which also examine the unpatched ExaBGP."""
    while _undo:
        _undo.pop()()
