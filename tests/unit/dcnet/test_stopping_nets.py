"""What one party can do, or leave undone, so that a net never gets a roster: nothing that lasts."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from dataclasses import replace
from typing import Any

import pytest

from firmware.enforcement.dcnet.events import NetEventKind
from firmware.enforcement.dcnet.founding.beacon import BeaconCommit, BeaconReveal
from firmware.enforcement.dcnet.messages.roster import Attestation, KeyBundle, SignedBundle
from tests.support.instant_loop import run
from tests.support.virtual_time import run_virtually
from tests.unit.dcnet.roster_street import Net, Street, believe_names, told
from tests.unit.dcnet.running_net import RunningNet
from tests.unit.dcnet.support import signed_by
from tools.counterparts.net_distinct import MAX_BUNDLE_BYTES
from wan.errors import OrderRefused

HOMES = [f"esgw01000000{number:02d}" for number in range(1, 11)]
FIRST, COME = HOMES[:6], HOMES[6:]


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    believe_names(monkeypatch)


def _version(net: Net) -> int:
    now = net.emp.rosters.in_force
    return 0 if now is None else now.roster.version


def _joined(street: Street, net: Net, names: list[str]) -> bool:
    return all(told(street.homes[name], NetEventKind.JOINED, net) for name in names)


def test_a_roster_that_was_not_countersigned_in_time_is_not_the_last_one(cheap: None) -> None:
    """An administrator that was away knew no roster before the next one, and committed to none any more."""
    run_virtually(_away_for_an_epoch())


async def _away_for_an_epoch() -> None:
    net = Net(None, 1, HOMES, HOMES, n_start=6)
    async with Street() as street, asyncio.timeout(9000):
        street.open(net)
        for name in FIRST:
            street.join(await street.build(name), net)
        await street.until(lambda: _joined(street, net, FIRST) and _version(net) == 1)
        for name in COME:
            street.join(await street.build(name), net)
        await street.until(lambda: net.emp.rosters.open.version == 2 and bool(net.emp.rosters.open.offered))
        net.gwa.away = True
        await asyncio.sleep(2 * net.rules.epoch_s)
        net.gwa.away = False
        await street.until(lambda: _version(net) > 2 and _joined(street, net, HOMES))


def test_an_administrator_commits_to_no_more_nonces_than_rosters_may_follow(cheap: None) -> None:
    run_virtually(_no_more_nonces())


async def _no_more_nonces() -> None:
    net = Net(None, 1, FIRST, FIRST)
    for version in (1, 2, 5):
        await net.gwa.commit(version)
    kept = dict(net.kept)
    for version in (10_000, 999_999_999):
        with pytest.raises(Exception, match="version"):
            await net.gwa.commit(version)
    assert net.kept == kept


def _bundle_like(kept: bytes, name: str, **changes: Any) -> bytes:
    """A bundle of `name` that takes after another's."""
    theirs = KeyBundle.from_bytes(SignedBundle.from_bytes(kept).signed.partition(b"|")[2])
    certificate = f"certificate of {name}".encode()
    own = {
        "pseudonym": bytes([7]) * len(theirs.pseudonym),
        "point": None,
        "commitment": BeaconReveal(theirs.net, theirs.version, bytes([7]) * 32).commitment,
    }
    changed: dict[str, Any] = {key: value for key, value in (own | changes).items() if value is not None}
    made = replace(theirs, certificate_hash=hashlib.sha256(certificate).digest(), **changed)
    return SignedBundle(certificate, signed_by(name, made.to_bytes())).to_bytes()


@pytest.mark.parametrize("what", ["point", "pseudonym", "commitment"])
def test_a_bundle_that_takes_after_another_one_stops_no_net(what: str, cheap: None) -> None:
    """Administrators or members refuse the whole roster for it, again and again."""
    run_virtually(_takes_after(what))


async def _takes_after(what: str) -> None:
    net = Net(None, 1, HOMES[:7], HOMES[:7], n_start=6)
    hostile = HOMES[6]
    async with Street() as street, asyncio.timeout(4000):
        street.open(net)
        for name in FIRST:
            street.join(await street.build(name), net)
        await street.until(lambda: FIRST[0] in net.emp.rosters.open.offered)
        theirs = net.emp.rosters.open._bundles[FIRST[0]][0].to_bytes()
        other = net.emp.rosters.open._bundles[FIRST[1]][1].point if what != "point" else None
        changes: dict[str, Any] = {"point": _another_point() if other else None}
        if what != "point":
            changes[what] = getattr(net.emp.rosters.open._bundles[FIRST[0]][1], what)
        path = f"/dcnet/v1/{net.net_id}/bundle/1/{hostile}"
        body = _bundle_like(theirs, hostile, **changes)
        assert (await street.ask(net, hostile, "PUT", path, body)).status == 400
        await street.until(lambda: _joined(street, net, FIRST) and _version(net) == 1)


def _another_point() -> bytes:
    from cryptography.hazmat.primitives.asymmetric import ec

    from tests.support.soft_module import public_of

    return public_of(ec.generate_private_key(ec.SECP256R1())).point


def test_a_bloated_bundle_is_not_taken(cheap: None) -> None:
    """A few of them, and no roster with all the others could be countersigned or read any more."""
    run_virtually(_bloated())


async def _bloated() -> None:
    net = Net(None, 1, FIRST, FIRST)
    async with Street() as street, asyncio.timeout(4000):
        street.open(net)
        path = f"/dcnet/v1/{net.net_id}/bundle/1/{FIRST[0]}"
        body = SignedBundle(bytes(MAX_BUNDLE_BYTES), b"x").to_bytes()
        assert (await street.ask(net, FIRST[0], "PUT", path, body)).status == 400
        assert net.seen[-1]["reason"] == f"{len(body)} bytes"


def test_who_commits_to_an_administrators_nonce_stops_no_net(cheap: None) -> None:
    """It can be asked for before the roster is drafted; everybody refuses a roster that has it twice."""
    run_virtually(_administrators_nonce())


async def _administrators_nonce() -> None:
    net = Net(None, 1, HOMES[:7], HOMES[:7], n_start=6)
    hostile, victim = HOMES[6], FIRST[0]

    async def each_time() -> None:
        base = f"/dcnet/v1/{net.net_id}"
        while True:
            founding = net.emp.rosters.open
            if victim in founding.offered:
                version, theirs = founding.version, founding._bundles[victim][0].to_bytes()
                given = Attestation.from_bytes(await net.gwa.commit(version)).signed.partition(b"|")[2]
                taken = BeaconCommit.from_bytes(given).commitment
                body = _bundle_like(theirs, hostile, commitment=taken, point=_another_point())
                await street.ask(net, hostile, "PUT", f"{base}/bundle/{version}/{hostile}", body)
                with contextlib.suppress(OrderRefused):
                    nonce = await net.gwa.reveal(version)
                    await street.ask(net, hostile, "PUT", f"{base}/reveal/{version}/{hostile}", nonce)
            await asyncio.sleep(2)

    async with Street() as street, asyncio.timeout(4000):
        street.open(net)
        for name in FIRST:
            street.join(await street.build(name), net)
        attack = asyncio.ensure_future(each_time())
        await street.until(lambda: attack.done() or (_joined(street, net, FIRST) and _version(net) > 0))
        attack.cancel()
        now = net.emp.rosters.in_force
        assert now is not None
        assert set(now.members) == set(FIRST)


@pytest.mark.parametrize("recovery", ["none", "witness"])
def test_who_never_confirms_an_edge_is_left_out_and_the_others_begin(recovery: str) -> None:
    """Under witnesses nobody could read the EpochManifest that says so: one home's power cut stopped all."""

    async def main() -> None:
        net = RunningNet(10, recovery=recovery)
        net.patience_s = 120.0
        silent, others = net.homes[0], net.homes[1:]
        silent.cut = lambda resource: "/confirm/" in resource
        async with net.opened():
            while not all(NetEventKind.JOINED in home.kinds() for home in others):  # noqa: ASYNC110
                await asyncio.sleep(5)
            slot = net.rules.slot_at(net.clock.now_utc()) + 2
            await net.contribute(slot, {home.name: 7 for home in others})
            await net.until(slot + 1, 0)
            assert net.totals()[slot]["members"] == [home.name for home in others]
            now = net.coordinator.rosters.in_force
            assert now is not None
            assert now.terms.shares == (net.rules.holders if recovery == "witness" else 0)

    async def in_time() -> None:
        async with asyncio.timeout(3000):
            await main()

    run(in_time())
