"""A runtime without an app: what a web app imports, waiting on a port (8001) for the text of one, which it then runs."""
import http.server  # noqa: F401
import socket
import sys

with socket.create_server(("0.0.0.0", int(sys.argv[1]) if len(sys.argv) > 1 else 8001)) as s:
    conn = s.accept()[0]
with conn:
    text = b"".join(iter(lambda: conn.recv(65536), b""))
sys.argv = ["app"]
exec(compile(text, "app.py", "exec"), {"__name__": "__main__"})
