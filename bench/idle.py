"""The memory of idle IKE SAs, counted by glibc's malloc. Prints JSON.

Run with PYTHONMALLOC=malloc: the memory of Python, OpenSSL and the library's Rust is then all
malloc's, its own overhead included. It is exact to the octet, for a single IKE SA too.
Resident memory would be as exact only for thousands, and tracemalloc would leave out all but
Python's.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import sys

from bench.handshake import KINDS

# Objects that an interpreter and a library make once must exist before anything is counted.
WARM_UP = 20
# After this time, all temporary state of a handshake is gone.
A_WHILE = 60.0


class _Mallinfo2(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *('arena', 'ordblks', 'smblks', 'hblks', 'hblkhd'),
            *('usmblks', 'fsmblks', 'uordblks', 'fordblks', 'keepcost'),
        )
    ]


def _held() -> int:
    gc.collect()
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = _Mallinfo2
    info = mallinfo2()
    return int(info.uordblks) + int(info.hblkhd)


def main(kind: str, idle: int) -> None:
    """Make IKE SAs, let them become idle, and count."""
    assert os.environ.get('PYTHONMALLOC') == 'malloc', 'Python would keep arenas of its own'
    population = next(one for one in KINDS if one.name == kind).population()
    for spoke in range(idle, idle + WARM_UP):
        population.add(spoke)
        population.handshake(spoke)
    for spoke in range(idle, idle + WARM_UP):
        population.remove(spoke)
    population.wait(A_WHILE)
    before = _held()
    for spoke in range(idle):
        population.add(spoke)
    configured = _held()
    for spoke in range(idle):
        population.handshake(spoke)
    population.wait(A_WHILE)
    up = _held()
    ends = 2 * idle
    print(json.dumps({'configured': (configured - before) / ends, 'up': (up - before) / ends}))


if __name__ == '__main__':
    main(sys.argv[1], int(sys.argv[2]))
