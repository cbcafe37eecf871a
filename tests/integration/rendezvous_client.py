# SPDX-License-Identifier: ISC
# An attached run's client, as the heroku command is one: rendezvous_client.py URL CA [INPUT|-] < more
# Prints what comes after the first piece; status 0 when the server closed well.
import socket, ssl, sys, time
from urllib.parse import urlparse

url, ca = urlparse(sys.argv[1]), sys.argv[2]
text = sys.argv[3].encode().decode('unicode_escape').encode('latin-1') if len(sys.argv) > 3 else b''
ctx = ssl.create_default_context(cafile=ca)
s = ctx.wrap_socket(socket.create_connection((url.hostname, url.port), 10), server_hostname=url.hostname)
s.settimeout(20)
s.sendall((url.path[1:] + '\r\n').encode())
first = s.recv(65536)
if first != b'rendezvous\r\n':
    print('no rendezvous: %r' % first)
    sys.exit(2)
if text == b'VANISH':
    s.close()
    sys.exit(0)
for piece in text.split(b'|'):
    if piece:
        s.sendall(piece)
        time.sleep(0.05)
out = b''
while True:
    try:
        b = s.recv(65536)
    except ssl.SSLEOFError:
        break
    if not b:
        break
    out += b
sys.stdout.buffer.write(out)
