"""A server of few lines over sockets, its pages in a module and a file."""
import os
import socket

from pages import page

server = socket.create_server(("0.0.0.0", int(os.environ["PORT"])), backlog=64)
while True:
    peer, _ = server.accept()
    with peer:
        head = b""
        while b"\r\n\r\n" not in head:
            part = peer.recv(4096)
            if not part:
                break
            head += part
        words = head.split(b" ", 2)
        if len(words) < 3:
            continue
        status, body = page(words[1].decode("latin-1"))
        peer.sendall(b"HTTP/1.1 %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (status, len(body), body))
