"""A telegram as a radio receiver samples it: chips of mode T or C, two-tone keyed, eight bits a component.

For receivers in software that read recordings, such as rtl_433. Chips and preambles: EN 13757-4 as vendors
document it (own knowledge); what rtl_433 makes of them is the proof.
"""

from __future__ import annotations

import math

from lmn.wmbus.frame import to_format_a, to_format_b

SAMPLES_A_CHIP = 12
RATE = 100_000 * SAMPLES_A_CHIP
"""Samples a second at 100 000 chips a second."""
DEVIATION_HZ = 50_000
THREE_OF_SIX = (
    0b010110, 0b001101, 0b001110, 0b001011, 0b011100, 0b011001, 0b011010, 0b010011,
    0b101100, 0b100101, 0b100110, 0b100011, 0b110100, 0b110001, 0b110010, 0b101001,
)  # fmt: skip


def _bits(data: bytes) -> str:
    return "".join(f"{byte:08b}" for byte in data)


def chips(telegram: bytes, mode: str) -> str:
    """The chips of a bare telegram in mode "T" (format A), "CA" or "CB"."""
    if mode == "T":
        frame = to_format_a(telegram)
        coded = "".join(f"{THREE_OF_SIX[byte >> 4]:06b}{THREE_OF_SIX[byte & 15]:06b}" for byte in frame)
        return "01" * 19 + "0000111101" + coded + "01" * 2
    frame, second = (to_format_a(telegram), "54cd") if mode == "CA" else (to_format_b(telegram), "543d")
    return "01" * 16 + _bits(bytes.fromhex("543d" + second)) + _bits(frame) + "01" * 2


def samples(telegrams: list[tuple[bytes, str]], pause_s: float = 0.02) -> bytes:
    """Interleaved unsigned I and Q of telegrams with silence around each, at `RATE`."""
    silence = b"\x80\x80" * int(RATE * pause_s)
    step = 2 * math.pi * DEVIATION_HZ / RATE
    out, phase = bytearray(silence), 0.0
    for telegram, mode in telegrams:
        for chip in chips(telegram, mode):
            for _ in range(SAMPLES_A_CHIP):
                phase += step if chip == "1" else -step
                out += bytes((128 + round(100 * math.cos(phase)), 128 + round(100 * math.sin(phase))))
        out += silence
    return bytes(out)
