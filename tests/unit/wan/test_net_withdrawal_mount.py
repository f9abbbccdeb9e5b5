"""Withdrawals from administrator to administrator as the servers and the command line have them, over TLS."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from typer.testing import CliRunner

from firmware.enforcement.dcnet.messages.roster import Administrator as RosterAdministrator
from firmware.enforcement.dcnet.messages.roster import Roster, RosterEntry
from firmware.orders.nets import WITHDRAW
from hsm.x509 import Certificate
from tests.unit.wan.conftest import GATEWAY, Pki
from tests.unit.wan.doubles import Events
from tests.unit.wan.test_net_mount import NET, OTHERS, profiles
from tools.cli.gwa import app as gwa_app
from tools.counterparts import net_withdrawal_mount
from tools.counterparts.gwa import Administrator, place_order, withdraw_peers
from tools.counterparts.kept_files import KeptFiles
from tools.counterparts.net_succession import keep_names
from tools.counterparts.net_withdrawal import stated
from tools.counterparts.pki import GWA_SERVER_NAME, make_participant
from tools.counterparts.server import client_context
from wan.cms import signed
from wan.gwa import orders
from wan.pki.profile import Role

OF = {GATEWAY: "north", OTHERS[0]: "north", OTHERS[1]: "south", OTHERS[2]: "south"}
HASHES = {name: hashlib.sha256(name.encode()).digest() for name in OF}


@pytest.fixture
def folders(pki: Pki, tmp_path: Path) -> dict[str, Path]:
    """Two administrators of one net with a roster that both have countersigned."""
    shutil.copytree(pki.folder / "emp", tmp_path / "emp")
    root = tmp_path / "pki"
    root.mkdir()
    for file in ("root.pem", "sub-ca.pem", "sub-ca.key"):
        shutil.copyfile(pki.folder / file, root / file)
    made = {}
    for name in ("north", "south"):
        folder = made[name] = root / name
        make_participant(root, folder, Role.GWA, name, server_name=GWA_SERVER_NAME)
        with (folder / "gwa.toml").open("a", encoding="utf-8") as file:
            file.write(f'roster_name = "{name}"\npartners = ["north", "south"]\n')
        for gateway, of in OF.items():
            if of == name:
                place_order(folder, gateway, "profiles", profiles(tmp_path))
    entries = tuple(
        RosterEntry(n, bytes([n]) * 16, HASHES[gateway], of, hashlib.sha256(bytes([n])).digest())
        for n, (gateway, of) in enumerate(OF.items(), 1)
    )
    vouching = tuple(
        RosterAdministrator(
            name,
            hashlib.sha256(Certificate.from_pem((folder / "sig.pem").read_bytes()).der).digest(),
            bytes(32),
        )
        for name, folder in made.items()
    )
    roster = Roster(
        bytes.fromhex(NET), 1, bytes(32), bytes(32), bytes(32), 20_000, bytes(32), vouching, entries
    )
    for folder in made.values():
        kept = KeptFiles(folder / "dcnet")
        kept[f"roster-{NET}-1"], kept[f"given-{NET}-1"] = roster.to_bytes(), b"\1"
        keep_names(kept, NET, roster, list(OF), datetime.now(UTC))
    return made


def _withdrawals(folder: Path, gateway: str) -> list[dict[str, Any]]:
    found = []
    for path in sorted((folder / "spool" / gateway).glob("*.order")):
        order = orders.decode(signed.parse(path.read_bytes()).content, gateway)
        if order.kind == WITHDRAW:
            found.append(json.loads(order.body))
    return found


async def test_a_statement_goes_over_tls_and_becomes_orders(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(net_withdrawal_mount, "_LOOK_S", 0.02)
    south_events, north_events = Events(), Events()
    south = await Administrator(folders["south"], south_events).start()
    with (folders["north"] / "gwa.toml").open("a", encoding="utf-8") as file:
        file.write(
            f'[[administrator]]\nname = "south"\ngwa = "127.0.0.1:{south.port}"\n'
            f'gwa_server_name = "{GWA_SERVER_NAME}"\n'
        )
    north = await Administrator(folders["north"], north_events).start()
    assert len(withdraw_peers(folders["north"], NET, [OTHERS[0]])) == 2
    async with asyncio.timeout(20):
        while not north_events.named("withdrawal-told"):  # noqa: ASYNC110 - what is seen is no event
            await asyncio.sleep(0.02)
    body = {"net": NET, "serial": 1, "certificates": [HASHES[OTHERS[0]].hex()]}
    for gateway in (OTHERS[1], OTHERS[2]):
        assert _withdrawals(folders["south"], gateway) == [body]
    (told,) = south_events.named("withdrawn-by-partner")
    assert (told["administrator"], told["gateways"], told["ordered"]) == ("north", [OTHERS[0]], 2)
    url = f"https://127.0.0.1:{south.port}/dcnet/v1/{NET}/withdrawn"
    for folder, text in ((folders["north"], "form"), (folders["north"].parents[1] / "emp", "not an admin")):
        async with (
            aiohttp.ClientSession() as session,
            session.post(
                url, data=b"x", ssl=client_context(folder), server_hostname=GWA_SERVER_NAME
            ) as response,
        ):
            assert response.status == 403
            assert (await response.text()).startswith(text)
    await north.close()
    await south.close()
    assert not [*north_events.named("failed"), *south_events.named("failed")]


def test_by_hand_as_a_file(folders: dict[str, Path], tmp_path: Path) -> None:
    north, south, file = str(folders["north"]), str(folders["south"]), str(tmp_path / "withdrawn.cbor")
    run = CliRunner().invoke
    export = ["--dir", north, "--export-withdrawal", NET, "--file", file]
    refused = run(gwa_app, export)
    assert refused.exit_code == 2
    assert "nothing" in refused.stderr
    withdraw_peers(folders["north"], NET, [OTHERS[0], OTHERS[1]])
    said = stated(KeptFiles(folders["north"] / "dcnet"), NET)
    assert said is not None
    assert said.certificates == (HASHES[OTHERS[0]],)  # the other one is not north's
    assert run(gwa_app, export).exit_code == 0
    taken = run(gwa_app, ["--dir", south, "--import-withdrawal", "--file", file])
    assert (taken.exit_code, OTHERS[0] in taken.stdout) == (0, True), taken.stderr
    assert _withdrawals(folders["south"], OTHERS[2])[-1]["certificates"] == [HASHES[OTHERS[0]].hex()]
    again = run(gwa_app, ["--dir", south, "--import-withdrawal", "--file", file])
    assert (again.exit_code, "replay" in again.stderr) == (2, True)
    (tmp_path / "junk").write_bytes(b"junk")
    for words in (["--import-withdrawal"], ["--import-withdrawal", "--file", str(tmp_path / "junk")]):
        assert run(gwa_app, ["--dir", south, *words]).exit_code == 2
