"""What an operator types and configures at this router, in the words of its adapter.

Hints are written once for every adapter, with these names in braces.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from gatekeeper.reporting.explanations import Explanation


@dataclass(frozen=True, slots=True)
class AdapterNames:
    """An adapter hands its own in."""

    show: str = 'the status'
    """The command that shows the state of sessions, in `look at {show}`."""
    listen_setting: str = 'a listening socket'
    """What has the daemon listen, in `a neighbor with that address, and {listen_setting} with
    this one`."""
    ike_port_setting: str = 'the setting of the IKE ports'
    """In `{ike_port_setting} chooses other ports`."""

    def fill(self, hint: str) -> str:
        """A hint as this router's operator knows it. Only hints of our own: no peer's words."""
        for each in fields(self):
            hint = hint.replace(f'{{{each.name}}}', getattr(self, each.name))
        return hint

    def explain(self, explanation: Explanation) -> Explanation:
        """An explanation with its hint filled in."""
        return replace(explanation, hint=self.fill(explanation.hint))
