"""Whom V-mode names: the administrators see it by what the member has signed, and believe no supplier."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from firmware.enforcement.dcnet.messages.commit import CommitV
from firmware.enforcement.dcnet.messages.faults import WrongProof
from tests.support.instant_loop import run
from tests.unit.dcnet.committing_net import (
    LARGEST_WH,
    LIAR,
    SIZE,
    WRONG_PROOFS,
    lying_commitment,
    same,
    shrunk,
    slot_of,
)
from tests.unit.dcnet.mortal_net import MortalNet
from tests.unit.dcnet.roster_street import cheap_check
from tests.unit.dcnet.support import NET, signed_by
from tools.cli.gwa import app
from tools.counterparts.kept_files import KeptFiles
from tools.counterparts.net_blame import FaultKeeper
from tools.counterparts.net_ordered import OrderedNet
from wan.errors import OrderRefused

NAMES = [f"gw{number}" for number in range(1, SIZE + 1)]
HONEST = 2


@dataclass
class Named:
    """A slot of V-mode with a liar: what was signed in it, and an administrator that has heard nothing."""

    policy: Any
    roster: bytes
    signed: Mapping[int, bytes]
    reports: list[list[WrongProof]]
    slot: int
    excluded: frozenset[str]
    seen: list[Mapping[str, Any]] = field(default_factory=list)
    kept: dict[str, bytes] = field(default_factory=dict)

    def keeper(self, *, kept: Any = None, **changes: object) -> FaultKeeper:
        self.kept = {} if kept is None else kept
        self.kept[f"roster-{NET.hex()}-1"] = self.roster
        self.kept[f"names-{NET.hex()}-1"] = json.dumps({"at": 0.0, "gateways": NAMES}).encode()
        policy = msgspec.structs.replace(self.policy, **changes)
        ordered, trust = OrderedNet(policy, b"certificate of emp", frozenset(NAMES)), object()
        self.seen.clear()
        return FaultKeeper(lambda _net: ordered, trust, self.kept, self.seen.append)  # type: ignore[arg-type]

    def said(self, index: int) -> CommitV:
        return CommitV.from_bytes(self.signed[index].partition(b"|")[2])


def named(how: str) -> Named:
    async def main() -> Named:
        async with shrunk() as net:
            slot = net.first
            net.coordinator.slots.commitments.demand(slot, slots=1)
            lying_commitment(net.homes[LIAR - 1], same, WRONG_PROOFS[how])
            await slot_of(net, slot)
            await slot_of(net, slot + 1)
            roster = net.administrators["gwa1"].roster
            assert roster is not None
            signed = {
                index: home.bodies(f"/commitv/{slot}/")[0] for index, home in enumerate(net.homes, start=1)
            }
            told = [one.proofs for one in net.administrators.values()]
            return Named(net.policy, roster.to_bytes(), signed, told, slot, net.coordinator.rosters._excluded)

    return run(main())


@pytest.fixture(autouse=True)
def believe_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.counterparts.net_blame.check_signed", cheap_check)


@pytest.fixture(scope="module")
def slot() -> Named:
    return named("another value")


async def judge(keeper: FaultKeeper, signed: bytes, net: str = NET.hex()) -> Mapping[str, Any]:
    await keeper.take(net, WrongProof(signed).to_bytes())
    return keeper.standing(NET.hex())


async def test_every_administrator_is_told_what_the_member_has_signed_and_excludes_it(slot: Named) -> None:
    (one,), (other,) = slot.reports
    assert one == other == WrongProof(slot.signed[LIAR])
    assert slot.excluded == {f"gw{LIAR}"}
    keeper = slot.keeper()
    for _ in range(2):  # told again after a restart of the supplier
        standing = await judge(keeper, one.signed)
    assert set(standing) == {f"gw{LIAR}"}
    about = standing[f"gw{LIAR}"]
    assert (about["proofs"], about["contradictions"], about["slots"]) == (1, 0, [slot.slot])
    assert keeper.excluded(NET.hex()) == {f"gw{LIAR}"}
    (event,) = slot.seen
    assert (event["event"], event["proofs"], event["excluded"]) == ("probation", [f"gw{LIAR}"], [f"gw{LIAR}"])
    assert (event["slot"], event["check"]) == (slot.slot, "polynomial")
    # A restart of the administrator: the same.
    again = slot.keeper(kept=slot.kept)
    assert again.excluded(NET.hex()) == {f"gw{LIAR}"}
    await judge(again, one.signed)
    assert again.standing(NET.hex())[f"gw{LIAR}"]["proofs"] == 1


def test_a_proof_that_cannot_be_read_is_the_member_s_fault_as_well() -> None:
    slot = named("truncated")

    async def main() -> None:
        keeper = slot.keeper()
        await judge(keeper, slot.reports[0][0].signed)
        assert keeper.excluded(NET.hex()) == {f"gw{LIAR}"}
        assert slot.seen[0]["check"] == "form"

    run(main())


async def refused(keeper: FaultKeeper, signed: bytes, net: str = NET.hex()) -> str:
    with pytest.raises(OrderRefused) as found:
        await judge(keeper, signed, net)
    assert not keeper.standing(NET.hex())
    return found.value.code


async def test_a_supplier_cannot_frame_a_member_by_its_word(slot: Named) -> None:
    keeper, honest = slot.keeper(), slot.said(HONEST)
    assert await refused(keeper, slot.signed[HONEST]) == "holds"
    for index in set(range(1, SIZE + 1)) - {LIAR}:
        assert await refused(keeper, slot.signed[index]) == "holds"
    other = replace(honest, epoch=honest.epoch + 1).to_bytes()
    # Signed by the supplier, or by another member than whose index it says: nobody's proof.
    assert await refused(keeper, signed_by("emp", other)) == "signer"
    assert await refused(keeper, signed_by(f"gw{LIAR}", other)) == "signer"
    assert await refused(keeper, signed_by(f"gw{HONEST}", b"junk")) == "form"
    # Its proof fails under a roster or a policy that it was not made for: those are not believed either.
    assert await refused(keeper, signed_by(f"gw{HONEST}", replace(honest, version=2).to_bytes())) == "roster"
    foreign = replace(honest, net=bytes(8)).to_bytes()
    assert await refused(keeper, signed_by(f"gw{HONEST}", foreign)) == "net"
    assert await refused(slot.keeper(max_wh=LARGEST_WH - 1), slot.signed[HONEST]) == "policy"
    assert await refused(slot.keeper(max_wh=LARGEST_WH - 1), slot.signed[LIAR]) == "policy"


async def test_a_member_that_convicts_itself_for_ever_fills_no_disk(
    slot: Named, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools.counterparts.net_blame.MOST_PROOFS", 3)
    keeper, wrong = slot.keeper(), slot.said(LIAR)
    for later in range(5):
        body = replace(wrong, slot=wrong.slot + later).to_bytes()
        standing = await judge(keeper, signed_by(f"gw{LIAR}", body))
    assert standing[f"gw{LIAR}"]["proofs"] == 3
    assert len([name for name in slot.kept if name.startswith("proof-")]) == 3


async def test_without_libsodium_nothing_is_believed_and_the_refusal_says_what_to_install(
    slot: Named, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("firmware.enforcement.dcnet.primitives.verifiable", raising=False)
    monkeypatch.setitem(sys.modules, "firmware.enforcement.dcnet.primitives.verifiable", None)
    assert await refused(slot.keeper(), slot.signed[LIAR]) == "vmode"


async def test_smgw_gwa_shows_whom_v_mode_named(slot: Named, tmp_path: Path) -> None:
    keeper = slot.keeper(kept=KeptFiles(tmp_path / "dcnet"))
    await judge(keeper, slot.signed[LIAR])
    show = ["--dir", str(tmp_path), "--faults", NET.hex()]
    (line,) = CliRunner().invoke(app, show).output.splitlines()
    assert line.split() == ["excluded", f"gw{LIAR}", "proofs=1", f"slots=[{slot.slot}]"]
    (told,) = CliRunner().invoke(app, [*show, "--jsonl"]).output.splitlines()
    assert json.loads(told)["proofs"] == 1


def test_a_supplier_that_is_killed_after_it_has_named_one_tells_it_all_the_same() -> None:
    async def main() -> None:
        async with MortalNet(SIZE, recovery="none", poll_s=2.0, v_slots=2, max_wh=LARGEST_WH) as net:
            slot = net.first
            net.coordinator.slots.commitments.demand(slot, slots=1)
            await net.coordinator._journal.sync()
            for home in net.homes[1:]:
                home.delay_s = lambda resource: 3 if "/orderv/" in resource else 0.01
            lying_commitment(net.homes[0], same, WRONG_PROOFS["truncated"])
            await net.until(slot, 0)
            net.life.die_at = ("answer to commitv", 1)
            for home in net.homes:
                await home.member.contribute(slot, 5)  # type: ignore[union-attr]
            await net.until(slot, 59)
            assert net.deaths == ["answer to commitv"]
            await net.until(slot + 1, 30)
            for one in net.administrators.values():
                assert {report.signed.partition(b"|")[0] for report in one.proofs} == {b"gw1"}
            assert "gw1" in net.coordinator.rosters._excluded

    run(main())
