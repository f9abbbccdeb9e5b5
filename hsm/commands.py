"""The command set after PACE, declared: commands to APDUs, response data to values (profile of section 9.3).

`CommandSet` is bound to one `Profile`, where every assumed coding lives. Never does I/O.
"""

from __future__ import annotations

from construct import Byte, ConstructError, GreedyBytes, Optional, Sequence, Struct, Terminated

from hsm.apdu import CommandApdu, ResponseApdu, Sw
from hsm.api import Curve
from hsm.errors import CommandRefused, MalformedResponse, ModuleFailed
from hsm.profile import PROJECT, Profile
from hsm.tlv import tlv

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

    def generate(self, reference: int, curve: Curve, *, replace: bool) -> CommandApdu:
        """GENERATE ASYMMETRIC KEY PAIR; without `replace` an occupied slot is refused (6A89)."""
        p1 = self.profile.p1_generate_replace if replace else self.profile.p1_generate_new
        data = self._new_key.build({"body": [reference, self.profile.curve_ids[curve]]})
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
