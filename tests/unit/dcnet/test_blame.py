"""A supplier cannot frame a member: administrators judge by what members have signed, and by nothing else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from firmware.enforcement.dcnet.errors import MalformedObject
from firmware.enforcement.dcnet.messages.conduct import SentFrames, SlotDigest
from firmware.enforcement.dcnet.messages.documents import document_hash, from_bitmap
from firmware.enforcement.dcnet.messages.faults import (
    AuditReport,
    CanaryStatement,
    ShownFrame,
    TwoAccounts,
)
from firmware.enforcement.dcnet.messages.frames import MAC_BYTES, Frame, FrameType, digest
from firmware.enforcement.dcnet.messages.manifest import Manifest
from firmware.enforcement.dcnet.primitives import merkle
from tests.support.instant_loop import run
from tests.unit.dcnet.roster_street import cheap_check
from tests.unit.dcnet.running_net import Home, RunningNet
from tests.unit.dcnet.support import NET, signed_by
from tools.cli.gwa import app
from tools.counterparts.kept_files import KeptFiles
from tools.counterparts.net_blame import FaultKeeper
from tools.counterparts.net_ordered import OrderedNet
from tools.dcnet.leak import known
from tools.dcnet.record import Seen
from tools.homes.liar import Lie, corrupt
from wan.errors import OrderRefused

SIZE = 8
LIAR, VICTIM = 4, 2
NAMES = [f"gw{number}" for number in range(1, SIZE + 1)]
Twist = Callable[[CanaryStatement], CanaryStatement]


@dataclass
class Audited:
    """One audited slot: what was reported of it, and an administrator that has not judged yet."""

    report: AuditReport
    policy: Any
    roster: bytes
    record: list[Seen]
    frames: Mapping[int, bytes]
    suspended: frozenset[int]
    seen: list[Mapping[str, Any]] = field(default_factory=list)

    @property
    def manifest(self) -> Manifest:
        return Manifest.from_bytes(self.report.manifest)

    def keeper(self) -> FaultKeeper:
        kept = {
            f"roster-{NET.hex()}-1": self.roster,
            f"names-{NET.hex()}-1": json.dumps({"at": 0.0, "gateways": NAMES}).encode(),
        }
        ordered = OrderedNet(self.policy, b"certificate of emp", frozenset(NAMES))
        trust: Any = None
        return FaultKeeper(lambda _net: ordered, trust, kept, self.seen.append)

    def said(self, index: int) -> CanaryStatement:
        found = [CanaryStatement.from_bytes(body.partition(b"|")[2]) for body in self.report.statements]
        return next(one for one in found if one.index == index)

    def swap(self, index: int, statement: CanaryStatement | None) -> tuple[bytes, ...]:
        """The statements with another one of a member, or without it."""
        others = [body for body in self.report.statements if not body.startswith(f"gw{index}|".encode())]
        if statement is not None:
            others.append(signed_by(f"gw{index}", statement.to_bytes()))
        return tuple(others)


async def told(keeper: FaultKeeper, report: AuditReport) -> dict[str, Any]:
    """What an administrator knows after a report that the supplier has signed."""
    await keeper.take(NET.hex(), signed_by("emp", report.to_bytes()))
    return keeper.standing(NET.hex())


def audited(lie: Lie = Lie.CONTRADICTION, twist: Twist | None = None, **changes: object) -> Audited:
    """Run a net in which gw4 lies, and states what `twist` makes of its statement."""
    found: list[Audited] = []

    async def main() -> None:
        async with RunningNet(SIZE, **changes) as net:
            slot, liar = net.first, net.homes[LIAR - 1]
            corrupt(liar.member, lie)
            if twist is not None:
                liar.forge = twisting(liar, twist)
            await net.contribute(slot)
            await net.until(slot, 60.5)
            administrator = net.administrators["gwa1"]
            assert administrator.roster is not None
            (report,) = administrator.reports
            frames = {
                index: home.bodies(f"/submit/{slot}/")[0][:-MAC_BYTES]
                for index, home in enumerate(net.homes, start=1)
            }
            found.append(
                Audited(
                    report,
                    net.policy,
                    administrator.roster.to_bytes(),
                    net.record(),
                    frames,
                    net.coordinator.slots._suspended,
                )
            )

    run(main())
    return found[0]


def twisting(home: Home, twist: Twist) -> Callable[[str, bytes], bytes]:
    def forge(resource: str, body: bytes) -> bytes:
        if "/canary/" not in resource:
            return body
        said = CanaryStatement.from_bytes(body.partition(b"|")[2])
        return signed_by(home.name, twist(said).to_bytes())

    return forge


def denial(said: CanaryStatement) -> CanaryStatement:
    """A liar that says it has sent what it should have."""
    inside = sum(word if said.index < peer else -word for peer, word in said.pads)
    return replace(said, submitted=(1 + said.mask + inside) % (1 << 64), submit_digest=b"?" * 32)


@pytest.fixture(autouse=True)
def believe_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.counterparts.net_blame.check_signed", cheap_check)


@pytest.fixture(scope="module")
def slot() -> Audited:
    return audited()


async def test_the_liar_is_excluded_by_its_own_signature_alone(slot: Audited) -> None:
    standing = await told(slot.keeper(), slot.report)
    assert {name: about["excluded"] for name, about in standing.items()} == {f"gw{LIAR}": True}
    alone = replace(slot.report, words=(), statements=slot.swap(VICTIM, None))
    keeper = slot.keeper()
    await told(keeper, alone)  # the supplier says nothing of what was sent, and keeps a statement back
    assert keeper.excluded(NET.hex()) == {f"gw{LIAR}"}
    assert not slot.report.shown  # it has signed what it sent: no frame was shown to anybody


def test_a_liar_that_denies_what_it_sent_is_convicted_by_the_root_it_has_signed_for() -> None:
    slot = audited(twist=denial)

    async def main() -> None:
        keeper = slot.keeper()
        (shown,) = slot.report.shown
        assert (shown.index, shown.frame) == (LIAR, slot.frames[LIAR])
        await told(keeper, slot.report)
        assert keeper.excluded(NET.hex()) == {f"gw{LIAR}"}
        unproven = slot.keeper()
        standing = await told(unproven, replace(slot.report, shown=()))
        assert standing == {}  # the same claim without the frame is nothing
        (event,) = [event for event in slot.seen[1:] if event["event"] == "probation"]
        assert event["unproven"] == [f"gw{LIAR}"]

    run(main())
    # What the administrator sees of the data lanes is one uniform submission; with all that the supplier
    # has seen as well, it is still nothing.
    seen = [one for one in slot.record if one.kind in ("net", "epoch", "manifest")]
    seen += [Seen("emp", "gwa1", "submit", one.frame + bytes(MAC_BYTES)) for one in slot.report.shown]
    for record in (seen, slot.record):
        for corrupt_members in ((), ("1",), ("5", "6")):
            facts = known(record, corrupt_members)
            assert not facts.singles
            assert not facts.too_small


def test_of_a_lying_edge_both_ends_are_on_probation_and_nobody_is_excluded() -> None:
    slot = audited(Lie.EDGE)

    async def main() -> None:
        keeper = slot.keeper()
        standing = await told(keeper, slot.report)
        assert {name: about["disputes"] for name, about in standing.items()} == {"gw1": 1, f"gw{LIAR}": 1}
        assert not keeper.excluded(NET.hex())

    run(main())


def false_words(slot: Audited, submitted: int, opened: int) -> AuditReport:
    rows = tuple(
        (index, y + submitted, r + opened) if index == VICTIM else (index, y, r)
        for index, y, r in slot.report.words
    )
    return replace(slot.report, words=tuple((index, y % 2**64, r % 2**64) for index, y, r in rows))


def other_frame(slot: Audited) -> ShownFrame:
    """The victim's frame with another canary word, with the victim's true path."""
    frame = Frame.from_bytes(slot.frames[VICTIM])
    forged = replace(frame, lanes=(*frame.lanes[:2], frame.lanes[2] ^ 1)).to_bytes()
    return replace(own_frame(slot), frame=forged)


def own_frame(slot: Audited, index: int = VICTIM) -> ShownFrame:
    accepted = sorted(from_bitmap(slot.manifest.accepted, SIZE))
    digests = [digest(slot.frames[one]) for one in accepted]
    return ShownFrame(index, slot.frames[index], merkle.path(digests, accepted.index(index)))


def other_root(slot: Audited, **changes: object) -> AuditReport:
    """The report with a manifest under whose root another frame of the victim lies."""
    accepted = sorted(from_bitmap(slot.manifest.accepted, SIZE))
    forged = other_frame(slot).frame
    digests = [digest(forged if one == VICTIM else slot.frames[one]) for one in accepted]
    manifest = replace(slot.manifest, root=merkle.root(digests))
    shown = ShownFrame(VICTIM, forged, merkle.path(digests, accepted.index(VICTIM)))
    return replace(slot.report, manifest=manifest.to_bytes(), shown=(shown,), **changes)  # type: ignore[arg-type]


async def test_false_words_of_a_supplier_exclude_nobody(slot: Audited) -> None:
    for report, counted in (
        (false_words(slot, 1, 0), None),
        (false_words(slot, 0, 1), "denied"),
        (false_words(slot, 5, 5), "denied"),
        (replace(slot.report, words=()), None),
        (replace(slot.report, statements=slot.swap(VICTIM, None)), "silent"),
        (replace(slot.report, statements=slot.swap(VICTIM, None), words=()), "silent"),
        (replace(slot.report, shown=(own_frame(slot),)), None),
        (replace(false_words(slot, 1, 0), shown=(own_frame(slot),)), None),
    ):
        keeper = slot.keeper()
        standing = await told(keeper, report)
        assert keeper.excluded(NET.hex()) == {f"gw{LIAR}"}
        about = standing.get(f"gw{VICTIM}")
        assert (about is None) == (counted is None), report
        if about is not None:
            assert {what for what in ("denied", "silent", "disputes", "contradictions") if about[what]} == {
                counted
            }


async def test_a_supplier_that_lies_again_and_again_sends_somebody_to_look_and_excludes_nobody(
    slot: Audited,
) -> None:
    keeper = slot.keeper()
    for later in range(4):
        manifest = replace(slot.manifest, slot=slot.manifest.slot + later)
        report = replace(slot.report, slot=manifest.slot, manifest=manifest.to_bytes(), statements=())
        await told(keeper, report)
    assert not keeper.excluded(NET.hex())
    assert keeper.visits(NET.hex()) == set(NAMES)
    visits = [event for event in slot.seen if event["event"] == "visit"]
    assert [event["gateway"] for event in visits] == NAMES  # said once each
    assert {event["silent"] for event in visits} == {3}


async def test_what_is_mixed_replayed_or_forged_is_refused_whole(slot: Audited) -> None:
    victim, elsewhere = slot.said(VICTIM), replace(slot.manifest, slot=slot.manifest.slot + 1)
    for report, code in (
        (replace(slot.report, shown=(other_frame(slot),)), "frame"),
        (replace(slot.report, shown=(replace(own_frame(slot, 5), index=VICTIM),)), "frame"),
        (replace(slot.report, shown=(replace(own_frame(slot), siblings=()),)), "frame"),
        (replace(slot.report, shown=(replace(own_frame(slot), frame=b"x"),)), "frame"),
        (other_root(slot), "statement"),
        (
            replace(slot.report, statements=slot.swap(VICTIM, replace(victim, slot=victim.slot + 1))),
            "statement",
        ),
        (replace(slot.report, statements=slot.swap(VICTIM, replace(victim, version=2))), "statement"),
        (replace(slot.report, statements=slot.swap(VICTIM, replace(victim, net=bytes(8)))), "statement"),
        (
            replace(slot.report, statements=slot.swap(VICTIM, replace(victim, manifest_hash=bytes(32)))),
            "statement",
        ),
        (replace(slot.report, slot=elsewhere.slot, manifest=elsewhere.to_bytes()), "statement"),
        (replace(slot.report, statements=(*slot.report.statements, slot.report.statements[0])), "statement"),
    ):
        keeper = slot.keeper()
        with pytest.raises(OrderRefused) as refused:
            await told(keeper, report)
        assert refused.value.code == code, report
        assert keeper.standing(NET.hex()) == {}
    # A root of the supplier's own, under which nobody has signed anything: the frame says nothing of anybody.
    alone = slot.keeper()
    await told(alone, other_root(slot, statements=()))
    assert not alone.excluded(NET.hex())


async def test_a_frame_of_another_kind_or_place_proves_nothing(slot: Audited) -> None:
    frame = Frame.from_bytes(slot.frames[LIAR])
    for other in (
        replace(frame, type=FrameType.OPEN),
        replace(frame, net=bytes(8)),
        replace(frame, slot=frame.slot + 1),
        replace(frame, version=2),
        replace(frame, lanes=frame.lanes[:2]),
    ):
        shown = replace(own_frame(slot, LIAR), frame=other.to_bytes())
        with pytest.raises(OrderRefused, match="frame"):
            await told(slot.keeper(), replace(slot.report, shown=(shown,)))


async def test_who_speaks_of_nobody_or_of_itself_contradicts_itself(slot: Audited) -> None:
    victim = slot.said(VICTIM)
    for pads in ((*victim.pads, (SIZE + 1, 0)), ((VICTIM, 0), *victim.pads[1:])):
        keeper = slot.keeper()
        made = replace(victim, pads=tuple(sorted(pads)))
        await told(keeper, replace(slot.report, statements=slot.swap(VICTIM, made)))
        assert f"gw{VICTIM}" in keeper.excluded(NET.hex())


# -- two accounts of one member -----------------------------------------------------------------------


def day_of(slot: Audited, **changes: object) -> SlotDigest:
    said = slot.said(VICTIM)
    sent = SentFrames(said.slot, said.submit_digest, said.open_digest)
    epoch = 20_513 if "epoch" not in changes else changes.pop("epoch")
    made = SlotDigest(said.net, 1, VICTIM, epoch, bytes(32), (sent,))  # type: ignore[arg-type]
    return replace(made, **changes)  # type: ignore[arg-type]


def accounts(slot: Audited, other: SlotDigest | CanaryStatement, by: str = f"gw{VICTIM}") -> bytes:
    statement = signed_by(f"gw{VICTIM}", slot.said(VICTIM).to_bytes())
    return TwoAccounts(statement, signed_by(by, other.to_bytes())).to_bytes()


async def test_a_member_that_signs_two_accounts_convicts_itself(slot: Audited) -> None:
    said = slot.said(VICTIM)
    for other in (
        day_of(slot, frames=(SentFrames(said.slot, b"?" * 32, said.open_digest),)),
        day_of(slot, frames=(SentFrames(said.slot, said.submit_digest, b"?" * 32),)),
        day_of(slot, frames=()),
        replace(said, mask=said.mask ^ 1),
        replace(said, manifest_hash=b"?" * 32),
    ):
        keeper = slot.keeper()
        for _ in range(2):
            await keeper.take(NET.hex(), accounts(slot, other))
        assert keeper.excluded(NET.hex()) == {f"gw{VICTIM}"}
        assert keeper.standing(NET.hex())[f"gw{VICTIM}"]["contradictions"] == 1


async def test_two_accounts_that_can_both_be_true_or_are_anothers_are_refused(slot: Audited) -> None:
    said = slot.said(VICTIM)
    for body, code in (
        (accounts(slot, day_of(slot)), "accounts"),
        (accounts(slot, said), "accounts"),
        (accounts(slot, replace(said, slot=said.slot + 1)), "accounts"),
        (accounts(slot, day_of(slot, frames=(), epoch=20_512)), "digest"),
        (accounts(slot, day_of(slot, frames=(), net=bytes(8))), "net"),
        (accounts(slot, day_of(slot, frames=(), version=2)), "net"),
        (accounts(slot, day_of(slot, frames=(), index=3)), "signer"),
        (accounts(slot, day_of(slot, frames=()), by="gw3"), "signer"),
        (accounts(slot, day_of(slot, frames=(), index=3), by="gw3"), "signer"),
        (TwoAccounts(signed_by("gw2", b"x"), signed_by("gw2", b"x")).to_bytes(), "form"),
    ):
        keeper = slot.keeper()
        with pytest.raises(OrderRefused) as refused:
            await keeper.take(NET.hex(), body)
        assert refused.value.code == code
        assert keeper.standing(NET.hex()) == {}
    with pytest.raises(MalformedObject):
        TwoAccounts.from_bytes(signed_by("emp", b""))


def test_a_supplier_holds_the_days_digest_against_the_audit_and_tells_the_administrators() -> None:
    async def main() -> None:
        async with RunningNet(SIZE, epoch_s=240, roster_pause_s=240) as net:
            slot, other = net.first, net.homes[VICTIM - 1]
            corrupt(net.homes[LIAR - 1].member, Lie.CONTRADICTION)
            other.forge = twisting(other, lambda said: replace(said, open_digest=b"?" * 32))
            for later in range(slot, slot + 5):  # into the next epoch
                await net.contribute(later)
            await net.until(slot + 5, 1)
            for administrator in net.administrators.values():
                (both,) = administrator.accounts
                assert both.statement.startswith(f"gw{VICTIM}|".encode())
                assert both.other.startswith(f"gw{VICTIM}|".encode())
            (event,) = net.of("two accounts")
            assert event["gateway"] == f"gw{VICTIM}"

    run(main())


def test_a_supplier_that_hears_two_statements_of_one_member_has_proof() -> None:
    async def main() -> None:
        async with RunningNet(SIZE) as net:
            slot, other = net.first, net.homes[VICTIM - 1]
            corrupt(net.homes[LIAR - 1].member, Lie.CONTRADICTION)
            other.cut = lambda resource: "/canary/" in resource
            await net.contribute(slot)
            await net.until(slot, 45)
            said = await other.member._serving.auditing.last()  # type: ignore[union-attr]
            assert said is not None
            first = CanaryStatement.from_bytes(said.signed.partition(b"|")[2])
            resource = f"/dcnet/v1/{NET.hex()}/canary/{slot}/{VICTIM}"
            second = signed_by(other.name, replace(first, mask=first.mask ^ 1).to_bytes())
            assert (await net.ask(other.name, "PUT", resource, said.signed)).status == 201
            assert (await net.ask(other.name, "PUT", resource, second)).status == 409
            assert [one.other for one in net.administrators["gwa1"].accounts] == [second]

    run(main())


def test_statements_name_what_was_sent_also_after_a_restart() -> None:
    async def main() -> None:
        async with RunningNet(SIZE) as net:
            slot, victim = net.first, net.homes[VICTIM - 1]
            corrupt(net.homes[LIAR - 1].member, Lie.CONTRADICTION)
            victim.cut = lambda resource: "/audit/" in resource
            await net.contribute(slot)
            await net.until(slot, 45)
            await net.restart(victim)
            victim.cut = lambda _resource: False
            await net.until(slot, 60.5)
            (report,) = net.administrators["gwa1"].reports
            tally = net.coordinator.slots.manifests[slot][0]
            assert tally.manifest is not None
            assert document_hash(tally.manifest) == document_hash(Manifest.from_bytes(report.manifest))
            for body in report.statements:
                said = CanaryStatement.from_bytes(body.partition(b"|")[2])
                home = net.homes[said.index - 1]
                submit = home.bodies(f"/submit/{slot}/")[0][:-MAC_BYTES]
                opening = home.bodies(f"/open/{slot}/")[0][:-MAC_BYTES]
                assert (said.submit_digest, said.open_digest) == (digest(submit), digest(opening))
                words = tuple(Frame.from_bytes(one).lanes[2] for one in (submit, opening))
                assert (said.submitted, said.opened) == words
            assert len(report.statements) == SIZE

    run(main())


def test_smgw_gwa_says_whom_audits_have_named(tmp_path: Path, slot: Audited) -> None:
    kept = KeptFiles(tmp_path / "dcnet")
    show = ["--dir", str(tmp_path), "--faults", NET.hex()]
    assert "nobody was named" in CliRunner().invoke(app, show).output
    standing = asyncio.run(told(slot.keeper(), replace(slot.report, statements=slot.swap(VICTIM, None))))
    standing["gw7"] = standing["gw2"] | {"visit": True, "silent": 3}
    kept[f"faults-{NET.hex()}"] = json.dumps(standing).encode()
    lines = CliRunner().invoke(app, show).output.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["probation", "gw2"],
        ["excluded", "gw4"],
        ["visit", "gw7"],
    ]
    told_as_json = CliRunner().invoke(app, [*show, "--jsonl"]).output.splitlines()
    assert [json.loads(line)["silent"] for line in told_as_json] == [1, 0, 3]
    assert CliRunner().invoke(app, [*show[:3], "net"]).exit_code == 2
