"""Operations on the module beyond daily use: keys for others, key changes, the administrator, the life cycle.

The base of `hsm.client.ModuleClient`; generators like all of it. Never does I/O, never repeats anything.
"""

from __future__ import annotations

from hsm import curves
from hsm.apdu import Sw
from hsm.api import (
    Curve,
    DataObject,
    KeySlot,
    LifeCycle,
    ModuleStatus,
    PublicKey,
    PublicSlot,
    WrappedKey,
)
from hsm.channel import Operation
from hsm.commands import accept
from hsm.errors import CommandRefused, MalformedResponse, MalformedTlv, PointRefused
from hsm.profile import Profile
from hsm.tlv import parse_unique
from hsm.whole_commands import WholeCommandSet

COUNTER_BYTES = 8


def checked(curve: Curve, point: bytes) -> PublicKey:
    """A public key of the module, if its point is good; MalformedResponse otherwise."""
    try:
        curves.check_point(curve, point)
    except PointRefused as error:
        raise MalformedResponse(f"public key of the module: {error}") from error
    return PublicKey(curve, point)


class Administration:
    """Operations that are one command each, or two."""

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self._commands = WholeCommandSet(profile)

    def _generate(
        self, reference: int, curve: Curve, *, replace: bool, receiver: PublicKey | None = None
    ) -> Operation[PublicKey]:
        if receiver is None:
            command = self._commands.generate(reference, curve, replace=replace)
        else:
            command = self._commands.generate_for(receiver, reference, curve)
        named, point = self._commands.public_point(accept("GENERATE KEY PAIR", (yield command)))
        if named not in (None, curve):
            raise MalformedResponse("the new key is on another curve than asked for")
        return checked(curve, point)

    def generate_service_key(self, curve: Curve, receiver: PublicKey) -> Operation[tuple[int, PublicKey]]:
        """New key pair for the device that owns `receiver`, at the first free service reference."""
        for reference in self._profile.service_references:
            try:
                made = yield from self._generate(reference, curve, replace=False, receiver=receiver)
            except CommandRefused as refusal:
                if refusal.sw != Sw.EXISTS:
                    raise
            else:
                return reference, made
        raise CommandRefused("GENERATE KEY PAIR", Sw.MEMORY)

    def export_service_key(self, reference: int) -> Operation[WrappedKey]:
        """Let a service key leave, once."""
        accept("MSE EXPORT", (yield self._commands.choose(self._profile.p1p2_mse_export, reference)))
        data = accept("EXPORT", (yield self._commands.export()))
        return WrappedKey(*self._commands.exported(data))

    def discard_service_keys(self) -> Operation[None]:
        """Erase every service key that has not left."""
        for reference in self._profile.service_references:
            yield from self.delete(reference)

    def verify(self, key: PublicKey, digest: bytes, signature: bytes) -> Operation[bool]:
        """Check r | s with a key of somebody else's."""
        response = yield self._commands.verify(key, digest, signature)
        if response.sw == Sw.AUTHENTICATION_FAILED:
            return False
        accept("VERIFY SIGNATURE", response)
        return True

    def increase_counter(self) -> Operation[int]:
        """Add one to the monotonic counter."""
        data = accept("INCREASE", (yield self._commands.increase()))
        if len(data) != COUNTER_BYTES:
            raise MalformedResponse("the counter has another length")
        return int.from_bytes(data, "big")

    def activate(self, slot: KeySlot | PublicSlot) -> Operation[None]:
        """Put the pending key, or root, in the place of the current one."""
        command = self._commands.activate(self._profile.p1_pending, self._reference(slot))
        accept("ACTIVATE", (yield command))

    def suspend(self, slot: KeySlot, *, active: bool) -> Operation[None]:
        """Make a key unusable, or usable again."""
        build = self._commands.activate if active else self._commands.deactivate
        accept("ACTIVATE KEY", (yield build(self._profile.p1_key, self._reference(slot))))

    def delete(self, reference: int) -> Operation[None]:
        """Erase a key; one that is not there is no error."""
        response = yield self._commands.delete(reference)
        if response.sw != Sw.REFERENCE:
            accept("DELETE", response)

    def delete_key(self, slot: KeySlot) -> Operation[None]:
        """Erase a key pair; one that is not there is no error."""
        return self.delete(self._reference(slot))

    def status(self) -> Operation[ModuleStatus]:
        """What the module tells about itself."""
        profile = self._profile
        file, size = int(DataObject.STATUS), profile.files[DataObject.STATUS].size_bytes
        accept("SELECT FILE", (yield self._commands.select_file(file)))
        response = yield self._commands.read_binary(0, size)
        data = response.data if response.sw == Sw.END_OF_FILE else accept("READ BINARY", response)
        try:
            objects = parse_unique(data)
            states = {number: state for state, number in profile.life_cycles.items()}
            left, tries = objects[profile.tag_tries]
            return ModuleStatus(
                objects[profile.tag_serial],
                states[int.from_bytes(objects[profile.tag_life_cycle], "big")],
                left,
                tries,
                frozenset(objects[profile.tag_key_reference]),
                frozenset(objects[profile.tag_public_reference]),
                frozenset(objects[profile.tag_deactivated]),
            )
        except (KeyError, ValueError, MalformedTlv) as error:
            raise MalformedResponse("the module's status has another form") from error

    def administrator_challenge(self) -> Operation[bytes]:
        """The message whose hash the administrator signs: application, serial number, fresh challenge."""
        profile = self._profile
        serial = (yield from self.status()).serial
        reference = self._reference(PublicSlot.ADMINISTRATOR)
        choice = self._commands.choose(profile.p1p2_mse_external, reference, public=True)
        accept("MSE ADMINISTRATOR", (yield choice))
        size = profile.authentication_challenge_bytes
        data = accept("GET CHALLENGE", (yield self._commands.get_challenge(size)))
        if len(data) != size:
            raise MalformedResponse("a challenge of another length than asked for")
        return profile.application + serial + data

    def authenticate_administrator(self, signature: bytes) -> Operation[bool]:
        """Answer the challenge; False if the card does not believe it. Ends with `select` or the session."""
        response = yield self._commands.external_authenticate(signature)
        if response.sw == Sw.AUTHENTICATION_FAILED:
            return False
        accept("EXTERNAL AUTHENTICATE", response)
        return True

    def authenticate(self, slot: KeySlot, challenge: bytes) -> Operation[bytes]:
        """INTERNAL AUTHENTICATE: sign the hash of somebody's challenge (8..256 bytes)."""
        choice = self._commands.choose(self._profile.p1p2_mse_internal, self._reference(slot))
        accept("MSE INTERNAL", (yield choice))
        return accept("INTERNAL AUTHENTICATE", (yield self._commands.internal_authenticate(challenge)))

    def import_certificate(
        self, issuer: PublicSlot, tbs: bytes, signature: bytes, holder: PublicSlot | None
    ) -> Operation[None]:
        """Let the card check a certificate (TBSCertificate, r | s) and keep its key, or chain on with it."""
        reference = self._reference(issuer)
        choice = self._commands.choose(self._profile.p1p2_mse_verify, reference, public=True)
        accept("MSE VERIFY", (yield choice))
        place = None if holder is None else self._reference(holder)
        accept("VERIFY CERTIFICATE", (yield self._commands.verify_certificate(tbs, signature, place)))

    def delete_public(self, slot: PublicSlot) -> Operation[None]:
        """Erase an imported public key."""
        accept("DELETE", (yield self._commands.delete_public(self._reference(slot))))

    def change_pin(self, old: bytes, new: bytes) -> Operation[None]:
        """Change the PIN; with an empty old one the administrator must be authenticated."""
        accept("CHANGE REFERENCE DATA", (yield self._commands.change_pin(old, new)))

    def reset_pin(self, new: bytes = b"") -> Operation[None]:
        """Reset the PIN's counter, and set a new PIN if there is one."""
        accept("RESET RETRY COUNTER", (yield self._commands.reset_pin(new)))

    def enter(self, life_cycle: LifeCycle) -> Operation[None]:
        """Enter the next state of the life cycle; entering the present one changes nothing."""
        profile = self._profile
        command = self._commands.activate(profile.p1_life_cycle, profile.life_cycles[life_cycle])
        accept("ACTIVATE", (yield command))

    def terminate(self) -> Operation[None]:
        """End the module: every key is erased."""
        accept("TERMINATE", (yield self._commands.terminate()))

    def _reference(self, slot: KeySlot | PublicSlot) -> int:
        if isinstance(slot, KeySlot):
            return self._profile.key_references[slot]
        return self._profile.public_references[slot]
