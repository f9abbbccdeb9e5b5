"""The card side: an emulated security module. Shares codecs with the terminal, never checks.

It protects nothing against whoever holds its folder: the state file holds the private keys in the clear.
"""

from __future__ import annotations

from pathlib import Path

from hsm.emulator.card import Card
from hsm.emulator.drbg import Drbg
from hsm.emulator.entropy import OperatingSystemEntropy
from hsm.emulator.storage import FileStorage


def load_card(folder: Path) -> Card:
    """Open the card that `personalise.new_card` made in `folder`.

    Raises:
        ModuleUnavailable: there is no card.
        ModuleFailed: its state is damaged, or its random source fails its test.
    """
    return Card(FileStorage(folder), Drbg(OperatingSystemEntropy()))


__all__ = ["Card", "load_card"]
