"""The administrator as witness of slots and keeper of audits, under real signatures."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web

from firmware.enforcement.dcnet.messages.documents import Document, document_hash, to_bitmap
from firmware.enforcement.dcnet.messages.faults import AuditReport, CanaryStatement, RecoveryOrder
from firmware.enforcement.dcnet.messages.manifest import EpochManifest, Manifest
from firmware.enforcement.dcnet.messages.roster import Attestation, Roster, RosterEntry
from firmware.enforcement.dcnet.policy import reconcile_net
from hsm.api import CertificateUse, KeySlot
from hsm.x509 import Certificate
from tests.support.soft_module import SoftModule
from tests.unit.dcnet.support import NET, administrator, policy
from tools.counterparts.kept_files import KeptFiles
from tools.counterparts.messages import check_signed
from tools.counterparts.net_audit import judge
from tools.counterparts.net_keys import CmsKeys
from tools.counterparts.net_mount import mount_witness
from tools.counterparts.net_ordered import OrderedNet
from tools.counterparts.net_recovery import REMEMBERED_SLOTS, SlotWitness
from tools.counterparts.net_witness import NetWitness
from tools.counterparts.pki import issue_gateway, make_pki
from wan.cms import signed as cms
from wan.errors import OrderRefused
from wan.pki.enrol import make_triple

GATEWAYS = [f"esgw010000000{number}" for number in range(1, 4)]


class Office:
    """An administrator that knows a roster of three, and those who write to it."""

    def __init__(self, folder: Path, seen: list[Any]) -> None:
        self.folder, self.seen = folder, seen
        self.emp, self.gwa = CmsKeys(folder / "emp"), CmsKeys(folder / "gwa")
        self.kept = KeptFiles(folder / "kept")
        self.members: list[tuple[SoftModule, Certificate]] = []

    async def open(self, **changes: object) -> NetWitness:
        for gateway in GATEWAYS:
            module = SoftModule()
            issued = issue_gateway(self.folder, gateway, await make_triple(module, gateway))
            self.members.append((module, Certificate.from_pem(issued[CertificateUse.SIG].encode())))
        entries = tuple(
            RosterEntry(n, bytes([n]) * 16, hashlib.sha256(one.der).digest(), "gwa", bytes([n]) * 32)
            for n, (_, one) in enumerate(self.members, 1)
        )
        roster = Roster(
            NET,
            1,
            bytes(32),
            bytes(32),
            bytes(32),
            20_000,
            bytes(32),
            (administrator("gwa", bytes(32)),),
            entries,
        )
        self.kept[f"roster-{NET.hex()}-1"] = roster.to_bytes()
        self.kept[f"names-{NET.hex()}-1"] = json.dumps({"at": 0.0, "gateways": GATEWAYS}).encode()
        return self.witness(**changes)

    def witness(self, **changes: object) -> NetWitness:
        fields: dict[str, object] = {"recovery": "witness", "n_min": 6, "d_min": 5}
        ordered = OrderedNet(policy(**(fields | changes)), self.emp.certificate, frozenset(GATEWAYS))
        return NetWitness(
            "gwa",
            self.gwa.certificate,
            {NET.hex(): ordered}.get,
            self.gwa.trust,
            self.gwa.sign,
            self.seen.append,
            kept=self.kept,
        )

    async def signed(self, document: Document) -> bytes:
        return await self.emp.sign(document.to_bytes())

    async def stated(self, said: CanaryStatement, by: int) -> bytes:
        module, certificate = self.members[by - 1]
        return await cms.sign(said.to_bytes(), module=module, slot=KeySlot.WAN_SIG, certificate=certificate)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pki")
    make_pki(folder)
    return folder


@pytest.fixture
def office(pki: Path, tmp_path: Path) -> Office:
    made = Office(pki, [])
    made.kept = KeptFiles(tmp_path / "kept")
    return made


MANIFEST = Manifest(NET, 1, 5, bytes(32), b"\x07", b"\x00", bytes(32))
ORDER = RecoveryOrder(NET, 1, 5, document_hash(MANIFEST), b"\x01")
EPOCH = EpochManifest(NET, 1, bytes(32), 20_000, 5, b"\x07")


async def refusal(witness: NetWitness, office: Office, document: Document) -> str:
    with pytest.raises(OrderRefused) as caught:
        await witness.cosign(NET.hex(), await office.signed(document))
    return caught.value.code


async def test_one_manifest_and_one_order_each_slot_also_after_a_restart(office: Office) -> None:
    witness = await office.open()
    assert await refusal(witness, office, ORDER) == "second"  # no manifest yet
    for document in (EPOCH, MANIFEST, ORDER):
        for _ in range(2):
            given = Attestation.from_bytes(await witness.cosign(NET.hex(), await office.signed(document)))
            assert given.certificate == office.gwa.certificate
            assert (await check_signed(given.signed, office.gwa.trust)).content == document.to_bytes()
    witness = office.witness()
    for other in (
        replace(MANIFEST, accepted=b"\x03"),
        replace(ORDER, lost=b"\x02"),
        replace(EPOCH, present=b"\x03"),
        replace(ORDER, manifest_hash=bytes(32)),
    ):
        assert await refusal(witness, office, other) == "second"
    companion = replace(MANIFEST, net=reconcile_net(NET), accepted=b"\x03")
    await witness.cosign(NET.hex(), await office.signed(companion))  # a slot of another net
    assert [event["what"] for event in office.seen if event["event"] == "refused"] == ["cosign"] * 5


async def test_what_a_witness_does_not_sign(office: Office) -> None:
    witness = await office.open()
    assert await refusal(witness, office, replace(MANIFEST, net=bytes(8))) == "net"
    assert await refusal(witness, office, replace(MANIFEST, version=2)) == "roster"
    assert await refusal(witness, office, statements()[0][1]) == "form"
    with pytest.raises(OrderRefused, match="not signed by the supplier"):
        await witness.cosign(NET.hex(), await office.gwa.sign(MANIFEST.to_bytes()))
    with pytest.raises(OrderRefused, match="form"):
        await witness.cosign(NET.hex(), b"nothing")
    with pytest.raises(OrderRefused, match="policy"):
        await witness.cosign("00" * 8, await office.signed(MANIFEST))
    with pytest.raises(OrderRefused, match="policy"):
        await office.witness(recovery="none").cosign(NET.hex(), await office.signed(MANIFEST))


def test_a_witness_forgets_old_slots_and_signs_nothing_for_them() -> None:
    kept: dict[str, bytes] = {}
    witness = SlotWitness(kept, "-x")
    for slot in (3, 10, 10 + REMEMBERED_SLOTS):
        assert witness.manifest(slot, bytes([slot % 7]) * 32)
    assert sorted(kept) == sorted(["newest-x", f"slot-x-{10 + REMEMBERED_SLOTS}"])
    assert not witness.manifest(3, b"n" * 32)
    assert not witness.manifest(10, b"n" * 32)
    assert witness.manifest(11, b"n" * 32)


def statements(*, lie: int | None = None) -> tuple[dict[int, CanaryStatement], dict[int, tuple[int, int]]]:
    """Three members, all neighbours; with `lie` this one's canary word sent is wrong."""
    pads = {(1, 2): 100, (1, 3): 50, (2, 3): 7}
    said, words = {}, {}
    for index in (1, 2, 3):
        own = {(set(edge) - {index}).pop(): word for edge, word in pads.items() if index in edge}
        signed = sum(word if index < peer else -word for peer, word in own.items())
        words[index] = ((1 + 1000 * index + signed + (index == lie)) % (1 << 64), 1000 * index)
        said[index] = CanaryStatement(
            NET,
            1,
            5,
            index,
            document_hash(MANIFEST),
            1000 * index,
            tuple(sorted(own.items())),
            *words[index],
            bytes([index]) * 32,
            bytes([index + 10]) * 32,
        )
    return said, words


def other_pad(said: CanaryStatement) -> tuple[CanaryStatement, tuple[int, int]]:
    """The third member's lie about its pad with the second, and what it sent so that it fits."""
    made = replace(said, pads=((1, 50), (2, 8)), mask=said.mask + 1, opened=said.opened + 1)
    return made, (made.submitted, made.opened)


def report(words: dict[int, tuple[int, int]], signed: tuple[bytes, ...], **changes: object) -> AuditReport:
    rows = tuple((index, *both) for index, both in sorted(words.items()))
    made = AuditReport(NET, 1, 5, MANIFEST.to_bytes(), rows, signed, to_bitmap((), 3))
    return replace(made, **changes)  # type: ignore[arg-type]


def test_the_other_sides_judgement() -> None:
    said, words = statements()
    assert not judge(words, said, {1, 2, 3}).named
    said, words = statements(lie=2)
    assert judge(words, said, {1, 2, 3}).members == {2}
    said, words = statements()
    other, words[3] = other_pad(said[3])  # fits what it sent
    found = judge(words, said | {3: other}, {1, 2, 3})
    assert (found.members, found.edges) == (frozenset(), {(2, 3)})
    del said[1]
    assert judge(words, said, {1, 2, 3}).silent == {1}
    assert not judge(words, said, {1, 2, 3}, excused={1}).silent
    assert judge(words, said, {2, 3}).members == {2, 3}  # they speak of a pad with somebody not expected


async def test_a_member_that_contradicts_itself_is_excluded_and_kept_so(office: Office) -> None:
    witness = await office.open()
    said, words = statements(lie=2)
    signed = tuple([await office.stated(said[index], index) for index in (1, 2, 3)])
    body = await office.signed(report(words, signed))
    for _ in range(2):
        await witness.faults(NET.hex(), body)
    (event,) = [event for event in office.seen if event["event"] == "probation"]
    assert (event["gateways"], event["edges"], event["excluded"]) == ([GATEWAYS[1]], [], [GATEWAYS[1]])
    kept = json.loads(office.kept[f"faults-{NET.hex()}"])
    counts = {"disputes": 0, "silent": 0, "denied": 0, "contradictions": 1, "proofs": 0}
    about = {"slots": [5], "of": f"audit-{NET.hex()}-5", "excluded": True, "visit": False}
    assert kept == {GATEWAYS[1]: counts | about}
    assert office.witness()._faults.excluded(NET.hex()) == {GATEWAYS[1]}
    with pytest.raises(OrderRefused, match="another audit"):
        await witness.faults(NET.hex(), await office.signed(report(words, signed[:2])))


async def test_the_third_dispute_is_a_visit_and_excludes_nobody(office: Office) -> None:
    witness = await office.open()
    said, words = statements()
    for slot in (5, 6, 7):
        manifest = replace(MANIFEST, slot=slot)
        of_slot = {"slot": slot, "manifest_hash": document_hash(manifest)}
        lie, told = other_pad(said[3])
        made = {1: said[1], 2: said[2], 3: lie}
        signed = [await office.stated(replace(one, **of_slot), index) for index, one in made.items()]
        assert not [event for event in office.seen if event["event"] == "visit"]
        changes = {"slot": slot, "manifest": manifest.to_bytes()}
        await witness.faults(
            NET.hex(), await office.signed(report(words | {3: told}, tuple(signed), **changes))
        )
    assert not witness._faults.excluded(NET.hex())
    assert witness._faults.visits(NET.hex()) == {GATEWAYS[1], GATEWAYS[2]}
    event = next(event for event in office.seen if event["event"] == "probation")
    assert (event["edges"], event["excluded"]) == ([[GATEWAYS[1], GATEWAYS[2]]], [])
    visits = [event for event in office.seen if event["event"] == "visit"]
    assert [(event["gateway"], event["disputes"]) for event in visits] == [(GATEWAYS[1], 3), (GATEWAYS[2], 3)]


async def test_reports_that_an_administrator_does_not_believe(office: Office) -> None:
    witness = await office.open()
    said, words = statements(lie=2)
    signed = tuple([await office.stated(said[index], index) for index in (1, 2, 3)])
    good = report(words, signed)
    for bad, why in (
        (replace(good, net=bytes(8)), "statement"),
        (replace(good, net=bytes(8), statements=()), "net"),
        (replace(good, version=2), "roster"),
        (replace(good, slot=6), "statement"),
        (replace(good, statements=(b"x",)), "form"),
        (replace(good, statements=(await office.stated(said[1], 2),)), "statement"),
        (replace(good, words=((9, 0, 0),), statements=()), "form"),
        (replace(good, excused=b"\xff"), "form"),
        (replace(good, manifest=b"x"), "form"),
        (replace(good, manifest=replace(MANIFEST, slot=6).to_bytes()), "statement"),
        (replace(good, manifest=replace(MANIFEST, slot=6).to_bytes(), statements=()), "manifest"),
        (replace(good, manifest=replace(MANIFEST, accepted=b"\xff").to_bytes(), statements=()), "form"),
        (replace(good, statements=(signed[0], signed[0])), "statement"),
    ):
        with pytest.raises(OrderRefused) as caught:
            await witness.faults(NET.hex(), await office.signed(bad))
        assert caught.value.code == why, bad
    with pytest.raises(OrderRefused, match="not signed by the supplier"):
        await witness.faults(NET.hex(), await office.gwa.sign(good.to_bytes()))
    with pytest.raises(OrderRefused, match="policy"):
        await witness.faults("00" * 8, await office.signed(good))
    assert not [event for event in office.seen if event["event"] == "probation"]


async def test_an_administrators_server_takes_both_questions(office: Office) -> None:
    app = web.Application()
    mount_witness(app, office.folder / "gwa", "gwa", office.seen.append, partners=(), refused_peers=())
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        base = f"http://127.0.0.1:{runner.addresses[0][1]}/dcnet/v1/{NET.hex()}"
        async with ClientSession() as session:
            for what in ("cosign", "faults"):
                async with session.post(f"{base}/{what}", data=b"x") as answer:
                    assert (answer.status, await answer.text()) == (403, "policy")  # nothing was ordered
    finally:
        await runner.cleanup()
    assert [event["what"] for event in office.seen] == ["cosign", "faults"]
