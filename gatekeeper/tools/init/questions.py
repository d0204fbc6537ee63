"""The questions about two routers, and the checks of their answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Final

from gatekeeper.adapter.first_configuration import Router
from gatekeeper.tools.errors import ToolError

PSK: Final = 'psk'
RAW_KEY: Final = 'raw-key'
CREDENTIALS: Final = (PSK, RAW_KEY)
LARGEST_AS: Final = 2**32 - 2
"""RFC 7300: 4294967295 is reserved."""
_NAME: Final = re.compile(r'[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?')


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError(f'{text!r} is no name of a router: letters, digits, dots and hyphens')
    return text


def _address(text: str) -> IPv4Address | IPv6Address:
    address = ip_address(text)
    if address.is_unspecified or address.is_multicast:
        raise ValueError(f'{text} is not an address of a router')
    return address


def _number(text: str) -> int:
    number = int(text) if text.isascii() and text.isdecimal() else 0
    if not 1 <= number <= LARGEST_AS:
        raise ValueError(f'{text!r} is no AS number: 1 to {LARGEST_AS}')
    return number


def _credential(text: str) -> str:
    if text not in CREDENTIALS:
        raise ValueError(f'{text!r} is none of {", ".join(CREDENTIALS)}')
    return text


@dataclass(frozen=True, slots=True)
class Question:
    """One value: its option, the text at the prompt, its parser and its default."""

    option: str
    text: str
    parse: Callable[[str], Any]
    default: str = ''


QUESTIONS: Final = (
    Question('local-name', 'name of this router', _name, 'r1.lab'),
    Question('peer-name', 'name of the other router', _name, 'r2.lab'),
    Question('local-address', 'address of this router', _address),
    Question('peer-address', 'address of the other router', _address),
    Question('local-as', 'AS number of this router', _number),
    Question('peer-as', 'AS number of the other router', _number),
    Question('credential', f'credential ({" or ".join(CREDENTIALS)})', _credential, PSK),
)


@dataclass(frozen=True, slots=True)
class Answers:
    """All answers."""

    local: Router
    """The router that connects."""
    peer: Router
    """The router that listens."""
    families: Sequence[str]
    credential: str


def answers_of(
    given: Mapping[str, str | None],
    families: Sequence[str],
    ask: Callable[[Question, str], str] | None,
) -> Answers:
    """Return the answers: values of options, else the result of `ask` for a question.

    `ask` gets the fault of the previous answer, and is called until there is none. Raises ToolError
    if an option's value is invalid, or is missing without a terminal to ask at.
    """
    missing = [f'--{q.option}' for q in QUESTIONS if given.get(q.option) is None]
    if ask is None and missing:
        raise ToolError(f'missing, and no terminal to ask at: {" ".join(missing)}')
    values: dict[str, Any] = {}
    for question in QUESTIONS:
        text = given.get(question.option)
        if text is None:
            assert ask is not None
            values[question.option] = _asked(question, ask)
            continue
        try:
            values[question.option] = question.parse(text)
        except ValueError as error:
            raise ToolError(f'--{question.option}: {error}') from None
    return _checked(values, families)


def _asked(question: Question, ask: Callable[[Question, str], str]) -> Any:
    fault = ''
    while True:
        try:
            return question.parse(ask(question, fault) or question.default)
        except ValueError as error:
            fault = str(error)


def _checked(values: Mapping[str, Any], families: Sequence[str]) -> Answers:
    local, peer = values['local-address'], values['peer-address']
    if local == peer or values['local-name'] == values['peer-name']:
        raise ToolError('the two routers have the same address, or the same name')
    if local.version != peer.version:
        raise ToolError(f'{local} and {peer} are of different address families')
    return Answers(
        local=_router(values, 'local', 1),
        peer=_router(values, 'peer', 2),
        families=families,
        credential=values['credential'],
    )


def _router(values: Mapping[str, Any], side: str, last: int) -> Router:
    address = values[f'{side}-address']
    return Router(values[f'{side}-name'], address, values[f'{side}-as'], _router_id(address, last))


def _router_id(address: IPv4Address | IPv6Address, last: int) -> IPv4Address:
    """Return the address itself, or for IPv6 one of RFC 5737, different for both routers."""
    return address if isinstance(address, IPv4Address) else IPv4Address(f'192.0.2.{last}')
