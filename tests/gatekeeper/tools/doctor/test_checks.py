"""The verdicts of `gatekeeper doctor` about the facts of a host."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gatekeeper.tools.doctor.checks import (
    CAPABILITIES,
    Finding,
    Host,
    PortUser,
    Verdict,
    is_able,
    judge,
)
from gatekeeper.tools.doctor.command import lines_of

ALL = sum(1 << bit for bit, _ in CAPABILITIES.values())
HEALTHY = Host(
    kernel='6.12',
    no_kernel_tcp_ao=None,
    no_packet_process=None,
    capabilities=ALL,
    clock_synchronized=True,
    syncookies=1,
    mtus=(('eth0', 1500),),
)


def about(host: Host, subject: str) -> list[Finding]:
    return [finding for finding in judge(host) if finding.subject == subject]


def test_healthy_host_has_good_findings_only() -> None:
    findings = judge(HEALTHY)
    assert {finding.verdict for finding in findings} == {Verdict.GOOD}
    assert is_able(findings)


@pytest.mark.parametrize('lacking', ['no_kernel_tcp_ao', 'no_packet_process'])
def test_host_is_able_when_one_backend_works(lacking: str) -> None:
    findings = judge(replace(HEALTHY, **{lacking: 'it is not there'}))  # type: ignore[arg-type]
    assert is_able(findings)
    assert next(f.text for f in findings if f.verdict is Verdict.NOTE and f.remedy).endswith(
        'it is not there'
    )


def test_host_is_unable_when_neither_backend_works() -> None:
    findings = judge(replace(HEALTHY, no_kernel_tcp_ao='none', no_packet_process='no queue'))
    assert not is_able(findings)
    assert lines_of(findings)[-1] == 'no protected session can come up on this host'


@pytest.mark.parametrize('name', CAPABILITIES)
def test_missing_capability_is_named_with_its_remedy(name: str) -> None:
    host = replace(HEALTHY, capabilities=ALL & ~(1 << CAPABILITIES[name][0]))
    (finding,) = about(host, 'privileges')
    assert finding.verdict is Verdict.WARNING
    assert name in finding.text
    assert finding.remedy.endswith(f'AmbientCapabilities={name}')


def test_port_in_use_names_the_program() -> None:
    host = replace(HEALTHY, ports=(PortUser('udp', 500, 'charon (process 7)'),))
    (finding,) = about(host, 'udp 500')
    assert finding.text == 'in use by charon (process 7)'
    assert 'another IKE daemon' in finding.remedy
    assert about(host, 'tcp 179')[0].verdict is Verdict.GOOD


def test_rule_that_accepts_before_ours_is_shown() -> None:
    rule = 'iptables -t mangle -A INPUT -p tcp -j ACCEPT'
    (finding,) = about(replace(HEALTHY, foreign_accepts=(rule,)), 'foreign rules')
    assert finding.verdict is Verdict.WARNING
    assert rule in finding.text


def test_rules_that_cannot_be_read_are_not_said_to_be_good() -> None:
    (finding,) = about(replace(HEALTHY, rules_unknown='permission denied'), 'foreign rules')
    assert finding.verdict is Verdict.NOTE


@pytest.mark.parametrize(('synchronized', 'verdict'), [(False, 'warning'), (None, 'note')])
def test_clock_is_doubted_unless_synchronized(synchronized: bool | None, verdict: str) -> None:
    (finding,) = about(replace(HEALTHY, clock_synchronized=synchronized), 'clock')
    assert finding.verdict == verdict


def test_syncookies_are_told_when_always_on() -> None:
    assert about(replace(HEALTHY, syncookies=2), 'SYN cookies')
    assert not about(replace(HEALTHY, syncookies=0), 'SYN cookies')


def test_mtu_is_told_when_below_that_of_ipv6() -> None:
    (finding,) = about(replace(HEALTHY, mtus=(('tun0', 1279), ('eth0', 1280))), 'MTU of tun0')
    assert '1279' in finding.text


def test_lines_align_remedies_below_their_findings() -> None:
    lines = lines_of(judge(replace(HEALTHY, clock_synchronized=False)))
    at = next(i for i, line in enumerate(lines) if line.startswith('warning'))
    assert lines[at + 1].strip().startswith('-> ')


def test_python_is_warned_of_when_its_user_may_not_run_it() -> None:
    (finding,) = about(replace(HEALTHY, closed_to_nobody='/root'), 'python')
    assert finding.verdict is Verdict.WARNING
    assert 'user nobody may not use /root' in finding.text
