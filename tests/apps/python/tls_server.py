# SPDX-License-Identifier: ISC
"""HTTPS server on 8443; argv: certificate, key."""
import http.server
import ssl
import sys


class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello over tls")


s = http.server.HTTPServer(("", 8443), H)
c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
c.load_cert_chain(sys.argv[1], sys.argv[2])
s.socket = c.wrap_socket(s.socket, server_side=True)
s.serve_forever()
