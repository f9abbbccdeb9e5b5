"""TLS on the distribution's libssl, its keys, long-lived and ephemeral, in the security module.

profile    what may be negotiated             context    one side's settings (SSL_CTX)
engine     a connection, without I/O          session    a connection on a socket: TlsStream
client     connect                            server     serve
transport  an asyncio Transport on a stream   driver     from worker threads to the module on the loop
provider   the OpenSSL provider, made of params, dispatch, keys, keymgmt, keyexch, signature
"""

from __future__ import annotations

from hsm.errors import CertificateRefused, SessionExpired, TlsRefused
from hsm.tls.client import connect
from hsm.tls.context import PeerCertificate, TlsContext
from hsm.tls.engine import TlsEngine
from hsm.tls.profile import HAN, LMN, WAN, Suite12, Suite13, TlsProfile, TlsVersion
from hsm.tls.server import TlsServer, serve
from hsm.tls.session import TlsStream
from hsm.tls.transport import TlsTransport, run_protocol

__all__ = [
    "HAN",
    "LMN",
    "WAN",
    "CertificateRefused",
    "PeerCertificate",
    "SessionExpired",
    "Suite12",
    "Suite13",
    "TlsContext",
    "TlsEngine",
    "TlsProfile",
    "TlsRefused",
    "TlsServer",
    "TlsStream",
    "TlsTransport",
    "TlsVersion",
    "connect",
    "run_protocol",
    "serve",
]
