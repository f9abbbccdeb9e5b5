"""One TLS connection over memory BIOs: ciphertext in, ciphertext out. No I/O, no event loop."""

from __future__ import annotations

import ctypes
import threading
from typing import Any, Final

from hsm import libcrypto
from hsm.api import CertificateUse, Curve
from hsm.errors import CertificateRefused, TlsRefused
from hsm.tls.context import TlsContext
from hsm.tls.keys import Work, performing
from hsm.tls.profile import TlsVersion
from hsm.x509 import native
from hsm.x509.path import check_use

_P, _I, _L, _U, _S, _Z = (
    ctypes.c_void_p,
    ctypes.c_int,
    ctypes.c_long,
    ctypes.c_uint,
    ctypes.c_char_p,
    ctypes.c_size_t,
)
_PZ = ctypes.POINTER(_Z)
_crypto: Any = libcrypto.crypto(
    {
        "ERR_clear_error": (None,),
        "BIO_new": (_P, _P),
        "BIO_s_mem": (_P,),
        "BIO_read": (_I, _P, _P, _I),
        "BIO_write": (_I, _P, _P, _I),
        "BIO_ctrl": (_L, _P, _I, _L, _P),
        "X509_VERIFY_PARAM_set1_host": (_I, _P, _S, _Z),
        "X509_VERIFY_PARAM_set1_ip_asc": (_I, _P, _S),
        "X509_VERIFY_PARAM_set_hostflags": (None, _P, _U),
        "X509_VERIFY_PARAM_set_time": (None, _P, ctypes.c_int64),
        "X509_VERIFY_PARAM_set_flags": (_I, _P, ctypes.c_ulong),
    }
)
_lib: Any = libcrypto.ssl(
    {
        "SSL_new": (_P, _P),
        "SSL_free": (None, _P),
        "SSL_set_bio": (None, _P, _P, _P),
        "SSL_set_connect_state": (None, _P),
        "SSL_set_accept_state": (None, _P),
        "SSL_ctrl": (_L, _P, _I, _L, _P),
        "SSL_get0_param": (_P, _P),
        "SSL_do_handshake": (_I, _P),
        "SSL_get_error": (_I, _P, _I),
        "SSL_read_ex": (_I, _P, _P, _Z, _PZ),
        "SSL_write_ex": (_I, _P, _P, _Z, _PZ),
        "SSL_shutdown": (_I, _P),
        "SSL_get_version": (_S, _P),
        "SSL_get_current_cipher": (_P, _P),
        "SSL_CIPHER_get_name": (_S, _P),
        "SSL_get1_peer_certificate": (_P, _P),
        "SSL_get_verify_result": (_L, _P),
        "SSL_get0_alpn_selected": (None, _P, ctypes.POINTER(_P), ctypes.POINTER(_U)),
        "SSL_export_keying_material": (_I, _P, _P, _Z, _S, _Z, _S, _Z, _I),
        "SSL_group_to_name": (_S, _P, _I),
    }
)
_WANT_READ, _WANT_WRITE, _CLOSED = 2, 3, 6
_SET_SERVER_NAME, _NEGOTIATED_GROUP = 55, 134
_BIO_PENDING, _BIO_SET_EMPTY_RESULT = 10, 130
_NO_PARTIAL_WILDCARDS = 0x4
_NO_CERTIFICATE: Final = "peer did not return a certificate"
CHUNK: Final = 256 * 1024
"""The most that one call takes out of OpenSSL."""


class _Scratch(threading.local):
    """A buffer for what OpenSSL hands out, one a thread: a call fills it and copies before it returns."""

    def __init__(self) -> None:
        self.buffer = ctypes.create_string_buffer(CHUNK)
        self.address = ctypes.addressof(self.buffer)


_scratch = _Scratch()


class TlsEngine:
    """A connection. `handshake` belongs in a worker thread, everything else on one thread of the owner."""

    def __init__(
        self, context: TlsContext, *, server_name: str | None = None, pinned: bytes | None = None
    ) -> None:
        """Begin a connection.

        Args:
            context: our side's settings.
            server_name: what the peer's certificate must be for; sent as SNI unless it is an IP address.
            pinned: the DER form that the peer's certificate must have.
        """
        self._context = context  # keeps the SSL_CTX's callbacks alive
        self._pinned = pinned
        self.calls = context.bridge.open()
        """The module, as this connection uses it."""
        self._work = Work(self.calls)
        self._in_step, self._given_up = threading.Lock(), threading.Event()
        self._count = _Z(0)
        self._count_at = ctypes.byref(self._count)
        self.finished, self._begun, self._fed = False, False, False
        self._ssl: int | None = _lib.SSL_new(context.ssl_ctx)
        if not self._ssl:
            raise TlsRefused(f"SSL_new: {libcrypto.drain_errors()}")
        self._read_bio = _crypto.BIO_new(_crypto.BIO_s_mem())
        self._write_bio = _crypto.BIO_new(_crypto.BIO_s_mem())
        for bio in (self._read_bio, self._write_bio):
            _crypto.BIO_ctrl(bio, _BIO_SET_EMPTY_RESULT, -1, None)  # empty means "later", not "end"
        _lib.SSL_set_bio(self._ssl, self._read_bio, self._write_bio)
        self._set_checks(server_name)
        if context.server:
            _lib.SSL_set_accept_state(self._ssl)
        else:
            _lib.SSL_set_connect_state(self._ssl)

    def _set_checks(self, server_name: str | None) -> None:
        param = _lib.SSL_get0_param(self._ssl)
        if self._context.insecure_skip_validity:
            _crypto.X509_VERIFY_PARAM_set_flags(param, native.NO_CHECK_TIME)
        elif self._context.now_utc is not None:
            _crypto.X509_VERIFY_PARAM_set_time(param, int(self._context.now_utc().timestamp()))
        if server_name is None:
            return
        name = server_name.encode("ascii")
        _crypto.ERR_clear_error()
        if _crypto.X509_VERIFY_PARAM_set1_ip_asc(param, name) == 1:
            return
        _crypto.X509_VERIFY_PARAM_set_hostflags(param, _NO_PARTIAL_WILDCARDS)
        if (
            _crypto.X509_VERIFY_PARAM_set1_host(param, name, 0) != 1
            or _lib.SSL_ctrl(self._ssl, _SET_SERVER_NAME, 0, ctypes.cast(_S(name), _P)) != 1
        ):
            raise TlsRefused(f"server name {server_name!r}: {libcrypto.drain_errors()}")

    # ---- the handshake

    @property
    def may_block(self) -> bool:
        """Whether the next handshake step may call the module and so belongs in a worker thread.

        It does not where a client says hello in TLS 1.2, with random bytes at hand, and after the client's
        signature.
        """
        if self._context.server or self.calls.hello is None:
            return True
        return not self._work.signed and (self._begun or self._context.newest is not TlsVersion.TLS12)

    @property
    def first_share(self) -> Curve | None:
        """The curve of the key pair that a client's first step makes; None where it makes none."""
        if self._context.server or self._begun or self._context.newest is TlsVersion.TLS12:
            return None
        return self._context.profile.curves[0]

    def handshake(self) -> bool:
        """Go on with what was fed; True when finished. May block, see `may_block`.

        Raises:
            CertificateRefused: the peer's certificate, with the reason.
            HsmError: what the module raised, chained to OpenSSL's view of it.
            TlsRefused: anything else, also a refusal by the peer.
        """
        with self._in_step:
            if self._ssl is None or self._given_up.is_set():
                raise TlsRefused("the connection was given up")
            if not self._begun and (self._fed or not self._context.server):  # the next step says hello
                self._work.hello = self.calls.fetch_hello()
                self._begun = True
            try:
                _crypto.ERR_clear_error()
                with performing(self._work):
                    result = _lib.SSL_do_handshake(self._ssl)
                self.calls.dismiss()  # what the first step did not want, no later one will
                if result == 1:
                    self._check_peer()
                    self.finished = True
                    self.calls.settle()
                elif self._stopped(result):
                    raise self._handshake_error()
            finally:
                if self._given_up.is_set():
                    self._free()
        return self.finished

    def _handshake_error(self) -> BaseException:
        refusal = TlsRefused(f"handshake: {libcrypto.drain_errors() or 'closed by the peer'}")
        if error := self._work.take_error():
            error.__cause__ = refusal
            return error
        verdict = _lib.SSL_get_verify_result(self._ssl)
        if verdict != 0:
            return CertificateRefused(f"peer certificate: {native.reason(verdict)}")
        if _NO_CERTIFICATE in str(refusal):
            return CertificateRefused(_NO_CERTIFICATE)
        return refusal

    def _check_peer(self) -> None:
        certificate = _lib.SSL_get1_peer_certificate(self._ssl)
        if not certificate:
            if self._pinned is not None:
                raise CertificateRefused(_NO_CERTIFICATE)
            return
        try:
            if self._pinned is not None and native.certificate_der(certificate) != self._pinned:
                raise CertificateRefused("peer certificate: not the one configured for this peer")
            check_use(certificate, "peer certificate", CertificateUse.TLS)
        finally:
            native.free_certificate(certificate)

    # ---- ciphertext

    def feed(self, data: bytes) -> None:
        """Take ciphertext from the peer."""
        self._fed = True
        if _crypto.BIO_write(self._read_bio, data, len(data)) != len(data):
            raise TlsRefused(f"no memory for records: {libcrypto.drain_errors()}")

    @property
    def pending(self) -> bool:
        """Whether there is ciphertext to send."""
        return self._ssl is not None and _crypto.BIO_ctrl(self._write_bio, _BIO_PENDING, 0, None) > 0

    def outgoing(self) -> bytes:
        """Return ciphertext to send now; empty when there is none."""
        if self._ssl is None:
            return b""
        count = _crypto.BIO_read(self._write_bio, _scratch.address, CHUNK)
        return ctypes.string_at(_scratch.address, count) if count > 0 else b""

    # ---- plaintext

    def read(self, limit: int) -> bytes | None:
        """Return up to `limit` bytes; None: more ciphertext is needed; empty: the peer has closed."""
        if self._ssl is None:
            raise TlsRefused("read: the connection is closed")
        address, got, room = _scratch.address, 0, min(limit, CHUNK)
        _crypto.ERR_clear_error()
        while got < room:
            if _lib.SSL_read_ex(self._ssl, address + got, room - got, self._count_at) == 1:
                got += self._count.value
                continue
            if got:
                break  # whatever stopped it stops the next call as well
            reason = _lib.SSL_get_error(self._ssl, 0)
            if reason == _CLOSED:
                return b""
            if reason in (_WANT_READ, _WANT_WRITE):
                return None
            raise TlsRefused(f"read: {libcrypto.drain_errors() or reason}")
        return ctypes.string_at(address, got)

    def write(self, data: bytes) -> None:
        """Turn `data` into records; the write BIO grows, so this never waits."""
        if self._ssl is None:
            raise TlsRefused("write: the connection is closed")
        if not data:
            return
        _crypto.ERR_clear_error()
        if _lib.SSL_write_ex(self._ssl, data, len(data), self._count_at) != 1:
            raise TlsRefused(f"write: {libcrypto.drain_errors() or 'not now'}")

    def shutdown(self) -> None:
        """Put a close_notify into `outgoing`."""
        if self._ssl is not None and self.finished:
            _crypto.ERR_clear_error()
            _lib.SSL_shutdown(self._ssl)
            libcrypto.drain_errors()

    # ---- the end

    def close(self) -> None:
        """Give everything back; a handshake step still running does so when it ends."""
        self._given_up.set()
        if self._in_step.acquire(blocking=False):
            try:
                self._free()
            finally:
                self._in_step.release()

    def abort(self) -> None:
        """Give up: end the module call of a running step, then `close`. On the event loop only."""
        self.calls.abort()
        self.close()

    def _free(self) -> None:
        ssl, self._ssl = self._ssl, None
        self.calls.dismiss()
        if ssl:
            _lib.SSL_free(ssl)  # frees both BIOs and, through the provider, unused ephemeral keys

    def __del__(self) -> None:
        if getattr(self, "_ssl", None):
            self._free()

    def _stopped(self, result: int) -> bool:
        return _lib.SSL_get_error(self._ssl, result) not in (_WANT_READ, _WANT_WRITE)

    # ---- facts about the connection

    def _open(self) -> int:
        if self._ssl is None:
            raise TlsRefused("the connection is closed")
        return self._ssl

    @property
    def version(self) -> str:
        """E.g. "TLSv1.2"."""
        return str(_lib.SSL_get_version(self._open()).decode())

    @property
    def cipher(self) -> str:
        """OpenSSL's name of the suite."""
        return str(_lib.SSL_CIPHER_get_name(_lib.SSL_get_current_cipher(self._open())).decode())

    @property
    def group(self) -> str:
        """Name of the negotiated group."""
        number = _lib.SSL_ctrl(self._open(), _NEGOTIATED_GROUP, 0, None)
        name = _lib.SSL_group_to_name(self._open(), number)
        return str(name.decode()) if name else ""

    @property
    def alpn(self) -> str | None:
        """The application protocol, if one was negotiated."""
        name, length = _P(), _U()
        _lib.SSL_get0_alpn_selected(self._open(), ctypes.byref(name), ctypes.byref(length))
        return ctypes.string_at(name, length.value).decode("ascii", "replace") if length.value else None

    @property
    def peer_der(self) -> bytes | None:
        """The peer's own certificate; None if it showed none."""
        certificate = _lib.SSL_get1_peer_certificate(self._open())
        if not certificate:
            return None
        try:
            return native.certificate_der(certificate)
        finally:
            native.free_certificate(certificate)

    def export(self, label: bytes, length: int, context: bytes | None = None) -> bytes:
        """Keying material for another protocol (RFC 5705, RFC 8446 7.5)."""
        out = ctypes.create_string_buffer(length)
        given = context or b""
        result = _lib.SSL_export_keying_material(
            self._open(), out, length, label, len(label), given, len(given), int(context is not None)
        )
        if result != 1:
            raise TlsRefused(f"exporter: {libcrypto.drain_errors()}")
        return out.raw
