#!/usr/bin/python3
# SPDX-License-Identifier: ISC
# Sockets of the host as the program sees them: net_guest.py talks to servers here, natively (to
# check the checks) and on both monitors.
import os, shutil, socket, struct, subprocess, sys, threading, time

TOP = os.path.dirname(os.path.abspath(__file__)) + '/../..'
COWBELL = os.environ.get('COWBELL', TOP + '/build/release/cowbell')
state = {'named': 0, 'reset': b'', 'last': 0}


def own_network():
    """Run this test again in a network namespace of its own, whose host has the address that is returned."""
    address = '203.0.113.1'
    if os.environ.get('COWBELL_OWN_NETWORK'):
        return address
    if os.geteuid() or not shutil.which('ip') or subprocess.run(['unshare', '-n', 'true'], stderr=subprocess.DEVNULL).returncode:
        return None
    os.environ['COWBELL_OWN_NETWORK'] = '1'
    script = 'ip link set lo up && ip addr add %s/32 dev lo && exec "$@"' % address
    os.execvp('unshare', ['unshare', '-n', 'sh', '-c', script, 'sh', sys.executable, os.path.abspath(__file__)])


def read_all(c):
    out = []
    while True:
        b = c.recv(65536)
        if not b:
            return b''.join(out)
        out.append(b)


def serve(c):
    what = c.recv(1)
    if what == b'E':
        while True:
            b = c.recv(65536)
            if not b:
                break
            c.sendall(b)
    elif what == b'S':
        n = 0
        time.sleep(0.2)
        while True:
            b = c.recv(100000)
            if not b:
                break
            n += sum(b)
            time.sleep(0.001)
        c.sendall(b'%016d' % n)
    elif what == b'D':
        for _ in range(100):
            c.sendall(b'0123456789')
            time.sleep(0.001)
    elif what == b'H':
        c.sendall(read_all(c)[::-1])
    elif what == b'R':
        c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    elif what == b'W':
        c.recv(1)
    elif what == b'N':
        state['named'] = len(read_all(c))
    elif what == b'Q':
        c.sendall(b'%d' % state['named'])
    elif what == b'L':
        try:
            c.recv(1)
        except ConnectionResetError:
            state['reset'] = b'reset'
    elif what == b'l':
        c.sendall(state['reset'])
    elif what == b'T':
        c.recv(1)
        t = time.monotonic()
        c.recv(1)
        c.sendall(b'%f\n' % (time.monotonic() - t))
    elif what == b'X':
        time.sleep(0.2)
        state['last'] = len(read_all(c))


def one(c):
    with c:
        try:
            serve(c)
        except OSError:
            pass


def tcp(ls):
    while True:
        c, _ = ls.accept()
        threading.Thread(target=one, args=(c,), daemon=True).start()


def udp(s):
    while True:
        b, a = s.recvfrom(65536)
        s.sendto(b, a)


count = failed = 0


def ok(name, good):
    global count, failed
    count += 1
    failed += not good
    print('%sok %d - %s' % ('' if good else 'not ', count, name), flush=True)


host = own_network()
if not host:
    print('1..0 # SKIP a network namespace of its own needs root and iproute2')
    sys.exit(0)
ls = socket.create_server((host, 0), backlog=300)
us = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
us.bind(ls.getsockname())
threading.Thread(target=tcp, args=(ls,), daemon=True).start()
threading.Thread(target=udp, args=(us,), daemon=True).start()

prog = ['python3', os.path.dirname(os.path.abspath(__file__)) + '/net_guest.py', host, str(ls.getsockname()[1])]
for name in ['native'] + os.environ.get('COWBELL_MONITORS', 'process,kvm').split(','):
    if name == 'kvm' and not os.access('/dev/kvm', os.W_OK):
        print('# no /dev/kvm: kvm is not tested')
        continue
    run = [] if name == 'native' else [COWBELL, 'run', '--monitor', name, '--egress', 'all', '--']
    state.update(named=0, reset=b'', last=0)
    try:
        p = subprocess.run(run + prog, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=90)
        out, rc = p.stdout, p.returncode
    except subprocess.TimeoutExpired as e:
        out, rc = e.stdout or b'', 'timeout'
    lines = out.decode(errors='replace').splitlines()
    for l in lines:
        ok('%s: %s' % (name, l.split('ok ', 1)[-1]), l.startswith('ok '))
    ok('%s: all 22 checks ran' % name, len(lines) == 22)
    ok('%s: exit status' % name, rc == 0)
    for _ in range(50):
        if state['last']:
            break
        time.sleep(0.1)
    ok('%s: what was written before the end arrived' % name, state['last'] == 2 << 20)


# A forwarded UDP port: clients are answered, even with no egress and from the host's loopback.
UDP = '''
import socket
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
u.bind(('0.0.0.0', 8080))
print('up', flush=True)
while True:
    b, a = u.recvfrom(2000)
    u.sendto(b.upper(), a)
'''
for name in os.environ.get('COWBELL_MONITORS', 'process,kvm').split(','):
    if name == 'kvm' and not os.access('/dev/kvm', os.W_OK):
        continue
    t = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    t.bind(('127.0.0.1', 0))
    port = t.getsockname()[1]
    t.close()
    p = subprocess.Popen([COWBELL, 'run', '--monitor', name, '--egress', 'none', '--timeout', '60s', '-p',
                          '127.0.0.1:%d:8080' % port, '--', 'python3', '-c', UDP],
                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    p.stdout.readline()
    c = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    c.settimeout(10)
    try:
        c.sendto(b'answer', ('127.0.0.1', port))
        ok('%s: UDP port forwarded' % name, c.recv(100) == b'ANSWER')
    except OSError as e:
        ok('%s: UDP port forwarded: %s' % (name, e), False)
    p.terminate()
    p.wait()
print('1..%d' % count)
sys.exit(failed != 0)
