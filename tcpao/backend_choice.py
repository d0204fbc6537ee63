"""Which backend protects connections here: the kernel's own TCP-AO, or packets in user space.

The kernel is asked. The choice can be overridden; one that can't be had is an error, never a
silent fallback to the other.
"""

from __future__ import annotations

from tcpao.backend import Backend, Preference
from tcpao.kernel.backend import KernelBackend, why_no_kernel


def choose(preference: Preference = Preference.AUTO) -> Backend:
    """The backend to use here, not started."""
    # The packet path is only imported where it is used.
    from tcpao.userspace.client.backend import UserspaceBackend

    match preference:
        case Preference.KERNEL:
            return KernelBackend()
        case Preference.USERSPACE:
            return UserspaceBackend(why='it was asked for')
        case Preference.AUTO:
            reason = why_no_kernel()
            if reason is None:
                return KernelBackend('this kernel has TCP-AO')
            return UserspaceBackend(why=reason)
