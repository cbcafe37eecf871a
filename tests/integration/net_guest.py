# SPDX-License-Identifier: ISC
# Runs as the program: talks to the servers of net.t at argv[1] and to itself. Prints one line per check.
import errno, os, select, socket, struct, sys, threading, time

HOST, PORT = sys.argv[1], int(sys.argv[2])


def ok(name, good):
    print(('ok ' if good else 'not ok ') + name, flush=True)


def check(f):
    try:
        ok(f.__name__, f() is not False)
    except Exception as e:
        ok('%s: %r' % (f.__name__, e), False)


def dial(service):
    s = socket.create_connection((HOST, PORT), timeout=10)
    s.sendall(service)
    return s


def read_all(s):
    out = []
    while True:
        b = s.recv(65536)
        if not b:
            return b''.join(out)
        out.append(b)


def pattern(n, seed=1):
    return bytes((i * 7 + i // 251 + seed) & 255 for i in range(4096)) * (n // 4096)


def echo_large():
    s = dial(b'E')
    data = pattern(4 << 20)
    t = threading.Thread(target=lambda: (s.sendall(data), s.shutdown(socket.SHUT_WR)))
    t.start()
    got = read_all(s)
    t.join()
    return got == data


def sink_slow():
    # The peer reads slowly: writes must block and nothing may be lost.
    s = dial(b'S')
    data = pattern(3 << 20)
    s.sendall(data)
    s.shutdown(socket.SHUT_WR)
    return s.recv(16) == b'%016d' % sum(data)


def nonblocking_write():
    s = dial(b'S')
    s.setblocking(False)
    data = pattern(4 << 20)
    view, waits = memoryview(data), 0
    while view:
        try:
            view = view[s.send(view):]
        except BlockingIOError:
            waits += 1
            if not select.select([], [s], [], 10)[1]:
                return False
    s.setblocking(True)
    s.shutdown(socket.SHUT_WR)
    return s.recv(16) == b'%016d' % sum(data) and waits > 0


def waitall_and_peek():
    s = dial(b'D')  # dribbles 1000 bytes
    s.settimeout(None)
    a = s.recv(4, socket.MSG_PEEK)
    b = s.recv(1000, socket.MSG_WAITALL)
    return len(b) == 1000 and b.startswith(a) and s.recv(1) == b''


def half_close():
    s = dial(b'H')  # answers after the end of what we send
    s.sendall(b'question')
    s.shutdown(socket.SHUT_WR)
    try:
        s.send(b'x')
        return False
    except BrokenPipeError:
        pass
    return read_all(s) == b'noitseuq'


def reset():
    s = dial(b'R')
    try:
        while s.recv(100):
            pass
        return False
    except ConnectionResetError:
        return True


def poll_rdhup():
    s = dial(b'C')  # closes at once
    p = select.poll()
    p.register(s, select.POLLIN | select.POLLRDHUP)
    ev = p.poll(5000)
    return len(ev) == 1 and ev[0][1] & select.POLLRDHUP and s.recv(1) == b''


def refused_blocking():
    s = socket.socket()
    return s.connect_ex((HOST, 9)) == errno.ECONNREFUSED


def refused_nonblocking():
    s = socket.socket()
    s.setblocking(False)
    r = s.connect_ex((HOST, 9))
    if r == errno.EINPROGRESS:
        _, w, _ = select.select([], [s], [], 10)
        r = s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if w else 0
    return r == errno.ECONNREFUSED and s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0


def connect_states():
    s = socket.socket()
    s.setblocking(False)
    r = s.connect_ex((HOST, PORT))
    p = select.epoll()
    p.register(s, select.EPOLLOUT | select.EPOLLET)
    good = r == errno.EINPROGRESS and p.poll(10)[0][1] & select.EPOLLOUT
    return good and s.getpeername() == (HOST, PORT) and s.connect_ex((HOST, PORT)) in (0, errno.EISCONN)


def receive_timeout():
    s = dial(b'W')  # says nothing
    s.settimeout(None)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack('ll', 0, 100000))
    t = time.monotonic()
    try:
        s.recv(1)
        return False
    except BlockingIOError:
        return 0.08 < time.monotonic() - t < 2


def many_connections():
    socks = [dial(b'E') for _ in range(200)]
    for i, s in enumerate(socks):
        s.sendall(b'%05d' % i)
    good = all(s.recv(5, socket.MSG_WAITALL) == b'%05d' % i for i, s in enumerate(socks))
    for s in socks:
        s.close()
    return good


def close_delivers():
    s = dial(b'N')  # names us by a number: what we send is added to its log
    s.sendall(pattern(1 << 20))
    s.close()
    for _ in range(50):
        q = dial(b'Q')
        n = int(read_all(q))
        if n >= 1 << 20:
            return n == 1 << 20
        time.sleep(0.1)
    return False


def linger_zero_resets():
    s = dial(b'L')
    time.sleep(0.1)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    s.close()
    for _ in range(50):
        if read_all(dial(b'l')) == b'reset':
            return True
        time.sleep(0.1)
    return False


def options():
    s = dial(b'E')
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
    s.sendall(b'x')
    return s.recv(1) == b'x' and s.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


def udp_echo():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(5)
    s.sendto(b'hello', (HOST, PORT))
    b, a = s.recvfrom(100)
    return b == b'hello' and a == (HOST, PORT)


def udp_connected():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(5)
    s.connect((HOST, PORT))
    for i in range(100):
        s.send(b'%d' % i)
        if s.recv(10) != b'%d' % i:
            return False
    s.send(bytes(40000))
    return len(s.recv(65536)) == 40000


def udp_refused():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(5)
    s.connect((HOST, 9))
    s.send(b'x')
    try:
        s.recv(10)
        return False
    except ConnectionRefusedError:
        return True


def threads_blocking():
    res = []

    def one(i):
        s = dial(b'E')
        for k in range(20):
            s.sendall(b'%d.%d' % (i, k))
            if s.recv(100) != b'%d.%d' % (i, k):
                return
        res.append(i)
    ts = [threading.Thread(target=one, args=(i,)) for i in range(16)]
    [t.start() for t in ts]
    [t.join() for t in ts]
    return len(res) == 16


def loopback_server():
    ls = socket.create_server(('127.0.0.1', 0))
    data = pattern(2 << 20)

    def serve():
        c, _ = ls.accept()
        c.sendall(read_all(c)[::-1])
        c.close()
    t = threading.Thread(target=serve)
    t.start()
    s = socket.create_connection(ls.getsockname())
    s.sendall(data)
    s.shutdown(socket.SHUT_WR)
    got = read_all(s)
    t.join()
    return got == data[::-1]


def spin_receive():
    # Nobody sleeps: the answer must come in all the same.
    s = dial(b'E')
    s.setblocking(False)
    s.send(b'spin')
    end = time.monotonic() + 5
    while time.monotonic() < end:
        try:
            return s.recv(10) == b'spin'
        except BlockingIOError:
            pass
    return False


def compute_after_send():
    # A reply must leave although the program goes on computing.
    q = dial(b'T')  # the peer notes when a byte comes
    q.send(b'x')
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        pass
    q.send(b'y')
    return float(q.makefile().readline()) > 0.3


for f in (echo_large, sink_slow, nonblocking_write, waitall_and_peek, half_close, reset, poll_rdhup,
          refused_blocking, refused_nonblocking, connect_states, receive_timeout, many_connections,
          close_delivers, linger_zero_resets, options, udp_echo, udp_connected, udp_refused,
          threads_blocking, loopback_server, spin_receive, compute_after_send):
    check(f)

# What was written must get out although the program ends at once.
s = dial(b'X')
s.sendall(pattern(2 << 20))
os._exit(0)
