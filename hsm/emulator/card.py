"""The emulated security module: a pure state machine, command APDU in, response APDU out.

Any bytes get an answer. A command in the clear, or any fault of secure messaging, ends the session: keys,
rights, ephemeral key pairs and the security environment are gone. What must survive is stored before it is
acknowledged. Never does I/O of its own; storage and generator are given to it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from enum import Enum
from typing import Final

from hsm import curves, tlv
from hsm.apdu import MAX_SHORT_LE, CommandApdu, ResponseApdu, Sw
from hsm.api import Curve
from hsm.emulator.access import Action, Right, right
from hsm.emulator.drbg import Drbg
from hsm.emulator.files import FileSystem
from hsm.emulator.keys import CardKey, KeyStore, new_key
from hsm.emulator.messaging import CardMessaging
from hsm.emulator.pace import CardPace, Step
from hsm.emulator.state import CardState, LifeCycle, decode_state, encode_state
from hsm.emulator.status import Refused
from hsm.emulator.storage import StateStorage
from hsm.errors import MalformedCommand, MalformedTlv, ModuleFailed
from hsm.profile import DOMAIN_IDS, PROJECT, Profile
from hsm.suites import BY_OID

_log = logging.getLogger("smgw.hsm.card")
_CHAIN, _SM = 0x10, 0x0C
_CLASSES: Final = frozenset({0x00, _CHAIN, _SM, _CHAIN | _SM})
_CURVES_BY_ID: Final = {number: curve for curve, number in DOMAIN_IDS.items()}


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
        self._storage, self._drbg, self._profile = storage, drbg, profile
        self._state: CardState = decode_state(storage.load())
        if self._state.life_cycle is LifeCycle.OPERATIONAL and not drbg.trusted:
            raise ModuleFailed("a card in operation refuses a generator without entropy")
        self._static = frozenset(profile.key_references.values())
        self._keys = KeyStore(self._state.keys, frozenset(profile.ephemeral_references))
        self._files = FileSystem(profile.files, self._state.files)
        self._powered = False
        self._messaging: CardMessaging | None = None
        self._pace: CardPace | None = None
        self._secure = False
        self._rest = b""
        self._rest_sw = int(Sw.OK)
        self._file: int | None = None
        self._signing: int | None = None
        self._agreeing: int | None = None
        self._handlers: dict[int, Callable[[CommandApdu], ResponseApdu]] = {
            profile.ins_select: self._select,
            profile.ins_read_binary: self._read_binary,
            profile.ins_update_binary: self._update_binary,
            profile.ins_get_challenge: self._get_challenge,
            profile.ins_mse: self._manage_environment,
            profile.ins_general_authenticate: self._general_authenticate,
            profile.ins_generate_key_pair: self._generate_key_pair,
            profile.ins_pso: self._perform_operation,
            profile.ins_delete: self._delete,
        }

    @property
    def life_cycle(self) -> LifeCycle:
        """The state the card is in."""
        return self._state.life_cycle

    def power(self, event: PowerEvent) -> None:
        """Power on, off or reset: nothing volatile survives any of them."""
        self._powered = event is not PowerEvent.OFF
        self._end_session()
        self._file = None

    def apdu(self, raw: bytes) -> bytes:
        """Answer a command; an unpowered card answers nothing (no bytes)."""
        if not self._powered:
            return b""
        try:
            command = CommandApdu.from_bytes(raw)
        except MalformedCommand:
            self._end_session()
            return ResponseApdu(b"", Sw.LENGTH).to_bytes()
        if command.cla == 0x00 and command.ins == self._profile.ins_get_response and self._rest:
            return self._cut(ResponseApdu(self._rest, self._rest_sw), command).to_bytes()
        self._rest = b""
        if command.cla not in _CLASSES:
            self._end_session()
            return ResponseApdu(b"", _class_fault(command.cla)).to_bytes()
        if command.cla & _SM:
            return self._protected(command).to_bytes()
        if self._messaging is not None:
            self._end_session()
        return self._cut(self._execute(command), command).to_bytes()

    # --- secure messaging and dispatch --------------------------------------------------------------------

    def _protected(self, command: CommandApdu) -> ResponseApdu:
        messaging = self._messaging
        try:
            if messaging is None:
                raise Refused(Sw.SM_WRONG)
            plain = messaging.open(command)
        except Refused as refusal:
            self._end_session()
            return ResponseApdu(b"", refusal.sw)
        self._secure = True
        try:
            response = self._execute(plain)
        finally:
            self._secure = False
        return self._cut(messaging.close(response), command)

    def _cut(self, response: ResponseApdu, command: CommandApdu) -> ResponseApdu:
        """Return what fits the length asked for; the rest waits for GET RESPONSE."""
        limit = command.le or MAX_SHORT_LE
        if len(response.data) <= limit:
            self._rest = b""
            return response
        self._rest, self._rest_sw = response.data[limit:], response.sw
        return ResponseApdu(response.data[:limit], 0x6100 | (min(len(self._rest), 256) & 0xFF))

    def _execute(self, command: CommandApdu) -> ResponseApdu:
        """Run one command in the clear; every refusal becomes a status word."""
        is_step = command.ins == self._profile.ins_general_authenticate
        interrupted = self._pace is not None and not is_step
        if interrupted:
            self._pace = None
        try:
            if self._state.life_cycle is LifeCycle.TERMINATED:
                raise Refused(Sw.CONDITIONS)
            if interrupted and command.ins not in (self._profile.ins_select, self._profile.ins_mse):
                raise Refused(Sw.CHAIN_EXPECTED)
            if command.cla & _CHAIN and not is_step:
                raise Refused(Sw.CHAINING)
            handler = self._handlers.get(command.ins)
            if handler is None:
                raise Refused(Sw.INS)
            return handler(command)
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

    def _end_session(self) -> None:
        self._messaging = self._pace = None
        self._rest = b""
        self._signing = self._agreeing = None
        self._keys.clear_ephemeral()

    def _require(self, action: Action) -> None:
        needed = right(self._state.life_cycle, action)
        if needed is Right.NEVER:
            raise Refused(Sw.CONDITIONS)
        if needed is Right.PACE and not self._secure:
            raise Refused(Sw.SECURITY_STATUS)

    def _save(self) -> None:
        self._storage.save(encode_state(self._state))

    # --- files --------------------------------------------------------------------------------------------

    def _select(self, command: CommandApdu) -> ResponseApdu:
        self._require(Action.SELECT)
        how = command.p1 << 8 | command.p2
        if how == 0x040C:
            if command.data != self._profile.application:
                raise Refused(Sw.NO_FILE)
            self._file = None
        elif how == 0x000C:
            if command.data not in (b"", self._profile.master_file.to_bytes(2, "big")):
                raise Refused(Sw.NO_FILE)
            self._file = None
        elif how == 0x020C:
            if len(command.data) != 2:
                raise Refused(Sw.LENGTH)
            file = int.from_bytes(command.data, "big")
            self._files.entry(file)
            self._file = file
        else:
            raise Refused(Sw.P1P2)
        return _OK

    def _address(self, command: CommandApdu) -> tuple[int, int]:
        """File and offset of a binary command; a short file identifier selects the file too."""
        if command.p1 & 0x80:
            short = command.p1 & 0x7F
            found = [file for file in self._profile.files if file & 0x1F == short]
            if not found or short > 0x1E:
                raise Refused(Sw.NO_FILE)
            self._file = found[0]
            return found[0], command.p2
        if self._file is None:
            raise Refused(Sw.NO_FILE_SELECTED)
        return self._file, command.p1 << 8 | command.p2

    def _read_binary(self, command: CommandApdu) -> ResponseApdu:
        if not self._secure:
            # Who has no rights learns nothing about files that are not free.
            self._require(Action.READ_FREE)
        file, offset = self._address(command)
        self._require(Action.READ_FREE if self._files.entry(file).free_read else Action.READ)
        if command.data or command.le is None:
            raise Refused(Sw.LENGTH)
        data, at_end = self._files.read(file, offset, command.le)
        return ResponseApdu(data, Sw.END_OF_FILE if at_end else Sw.OK)

    def _update_binary(self, command: CommandApdu) -> ResponseApdu:
        self._require(Action.UPDATE)
        file, offset = self._address(command)
        if not command.data:
            raise Refused(Sw.LENGTH)
        content = self._files.updated(file, offset, command.data)
        old = self._state.files.get(file, b"")
        self._state.files[file] = content
        try:
            self._save()
        except OSError:
            self._state.files[file] = old
            raise
        return _OK

    # --- PACE and the security environment ----------------------------------------------------------------

    def _manage_environment(self, command: CommandApdu) -> ResponseApdu:
        profile = self._profile
        how = command.p1 << 8 | command.p2
        if how == profile.p1p2_mse_pace:
            return self._start_pace(command)
        self._require(Action.USE_KEY)
        if how not in (profile.p1p2_mse_sign, profile.p1p2_mse_agree):
            raise Refused(Sw.P1P2)
        reference = _byte(tlv.unwrap(profile.tag_key_reference, command.data))
        self._keys.find(reference)
        if how == profile.p1p2_mse_sign:
            if self._keys.is_ephemeral(reference):
                raise Refused(Sw.REFERENCE)
            self._signing = reference
        else:
            self._agreeing = reference
        return _OK

    def _start_pace(self, command: CommandApdu) -> ResponseApdu:
        if self._secure:
            raise Refused(Sw.CONDITIONS)
        self._require(Action.AUTHENTICATE)
        objects = tlv.parse_unique(command.data)
        if not {0x80, 0x83} <= objects.keys() <= {0x80, 0x83, 0x84}:
            raise Refused(Sw.DATA)
        suite = BY_OID.get(objects[0x80])
        if suite is None:
            raise Refused(Sw.DATA)
        if _byte(objects[0x83]) != self._profile.password_reference:
            raise Refused(Sw.REFERENCE)
        curve = Curve.BRAINPOOL_P256
        if 0x84 in objects:
            chosen = _CURVES_BY_ID.get(_byte(objects[0x84]))
            if chosen is None:
                raise Refused(Sw.REFERENCE)
            curve = chosen
        self._pace = CardPace(
            suite,
            curve,
            self._state.pin,
            draw_nonce=self._use_try,
            draw_scalar=lambda: curves.draw_scalar(curve, self._drbg.read),
            wrong=self._wrong_pin,
        )
        left = self._state.pin_left
        return _OK if left == self._state.pin_start else ResponseApdu(b"", Sw.COUNTER | left)

    def _use_try(self, count: int) -> bytes:
        """Draw the nonce, and make the use of one try durable before it leaves."""
        state = self._state
        if not state.pin_left:
            raise Refused(Sw.BLOCKED)
        nonce = self._drbg.read(count)
        state.pin_left -= 1
        try:
            self._save()
        except OSError:
            # The state on the medium is unknown now; in memory the try stays used.
            raise Refused(Sw.WRITE_FAILED) from None
        return nonce

    def _wrong_pin(self) -> int:
        left = self._state.pin_left
        return Sw.COUNTER | left if left else int(Sw.BLOCKED)

    def _general_authenticate(self, command: CommandApdu) -> ResponseApdu:
        if command.p1 or command.p2:
            raise Refused(Sw.P1P2)
        if self._secure:
            return self._agree(command)
        pace = self._pace
        if pace is None:
            raise Refused(Sw.SECURITY_STATUS)
        try:
            data = pace.answer(command.data, chained=bool(command.cla & _CHAIN))
        except (Refused, ModuleFailed):
            self._pace = None
            raise
        if pace.step is Step.DONE:
            self._pace = None
            assert pace.keys is not None
            self._state.pin_left = self._state.pin_start
            self._save()
            self._messaging = CardMessaging(pace.keys)
        return ResponseApdu(data, Sw.OK)

    # --- keys ---------------------------------------------------------------------------------------------

    def _get_challenge(self, command: CommandApdu) -> ResponseApdu:
        self._require(Action.RANDOM)
        if command.p1 or command.p2:
            raise Refused(Sw.P1P2)
        if command.data or command.le is None or command.le > self._profile.challenge_max_bytes:
            raise Refused(Sw.LENGTH)
        return ResponseApdu(self._drbg.read(command.le), Sw.OK)

    def _generate_key_pair(self, command: CommandApdu) -> ResponseApdu:
        profile = self._profile
        if command.p1 not in (profile.p1_generate_new, profile.p1_generate_replace, profile.p1_read_public):
            raise Refused(Sw.P1P2)
        reading = command.p1 == profile.p1_read_public
        objects = self._template(command, reading=reading)
        reference = _byte(objects[profile.tag_key_reference])
        if reading:
            self._require(Action.USE_KEY)
            return self._public(self._keys.find(reference))
        ephemeral = self._keys.is_ephemeral(reference)
        self._require(Action.EPHEMERAL if ephemeral else Action.GENERATE)
        if not ephemeral and reference not in self._static:
            raise Refused(Sw.REFERENCE)
        curve = self._curve(_byte(objects[profile.tag_curve]))
        if command.p1 == profile.p1_generate_new and self._keys.occupied(reference):
            raise Refused(Sw.EXISTS)
        key = new_key(curve, self._drbg.read)
        if ephemeral:
            self._keys.put_ephemeral(reference, key)
        else:
            old = self._state.keys.get(reference)
            self._state.keys[reference] = key
            try:
                self._save()
            except OSError:
                del self._state.keys[reference]
                if old is not None:
                    self._state.keys[reference] = old
                raise
            self._keys.changed(reference)
        return self._public(self._keys.find(reference))

    def _template(self, command: CommandApdu, *, reading: bool) -> dict[int, bytes]:
        profile = self._profile
        self._require(Action.USE_KEY)
        if command.p2:
            raise Refused(Sw.P1P2)
        if command.le is None:
            raise Refused(Sw.LENGTH)
        objects = tlv.parse_unique(tlv.unwrap(profile.key_template, command.data))
        wanted = {profile.tag_key_reference} if reading else {profile.tag_key_reference, profile.tag_curve}
        if objects.keys() != wanted:
            raise Refused(Sw.DATA)
        return objects

    def _curve(self, number: int) -> Curve:
        for curve, known in self._profile.curve_ids.items():
            if known == number:
                return curve
        raise Refused(Sw.DATA)

    def _public(self, key: CardKey) -> ResponseApdu:
        profile = self._profile
        inner = tlv.encode(profile.tag_curve, bytes((profile.curve_ids[key.curve],)))
        inner += tlv.encode(profile.tag_public_point, key.point)
        return ResponseApdu(tlv.encode(profile.tag_public_key, inner), Sw.OK)

    def _perform_operation(self, command: CommandApdu) -> ResponseApdu:
        self._require(Action.USE_KEY)
        if command.p1 << 8 | command.p2 != self._profile.p1p2_sign:
            raise Refused(Sw.P1P2)
        if self._signing is None:
            raise Refused(Sw.CONDITIONS)
        if command.le is None:
            raise Refused(Sw.LENGTH)
        return ResponseApdu(self._keys.find(self._signing).sign(command.data), Sw.OK)

    def _agree(self, command: CommandApdu) -> ResponseApdu:
        self._require(Action.USE_KEY)
        if command.cla & _CHAIN:
            raise Refused(Sw.CHAINING)
        reference = self._agreeing
        if reference is None:
            raise Refused(Sw.CONDITIONS)
        profile = self._profile
        try:
            key = self._keys.find(reference)
            if command.le is None:
                raise Refused(Sw.LENGTH)
            peer = tlv.unwrap(profile.tag_peer_point, tlv.unwrap(profile.tag_agree, command.data))
            secret = key.agree(peer)
        finally:
            if self._keys.is_ephemeral(reference):
                # Used up, whatever came of it.
                self._keys.drop_ephemeral(reference)
                self._agreeing = None
        inner = tlv.encode(profile.tag_shared_secret, secret)
        return ResponseApdu(tlv.encode(profile.tag_agree, inner), Sw.OK)

    def _delete(self, command: CommandApdu) -> ResponseApdu:
        if command.p1 or command.p2:
            raise Refused(Sw.P1P2)
        self._require(Action.EPHEMERAL)
        reference = _byte(tlv.unwrap(self._profile.tag_key_reference, command.data))
        ephemeral = self._keys.is_ephemeral(reference)
        self._require(Action.EPHEMERAL if ephemeral else Action.DELETE)
        if not self._keys.occupied(reference):
            raise Refused(Sw.REFERENCE)
        if ephemeral:
            self._keys.drop_ephemeral(reference)
            return _OK
        old = self._state.keys.pop(reference)
        try:
            self._save()
        except OSError:
            self._state.keys[reference] = old
            raise
        self._keys.changed(reference)
        return _OK


_OK = ResponseApdu(b"", Sw.OK)


def _byte(value: bytes) -> int:
    if len(value) != 1:
        raise Refused(Sw.DATA)
    return value[0]


def _class_fault(cla: int) -> int:
    """Which part of a class byte is not served (ISO/IEC 7816-4, 5.4.1)."""
    if cla & 0xE0:
        return Sw.CLA
    if cla & 0x03:
        return Sw.CHANNEL
    return Sw.SM_UNSUPPORTED
