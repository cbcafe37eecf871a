"""A runtime without an app: what http_app.py imports, waiting. A listener makes it ready for a snapshot."""
import http.server
import socket
import sys

http.server.ThreadingHTTPServer
s = socket.create_server(("0.0.0.0", int(sys.argv[1]) if len(sys.argv) > 1 else 8000))
s.accept()
