"""Commands about the card as a whole: life cycle, switching parts of it off and on, counter, the end."""

from __future__ import annotations

from hsm import tlv
from hsm.apdu import CommandApdu, Sw
from hsm.api import LifeCycle, PublicSlot
from hsm.emulator import files, key_commands, trust
from hsm.emulator.access import STATES, Action
from hsm.emulator.context import Context, no_parameters
from hsm.emulator.status import Refused


def activate(context: Context, command: CommandApdu) -> bytes:
    """ACTIVATE: the next state of the life cycle, the PIN, a pending key or root, a deactivated key."""
    profile = context.profile
    if command.data:
        context.require(Action.READ)
        raise Refused(Sw.LENGTH)
    if command.p1 == profile.p1_life_cycle:
        _advance(context, command.p2)
    elif command.p1 == profile.p1_pin:
        _switch_pin(context, command.p2, active=True)
    elif command.p1 == profile.p1_pending:
        context.require(Action.READ)
        if command.p2 == PublicSlot.ROOT:
            trust.activate_root(context)
        else:
            key_commands.activate_pending(context, command.p2)
    elif command.p1 == profile.p1_key:
        key_commands.suspend(context, command.p2, active=True)
    else:
        context.require(Action.READ)
        raise Refused(Sw.P1P2)
    return b""


def deactivate(context: Context, command: CommandApdu) -> bytes:
    """DEACTIVATE the PIN or a key."""
    profile = context.profile
    if command.data:
        context.require(Action.READ)
        raise Refused(Sw.LENGTH)
    if command.p1 == profile.p1_pin:
        _switch_pin(context, command.p2, active=False)
    elif command.p1 == profile.p1_key:
        key_commands.suspend(context, command.p2, active=False)
    else:
        context.require(Action.READ)
        raise Refused(Sw.P1P2)
    return b""


def _switch_pin(context: Context, reference: int, *, active: bool) -> None:
    context.require(Action.SUSPEND)
    if reference != context.profile.password_reference:
        raise Refused(Sw.REFERENCE)
    with context.changing() as state:
        state.pin_active = active


def _advance(context: Context, code: int) -> None:
    """Enter the next state; naming the state the card is in changes nothing, so that it can be repeated."""
    context.require(Action.READ)
    states = {number: state for state, number in context.profile.life_cycles.items()}
    wanted = states.get(code)
    if wanted is None or wanted is LifeCycle.TERMINATED:
        raise Refused(Sw.P1P2)
    current = context.state.life_cycle
    if wanted is current:
        return
    context.require(Action.ADVANCE)
    if STATES.index(wanted) != STATES.index(current) + 1:
        raise Refused(Sw.CONDITIONS)
    public = context.state.public
    if wanted is LifeCycle.PERSONALISED and not {PublicSlot.ROOT, PublicSlot.ADMINISTRATOR} <= public.keys():
        # Without them nobody could ever change anything again.
        raise Refused(Sw.CONDITIONS)
    if wanted is LifeCycle.OPERATIONAL and not context.drbg.trusted:
        raise Refused(Sw.CONDITIONS)
    with context.changing() as state:
        state.life_cycle = wanted


def delete(context: Context, command: CommandApdu) -> bytes:
    """DELETE a key pair (84), an imported public key (83) or a file (62 { 83 })."""
    no_parameters(command)
    context.require(Action.READ)
    profile = context.profile
    tag, value, end = tlv.read(command.data)
    if end != len(command.data):
        raise Refused(Sw.DATA)
    if tag == profile.tag_key_reference:
        context.require(Action.EPHEMERAL)
        key_commands.delete(context, value)
    elif tag == profile.tag_file_control:
        files.delete(context, tlv.unwrap(profile.tag_file, value))
    elif tag == profile.tag_public_reference:
        context.require(Action.IMPORT)
        if len(value) != 1:
            raise Refused(Sw.DATA)
        if value[0] not in context.state.public:
            raise Refused(Sw.REFERENCE)
        if value[0] in (PublicSlot.ROOT, PublicSlot.ADMINISTRATOR):
            raise Refused(Sw.CONDITIONS)
        with context.changing() as state:
            del state.public[value[0]]
    else:
        raise Refused(Sw.DATA)
    return b""


def terminate(context: Context, command: CommandApdu) -> bytes:
    """TERMINATE DF or TERMINATE CARD USAGE: every key and the PIN are erased, nothing is served again."""
    context.require(Action.TERMINATE)
    no_parameters(command)
    if command.data:
        raise Refused(Sw.LENGTH)
    with context.changing() as state:
        state.life_cycle = LifeCycle.TERMINATED
        state.pin, state.pin_left = b"", 0
        for content in (state.keys, state.receivers, state.public, state.files, state.created):
            content.clear()
        state.deactivated.clear()
    context.keys.forget(context.state)
    context.keys.clear_ephemeral()
    return b""


def increase(context: Context, command: CommandApdu) -> bytes:
    """INCREASE (a name of ETSI TS 102 221): one more, durable before the new value is told."""
    context.require(Action.COUNT)
    if command.p1 or command.p2 != context.profile.p2_counter:
        raise Refused(Sw.P1P2)
    if command.data or command.le is None:
        raise Refused(Sw.LENGTH)
    with context.changing() as state:
        state.counter += 1
    return context.state.counter.to_bytes(8, "big")
