"""`hsm.api.SecurityModule` over whoever owns the module: what a call asks of it, how urgently."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol, TypeVar

from hsm.api import (
    Curve,
    DataObject,
    EphemeralKey,
    KeySlot,
    LifeCycle,
    ModuleStatus,
    PublicKey,
    PublicSlot,
    ServiceKey,
    WrappedKey,
)
from hsm.channel import Operation
from hsm.client import ModuleClient
from hsm.errors import ChannelBroken

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Slot:
    """An ephemeral slot in somebody's hands; `handle` is never used again, `reference` is."""

    handle: int
    reference: int
    epoch: int
    """The connection it belongs to."""


class Priority(IntEnum):
    """Who goes first when several wait."""

    HANDSHAKE = 0
    NORMAL = 1
    BULK = 2


@dataclass(slots=True)
class SessionStatistics:
    """What the module was asked so far."""

    sessions: int = 0
    """PACE runs that succeeded."""
    apdus: int = 0
    """Command APDUs sent."""


class Owner(Protocol):
    """The one who owns the module; `hsm.session.ModuleSession`."""

    async def submit(
        self,
        operation: Callable[[ModuleClient], Operation[T]],
        priority: Priority,
        deadline_s: float,
        *,
        repeatable: bool,
        epoch: int | None = None,
    ) -> T:
        """Queue an operation and wait for its result."""

    async def take_slot(self, deadline_s: float) -> Slot:
        """Wait for a free ephemeral slot."""

    def claim(self, handle: int) -> Slot | None:
        """The slot of a living ephemeral key, once: whoever gets it may use the key up."""

    def release_slot(self, slot: Slot, *, erase: bool) -> None:
        """Give a slot back."""


class ModuleView:
    """The `SecurityModule` of one session, with a priority and a deadline of its own."""

    def __init__(self, session: Owner, priority: Priority, deadline_s: float) -> None:
        self._session, self._priority, self._deadline_s = session, priority, deadline_s

    async def _call(
        self,
        operation: Callable[[ModuleClient], Operation[T]],
        *,
        repeatable: bool = True,
        priority: Priority | None = None,
        epoch: int | None = None,
    ) -> T:
        chosen = self._priority if priority is None else priority
        return await self._session.submit(
            operation, chosen, self._deadline_s, repeatable=repeatable, epoch=epoch
        )

    async def random(self, count: int) -> bytes:
        """Return `count` random bytes (1..256) of the module's generator."""
        return await self._call(lambda client: client.random(count))

    async def generate_key_pair(self, slot: KeySlot, curve: Curve) -> PublicKey:
        """Make a new key pair in `slot`, replacing what was there. Not repeated after a loss."""
        return await self._call(lambda client: client.generate_key_pair(slot, curve), repeatable=False)

    async def public_key(self, slot: KeySlot) -> PublicKey:
        """Return the public half of `slot`; `CommandRefused` (6A88) if it is empty."""
        return await self._call(lambda client: client.public_key(slot))

    async def sign(self, slot: KeySlot, digest: bytes) -> bytes:
        """Sign a digest whose length is that of the curve's hash; returns r | s.

        Not repeated once the command may have reached the module: it never signs for one call twice.
        """
        return await self._call(lambda client: client.sign(slot, digest), repeatable=False)

    async def agree(self, slot: KeySlot, peer_point: bytes) -> bytes:
        """ECKA of the static key in `slot` with a peer's point; returns Z."""
        return await self._call(lambda client: client.agree(slot, peer_point))

    async def generate_ephemeral(self, curve: Curve) -> EphemeralKey:
        """Make a key pair for one agreement; waits, up to the deadline, while every slot is taken.

        Raises:
            ModuleUnavailable: no slot became free in time.
        """
        session = self._session
        slot = await session.take_slot(self._deadline_s)
        try:
            public = await self._call(
                lambda client: client.generate_ephemeral(slot.reference, curve),
                repeatable=False,
                epoch=slot.epoch,
            )
        except BaseException:
            session.release_slot(slot, erase=True)
            raise
        return EphemeralKey(slot.handle, public)

    async def agree_ephemeral(self, key: EphemeralKey, peer_point: bytes) -> bytes:
        """ECKA of an ephemeral key; returns Z. The key is erased, whatever the outcome.

        Raises:
            ChannelBroken: the key died with the session it was made in.
        """
        session = self._session
        slot = session.claim(key.reference)
        if slot is None:
            raise ChannelBroken("the ephemeral key is used up, or died with its session")
        used = False
        try:
            secret = await self._call(
                lambda client: client.agree_reference(slot.reference, peer_point),
                repeatable=False,
                priority=Priority.HANDSHAKE,
                epoch=slot.epoch,
            )
            used = True
        finally:
            session.release_slot(slot, erase=not used)
        return secret

    async def discard_ephemeral(self, key: EphemeralKey) -> None:
        """Erase an ephemeral key that will not be used; erasing twice is no error."""
        if (slot := self._session.claim(key.reference)) is not None:
            self._session.release_slot(slot, erase=True)

    async def read_object(self, name: DataObject) -> bytes:
        """Return the whole content of an elementary file."""
        return await self._call(lambda client: client.read_object(name))

    async def write_object(self, name: DataObject, data: bytes) -> None:
        """Replace the content of an elementary file."""
        await self._call(lambda client: client.write_object(name, data))

    async def verify(self, key: PublicKey, digest: bytes, signature: bytes) -> bool:
        """Check r | s over a digest; False if it does not hold."""
        return await self._call(lambda client: client.verify(key, digest, signature))

    async def counter(self) -> int:
        """Return the monotonic counter."""
        return await self._call(lambda client: client.counter())

    async def increase_counter(self) -> int:
        """Add one to the monotonic counter, durably; return it. Not repeated after a loss."""
        return await self._call(lambda client: client.increase_counter(), repeatable=False)

    async def activate(self, slot: KeySlot | PublicSlot) -> None:
        """Put a pending key, or root, in the place of the current one. Not repeated after a loss."""
        await self._call(lambda client: client.activate(slot), repeatable=False)

    async def delete_key(self, slot: KeySlot) -> None:
        """Erase a key pair; one that is not there is no error."""
        await self._call(lambda client: client.delete_key(slot))

    async def generate_service_key(self, curve: Curve, receiver: PublicKey) -> ServiceKey:
        """Make a key pair for the device that owns `receiver`. Not repeated after a loss."""
        made = await self._call(lambda client: client.generate_service_key(curve, receiver), repeatable=False)
        return ServiceKey(*made)

    async def sign_service(self, key: ServiceKey, digest: bytes) -> bytes:
        """Sign with a service key that has not left yet."""
        return await self._call(lambda client: client.sign_reference(key.reference, digest))

    async def export_service_key(self, key: ServiceKey) -> WrappedKey:
        """Let a service key leave, once, wrapped for its receiver. Not repeated after a loss."""
        return await self._call(lambda client: client.export_service_key(key.reference), repeatable=False)

    async def discard_service_keys(self) -> None:
        """Erase every service key that has not left."""
        await self._call(lambda client: client.discard_service_keys())

    # --- for whoever personalises or administers the module ----------------------------------------------

    async def status(self) -> ModuleStatus:
        """What the module tells about itself."""
        return await self._call(lambda client: client.status())

    async def administrator_challenge(self) -> bytes:
        """The message whose hash the administrator signs: application, serial number, fresh challenge."""
        return await self._call(lambda client: client.administrator_challenge(), repeatable=False)

    async def authenticate_administrator(self, signature: bytes) -> bool:
        """Answer the challenge. The rights end with `end_administration` or the session."""
        return await self._call(lambda client: client.authenticate_administrator(signature), repeatable=False)

    async def end_administration(self) -> None:
        """Give the administrator's rights up."""
        await self._call(lambda client: client.select())

    async def import_certificate(
        self, issuer: PublicSlot, tbs: bytes, signature: bytes, holder: PublicSlot | None
    ) -> None:
        """Let the module check a certificate and keep its key, or chain on with it. Not repeated."""
        await self._call(
            lambda client: client.import_certificate(issuer, tbs, signature, holder), repeatable=False
        )

    async def change_pin(self, old: bytes, new: bytes) -> None:
        """Change the PACE-PIN. Not repeated after a loss: the caller has to find out which one holds."""
        await self._call(lambda client: client.change_pin(old, new), repeatable=False)

    async def enter(self, life_cycle: LifeCycle) -> None:
        """Enter the next state of the life cycle; entering the present one changes nothing."""
        await self._call(lambda client: client.enter(life_cycle))

    async def terminate(self) -> None:
        """End the module: every key is erased."""
        await self._call(lambda client: client.terminate(), repeatable=False)
