"""A virtual meter on RS-485: HDLC secondary, TLS server with a certificate of its own, SML inside.

Its checks are foreign code: the standard library's `ssl` runs the connection and trusts the gateway
certificates it was given; `meter_pairing` has its memory.
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
    SetProcParameterRequest,
)
from lmn.sml.messages import Message, read_frame, to_transport
from lmn.sml.transport import ReceivedSml, SmlDeframer
from lmn.sml.values import SmlTime, TimeKind
from lmn.wired.discovery import Addresses, Discovered
from lmn.wired.hdlc import HdlcDeframer, HdlcFrame, Kind
from lmn.wired.link import Secondary, State
from lmn.wired.registers import register_tree
from tools.counterparts.keys import new_private_key, save_private_key
from tools.counterparts.meter_pairing import ContentRefused, MeterMemory, PowerCut, SymEnd
from tools.counterparts.meter_sml import SmlMeter, server_id
from tools.counterparts.rs485_hub import Rs485Hub

DEFAULT_METER: Final = MeterId("SMG", "10000003", 0x00, 0x02)
_UNKNOWN_REGISTER: Final = bytes.fromhex("8181c7c7fe03")
_DONE: Final = bytes.fromhex("8181c7c7fd00")
_WRONG_VALUE: Final = bytes.fromhex("8181c7c7fe0a")
_OWN_IDENTITY: Final = bytes.fromhex("01005e310004")
_GATEWAY_CERTIFICATE: Final = bytes.fromhex("01005e310008")
_READ_BYTES: Final = 65536
_WH, _SCALER = 30, -1


def common_name(meter: MeterId) -> str:
    """What a meter's certificate names."""
    return f"1{meter.manufacturer}{meter.version:02x}{meter.identification}.sm".lower()


def make_identity(
    folder: Path, meter: MeterId, curve: Curve = Curve.BRAINPOOL_P256, days: int = 365 * 7 - 4
) -> Path:
    """Write key and self-signed certificate of a meter, as its maker would; return the certificate's path.

    Args:
        folder: where meter.key and meter.pem go.
        meter: whose.
        curve: of the key.
        days: how long it is valid from now on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    key = new_private_key(curve)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name(meter))])
    now = datetime.now(UTC).replace(microsecond=0)
    usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=3))
        .not_valid_after(now + timedelta(days=days))
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
        gateway_certificate: Path | None,
        *,
        master: bytes | None = None,
        sym_mac_bytes: int = 16,
        registers: SmlMeter | None = None,
        addresses: Addresses | None = None,
        seed: int = 0,
        slot_s: float = 0.02,
    ) -> None:
        """Attach a meter.

        Args:
            hub: the line.
            identity: folder of what it keeps; with meter.key and meter.pem if its maker made them.
            gateway_certificate: the one it trusts from the start, read at each handshake.
            master: its master key; without one it cannot be paired.
            sym_mac_bytes: of the pairing messages.
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
        self.memory = MeterMemory(identity, common_name(self.registers.meter), gateway_certificate)
        self.sym = (
            None if master is None else SymEnd(self.memory, master, self.server_id, mac_bytes=sym_mac_bytes)
        )
        self.cuts = 0
        """How often its power was cut by `memory.cut`."""
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
            try:
                self._on_frame(frame)
            except PowerCut:
                self.cuts += 1
                self.reset()

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
        if self._discovered.released(frame):
            self.reset()
        if self._discovered.address is None:
            return
        if frame.kind is Kind.UNNUMBERED_INFORMATION:
            if frame.destination == self._discovered.address and self.sym is not None:
                said = self.sym.receive(frame.information)
                if said is not None:
                    back = HdlcFrame(
                        frame.source, self._discovered.address, Kind.UNNUMBERED_INFORMATION, said
                    )
                    self._say(back.to_bytes())
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
        identity = self.memory.identity
        if self._tls is None and identity is not None and self.memory.trusted:
            self._tls = _Server(*identity, self.memory.trusted)
        if self._tls is None:
            return
        files, finished = self._tls.feed(data)
        if finished:
            self.handshakes += 1
            self.memory.seen(self._tls.peer())
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
                case SetProcParameterRequest():
                    body = self._set(message.body)
                case CloseRequest():
                    body = CloseResponse()
                case _:
                    body = Attention(self.server_id, _DONE)
            answered.append(Message(body, message.transaction))
        return to_transport(answered)

    def _set(self, request: SetProcParameterRequest) -> Body:
        content = None if request.tree is None else request.tree.value
        number = _DONE
        try:
            if not isinstance(content, bytes):
                number = _UNKNOWN_REGISTER
            elif request.path == (_OWN_IDENTITY,):
                self.memory.take(content, with_gateway=False)
            elif request.path == (_GATEWAY_CERTIFICATE,):
                self.memory.also_trust(content)
            else:
                number = _UNKNOWN_REGISTER
        except ContentRefused:
            number = _WRONG_VALUE
        return Attention(self.server_id, number)

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

    def __init__(self, certificate: Path, key: Path, trusted: list[x509.Certificate]) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        for each in trusted:
            context.load_verify_locations(cadata=each.public_bytes(serialization.Encoding.DER))
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # present and next one have the same name
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

    def peer(self) -> bytes:
        """The gateway's certificate (DER)."""
        found = self._tls.getpeercert(binary_form=True)
        assert found is not None
        return found

    def write(self, data: bytes) -> None:
        for start in range(0, len(data), 1900):
            self._tls.write(data[start : start + 1900])

    def outgoing(self) -> bytes:
        return self._out.read()
