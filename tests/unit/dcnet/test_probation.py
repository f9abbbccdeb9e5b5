"""What a supplier remembers of disputes and reports, over restarts."""

from __future__ import annotations

from tests.unit.dcnet.mortal_net import Disk
from tests.unit.dcnet.support import NET
from tools.counterparts.net_journal import Journal
from tools.counterparts.net_probation import Probation, Untold
from wan.errors import OrderRefused, PeerUnavailable


class Administrator:
    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.told: list[bytes] = []

    async def faults(self, report: bytes) -> bytes:
        if self.error is not None:
            raise self.error
        self.told.append(report)
        return b""


def refused(_name: str, _reason: str) -> None:
    raise AssertionError("nobody refuses")


async def test_strikes_outlive_the_process_and_the_third_one_counts() -> None:
    disk = Disk()
    for strike, version in enumerate((1, 2, 3), start=1):
        journal = Journal(disk, NET)
        found = Probation(journal.room("probation")).note(version, [("gw2", "gw1")], ["gw3"])
        assert found == (frozenset({"gw1", "gw2", "gw3"}) if strike == 3 else frozenset())
        await journal.sync()
        journal.close()
    again = Probation(Journal(disk, NET).room("probation"))
    assert again.edges(3) == frozenset({("gw1", "gw2")})
    assert not again.note(3, [("gw1", "gw2")])  # known in this roster: no further strike


async def test_what_nobody_was_told_yet_is_told_by_the_next_process_and_once() -> None:
    disk, here, away = Disk(), Administrator(), Administrator(PeerUnavailable("away"))
    journal = Journal(disk, NET)
    untold = Untold(journal.room("disputes"), ["here", "away"])
    untold.add(["here", "away"], [b"one", b"two"])
    await untold.tell({"here": here, "away": away}, refused)
    assert here.told == [b"one", b"two"]
    await journal.sync()
    journal.close()
    back = Administrator()
    journal = Journal(disk, NET)
    later = Untold(journal.room("disputes"), ["here", "away"])
    await later.tell({"here": here, "away": back}, refused)
    assert (here.told, back.told) == ([b"one", b"two"], [b"one", b"two"])
    await journal.sync()
    journal.close()
    last = Untold(Journal(disk, NET).room("disputes"), ["here", "away"])
    await last.tell({"here": here, "away": back}, refused)
    assert len(back.told) == 2


async def test_what_comes_in_while_somebody_is_told_is_not_lost_and_a_refusal_is_over() -> None:
    untold, said = Untold(), list[str]()

    class Slow(Administrator):
        async def faults(self, report: bytes) -> bytes:
            if report == b"first":
                untold.add(["slow"], [b"second"])
            return await super().faults(report)

    slow = Slow()
    untold.add(["slow", "no"], [b"first"])
    everybody = {"slow": slow, "no": Administrator(OrderRefused("signer", "not yours"))}
    await untold.tell(everybody, lambda name, _reason: said.append(name))
    await untold.tell(everybody, lambda name, _reason: said.append(name))
    assert (slow.told, said) == ([b"first", b"second"], ["no"])


async def test_reports_for_administrators_that_are_nobodys_any_more_are_forgotten() -> None:
    disk = Disk()
    journal = Journal(disk, NET)
    Untold(journal.room("disputes"), ["old"]).add(["old"], [b"report"])
    await journal.sync()
    journal.close()
    later = Untold(Journal(disk, NET).room("disputes"), ["new"])
    await later.tell({}, refused)
