"""One side's settings as an SSL_CTX: profile, key in the module, chain, trust; shared by connections."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable
from datetime import datetime
from enum import Enum
from typing import Any, Final

from hsm import libcrypto
from hsm.api import KeySlot, SecurityModule
from hsm.errors import TlsRefused
from hsm.tls.driver import EventLoop, ModuleBridge
from hsm.tls.profile import TlsProfile, TlsVersion
from hsm.tls.provider import PROPERTIES, Provider, provider
from hsm.x509 import native
from hsm.x509.certificate import Certificate

_P, _I, _U, _L, _S = ctypes.c_void_p, ctypes.c_int, ctypes.c_uint, ctypes.c_long, ctypes.c_char_p
_AlpnCallback = ctypes.CFUNCTYPE(_I, _P, ctypes.POINTER(_P), ctypes.POINTER(ctypes.c_ubyte), _P, _U, _P)
_crypto: Any = libcrypto.crypto({"ERR_clear_error": (None,)})
_lib: Any = libcrypto.ssl(
    {
        "TLS_method": (_P,),
        "SSL_CTX_new_ex": (_P, _P, _S, _P),
        "SSL_CTX_free": (None, _P),
        "SSL_CTX_ctrl": (_L, _P, _I, _L, _P),
        "SSL_CTX_set_options": (ctypes.c_uint64, _P, ctypes.c_uint64),
        "SSL_CTX_set_security_level": (None, _P, _I),
        "SSL_CTX_set_verify": (None, _P, _I, _P),
        "SSL_CTX_get0_param": (_P, _P),
        "SSL_CTX_get_cert_store": (_P, _P),
        "SSL_CTX_use_certificate": (_I, _P, _P),
        "SSL_CTX_use_PrivateKey": (_I, _P, _P),
        "SSL_CTX_set_cipher_list": (_I, _P, _S),
        "SSL_CTX_set_ciphersuites": (_I, _P, _S),
        "SSL_CTX_set_alpn_protos": (_I, _P, _S, _U),
        "SSL_CTX_set_alpn_select_cb": (None, _P, _AlpnCallback, _P),
        "SSL_CTX_set_session_id_context": (_I, _P, _S, _U),
        "SSL_CTX_set_num_tickets": (_I, _P, ctypes.c_size_t),
        "SSL_CTX_set_tlsext_max_fragment_length": (_I, _P, ctypes.c_uint8),
        "SSL_CTX_add_client_CA": (_I, _P, _P),
    }
)
_param: Any = libcrypto.crypto({"X509_VERIFY_PARAM_set_auth_level": (None, _P, _I)})

# Command numbers of SSL_CTX_ctrl (openssl/ssl.h).
_MODE, _SESSION_CACHE, _CHAIN_CERT, _GROUPS, _SIGALGS, _CLIENT_SIGALGS = 33, 44, 89, 92, 98, 102
_MIN_VERSION, _MAX_VERSION = 123, 124
_MODE_BITS: Final = (
    0x02  # the write buffer may move
    | 0x08  # our chain is sent as given: none is searched for and verified anew in each handshake
    | 0x10  # idle connections give their buffers back
)
_OPTIONS: Final = (
    1 << 14  # no tickets
    | 1 << 17  # no compression
    | 1 << 22  # the server's order of suites counts
    | 1 << 30  # no renegotiation
)
_FRAGMENT_CODES: Final = {512: 1, 1024: 2, 2048: 3, 4096: 4}  # RFC 6066, 4
_SECURITY_LEVEL: Final = 2
_ALPN_OK, _ALPN_FATAL = 0, 2


class PeerCertificate(Enum):
    """Whether the peer must show a certificate; the value is libssl's verify mode."""

    REQUIRED = 0x03
    OPTIONAL = 0x01
    INSECURE_NONE = 0x00


class TlsContext:
    """One side of a kind of connection; `CertificateRefused` or `TlsRefused` if it cannot be set up."""

    def __init__(
        self,
        profile: TlsProfile,
        module: SecurityModule,
        loop: EventLoop,
        *,
        slot: KeySlot,
        chain: Iterable[Certificate],
        anchors: Iterable[Certificate],
        crls: Iterable[bytes] = (),
        server: bool = False,
        peer: PeerCertificate = PeerCertificate.REQUIRED,
        now_utc: Callable[[], datetime] | None = None,
        insecure_skip_validity: bool = False,
    ) -> None:
        """Set up.

        Args:
            profile: what may be negotiated.
            module: holds the key, on `loop`.
            loop: where the connections will live.
            slot: the key of the first certificate of `chain`.
            chain: our certificate, then those of the CAs above it, without the root.
            anchors: the roots that a peer's chain must lead to.
            crls: revocation lists (DER); with any, every issuer in a chain needs one.
            server: which side this is.
            peer: a server may do without the peer's certificate, a client never.
            now_utc: the clock that validity is checked by; without it the operating system's.
            insecure_skip_validity: validity periods are not looked at; for the one connection that
                fetches the time (BSI TR-03109-1), with everything else checked.
        """
        self.profile, self.server, self.now_utc = profile, server, now_utc
        self.insecure_skip_validity = insecure_skip_validity
        self.bridge = ModuleBridge(module, loop, profile.handshake_limit_s)
        self.loop = loop
        self._alpn = tuple(name.encode("ascii") for name in profile.alpn)
        self._alpn_callback: Any = None
        own = list(chain)
        if not own:
            raise ValueError("a TLS context needs a certificate of its own")
        if not server and peer is not PeerCertificate.REQUIRED:
            raise ValueError("a client always demands the server's certificate")
        _crypto.ERR_clear_error()
        self._provider: Provider = provider()
        self.ssl_ctx: int | None = _lib.SSL_CTX_new_ex(
            self._provider.library_context, PROPERTIES.encode(), _lib.TLS_method()
        )
        self._demand(bool(self.ssl_ctx), "SSL_CTX")
        self._negotiable(own[0])
        self._trust(list(anchors), tuple(crls), peer)
        self._identity(slot, own)
        self._application_protocols()

    def __del__(self) -> None:
        if ssl_ctx := getattr(self, "ssl_ctx", None):
            _lib.SSL_CTX_free(ssl_ctx)

    # ---- parts of the setting up

    def _demand(self, good: bool, what: str) -> None:
        if not good:
            raise TlsRefused(f"{what}: {libcrypto.drain_errors()} [OpenSSL {libcrypto.version()}]")

    def _control(self, command: int, number: int, pointer: Any, what: str) -> None:
        self._demand(_lib.SSL_CTX_ctrl(self.ssl_ctx, command, number, pointer) == 1, what)

    def _control_text(self, command: int, text: str) -> None:
        self._control(command, 0, ctypes.cast(_S(text.encode()), _P), text)

    def _negotiable(self, own: Certificate) -> None:
        library, profile = libcrypto.version(), self.profile
        self.newest = newest = profile.highest_version(library)
        if newest < profile.minimum:
            raise TlsRefused(f"profile {profile.name} needs {profile.minimum.name}, which this OpenSSL lacks")
        self._control(_MIN_VERSION, profile.minimum, None, "lowest version")
        self._control(_MAX_VERSION, newest, None, "highest version")
        _lib.SSL_CTX_set_security_level(self.ssl_ctx, _SECURITY_LEVEL)
        _lib.SSL_CTX_set_options(self.ssl_ctx, _OPTIONS)
        self._control_text(_GROUPS, profile.groups(library))
        # What we sign and what we take: which list is which depends on the side (SSL_CTX_set1_sigalgs(3)).
        ours = profile.signature_schemes(library, own.public_key.curve)
        theirs = profile.signature_schemes(library)
        self._control_text(_SIGALGS, ours if self.server else theirs)
        self._control_text(_CLIENT_SIGALGS, theirs if self.server else ours)
        suites12 = ":".join(suite.value for suite in profile.suites12)
        suites13 = ":".join(suite.value for suite in profile.suites13)
        if profile.minimum is TlsVersion.TLS12:
            self._demand(_lib.SSL_CTX_set_cipher_list(self.ssl_ctx, suites12.encode()) == 1, suites12)
        self._demand(_lib.SSL_CTX_set_ciphersuites(self.ssl_ctx, suites13.encode()) == 1, suites13)
        _lib.SSL_CTX_ctrl(self.ssl_ctx, _MODE, _MODE_BITS, None)
        _lib.SSL_CTX_ctrl(self.ssl_ctx, _SESSION_CACHE, 0, None)
        _lib.SSL_CTX_set_num_tickets(self.ssl_ctx, 0)
        _lib.SSL_CTX_set_session_id_context(self.ssl_ctx, b"smgw", 4)
        if profile.max_fragment_bytes is not None:
            code = _FRAGMENT_CODES[profile.max_fragment_bytes]
            self._demand(
                _lib.SSL_CTX_set_tlsext_max_fragment_length(self.ssl_ctx, code) == 1, "max_fragment_length"
            )

    def _trust(self, anchors: list[Certificate], crls: tuple[bytes, ...], peer: PeerCertificate) -> None:
        library_context = self._provider.library_context
        store = _lib.SSL_CTX_get_cert_store(self.ssl_ctx)
        for anchor in anchors:
            with native.certificate_of(anchor.der, library_context) as certificate:
                native.add_trust(store, certificate)
                if self.server:
                    _lib.SSL_CTX_add_client_CA(self.ssl_ctx, certificate)
        native.add_crls(store, crls, library_context)
        _param.X509_VERIFY_PARAM_set_auth_level(_lib.SSL_CTX_get0_param(self.ssl_ctx), native.AUTH_LEVEL)
        _lib.SSL_CTX_set_verify(self.ssl_ctx, peer.value, None)

    def _identity(self, slot: KeySlot, chain: list[Certificate]) -> None:
        library_context = self._provider.library_context
        for position, item in enumerate(chain):
            with native.certificate_of(item.der, library_context) as certificate:
                if position:
                    self._control(_CHAIN_CERT, 1, certificate, f"chain: {item.subject_cn}")
                else:
                    used = _lib.SSL_CTX_use_certificate(self.ssl_ctx, certificate)
                    self._demand(used == 1, f"certificate: {item.subject_cn}")
        key = self._provider.static_key(slot, chain[0].public_key)
        try:
            self._demand(_lib.SSL_CTX_use_PrivateKey(self.ssl_ctx, key) == 1, f"key in {slot.name}")
        finally:
            self._provider.free_key(key)

    def _application_protocols(self) -> None:
        if not self._alpn:
            return
        if self.server:
            self._alpn_callback = _AlpnCallback(_select_from(self._alpn))
            _lib.SSL_CTX_set_alpn_select_cb(self.ssl_ctx, self._alpn_callback, None)
        else:
            wire = b"".join(bytes([len(name)]) + name for name in self._alpn)
            self._demand(_lib.SSL_CTX_set_alpn_protos(self.ssl_ctx, wire, len(wire)) == 0, "ALPN")


def _select_from(known: tuple[bytes, ...]) -> Callable[..., int]:
    """The server's choice; it refers to no context, so that contexts can be freed."""

    def select(_ssl: int, out: Any, out_length: Any, offered: int, count: int, _argument: int) -> int:
        wire, at = ctypes.string_at(offered, count), 0
        while at < count:
            name = wire[at + 1 : at + 1 + wire[at]]
            if name in known:
                out[0], out_length[0] = offered + at + 1, len(name)
                return _ALPN_OK
            at += 1 + wire[at]
        return _ALPN_FATAL  # alert no_application_protocol

    return select
