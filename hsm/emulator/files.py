"""Elementary files of the card: transparent, of fixed size, content stored up to its last written byte."""

from __future__ import annotations

from collections.abc import Mapping

from hsm.apdu import Sw
from hsm.api import DataObject
from hsm.emulator.status import Refused
from hsm.profile import FileEntry

# SecurityInfos with one PACEInfo: id-PACE-ECDH-GM-AES-CBC-CMAC-128, version 2, parameters 13 (TR-03110-3,
# A.1.1.1).
CARD_ACCESS = bytes.fromhex("31143012060a04007f0007020204020202010202010d")
_FIXED = {int(DataObject.CARD_ACCESS): CARD_ACCESS}


class FileSystem:
    """The files under the application; content that may change lives in the card's state."""

    def __init__(self, entries: Mapping[int, FileEntry], content: dict[int, bytes]) -> None:
        self._entries, self._content = entries, content

    def entry(self, file: int) -> FileEntry:
        """Description of a file.

        Raises:
            Refused: 6A82, no such file.
        """
        entry = self._entries.get(file)
        if entry is None:
            raise Refused(Sw.NO_FILE)
        return entry

    def read(self, file: int, offset: int, count: int) -> tuple[bytes, bool]:
        """Return up to `count` bytes, and whether the end of the file cut them short.

        Raises:
            Refused: 6B00, the offset is behind the end.
        """
        content = _FIXED.get(file)
        if content is None:
            content = self._content.get(file, b"").ljust(self.entry(file).size_bytes, b"\x00")
        if offset >= len(content):
            raise Refused(Sw.OFFSET)
        piece = content[offset : offset + count]
        return piece, len(piece) < count

    def updated(self, file: int, offset: int, data: bytes) -> bytes:
        """Return the content after an update; the caller makes it durable.

        Raises:
            Refused: 6982 for a file nobody writes, 6B00 or 6A84 beyond its size.
        """
        entry = self.entry(file)
        if not entry.writable:
            raise Refused(Sw.SECURITY_STATUS)
        if offset >= entry.size_bytes:
            raise Refused(Sw.OFFSET)
        if offset + len(data) > entry.size_bytes:
            raise Refused(Sw.MEMORY)
        old = self._content.get(file, b"").ljust(offset, b"\x00")
        return old[:offset] + data + old[offset + len(data) :]
