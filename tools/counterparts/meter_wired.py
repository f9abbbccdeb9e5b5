"""A virtual meter on RS-485: HDLC secondary, TLS server with a certificate of its own, SML inside.

Its checks are foreign code: the standard library's `ssl` runs the connection and trusts the one gateway
certificate it was given.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hsm.api import Curve
from lmn.errors import LmnError
from lmn.model import MeterId, Obis
from lmn.sml.bodies import (
    Attention,
    Body,
    CloseRequest,
    CloseResponse,
    GetProcParameterRequest,
    GetProcParameterResponse,
    OpenRequest,
    OpenResponse,
)
from lmn.sml.messages import Message, read_frame, to_transport
from lmn.sml.transport import ReceivedSml, SmlDeframer
from lmn.sml.values import SmlTime, TimeKind
from lmn.wired.discovery import Addresses, Discovered
from lmn.wired.hdlc import HdlcDeframer, HdlcFrame
from lmn.wired.link import Secondary, State
from lmn.wired.registers import register_tree
from tools.counterparts.keys import new_private_key, save_private_key
from tools.counterparts.meter_sml import SmlMeter, server_id
from tools.counterparts.rs485_hub import Rs485Hub

DEFAULT_METER: Final = MeterId("SMG", "10000003", 0x00, 0x02)
_UNKNOWN_REGISTER: Final = bytes.fromhex("8181c7c7fe03")
_DONE: Final = bytes.fromhex("8181c7c7fd00")
_READ_BYTES: Final = 65536
_WH, _SCALER = 30, -1


def make_identity(folder: Path, meter: MeterId, curve: Curve = Curve.BRAINPOOL_P256) -> Path:
    """Write key and self-signed certificate of a meter, as its maker would; return the certificate's path."""
    folder.mkdir(parents=True, exist_ok=True)
    key = new_private_key(curve)
    name = x509.Name(
        [
            x509.NameAttribute(
                NameOID.COMMON_NAME, f"1{meter.manufacturer}{meter.version:02x}{meter.identification}.sm"
            )
        ]
    )
    now = datetime.now(UTC).replace(microsecond=0)
    usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=365 * 7 - 1))
        .add_extension(usage, critical=True)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    save_private_key(folder / "meter.key", key)
    path = folder / "meter.pem"
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return path


class WiredMeterStation:
    """One meter on a line; answers as long as it is attached."""

    def __init__(
        self,
        hub: Rs485Hub,
        identity: Path,
        gateway_certificate: Path,
        *,
        registers: SmlMeter | None = None,
        addresses: Addresses | None = None,
        seed: int = 0,
        slot_s: float = 0.02,
    ) -> None:
        """Attach a meter.

        Args:
            hub: the line.
            identity: folder with meter.key and meter.pem.
            gateway_certificate: the one it trusts, read at each handshake.
            registers: what it counts.
            addresses: numbers with a role.
            seed: of the slot that it answers a call in.
            slot_s: length of a slot.
        """
        self.registers = registers or SmlMeter(DEFAULT_METER)
        self.server_id = server_id(self.registers.meter)
        self.age_s = 0
        """How much older than its transmission a value is."""
        self.silent = False
        """Set to answer nothing any more."""
        self.handshakes = 0
        self.requests: list[Body] = []
        self._identity, self._gateway_certificate = identity, gateway_certificate
        self._addresses = addresses or Addresses()
        self._discovered = Discovered(self._addresses, self.server_id)
        self._random, self._slot_s = random.Random(seed), slot_s  # noqa: S311  # a slot, no secret
        self._deframer, self._link = HdlcDeframer(), Secondary(self._addresses.unnamed)
        self._tls: _Server | None = None
        self._say: Callable[[bytes], None] = hub.attach(self._hear)

    @property
    def address(self) -> int | None:
        """What it was named, None before."""
        return self._discovered.address

    def reset(self) -> None:
        """Power it off and on: name, link and session are gone."""
        self._discovered = Discovered(self._addresses, self.server_id)
        self._link, self._tls = Secondary(self._addresses.unnamed), None

    def _hear(self, data: bytes) -> None:
        if self.silent:
            return
        for frame in self._deframer.receive(data):
            self._on_frame(frame)

    def _on_frame(self, frame: HdlcFrame) -> None:
        slots = self._discovered.slots(frame)
        if slots is not None:
            delay = self._random.randrange(slots) * self._slot_s
            asyncio.get_running_loop().call_later(delay, self._announce)
            return
        if self._discovered.take(frame):
            assert self._discovered.address is not None
            self._link = Secondary(self._discovered.address)
            return
        if self._discovered.address is None:
            return
        before = self._link.state
        brought, answer = self._link.receive(frame)
        if answer is not None:
            if self._link.state is State.CONNECTED and answer.kind.name == "ACKNOWLEDGE":
                self._tls = None
            self._say(answer.to_bytes())
            return
        if self._link.asked is None or before is not State.CONNECTED:
            return
        if brought:
            self._work(brought)
        self._say(self._link.answer().to_bytes())

    def _announce(self) -> None:
        if self._discovered.address is None and not self.silent:
            self._say(self._discovered.answer().to_bytes())

    def _work(self, data: bytes) -> None:
        if self._tls is None:
            self._tls = _Server(self._identity, self._gateway_certificate)
        files, finished = self._tls.feed(data)
        self.handshakes += finished
        for file in files:
            try:
                messages = read_frame(file.data)
            except LmnError:
                continue
            self._tls.write(self._answer(messages))
        if out := self._tls.outgoing():
            self._link.send(out)

    def _answer(self, messages: tuple[Message, ...]) -> bytes:
        now = SmlTime(TimeKind.SECONDS_INDEX, self.registers.seconds)
        answered: list[Message] = []
        for message in messages:
            self.requests.append(message.body)
            body: Body
            match message.body:
                case OpenRequest(file_id=file_id):
                    body = OpenResponse(file_id, self.server_id, now)
                case GetProcParameterRequest(path=path):
                    body = self._register(path)
                case CloseRequest():
                    body = CloseResponse()
                case _:
                    body = Attention(self.server_id, _DONE)
            answered.append(Message(body, message.transaction))
        return to_transport(answered)

    def _register(self, path: tuple[bytes, ...]) -> Body:
        values = {
            "0100010800ff": self.registers.import_wh10,
            "0100020800ff": self.registers.export_wh10,
        }
        value = values.get(path[0].hex()) if path else None
        if value is None:
            return Attention(self.server_id, _UNKNOWN_REGISTER)
        taken = SmlTime(TimeKind.SECONDS_INDEX, max(0, self.registers.seconds - self.age_s))
        tree = register_tree(Obis(path[0]), value, _SCALER, _WH, status=4, time=taken)
        return GetProcParameterResponse(self.server_id, path, tree)


class _Server:
    """The standard library's TLS in memory."""

    def __init__(self, identity: Path, gateway_certificate: Path) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(identity / "meter.pem", identity / "meter.key")
        context.load_verify_locations(gateway_certificate)
        context.verify_mode = ssl.CERT_REQUIRED
        context.set_ecdh_curve("brainpoolP256r1")
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_side=True)
        self._finished = self._failed = False
        self._deframer = SmlDeframer()

    def feed(self, data: bytes) -> tuple[list[ReceivedSml], bool]:
        """Take ciphertext; return whole files, and whether the handshake has just finished."""
        self._in.write(data)
        just = False
        files: list[ReceivedSml] = []
        try:
            if not self._finished and not self._failed:
                self._tls.do_handshake()
                self._finished = just = True
            while self._finished and (plain := self._tls.read(_READ_BYTES)):
                files += [each for each in self._deframer.receive(plain) if isinstance(each, ReceivedSml)]
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:
            self._failed = True
        return files, just

    def write(self, data: bytes) -> None:
        for start in range(0, len(data), 1900):
            self._tls.write(data[start : start + 1900])

    def outgoing(self) -> bytes:
        return self._out.read()
