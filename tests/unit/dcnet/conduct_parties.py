"""A supplier and an administrator beside the slots, with real signatures, and what they hold of a net."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from firmware.enforcement.dcnet.messages.documents import document_hash, to_bitmap
from firmware.enforcement.dcnet.messages.manifest import EpochManifest, Manifest, SlotResult, Verdict
from firmware.enforcement.dcnet.messages.reports import Charge, Complaint, Statement
from firmware.enforcement.dcnet.messages.roster import Roster, RosterEntry
from hsm.api import CertificateUse, KeySlot
from hsm.x509 import Certificate
from tests.support.soft_module import SoftModule
from tests.unit.dcnet.support import NET, administrator, rules
from tools.counterparts.net_keys import CmsKeys
from tools.counterparts.net_ordered import OrderedNet
from tools.counterparts.net_oversight import NetOversight
from tools.counterparts.pki import issue_gateway
from wan.cms import signed as cms
from wan.errors import OrderRefused
from wan.pki.enrol import make_triple

GATEWAY, OTHER = "esgw0100000001", "esgw0100000002"
SIZE, EPOCH = 5, rules().epoch_of(0)
HASH = b"\x09" * 32
KEY = b"k" * 16


class Member:
    """One gateway's signature."""

    def __init__(self, module: SoftModule, certificate: Certificate) -> None:
        self._module, self.certificate = module, certificate

    async def state(self, content: bytes) -> bytes:
        signed = await cms.sign(
            content, module=self._module, slot=KeySlot.WAN_SIG, certificate=self.certificate
        )
        return Statement(self.certificate.der, signed).to_bytes()


async def member(folder: Path, gateway: str) -> Member:
    module = SoftModule()
    issued = issue_gateway(folder, gateway, await make_triple(module, gateway))
    return Member(module, Certificate.from_pem(issued[CertificateUse.SIG].encode()))


class Parties:
    """A supplier, an administrator that countersigned its roster, and two of the members."""

    def __init__(self, folder: Path, net_policy: Any, one: Member, two: Member) -> None:
        self.policy, self.seen = net_policy, list[Mapping[str, Any]]()
        self.one, self.two = one, two
        self.emp, self.gwa = CmsKeys(folder / "emp"), CmsKeys(folder / "gwa")
        self.kept: dict[str, bytes] = {}

        names = [hashlib.sha256(m.certificate.der).digest() for m in (self.one, self.two)]
        names += [bytes([index]) * 32 for index in range(3, SIZE + 1)]
        chosen = rules(calendar=self.policy.calendar)
        self.roster = Roster(
            NET,
            1,
            bytes(32),
            chosen.policy_hash(),
            chosen.schema_hash(),
            EPOCH,
            HASH,
            (administrator("gwa", HASH),),
            tuple(
                RosterEntry(index, bytes([index]) * 16, name, "gwa", HASH)
                for index, name in enumerate(names, 1)
            ),
        )
        self.kept[f"roster-{NET.hex()}-1"] = self.roster.to_bytes()
        ordered = OrderedNet(self.policy, self.emp.certificate, frozenset({GATEWAY, OTHER}))
        self.oversight = NetOversight(
            self.gwa.certificate,
            {NET.hex(): ordered}.get,
            self.gwa.trust,
            self.gwa.sign,
            self.seen.append,
            kept=self.kept,
        )

    def event(self, name: str) -> Mapping[str, Any]:
        return [one for one in self.seen if one["event"] == name][-1]

    # -- a chain

    def start(self, slot: int = 1, **changes: Any) -> EpochManifest:
        made = EpochManifest(
            NET, 1, document_hash(self.roster), EPOCH, slot, to_bitmap(range(1, SIZE + 1), SIZE)
        )
        return replace(made, **changes)

    def link(self, before: EpochManifest | Manifest, slot: int, *accepted: int, **changes: Any) -> Manifest:
        result = None
        if isinstance(before, Manifest):
            result = SlotResult(NET, before.slot, document_hash(before), Verdict.TOTALLED)
        made = Manifest(
            NET, 1, slot, document_hash(before), to_bitmap(accepted, SIZE), bytes(1), HASH, result
        )
        return replace(made, **changes)

    async def signed(self, *documents: Any) -> tuple[bytes, ...]:
        return tuple([await self.emp.sign(one.to_bytes()) for one in documents])

    async def complain(
        self, *objects: bytes, charge: Charge = Charge.EQUIVOCATION, **changes: Any
    ) -> Mapping[str, Any]:
        """The first member complains; what the administrator tells of it."""
        said = replace(Complaint(NET, 1, charge, objects), **changes)
        await self.oversight.complaint(NET.hex(), GATEWAY, await self.one.state(said.to_bytes()))
        return self.event("complaint")

    async def refused(self, *objects: bytes, charge: Charge = Charge.EQUIVOCATION, **changes: Any) -> str:
        with pytest.raises(OrderRefused) as caught:
            await self.complain(*objects, charge=charge, **changes)
        assert not [one for one in self.kept if one.startswith("complaint")]
        return caught.value.code
