"""What the module can do, one operation at a time: generators over a `Channel`, one client per connection.

Each operation checks what comes back: lengths, points, counts. Never does I/O, never repeats anything.
"""

from __future__ import annotations

from hsm.administration import COUNTER_BYTES, Administration, checked
from hsm.apdu import Sw
from hsm.api import Curve, DataObject, KeySlot, PublicKey, WrappedKey
from hsm.channel import Channel, Operation
from hsm.commands import accept
from hsm.errors import MalformedResponse
from hsm.messaging import SecureMessaging
from hsm.pace import Password, Scalars, establish
from hsm.profile import PROJECT, FileFormat, Profile
from hsm.suites import AES128, Suite

_PREFIX_BYTES = 2


class ModuleClient(Administration):
    """Typed operations; remembers which keys the card's security environment has chosen."""

    def __init__(self, channel: Channel, profile: Profile = PROJECT) -> None:
        super().__init__(profile)
        self._channel = channel
        self._signing: int | None = None
        self._agreeing: int | None = None

    def select(self) -> Operation[None]:
        """SELECT the application of the module.

        Raises:
            CommandRefused: this card has no such application.
        """
        accept("SELECT", (yield self._commands.select_application()))

    def establish(
        self,
        secret: bytes,
        scalars: Scalars,
        *,
        suite: Suite = AES128,
        curve: Curve = Curve.BRAINPOOL_P256,
    ) -> Operation[None]:
        """Run PACE with the PIN and put the channel under secure messaging; errors as `pace.establish`."""
        password = Password(self._profile.password_reference, secret)
        keys = yield from establish(password, scalars, suite=suite, curve=curve, profile=self._profile)
        self._channel.protect(SecureMessaging(keys))

    def random(self, count: int) -> Operation[bytes]:
        """GET CHALLENGE of 1..256 bytes."""
        if not 1 <= count <= self._profile.challenge_max_bytes:
            raise ValueError(f"1 to {self._profile.challenge_max_bytes} random bytes at a time")
        data = accept("GET CHALLENGE", (yield self._commands.get_challenge(count)))
        if len(data) != count:
            raise MalformedResponse(f"asked for {count} random bytes, got {len(data)}")
        return data

    def generate_key_pair(self, slot: KeySlot, curve: Curve) -> Operation[PublicKey]:
        """New key pair in a static slot, replacing what was there."""
        return self._generate(self._profile.key_references[slot], curve, replace=True)

    def generate_ephemeral(self, reference: int, curve: Curve) -> Operation[PublicKey]:
        """New key pair in a free ephemeral slot; `CommandRefused` (6A89) if it is not free."""
        return self._generate(reference, curve, replace=False)

    def public_key(self, slot: KeySlot) -> Operation[PublicKey]:
        """Read the public half of a static key."""
        command = self._commands.read_public(self._profile.key_references[slot])
        curve, point = self._commands.public_point(accept("READ PUBLIC KEY", (yield command)))
        if curve is None:
            raise MalformedResponse("the module does not say on which curve the key is")
        return checked(curve, point)

    def sign(self, slot: KeySlot, digest: bytes) -> Operation[bytes]:
        """Sign a digest; returns r | s, each as long as the digest (true for all five curves)."""
        return self.sign_reference(self._profile.key_references[slot], digest)

    def sign_reference(self, reference: int, digest: bytes) -> Operation[bytes]:
        """Sign a digest with the key at a reference."""
        if self._signing != reference:
            accept("MSE SIGN", (yield self._commands.choose_signing_key(reference)))
            self._signing = reference
        signature = accept("SIGN", (yield self._commands.sign(digest)))
        if len(signature) != 2 * len(digest):
            raise MalformedResponse("signature of the wrong length")
        return signature

    def agree(self, slot: KeySlot, peer_point: bytes) -> Operation[bytes]:
        """ECKA of a static key."""
        return self.agree_reference(self._profile.key_references[slot], peer_point)

    def agree_reference(self, reference: int, peer_point: bytes) -> Operation[bytes]:
        """ECKA of the key at a reference; returns Z."""
        if self._agreeing != reference:
            accept("MSE KEY AGREEMENT", (yield self._commands.choose_agreement_key(reference)))
            # A module forgets the choice of an ephemeral key when it erases the key.
            self._agreeing = None if reference in self._profile.ephemeral_references else reference
        response = yield self._commands.agree(peer_point)
        secret = self._commands.shared_secret(accept("KEY AGREEMENT", response))
        if len(secret) != len(peer_point) // 2 or not any(secret):
            raise MalformedResponse("shared secret of the wrong length, or zero")
        return secret

    def export_service_key(self, reference: int) -> Operation[WrappedKey]:
        """Let a service key leave, once."""
        if self._signing == reference:
            self._signing = None  # the card forgets the choice together with the key
        return super().export_service_key(reference)

    def counter(self) -> Operation[int]:
        """Read the monotonic counter."""
        data = yield from self.read_object(DataObject.COUNTER)
        if len(data) != COUNTER_BYTES:
            raise MalformedResponse("the counter has another length")
        return int.from_bytes(data, "big")

    def read_object(self, name: DataObject) -> Operation[bytes]:
        """Read an elementary file, in as many pieces as it takes."""
        accept("SELECT FILE", (yield self._commands.select_file(int(name))))
        entry = self._profile.files[name]
        if entry.format is FileFormat.PLAIN:
            return (yield from self._read(0, entry.size_bytes, short_is_end=True))
        prefix = yield from self._read(0, _PREFIX_BYTES, short_is_end=False)
        length = int.from_bytes(prefix, "big")
        if length > entry.size_bytes - _PREFIX_BYTES:
            raise MalformedResponse("the object claims to be longer than its file")
        return (yield from self._read(_PREFIX_BYTES, length, short_is_end=False))

    def _read(self, offset: int, count: int, *, short_is_end: bool) -> Operation[bytes]:
        data = b""
        while len(data) < count:
            wanted = min(self._profile.chunk_bytes, count - len(data))
            response = yield self._commands.read_binary(offset + len(data), wanted)
            at_end = response.sw == Sw.END_OF_FILE or (response.sw == Sw.OFFSET and bool(data))
            piece = response.data if at_end else accept("READ BINARY", response)
            data += piece
            if len(piece) > wanted:
                raise MalformedResponse("more file content than asked for")
            if at_end or len(piece) < wanted:
                if short_is_end:
                    break
                raise MalformedResponse("the file is shorter than its content")
        return data

    def write_object(self, name: DataObject, data: bytes) -> Operation[None]:
        """Replace the content of an elementary file.

        What does not fit one command is written behind a length of zero, the real length last: a torn write
        leaves an empty object, never a mixed one.

        Raises:
            ValueError: the file is too small, or is never written.
        """
        entry = self._profile.files[name]
        if not entry.writable or entry.format is not FileFormat.PREFIXED:
            raise ValueError(f"{name.name} is never written")
        if len(data) > entry.size_bytes - _PREFIX_BYTES:
            raise ValueError(f"{name.name} holds at most {entry.size_bytes - _PREFIX_BYTES} bytes")
        accept("SELECT FILE", (yield self._commands.select_file(int(name))))
        prefix = len(data).to_bytes(_PREFIX_BYTES, "big")
        chunk = self._profile.chunk_bytes
        if len(data) + _PREFIX_BYTES <= chunk:
            accept("UPDATE BINARY", (yield self._commands.update_binary(0, prefix + data)))
            return
        accept("UPDATE BINARY", (yield self._commands.update_binary(0, bytes(_PREFIX_BYTES))))
        for start in range(0, len(data), chunk):
            command = self._commands.update_binary(_PREFIX_BYTES + start, data[start : start + chunk])
            accept("UPDATE BINARY", (yield command))
        accept("UPDATE BINARY", (yield self._commands.update_binary(0, prefix)))
