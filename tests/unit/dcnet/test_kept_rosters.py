"""What a gateway has checked and sealed is right after a restart: certificates run out while rosters hold."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from firmware.enforcement.dcnet.events import NetEventKind
from firmware.enforcement.dcnet.service.signatures import CmsSignatures
from hsm.api import CertificateUse, KeySlot
from hsm.errors import CertificateRefused
from hsm.x509 import Certificate
from tests.support.soft_module import SoftModule
from tests.support.virtual_time import BEGIN, VirtualClock, run_virtually
from tests.unit.dcnet.roster_street import Net, Street, believe_names, told
from tests.unit.dcnet.support import NamedSignatures
from tools.counterparts.pki import issue_gateway, make_pki
from wan.errors import MalformedMessage
from wan.pki.enrol import make_triple

HOMES = [f"esgw01000000{number:02d}" for number in range(1, 6)]


class RunOut(NamedSignatures):
    """The certificate of one member has run out."""

    def __init__(self, name: str, out: str) -> None:
        super().__init__(name)
        self._own_name, self._out = name, f"certificate of {out}".encode()

    async def by_member(self, signed: bytes, certificate: bytes) -> bytes:
        if certificate == self._out:
            raise CertificateRefused("not valid any more")
        return await super().by_member(signed, certificate)

    def sealed(self) -> NamedSignatures:
        return NamedSignatures(self._own_name)


def test_a_certificate_that_ran_out_keeps_nobody_from_going_on_after_a_restart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who had restarted refused its own roster, and asked for no other one, for ever."""
    believe_names(monkeypatch)
    run_virtually(_run_out())


async def _run_out() -> None:
    net = Net(None, 1, HOMES, HOMES)
    async with Street() as street, asyncio.timeout(4000):
        street.open(net)
        for name in HOMES:
            street.join(await street.build(name), net)
        homes = street.homes.values()
        await street.until(lambda: all(told(home, NetEventKind.JOINED, net) for home in homes))
        for home in homes:
            await street.stop(home, net)
            home.signatures = RunOut(home.name, HOMES[0])
            street.join(home, net)
        await street.until(lambda: all(told(home, NetEventKind.JOINED, net) == 2 for home in homes))
        slot = net.rules.slot_at(VirtualClock().now_utc()) + 2
        await street.after(net.rules, slot)
        for home in homes:
            await home.members[net.net_id].contribute(slot, 7)
        await street.until(lambda: slot in net.totals())
        assert net.totals()[slot]["members"] == HOMES


async def test_what_was_sealed_is_read_whatever_day_it_is(tmp_path: Path) -> None:
    folder, module, today = tmp_path / "pki", SoftModule(), BEGIN
    make_pki(folder)
    issued = issue_gateway(folder, HOMES[0], await make_triple(module, HOMES[0]))
    own = Certificate.from_pem(issued[CertificateUse.SIG].encode())

    def certificate(path: str) -> Certificate:
        return Certificate.from_pem((folder / path).read_bytes())

    signatures = CmsSignatures(
        module=module,
        slot=KeySlot.WAN_SIG,
        certificate=own,
        emp=certificate("emp/sig.pem"),
        gwa=certificate("gwa/sig.pem"),
        intermediates=[certificate("sub-ca.pem")],
        anchors=[certificate("root.pem")],
        now_utc=lambda: today,
    )
    signed = await signatures.sign(b"a bundle")
    assert await signatures.by_member(signed, own.der) == b"a bundle"
    today += timedelta(days=30 * 365)
    with pytest.raises(CertificateRefused):
        await signatures.by_member(signed, own.der)
    assert await signatures.sealed().by_member(signed, own.der) == b"a bundle"
    assert await signatures.sealed().by_gwa(signed) == b"a bundle"  # its own was renewed since
    with pytest.raises(MalformedMessage):
        await signatures.sealed().by_gwa(b"junk")
