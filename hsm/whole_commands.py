"""The command set beyond daily use: keys for others, key changes, the administrator, files, the life cycle.

All of it after PACE, all of it from the same `Profile`. Never does I/O.
"""

from __future__ import annotations

from hsm.apdu import CommandApdu
from hsm.api import Curve, PublicKey
from hsm.commands import CommandSet
from hsm.errors import MalformedResponse, MalformedTlv
from hsm.tlv import encode, parse_unique


class WholeCommandSet(CommandSet):
    """Builds the commands of one kind of module and reads their answers: all of them."""

    def generate_for(self, receiver: PublicKey, reference: int, curve: Curve) -> CommandApdu:
        """GENERATE ASYMMETRIC KEY PAIR for a device: names the key that it will be wrapped for."""
        profile = self.profile
        inner = encode(profile.tag_key_reference, bytes((reference,)))
        inner += encode(profile.tag_curve, bytes((profile.curve_ids[curve],)))
        data = encode(profile.key_template, inner + self.public_key_object(receiver))
        return self._command(profile.ins_generate_key_pair, profile.p1_generate_new << 8, data)

    def public_key_object(self, key: PublicKey) -> bytes:
        """7F49 { 80 curve, 86 point }."""
        inner = encode(self.profile.tag_curve, bytes((self.profile.curve_ids[key.curve],)))
        return encode(self.profile.tag_public_key, inner + encode(self.profile.tag_public_point, key.point))

    def choose(self, p1p2: int, reference: int, *, public: bool = False) -> CommandApdu:
        """MSE:Set with one reference, of a private key or of a public one."""
        tag = self.profile.tag_public_reference if public else self.profile.tag_key_reference
        return self._command(self.profile.ins_mse, p1p2, encode(tag, bytes((reference,))), None)

    def verify(self, key: PublicKey | None, digest: bytes, signature: bytes) -> CommandApdu:
        """PSO: VERIFY DIGITAL SIGNATURE with a key given, or with the one chosen by MSE."""
        data = encode(self.profile.tag_digest, digest) + encode(self.profile.tag_signature, signature)
        if key is not None:
            data += self.public_key_object(key)
        return self._command(self.profile.ins_pso, self.profile.p1p2_verify_signature, data, None)

    def verify_certificate(self, tbs: bytes, signature: bytes, holder: int | None) -> CommandApdu:
        """PSO: VERIFY CERTIFICATE, keeping the key at `holder`, or as the next link of the chain if None."""
        profile = self.profile
        data = encode(profile.tag_certificate_body, tbs)
        data += encode(profile.tag_certificate_signature, signature)
        if holder is not None:
            data += encode(profile.tag_certificate_holder, bytes((holder,)))
        return self._command(profile.ins_pso, profile.p1p2_verify_certificate, data, None)

    def external_authenticate(self, signature: bytes) -> CommandApdu:
        """EXTERNAL AUTHENTICATE."""
        return self._command(self.profile.ins_external_authenticate, 0, signature, None)

    def internal_authenticate(self, challenge: bytes) -> CommandApdu:
        """INTERNAL AUTHENTICATE."""
        return self._command(self.profile.ins_internal_authenticate, 0, challenge)

    def activate(self, p1: int, p2: int) -> CommandApdu:
        """ACTIVATE: a state of the life cycle, the PIN, a pending key or a deactivated one."""
        return self._command(self.profile.ins_activate, p1 << 8 | p2, b"", None)

    def deactivate(self, p1: int, p2: int) -> CommandApdu:
        """DEACTIVATE the PIN or a key."""
        return self._command(self.profile.ins_deactivate, p1 << 8 | p2, b"", None)

    def change_pin(self, old: bytes, new: bytes) -> CommandApdu:
        """CHANGE REFERENCE DATA with the old PIN; an empty one means the administrator vouches."""
        p1 = self.profile.p1_change_with_old if old else self.profile.p1_change_new
        p1p2 = p1 << 8 | self.profile.password_reference
        return self._command(self.profile.ins_change_reference_data, p1p2, old + new, None)

    def reset_pin(self, new: bytes = b"") -> CommandApdu:
        """RESET RETRY COUNTER, with a new PIN or without."""
        p1 = self.profile.p1_reset_with_new if new else self.profile.p1_reset_only
        p1p2 = p1 << 8 | self.profile.password_reference
        return self._command(self.profile.ins_reset_retry_counter, p1p2, new, None)

    def create_file(self, file: int, size_bytes: int) -> CommandApdu:
        """CREATE an elementary file."""
        profile = self.profile
        inner = encode(profile.tag_file, file.to_bytes(2, "big"))
        inner += encode(profile.tag_file_size, size_bytes.to_bytes(2, "big"))
        return self._command(profile.ins_create, 0, encode(profile.tag_file_control, inner), None)

    def delete_file(self, file: int) -> CommandApdu:
        """DELETE an elementary file that was created."""
        profile = self.profile
        inner = encode(profile.tag_file, file.to_bytes(2, "big"))
        return self._command(profile.ins_delete, 0, encode(profile.tag_file_control, inner), None)

    def delete_public(self, reference: int) -> CommandApdu:
        """DELETE an imported public key."""
        data = encode(self.profile.tag_public_reference, bytes((reference,)))
        return self._command(self.profile.ins_delete, 0, data, None)

    def increase(self) -> CommandApdu:
        """INCREASE the monotonic counter; answers its new value."""
        return self._command(self.profile.ins_increase, self.profile.p2_counter)

    def terminate(self) -> CommandApdu:
        """TERMINATE CARD USAGE."""
        return self._command(self.profile.ins_terminate_card, 0, b"", None)

    def export(self) -> CommandApdu:
        """PSO: ENCIPHER of the chosen service key."""
        return self._command(self.profile.ins_pso, self.profile.p1p2_export)

    def exported(self, data: bytes) -> tuple[bytes, bytes]:
        """Ephemeral point and wrapped key out of the answer to `export`.

        Raises:
            MalformedResponse: not these two objects.
        """
        try:
            objects = parse_unique(data)
        except MalformedTlv as error:
            raise MalformedResponse("service key: malformed") from error
        if list(objects) != [self.profile.tag_public_point, self.profile.tag_wrapped]:
            raise MalformedResponse("service key: other objects than asked for")
        return objects[self.profile.tag_public_point], objects[self.profile.tag_wrapped]
