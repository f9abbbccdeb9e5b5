"""Telegrams that tests make themselves, for tests and for their child processes."""

from __future__ import annotations


def plain_telegram(energy_wh: int) -> bytes:
    """What a meter without any security sends: link header, one record of energy in Wh."""
    body = bytes.fromhex("44") + _code("ELS") + bytes.fromhex("78563412") + bytes((0x33, 0x02))
    body += bytes.fromhex("780403") + energy_wh.to_bytes(4, "little")
    return bytes((len(body),)) + body


def _code(letters: str) -> bytes:
    first, second, third = (ord(letter) - 64 for letter in letters)
    return (first << 10 | second << 5 | third).to_bytes(2, "little")
