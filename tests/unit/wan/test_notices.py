"""FAU_ARP.1/SYS: alarms reach the administrator in order, each until it is taken."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from firmware.enforcement.gate import Gate
from firmware.log.entry import Event
from firmware.log.notices import Notice
from firmware.profile.model import ProfileSet
from wan.client import Reply
from wan.errors import PeerUnavailable
from wan.gwa.client import AdministratorLink

START = datetime(2026, 1, 1, tzinfo=UTC)


class Channel:
    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes]] = []
        self.status = 201
        self.gone_after: int | None = None

    async def exchange(self, method, resource, body=b"", headers=()):
        if method == "GET":
            return Reply(200, b'{"orders":[]}')
        if self.gone_after is not None and len(self.sent) >= self.gone_after:
            raise PeerUnavailable("gone")
        self.sent.append((resource, body))
        return Reply(self.status, b"")


class Waiting:
    """Three alarms, let out by the gate."""

    def __init__(self) -> None:
        gate = Gate("esgw0100000001", "gwa", ProfileSet, lambda _net: None, self._never)
        alarms = [Notice(number, Event.TAMPER, "tampered", "opened", START) for number in (7, 8, 9)]
        self.kept = [(one.number, gate.release_notice(one)) for one in alarms]

    async def _never(self, _denial):
        raise AssertionError

    async def waiting(self):
        return list(self.kept)

    async def taken(self, number):
        self.kept = [one for one in self.kept if one[0] > number]


@pytest.fixture
def link():
    channel, waiting, reports = Channel(), Waiting(), []
    made = AdministratorLink(
        channel,
        None,
        sig_certificate=lambda: None,
        gateway="esgw0100000001",
        poll_s=1,
        clock=None,
        report=lambda *report: reports.append(report),
        check_signer=lambda _signer: None,
        release=lambda _receipt: None,
        notices=waiting,
    )
    return made, channel, waiting, reports


async def test_alarms_go_in_order_and_once(link):
    made, channel, waiting, reports = link
    await made.poll()
    await made.poll()
    assert [resource for resource, _ in channel.sent] == [
        f"/gwa/v1/esgw0100000001/notices/{number}" for number in (7, 8, 9)
    ]
    assert b'"event":"tamper"' in channel.sent[0][1]
    assert waiting.kept == []
    assert reports == []
    assert {release.recipient for _, release in Waiting().kept} == {"gwa"}


async def test_an_alarm_that_is_not_taken_waits_and_so_do_those_behind_it(link):
    made, channel, waiting, reports = link
    channel.status = 500
    await made.poll()
    assert [number for number, _ in waiting.kept] == [7, 8, 9]
    assert len(channel.sent) == len(reports) == 1
    channel.status, channel.sent, channel.gone_after = 201, [], 1
    with pytest.raises(PeerUnavailable):
        await made.poll()
    assert [number for number, _ in waiting.kept] == [8, 9]
    channel.gone_after = None
    await made.poll()
    assert waiting.kept == []
