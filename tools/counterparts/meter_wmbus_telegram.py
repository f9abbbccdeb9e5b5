"""Builds radio telegrams as a meter would: records, security modes none, 5, 7 and 10. Pure functions.

The encryption here is written on its own with pyca/cryptography, not shared with the gateway's decoder.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESCCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC, CTR
from cryptography.hazmat.primitives.cmac import CMAC

from lmn.crc import crc16_en13757
from lmn.mbus.address import from_meter_id
from lmn.model import MeterId

_SEND_NO_REPLY = 0x44
_VERIFICATION = b"\x2f\x2f"


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sends, and what its headers say."""

    meter: MeterId
    access_no: int = 0
    status: int = 0
    adapter: MeterId | None = None
    """A radio adapter: then the link carries its address, and a long header the meter's."""

    @property
    def address(self) -> bytes:
        """The meter's eight bytes in the link's order."""
        return from_meter_id(self.meter)

    def transport_header(self, configuration: int, *, long_ci: int = 0x72, short_ci: int = 0x7A) -> bytes:
        """CI, address where an adapter sends, access number, status, CF."""
        tail = bytes((self.access_no, self.status)) + configuration.to_bytes(2, "little")
        if self.adapter is None:
            return bytes((short_ci,)) + tail
        return bytes((long_ci,)) + self.address[2:6] + self.address[:2] + self.address[6:] + tail

    def link(self, upper: bytes, *, control: int = _SEND_NO_REPLY) -> bytes:
        """Put the link header in front: a bare telegram."""
        address = from_meter_id(self.adapter) if self.adapter is not None else self.address
        body = bytes((control,)) + address + upper
        return bytes((len(body),)) + body


def cmac(key: bytes, message: bytes) -> bytes:
    """AES-128-CMAC."""
    mac = CMAC(AES(key))
    mac.update(message)
    return mac.finalize()


def derive(master: bytes, use: int, counter: int, identification: bytes) -> bytes:
    """Key of one message: 00 encryption, 01 authentication."""
    return cmac(master, bytes((use,)) + counter.to_bytes(4, "little") + identification + bytes((7,)) * 7)


def pad(records: bytes) -> bytes:
    """Verification bytes in front, fillers up to whole blocks behind."""
    data = _VERIFICATION + records
    return data + b"\x2f" * (-len(data) % 16)


def _cbc(key: bytes, vector: bytes, data: bytes) -> bytes:
    encryptor = Cipher(AES(key), CBC(vector)).encryptor()
    return encryptor.update(data) + encryptor.finalize()


def plain(sender: Sender, records: bytes) -> bytes:
    """Mode 0: nothing protected."""
    return sender.link(sender.transport_header(0) + records)


def mode5(sender: Sender, key: bytes, records: bytes, clear: bytes = b"") -> bytes:
    """Mode 5; `clear` follows unencrypted."""
    data = pad(records)
    vector = sender.address + bytes((sender.access_no,)) * 8
    header = sender.transport_header(0x0500 | len(data) // 16 << 4)
    return sender.link(header + _cbc(key, vector, data) + clear)


def mode7(
    sender: Sender,
    master: bytes,
    counter: int,
    records: bytes,
    *,
    key_information: bytes = b"",
    with_length: bool = False,
    authentication_type: int = 5,
    encrypted: bool = True,
) -> bytes:
    """Mode 7: authentication layer with counter and CMAC, then AES-CBC.

    Args:
        sender: who sends.
        master: the meter's master key.
        counter: of this message, rising.
        records: application data, without verification bytes and fillers.
        key_information: 2 bytes to add the optional field.
        with_length: add the optional message length.
        authentication_type: 3 to 7, a CMAC of 2, 4, 8, 12 or 16 bytes.
        encrypted: False announces no encrypted block (which no gateway may accept).
    """
    identification = sender.address[2:6]
    data = pad(records)
    blocks = len(data) // 16 if encrypted else 0
    if encrypted:
        data = _cbc(derive(master, 0x00, counter, identification), bytes(16), data)
    upper = sender.transport_header(0x0700 | blocks << 4) + b"\x10" + data
    message_control = (
        0x20 | authentication_type | (0x10 if key_information else 0) | (0x40 if with_length else 0)
    )
    length = len(upper).to_bytes(2, "little") if with_length else b""
    counter_bytes = counter.to_bytes(4, "little")
    covered = bytes((message_control,)) + key_information + counter_bytes + length + upper
    size = {3: 2, 4: 4, 5: 8, 6: 12, 7: 16}[authentication_type]
    mac = cmac(derive(master, 0x01, counter, identification), covered)[:size]
    fragment_control = 0x2C00 | (0x0200 if key_information else 0) | (0x1000 if with_length else 0)
    fields = (
        fragment_control.to_bytes(2, "little")
        + bytes((message_control,))
        + key_information
        + counter_bytes
        + mac
        + length
    )
    return sender.link(b"\x8c\x20" + bytes((sender.access_no, 0x90, len(fields))) + fields + upper)


def mode10(
    sender: Sender, master: bytes, counter: int, records: bytes, *, tag_bytes: int = 8, clear: bytes = b""
) -> bytes:
    """Mode 10: AES-CCM; `clear` is authenticated only."""
    tag_code = {4: 0, 8: 1, 12: 2, 16: 3}[tag_bytes]
    extension = tag_code << 8 | 0x10
    encrypted = len(records) if clear else 0xFF
    header = sender.transport_header(0x2A00 | encrypted) + extension.to_bytes(2, "little")
    key = derive(master, 0x00, counter, sender.address[2:6])
    nonce = sender.address + b"\x00" + counter.to_bytes(4, "big")
    sealed = AESCCM(key, tag_length=tag_bytes).encrypt(nonce, records, header + clear)
    body = sealed[:-tag_bytes] + clear + sealed[-tag_bytes:]
    return sender.link(header + counter.to_bytes(4, "little") + body)


def link_ctr(sender: Sender, key: bytes, session: int, upper: bytes) -> bytes:
    """Extended link layer with AES-CTR around `upper` (from its CI on)."""
    session_bytes = (session & 0x1FFFFFFF | 0x20000000).to_bytes(4, "little")
    vector = sender.address + b"\x20" + session_bytes + bytes(3)
    data = crc16_en13757(upper).to_bytes(2, "little") + upper
    encryptor = Cipher(AES(key), CTR(vector)).encryptor()
    body = encryptor.update(data) + encryptor.finalize()
    return sender.link(bytes((0x8D, 0x20, sender.access_no)) + session_bytes + body)


def in_fragments(telegram: bytes, size: int) -> list[bytes]:
    """Take a `mode7` telegram to pieces: its fields but the code in the first, the code in the last.

    Args:
        telegram: as `mode7` built it, without key information.
        size: bytes of content of each piece.
    """
    link, extended, fields = telegram[1:10], telegram[10:13], telegram[15 : 15 + telegram[14]]
    upper = telegram[15 + telegram[14] :]
    control = int.from_bytes(fields[:2], "little")
    mac_size = {3: 2, 4: 4, 5: 8, 6: 12, 7: 16}[fields[2] & 0x0F]
    mac, length = fields[7 : 7 + mac_size], fields[7 + mac_size :]
    parts = [upper[start : start + size] for start in range(0, len(upper), size)]
    telegrams = []
    for number, part in enumerate(parts, 1):
        last = number == len(parts)
        flags = number | (0 if last else 0x4000)
        own = b""
        if number == 1:
            flags |= control & 0x3800
            own += fields[2:7]
        if last:
            flags |= 0x0400
            own += mac
        if number == 1:
            own += length
        layer = flags.to_bytes(2, "little") + own
        body = link + extended + bytes((0x90, len(layer))) + layer + part
        telegrams.append(bytes((len(body),)) + body)
    return telegrams
