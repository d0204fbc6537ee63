"""Tables as text: columns as wide as their widest cell; and the columns of the key table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

KEY_TABLE_FIELDS: Final = (
    'AdminKeyName',
    'LocalKeyName',
    'PeerKeyName',
    'Peers',
    'AlgID',
    'Direction',
    'SendLifetimeStart',
    'SendLifeTimeEnd',
    'AcceptLifeTimeStart',
    'AcceptLifeTimeEnd',
)
"""Fields of RFC 7210 that differ between the rows; the JSON has all. Never the key."""


def text_table(lines: Sequence[Sequence[str]]) -> list[str]:
    """Return one line of text each; the first line has the titles."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return [
        '  '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]


def key_table_cells(row: Mapping[str, object]) -> list[str]:
    """Return the cells of a row of the key table."""
    return [
        ' '.join(map(str, value)) if isinstance(value := row[name], list) else str(value)
        for name in KEY_TABLE_FIELDS
    ]
