"""`python -m lab.flood INTERFACE SOURCE DESTINATION KIND RATE SECONDS [SEED]`, as root.

Wait for a segment with TCP-AO from one IPv4 address to the other on the link. Then send forged ones
from the same address, RATE a second for SECONDS; print their number, and the seconds that it took,
as JSON. The frames go onto the link as they are: no rule of this host sees them.
"""

from __future__ import annotations

import ctypes
import json
import socket
import sys
import time
from ipaddress import ip_address
from random import Random
from typing import Final

from lab.flood.frames import Kind, forge

_ETH_P_IP: Final = 0x0800
_ETH_P_ALL: Final = 3
_FRAMES: Final = 4096
"""Different ones; they are sent again and again."""
_AT_ONCE: Final = 64
"""Frames for one system call."""


class _Vector(ctypes.Structure):
    """struct iovec."""

    _fields_ = (('base', ctypes.c_char_p), ('length', ctypes.c_size_t))


class _Message(ctypes.Structure):
    """struct msghdr."""

    _fields_ = (
        ('name', ctypes.c_void_p),
        ('name_length', ctypes.c_uint32),
        ('vectors', ctypes.POINTER(_Vector)),
        ('count', ctypes.c_size_t),
        ('control', ctypes.c_void_p),
        ('control_length', ctypes.c_size_t),
        ('flags', ctypes.c_int),
    )


class _Header(ctypes.Structure):
    """struct mmsghdr."""

    _fields_ = (('message', _Message), ('sent', ctypes.c_uint))


def learn(interface: str, source: str, destination: str) -> bytes:
    """Return a frame between the two with TCP-AO, whenever there is one."""
    wanted = ip_address(source).packed + ip_address(destination).packed
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL)) as tap:
        tap.bind((interface, _ETH_P_ALL))
        while True:
            frame = tap.recv(65535)
            if int.from_bytes(frame[12:14], 'big') != _ETH_P_IP or frame[26:34] != wanted:
                continue
            try:
                forge(frame, Kind.SIGNED, 1, Random(0))
            except ValueError:
                continue
            return frame


def send(interface: str, frames: list[bytes], rate: float, seconds: float) -> tuple[int, float]:
    """Send so many a second, in small lots; return how many, and in how many seconds. Raises
    OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    vectors = [_Vector(frame, len(frame)) for frame in frames]
    headers = (_Header * len(frames))()
    for header, vector in zip(headers, vectors, strict=True):
        header.message.vectors, header.message.count = ctypes.pointer(vector), 1
    size = ctypes.sizeof(_Header)
    sent, at = 0, 0
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as wire:
        wire.bind((interface, _ETH_P_IP))
        begun = time.monotonic()
        while (passed := time.monotonic() - begun) < seconds:
            due = int(passed * rate) - sent
            if due <= 0:
                time.sleep(_AT_ONCE / rate)
                continue
            lot = min(due, _AT_ONCE, len(frames) - at)
            taken = libc.sendmmsg(wire.fileno(), ctypes.byref(headers, at * size), lot, 0)
            if taken <= 0:
                raise OSError(ctypes.get_errno(), f'no frame goes onto {interface}')
            sent += taken
            at = (at + taken) % len(frames)
        return sent, time.monotonic() - begun


def main(arguments: list[str]) -> int:
    """Return the exit status."""
    interface, source, destination, kind, rate, seconds = arguments[:6]
    random = Random(int(arguments[6]) if len(arguments) > 6 else 0)
    seen = learn(interface, source, destination)
    frames = forge(seen, Kind(kind), _FRAMES, random)
    sent, passed = send(interface, frames, float(rate), float(seconds))
    print(json.dumps({'sent': sent, 'seconds': passed}))
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
