"""The states of an IKE SA as data: every transition is in this file.

An IKE SA exists from the moment that it has keys: as AUTH_SENT if we began (ike_init.py keeps the
state before), as HALF_OPEN if the peer did, as ESTABLISHED if a rekey made it. Two rules:

1. Every event that moves an IKE SA from one state to another is a `Happening` and is listed in
   `TRANSITIONS`. An event that is not listed cannot happen, and asking for it is our mistake.
2. The requests that a peer may make in a state are listed in `SERVED`. Other requests never reach
   the code that serves exchanges: RFC 7296, 2.25 wants TEMPORARY_FAILURE for a CREATE_CHILD_SA
   request (`DEFERRED`), and all others are dropped.

An initiator that refuses the responder's AUTH says so under keys that it shares with an unknown
party: REFUSING sends that one request and serves nothing.

A rekeyed IKE SA serves until its peer, or we, delete it: the last request over it is that Delete
(RFC 7296, 2.8). CLOSED is final: keys are wiped, and only the last answer can be repeated.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from ikev2.constants import KNOWN_ERRORS, ExchangeType, NotifyType


class State(StrEnum):
    """State of an IKE SA."""

    AUTH_SENT = 'IKE_AUTH sent'
    HALF_OPEN = 'half open'
    REFUSING = 'refusing'
    ESTABLISHED = 'established'
    REKEYING = 'rekeying'
    REKEYED = 'rekeyed'
    DELETING = 'deleting'
    CLOSED = 'closed'


class Happening(StrEnum):
    """Event that changes the state of an IKE SA."""

    AUTHENTICATED = 'IKE_AUTH succeeded'
    REKEY_SENT = 'we asked to rekey the IKE SA'
    REKEY_FAILED = 'the peer refused to rekey it'
    REPLACED = 'a rekey made its successor'
    REFUSAL_SENT = 'we told the peer that we refuse its proof'
    DELETE_SENT = 'we sent a Delete for it'
    ENDED = 'deleted, refused, given up or dropped'


_S = State
_H = Happening

TRANSITIONS = MappingProxyType(
    {
        (_S.AUTH_SENT, _H.AUTHENTICATED): _S.ESTABLISHED,
        (_S.HALF_OPEN, _H.AUTHENTICATED): _S.ESTABLISHED,
        # An initiator that refuses the responder's AUTH says so (RFC 7296, 2.21.2).
        (_S.AUTH_SENT, _H.REFUSAL_SENT): _S.REFUSING,
        (_S.ESTABLISHED, _H.REKEY_SENT): _S.REKEYING,
        (_S.REKEYING, _H.REKEY_FAILED): _S.ESTABLISHED,
        # By our request, by the peer's, or by both when they cross (RFC 7296, 2.8.2).
        (_S.ESTABLISHED, _H.REPLACED): _S.REKEYED,
        (_S.REKEYING, _H.REPLACED): _S.REKEYED,
        (_S.REKEYED, _H.REPLACED): _S.REKEYED,
        (_S.REKEYED, _H.REKEY_FAILED): _S.REKEYED,
        (_S.ESTABLISHED, _H.DELETE_SENT): _S.DELETING,
        (_S.REKEYED, _H.DELETE_SENT): _S.DELETING,
        (_S.AUTH_SENT, _H.ENDED): _S.CLOSED,
        (_S.HALF_OPEN, _H.ENDED): _S.CLOSED,
        (_S.REFUSING, _H.ENDED): _S.CLOSED,
        (_S.ESTABLISHED, _H.ENDED): _S.CLOSED,
        (_S.REKEYING, _H.ENDED): _S.CLOSED,
        (_S.REKEYED, _H.ENDED): _S.CLOSED,
        (_S.DELETING, _H.ENDED): _S.CLOSED,
    }
)

_INTERMEDIATE = ExchangeType.IKE_INTERMEDIATE
_AUTH = ExchangeType.IKE_AUTH
_CHILD = ExchangeType.CREATE_CHILD_SA
_FOLLOW_UP = ExchangeType.IKE_FOLLOWUP_KE
_INFORMATIONAL = ExchangeType.INFORMATIONAL

SERVED = MappingProxyType(
    {
        _S.AUTH_SENT: frozenset[ExchangeType](),
        _S.HALF_OPEN: frozenset({_INTERMEDIATE, _AUTH}),
        _S.REFUSING: frozenset[ExchangeType](),
        _S.ESTABLISHED: frozenset({_CHILD, _FOLLOW_UP, _INFORMATIONAL}),
        _S.REKEYING: frozenset({_CHILD, _FOLLOW_UP, _INFORMATIONAL}),
        _S.REKEYED: frozenset({_INFORMATIONAL}),
        _S.DELETING: frozenset({_INFORMATIONAL}),
        _S.CLOSED: frozenset[ExchangeType](),
    }
)

DEFERRED = MappingProxyType(
    {
        _S.REKEYED: frozenset({_CHILD, _FOLLOW_UP}),
        _S.DELETING: frozenset({_CHILD, _FOLLOW_UP}),
    }
)

FINISHED = frozenset({_S.ESTABLISHED, _S.REKEYING, _S.REKEYED, _S.DELETING})
"""States that are authenticated both ways and not closed; the peer's requests are proven to be its
own. In the other states, only exchanges that authenticate a peer are served."""

FATAL = frozenset({NotifyType.INVALID_SYNTAX, NotifyType.AUTHENTICATION_FAILED})
"""Errors that end the IKE SA at both ends without a Delete (RFC 7296, 2.21)."""

TOLERATED: Mapping[int, frozenset[int]] = MappingProxyType(
    {
        # RFC 7296, 1.2: the IKE SA comes up without the child that was asked for with it.
        _AUTH: frozenset(
            {
                NotifyType.NO_PROPOSAL_CHOSEN,
                NotifyType.SINGLE_PAIR_REQUIRED,
                NotifyType.NO_ADDITIONAL_SAS,
                NotifyType.INTERNAL_ADDRESS_FAILURE,
                NotifyType.FAILED_CP_REQUIRED,
                NotifyType.TS_UNACCEPTABLE,
                NotifyType.INVALID_SELECTORS,
                NotifyType.TEMPORARY_FAILURE,
                NotifyType.KEYID_IN_USE,
            }
        ),
        # An error in an INFORMATIONAL answer to a Delete concerns that SA alone.
        _INFORMATIONAL: KNOWN_ERRORS,
    }
)
"""Errors in the answer to an exchange that leave the rest of that answer valid. An error of another
type makes the request fail, even if the answer grants something."""

USABLE = frozenset({_S.ESTABLISHED})
"""States in which our own new requests may start (RFC 7296, 1.3.2: not during a rekey)."""


def follow(state: State, happening: Happening) -> State:
    """Return the next state.

    Raises ValueError for a transition that is not in the table, which is our own mistake.
    """
    try:
        return TRANSITIONS[state, happening]
    except KeyError:
        raise ValueError(f'an IKE SA that is {state} meets: {happening}') from None
