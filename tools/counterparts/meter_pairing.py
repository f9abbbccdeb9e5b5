"""What a wired meter keeps, and its end of pairing: written from the published rules, on foreign primitives.

It shares no check and no codec of symmetric messages with the gateway: pyca's CMAC and AES, and asn1crypto's
and pyca's readers, judge what the gateway sends.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from asn1crypto import keys as asn1_keys
from asn1crypto import parser
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import ciphers, cmac, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import algorithms, modes
from cryptography.x509.oid import NameOID

from tools.counterparts.keys import save_private_key

_DELIVER, _ACCEPTED, _REFUSED, _RESET, _RESET_DONE = 1, 2, 3, 6, 7
_PROTOCOL: Final = 0x10
PAIRED, CONTENT = 1, 2
_NOTHING_HEARD: Final = -1


class PowerCut(Exception):
    """A test switches the meter off at this moment."""


class ContentRefused(Exception):
    """What was delivered or written is none that this meter keeps."""


class MeterMemory:
    """What a meter still knows after a power cut: one file, replaced as a whole."""

    def __init__(self, folder: Path, common_name: str, gateway_certificate: Path | None) -> None:
        """Take up what is there.

        Args:
            folder: with meter.key and meter.pem if its maker made them.
            common_name: of its own certificate.
            gateway_certificate: PEM file of the one it trusts from the start, read at each handshake.
        """
        self._folder, self._name, self._given = folder, common_name, gateway_certificate
        self.cut: Callable[[], None] = lambda: None
        """Called before and after each write; may raise PowerCut."""
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / "memory.json"
        self._state: dict[str, Any] = {
            "generation": 0,
            "trusted": None,
            "used": (folder / "meter.pem").exists(),
            "sent": 0,
            "heard": _NOTHING_HEARD,
        }
        if self._file.exists():
            self._state = json.loads(self._file.read_text())

    @property
    def identity(self) -> tuple[Path, Path] | None:
        """Certificate and key that it shows now; None: it has none."""
        number = self._state["generation"]
        name = "meter" if number == 0 else f"meter-{number}"
        found = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        return found if number >= 0 and found[0].exists() else None

    @property
    def trusted(self) -> list[x509.Certificate]:
        """The gateway's certificates that it accepts."""
        if self._state["trusted"] is not None:
            return [x509.load_der_x509_certificate(bytes.fromhex(each)) for each in self._state["trusted"]]
        if self._given is None or not self._given.exists():
            return []
        return [x509.load_pem_x509_certificate(self._given.read_bytes())]

    @property
    def used(self) -> bool:
        """Whether a session has been run with its present keys."""
        return bool(self._state["used"])

    @property
    def heard(self) -> int:
        """The gateway's counter that it accepted last."""
        return int(self._state["heard"])

    def hear(self, counter: int) -> None:
        """Keep a counter that it accepted."""
        self._save(heard=counter)

    def next_counter(self) -> int:
        """Use up one of its own counters."""
        self._save(sent=self._state["sent"] + 1)
        return int(self._state["sent"])

    def take(self, content: bytes, *, with_gateway: bool) -> None:
        """Keep a delivered key and certificate, and the gateway's certificate if it comes along.

        Raises:
            ContentRefused: they do not fit each other or this meter.
        """
        parts = _split(content)
        if len(parts) != (3 if with_gateway else 2):
            raise ContentRefused("another number of parts")
        key, certificate = _identity(parts[0], parts[1], self._name)
        trusted = [_certificate(parts[2])] if with_gateway else None
        number = max(0, self._state["generation"]) + 1
        while (self._folder / f"meter-{number}.pem").exists():
            number += 1
        save_private_key(self._folder / f"meter-{number}.key", key)
        pem = certificate.public_bytes(serialization.Encoding.PEM)
        (self._folder / f"meter-{number}.pem").write_bytes(pem)
        if trusted is None:
            self._save(generation=number)
        else:
            self._save(generation=number, used=False, trusted=_hex(trusted))

    def also_trust(self, der: bytes) -> None:
        """Keep the gateway's next certificate beside the present one."""
        coming = _certificate(der)
        present = [each for each in self.trusted if each != coming]
        self._save(trusted=_hex([*present[-1:], coming]))

    def seen(self, der: bytes) -> None:
        """The gateway proved that it has this certificate: older ones are forgotten, a newer one is not."""
        trusted = _hex(self.trusted)
        later = trusted[trusted.index(der.hex()) :] if der.hex() in trusted else trusted
        if not self.used or later != trusted:
            self._save(used=True, trusted=later)

    def forget(self) -> None:
        """Crypto reset."""
        self._save(generation=-1, trusted=[], used=False)

    def _save(self, **changed: object) -> None:
        self.cut()
        fresh = self._file.with_suffix(".new")
        fresh.write_text(json.dumps(self._state | changed))
        fresh.replace(self._file)
        self._state |= changed
        self.cut()


class SymEnd:
    """The meter's end of the symmetric messages."""

    def __init__(self, memory: MeterMemory, master: bytes, server_id: bytes, mac_bytes: int = 16) -> None:
        self._memory, self._master, self._server_id, self._mac = memory, master, server_id, mac_bytes
        self._last: tuple[bytes, bytes] | None = None
        self.refused = 0
        """Messages that were forged, old or not for it; they get no answer."""

    def receive(self, data: bytes) -> bytes | None:
        """Take the information of an unnumbered frame; return the answer, None: silence."""
        if self._last is not None and self._last[0] == data:
            return self._last[1]  # the gateway did not hear it
        opened = self._open(data)
        if opened is None:
            self.refused += 1
            return None
        kind, counter, content = opened
        self._memory.hear(counter)
        repeated = counter.to_bytes(4, "big")
        if kind == _RESET:
            self._memory.forget()
            answer = self._seal(_RESET_DONE, repeated)
        elif self._memory.used:
            answer = self._seal(_REFUSED, repeated + bytes((PAIRED,)))
        else:
            try:
                self._memory.take(content, with_gateway=True)
                answer = self._seal(_ACCEPTED, repeated)
            except ContentRefused:
                answer = self._seal(_REFUSED, repeated + bytes((CONTENT,)))
        self._last = data, answer
        return answer

    def _key(self, use: int, counter: bytes) -> bytes:
        block = bytes((use,)) + counter + self._server_id
        missing = 16 - len(block) % 16
        return _cmac(self._master, block + bytes((missing,)) * missing)

    def _open(self, data: bytes) -> tuple[int, int, bytes] | None:
        body, mac = data[: -self._mac], data[-self._mac :]
        if len(body) < 32 or len(body) % 16 or body[0] != _PROTOCOL or body[6:16] != self._server_id:
            return None
        counter = body[2:6]
        if _cmac(self._key(0x11, counter), body)[: self._mac] != mac:
            return None
        if int.from_bytes(counter, "big") <= self._memory.heard or body[1] not in (_DELIVER, _RESET):
            return None
        plain = _cbc(self._key(0x10, counter)).decryptor().update(body[16:])
        content, mark, rest = plain.rpartition(b"\x80")
        return (body[1], int.from_bytes(counter, "big"), content) if mark and not any(rest) else None

    def _seal(self, kind: int, content: bytes) -> bytes:
        counter = self._memory.next_counter().to_bytes(4, "big")
        padded = content + b"\x80" + bytes(-(len(content) + 1) % 16)
        body = bytes((_PROTOCOL, kind)) + counter + self._server_id
        body += _cbc(self._key(0x00, counter)).encryptor().update(padded)
        return body + _cmac(self._key(0x01, counter), body)[: self._mac]


def _cmac(key: bytes, data: bytes) -> bytes:
    mac = cmac.CMAC(algorithms.AES(key))
    mac.update(data)
    return mac.finalize()


def _cbc(key: bytes) -> ciphers.Cipher[modes.CBC]:
    return ciphers.Cipher(algorithms.AES(key), modes.CBC(bytes(16)))


def _split(content: bytes) -> list[bytes]:
    parts = []
    while content:
        try:
            length = parser.peek(content)
        except ValueError as error:
            raise ContentRefused("no DER") from error
        parts.append(content[:length])
        content = content[length:]
    return parts


def _certificate(der: bytes) -> x509.Certificate:
    try:
        found = x509.load_der_x509_certificate(der)
        found.verify_directly_issued_by(found)
    except (ValueError, TypeError, InvalidSignature) as error:
        raise ContentRefused("no self-signed certificate") from error
    return found


def _identity(
    key_der: bytes, der: bytes, common_name: str
) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    certificate = _certificate(der)
    public = certificate.public_key()
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if [each.value for each in names] != [common_name] or not isinstance(public, ec.EllipticCurvePublicKey):
        raise ContentRefused("a certificate for something else")
    try:
        scalar = asn1_keys.ECPrivateKey.load(key_der, strict=True)["private_key"].native
        key = ec.derive_private_key(int(scalar), public.curve)
    except ValueError as error:
        raise ContentRefused("no private key") from error
    if key.public_key() != public:
        raise ContentRefused("key and certificate do not fit")
    return key, certificate


def _hex(certificates: list[x509.Certificate]) -> list[str]:
    return [each.public_bytes(serialization.Encoding.DER).hex() for each in certificates]
