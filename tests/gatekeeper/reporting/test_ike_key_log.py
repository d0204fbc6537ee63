"""The file with the keys of IKE SAs."""

from __future__ import annotations

from pathlib import Path

import pytest

from gatekeeper.reporting.ike_key_log import IkeKeyLog


def test_key_log_begins_with_a_line_that_tells_its_purpose(tmp_path: Path) -> None:
    log = IkeKeyLog(tmp_path / 'log')
    log.write('one')
    log.write('two')
    log.close()
    first, *lines = (tmp_path / 'log').read_text().splitlines()
    assert first.startswith('#')
    assert 'ikev2_decryption_table' in first
    assert lines == ['one', 'two']
    assert (tmp_path / 'log').stat().st_mode & 0o777 == 0o600


def test_older_log_stays_unless_it_may_be_replaced(tmp_path: Path) -> None:
    IkeKeyLog(tmp_path / 'log').close()
    with pytest.raises(FileExistsError):
        IkeKeyLog(tmp_path / 'log')
    log = IkeKeyLog(tmp_path / 'log', replace=True)
    log.close()


def test_full_disk_stops_nothing() -> None:
    log = IkeKeyLog.__new__(IkeKeyLog)
    with open('/dev/full', 'wb', buffering=0) as full:
        log._file = full.fileno()
        log.write('a line')
