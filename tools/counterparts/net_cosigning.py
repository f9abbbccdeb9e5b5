"""The administrator as a witness of slots: co-signs one manifest and one order each, over restarts.

Shares the codecs of the product and none of its checks.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import TYPE_CHECKING, Final

from firmware.enforcement.dcnet.errors import DcNetError
from firmware.enforcement.dcnet.messages.documents import document_hash
from firmware.enforcement.dcnet.messages.faults import RecoveryOrder
from firmware.enforcement.dcnet.messages.manifest import EpochManifest, Manifest
from firmware.enforcement.dcnet.policy import reconcile_net
from tools.counterparts.messages import MessageRefused, Trust, check_signed
from tools.counterparts.net_recovery import SlotWitness
from wan.errors import OrderRefused

if TYPE_CHECKING:
    from tools.counterparts.net_ordered import OrderedNet

_KINDS: Final = (Manifest, EpochManifest, RecoveryOrder)


class Cosigner:
    """Co-signs what a supplier shows of its slots.

    Args:
        ordered: net id (hex) -> what was ordered, None if nothing.
        trust: anchors for the supplier's certificate.
        kept: outlives this process: what was signed of each slot.
    """

    def __init__(
        self,
        ordered: Callable[[str], OrderedNet | None],
        trust: Trust,
        kept: MutableMapping[str, bytes],
    ) -> None:
        self._ordered, self._trust, self._kept = ordered, trust, kept

    async def judge(self, net: str, body: bytes) -> bytes:
        """Return the content to sign, of a manifest, an epoch's manifest or a recovery order.

        Args:
            net: id (hex) of the regular net; its reconcile net is judged under it, too.
            body: signed by the supplier.

        Raises:
            OrderRefused: it is not the supplier's, or contradicts what was co-signed before.
        """
        ordered = self._ordered(net)
        if ordered is None or ordered.policy.recovery != "witness":
            raise OrderRefused("policy", "no net with a witness was ordered")
        try:
            checked = await check_signed(body, self._trust)
            document = _decoded(checked.content)
        except (DcNetError, MessageRefused) as error:
            raise OrderRefused("form", str(error)) from error
        if checked.signer != ordered.emp_certificate:
            raise OrderRefused("signer", "not signed by the supplier of this net")
        regular = bytes.fromhex(net)
        if document.net not in (regular, reconcile_net(regular)):
            raise OrderRefused("net", "about another net")
        if f"roster-{net}-{document.version}" not in self._kept:
            raise OrderRefused("roster", "no roster of this version was countersigned")
        if not self._first(document):
            raise OrderRefused("second", f"another {type(document).__name__} of this slot was signed before")
        return checked.content

    def _first(self, document: Manifest | EpochManifest | RecoveryOrder) -> bool:
        """Whether this is what was signed of its slot before, or the first; remembers it."""
        name = f"-{document.net.hex()}"
        witness = SlotWitness(self._kept, name)
        if isinstance(document, Manifest):
            return witness.manifest(document.slot, document_hash(document))
        if isinstance(document, RecoveryOrder):
            return witness.order(document)
        key = f"epoch{name}-{document.version}-{document.epoch}"
        return self._kept.setdefault(key, document_hash(document)) == document_hash(document)


def _decoded(content: bytes) -> Manifest | EpochManifest | RecoveryOrder:
    refused: DcNetError | None = None
    for kind in _KINDS:
        try:
            return kind.from_bytes(content)
        except DcNetError as error:
            refused = error
    assert refused is not None
    raise refused
