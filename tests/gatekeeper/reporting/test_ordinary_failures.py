"""Failures that healthy peers have too are kept back until they last."""

from __future__ import annotations

from gatekeeper.reporting.ordinary_failures import PATIENCE, OrdinaryFailures
from gatekeeper.reporting.reasons import Reason

WHOSE = ('10.0.0.2', 'ipv4 unicast')
ORDINARY = Reason.NO_SESSION_AT_PEER.word


def test_lasts_is_false_until_patience_is_over() -> None:
    failures = OrdinaryFailures()
    assert not failures.lasts(*WHOSE, ORDINARY, 100.0)
    assert not failures.lasts(*WHOSE, ORDINARY, 99.0 + PATIENCE)
    assert failures.lasts(*WHOSE, ORDINARY, 100.0 + PATIENCE)


def test_lasts_is_false_while_a_daemon_starts() -> None:
    assert not OrdinaryFailures().lasts(*WHOSE, Reason.NOBODY_AT_PORT.word, 100.0)
    assert OrdinaryFailures().lasts(*WHOSE, Reason.UNREACHABLE.word, 100.0)


def test_lasts_is_true_at_once_for_other_reasons() -> None:
    assert OrdinaryFailures().lasts(*WHOSE, Reason.PSK_DIFFERS.word, 100.0)
    assert OrdinaryFailures().lasts(*WHOSE, '', 100.0)


def test_lasts_is_false_while_the_session_is_up() -> None:
    failures = OrdinaryFailures()
    failures.lasts(*WHOSE, ORDINARY, 100.0)
    failures.up(*WHOSE)
    assert not failures.lasts(*WHOSE, ORDINARY, 1000.0)
    assert not failures.lasts(WHOSE[0], '', ORDINARY, 1000.0)


def test_lasts_begins_anew_when_the_session_has_been_up() -> None:
    failures = OrdinaryFailures()
    failures.lasts(*WHOSE, ORDINARY, 100.0)
    failures.up(*WHOSE)
    failures.down(*WHOSE)
    assert not failures.lasts(*WHOSE, ORDINARY, 1000.0)
