"""What a member knows when it judges a slot: its net in one epoch, and the chain of manifests so far.

Values and their place in the chain; no rule about opening. Spec: docs/dcnet.md, one slot.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from firmware.enforcement.dcnet.errors import MalformedObject, OpeningRefused, Refusal
from firmware.enforcement.dcnet.messages.documents import document_hash, from_bitmap
from firmware.enforcement.dcnet.messages.manifest import EpochManifest, Manifest
from firmware.enforcement.dcnet.policy import NetRules
from firmware.enforcement.dcnet.primitives.arithmetic import Prf
from firmware.enforcement.dcnet.primitives.cells import Joints, reach


@dataclass(frozen=True, slots=True)
class View:
    """What one member knows of its net during one epoch."""

    rules: NetRules
    version: int
    epoch: int
    size: int
    index: int
    edges: Mapping[int, Prf]
    """Neighbour -> PRF under the edge's epoch key."""
    adjacent: Mapping[int, frozenset[int]]
    """The whole key graph."""
    joints: Joints | None = None
    """The cells and the bridges that were drawn between them; None in a net of one cell."""

    def reach(self, accepted: frozenset[int]) -> frozenset[int]:
        """Return the accepted members that hang together with us: among them our value hides."""
        return reach(self.index, self.adjacent, accepted, self.joints)


@dataclass(frozen=True, slots=True)
class Head:
    """The end of the chain of manifests, as far as this gateway has followed it."""

    epoch: int
    slot: int
    """The slot whose manifest it is; of an EpochManifest the slot before its first one."""
    hash: bytes
    present: frozenset[int]
    """P of the next slot."""
    accepted: frozenset[int] | None = field(default=None, compare=False)
    """A of its slot, for whoever looks at the net; None: an EpochManifest, or not known since the start."""

    @classmethod
    def of_epoch(cls, manifest: EpochManifest, size: int) -> Head:
        """Start a chain."""
        present = from_bitmap(manifest.present, size)
        return cls(manifest.epoch, manifest.first_slot - 1, document_hash(manifest), present)


@dataclass(frozen=True, slots=True)
class Link:
    """A manifest whose place in the chain is right."""

    manifest: Manifest
    hash: bytes
    accepted: frozenset[int]
    hello: frozenset[int]

    def head(self, epoch: int) -> Head:
        """Return the end of the chain behind this manifest: P = accepted + hello."""
        return Head(epoch, self.manifest.slot, self.hash, self.accepted | self.hello, self.accepted)


def link(view: View, head: Head, manifest: Manifest) -> Link:
    """Check that a manifest (signature already checked) follows `head`.

    Raises:
        OpeningRefused: other net, roster or slot (FORM), or another past than ours (PREVIOUS).
    """
    if (manifest.net, manifest.version, manifest.slot) != (view.rules.net, view.version, head.slot + 1):
        raise OpeningRefused(Refusal.FORM, "a manifest of another net, roster or slot")
    if manifest.previous != head.hash:
        raise OpeningRefused(Refusal.PREVIOUS, "the manifest continues another chain")
    try:
        accepted = from_bitmap(manifest.accepted, view.size)
        hello = from_bitmap(manifest.hello, view.size)
    except MalformedObject as error:
        raise OpeningRefused(Refusal.FORM, str(error)) from error
    return Link(manifest, document_hash(manifest), accepted, hello)
