"""The way to a card: bytes in, bytes out, and the words by which settings name one.

A transport never interprets what it carries. What it needs is loaded when a way is opened, not before: a
gateway with an emulated card loads no PC/SC, one with a real card no emulator.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

WAYS: Final = '"emulator", "tcp:HOST:PORT", "tcp-listen:HOST:PORT" or "pcsc:READER"'
_MAX_PORT: Final = 65535


class CardTransport(Protocol):
    """One connection to one card. Used by one task at a time; thrown away after any error."""

    async def connect(self) -> None:
        """Power the card, or reset it: afterwards it has no session and no volatile keys.

        Raises:
            ModuleUnavailable: no reader, no card.
        """

    async def transmit(self, command: bytes) -> bytes:
        """Send one command APDU and return the response APDU.

        If the caller is cancelled the connection may be used no more: a late answer would belong to the
        wrong command.

        Raises:
            NotDelivered: the card is gone, and was so before the command left.
            ModuleUnavailable: the card is gone or does not answer; it may have carried the command out.
        """

    async def close(self) -> None:
        """Release the card; closing twice is no error."""


@dataclass(frozen=True, slots=True)
class Emulator:
    """The emulated card of a folder, in this process."""

    folder: Path | None = None
    """None where the settings name it elsewhere."""


@dataclass(frozen=True, slots=True)
class Tcp:
    """A card that speaks the protocol of vpcd over TCP."""

    host: str
    port: int
    listen: bool = False
    """True: the card calls us; else we call the card."""

    @property
    def remote(self) -> bool:
        """True if the connection may leave this machine."""
        return not is_loopback(self.host)


@dataclass(frozen=True, slots=True)
class Pcsc:
    """A card in a PC/SC reader: its name, a regular expression found in it, or `atr:HEX`."""

    reader: str


Way = Emulator | Tcp | Pcsc


def is_loopback(host: str) -> bool:
    """True for an address that only this machine can reach; a name other than localhost never is."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def split_address(text: str) -> tuple[str, int]:
    """Split HOST:PORT, or [HOST]:PORT for IPv6.

    Raises:
        ValueError: says what is expected.
    """
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not (port.isascii() and port.isdigit()) or not int(port) <= _MAX_PORT:
        raise ValueError(f"HOST:PORT, such as 127.0.0.1:35963, and not {text!r}")
    return host, int(port)


def parse_way(text: str) -> Way:
    """Read `emulator`, `emulator:DIR`, `tcp:HOST:PORT`, `tcp-listen:HOST:PORT` or `pcsc:READER`.

    Raises:
        ValueError: says what is expected.
    """
    word, _, rest = text.partition(":")
    if word == "emulator":
        return Emulator(Path(rest) if rest else None)
    if word in ("tcp", "tcp-listen"):
        host, port = split_address(rest)
        return Tcp(host, port, listen=word == "tcp-listen")
    if word == "pcsc" and rest:
        pattern = rest.removeprefix("atr:")
        try:
            bytes.fromhex(pattern) if pattern != rest else re.compile(pattern)
        except (ValueError, re.error) as error:
            raise ValueError(f"pcsc:NAME, pcsc:REGEX or pcsc:atr:HEX ({error})") from None
        return Pcsc(rest)
    raise ValueError(WAYS)


def opener(way: Way) -> Callable[[], CardTransport]:
    """Return what makes a fresh transport for each connection.

    Raises:
        ValueError: an emulator without a folder.
        ModuleUnavailable: there is no emulated card in the folder; PC/SC is not installed.
        ModuleFailed: the emulated card's state is damaged.
    """
    if isinstance(way, Emulator):
        from hsm.emulator import load_card
        from hsm.emulator.transport import EmulatorTransport

        if way.folder is None:
            raise ValueError("emulator:DIR")
        card = load_card(way.folder)
        return lambda: EmulatorTransport(card)
    if isinstance(way, Tcp):
        from hsm.vpcd import VpcdTransport

        return lambda: VpcdTransport(way.host, way.port, listen=way.listen)
    from hsm.pcsc import PcscTransport, check_installed

    check_installed()
    return lambda: PcscTransport(way.reader)
