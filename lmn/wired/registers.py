"""What a wired meter is asked and how its answers become values: one SML request a register. No I/O.

The request is GetProcParameter with nothing but the path (BSI TR-03109-1 v2.0 details, 9.3.3). ASSUMED, as
DIN VDE 0418-63-9 was not at hand: messages travel in transport frames inside TLS, a register's tree has a
node for each attribute (02 value, 03 scaler and unit, 04 status and time), named by its number, and 03 and 04
have nodes 01 and 02 of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from lmn.errors import MalformedRecords, UnexpectedMessage, UnknownMeter
from lmn.model import Obis
from lmn.sml.bodies import (
    Attention,
    Body,
    CloseRequest,
    GetProcParameterRequest,
    GetProcParameterResponse,
    OpenRequest,
    OpenResponse,
    SetProcParameterRequest,
)
from lmn.sml.codec import octets, signed, unsigned
from lmn.sml.messages import Message, to_transport
from lmn.sml.readings import scaled, unit_name
from lmn.sml.values import Parameter, ParameterKind, SmlTime, parameter
from lmn.wired_values import WiredValue

VALUE, SCALER_UNIT, STATUS_TIME = b"\x02", b"\x03", b"\x04"
FIRST, SECOND = b"\x01", b"\x02"
_CLIENT: Final = b"smgw"
_SCALER_LIMIT: Final = 30
DONE: Final = bytes.fromhex("8181c7c7fd00")
"""Number of the attention that says: done (SML 1.04, from public headers)."""


def order(registers: Sequence[Obis], file_number: int) -> bytes:
    """One order file: open, a request for each register, close; as a transport frame."""
    bodies: list[Body] = [
        OpenRequest(_CLIENT, file_number.to_bytes(4, "big")),
        *(GetProcParameterRequest((obis.groups,)) for obis in registers),
        CloseRequest(),
    ]
    return to_transport([Message(body, bytes((1 + at,))) for at, body in enumerate(bodies)])


def write_order(name: bytes, content: bytes, file_number: int) -> bytes:
    """An order file that sets one octet string; as a transport frame."""
    bodies: list[Body] = [
        OpenRequest(_CLIENT, file_number.to_bytes(4, "big")),
        SetProcParameterRequest((name,), parameter(name, octets(content))),
        CloseRequest(),
    ]
    return to_transport([Message(body, bytes((1 + at,))) for at, body in enumerate(bodies)])


def confirm_write(messages: Iterable[Message], server_id: bytes) -> None:
    """Check the answers to `write_order`: nothing but the one attention that says that it was done.

    Raises:
        UnknownMeter: another meter answers.
        UnexpectedMessage: the meter did not do it, or says nothing about it.
    """
    done = 0
    for message in messages:
        match message.body:
            case OpenResponse(server_id=named) if named != server_id:
                raise UnknownMeter("another meter answers")
            case Attention(number=number):
                if number != DONE:
                    raise UnexpectedMessage(f"the meter did not take what was written: {number.hex()}")
                done += 1
    if done != 1:
        raise UnexpectedMessage("no answer to what was written")


def register_tree(
    obis: Obis, value: int, scaler: int, unit: int, *, status: int | None = None, time: SmlTime | None = None
) -> Parameter:
    """Make the tree of a register; what a meter answers."""
    nodes = [
        parameter(VALUE, signed(value, 8)),
        Parameter(
            SCALER_UNIT,
            children=(parameter(FIRST, signed(scaler, 1)), parameter(SECOND, unsigned(unit, 1))),
        ),
    ]
    of_status = [] if status is None else [parameter(FIRST, unsigned(status, 4))]
    if time is not None:
        of_status.append(Parameter(SECOND, time, ParameterKind.TIME, time.to_bytes()))
    if of_status:
        nodes.append(Parameter(STATUS_TIME, children=tuple(of_status)))
    return Parameter(obis.groups, children=tuple(nodes))


def answers(
    messages: Iterable[Message], server_id: bytes, registers: Sequence[Obis]
) -> tuple[WiredValue, ...]:
    """Read the answers to an order. A register that is not answered is missing.

    Raises:
        UnknownMeter: another meter answers.
        MalformedRecords: an answer about a register that was not asked, or of another shape.
    """
    reference: SmlTime | None = None
    found: dict[Obis, WiredValue] = {}
    for message in messages:
        match message.body:
            case OpenResponse(server_id=named, reference_time=time):
                if named != server_id:
                    raise UnknownMeter("another meter answers")
                reference = time
            case GetProcParameterResponse(path=(name, *_), tree=Parameter() as tree):
                if len(name) != 6 or Obis(name) not in registers or tree.name != name or Obis(name) in found:
                    raise MalformedRecords("an answer to what was not asked")
                if (value := _value(Obis(name), tree, reference)) is not None:
                    found[value.obis] = value
    return tuple(found.values())


def _value(obis: Obis, tree: Parameter, reference: SmlTime | None) -> WiredValue | None:
    number = _number(tree, VALUE)
    scaler, unit = _number(tree, SCALER_UNIT, FIRST), _number(tree, SCALER_UNIT, SECOND)
    name = unit_name(unit)
    if number is None or not name:
        return None
    if not -_SCALER_LIMIT <= (scaler or 0) <= _SCALER_LIMIT:
        raise MalformedRecords("a scaler beyond measure")
    status = _number(tree, STATUS_TIME, FIRST) or 0
    return WiredValue(obis, scaled(number, scaler or 0), name, status & 0xFFFFFFFF, _age(tree, reference))


def _number(tree: Parameter, *path: bytes) -> int | None:
    node = _node(tree, path)
    value = None if node is None else node.value
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise MalformedRecords("an integer is expected")


def _node(tree: Parameter, path: Iterable[bytes]) -> Parameter | None:
    node: Parameter | None = tree
    for name in path:
        node = None if node is None else node.child(name)
    return node


def _age(tree: Parameter, reference: SmlTime | None) -> float:
    """How much older than the answer a value is: reference time less capture time, 0 where unknown."""
    node = _node(tree, (STATUS_TIME, SECOND))
    captured = None if node is None else node.value
    if not isinstance(captured, SmlTime) or reference is None or captured.kind is not reference.kind:
        return 0.0
    return float(max(0, reference.seconds - captured.seconds))
