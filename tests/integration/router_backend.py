#!/usr/bin/python3
# SPDX-License-Identifier: ISC
"""An instance for tests of the router: HTTP/1.1 on an AF_UNIX socket, badly behaved on demand.

    router_backend.py SOCKET LOG

Every byte that comes is written to LOG.raw, every request's first line and body length to LOG. What it does is chosen by the path:
    /head        the head as it came            /echo      the body, with its length
    /chunked     an answer in chunks            /bytes/N   N bytes          /slow/S    answers after S seconds
    /drip/N/S    N chunks, S seconds apart      /status/N  that status      /raw/HEX   those bytes, then it closes
    /rawkeep/HEX the same, and the connection stays
    /close       closes without a byte          /expect    417 before the body comes      /continue  100, then the body
    /ws          switches to an echo of bytes   /nows      200 to an Upgrade /idleclose   a good answer; the connection closes after 50 ms
    /unread      answers at once, reads nothing of the body
"""
import os
import resource
import socket
import sys
import threading
import time

path, log = sys.argv[1], sys.argv[2]
lock = threading.Lock()


def note(text):
    with lock, open(log, "a") as f:
        f.write(text + "\n")


class Conn:
    def __init__(self, s):
        self.s = s
        self.buf = b""

    def more(self):
        d = self.s.recv(65536)
        if not d:
            raise EOFError
        with lock, open(log + ".raw", "ab") as f:
            f.write(d[:65536])
        self.buf += d

    def line(self):
        while b"\r\n" not in self.buf:
            self.more()
        l, self.buf = self.buf.split(b"\r\n", 1)
        return l

    def exactly(self, n):
        while len(self.buf) < n:
            self.more()
        d, self.buf = self.buf[:n], self.buf[n:]
        return d

    def body(self, h):
        if h.get("transfer-encoding") == "chunked":
            out = b""
            while True:
                n = int(self.line(), 16)
                out += self.exactly(n)
                self.line()
                if not n:
                    return out
        return self.exactly(int(h.get("content-length", 0)))

    def answer(self, status, body, extra=""):
        self.s.sendall(f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n{extra}\r\n".encode() + body)

    def one(self):
        first = self.line()
        lines = []
        while True:
            l = self.line()
            if not l:
                break
            lines.append(l)
        h = {l.split(b":", 1)[0].decode("latin1").lower(): l.split(b":", 1)[1].strip().decode("latin1") for l in lines}
        method, target, _ = first.decode("latin1").split(" ")
        p = target.split("?")[0].split("/")
        what = p[1]
        if what == "unread":
            note(f"{first.decode('latin1')} unread")
            self.answer(413, b"too big\n")
            time.sleep(0.2)
            return False
        if what == "expect":
            note(f"{first.decode('latin1')} expect={h.get('expect')}")
            self.answer(417, b"no\n")
            return True
        if what == "continue":
            self.s.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        if what == "close":
            note(first.decode("latin1"))
            return False
        body = self.body(h)
        note(f"{first.decode('latin1')} {len(body)}")
        if what == "head":
            self.answer(200, first + b"\n" + b"\n".join(lines) + b"\n", "X-Conn: %d\r\n" % self.s.fileno())
        elif what in ("echo", "continue"):
            self.answer(200, body)
        elif what == "chunked":
            self.s.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n7\r\n, world\r\n0\r\n\r\n")
        elif what == "bytes":
            n = int(p[2])
            self.s.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % n)
            if method != "HEAD":
                while n:
                    k = min(n, 1 << 20)
                    self.s.sendall(b"x" * k)
                    n -= k
        elif what == "slow":
            time.sleep(float(p[2]))
            self.answer(200, b"slow\n")
        elif what == "drip":
            self.s.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for i in range(int(p[2])):
                self.s.sendall(b"2\r\n%d\n\r\n" % (i % 10))
                time.sleep(float(p[3]))
            self.s.sendall(b"0\r\n\r\n")
        elif what == "status":
            self.answer(int(p[2]), b"" if p[2] in ("204", "304") else b"status\n")
        elif what in ("raw", "rawkeep"):
            self.s.sendall(bytes.fromhex(p[2]))
            return what == "rawkeep"
        elif what == "ws":
            self.s.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + h.get("upgrade", "").encode() + b"\r\n\r\nhi\n")
            while True:
                self.s.sendall(self.buf)
                self.buf = b""
                self.more()
        elif what == "idleclose":
            self.answer(200, b"ok\n")
            time.sleep(0.05)
            return False
        else:
            self.answer(200, b"ok\n")
        return True


def serve(s):
    c = Conn(s)
    try:
        while c.one():
            pass
    except (EOFError, OSError, ValueError):
        pass
    s.close()


try:
    os.unlink(path)
except FileNotFoundError:
    pass
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen(512)
print("ready", flush=True)
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
while True:
    try:
        conn, _ = listener.accept()
        threading.Thread(target=serve, args=(conn,), daemon=True).start()
    except (OSError, RuntimeError):  # too many at one time
        time.sleep(0.01)
