"""An administrator's spool read again: which profiles its own orders have given a gateway so far."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from firmware.profile.model import ProfileSet
from hsm.x509.certificate import Certificate
from wan.cms import signed
from wan.errors import MalformedMessage, OrderRefused
from wan.gwa import orders
from wan.ports import Order, Receipt


@dataclass(frozen=True, slots=True)
class Ordered:
    """Where a gateway stands once it has carried out everything that waits for it."""

    active: ProfileSet
    before: ProfileSet | None = None
    staged: tuple[int, ProfileSet] | None = None
    """Version of the order that staged it, and the set."""
    version: int = 0
    """Of the newest order."""


def profiles_ordered(folder: Path, gateway: str) -> Ordered:
    """Replay the orders for `gateway` (lower case) that this administrator signed and no receipt refuses."""
    state = Ordered(ProfileSet())
    for order in _orders(folder, gateway):
        try:
            state = replace(_after(state, order), version=order.version)
        except msgspec.MsgspecError:
            continue  # what is no set of profiles will be refused
    return state


def _after(state: Ordered, order: Order) -> Ordered:
    match order.kind:
        case "profiles":
            return Ordered(_set(order), state.active)
        case "profiles.stage":
            return replace(state, staged=(order.version, _set(order)))
        case "profiles.activate" if state.staged is not None:
            return Ordered(state.staged[1], state.active)
        case "profiles.rollback" if state.before is not None:
            return Ordered(state.before, state.active)
        case _:
            return state


def _set(order: Order) -> ProfileSet:
    document = msgspec.json.decode(order.body, type=dict[str, object])
    document.pop("undo_concealment", None)  # of the order, not of the set
    return msgspec.convert(document, ProfileSet)


def _orders(folder: Path, gateway: str) -> Iterator[Order]:
    """Oldest first."""
    own = Certificate.from_pem((folder / "sig.pem").read_bytes())
    for path in sorted((folder / "spool" / gateway).glob("*.order")):
        receipt = path.with_suffix(".receipt")
        if receipt.exists() and not msgspec.json.decode(receipt.read_bytes(), type=Receipt).accepted:
            continue
        try:
            message = signed.parse(path.read_bytes())
            order = orders.decode(message.content, gateway)
        except (MalformedMessage, OrderRefused):
            continue
        if message.signer.matches(own.der, own.key_identifier):
            yield order
