"""What idle IKE SAs hold of memory, as glibc's malloc counts it. Prints JSON.

Run with PYTHONMALLOC=malloc: what Python, OpenSSL and the library's Rust hold is then all
malloc's, its own overhead included, to the octet and for a single IKE SA too. Resident memory
would tell the same only for thousands, and tracemalloc would leave out what isn't Python's.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import sys

from bench.handshake import KINDS

# So that what an interpreter and a library make once is there before anything is counted.
WARM_UP = 20
# All that a handshake leaves behind for a while is gone then.
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
    """Bring them up, let them be, and count."""
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
