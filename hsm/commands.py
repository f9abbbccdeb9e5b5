"""The command set after PACE, declared: commands to APDUs, response data to values (profile of section 9.3).

`CommandSet` is bound to one `Profile`, where every assumed coding lives. Never does I/O.
"""

from __future__ import annotations

from construct import Byte, ConstructError, GreedyBytes, Optional, Sequence, Struct, Terminated

from hsm.apdu import CommandApdu, ResponseApdu, Sw
from hsm.api import Curve, PublicKey
from hsm.errors import CommandRefused, MalformedResponse, MalformedTlv, ModuleFailed
from hsm.profile import PROJECT, Profile
from hsm.tlv import encode, parse_unique, tlv

_OWN_FAULTS = frozenset({Sw.INTERNAL, Sw.WRITE_FAILED})


def accept(name: str, response: ResponseApdu) -> bytes:
    """Return the data of a response that says 9000.

    Raises:
        ModuleFailed: the module reports a fault of its own (6F00, 6581).
        CommandRefused: any other status word.
    """
    if response.sw == Sw.OK:
        return response.data
    if response.sw in _OWN_FAULTS:
        raise ModuleFailed(f"{name}: the module reports a fault of its own: SW={response.sw:04X}")
    raise CommandRefused(name, response.sw)


class CommandSet:
    """Builds the commands of one kind of module and reads their answers."""

    def __init__(self, profile: Profile = PROJECT) -> None:
        self.profile = profile
        reference = tlv(profile.tag_key_reference, Byte)
        # Control reference template { 84 key reference, [80 domain parameter id] }.
        self._new_key = Struct(
            "body" / tlv(profile.key_template, Sequence(reference, tlv(profile.tag_curve, Byte)))
        )
        self._named_key = Struct("body" / tlv(profile.key_template, reference))
        self._reference = Struct("reference" / reference)
        self._public = Struct(
            "body"
            / tlv(
                profile.tag_public_key,
                Struct(
                    "curve" / Optional(tlv(profile.tag_curve, Byte)),
                    "point" / tlv(profile.tag_public_point, GreedyBytes),
                ),
            ),
            Terminated,
        )
        self._peer = Struct("point" / tlv(profile.tag_agree, tlv(profile.tag_peer_point, GreedyBytes)))
        self._secret = Struct(
            "z" / tlv(profile.tag_agree, tlv(profile.tag_shared_secret, GreedyBytes)), Terminated
        )
        self._curves = {number: curve for curve, number in profile.curve_ids.items()}

    def _command(self, ins: int, p1p2: int, data: bytes = b"", le: int | None = 256) -> CommandApdu:
        return CommandApdu(0x00, ins, p1p2 >> 8, p1p2 & 0xFF, data, le)

    def select_application(self) -> CommandApdu:
        """SELECT by DF name, no answer wanted."""
        return self._command(self.profile.ins_select, 0x040C, self.profile.application, None)

    def select_file(self, file: int) -> CommandApdu:
        """SELECT an elementary file of the current application."""
        return self._command(self.profile.ins_select, 0x020C, file.to_bytes(2, "big"), None)

    def read_binary(self, offset: int, count: int) -> CommandApdu:
        """READ BINARY of the selected file; 0 <= offset < 2**15."""
        return self._command(self.profile.ins_read_binary, offset, le=count)

    def update_binary(self, offset: int, data: bytes) -> CommandApdu:
        """UPDATE BINARY of the selected file; 0 <= offset < 2**15."""
        return self._command(self.profile.ins_update_binary, offset, data, None)

    def get_challenge(self, count: int) -> CommandApdu:
        """GET CHALLENGE as random number service."""
        return self._command(self.profile.ins_get_challenge, 0, le=count)

    def generate(
        self, reference: int, curve: Curve, *, replace: bool, receiver: PublicKey | None = None
    ) -> CommandApdu:
        """GENERATE ASYMMETRIC KEY PAIR; without `replace` an occupied slot is refused (6A89).

        A service key names the `receiver` that it will be wrapped for.
        """
        profile = self.profile
        p1 = profile.p1_generate_replace if replace else profile.p1_generate_new
        if receiver is None:
            data: bytes = self._new_key.build({"body": [reference, profile.curve_ids[curve]]})
        else:
            inner = encode(profile.tag_key_reference, bytes((reference,)))
            inner += encode(profile.tag_curve, bytes((profile.curve_ids[curve],)))
            data = encode(profile.key_template, inner + self.public_key_object(receiver))
        return self._command(self.profile.ins_generate_key_pair, p1 << 8, data)

    def read_public(self, reference: int) -> CommandApdu:
        """GENERATE ASYMMETRIC KEY PAIR in its form that only reads the public key."""
        data = self._named_key.build({"body": reference})
        return self._command(self.profile.ins_generate_key_pair, self.profile.p1_read_public << 8, data)

    def public_point(self, data: bytes) -> tuple[Curve | None, bytes]:
        """The curve (if the module names it) and the point of a 7F49 answer.

        Raises:
            MalformedResponse: not such an object, or a curve nobody knows.
        """
        try:
            body = self._public.parse(data).body
        except ConstructError as error:
            raise MalformedResponse(f"public key: {type(error).__name__}") from error
        if body.curve is not None and body.curve not in self._curves:
            raise MalformedResponse("public key on an unknown curve")
        return (None if body.curve is None else self._curves[body.curve]), bytes(body.point)

    def choose_signing_key(self, reference: int) -> CommandApdu:
        """MSE:Set DST, to compute."""
        return self._command(
            self.profile.ins_mse,
            self.profile.p1p2_mse_sign,
            self._reference.build({"reference": reference}),
            None,
        )

    def choose_agreement_key(self, reference: int) -> CommandApdu:
        """MSE:Set KAT."""
        data = self._reference.build({"reference": reference})
        return self._command(self.profile.ins_mse, self.profile.p1p2_mse_agree, data, None)

    def sign(self, digest: bytes) -> CommandApdu:
        """PSO: COMPUTE DIGITAL SIGNATURE over a digest with the chosen key."""
        return self._command(self.profile.ins_pso, self.profile.p1p2_sign, digest)

    def agree(self, peer_point: bytes) -> CommandApdu:
        """GENERAL AUTHENTICATE as key agreement with the chosen key."""
        return self._command(
            self.profile.ins_general_authenticate, 0, self._peer.build({"point": peer_point})
        )

    def shared_secret(self, data: bytes) -> bytes:
        """Z out of the answer to `agree`.

        Raises:
            MalformedResponse: not such an object.
        """
        try:
            return bytes(self._secret.parse(data).z)
        except ConstructError as error:
            raise MalformedResponse(f"key agreement: {type(error).__name__}") from error

    def delete(self, reference: int) -> CommandApdu:
        """DELETE a key."""
        return self._command(
            self.profile.ins_delete, 0, self._reference.build({"reference": reference}), None
        )

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
