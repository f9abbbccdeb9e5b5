"""Secure messaging, the card's end (TR-03110-3 v2.2, annex F). Its checks are its own, not the terminal's.

A missing data object is 6987, a wrong one 6988; both go out in the clear and end the session.
"""

from __future__ import annotations

from hmac import compare_digest

from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC

from hsm import tlv
from hsm.apdu import MAX_LE, MAX_SHORT_LE, CommandApdu, ResponseApdu, Sw
from hsm.emulator.status import Refused
from hsm.errors import MalformedTlv
from hsm.suites import BLOCK, MAC_BYTES, SessionKeys, cbc, pad

_RANK = {0x85: 0, 0x87: 0, 0x97: 1, 0x8E: 2}


class CardMessaging:
    """The session of a card: `open` a command, answer it, `close` the response."""

    def __init__(self, keys: SessionKeys) -> None:
        self._key = keys.encryption
        self._ecb = Cipher(AES(keys.encryption), modes.ECB()).encryptor()  # noqa: S305  # E(SSC) is the IV
        self._cmac = CMAC(AES(keys.mac))
        self._counter = 0
        self._odd = False

    def open(self, command: CommandApdu) -> CommandApdu:
        """Check a protected command and return it as it was meant.

        Raises:
            Refused: 6987 or 6988; the caller ends the session.
        """
        self._counter += 1
        self._odd = bool(command.ins & 1)
        found, covered = self._objects(command.data)
        if 0x8E not in found:
            raise Refused(Sw.SM_MISSING)
        if command.le not in (MAX_SHORT_LE, MAX_LE):
            # The outer Le is always 00 (TR-03110-3, annex F): the MAC does not cover it.
            raise Refused(Sw.SM_WRONG)
        mac = found[0x8E]
        objects = command.data[:covered]
        header = pad(command.header)
        expected = self._sign(header + pad(objects) if objects else header)
        if len(mac) != MAC_BYTES or not compare_digest(mac, expected):
            raise Refused(Sw.SM_WRONG)
        return CommandApdu(
            command.cla & 0xF3, command.ins, command.p1, command.p2, self._data(found), _length(found)
        )

    def close(self, response: ResponseApdu) -> ResponseApdu:
        """Protect a response; the status word outside repeats the one inside."""
        self._counter += 1
        objects = b""
        if response.data:
            iv = self._ecb.update(self._counter.to_bytes(BLOCK, "big"))
            sealed = cbc(self._key, iv).encryptor().update(pad(response.data))
            objects = tlv.encode(0x85, sealed) if self._odd else tlv.encode(0x87, b"\x01" + sealed)
        objects += b"\x99\x02" + response.sw.to_bytes(2, "big")
        return ResponseApdu(objects + b"\x8e\x08" + self._sign(pad(objects)), response.sw)

    @staticmethod
    def _objects(data: bytes) -> tuple[dict[int, bytes], int]:
        """Data objects in their one permitted order, and where the MAC's object starts."""
        found: dict[int, bytes] = {}
        at = covered = 0
        last = -1
        try:
            while at < len(data):
                covered = at
                tag, value, at = tlv.read(data, at)
                rank = _RANK.get(tag)
                if rank is None or rank <= last:
                    raise Refused(Sw.SM_WRONG)
                found[tag], last = value, rank
        except MalformedTlv:
            raise Refused(Sw.SM_WRONG) from None
        return found, covered

    def _data(self, found: dict[int, bytes]) -> bytes:
        """Open the cryptogram that fits the instruction byte; none means no data."""
        right, wrong = (0x85, 0x87) if self._odd else (0x87, 0x85)
        if wrong in found:
            raise Refused(Sw.SM_MISSING)
        sealed = found.get(right)
        if sealed is None:
            return b""
        if not self._odd:
            if not sealed or sealed[0] != 1:
                raise Refused(Sw.SM_WRONG)
            sealed = sealed[1:]
        if not sealed or len(sealed) % BLOCK:
            raise Refused(Sw.SM_WRONG)
        iv = self._ecb.update(self._counter.to_bytes(BLOCK, "big"))
        plain = cbc(self._key, iv).decryptor().update(sealed)
        end = plain.rfind(b"\x80")
        if end < len(plain) - BLOCK or any(plain[end + 1 :]):
            raise Refused(Sw.SM_WRONG)
        return plain[:end]

    def _sign(self, message: bytes) -> bytes:
        mac = self._cmac.copy()
        mac.update(self._counter.to_bytes(BLOCK, "big") + message)
        return mac.finalize()[:MAC_BYTES]


def _length(found: dict[int, bytes]) -> int | None:
    value = found.get(0x97)
    if value is None:
        return None
    if len(value) == 1:
        return value[0] or MAX_SHORT_LE
    if len(value) == 2:
        return int.from_bytes(value, "big") or MAX_LE
    raise Refused(Sw.SM_WRONG)
