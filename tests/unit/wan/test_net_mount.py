"""DC-nets as the two servers mount them: configuration, identity, and the administrator's countersigning."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from firmware.enforcement.dcnet.founding.authorisation import PeerAuthorisation
from firmware.enforcement.dcnet.founding.succession import PeerWithdrawal
from firmware.enforcement.dcnet.messages.documents import document_hash
from firmware.enforcement.dcnet.messages.roster import Administrator as RosterAdministrator
from firmware.enforcement.dcnet.messages.roster import Attestation, Roster, RosterEntry
from firmware.orders.nets import WITHDRAW
from firmware.profile.model import NetPolicy
from hsm.x509 import Certificate
from tests.unit.wan.conftest import GATEWAY, Party, Pki
from tests.unit.wan.doubles import Events, channel_for, peer_of
from tools.counterparts import net_mount
from tools.counterparts.emp import Supplier, read_settings
from tools.counterparts.gwa import Administrator, place_order, withdraw_peers
from tools.counterparts.kept_files import KeptFiles
from tools.counterparts.net_succession import keep_names
from tools.counterparts.pki import GWA_SERVER_NAME
from wan.cms import signed
from wan.errors import OrderRefused
from wan.gwa import orders

NET = "00112233445566aa"
OTHERS = ["esgw0100000002", "esgw0100000003", "esgw0100000004"]


def policy(**changes: Any) -> NetPolicy:
    facts: dict[str, Any] = {
        "net_id": NET,
        "slot_s": 900,
        "t0_utc": datetime(2026, 1, 1, tzinfo=UTC),
        "n_min": 4,
        "d_min": 3,
        "insecure_small_nets": True,
    }
    return NetPolicy(**(facts | changes))


def settings(port: int, members: list[str]) -> net_mount.NetSettings:
    return net_mount.NetSettings(
        policy=policy(), members=members, gwa=f"127.0.0.1:{port}", gwa_server_name=GWA_SERVER_NAME
    )


def profiles(folder: Path, **changes: Any) -> dict[str, Any]:
    certificate = (folder / "emp" / "tls.pem").read_text(encoding="ascii")
    peer = {"name": "testemp", "host": "127.0.0.1", "port": 1, "server_name": "emp.sm-pki.test"}
    communication = {
        "id": "total",
        "processing": "p",
        "recipient": "testemp",
        "purpose": "group-total",
        "concealment": "dc-net",
        "net": policy(**changes),
        "peer": peer
        | {
            "tls_certificate": certificate,
            "sig_certificate": (folder / "emp" / "sig.pem").read_text(encoding="ascii"),
        },
    }
    return {"communication": [communication]}


@pytest.fixture
def folder(pki: Pki, tmp_path: Path) -> Path:
    for party in ("emp", "gwa"):
        shutil.copytree(pki.folder / party, tmp_path / party)
    return tmp_path


def test_configuration_round_trip(folder: Path) -> None:
    other = net_mount.AdministratorSettings(
        name="another", gwa="127.0.0.1:2", gwa_server_name=GWA_SERVER_NAME, members=OTHERS[:1]
    )
    shared = msgspec.structs.replace(settings(1, OTHERS), others=[other, other])
    wanted = [settings(1234, [GATEWAY, *OTHERS]), shared, settings(1, OTHERS)]
    with (folder / "emp" / "emp.toml").open("a", encoding="utf-8") as file:
        file.writelines(net_mount.to_toml(item) for item in wanted)
    assert read_settings(folder / "emp").net == wanted


@pytest.mark.parametrize("text", ["", "name = 1", 'name = "x"\nserver_name = "y"\nmore = 1', "name ="])
def test_broken_configuration(folder: Path, text: str) -> None:
    (folder / "emp" / "emp.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError):
        Supplier(folder / "emp", Events())


@pytest.mark.parametrize(
    ("changes", "help_"),
    [
        ({"n_min": 128, "d_min": 12, "n_start": 150}, "n_start = 192 does"),
        ({"bridges": 4}, "at least two cells"),
    ],
)
def test_a_supplier_refuses_a_net_that_could_not_run(
    folder: Path, changes: dict[str, Any], help_: str
) -> None:
    net = msgspec.structs.replace(settings(1, OTHERS), policy=policy(**changes))
    with (folder / "emp" / "emp.toml").open("a", encoding="utf-8") as file:
        file.write(net_mount.to_toml(net))
    with pytest.raises(ValueError, match=rf"net\]\] {NET}: .*{help_}"):
        Supplier(folder / "emp", Events())


def test_what_is_countersigned_is_what_the_newest_orders_say(folder: Path) -> None:
    gwa = folder / "gwa"
    assert net_mount.ordered_net(gwa, NET) is None
    for gateway in (GATEWAY, *OTHERS):
        place_order(gwa, gateway, "profiles", profiles(folder))
    place_order(gwa, "esgw0100000009", "profiles", profiles(folder), signer=folder / "emp")
    ordered = net_mount.ordered_net(gwa, NET)
    assert ordered is not None
    assert ordered.policy == policy()
    assert ordered.gateways == {GATEWAY, *OTHERS}  # not the one that somebody else signed for
    sig = Certificate.from_pem((folder / "emp" / "sig.pem").read_bytes())
    assert ordered.emp_certificate == sig.der
    place_order(gwa, GATEWAY, "profiles", {})  # it has left
    ordered = net_mount.ordered_net(gwa, NET)
    assert ordered is not None
    assert ordered.gateways == set(OTHERS)
    place_order(gwa, OTHERS[0], "profiles", profiles(folder, n_min=3))  # not the same to all
    assert net_mount.ordered_net(gwa, NET) is None
    assert net_mount.ordered_net(gwa, "00" * 8) is None


async def test_resources_are_the_members_own(pki: Pki, gateway: Party, folder: Path) -> None:
    emp_toml = folder / "emp" / "emp.toml"
    plain = emp_toml.read_text(encoding="utf-8")
    for members, status in (([GATEWAY, *OTHERS], 404), ([*OTHERS, "esgw0100000005"], 403)):
        emp_toml.write_text(plain + net_mount.to_toml(settings(1, members)), encoding="utf-8")
        events = Events()
        listening = await Supplier(folder / "emp", events).start()
        channel = channel_for(pki, gateway, peer_of(pki, "emp", listening.port))
        assert (await channel.exchange("GET", f"/dcnet/v1/{NET}/roster/1")).status == status
        assert (await channel.exchange("PUT", f"/dcnet/v1/{NET}/bundle/1/{OTHERS[0]}", b"x")).status == 403
        await channel.close()
        await listening.close()
        assert not events.named("failed")


async def test_administrator_refuses_a_net_that_it_did_not_order(folder: Path) -> None:
    events = Events()
    listening = await Administrator(folder / "gwa", events).start()
    asked = net_mount._administrators(folder / "emp", settings(listening.port, OTHERS))["gwa"]
    for question in (asked.countersign(b"draft"), asked.commit(1)):
        with pytest.raises(OrderRefused, match="policy"):
            await question
    place_order(folder / "gwa", GATEWAY, "profiles", profiles(folder))
    with pytest.raises(OrderRefused, match="form"):
        await asked.countersign(b"draft")
    attested = Attestation.from_bytes(await asked.commit(1))
    sig = Certificate.from_pem((folder / "gwa" / "sig.pem").read_bytes())
    assert attested.certificate == sig.der
    for question in (asked.reveal(1), asked.authorise(1)):
        with pytest.raises(OrderRefused, match="roster"):
            await question
    kept = folder / "gwa" / "dcnet" / f"nonce-{NET}-1"
    assert len(kept.read_bytes()) == 32
    told = [event["what"] for event in events.named("refused")]
    assert told == ["countersign", "commit", "countersign", "reveal", "authorise"]
    await listening.close()


def _countersigned(folder: Path) -> dict[str, bytes]:
    """As if a roster of all had been countersigned; return gateway id -> certificate hash."""
    names = [GATEWAY, *OTHERS]
    hashes = {name: hashlib.sha256(name.encode()).digest() for name in names}
    entries = tuple(
        RosterEntry(index, bytes([index]) * 16, hashes[name], "gwa", hashlib.sha256(bytes([index])).digest())
        for index, name in enumerate(names, 1)
    )
    vouching = (RosterAdministrator("gwa", bytes(32), bytes(32)),)
    roster = Roster(
        bytes.fromhex(NET), 1, bytes(32), bytes(32), bytes(32), 20_000, bytes(32), vouching, entries
    )
    peers = tuple((entry.index, entry.certificate_hash) for entry in entries)
    given = PeerAuthorisation(roster.net, 1, document_hash(roster), 20_400, peers)
    kept = KeptFiles(folder / "gwa" / "dcnet")
    kept[f"roster-{NET}-1"], kept[f"peers-{NET}-1"] = roster.to_bytes(), given.to_bytes()
    keep_names(kept, NET, roster, names, datetime.now(UTC))
    return hashes


async def test_the_administrator_withdraws_a_peer_from_its_own_gateways(folder: Path) -> None:
    gwa = folder / "gwa"
    with pytest.raises(OrderRefused, match="policy"):
        withdraw_peers(gwa, NET, [])
    for name in (GATEWAY, *OTHERS):
        place_order(gwa, name, "profiles", profiles(folder))
    hashes = _countersigned(folder)
    with pytest.raises(OrderRefused, match="unknown"):
        withdraw_peers(gwa, NET, ["esgw0199999999"])
    placed = withdraw_peers(gwa, NET, [OTHERS[0].upper()])
    assert len(placed) == 4
    spool = sorted((gwa / "spool" / GATEWAY).glob("*.order"))[-1]
    order = orders.decode(signed.parse(spool.read_bytes()).content, GATEWAY)
    body = {"net": NET, "serial": 1, "certificates": [hashes[OTHERS[0]].hex()]}
    assert (order.kind, json.loads(order.body)) == (WITHDRAW, body)
    events = Events()
    listening = await Administrator(gwa, events).start()
    asked = net_mount._administrators(folder / "emp", settings(listening.port, OTHERS))["gwa"]
    attested = Attestation.from_bytes(await asked.revoked())
    withdrawn = PeerWithdrawal.from_bytes(signed.parse(attested.signed).content)
    assert withdrawn == PeerWithdrawal(bytes.fromhex(NET), 1, (hashes[OTHERS[0]],))
    withdraw_peers(gwa, NET, [])
    assert PeerWithdrawal.from_bytes(
        signed.parse(Attestation.from_bytes(await asked.revoked()).signed).content
    ) == PeerWithdrawal(bytes.fromhex(NET), 2, ())
    place_order(gwa, GATEWAY, "profiles", {})  # no longer ordered: the supplier learns it here
    again = signed.parse(Attestation.from_bytes(await asked.revoked()).signed).content
    assert PeerWithdrawal.from_bytes(again).certificates == (hashes[GATEWAY],)
    await listening.close()


async def test_contracts_are_followed_while_the_supplier_runs(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(net_mount, "_LOOK_S", 0.02)
    emp_toml = folder / "emp" / "emp.toml"
    plain = emp_toml.read_text(encoding="utf-8")

    class Coordinator:
        net = NET
        contracts: Mapping[str, str] = {}

        verified: Sequence[int] = ()

        def follow(self, contracts: Mapping[str, str]) -> None:
            self.contracts = contracts

        def verify(self, slots: Sequence[int]) -> None:
            self.verified = slots

    followed = Coordinator()
    task = asyncio.ensure_future(net_mount._follow(folder / "emp", followed))  # type: ignore[arg-type]  # a double
    other = net_mount.AdministratorSettings(
        name="another", gwa="127.0.0.1:2", gwa_server_name=GWA_SERVER_NAME, members=OTHERS[:1]
    )
    try:
        for text, wanted in (
            (net_mount.to_toml(settings(1, OTHERS[1:])), dict.fromkeys(OTHERS[1:], "gwa")),
            ("[[net]]\nbroken", dict.fromkeys(OTHERS[1:], "gwa")),
            (
                net_mount.to_toml(
                    msgspec.structs.replace(settings(1, OTHERS), others=[other], verify=[700, 4])
                ),
                {OTHERS[0]: "another", OTHERS[1]: "gwa", OTHERS[2]: "gwa"},
            ),
        ):
            emp_toml.write_text(plain + text, encoding="utf-8")
            async with asyncio.timeout(20):
                await asyncio.sleep(0.1)
                while followed.contracts != wanted:  # noqa: ASYNC110 - what is seen is no event
                    await asyncio.sleep(0.02)
            assert not task.done()
        assert followed.verified == [700, 4]
    finally:
        task.cancel()
