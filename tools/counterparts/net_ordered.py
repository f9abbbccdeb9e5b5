"""What an administrator has ordered of one net."""

from __future__ import annotations

from dataclasses import dataclass

from firmware.profile.model import NetPolicy


@dataclass(frozen=True, slots=True)
class OrderedNet:
    """What the administrator ordered in its profiles."""

    policy: NetPolicy
    emp_certificate: bytes
    """DER of the EMP's SIG certificate."""
    gateways: frozenset[str]
    """Ids (lower case) of its own gateways that were told to take part."""
