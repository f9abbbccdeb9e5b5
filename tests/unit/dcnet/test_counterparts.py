"""The supplier's tally and resources, the administrator's witness: each check has a test that breaks it."""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web

from firmware.enforcement.dcnet.founding.authorisation import GraphPublication, PeerAuthorisation
from firmware.enforcement.dcnet.founding.beacon import BeaconCommit, BeaconReveal
from firmware.enforcement.dcnet.machines import SlotState
from firmware.enforcement.dcnet.messages.documents import document_hash, from_bitmap
from firmware.enforcement.dcnet.messages.frames import Frame, FrameType, seal
from firmware.enforcement.dcnet.messages.manifest import Verdict
from firmware.enforcement.dcnet.messages.roster import (
    Administrator,
    Attestation,
    KeyBundle,
    KeyExchange,
    Roster,
    RosterDraft,
    RosterEntry,
    SignedBundle,
)
from firmware.enforcement.dcnet.slot.round import Round
from hsm.api import CertificateUse, Curve, KeySlot
from hsm.x509 import Certificate
from tests.support.instant_loop import run
from tests.support.soft_module import SoftModule
from tests.unit.dcnet.hostile_net import WholeNet
from tests.unit.dcnet.support import NET, head, policy, rules, view
from tests.unit.dcnet.whole_founding import Direct
from tools.counterparts.messages import MessageRefused
from tools.counterparts.net import NetCoordinator
from tools.counterparts.net_founding import Founding, FoundingRefused
from tools.counterparts.net_keys import CmsKeys
from tools.counterparts.net_ordered import OrderedNet
from tools.counterparts.net_tally import Taken, Tally, Terms
from tools.counterparts.net_witness import MOST_DRAFTS, NetWitness
from tools.counterparts.pki import issue_gateway, make_pki
from wan.cms import signed as cms
from wan.errors import OrderRefused
from wan.pki.enrol import make_triple

KEYS = {index: bytes([index]) * 16 for index in range(1, 5)}
LIMITS = (200_000, 200_000, 1)


class Slot:
    """Four members and a tally of slot 0."""

    def __init__(self, readings: dict[int, tuple[int, int, int]] | None = None) -> None:
        chosen = readings or {index: (index * 10, 0, 1) for index in KEYS}
        self.rounds = {index: Round(view(index, 4), head(4)) for index in KEYS}
        self.frames = {i: seal(r.submit(chosen[i], bytes([i]) * 16), KEYS[i]) for i, r in self.rounds.items()}
        terms = Terms(NET, 1, 4, 3, KEYS, shares=1)
        self.tally = Tally(terms, 0, 20_000, head(4).hash, frozenset(KEYS))

    def openings(self) -> dict[int, bytes]:
        manifest = self.tally.manifest or self.tally.close(None)
        opened = {}
        for index in self.tally.accepted:
            assert self.rounds[index].consider(manifest, self.tally.siblings(index)) is SlotState.ACCEPTED
            opened[index] = seal(self.rounds[index].open(), KEYS[index])
        return opened


def test_a_slot_with_one_missing_is_summed() -> None:
    slot = Slot()
    for index in (1, 2, 4):
        assert slot.tally.submit(index, slot.frames[index])[0] is Taken.NEW
    for index, frame in slot.openings().items():
        assert not slot.tally.complete
        assert slot.tally.open(index, frame) is Taken.NEW
        assert slot.tally.open(index, frame) is Taken.KNOWN
    result = slot.tally.result(LIMITS, 2)
    assert (result.verdict, result.totals) == (Verdict.TOTALLED, (70, 0, 3))


def test_frames_are_taken_once_in_time_and_from_their_member_only() -> None:
    slot = Slot()
    tally, frame = slot.tally, slot.frames[1]
    for wrong in (b"", frame[:-1], frame[:-1] + bytes([frame[-1] ^ 1]), slot.frames[2]):
        assert tally.submit(1, wrong)[0] is Taken.REFUSED
    body = Frame.from_bytes(frame[:-16])
    for changes in (
        {"slot": 1},
        {"net": bytes(8)},
        {"index": 2},
        {"version": 2},
        {"epoch": 1},
        {"reference": bytes(32)},
        {"lanes": (1, 2)},
        {"shares": ((2, bytes(16)), (3, bytes(16)))},  # one more than anybody may deal
        {"type": FrameType.OPEN},
    ):
        forged = seal(replace(body, **changes).to_bytes(), KEYS[1])  # type: ignore[arg-type]
        assert tally.submit(1, forged)[0] is Taken.REFUSED, changes
    assert tally.submit(1, frame)[0] is Taken.NEW
    assert tally.submit(1, frame)[0] is Taken.KNOWN
    other = seal(replace(body, lanes=(1, 2, 3)).to_bytes(), KEYS[1])
    assert tally.submit(1, other)[0] is Taken.CONFLICT
    assert tally.submit(9, frame)[0] is Taken.REFUSED
    assert tally.open(1, frame) is Taken.REFUSED  # before the manifest
    manifest = tally.close(None)
    assert tally.submit(2, slot.frames[2])[0] is Taken.LATE
    assert from_bitmap(manifest.accepted, 4) == {1}
    assert tally.open(1, frame) is Taken.REFUSED
    opening = Frame(FrameType.OPEN, 0, NET, 2, 1, 20_000, document_hash(manifest), (1, 2, 3))
    assert tally.open(2, seal(opening.to_bytes(), KEYS[2])) is Taken.REFUSED  # not accepted
    mine = replace(opening, index=1)
    assert tally.open(1, seal(mine.to_bytes(), KEYS[1])) is Taken.NEW
    again = replace(mine, lanes=(1, 2, 4))
    assert tally.open(1, seal(again.to_bytes(), KEYS[1])) is Taken.CONFLICT


def test_who_was_not_expected_may_only_say_hello() -> None:
    slot = Slot()
    tally = Tally(Terms(NET, 1, 4, 3, KEYS), 0, 20_000, head(4).hash, frozenset({2, 3, 4}))
    assert tally.submit(1, slot.frames[1])[0] is Taken.REFUSED
    assert tally.submit(1, seal(Round(view(1, 4), head(4)).hello(), KEYS[1]))[0] is Taken.NEW
    assert from_bitmap(tally.close(None).hello, 4) == {1}
    assert tally.result(LIMITS, 2).verdict is Verdict.ABORTED


@pytest.mark.parametrize(
    "readings",
    [
        {1: (10, 0, 2), 2: (10, 0, 1), 3: (10, 0, 1), 4: (10, 0, 1)},  # the canary
        {1: (10**6, 0, 1), 2: (10, 0, 1), 3: (10, 0, 1), 4: (10, 0, 1)},  # more than all together may have
    ],
)
def test_an_impossible_sum_is_aborted(readings: dict[int, tuple[int, int, int]]) -> None:
    slot = Slot(readings)
    for index, frame in slot.frames.items():
        slot.tally.submit(index, frame)
    for index, frame in slot.openings().items():
        slot.tally.open(index, frame)
    assert slot.tally.result(LIMITS, 2).verdict is Verdict.ABORTED


def test_a_missing_opening_aborts_the_slot() -> None:
    slot = Slot()
    for index, frame in slot.frames.items():
        slot.tally.submit(index, frame)
    opened = slot.openings()
    for index in (1, 2, 3):
        slot.tally.open(index, opened[index])
    result = slot.tally.result(LIMITS, 2)
    assert (result.verdict, result.totals) == (Verdict.ABORTED, None)


# -- the administrator ---------------------------------------------------------------------------------

GATEWAYS = [f"esgw010000000{number}" for number in range(1, 5)]


def nonce(index: int, version: int = 1) -> BeaconReveal:
    return BeaconReveal(NET, version, bytes([index]) * 32)


class Draft:
    """A roster draft with real signatures, and the witness that judges it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.emp, self.gwa = CmsKeys(folder / "emp"), CmsKeys(folder / "gwa")
        self.events: list[Any] = []
        self.ordered = OrderedNet(
            policy(),
            Certificate.from_pem((folder / "emp/sig.pem").read_bytes()).der,
            frozenset(GATEWAYS),
        )
        self.bundles: list[SignedBundle] = []
        self.entries: list[RosterEntry] = []
        self.kept: dict[str, bytes] = {}
        self.restart()

    def restart(
        self, *, partners: frozenset[str] = frozenset(), refused_peers: frozenset[str] = frozenset()
    ) -> None:
        self.witness = NetWitness(
            "gwa",
            self.gwa.certificate,
            self._order,
            self.gwa.trust,
            self.gwa.sign,
            self.events.append,
            kept=self.kept,
            partners=partners,
            refused_peers=refused_peers,
        )

    def _order(self, net: str) -> OrderedNet | None:
        return self.ordered if net == NET.hex() else None

    async def fill(self) -> Draft:
        for index, gateway in enumerate(GATEWAYS, 1):
            module = SoftModule()
            issued = issue_gateway(self.folder, gateway, await make_triple(module, gateway))
            certificate = Certificate.from_pem(issued[CertificateUse.SIG].encode())
            point = (await module.generate_key_pair(KeySlot.DCNET_1, Curve.BRAINPOOL_P256)).point
            bundle = KeyBundle(
                NET,
                1,
                bytes([index]) * 16,
                KeyExchange.ECKA,
                point,
                nonce(index).commitment,
                certificate.fingerprint,
            )
            signed = await cms.sign(
                bundle.to_bytes(), module=module, slot=KeySlot.WAN_SIG, certificate=certificate
            )
            self.bundles.append(SignedBundle(certificate.der, signed))
            self.entries.append(
                RosterEntry(index, bundle.pseudonym, certificate.fingerprint, "gwa", document_hash(bundle))
            )
        attested = Attestation.from_bytes(await self.witness.commit(NET.hex(), 1))
        commit = BeaconCommit.from_bytes(await self.emp.open_attestation(attested))
        name = hashlib.sha256(attested.certificate).digest()
        self.vouching = Administrator("gwa", name, commit.commitment)
        return self

    def roster(self, **changes: Any) -> Roster:
        made = Roster(
            NET,
            1,
            bytes(32),
            rules().policy_hash(),
            rules().schema_hash(),
            20_000,
            nonce(99).commitment,
            (self.vouching,),
            tuple(self.entries),
        )
        return replace(made, **changes)

    async def ask(self, roster: Roster | None = None, bundles: list[SignedBundle] | None = None) -> bytes:
        content = (roster if roster is not None else self.roster()).to_bytes()
        draft = RosterDraft(
            await self.emp.sign(content), tuple(bundles if bundles is not None else self.bundles)
        )
        return await self.witness.countersign(NET.hex(), draft.to_bytes())

    async def refused(self, roster: Roster | None = None, bundles: list[SignedBundle] | None = None) -> str:
        with pytest.raises(OrderRefused) as caught:
            await self.ask(roster, bundles)
        return caught.value.code


async def test_the_witness_signs_its_own_and_nothing_else(tmp_path: Path) -> None:
    make_pki(tmp_path / "pki")
    draft = await Draft(tmp_path / "pki").fill()
    entries = draft.roster().entries
    assert await draft.refused(draft.roster(policy_hash=bytes(32))) == "policy"
    assert await draft.refused(draft.roster(net=bytes(8))) == "policy"
    assert await draft.refused(draft.roster(entries=entries[:2]), draft.bundles[:2]) == "size"
    assert await draft.refused(None, draft.bundles[:3]) == "size"
    assert await draft.refused(None, [*draft.bundles[:3], draft.bundles[0]]) == "twice"
    assert await draft.refused(None, [draft.bundles[1], draft.bundles[0], *draft.bundles[2:]]) == "bundle"
    another = replace(draft.vouching, name="another")
    strange = {
        "entries": (replace(entries[0], administrator="another"), *entries[1:]),
        "administrators": (another, draft.vouching),
    }
    assert await draft.refused(draft.roster(**strange)) == "gateway"
    own = draft.ordered
    draft.ordered = replace(own, gateways=frozenset(GATEWAYS[1:]))
    assert await draft.refused(draft.roster(**strange)) == "partner"
    draft.ordered = own
    for forged_part in ({"commitment": bytes(32)}, {"certificate_hash": bytes(32)}):
        altered = draft.roster(administrators=(replace(draft.vouching, **forged_part),))
        assert await draft.refused(altered) == "commitment"
    for question in (draft.witness.reveal, draft.witness.authorise):
        with pytest.raises(OrderRefused, match="roster"):
            await question(NET.hex(), 1)
    with pytest.raises(OrderRefused, match="version"):
        await draft.witness.commit(NET.hex(), 2 + MOST_DRAFTS)
    with pytest.raises(OrderRefused, match="policy"):
        await draft.witness.commit("00" * 8, 1)
    forged = SignedBundle(draft.bundles[0].certificate, draft.bundles[1].signed)
    assert await draft.refused(None, [forged, *draft.bundles[1:]]) == "form"
    with pytest.raises(MessageRefused):
        await draft.emp.open_bundle(forged)
    with pytest.raises(OrderRefused, match="form"):
        await draft.witness.countersign(NET.hex(), b"junk")
    with pytest.raises(OrderRefused, match="policy"):
        await draft.witness.countersign("00" * 8, b"junk")
    whole, draft.ordered = draft.ordered, replace(draft.ordered, gateways=frozenset(GATEWAYS[1:]))
    assert await draft.refused() == "gateway"
    draft.ordered = replace(whole, emp_certificate=b"another")
    assert await draft.refused() == "signer"
    draft.ordered = replace(whole, policy=policy(n_min=4))
    assert await draft.refused() == "policy"
    draft.ordered = whole
    signed = await draft.ask()
    assert await draft.emp.open_attestation(Attestation.from_bytes(signed)) == draft.roster().to_bytes()
    draft.restart()  # what it has promised outlives it
    assert await draft.refused(draft.roster(first_epoch=20_001)) == "version"  # one roster per version
    assert draft.events[-2] == {"event": "countersigned", "net": NET.hex()}
    reveal = BeaconReveal.from_bytes(await draft.witness.reveal(NET.hex(), 1))
    assert reveal.commitment == draft.vouching.commitment
    given = Attestation.from_bytes(await draft.witness.authorise(NET.hex(), 1))
    authorised = PeerAuthorisation.from_bytes(await draft.emp.open_attestation(given))
    assert authorised.roster_hash == document_hash(draft.roster())
    assert authorised.peers == tuple((e.index, e.certificate_hash) for e in entries)
    draft.restart(refused_peers=frozenset(GATEWAYS))  # too late for this roster: one authorisation for each
    await draft.ask()
    again = Attestation.from_bytes(await draft.witness.authorise(NET.hex(), 1))
    assert PeerAuthorisation.from_bytes(await draft.emp.open_attestation(again)) == authorised
    assert await draft.witness.commit(NET.hex(), 2)
    with pytest.raises(OrderRefused, match="roster"):
        await draft.witness.reveal(NET.hex(), 2)


async def test_gateways_of_a_known_partner_may_be_in_the_roster(tmp_path: Path) -> None:
    make_pki(tmp_path / "pki")
    draft = await Draft(tmp_path / "pki").fill()
    draft.ordered = replace(draft.ordered, gateways=frozenset(GATEWAYS[1:]))
    draft.restart(partners=frozenset({"another"}))
    entries = draft.roster().entries
    shared = draft.roster(
        entries=(replace(entries[0], administrator="another"), *entries[1:]),
        administrators=(replace(draft.vouching, name="another"), draft.vouching),
    )
    assert await draft.ask(shared)
    forged = Attestation(draft.emp.certificate, await draft.emp.sign(b"x"))
    with pytest.raises(MessageRefused, match="administrator"):
        await draft.emp.open_attestation(forged)


async def test_resources_are_their_owners_and_junk_is_refused(tmp_path: Path) -> None:
    make_pki(tmp_path / "pki")
    draft = await Draft(tmp_path / "pki").fill()

    coordinator = NetCoordinator(
        policy(),
        GATEWAYS,
        draft.emp,
        draft.events.append,
        administrators={"gwa": Direct(draft.witness)},
        identity=lambda request: request.headers["X-Gateway"],
    )
    app = web.Application()
    app.add_routes(coordinator.routes())
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    base = f"http://127.0.0.1:{runner.addresses[0][1]}/dcnet/v1/{NET.hex()}"
    good = draft.bundles[0].to_bytes()
    try:
        async with ClientSession() as session:
            for gateway, method, resource, body, status in (
                (GATEWAYS[0], "PUT", f"bundle/1/{GATEWAYS[1]}", good, 403),
                (GATEWAYS[0], "PUT", f"bundle/2/{GATEWAYS[0]}", good, 403),
                (GATEWAYS[1], "PUT", f"bundle/1/{GATEWAYS[1]}", good, 400),  # signed by another gateway
                (GATEWAYS[0], "PUT", f"bundle/1/{GATEWAYS[0]}", b"junk", 400),
                (GATEWAYS[0], "PUT", f"bundle/1/{GATEWAYS[0]}", bytes(70_000), 413),
                (GATEWAYS[0], "PUT", f"bundle/1/{GATEWAYS[0]}", good, 201),
                (GATEWAYS[0], "PUT", f"bundle/1/{GATEWAYS[0]}", good, 200),
                ("esgw0199999999", "GET", "roster/1", b"", 403),
                (GATEWAYS[0], "GET", "roster/1", b"", 404),
                (GATEWAYS[0], "GET", "graph/1", b"", 404),
                (GATEWAYS[0], "PUT", f"reveal/1/{GATEWAYS[0]}", nonce(1).to_bytes(), 425),  # no roster yet
                (GATEWAYS[0], "PUT", f"reveal/1/{GATEWAYS[1]}", nonce(2).to_bytes(), 403),
                (GATEWAYS[0], "GET", "manifest/3/1", b"", 404),
                (GATEWAYS[0], "GET", "manifest/3/2", b"", 404),  # nobody has an index yet
                ("esgw0199999999", "GET", "manifest/3/1", b"", 403),
                (GATEWAYS[0], "GET", f"result/{'9' * 5000}", b"", 404),
                (GATEWAYS[0], "GET", "manifest/epoch/1", b"", 404),
                (GATEWAYS[0], "PUT", "submit/3/2", b"x", 404),
                ("esgw0199999999", "PUT", "submit/3/1", b"x", 403),
                ("esgw0199999999", "PUT", "open/3/1", b"x", 403),
                (GATEWAYS[0], "PUT", "submit/3/1", b"x", 404),  # no slot yet
                (GATEWAYS[0], "PUT", "open/3/1", b"x", 404),
            ):
                headers = {"X-Gateway": gateway}
                async with session.request(method, f"{base}/{resource}", data=body, headers=headers) as reply:
                    assert reply.status == status, (method, resource[:40])
    finally:
        await runner.cleanup()


async def test_a_net_is_founded_step_by_step(tmp_path: Path) -> None:
    make_pki(tmp_path / "pki")
    draft = await Draft(tmp_path / "pki").fill()
    draft.restart(refused_peers=frozenset({GATEWAYS[2]}))
    founding = Founding(
        rules(),
        dict.fromkeys(GATEWAYS, "gwa"),
        draft.emp,
        draft.events.append,
        administrators={"gwa": Direct(draft.witness)},
        now_utc=lambda: rules().t0_utc,
        version=1,
    )
    task = asyncio.ensure_future(founding.found())
    for gateway, bundle in zip(GATEWAYS, draft.bundles, strict=True):
        assert await founding.reveal(gateway, nonce(1).to_bytes()) == 425
        assert await founding.bundle(gateway, bundle.to_bytes()) == 201
    founding.settle(GATEWAYS)
    async with asyncio.timeout(20):
        while founding.publication is None:  # noqa: ASYNC110 - what is seen is no event
            await asyncio.sleep(0.01)
        for index, gateway in enumerate(GATEWAYS, 1):
            assert founding.graph is None
            for wrong in (b"junk", nonce(index + 1).to_bytes(), nonce(index, version=2).to_bytes()):
                with pytest.raises(FoundingRefused):
                    await founding.reveal(gateway, wrong)
            assert await founding.reveal(gateway, nonce(index).to_bytes()) == 201
        roster, terms = await task
    assert terms.size == 4
    assert founding.graph is not None
    assert GraphPublication.from_bytes(founding.graph).nonces.members == tuple(
        nonce(i).nonce for i in range(1, 5)
    )
    assert draft.events[-1] == {"event": "beacon", "edges": 3, "net": NET.hex(), "version": 1}
    assert roster.administrators == (draft.vouching,)


async def test_an_administrator_that_answers_junk_is_asked_again(tmp_path: Path) -> None:
    make_pki(tmp_path / "pki")
    draft = await Draft(tmp_path / "pki").fill()

    class Faulty(Direct):
        """First away, then junk, then right."""

        def __init__(self) -> None:
            super().__init__(draft.witness)
            self.asked = 0

        async def commit(self, version: int) -> bytes:
            self.asked += 1
            if self.asked == 1:
                raise OSError("away")
            return b"junk" if self.asked == 2 else await super().commit(version)

    founding = Founding(
        rules(),
        dict.fromkeys(GATEWAYS, "gwa"),
        draft.emp,
        draft.events.append,
        administrators={"gwa": Faulty()},
        now_utc=lambda: rules().t0_utc,
        version=1,
    )
    task = asyncio.ensure_future(founding.found())
    for gateway, bundle in zip(GATEWAYS, draft.bundles, strict=True):
        assert await founding.bundle(gateway, bundle.to_bytes()) == 201
    founding.settle(GATEWAYS)
    async with asyncio.timeout(20):
        while founding.publication is None:  # noqa: ASYNC110 - what is seen is no event
            await asyncio.sleep(0.01)
    task.cancel()
    refused = [event["what"] for event in draft.events if event["event"] == "refused"]
    assert refused == ["commit", "commit"]


def test_once_a_roster_is_played_every_resource_is_its_members() -> None:
    net = WholeNet(4)

    async def asked() -> list[tuple[str, str, int]]:
        async with net:
            await net.until(2)
            base, found = f"/dcnet/v1/{net.rules.net.hex()}", []
            for what in ("GET manifest/2", "PUT submit/2", "PUT open/2", "GET receipt/2", "GET order/2"):
                for gateway in ("gw1", "gw2", "stranger"):
                    method, resource = what.split()
                    status = (await net.serve(gateway, method, f"{base}/{resource}/1", b"x")).status
                    found.append((what, gateway, status))
        return found

    for what, gateway, status in run(asked()):
        assert (status == 403) is (gateway != "gw1"), (what, gateway, status)


async def test_who_was_excluded_by_an_audit_is_in_no_further_roster(tmp_path: Path) -> None:
    make_pki(tmp_path / "pki")
    draft = await Draft(tmp_path / "pki").fill()
    standing = {GATEWAYS[0]: {"excluded": True}, GATEWAYS[1]: {"excluded": False}}
    draft.kept[f"faults-{NET.hex()}"] = json.dumps(standing).encode()
    assert await draft.refused() == "excluded"
    draft.kept[f"faults-{NET.hex()}"] = json.dumps({GATEWAYS[1]: {"excluded": False}}).encode()
    assert await draft.ask()
