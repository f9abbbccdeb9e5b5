"""A member that opens wrongly and denies it: counted over restarts of both sides; the third is a visit."""

from __future__ import annotations

import json
from collections.abc import MutableMapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC
from typer.testing import CliRunner

from firmware.enforcement.dcnet.messages.documents import document_hash
from firmware.enforcement.dcnet.messages.faults import AuditReport, CanaryStatement
from firmware.enforcement.dcnet.messages.frames import MAC_BYTES, Frame
from firmware.enforcement.dcnet.messages.manifest import Manifest
from tests.support.instant_loop import run
from tests.unit.dcnet.mortal_net import MortalNet
from tests.unit.dcnet.roster_street import cheap_check
from tests.unit.dcnet.running_net import Home, RunningNet
from tests.unit.dcnet.support import NET, signed_by
from tests.unit.dcnet.test_killed_administrator import DyingKept, Killed
from tools.cli.gwa import app
from tools.counterparts.kept_files import KeptFiles
from tools.counterparts.net_blame import FaultKeeper
from tools.counterparts.net_ordered import OrderedNet
from tools.counterparts.server import emit_text

SIZE, LIAR = 8, 4
NAMES = [f"gw{number}" for number in range(1, SIZE + 1)]


@pytest.fixture(autouse=True)
def believe_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.counterparts.net_blame.check_signed", cheap_check)


def opens_wrongly(net: RunningNet, home: Home) -> None:
    """It sends another canary word than its ledger says, under a right MAC, and states the ledger's."""

    def forge(resource: str, body: bytes) -> bytes:
        if "/open/" not in resource:
            return body
        frame = Frame.from_bytes(body[:-MAC_BYTES])
        wrong = replace(frame, lanes=(*frame.lanes[:2], (frame.lanes[2] + 1) % 2**64)).to_bytes()
        now = net.coordinator.slots.now
        assert now is not None
        mac = CMAC(AES(now.terms.mac_keys[LIAR]))
        mac.update(wrong)
        return wrong + mac.finalize()

    home.forge = forge


async def denied(net: RunningNet) -> None:
    opens_wrongly(net, net.homes[LIAR - 1])
    await net.contribute(net.first)
    await net.until(net.first + 1, 59)


def named(net: RunningNet, capsys: pytest.CaptureFixture[str]) -> None:
    """The supplier says who denies what, leaves it out for good, and each administrator has one report."""
    (found,) = {json.dumps(one) for one in net.of("audit")}
    about = json.loads(found)
    assert (about["members"], about["denied"], about["edges"], about["silent"]) == ([LIAR], [LIAR], [], [])
    emit_text(about)
    assert f"denied=[{LIAR}]" in capsys.readouterr().out  # what `smgw emp` prints
    assert net.coordinator.rosters._excluded == {f"gw{LIAR}"}
    for one in net.administrators.values():
        assert len({report.to_bytes() for report in one.reports}) == 1


@pytest.mark.parametrize("place", ["answer to canary", "before faults", "after faults"])
def test_a_supplier_that_is_killed_in_between_names_it_all_the_same(
    place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async def main() -> None:
        async with MortalNet(SIZE, recovery="none", poll_s=2.0) as net:
            net.life.die_at = (place, 5 if place == "answer to canary" else 1)
            await denied(net)
            assert net.deaths == [place]
            named(net, capsys)

    run(main())


@pytest.fixture(scope="module")
def reported() -> tuple[AuditReport, Any, bytes]:
    """A report with a denial, the policy and the roster."""

    async def main() -> tuple[AuditReport, Any, bytes]:
        async with RunningNet(SIZE, recovery="none") as net:
            await denied(net)
            administrator = net.administrators["gwa1"]
            assert administrator.roster is not None
            return administrator.reports[0], net.policy, administrator.roster.to_bytes()

    return run(main())


def later(report: AuditReport, by: int) -> bytes:
    """The same about a later slot, as everybody would have signed it then."""
    manifest = Manifest.from_bytes(report.manifest)
    manifest = replace(manifest, slot=manifest.slot + by)
    about = {"slot": manifest.slot, "manifest_hash": document_hash(manifest)}
    statements = []
    for body in report.statements:
        name, _, content = body.partition(b"|")
        said = replace(CanaryStatement.from_bytes(content), **about)
        statements.append(signed_by(name.decode(), said.to_bytes()))
    made = replace(report, slot=manifest.slot, manifest=manifest.to_bytes(), statements=tuple(statements))
    return signed_by("emp", made.to_bytes())


async def test_three_denials_are_a_visit_though_the_administrator_was_killed_in_each(
    tmp_path: Path, reported: tuple[AuditReport, Any, bytes]
) -> None:
    report, policy, roster = reported
    kept, seen = KeptFiles(tmp_path / "dcnet"), list[Any]()
    kept[f"roster-{NET.hex()}-1"] = roster
    kept[f"names-{NET.hex()}-1"] = json.dumps({"at": 0.0, "gateways": NAMES}).encode()
    show = ["--dir", str(tmp_path), "--faults", NET.hex()]

    def keeper(records: MutableMapping[str, bytes]) -> FaultKeeper:
        ordered, trust = OrderedNet(policy, b"certificate of emp", frozenset(NAMES)), object()
        return FaultKeeper(lambda _net: ordered, trust, records, seen.append)  # type: ignore[arg-type]

    for times in (1, 2, 3):
        body = later(report, times)
        for changes in (0, 1):  # killed before the count is kept, and between it and the report
            with pytest.raises(Killed):
                await keeper(DyingKept(kept, changes)).take(NET.hex(), body)  # type: ignore[arg-type]
        for _ in range(2):  # told again, to a process that knows it
            await keeper(kept).take(NET.hex(), body)
        now = keeper(kept)
        assert now.standing(NET.hex())[f"gw{LIAR}"]["denied"] == times
        assert not now.excluded(NET.hex())  # one of the two lies, and nobody can say who
        assert now.visits(NET.hex()) == (frozenset() if times < 3 else {f"gw{LIAR}"})
        (line,) = CliRunner().invoke(app, show).output.splitlines()
        assert line.split()[:3] == ["probation" if times < 3 else "visit", f"gw{LIAR}", f"denied={times}"]
    denials = [event["denied"] for event in seen if event["event"] == "probation"]
    assert {tuple(one) for one in denials} == {(f"gw{LIAR}",)}
    visits = [event for event in seen if event["event"] == "visit"]
    assert {(event["gateway"], event["denied"]) for event in visits} == {(f"gw{LIAR}", 3)}
    assert len(visits) == 2  # by the process that was killed after it had counted, and by the next one
