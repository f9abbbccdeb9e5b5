"""The emulated security module: a pure state machine, command APDU in, response APDU out.

Any bytes get an answer. A command in the clear, or any fault of secure messaging, ends the session: keys,
rights, ephemeral key pairs and the security environment are gone. What must survive is stored before it is
acknowledged. Never does I/O of its own; storage and generator are given to it.
"""

from __future__ import annotations

import logging
from enum import Enum
from typing import Final

from hsm.apdu import MAX_DATA, MAX_SHORT_LE, CommandApdu, ResponseApdu, Sw
from hsm.api import LifeCycle
from hsm.emulator import files, key_commands, life, passwords, trust
from hsm.emulator.access import Action
from hsm.emulator.context import Context, Handler, p1p2
from hsm.emulator.drbg import Drbg
from hsm.emulator.status import Refused
from hsm.emulator.storage import StateStorage
from hsm.errors import MalformedCommand, MalformedTlv, ModuleFailed
from hsm.profile import PROJECT, Profile

_log = logging.getLogger("smgw.hsm.card")
_CHAIN, _SM = 0x10, 0x0C
_CLASSES: Final = frozenset({0x00, _CHAIN, _SM, _CHAIN | _SM})
_MAX_CHAIN_BYTES = MAX_DATA


class PowerEvent(Enum):
    """What a reader does to a card."""

    ON = "on"
    RESET = "reset"
    OFF = "off"


class Card:
    """One emulated module.

    Args:
        storage: holds the state, made by `personalise`.
        drbg: the card's generator.
        profile: the coding it understands.

    Raises:
        ModuleUnavailable: the storage holds no card.
        ModuleFailed: the state is damaged, or the generator is a test's and the card is in operation.
    """

    atr = bytes.fromhex("3b80800101")  # T=1, no historical bytes

    def __init__(self, storage: StateStorage, drbg: Drbg, *, profile: Profile = PROJECT) -> None:
        self._profile = profile
        self._context = context = Context(storage, drbg, profile)
        if context.state.life_cycle is LifeCycle.OPERATIONAL and not drbg.trusted:
            raise ModuleFailed("a card in operation refuses a generator without entropy")
        self._powered = False
        self._rest = b""
        self._rest_sw = int(Sw.OK)
        self._chain: tuple[bytes, bytes] | None = None  # header without chaining bit, data so far
        self._envelope: bytes | None = None
        self._handlers = _handlers(profile)
        # Commands whose data may come in several parts; GENERAL AUTHENTICATE chains by its own rules.
        self._chainable = frozenset(
            {profile.ins_pso, profile.ins_update_binary, profile.ins_external_authenticate}
        )

    @property
    def life_cycle(self) -> LifeCycle:
        """The state the card is in."""
        return self._context.state.life_cycle

    def power(self, event: PowerEvent) -> None:
        """Power on, off or reset: nothing volatile survives any of them."""
        self._powered = event is not PowerEvent.OFF
        self._end_session()

    def apdu(self, raw: bytes) -> bytes:
        """Answer a command; an unpowered card answers nothing (no bytes)."""
        if not self._powered:
            return b""
        try:
            command = CommandApdu.from_bytes(raw)
        except MalformedCommand:
            self._end_session()
            return ResponseApdu(b"", Sw.LENGTH).to_bytes()
        # These two carry other commands' bytes; they are no part of secure messaging and do not end it.
        if command.cla == 0x00 and command.ins == self._profile.ins_get_response and self._rest:
            return self._cut(ResponseApdu(self._rest, self._rest_sw), command).to_bytes()
        self._rest = b""
        if command.cla in (0x00, _CHAIN) and command.ins == self._profile.ins_envelope:
            return self._open_envelope(command).to_bytes()
        self._envelope = None
        return self._cut(self._serve(command), command).to_bytes()

    def _open_envelope(self, command: CommandApdu) -> ResponseApdu:
        """Collect a command that comes in parts, and answer it as if it had come whole."""
        content = (self._envelope or b"") + command.data
        self._envelope = None
        if self.life_cycle is LifeCycle.TERMINATED:
            return ResponseApdu(b"", Sw.CONDITIONS)
        if p1p2(command):
            return ResponseApdu(b"", Sw.P1P2)
        if len(content) > _MAX_CHAIN_BYTES:
            return ResponseApdu(b"", Sw.LENGTH)
        if command.cla & _CHAIN:
            self._envelope = content
            return ResponseApdu(b"", Sw.OK)
        try:
            inner = CommandApdu.from_bytes(content)
        except MalformedCommand:
            self._end_session()
            return ResponseApdu(b"", Sw.LENGTH)
        if inner.ins in (self._profile.ins_envelope, self._profile.ins_get_response):
            return ResponseApdu(b"", Sw.DATA)
        return self._cut(self._serve(inner), command)

    def _serve(self, command: CommandApdu) -> ResponseApdu:
        """Answer one command, protected or in the clear."""
        context = self._context
        if command.cla not in _CLASSES:
            self._end_session()
            return ResponseApdu(b"", _class_fault(command.cla))
        if not command.cla & _SM:
            if context.messaging is not None:
                self._end_session()
            return self._execute(command)
        messaging = context.messaging
        try:
            if messaging is None:
                raise Refused(Sw.SM_WRONG)
            plain = messaging.open(command)
        except Refused as refusal:
            self._end_session()
            return ResponseApdu(b"", refusal.sw)
        context.secure = True
        try:
            response = self._execute(plain)
        finally:
            context.secure = False
        return messaging.close(response)

    def _cut(self, response: ResponseApdu, command: CommandApdu) -> ResponseApdu:
        """Return what fits the length asked for; the rest waits for GET RESPONSE."""
        limit = command.le or MAX_SHORT_LE
        if len(response.data) <= limit:
            self._rest = b""
            return response
        self._rest, self._rest_sw = response.data[limit:], response.sw
        return ResponseApdu(response.data[:limit], 0x6100 | (min(len(self._rest), 256) & 0xFF))

    def _execute(self, command: CommandApdu) -> ResponseApdu:
        """Run one command that is in the clear now; every refusal becomes a status word."""
        context = self._context
        is_step = command.ins == self._profile.ins_general_authenticate
        interrupted = context.pace is not None and not is_step
        if interrupted:
            context.pace = None
        try:
            if context.state.life_cycle is LifeCycle.TERMINATED:
                raise Refused(Sw.CONDITIONS)
            if interrupted and command.ins not in (self._profile.ins_select, self._profile.ins_mse):
                raise Refused(Sw.CHAIN_EXPECTED)
            if not is_step:
                whole = self._join(command)
                if whole is None:
                    return _OK
                command = whole
            elif self._chain is not None:
                self._chain = None
                raise Refused(Sw.CHAIN_EXPECTED)
            handler = self._handlers.get(command.ins)
            if handler is None:
                raise Refused(Sw.INS)
            return ResponseApdu(handler(context, command), Sw.OK)
        except Refused as refusal:
            return ResponseApdu(refusal.data, refusal.sw)
        except MalformedTlv:
            return ResponseApdu(b"", Sw.DATA)
        except ModuleFailed as error:
            _log.error("emulated card: %s", error)
            return ResponseApdu(b"", Sw.INTERNAL)
        except OSError as error:
            _log.error("emulated card cannot store its state: %s", error)
            return ResponseApdu(b"", Sw.WRITE_FAILED)

    def _join(self, command: CommandApdu) -> CommandApdu | None:
        """Put a chained command together; None while parts are missing."""
        header = bytes((command.cla & ~_CHAIN, command.ins, command.p1, command.p2))
        chain, self._chain = self._chain, None
        if chain is not None and chain[0] != header:
            raise Refused(Sw.CHAIN_EXPECTED)
        if not command.cla & _CHAIN and chain is None:
            return command
        if command.ins not in self._chainable:
            raise Refused(Sw.CHAINING)
        if not self._context.secure:
            raise Refused(Sw.SECURITY_STATUS)
        data = (chain[1] if chain else b"") + command.data
        if len(data) > _MAX_CHAIN_BYTES:
            raise Refused(Sw.LENGTH)
        if command.cla & _CHAIN:
            self._chain = (header, data)
            return None
        return CommandApdu(header[0], command.ins, command.p1, command.p2, data, command.le)

    def _end_session(self) -> None:
        self._context.end_session()
        self._rest = b""
        self._chain = self._envelope = None


_OK = ResponseApdu(b"", Sw.OK)


def _handlers(profile: Profile) -> dict[int, Handler]:
    """The command set: instruction byte to handler."""
    environments: dict[int, Handler] = {
        profile.p1p2_mse_pace: passwords.start_pace,
        profile.p1p2_mse_sign: key_commands.choose_signing,
        profile.p1p2_mse_agree: key_commands.choose_agreement,
        profile.p1p2_mse_export: key_commands.choose_export,
        profile.p1p2_mse_internal: key_commands.choose_internal,
        profile.p1p2_mse_verify: trust.choose_verifying,
        profile.p1p2_mse_external: trust.choose_external,
    }
    operations: dict[int, Handler] = {
        profile.p1p2_sign: key_commands.sign,
        profile.p1p2_export: key_commands.export,
        profile.p1p2_verify_signature: trust.verify_signature,
        profile.p1p2_verify_certificate: trust.verify_certificate,
    }
    return {
        profile.ins_select: files.select,
        profile.ins_read_binary: files.read_binary,
        profile.ins_read_binary_odd: files.read_binary_odd,
        profile.ins_update_binary: files.update_binary,
        profile.ins_create: files.create,
        profile.ins_terminate_file: files.terminate,
        profile.ins_get_challenge: key_commands.get_challenge,
        profile.ins_mse: _by_parameters(environments),
        profile.ins_pso: _by_parameters(operations),
        profile.ins_general_authenticate: _general_authenticate,
        profile.ins_generate_key_pair: key_commands.generate,
        profile.ins_internal_authenticate: key_commands.internal_authenticate,
        profile.ins_external_authenticate: trust.external_authenticate,
        profile.ins_change_reference_data: passwords.change,
        profile.ins_reset_retry_counter: passwords.reset,
        profile.ins_activate: life.activate,
        profile.ins_deactivate: life.deactivate,
        profile.ins_delete: life.delete,
        profile.ins_terminate_application: life.terminate,
        profile.ins_terminate_card: life.terminate,
        profile.ins_increase: life.increase,
    }


def _by_parameters(handlers: dict[int, Handler]) -> Handler:
    def choose(context: Context, command: CommandApdu) -> bytes:
        handler = handlers.get(p1p2(command))
        if handler is None:
            context.require(Action.USE_KEY)
            raise Refused(Sw.P1P2)
        return handler(context, command)

    return choose


def _general_authenticate(context: Context, command: CommandApdu) -> bytes:
    """PACE in the clear, key agreement inside a session."""
    return (key_commands.agree if context.secure else passwords.continue_pace)(context, command)


def _class_fault(cla: int) -> int:
    """Which part of a class byte is not served (ISO/IEC 7816-4, 5.4.1)."""
    if cla & 0xE0:
        return Sw.CLA
    if cla & 0x03:
        return Sw.CHANNEL
    return Sw.SM_UNSUPPORTED
