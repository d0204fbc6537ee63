"""Structural changes to DER: an element is left out, doubled, moved, retagged or relengthed."""

from __future__ import annotations

import random as pseudo
from copy import deepcopy
from dataclasses import dataclass, field

CONSTRUCTED = 0x20


@dataclass
class Element:
    """A tag with its content: octets, or elements of its own."""

    tag: int
    content: bytes = b''
    children: list[Element] = field(default_factory=list)
    long_form: int = 0
    """Octets of length that DER wouldn't have written."""

    @classmethod
    def read(cls, octets: bytes) -> list[Element]:
        """All elements in `octets`. Raises ValueError if they aren't that."""
        found = []
        while octets:
            length, start = octets[1], 2
            if length & 0x80:
                start += length & 0x7F
                length = int.from_bytes(octets[2:start], 'big')
            content = octets[start : start + length]
            if len(content) != length:
                raise ValueError('cut off')
            element = cls(octets[0], content)
            if element.tag & CONSTRUCTED:
                element.children = cls.read(content)
            found.append(element)
            octets = octets[start + length :]
        return found

    def encode(self) -> bytes:
        content = b''.join(child.encode() for child in self.children) or self.content
        length = len(content)
        if self.long_form or length > 0x7F:
            size = max((length.bit_length() + 7) // 8, 1) + self.long_form
            return bytes([self.tag, 0x80 | size]) + length.to_bytes(size, 'big') + content
        return bytes([self.tag, length]) + content

    def all(self) -> list[Element]:
        """This element and all below."""
        return [self, *(one for child in self.children for one in child.all())]


def mutated(der: bytes, random: pseudo.Random, changes: int = 1) -> bytes:
    """DER with some elements changed; its lengths fit, so that the change is what is read."""
    (top,) = Element.read(der)
    for _ in range(changes):
        parents = [one for one in top.all() if one.children]
        if not parents:
            break
        parent = random.choice(parents)
        place = random.randrange(len(parent.children))
        child = parent.children[place]
        match random.randrange(8):
            case 0:
                del parent.children[place]
            case 1:
                parent.children.insert(place, deepcopy(child))
            case 2:
                random.shuffle(parent.children)
            case 3:
                child.tag = random.randrange(256) & 0x3F | child.tag & 0xC0
            case 4:
                child.long_form = random.randrange(1, 4)
            case 5:
                parent.children[place] = deepcopy(random.choice(top.all()))
            case 6:
                child.children, child.content = [], random.randbytes(random.randrange(40))
            case _:
                parent.children[place] = Element(0x30, b'', [child])
        if len(top.all()) > 2000:
            break
    return top.encode()
