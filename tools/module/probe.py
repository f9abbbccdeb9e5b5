"""What a module is, which algorithms it has and lacks, and whether it computes what others compute."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from hsm import tlv
from hsm.apdu import CommandApdu, ResponseApdu
from hsm.api import Curve, DataObject, EphemeralKey, KeySlot, PublicKey
from hsm.errors import ChannelBroken, CommandRefused, HsmError
from hsm.profile import DOMAIN_IDS, PROJECT
from hsm.session import ModuleSession
from hsm.suites import SUITES, Suite
from hsm.x509 import Certificate, verify
from tools.module.access import ModuleAccess, in_the_clear

OK: Final = 0x9000
LACKS: Final = frozenset((0x6A80, 0x6A81, 0x6A86, 0x6A88, 0x6D00, 0x6E00))
"""Status words by which a card says that it has no such thing."""
_CURVES: Final[dict[Curve, ec.EllipticCurve]] = {
    Curve.P256: ec.SECP256R1(),
    Curve.P384: ec.SECP384R1(),
    Curve.BRAINPOOL_P256: ec.BrainpoolP256R1(),
    Curve.BRAINPOOL_P384: ec.BrainpoolP384R1(),
    Curve.BRAINPOOL_P512: ec.BrainpoolP512R1(),
}
_RANDOM_BYTES: Final = 32


def suite_name(suite: Suite) -> str:
    """AES-128, AES-192, AES-256."""
    return f"AES-{8 * suite.key_bytes}"


@dataclass(frozen=True, slots=True)
class Check:
    """One line of a self-test."""

    name: str
    outcome: str
    """ok, lacks (the card has no such thing) or failed."""
    detail: str = ""


# --- info --------------------------------------------------------------------------------------------------


def _select() -> CommandApdu:
    return CommandApdu(0x00, PROJECT.ins_select, 0x04, 0x0C, PROJECT.application)


def _pace_offer(suite: Suite, curve: Curve) -> CommandApdu:
    """MSE:Set AT, which costs no try; the answer says whether the card would go on, and how many are left."""
    how = PROJECT.p1p2_mse_pace
    data = (
        tlv.encode(0x80, suite.oid)
        + tlv.encode(0x83, bytes((PROJECT.password_reference,)))
        + tlv.encode(0x84, bytes((DOMAIN_IDS[curve],)))
    )
    return CommandApdu(0x00, PROJECT.ins_mse, how >> 8, how & 0xFF, data)


def _tries(answer: ResponseApdu) -> str:
    if answer.sw == OK:
        return "all left"
    if answer.sw & 0xFFF0 == 0x63C0:
        return f"{answer.sw & 0xF} left"
    return "blocked" if answer.sw == 0x6983 else f"unknown (SW={answer.sw:04X})"


async def describe(access: ModuleAccess) -> dict[str, Any]:
    """What the card tells, the part behind PACE only if the PIN is known; as JSON would have it."""
    pairs = [(suite, curve) for suite in SUITES for curve in Curve]
    read = CommandApdu(0x00, PROJECT.ins_read_binary, 0, 0, b"", 256)
    choose = CommandApdu(0x00, PROJECT.ins_select, 0x02, 0x0C, int(DataObject.CARD_ACCESS).to_bytes(2, "big"))
    atr, answers = await in_the_clear(
        access, _select(), choose, read, *(_pace_offer(suite, curve) for suite, curve in pairs)
    )
    selected, _, card_access, *offers = answers
    about: dict[str, Any] = {
        "atr": atr.hex() or None,
        "application": "selected" if selected.sw == OK else f"refused: SW={selected.sw:04X}",
        "card_access": card_access.data.rstrip(b"\0").hex() or None,
        "pin_tries": _tries(next((a for a in offers if a.sw == OK or a.sw & 0xFF00 == 0x6300), offers[0])),
        "pace": {
            suite_name(suite): [
                curve.value
                for (s, curve), answer in zip(pairs, offers, strict=True)
                if s is suite and (answer.sw == OK or answer.sw & 0xFF00 == 0x6300)
            ]
            for suite in SUITES
        },
    }
    if access.pin is not None:
        async with access.session() as session:
            about["keys"] = [entry async for entry in _keys(session)]
            about["objects"] = [entry async for entry in _objects(session)]
    return about


async def _keys(session: ModuleSession) -> AsyncIterator[dict[str, Any]]:
    for slot in KeySlot:
        try:
            key = await session.public_key(slot)
        except CommandRefused as error:
            if error.sw not in LACKS:
                raise
            continue
        yield {
            "slot": slot.name,
            "reference": f"{int(slot):02x}",
            "curve": key.curve.value,
            "sha256": hashlib.sha256(key.point).hexdigest(),
        }


async def _objects(session: ModuleSession) -> AsyncIterator[dict[str, Any]]:
    for name in DataObject:
        try:
            content = await session.read_object(name)
        except CommandRefused as error:
            yield {"object": name.name, "refused": f"{error.sw:04X}"}
            continue
        entry: dict[str, Any] = {"object": name.name, "file": f"{int(name):04x}", "bytes": len(content)}
        if certificates := list(_certificates(content)):
            entry["certificates"] = [
                {
                    "subject": certificate.subject_cn,
                    "not_before_utc": certificate.not_before_utc.isoformat(),
                    "not_after_utc": certificate.not_after_utc.isoformat(),
                    "key_sha256": hashlib.sha256(certificate.public_key.point).hexdigest(),
                }
                for certificate in certificates
            ]
        elif name.name == "COUNTER":
            entry["counter"] = int.from_bytes(content, "big")
        elif content:
            entry["content"] = content[:64].hex()
        yield entry


def _certificates(content: bytes) -> Iterator[Certificate]:
    """Certificates in DER, one after the other, wherever an object holds them; none is no error."""
    start = content.find(b"\x30\x82")
    while 0 <= start < len(content) - 4:
        size = 4 + int.from_bytes(content[start + 2 : start + 4], "big")
        try:
            yield Certificate.from_der(content[start : start + size])
            start = content.find(b"\x30\x82", start + size)
        except (HsmError, ValueError):
            start = content.find(b"\x30\x82", start + 1)


# --- self-test ---------------------------------------------------------------------------------------------


async def selftest(access: ModuleAccess) -> list[Check]:
    """Try each algorithm against the same one computed here; changes nothing that lasts.

    Raises:
        HsmError: no session can be set up at all.
    """
    checks = []
    about = await describe(ModuleAccess(access.opener, None, access.trace))
    for suite in SUITES:
        offered = about["pace"][suite_name(suite)]
        name = f"PACE {suite_name(suite)}"
        if not offered:
            checks.append(Check(name, "lacks"))
            continue
        checks.append(await _checked(name, partial(_pace, access, suite), ", ".join(offered)))
    async with access.session() as session:
        checks.append(await _checked("random numbers", partial(_random, session)))
        for curve in Curve:
            checks.append(await _checked(f"ECKA, ephemeral {curve.value}", partial(_ecka, session, curve)))
        checks.append(await _checked("an ephemeral key is used up", partial(_used_up, session)))
        for slot in KeySlot:
            try:
                key = await session.public_key(slot)
            except CommandRefused:
                continue
            checks.append(
                await _checked(f"key {slot.name}", partial(_key, session, slot, key), key.curve.value)
            )
    return checks


async def _checked(name: str, trial: Callable[[], Awaitable[None]], detail: str = "") -> Check:
    try:
        await trial()
    except CommandRefused as error:
        return Check(name, "lacks" if error.sw in LACKS else "failed", str(error))
    except (HsmError, AssertionError) as error:
        return Check(name, "failed", str(error))
    return Check(name, "ok", detail)


async def _pace(access: ModuleAccess, suite: Suite) -> None:
    async with access.session(suite) as session:
        await session.random(8)


async def _random(session: ModuleSession) -> None:
    drawn = [await session.random(_RANDOM_BYTES) for _ in range(8)]
    _hold(len(set(drawn)) == len(drawn), "the same random bytes twice")
    _hold(len(await session.random(256)) == 256, "not as many random bytes as asked for")


async def _ecka(session: ModuleSession, curve: Curve) -> None:
    key = await session.generate_ephemeral(curve)
    theirs, mine = key.public, ec.generate_private_key(_CURVES[curve])
    secret = await session.agree_ephemeral(key, _point(mine.public_key()))
    _hold(secret == _agree(mine, theirs), "another secret than the one computed here")


async def _used_up(session: ModuleSession) -> None:
    key = await _ephemeral(session)
    point = _point(ec.generate_private_key(_CURVES[key.public.curve]).public_key())
    await session.agree_ephemeral(key, point)
    try:
        await session.agree_ephemeral(key, point)
    except (ChannelBroken, CommandRefused):
        return
    raise AssertionError("it agreed twice")


async def _ephemeral(session: ModuleSession) -> EphemeralKey:
    """An ephemeral key on the first curve that the card has."""
    refused: CommandRefused | None = None
    for curve in Curve:
        try:
            return await session.generate_ephemeral(curve)
        except CommandRefused as error:
            refused = error
    assert refused is not None
    raise refused


async def _key(session: ModuleSession, slot: KeySlot, key: PublicKey) -> None:
    """Whatever the key may be used for, it does right; some sign, some agree, some do both."""
    digest = hashlib.new(key.curve.hash_name, b"smgw hsm selftest" + secrets.token_bytes(16)).digest()
    refused: CommandRefused | None = None
    try:
        signature = await session.sign(slot, digest)
        _hold(verify(key, digest, signature), "a signature that does not verify")
    except CommandRefused as error:
        refused = error
    mine = ec.generate_private_key(_CURVES[key.curve])
    try:
        secret = await session.agree(slot, _point(mine.public_key()))
        _hold(secret == _agree(mine, key), "another secret than the one computed here")
    except CommandRefused:
        if refused is not None:
            raise refused from None


def _hold(condition: bool, otherwise: str) -> None:
    if not condition:
        raise AssertionError(otherwise)


def _agree(mine: ec.EllipticCurvePrivateKey, theirs: PublicKey) -> bytes:
    peer = ec.EllipticCurvePublicKey.from_encoded_point(_CURVES[theirs.curve], theirs.point)
    return mine.exchange(ec.ECDH(), peer)


def _point(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
