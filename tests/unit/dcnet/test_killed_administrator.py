"""An administrator killed at any write of a countersignature: what it finds then is whole, or nothing."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from pathlib import Path

import pytest

from tests.unit.dcnet.support import NET
from tests.unit.dcnet.test_counterparts import Draft
from tools.counterparts.net_succession import members_of
from tools.counterparts.pki import make_pki

_RECORDS = ("roster", "names", "peers")


class Killed(Exception):
    """The process ended here."""


class DyingKept(MutableMapping[str, bytes]):
    """Records in a dictionary; the process ends before its n-th change."""

    def __init__(self, data: dict[str, bytes], changes: int) -> None:
        self._data, self._left = data, changes

    def _change(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise Killed

    def __getitem__(self, name: str) -> bytes:
        return self._data[name]

    def __setitem__(self, name: str, data: bytes) -> None:
        self._change()
        self._data[name] = data

    def __delitem__(self, name: str) -> None:
        self._change()
        del self._data[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._data)

    def __len__(self) -> int:
        return len(self._data)


async def test_a_roster_is_kept_whole_or_not_at_all(tmp_path: Path) -> None:
    make_pki(tmp_path / "pki")
    draft = await Draft(tmp_path / "pki").fill()
    before = dict(draft.kept)
    for changes in range(10):
        data = dict(before)
        draft.kept = DyingKept(data, changes)  # type: ignore[assignment]
        draft.restart()
        try:
            await draft.ask()
        except Killed:
            pass
        else:
            assert changes >= 3
            break
        draft.kept = data
        draft.restart()
        other = draft.roster(first_epoch=20_001)
        if f"roster-{NET.hex()}-1" in data:
            assert await draft.refused(other) == "version"
            assert await draft.ask()
        else:  # nobody has a signature: another draft may take its place, and everything is that one's
            assert await draft.ask(other)
            assert data[f"roster-{NET.hex()}-1"] == other.to_bytes()
        assert all(f"{what}-{NET.hex()}-1" in data for what in _RECORDS)
        assert len(members_of(data, NET.hex())) == 4
    else:
        pytest.fail("it was killed at every change")
