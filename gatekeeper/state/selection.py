"""Which sessions an operator means, by what operators call them."""

from __future__ import annotations

from dataclasses import dataclass

from gatekeeper.policy.sessions import SessionPolicy

REVOKED_BY_OPERATOR = 'revoked by an operator'
"""What is told of a session without keys for this reason."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Every session with negotiated keys that fits all that is said."""

    neighbor: str | None = None
    """As in the configuration."""
    session: str | None = None
    """`ipv4 unicast`"""
    peer_id: str | None = None
    """`fqdn r2.lab`"""

    def matches(self, policy: SessionPolicy) -> bool:
        """Return True if the operator means this session."""
        return (
            policy.pad is not None
            and self.neighbor in (None, policy.neighbor)
            and self.session in (None, policy.session.name)
            and self.peer_id in (None, str(policy.pad.peer_id))
        )
