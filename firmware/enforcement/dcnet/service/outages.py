"""Asks whether an outage explains why so many are missing. No rule here. Spec: docs/dcnet.md, outages."""

from __future__ import annotations

import hashlib
import logging

from firmware.enforcement.dcnet.errors import DcNetError, OutageRefused
from firmware.enforcement.dcnet.founding.membership import Membership
from firmware.enforcement.dcnet.founding.roster import Signatures
from firmware.enforcement.dcnet.messages.reports import OutageNotice, OutagePublication
from firmware.enforcement.dcnet.policy import NetRules
from firmware.enforcement.dcnet.service.client import NetClient
from firmware.enforcement.dcnet.slot.outage import Lifted, lifted
from hsm.errors import CertificateRefused
from wan.errors import WanError

_REFUSED = (WanError, CertificateRefused, DcNetError)


class Outages:
    """What the administrators of a net forgive, as the EMP relays it."""

    def __init__(
        self,
        rules: NetRules,
        client: NetClient,
        signatures: Signatures,
        log: logging.LoggerAdapter[logging.Logger],
    ) -> None:
        """Ask through `client`."""
        self._rules, self._client, self._signatures, self._log = rules, client, signatures, log

    async def ask(self, membership: Membership, slot: int) -> Lifted | None:
        """Return what is forgiven in a slot; None if nothing (yet), or not by every administrator."""
        if (body := await self._client.outage(slot)) is None:
            return None
        try:
            notices = await self._opened(membership, OutagePublication.from_bytes(body))
            roster = membership.roster
            return lifted(self._rules, roster.version, membership.roster_hash, membership.size, slot, notices)
        except _REFUSED as error:
            self._log.info("slot %d: an outage notice is ignored: %s", slot, error)
            return None

    async def _opened(self, membership: Membership, said: OutagePublication) -> list[OutageNotice]:
        """Check that each administrator of the roster has signed one."""
        roster = membership.roster
        own = roster.entries[membership.index - 1].administrator
        if len(said.notices) != len(roster.administrators):
            raise OutageRefused("administrators", "not every administrator has signed")
        found = []
        for administrator, item in zip(roster.administrators, said.notices, strict=True):
            if hashlib.sha256(item.certificate).digest() != administrator.certificate_hash:
                raise OutageRefused("administrators", f"{administrator.name}: another certificate")
            content = (
                await self._signatures.by_gwa(item.signed)
                if administrator.name == own
                else await self._signatures.by_administrator(item.signed, item.certificate)
            )
            found.append(OutageNotice.from_bytes(content))
        return found
