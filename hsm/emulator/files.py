"""Elementary files of the card, transparent and of fixed size: SELECT, READ, UPDATE, CREATE and the end."""

from __future__ import annotations

from collections.abc import Callable

from hsm import tlv
from hsm.apdu import CommandApdu, Sw
from hsm.api import DataObject
from hsm.emulator.access import Action
from hsm.emulator.context import Context, no_parameters, p1p2
from hsm.emulator.status import Refused
from hsm.profile import FileEntry, FileFormat, Update
from hsm.suites import SUITES

# SecurityInfos with one PACEInfo: id-PACE-ECDH-GM-AES-CBC-CMAC-128, version 2, parameters 13 (TR-03110-3,
# A.1.1.1).
CARD_ACCESS = bytes.fromhex("31143012060a04007f0007020204020202010202010d")
_CREATED_TOTAL_BYTES = 1 << 16
_UPDATES = {
    Update.NEVER: None,
    Update.OWN: Action.UPDATE_OWN,
    Update.GUARDED: Action.UPDATE,
    Update.ONCE: Action.UPDATE_ONCE,
}


def _status(context: Context) -> bytes:
    """What `smgw hsm info` wants to know, in data objects; nothing secret."""
    state, profile = context.state, context.profile
    used = sorted(state.keys)
    return b"".join(
        (
            tlv.encode(profile.tag_serial, state.serial),
            tlv.encode(profile.tag_life_cycle, bytes((profile.life_cycles[state.life_cycle],))),
            tlv.encode(profile.tag_tries, bytes((state.pin_left, state.pin_start))),
            tlv.encode(profile.tag_key_reference, bytes(used)),
            tlv.encode(profile.tag_public_reference, bytes(sorted(state.public))),
            tlv.encode(profile.tag_deactivated, bytes(sorted(state.deactivated))),
        )
    )


def _crypto_info(context: Context) -> bytes:
    """Domain parameters and PACE algorithms that are served."""
    numbers = bytes(sorted(context.profile.curve_ids.values()))
    return tlv.encode(context.profile.tag_curve, numbers) + b"".join(
        tlv.encode(0x06, suite.oid) for suite in SUITES
    )


_COMPUTED: dict[int, Callable[[Context], bytes]] = {
    DataObject.CARD_ACCESS: lambda _: CARD_ACCESS,
    DataObject.CRYPTO_INFO: _crypto_info,
    DataObject.COUNTER: lambda context: context.state.counter.to_bytes(8, "big"),
    DataObject.STATUS: _status,
}


def _entry(context: Context, file: int) -> FileEntry:
    """Description of a file; 6A82 if there is none."""
    entry = context.profile.files.get(file)
    if entry is None and (size := context.state.created.get(file)) is not None:
        entry = FileEntry(size, FileFormat.PLAIN, free_read=False, update=Update.GUARDED)
    if entry is None:
        raise Refused(Sw.NO_FILE)
    return entry


def _content(context: Context, file: int) -> bytes:
    if file in context.state.closed:
        raise Refused(Sw.TERMINATED)
    if file in _COMPUTED:
        return _COMPUTED[file](context)
    return context.state.files.get(file, b"").ljust(_entry(context, file).size_bytes, b"\x00")


def _identifier(value: bytes) -> int:
    if len(value) != 2:
        raise Refused(Sw.LENGTH)
    return int.from_bytes(value, "big")


def select(context: Context, command: CommandApdu) -> bytes:
    """SELECT the application (it ends the administrator's rights), the master file or an elementary one."""
    context.require(Action.SELECT)
    how = p1p2(command)
    if how == 0x040C:
        if command.data != context.profile.application:
            raise Refused(Sw.NO_FILE)
        context.selected = None
        context.end_administration()
    elif how == 0x000C:
        if command.data not in (b"", context.profile.master_file.to_bytes(2, "big")):
            raise Refused(Sw.NO_FILE)
        context.selected = None
    elif how == 0x020C:
        file = _identifier(command.data)
        _entry(context, file)
        context.selected = file
        if file in context.state.closed:
            raise Refused(Sw.TERMINATED)
    else:
        raise Refused(Sw.P1P2)
    return b""


def _address(context: Context, command: CommandApdu) -> tuple[int, int]:
    """File and offset of a binary command; a short file identifier selects the file too."""
    if command.p1 & 0x80:
        short = command.p1 & 0x7F
        found = [file for file in context.profile.files if file & 0x1F == short]
        if not found or short > 0x1E:
            raise Refused(Sw.NO_FILE)
        context.selected = found[0]
        return found[0], command.p2
    if context.selected is None:
        raise Refused(Sw.NO_FILE_SELECTED)
    return context.selected, p1p2(command)


def _check_reading(context: Context, file: int) -> None:
    context.require(Action.READ_FREE if _entry(context, file).free_read else Action.READ)


def read_binary(context: Context, command: CommandApdu) -> bytes:
    """READ BINARY; 6282 with the data if the file ends before Le."""
    if not context.secure:
        # Who has no rights learns nothing about files that are not free.
        context.require(Action.READ_FREE)
    file, offset = _address(context, command)
    _check_reading(context, file)
    if command.data or command.le is None:
        raise Refused(Sw.LENGTH)
    piece, at_end = _piece(context, file, offset, command.le)
    if at_end:
        raise Refused(Sw.END_OF_FILE, piece)
    return piece


def read_binary_odd(context: Context, command: CommandApdu) -> bytes:
    """READ BINARY, odd instruction: offset in object 54, answer in object 53."""
    profile = context.profile
    file = p1p2(command) or context.selected
    if file is None:
        raise Refused(Sw.NO_FILE_SELECTED)
    _check_reading(context, file)
    if command.le is None:
        raise Refused(Sw.LENGTH)
    offset = tlv.unwrap(profile.tag_offset, command.data)
    if not 1 <= len(offset) <= 4:
        raise Refused(Sw.DATA)
    context.selected = file
    # Le counts the whole object; its header takes up to four bytes.
    room = max(1, command.le - 2 if command.le <= 129 else command.le - 4)
    piece, at_end = _piece(context, file, int.from_bytes(offset, "big"), room)
    answer = tlv.encode(profile.tag_data, piece)
    if at_end:
        raise Refused(Sw.END_OF_FILE, answer)
    return answer


def _piece(context: Context, file: int, offset: int, count: int) -> tuple[bytes, bool]:
    content = _content(context, file)
    if offset >= len(content):
        raise Refused(Sw.OFFSET)
    piece = content[offset : offset + count]
    return piece, len(piece) < count


def update_binary(context: Context, command: CommandApdu) -> bytes:
    """UPDATE BINARY, durable on return."""
    context.require(Action.UPDATE_OWN)  # the least that any update needs
    file, offset = _address(context, command)
    entry = _entry(context, file)
    action = _UPDATES[entry.update]
    if action is None:
        raise Refused(Sw.SECURITY_STATUS)
    context.require(action)
    if file in context.state.closed:
        raise Refused(Sw.TERMINATED)
    data = command.data
    if not data:
        raise Refused(Sw.LENGTH)
    if offset >= entry.size_bytes:
        raise Refused(Sw.OFFSET)
    if offset + len(data) > entry.size_bytes:
        raise Refused(Sw.MEMORY)
    old = context.state.files.get(file, b"").ljust(offset, b"\x00")
    with context.changing() as state:
        state.files[file] = old[:offset] + data + old[offset + len(data) :]
    return b""


def create(context: Context, command: CommandApdu) -> bytes:
    """CREATE an elementary file: 62 { 83 identifier, 80 size in bytes }."""
    context.require(Action.MANAGE_FILES)
    no_parameters(command)
    profile = context.profile
    objects = tlv.parse_unique(tlv.unwrap(profile.tag_file_control, command.data))
    if objects.keys() != {profile.tag_file, profile.tag_file_size} or len(objects[profile.tag_file]) != 2:
        raise Refused(Sw.DATA)
    file = int.from_bytes(objects[profile.tag_file], "big")
    size = int.from_bytes(objects[profile.tag_file_size], "big")
    if file in (0, profile.master_file, 0xFFFF) or not size >= 1:
        raise Refused(Sw.DATA)
    if file in profile.files or file in context.state.created:
        raise Refused(Sw.FILE_EXISTS)
    if size > profile.created_max_bytes or size + sum(context.state.created.values()) > _CREATED_TOTAL_BYTES:
        raise Refused(Sw.MEMORY)
    with context.changing() as state:
        state.created[file] = size
    context.selected = file
    return b""


def delete(context: Context, value: bytes) -> None:
    """DELETE an elementary file that was created; 6982 for one that belongs to the profile."""
    context.require(Action.MANAGE_FILES)
    file = _identifier(value)
    _entry(context, file)
    if file not in context.state.created:
        raise Refused(Sw.SECURITY_STATUS)
    with context.changing() as state:
        del state.created[file]
        state.files.pop(file, None)
        state.closed = [closed for closed in state.closed if closed != file]
    if context.selected == file:
        context.selected = None


def terminate(context: Context, command: CommandApdu) -> bytes:
    """TERMINATE EF: the selected created file loses its content for good."""
    context.require(Action.MANAGE_FILES)
    no_parameters(command)
    file = context.selected
    if file is None:
        raise Refused(Sw.NO_FILE_SELECTED)
    if file not in context.state.created:
        raise Refused(Sw.SECURITY_STATUS)
    with context.changing() as state:
        state.files.pop(file, None)
        state.closed = sorted({*state.closed, file})
    return b""


__all__ = [
    "CARD_ACCESS",
    "create",
    "delete",
    "read_binary",
    "read_binary_odd",
    "select",
    "terminate",
    "update_binary",
]
