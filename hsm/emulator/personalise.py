"""Makes a new emulated card in a folder: what the module's manufacturer and the integrator do."""

from __future__ import annotations

from pathlib import Path

from hsm.api import LifeCycle
from hsm.emulator.drbg import Drbg
from hsm.emulator.entropy import OperatingSystemEntropy
from hsm.emulator.passwords import is_pin
from hsm.emulator.state import CardState, encode_state
from hsm.emulator.storage import FileStorage
from hsm.errors import ModuleFailed, PinRefused
from hsm.profile import PROJECT, Profile

_SERIAL_BYTES = 8


def new_state(
    pin: bytes,
    profile: Profile = PROJECT,
    *,
    life_cycle: LifeCycle = LifeCycle.PRE_PERSONALISED,
    serial: bytes = bytes(_SERIAL_BYTES),
) -> CardState:
    """The state of a fresh card.

    Raises:
        PinRefused: the PIN has fewer than ten decimal digits, too many, or other characters.
    """
    if not is_pin(pin, profile):
        raise PinRefused(f"a PACE-PIN has at least {profile.pin_min_digits} decimal digits", None)
    return CardState(
        life_cycle=life_cycle,
        pin=pin,
        pin_start=profile.pin_tries,
        pin_left=profile.pin_tries,
        serial=serial,
    )


def new_card(folder: Path, pin: bytes, *, life_cycle: LifeCycle = LifeCycle.PRE_PERSONALISED) -> None:
    """Make a card with `pin` in `folder` (created, mode 0700); `hsm.emulator.load_card` opens it.

    Raises:
        PinRefused: the PIN has fewer than ten decimal digits, too many, or other characters.
        ModuleFailed: there is a card already, it is left as it is; or the random source fails its test.
    """
    state = new_state(pin, life_cycle=life_cycle)
    state.serial = Drbg(OperatingSystemEntropy()).read(_SERIAL_BYTES)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    storage = FileStorage(folder)
    if storage.exists():
        raise ModuleFailed("there is a card in this folder already")
    storage.save(encode_state(state))
