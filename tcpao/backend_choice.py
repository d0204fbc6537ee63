"""The choice of a backend for connections here: the kernel's own TCP-AO, or packets in user space.

The kernel is asked. An operator may override the choice; an unavailable choice is an error, never a
silent fallback to the other.
"""

from __future__ import annotations

from tcpao.backend import Backend, Preference
from tcpao.kernel.backend import KernelBackend, why_no_kernel


def choose(preference: Preference = Preference.AUTO) -> Backend:
    """Return the backend to use here, not started.

    Raises BackendError if the choice is unavailable.
    """
    # The packet path is imported only where it is used.
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
