#!/usr/bin/python3
# SPDX-License-Identifier: ISC
"""A receiver of log drains for plogs.t: drain_receiver.py MODE PORT OUT [CERT KEY].

MODE syslog: octet-counted frames (RFC 6587); a frame a line of OUT. MODE http: POSTs; each is one line of JSON in OUT, answered 204, but the first one
503, to see it come again. With CERT and KEY: by TLS. What is malformed ends the receiver with a line "MALFORMED ...". The port is written to OUT first.
"""
import json
import socket
import ssl
import sys
import threading

mode, port, out = sys.argv[1], int(sys.argv[2]), open(sys.argv[3], "a", buffering=1)
listener = socket.create_server(("127.0.0.1", port), reuse_port=True)
context = None
if len(sys.argv) > 4:
	context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
	context.load_cert_chain(sys.argv[4], sys.argv[5])
print("PORT", listener.getsockname()[1], file=out)
posts = 0


def frames(data):
	"""Whole frames of data, and what is left of it."""
	got = []
	while b" " in data:
		length, rest = data.split(b" ", 1)
		if not length.isdigit() or length.startswith(b"0"):
			print("MALFORMED", data[:80], file=out)
			raise SystemExit(1)
		if len(rest) < int(length):
			break
		got.append(rest[: int(length)])
		data = rest[int(length):]
	return got, data


def syslog(c):
	data = b""
	while piece := c.recv(65536):
		got, data = frames(data + piece)
		for f in got:
			out.write(f.decode("utf-8") + "\n")


def http(c):
	global posts
	f = c.makefile("rb")
	while line := f.readline():
		method, path, _ = line.decode().split(" ", 2)
		headers = {}
		while (h := f.readline()) not in (b"\r\n", b""):
			k, v = h.decode().split(":", 1)
			headers[k.lower()] = v.strip()
		body = f.read(int(headers["content-length"]))
		posts += 1
		got, rest = frames(body)
		out.write(json.dumps({"method": method, "path": path, "headers": headers, "frames": [g.decode() for g in got], "rest": rest.decode(), "answer": 503 if posts == 1 else 204}) + "\n")
		c.sendall(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n" if posts == 1 else b"HTTP/1.1 204 No Content\r\n\r\n")


def serve(c):
	try:
		with (context.wrap_socket(c, server_side=True) if context else c) as s:
			{"syslog": syslog, "http": http}[mode](s)
	except (OSError, ssl.SSLError) as e:
		print("GONE", type(e).__name__, file=out)


while True:
	threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
