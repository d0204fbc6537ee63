"""The two families of errors, and what a peer is told (RFC 7296, 3.10.1)."""

from __future__ import annotations

import pytest

from ikev2 import errors
from ikev2.constants import FIRST_STATUS_NOTIFY, NotifyType
from ikev2.errors import (
    IkeError,
    IntegrityFailure,
    LocalError,
    MalformedMessage,
    PeerError,
    UnsupportedCriticalPayload,
    UnsupportedVersion,
    WrongKeyExchangeGroup,
)

ALL = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, IkeError) and value is not IkeError
]


@pytest.mark.parametrize('error', ALL, ids=lambda error: error.__name__)
def test_errors_are_peers_or_ours_never_both(error: type[IkeError]) -> None:
    assert issubclass(error, PeerError) != issubclass(error, LocalError)


@pytest.mark.parametrize(
    'error', [error for error in ALL if issubclass(error, PeerError)], ids=lambda e: e.__name__
)
def test_peer_errors_have_error_notifies(error: type[PeerError]) -> None:
    assert error.notify is None or error.notify < FIRST_STATUS_NOTIFY


@pytest.mark.parametrize(
    ('error', 'notify', 'data'),
    [
        (UnsupportedVersion(3), NotifyType.INVALID_MAJOR_VERSION, '02'),
        (UnsupportedCriticalPayload(200), NotifyType.UNSUPPORTED_CRITICAL_PAYLOAD, 'c8'),
        (WrongKeyExchangeGroup(31), NotifyType.INVALID_KE_PAYLOAD, '001f'),
        (MalformedMessage('why'), NotifyType.INVALID_SYNTAX, ''),
    ],
)
def test_peer_errors_have_their_notify_data(
    error: PeerError, notify: NotifyType, data: str
) -> None:
    assert error.notify == notify
    assert error.notify_data.hex() == data


def test_integrity_failure_has_no_notify() -> None:
    assert IntegrityFailure.notify is None
