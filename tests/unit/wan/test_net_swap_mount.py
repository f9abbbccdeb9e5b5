"""Swaps between nets as the servers and the command line have them: real signatures, over TLS."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from firmware.enforcement.dcnet.founding.authorisation import GraphPublication
from firmware.enforcement.dcnet.founding.beacon import BeaconReveal, Nonces
from firmware.enforcement.dcnet.messages.documents import document_hash
from firmware.enforcement.dcnet.messages.roster import Administrator as RosterAdministrator
from firmware.enforcement.dcnet.messages.roster import (
    Attestation,
    KeyBundle,
    KeyExchange,
    Roster,
    RosterEntry,
    RosterPublication,
)
from firmware.enforcement.dcnet.policy import NetRules
from firmware.profile.model import NetPolicy
from tests.unit.firmware.profile_set import group_total, household, peer, series
from tests.unit.wan.conftest import Pki
from tests.unit.wan.doubles import Events
from tools.cli.gwa import app as gwa_app
from tools.counterparts import net_mount
from tools.counterparts.emp import Supplier
from tools.counterparts.gwa import Administrator, place_order
from tools.counterparts.kept_files import KeptFiles
from tools.counterparts.net_journal import JournalDamaged
from tools.counterparts.net_keys import CmsKeys
from tools.counterparts.net_succession import keep_names
from tools.counterparts.net_swapping import SwapNet, Swapper
from tools.counterparts.net_versions import PendingChange, PlannedSwap
from tools.counterparts.pki import GWA_SERVER_NAME
from tools.counterparts.spool import profiles_ordered
from wan.errors import OrderRefused, UnexpectedReply

NETS = ("00112233445566aa", "00112233445566bb")
HOMES = {
    net: [f"esgw01000000{first + number:02d}" for number in range(8)]
    for net, first in zip(NETS, (10, 20), strict=True)
}


@pytest.fixture
def folder(pki: Pki, tmp_path: Path) -> Path:
    for party in ("emp", "gwa"):
        shutil.copytree(pki.folder / party, tmp_path / party)
    return tmp_path


def policy(net: str) -> NetPolicy:
    return NetPolicy(
        net_id=net,
        slot_s=900,
        t0_utc=datetime(2020, 1, 1, tzinfo=UTC),
        n_min=6,
        d_min=4,
        insecure_small_nets=True,
    )


def order(folder: Path, net: str) -> dict[str, Any]:
    """A home's profiles in a net of our supplier."""
    end = "-----END CERTIFICATE-----\n"
    certificates = {
        f"{use}_certificate": (folder / "emp" / f"{use}.pem").read_text(encoding="ascii").split(end)[0] + end
        for use in ("tls", "sig", "enc")
    }
    profiles = household(
        processing=(series(valid_from=policy(net).t0_utc),),
        communication=(group_total(net=policy(net), peer=peer(**certificates)),),
    )
    document: dict[str, Any] = msgspec.to_builtins(profiles)
    return document


class FoundedNet:
    """A net whose roster is in force: what is left of its founding, by real signatures."""

    def __init__(self, net: str) -> None:
        self.net, self.names, self.rules = net, HOMES[net], NetRules.from_profile(policy(net))
        self.nonces = [
            hashlib.sha256(f"{net}{name}".encode()).digest() for name in ("emp", "gwa", *self.names)
        ]

    def _commitment(self, nonce: bytes) -> bytes:
        return BeaconReveal(self.rules.net, 1, nonce).commitment

    async def _synced(self) -> None:
        """Nothing of it outlives the process."""

    async def found(self, folder: Path) -> None:
        emp, gwa = CmsKeys(folder / "emp"), CmsKeys(folder / "gwa")
        hashes = [hashlib.sha256(name.encode()).digest() for name in self.names]
        bundles = [
            KeyBundle(
                self.rules.net,
                1,
                bytes([number]) * 16,
                KeyExchange.ECKA,
                b"\4" + bytes(64),
                self._commitment(nonce),
                certificate,
            )
            for number, (nonce, certificate) in enumerate(zip(self.nonces[2:], hashes, strict=True))
        ]
        entries = tuple(
            RosterEntry(number, bundle.pseudonym, bundle.certificate_hash, "gwa", document_hash(bundle))
            for number, bundle in enumerate(bundles, 1)
        )
        office = RosterAdministrator(
            "gwa", hashlib.sha256(gwa.certificate).digest(), self._commitment(self.nonces[1])
        )
        self.roster = Roster(
            self.rules.net,
            1,
            bytes(32),
            self.rules.policy_hash(),
            self.rules.schema_hash(),
            20_000,
            self._commitment(self.nonces[0]),
            (office,),
            entries,
        )
        content = self.roster.to_bytes()
        countersigned = (Attestation(gwa.certificate, await gwa.sign(content)),)
        nonces = Nonces(self.rules.net, 1, self.nonces[0], (self.nonces[1],), tuple(self.nonces[2:]))
        founding = SimpleNamespace(
            publication=RosterPublication(await emp.sign(content), countersigned, ()).to_bytes(),
            graph=GraphPublication(nonces, ()).to_bytes(),
            bundles=tuple(bundle.to_bytes() for bundle in bundles),
        )
        kept = KeptFiles(folder / "gwa" / "dcnet")
        kept[f"roster-{self.net}-1"], kept[f"given-{self.net}-1"] = content, b"\1"
        keep_names(kept, self.net, self.roster, self.names, datetime.now(UTC))
        self.moved_in: dict[str, str] = {}
        self.rosters = SimpleNamespace(
            in_force=SimpleNamespace(founding=founding, roster=self.roster, members=tuple(self.names)),
            gathering=True,
            open=SimpleNamespace(offered=frozenset()),
            swap=None,
            plan=lambda swap: setattr(self.rosters, "swap", swap),
            synced=self._synced,
            drafted=False,
            lone=False,
            change=PendingChange(frozenset(), frozenset()),
            next_epoch=lambda: self.rules.epoch_of(self.rules.slot_at(datetime.now(UTC))) + 1,
            listed=frozenset(self.names),
            move_in=self.moved_in.update,
        )


async def test_a_swap_is_asked_for_agreed_to_and_ordered(folder: Path) -> None:
    gwa, events, told = folder / "gwa", Events(), Events()
    for net in NETS:
        for name in HOMES[net]:
            place_order(gwa, name, "profiles", order(folder, net))
    one, two = nets = [FoundedNet(net) for net in NETS]
    for each in nets:
        await each.found(folder)
    listening = await Administrator(gwa, told).start()
    settings = [
        net_mount.NetSettings(
            policy=policy(each.net),
            members=each.names,
            gwa=f"127.0.0.1:{listening.port}",
            gwa_server_name=GWA_SERVER_NAME,
        )
        for each in nets
    ]
    ways = [net_mount._administrators(folder / "emp", each) for each in settings]
    swap_nets: Any = [
        SwapNet(each.rules, each.rosters, way)  # type: ignore[arg-type]  # as much of it as is used
        for each, way in zip(nets, ways, strict=True)
    ]
    kept: dict[str, bytes] = {}
    swapper = Swapper(
        swap_nets, CmsKeys(folder / "emp"), events, now_utc=lambda: datetime.now(UTC), kept=kept
    )
    await swapper.look()
    assert not events  # nothing waits
    one.rosters.lone, one.rosters.change = True, PendingChange(frozenset({one.names[0]}), frozenset())
    await swapper.look()
    (proposed,) = events.named("swap-proposed")
    (asked,) = told.named("swap-asked")
    assert asked["proposal"] == proposed["proposal"]
    await swapper.look()
    assert len(told.named("swap-asked")) == len(events.named("swap-asked")) == 1
    run, words = CliRunner().invoke, ["--dir", str(gwa)]
    listed = await asyncio.to_thread(run, gwa_app, [*words, "--swaps"])
    assert asked["proposal"] in listed.stdout
    assert "waits for a word" in listed.stdout
    wrong = await asyncio.to_thread(run, gwa_app, [*words, "--agree-swap", "0" * 16])
    assert (wrong.exit_code, "unknown" in wrong.stderr) == (2, True)
    done = await asyncio.to_thread(run, gwa_app, [*words, "--agree-swap", asked["proposal"], "--jsonl"])
    assert json.loads(done.stdout)["answer"] == "agree"
    await swapper.look()
    assert events.named("swap-agreed")
    (ordered,) = told.named("swap-ordered")
    epoch = proposed["first_epoch"]
    boundary = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=epoch)
    for each, other in ((one, two), (two, one)):
        out = set(proposed["leave"][each.net])
        assert len(out) == 2
        assert out <= set(each.names) - {one.names[0]}
        assert {home for home, to in ordered["gateways"].items() if to == other.net} == out
        for home in out:
            active = profiles_ordered(gwa, home).active
            spans = {
                profile.net.net_id: (processing.valid_from, processing.valid_until)
                for profile in active.communication
                if profile.net is not None and (processing := active.processing_of(profile)) is not None
            }
            assert spans == {each.net: (policy(each.net).t0_utc, boundary), other.net: (boundary, None)}
        assert each.rosters.swap == PlannedSwap(
            epoch, frozenset(out), frozenset(proposed["leave"][other.net])
        )
        assert other.moved_in == dict.fromkeys(out, "gwa")
        assert json.loads(kept[f"moved-{other.net}"]) == dict.fromkeys(out, "gwa")
    await listening.close()
    assert not [*told.named("refused"), *told.named("failed")]


async def test_refusals_have_their_codes_on_the_wire(folder: Path) -> None:
    gwa = folder / "gwa"
    with (gwa / "gwa.toml").open("a", encoding="utf-8") as file:
        file.write('[swaps]\nanswer = "agree"\nrest_s = 86400\n')
    listening = await Administrator(gwa, Events()).start()
    net = net_mount.NetSettings(
        policy=policy(NETS[0]),
        members=HOMES[NETS[0]],
        gwa=f"127.0.0.1:{listening.port}",
        gwa_server_name=GWA_SERVER_NAME,
    )
    asked = net_mount._administrators(folder / "emp", net)["gwa"]
    for name in HOMES[NETS[0]]:
        place_order(gwa, name, "profiles", order(folder, NETS[0]))
    now = net_mount.NetRules.from_profile(net.policy)
    epoch = now.epoch_of(now.slot_at(datetime.now(UTC)))
    for question, code in (
        (asked.swap(b"junk"), "form"),
        (asked.swap_orders(b"junk"), "form"),
        (asked.swap_offer(NETS[1], epoch + 2), "roster"),
        (asked.swap_offer(NETS[1], epoch), "epoch"),
        (asked.swap_offer(NETS[0], epoch + 2), "net"),
    ):
        with pytest.raises(OrderRefused) as refused:
            await question
        assert refused.value.code == code
    with pytest.raises(UnexpectedReply):
        await asked.swap_offer("no-net", epoch)
    await listening.close()
    assert "nobody has proposed" in CliRunner().invoke(gwa_app, ["--dir", str(gwa), "--swaps"]).stdout


async def test_a_supplier_with_several_nets_looks_after_swaps(folder: Path) -> None:
    emp_toml = folder / "emp" / "emp.toml"
    plain = emp_toml.read_text(encoding="utf-8")
    for nets, tasks in ((NETS[:1], 0), (NETS, 1)):
        settings = [
            net_mount.NetSettings(
                policy=policy(net), members=HOMES[net], gwa="127.0.0.1:1", gwa_server_name=GWA_SERVER_NAME
            )
            for net in nets
        ]
        emp_toml.write_text(plain + "".join(map(net_mount.to_toml, settings)), encoding="utf-8")
        events = Events()
        listening = await Supplier(folder / "emp", events).start()
        await asyncio.sleep(0)
        assert sum(task.get_name() == "swaps" for task in asyncio.all_tasks()) == tasks
        await listening.close()
        assert not events.named("failed")


async def test_a_damaged_record_of_swaps_is_named(folder: Path) -> None:
    emp_toml = folder / "emp" / "emp.toml"
    settings = [
        net_mount.NetSettings(
            policy=policy(net), members=HOMES[net], gwa="127.0.0.1:1", gwa_server_name=GWA_SERVER_NAME
        )
        for net in NETS
    ]
    text = emp_toml.read_text(encoding="utf-8") + "".join(map(net_mount.to_toml, settings))
    emp_toml.write_text(text, encoding="utf-8")
    events, path = Events(), folder / "emp" / "dcnet" / "swaps.journal"
    listening = await Supplier(folder / "emp", events).start()
    await listening.close()
    whole = path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_bytes(whole + b"\1" * 5)  # a kill in a write: it was promised to nobody
    listening = await Supplier(folder / "emp", events).start()
    await listening.close()
    assert [event["dropped_bytes"] for event in events.named("journal")] == [5]
    path.write_bytes(b"x" + whole[1:])
    with pytest.raises(JournalDamaged, match=r"swaps: .*hint: never put an older copy"):
        await Supplier(folder / "emp", events).start()
