"""Secure messaging, the terminal's end: wrap, unwrap, send sequence counter (TR-03110-3 v2.2, annex F).

Pure. Anything wrong in a response poisons the object: the session is dead and must be set up again.
"""

from __future__ import annotations

import hmac

from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC

from hsm.apdu import MAX_LE, MAX_SHORT_DATA, MAX_SHORT_LE, CommandApdu, ResponseApdu
from hsm.errors import ChannelBroken, MalformedTlv
from hsm.suites import BLOCK, MAC_BYTES, SessionKeys, cbc, pad
from hsm.tlv import encode_length, read

_SM = 0x0C
_STATUS_BYTES = 2


class SecureMessaging:
    """One session: wrap a command, send it, unwrap its response, in this order and no other."""

    def __init__(self, keys: SessionKeys) -> None:
        self._key = keys.encryption
        self._block = Cipher(AES(keys.encryption), modes.ECB()).encryptor()  # noqa: S305  # E(SSC) is the IV
        self._mac = CMAC(AES(keys.mac))
        self._ssc = 0
        self._odd = False
        self._waiting = False
        self._dead = False

    @property
    def alive(self) -> bool:
        """False after the first error."""
        return not self._dead

    def close(self) -> None:
        """Forget the keys, as far as Python allows."""
        self._dead = True
        self._key = b""
        del self._block, self._mac

    def wrap(self, command: CommandApdu) -> CommandApdu:
        """Protect a command.

        Raises:
            ChannelBroken: the session is dead.
        """
        if self._dead:
            raise ChannelBroken("the secure messaging session is dead")
        assert not self._waiting, "the response to the last command is missing"
        self._waiting, self._odd = True, bool(command.ins & 1)
        self._ssc += 1
        objects = b""
        if command.data:
            cryptogram = self._encrypt(pad(command.data))
            if not self._odd:
                cryptogram = b"\x01" + cryptogram
            objects = (b"\x85" if self._odd else b"\x87") + encode_length(len(cryptogram)) + cryptogram
        if command.le is not None:
            if command.le <= MAX_SHORT_LE:
                objects += bytes((0x97, 1, command.le & 0xFF))
            else:
                objects += b"\x97\x02" + (command.le & 0xFFFF).to_bytes(2, "big")
        cla = command.cla | _SM
        header = bytes((cla, command.ins, command.p1, command.p2))
        # Without any data object the padded header alone is protected, no second padding block (fig. F.5).
        body = objects + b"\x8e\x08" + self._authenticate(pad(header) + (pad(objects) if objects else b""))
        extended = len(body) > MAX_SHORT_DATA or (command.le or 0) > MAX_SHORT_LE
        return CommandApdu(
            cla, command.ins, command.p1, command.p2, body, MAX_LE if extended else MAX_SHORT_LE
        )

    def unwrap(self, response: ResponseApdu) -> ResponseApdu:
        """Check and open a response.

        Raises:
            ChannelBroken: the card ended the session, or the response is not authentic; the session is dead.
        """
        assert self._waiting, "no command is under way"
        self._waiting = False
        try:
            if self._dead:
                raise ChannelBroken("the secure messaging session is dead")
            return self._open(response)
        except ChannelBroken:
            self._dead = True
            raise

    def _open(self, response: ResponseApdu) -> ResponseApdu:
        raw = response.data
        if not raw:
            raise ChannelBroken(f"the card answered without protection: SW={response.sw:04X}")
        self._ssc += 1
        cryptogram: bytes | None = None
        covered = 0
        try:
            tag, value, at = read(raw)
            if tag == (0x85 if self._odd else 0x87):
                cryptogram, covered = value, at
                tag, value, at = read(raw, at)
            if tag != 0x99 or len(value) != _STATUS_BYTES:
                raise ChannelBroken("no status in a protected response")
            status, covered = value[0] << 8 | value[1], at
            tag, mac, at = read(raw, at)
        except MalformedTlv as error:
            raise ChannelBroken(f"protected response: {error}") from error
        if tag != 0x8E or len(mac) != MAC_BYTES or at != len(raw):
            raise ChannelBroken("no MAC at the end of a protected response")
        if not hmac.compare_digest(mac, self._authenticate(pad(raw[:covered]))):
            raise ChannelBroken("wrong MAC in a protected response")
        if status != response.sw:
            raise ChannelBroken("status word outside differs from the protected one")
        return ResponseApdu(b"" if cryptogram is None else self._decrypt(cryptogram), status)

    def _authenticate(self, message: bytes) -> bytes:
        context = self._mac.copy()
        context.update(self._ssc.to_bytes(BLOCK, "big") + message)
        return context.finalize()[:MAC_BYTES]

    def _encrypt(self, padded: bytes) -> bytes:
        return cbc(self._key, self._iv()).encryptor().update(padded)

    def _iv(self) -> bytes:
        return self._block.update(self._ssc.to_bytes(BLOCK, "big"))

    def _decrypt(self, value: bytes) -> bytes:
        if not self._odd:
            if value[:1] != b"\x01":
                raise ChannelBroken("padding indicator is not 01")
            value = value[1:]
        if not value or len(value) % BLOCK:
            raise ChannelBroken("cryptogram is not whole blocks")
        padded = cbc(self._key, self._iv()).decryptor().update(value)
        data = padded.rstrip(b"\x00")
        if data[-1:] != b"\x80" or len(padded) - len(data) >= BLOCK:
            raise ChannelBroken("wrong padding in a protected response")
        return data[:-1]
