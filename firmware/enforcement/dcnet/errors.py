"""What can go wrong in a DC-net, and whose fault it is."""

from __future__ import annotations

from enum import Enum

from firmware.errors import FirmwareError, ReadingRefused


class DcNetError(FirmwareError):
    """Base of every error of the DC-net."""


class MalformedObject(DcNetError):
    """A frame or document of the protocol is not in its one canonical form."""


class NetRefused(DcNetError):
    """The policy of a net breaks a floor that a gateway itself insists on."""


class MembershipRefused(DcNetError):
    """A roster, key bundle or epoch manifest cannot be trusted; `code` names the check."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code, self.detail = code, detail


class Refusal(Enum):
    """Why a gateway does not open a slot; the value goes into logs."""

    SIGNATURE = "signature"
    FORM = "form"
    PREVIOUS = "previous-manifest"
    LEAF = "leaf"
    NOT_PRESENT = "not-present"
    EXCLUDED = "too-many-excluded"
    COMPONENT = "component"
    DEGREE = "degree"
    LATE = "late"


class OpeningRefused(DcNetError):
    """A manifest fails a check of the round: this slot stays closed."""

    def __init__(self, refusal: Refusal, detail: str) -> None:
        super().__init__(f"{refusal.value}: {detail}")
        self.refusal = refusal


class CalendarRefused(DcNetError):
    """A calendar asks for more than calendars may; `code` names the check."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code, self.detail = code, detail


class OutageRefused(DcNetError):
    """An outage notice lifts nothing in this slot; `code` names the check."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code, self.detail = code, detail


class SharesRefused(DcNetError):
    """Shares of a seed are too few, or contradict each other."""


class ReleaseOfShareRefused(DcNetError):
    """A share for a lost member stays sealed; `code` names the check."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code, self.detail = code, detail


class AuditRefused(DcNetError):
    """A canary audit asks for more than this gateway gives."""


class ProofRefused(DcNetError):
    """A range proof shows nothing; `check` names what failed."""

    def __init__(self, check: str, detail: str) -> None:
        super().__init__(f"{check}: {detail}")
        self.check, self.detail = check, detail


class CommitmentRefused(DcNetError):
    """An order of V-mode, or a commitment, is not what the net's rules allow; `code` names the check."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code, self.detail = code, detail


class CosignatureMissing(DcNetError):
    """A document of a net with recovery lacks an administrator's co-signature; it is as good as none."""


class Equivocation(DcNetError):
    """Two signed manifests, orders or results of one slot that differ: proof of a lie. `proof` is both."""

    def __init__(self, slot: int, proof: tuple[bytes, bytes]) -> None:
        super().__init__(f"two manifests, orders or results for slot {slot}")
        self.slot, self.proof = slot, proof


class UnexpectedStep(DcNetError):
    """A slot cannot make this step from the state it is in (opened twice, submitted twice)."""


class SlotInPast(DcNetError, ReadingRefused):
    """Another value for a slot that this gateway has already dealt with: the clock went back."""
