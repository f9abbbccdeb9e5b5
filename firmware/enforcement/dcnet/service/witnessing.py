"""Whose signatures a document of the chain needs: the EMP's, and with recovery those of all administrators.

One honest administrator is then enough that there are not two manifests, nor two orders, for one slot.
Spec: docs/dcnet.md, members lost after the manifest.
"""

from __future__ import annotations

import hashlib

from firmware.enforcement.dcnet.errors import CosignatureMissing
from firmware.enforcement.dcnet.founding.roster import Signatures
from firmware.enforcement.dcnet.messages.roster import Roster
from firmware.enforcement.dcnet.messages.witnessed import Witnessed
from firmware.enforcement.dcnet.policy import NetRules, Recovery


async def content_of(rules: NetRules, roster: Roster, signatures: Signatures, envelope: bytes) -> bytes:
    """Return what the EMP signed, checked.

    Args:
        rules: without recovery the envelope is the EMP's signature alone, else a `Witnessed`.
        roster: names the administrators and their certificates.
        signatures: checks signers against what the profiles pin.
        envelope: as it came from the EMP.

    Raises:
        CosignatureMissing: an administrator has not co-signed this very content.
        MalformedObject: no `Witnessed`.
        WanError, HsmError: a signature or a certificate path is refused.
    """
    if rules.recovery is not Recovery.WITNESS:
        return await signatures.by_emp(envelope)
    witnessed = Witnessed.from_bytes(envelope)
    content = await signatures.by_emp(witnessed.signed)
    if len(witnessed.cosigned) != len(roster.administrators):
        raise CosignatureMissing(
            f"{len(witnessed.cosigned)} of {len(roster.administrators)} administrators have co-signed"
        )
    for administrator, item in zip(roster.administrators, witnessed.cosigned, strict=True):
        if hashlib.sha256(item.certificate).digest() != administrator.certificate_hash:
            raise CosignatureMissing(f"{administrator.name}: another certificate")
        if await signatures.by_administrator(item.signed, item.certificate) != content:
            raise CosignatureMissing(f"{administrator.name} co-signed something else")
    return content


def signed_by_emp(rules: NetRules, envelope: bytes) -> bytes:
    """Return what the EMP signed in an envelope that `content_of` has checked: evidence, if it lies."""
    return envelope if rules.recovery is not Recovery.WITNESS else Witnessed.from_bytes(envelope).signed
