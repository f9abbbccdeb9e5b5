"""The other end of the TLS benchmark: a server on Python's own `ssl`, in a process of its own.

    python -m tools.bench.tls_peer FOLDER CURVE TLS12|TLS13

FOLDER holds chain.pem, key.pem and root.pem. Prints its port. Each connection may send requests of nine
bytes: U or D and a length; U: that many bytes follow and one byte is the answer, D: that many are sent.
"""

from __future__ import annotations

import socket
import ssl
import struct
import sys
import threading
from pathlib import Path

REQUEST = struct.Struct(">cQ")
_CHUNK = bytes(128 * 1024)


def _serve(raw: socket.socket, context: ssl.SSLContext) -> None:
    try:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with context.wrap_socket(raw, server_side=True) as connection:
            buffer = bytearray(len(_CHUNK))
            while head := connection.recv(REQUEST.size):
                kind, count = REQUEST.unpack(head)
                while kind == b"U" and count:
                    count -= connection.recv_into(buffer, min(count, len(buffer)))
                while kind == b"D" and count:
                    connection.sendall(_CHUNK[:count])
                    count -= min(count, len(_CHUNK))
                if kind == b"U":
                    connection.sendall(b"k")
    except OSError:
        raw.close()


def main() -> None:
    """Serve until standard input ends."""
    folder, curve = Path(sys.argv[1]), sys.argv[2]
    version = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}[sys.argv[3]]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "chain.pem", folder / "key.pem")
    context.load_verify_locations(folder / "root.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_ecdh_curve(curve)
    context.maximum_version = version
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)

    def accept() -> None:
        while True:
            raw, _ = listener.accept()
            threading.Thread(target=_serve, args=(raw, context), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    sys.stdin.read()


if __name__ == "__main__":
    main()
