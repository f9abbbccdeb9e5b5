"""Other people's keys: certificate chains into the card, root change, verification, service keys out."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.kdf.x963kdf import X963KDF
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap

from hsm.api import Curve, DataObject, KeySlot, LifeCycle, PublicKey, PublicSlot, ServiceKey
from hsm.emulator.state import CardState, StoredPublic
from hsm.emulator.transport import EmulatorTransport
from hsm.errors import CommandRefused
from hsm.session import ModuleSession
from tests.support.card import PIN, Memory, Terminal, logged_in, make_card
from tests.support.soft_module import CURVES, SoftModule, public_of

HASHES = {32: hashes.SHA256(), 48: hashes.SHA384(), 64: hashes.SHA512()}
DAY = datetime(2026, 1, 1, tzinfo=UTC)
Certified = tuple[bytes, bytes]


def certificate(
    key: ec.EllipticCurvePrivateKey, issuer: ec.EllipticCurvePrivateKey, *, ca: bool = True
) -> Certified:
    """TBSCertificate and plain signature."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 7, DAY, DAY + timedelta(1))
    if ca:
        builder = builder.add_extension(x509.BasicConstraints(True, None), True)
    size = (issuer.key_size + 7) // 8
    made = builder.sign(issuer, HASHES[size])
    r, s = utils.decode_dss_signature(made.signature)
    return made.tbs_certificate_bytes, r.to_bytes(size, "big") + s.to_bytes(size, "big")


@pytest.fixture(scope="module")
def chain() -> list[ec.EllipticCurvePrivateKey]:
    """Root, next root, sub-CA, administrator."""
    curves = (ec.BrainpoolP384R1(), ec.BrainpoolP512R1(), ec.SECP384R1(), ec.BrainpoolP256R1())
    return [ec.generate_private_key(curve) for curve in curves]


def refused(
    terminal: Terminal, sw: str, issuer: PublicSlot, made: Certified, holder: PublicSlot | None
) -> None:
    with pytest.raises(CommandRefused, match=sw):
        terminal.run(terminal.client.import_certificate(issuer, *made, holder))


def test_root_and_administrator_by_a_chain(chain: list[ec.EllipticCurvePrivateKey]) -> None:
    root, following, sub_ca, owner = chain
    terminal, card, memory = logged_in()
    run, take = terminal.run, terminal.client.import_certificate
    slot = PublicSlot
    refused(terminal, "6A88", slot.ROOT_NEXT, certificate(following, root), slot.ROOT_NEXT)  # no such issuer
    refused(terminal, "6300", slot.ROOT, certificate(root, following), slot.ROOT)  # not by itself
    refused(terminal, "6985", slot.ROOT, certificate(root, root), slot.PEER_1)  # the first one is the root
    refused(terminal, "6A80", slot.ROOT, certificate(root, root, ca=False), slot.ROOT)
    run(take(slot.ROOT, *certificate(root, root), slot.ROOT))
    refused(terminal, "6985", slot.ROOT, certificate(root, root), slot.ROOT)  # once
    refused(terminal, "6985", slot.ROOT, certificate(following, following), slot.ROOT)
    refused(terminal, "6300", slot.ROOT, certificate(following, following), slot.ROOT_NEXT)
    run(take(slot.ROOT, *certificate(following, root), slot.ROOT_NEXT))  # the link certificate
    run(take(slot.ROOT, *certificate(sub_ca, root), None))
    refused(
        terminal, "6985", slot.VERIFIED, certificate(following, sub_ca), slot.ROOT_NEXT
    )  # not by a sub-CA
    refused(
        terminal, "6A80", slot.ROOT, certificate(owner, root, ca=False), None
    )  # an end entity is no issuer
    run(take(slot.VERIFIED, *certificate(owner, sub_ca, ca=False), slot.ADMINISTRATOR))
    assert memory.state.public[slot.ADMINISTRATOR].point == public_of(owner).point
    run(terminal.client.activate(slot.ROOT))
    assert memory.state.public[slot.ROOT].point == public_of(following).point
    assert slot.ROOT_NEXT not in memory.state.public
    with pytest.raises(CommandRefused, match="6A88"):
        run(terminal.client.activate(slot.ROOT))
    refused(terminal, "6300", slot.ROOT, certificate(sub_ca, root), None)  # the old root counts no more
    with pytest.raises(CommandRefused, match="6985"):
        run(terminal.client.delete_public(slot.ROOT))
    assert card.life_cycle is LifeCycle.PRE_PERSONALISED


def test_every_byte_of_a_certificate_counts(chain: list[ec.EllipticCurvePrivateKey]) -> None:
    root, _, sub_ca, _ = chain

    def with_root(state: CardState) -> None:
        state.public = {PublicSlot.ROOT: StoredPublic(Curve.BRAINPOOL_P384.value, public_of(root).point)}

    card, memory = make_card(change=with_root)
    terminal = Terminal(card)
    terminal.log_in()
    tbs, signature = certificate(sub_ca, root)
    saves = memory.saves
    for at in range(len(tbs)):
        spoiled = tbs[:at] + bytes((tbs[at] ^ 1,)) + tbs[at + 1 :]
        with pytest.raises(CommandRefused, match=r"6300|6A80"):
            terminal.run(
                terminal.client.import_certificate(PublicSlot.ROOT, spoiled, signature, PublicSlot.PEER_1)
            )
    for cut in range(0, len(tbs), 7):
        refused(terminal, "6300|6A80", PublicSlot.ROOT, (tbs[:cut], signature), PublicSlot.PEER_1)
    assert memory.saves == saves


@pytest.mark.parametrize("curve", Curve)
def test_verify(curve: Curve) -> None:
    terminal, _, _ = logged_in()
    run, client = terminal.run, terminal.client
    key = ec.generate_private_key(CURVES[curve])
    digest = hashlib.new(curve.hash_name, b"x").digest()
    signature = SoftModule._signed(key, digest)
    public = public_of(key)
    assert run(client.verify(public, digest, signature))
    assert not run(client.verify(public, digest[::-1], signature))
    assert not run(client.verify(public, digest, bytes(len(signature))))
    assert not run(client.verify(public, digest, signature + b"\x00"))
    with pytest.raises(CommandRefused, match="6A80"):
        run(client.verify(public, digest[:-1], signature))
    with pytest.raises(CommandRefused, match="6A80"):
        run(client.verify(PublicKey(curve, b"\x04" + bytes(2 * curve.field_bytes)), digest, signature))


def test_internal_authentication() -> None:
    terminal, _, _ = logged_in()
    key = terminal.run(terminal.client.generate_key_pair(KeySlot.WAN_SIG, Curve.P384))
    signature = terminal.run(terminal.client.authenticate(KeySlot.WAN_SIG, b"challenge"))
    digest = hashlib.sha384(b"challenge").digest()
    assert terminal.run(terminal.client.verify(key, digest, signature))
    with pytest.raises(CommandRefused, match="6700"):
        terminal.run(terminal.client.authenticate(KeySlot.WAN_SIG, b"short"))


# --- service keys ------------------------------------------------------------------------------------------


def unwrapped(receiver: ec.EllipticCurvePrivateKey, point: bytes, wrapped: bytes, own: bytes) -> bytes:
    """What the receiver does, with pyca alone."""
    ephemeral = ec.EllipticCurvePublicKey.from_encoded_point(receiver.curve, point)
    shared = receiver.exchange(ec.ECDH(), ephemeral)
    return aes_key_unwrap(X963KDF(hashes.SHA256(), 32, own).derive(shared), wrapped)


@pytest.mark.parametrize("curve", Curve)
async def test_a_service_key_leaves_once(curve: Curve) -> None:
    card, memory = make_card()
    receiver = ec.generate_private_key(ec.BrainpoolP512R1())
    async with ModuleSession(lambda: EmulatorTransport(card), lambda: PIN) as module:
        key = await module.generate_service_key(curve, public_of(receiver))
        digest = hashlib.new(curve.hash_name, b"request").digest()
        assert await module.verify(key.public, digest, await module.sign_service(key, digest))
        out = await module.export_service_key(key)
        scalar = unwrapped(receiver, out.ephemeral_point, out.wrapped, key.public.point)
        private = ec.derive_private_key(int.from_bytes(scalar, "big"), CURVES[curve])
        assert public_of(private) == key.public
        assert memory.state.keys == {}
        assert memory.state.receivers == {}
        with pytest.raises(CommandRefused, match="6A88"):
            await module.export_service_key(key)
        with pytest.raises(CommandRefused, match=r"6A88|6985"):
            await module.sign_service(key, digest)


async def test_only_service_keys_leave_and_only_for_their_receiver() -> None:
    card, memory = make_card()
    strong, weak = ec.generate_private_key(ec.BrainpoolP384R1()), ec.generate_private_key(ec.SECP256R1())
    async with ModuleSession(lambda: EmulatorTransport(card), lambda: PIN) as module:
        for slot in (KeySlot.WAN_TLS, KeySlot.STORE, KeySlot.DCNET_1, KeySlot.WAN_TLS_NEXT):
            await module.generate_key_pair(slot, Curve.P256)
            with pytest.raises(CommandRefused, match="6A88"):
                await module.export_service_key(ServiceKey(int(slot), public_of(weak)))
        with pytest.raises(CommandRefused, match="6A80"):  # a receiver weaker than the key
            await module.generate_service_key(Curve.BRAINPOOL_P384, public_of(weak))
        bad = PublicKey(Curve.BRAINPOOL_P384, b"\x04" + bytes(96))
        with pytest.raises(CommandRefused, match="6A80"):
            await module.generate_service_key(Curve.P256, bad)
        made = [await module.generate_service_key(Curve.P256, public_of(strong)) for _ in range(4)]
        with pytest.raises(CommandRefused, match="6A84"):
            await module.generate_service_key(Curve.P256, public_of(strong))
        with pytest.raises(CommandRefused, match="6A88"):  # it signs, but agrees on nothing
            await module.submit(
                lambda client: client.agree_reference(made[0].reference, public_of(weak).point),
                module._priority,
                5.0,
                repeatable=False,
            )
        memory.broken = True
        with pytest.raises(Exception, match="6581"):  # no export that could be had twice
            await module.export_service_key(made[0])
        memory.broken = False
        await module.export_service_key(made[0])
        await module.discard_service_keys()  # as after a caller that was cut off
        digest = bytes(made[1].public.curve.field_bytes)
        with pytest.raises(CommandRefused, match="6A88"):
            await module.sign_service(made[1], digest)
        again = [await module.generate_service_key(Curve.P256, public_of(strong)) for _ in range(4)]
        assert len(await module.sign_service(again[3], digest)) == 64


# --- the rest of the port, through the session --------------------------------------------------------------


async def test_counter_activation_and_status_through_the_session() -> None:
    card, memory = make_card()
    async with ModuleSession(lambda: EmulatorTransport(card), lambda: PIN) as module:
        assert await module.counter() == 0
        assert [await module.increase_counter() for _ in range(3)] == [1, 2, 3]
        assert (await module.counter(), memory.state.counter) == (3, 3)
        old = await module.generate_key_pair(KeySlot.WAN_SIG, Curve.P256)
        new = await module.generate_key_pair(KeySlot.WAN_SIG.pending, Curve.P256)
        assert await module.public_key(KeySlot.WAN_SIG) == old
        assert await module.verify(new, bytes(32), await module.sign(KeySlot.WAN_SIG_NEXT, bytes(32)))
        await module.activate(KeySlot.WAN_SIG)
        assert await module.public_key(KeySlot.WAN_SIG) == new
        status = await module.status()
        assert (status.life_cycle, status.tries_left, status.keys) == (
            LifeCycle.PRE_PERSONALISED,
            3,
            frozenset({KeySlot.WAN_SIG}),
        )
        await module.delete_key(KeySlot.WAN_SIG)
        await module.delete_key(KeySlot.WAN_SIG)
        for name in (DataObject.CRYPTO_INFO, DataObject.CERTIFICATES, DataObject.OWN_DATA):
            await module.read_object(name)
        await module.write_object(DataObject.CERTIFICATES, bytes(5000))
        assert await module.read_object(DataObject.CERTIFICATES) == bytes(5000)
        await module.change_pin(PIN, b"5555555555")
    assert memory.state.pin == b"5555555555"


def test_a_lost_generation_moves_the_counter_on() -> None:
    class Lost(Memory):
        lost = True

    from hsm.emulator.card import Card
    from hsm.emulator.drbg import Drbg
    from hsm.emulator.entropy import OperatingSystemEntropy
    from hsm.emulator.personalise import new_state

    memory = Lost(new_state(PIN))
    Card(memory, Drbg(OperatingSystemEntropy()))
    assert (memory.state.counter, memory.state.pin_left) == (1, 2)
