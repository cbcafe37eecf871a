"""A page and a health check, by Python's own web server."""
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TEXT = "@TEXT@\n"


class App(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = {"/": TEXT, "/health": "ok\n"}.get(self.path)
        self.send_response(200 if body else 404)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body or "")))
        self.end_headers()
        self.wfile.write((body or "").encode())

    def log_message(self, *args):
        pass


ThreadingHTTPServer(("0.0.0.0", int(os.environ["PORT"])), App).serve_forever()
