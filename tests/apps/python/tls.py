# SPDX-License-Identifier: ISC
"""A TLS server and a TLS client in one program over the guest's own loopback; argv: certificate, key."""
import socket
import ssl
import sys
import threading

ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
ctx.load_cert_chain(sys.argv[1], sys.argv[2])
srv = socket.create_server(("127.0.0.1", 0))


def serve():
    conn, _ = srv.accept()
    with ctx.wrap_socket(conn, server_side=True) as s:
        s.sendall(s.recv(100).upper())


threading.Thread(target=serve, daemon=True).start()
client = ssl.create_default_context(cafile=sys.argv[1])
with client.wrap_socket(socket.create_connection(srv.getsockname()), server_hostname="localhost") as c:
    c.sendall(b"secret words")
    print(c.recv(100).decode(), c.version())
