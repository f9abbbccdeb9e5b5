"""Makes a new emulated card in a folder: what the module's manufacturer and the integrator do."""

from __future__ import annotations

from pathlib import Path

from hsm.emulator.state import CardState, LifeCycle, encode_state
from hsm.emulator.storage import FileStorage
from hsm.errors import ModuleFailed, PinRefused
from hsm.profile import PROJECT, Profile


def new_state(pin: bytes, profile: Profile = PROJECT) -> CardState:
    """The state of a fresh, pre-personalised card.

    Raises:
        PinRefused: the PIN has fewer than ten decimal digits, or other characters.
    """
    if len(pin) < profile.pin_min_digits or not pin.isdigit():
        raise PinRefused(f"a PACE-PIN has at least {profile.pin_min_digits} decimal digits", None)
    return CardState(
        life_cycle=LifeCycle.PRE_PERSONALISED,
        pin=pin,
        pin_start=profile.pin_tries,
        pin_left=profile.pin_tries,
    )


def new_card(folder: Path, pin: bytes) -> None:
    """Make a card with `pin` in `folder` (created, mode 0700); `hsm.emulator.load_card` opens it.

    Raises:
        PinRefused: the PIN has fewer than ten decimal digits, or other characters.
        ModuleFailed: there is a card already; it is left as it is.
    """
    state = new_state(pin)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    storage = FileStorage(folder)
    if storage.exists():
        raise ModuleFailed("there is a card in this folder already")
    storage.save(encode_state(state))
