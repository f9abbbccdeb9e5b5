"""Commands about the PACE-PIN: PACE itself, changing the PIN, its counter, switching it off and on."""

from __future__ import annotations

from hmac import compare_digest

from hsm import curves, tlv
from hsm.apdu import MAX_LE, MAX_SHORT_LE, CommandApdu, Sw
from hsm.api import Curve
from hsm.emulator.access import Action
from hsm.emulator.context import Context, byte, no_parameters
from hsm.emulator.messaging import CardMessaging
from hsm.emulator.pace import CardPace, Step
from hsm.emulator.status import Refused
from hsm.errors import ModuleFailed
from hsm.profile import Profile
from hsm.suites import BY_OID

_CHAIN = 0x10
_WHOLE = (MAX_SHORT_LE, MAX_LE)


def is_pin(pin: bytes, profile: Profile) -> bool:
    """True for enough decimal digits and no more than the profile takes."""
    return profile.pin_min_digits <= len(pin) <= profile.pin_max_digits and pin.isdigit()


def start_pace(context: Context, command: CommandApdu) -> bytes:
    """MSE:Set AT for PACE (TR-03110-3, B.11.1): 80 algorithm, 83 password, [84 domain parameters]."""
    if context.secure:
        raise Refused(Sw.CONDITIONS)
    context.require(Action.AUTHENTICATE)
    profile, state = context.profile, context.state
    objects = tlv.parse_unique(command.data)
    if not {0x80, 0x83} <= objects.keys() <= {0x80, 0x83, 0x84}:
        raise Refused(Sw.DATA)
    suite = BY_OID.get(objects[0x80])
    if suite is None:
        raise Refused(Sw.DATA)
    if byte(objects[0x83]) != profile.password_reference:
        raise Refused(Sw.REFERENCE)
    curve = Curve.BRAINPOOL_P256
    if 0x84 in objects:
        number = byte(objects[0x84])
        if number not in profile.curve_ids.values():
            raise Refused(Sw.REFERENCE)
        curve = context.curve(number)
    context.environment.external = None

    def draw_nonce(count: int) -> bytes:
        if not context.state.pin_active:
            raise Refused(Sw.UNUSABLE)
        if not context.state.pin_left:
            raise Refused(Sw.BLOCKED)
        nonce = context.drbg.read(count)
        context.use_try()  # durable before the nonce leaves
        return nonce

    context.pace = CardPace(
        suite,
        curve,
        state.pin,
        draw_nonce=draw_nonce,
        draw_scalar=lambda: curves.draw_scalar(curve, context.drbg.read),
        wrong=lambda: context.wrong_pin().sw,
    )
    if not state.pin_active:
        raise Refused(Sw.DEACTIVATED)
    if state.pin_left != state.pin_start:
        raise Refused(Sw.COUNTER | state.pin_left)
    return b""


def continue_pace(context: Context, command: CommandApdu) -> bytes:
    """GENERAL AUTHENTICATE: the next step; the last one puts the session under secure messaging."""
    no_parameters(command)
    pace = context.pace
    if pace is None:
        raise Refused(Sw.SECURITY_STATUS)
    try:
        if command.le not in _WHOLE:
            # Nothing protects Le here; any other one would only cut the answer.
            raise Refused(Sw.LENGTH)
        data = pace.answer(command.data, chained=bool(command.cla & _CHAIN))
    except (Refused, ModuleFailed):
        context.pace = None
        raise
    if pace.step is Step.DONE:
        context.pace = None
        assert pace.keys is not None
        with context.changing() as state:
            state.pin_left = state.pin_start
        # Whatever was chosen in the clear does not reach into the session.
        context.end_session()
        context.messaging = CardMessaging(pace.keys)
    return data


def change(context: Context, command: CommandApdu) -> bytes:
    """CHANGE REFERENCE DATA: old | new with the old PIN, or new alone with the administrator."""
    profile = context.profile
    if command.p2 != profile.password_reference:
        context.require(Action.READ)
        raise Refused(Sw.REFERENCE)
    if command.p1 == profile.p1_change_with_old:
        context.require(Action.CHANGE_PIN)
        old = context.state.pin
        new = command.data[len(old) :]
        if not is_pin(new, profile):
            raise Refused(Sw.DATA)
        context.use_try()
        if not compare_digest(command.data[: len(old)], old):
            raise context.wrong_pin()
    elif command.p1 == profile.p1_change_new:
        context.require(Action.SET_PIN)
        new = command.data
        if not is_pin(new, profile):
            raise Refused(Sw.DATA)
    else:
        context.require(Action.READ)
        raise Refused(Sw.P1P2)
    with context.changing() as state:
        state.pin, state.pin_left = new, state.pin_start
    return b""


def reset(context: Context, command: CommandApdu) -> bytes:
    """RESET RETRY COUNTER with a new PIN, or without one.

    A blocked or deactivated PIN lets nobody run PACE: then, and then only, an administrator who authenticated
    in the clear may reset the counter (and so switch the PIN on again) without a new PIN.
    """
    profile = context.profile
    if not (command.p1 == profile.p1_reset_only and locked_out(context) and context.administrator):
        context.require(Action.SET_PIN)
    if command.p1 not in (profile.p1_reset_with_new, profile.p1_reset_only):
        raise Refused(Sw.P1P2)
    if command.p2 != profile.password_reference:
        raise Refused(Sw.REFERENCE)
    new = command.data
    if command.p1 == profile.p1_reset_only:
        if new:
            raise Refused(Sw.LENGTH)
        new = context.state.pin
    elif not is_pin(new, profile):
        raise Refused(Sw.DATA)
    with context.changing() as state:
        state.pin, state.pin_left, state.pin_active = new, state.pin_start, True
    if not context.secure:
        context.end_administration()
    return b""


def locked_out(context: Context) -> bool:
    """True in the clear while nobody can run PACE."""
    return not context.secure and (not context.state.pin_left or not context.state.pin_active)
