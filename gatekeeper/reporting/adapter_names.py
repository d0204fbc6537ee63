"""Names of an operator's commands and settings, in the words of the adapter.

Hints are written once for every adapter, with these names in braces.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from gatekeeper.reporting.explanations import Explanation


@dataclass(frozen=True, slots=True)
class AdapterNames:
    """The names of one adapter."""

    show: str = 'the status'
    """The command that shows the state of sessions, in `look at {show}`."""
    listen_setting: str = 'a listening socket'
    """The setting that makes the daemon listen, in `a neighbor with that address, and
    {listen_setting} with this one`."""
    ike_port_setting: str = 'the setting of the IKE ports'
    """In `{ike_port_setting} chooses other ports`."""

    def fill(self, hint: str) -> str:
        """Return a hint with the names of this router's adapter.

        Only for hints of our own: never for a peer's text.
        """
        for each in fields(self):
            hint = hint.replace(f'{{{each.name}}}', getattr(self, each.name))
        return hint

    def explain(self, explanation: Explanation) -> Explanation:
        """Return an explanation with the names filled into its hint."""
        return replace(explanation, hint=self.fill(explanation.hint))
