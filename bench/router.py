#!/usr/bin/python3
# SPDX-License-Identifier: ISC
"""`make bench-router`: the platform's router beside Debian's HAProxy and nginx, in one run: the same backend, the same client, the same work.

The backend is an nginx on an AF_UNIX socket that answers 13 bytes from memory. An app is pushed to a real platform (`cowbell serve`) and woken;
then that backend's socket is put in the place of its instance's, so that the whole router is measured (scheduler, lines of logs, counters)
and not the app. HAProxy and nginx have one thread each, as the router has, connections to the backend kept open, and set the same headers
(X-Forwarded-For, -Proto, -Port, X-Request-Id, X-Request-Start, Via). They write no log; the router does.

The client is wrk with one thread. Rounds of all systems in turn, in shuffled order; medians of requests a second, of the 50th and 99th percentile,
and of the processor time that the proxy took for a request, which is the figure that other work on the machine disturbs least.

    bench/router.py [--rounds N] [--seconds S] [--connections 1,32,256]

Results: a Markdown table on standard output; with it the raw values in build/bench/router.{md,json}. This is no test: nothing passes or fails.
"""
import argparse
import io
import json
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.request

sys.dont_write_bytecode = True
from common import BIN, COWBELL, Failed, build, free_ports  # noqa: E402

HOST = "bench.localhost"
BACKEND = """daemon off; master_process off; error_log /dev/null; pid {d}/b.pid; worker_processes 1;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 3600; {tmp}
  server {{ listen unix:{d}/backend.sock; location / {{ return 200 "hello, world\\n"; }} }} }}
"""
NGINX = """daemon off; master_process off; error_log /dev/null; pid {d}/n.pid; worker_processes 1;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 1000000000; {tmp}
  upstream u {{ server unix:{d}/backend.sock; keepalive 256; keepalive_requests 1000000000; }}
  server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ proxy_pass http://u; proxy_http_version 1.1;
    proxy_set_header Connection ""; proxy_set_header Host $host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Forwarded-Port $server_port; proxy_set_header X-Request-Id $request_id;
    proxy_set_header X-Request-Start $msec; proxy_set_header Via "1.1 nginx"; add_header Via "1.1 nginx"; }} }} }}
"""
HAPROXY = """global
    nbthread 1
    maxconn 4000
defaults
    mode http
    timeout connect 5s
    timeout client 55s
    timeout server 55s
frontend f
    bind 127.0.0.1:{port} backlog 4096
    default_backend b
backend b
    http-reuse always
    option forwardfor
    http-request set-header X-Forwarded-Proto http
    http-request set-header X-Forwarded-Port %[dst_port]
    http-request set-header X-Request-Id %[uuid()]
    http-request set-header X-Request-Start %[date()]
    http-request add-header Via "1.1 haproxy"
    http-response add-header Via "1.1 haproxy"
    server s unix@{d}/backend.sock
"""
TEMP = "".join(f"{k}_temp_path {{d}}/{k}; " for k in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))


class Stage:
    """All that runs; ended in the reverse order."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="cowbell-bench-", dir=os.environ.get("TMPDIR", "/var/tmp"))
        self.running = []
        self.ports = dict(zip(("cowbell", "haproxy", "nginx"), free_ports(3)))

    def write(self, name, text):
        path = os.path.join(self.dir, name)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text.format(d=self.dir, tmp=TEMP.format(d=self.dir), port=self.ports.get(name)))
        return path

    def start(self, argv, **kw):
        p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=open(os.path.join(self.dir, "log"), "ab"), **kw)
        self.running.append(p)
        return p

    def end(self):
        for p in reversed(self.running):
            p.send_signal(signal.SIGTERM)
        for p in reversed(self.running):
            try:
                p.wait(20)
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait()
        shutil.rmtree(self.dir, ignore_errors=True)


def wait(what, check, seconds=30):
    end = time.time() + seconds
    while time.time() < end:
        try:
            r = check()
            if r:
                return r
        except OSError:
            pass
        time.sleep(0.05)
    raise Failed(f"{what}: not within {seconds} s")


def fetch(port, host=HOST, path="/"):
    req = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Host": host})
    with urllib.request.urlopen(req, timeout=20) as r:
        return r.read()


def api(stage, method, path, body=None, kind="application/json"):
    data_dir = os.path.join(stage.dir, "data")
    with open(os.path.join(data_dir, "admin-token"), encoding="utf-8") as f:
        token = f.read().strip()
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/vnd.heroku+json; version=3", "Content-Type": kind}
    req = urllib.request.Request(f"http://127.0.0.1:{stage.ports['cowbell']}{path}", method=method, data=body, headers=headers)
    with urllib.request.urlopen(req, timeout=60) as r:
        return json.loads(r.read() or b"null")


def hello_app():
    """A tar of the C hello server, whose Procfile gives it the port."""
    build()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as t:
        t.add(os.path.join(BIN, "hello_server"), "hello_server")
        for name, text in (("Procfile", b"web: ./hello_server $PORT\n"),):
            i = tarfile.TarInfo(name)
            i.size = len(text)
            t.addfile(i, io.BytesIO(text))
    return out.getvalue()


def start_cowbell(stage):
    """A platform with one app that is awake, whose instance is the common backend."""
    data = os.path.join(stage.dir, "data")
    p = stage.start([COWBELL, "serve", "--data", data, "--listen", f"127.0.0.1:{stage.ports['cowbell']}", "--idle", "1h"])
    wait("cowbell serve", lambda: os.path.exists(os.path.join(data, "admin-token")) and api(stage, "GET", "/apps") == [])
    api(stage, "POST", "/apps", json.dumps({"name": "bench"}).encode())
    api(stage, "POST", "/apps/bench/builds", hello_app(), "application/gzip")
    wait("a release", lambda: [r for r in api(stage, "GET", "/apps/bench/releases") if r.get("slug")], 120)
    wait("the app", lambda: fetch(stage.ports["cowbell"]))
    run = os.path.join(data, "run")
    socks = [f for f in os.listdir(run) if f.endswith(".s")]
    if not socks:
        raise Failed("no socket of an instance in data/run")
    for s in socks:
        os.rename(os.path.join(run, s), os.path.join(run, s + "-own"))
        os.symlink(os.path.join(stage.dir, "backend.sock"), os.path.join(run, s))
    time.sleep(5)  # connections to the instance itself grow old and go
    if fetch(stage.ports["cowbell"]) != b"hello, world\n":
        raise Failed("the backend is not in place")
    return p


def cpu_seconds(pid):
    """Of all threads of a process and of its children."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/schedstat", encoding="ascii") as f:
            total += int(f.read().split()[0])
    return total / 1e9


def measure(port, pid, connections, seconds):
    before = cpu_seconds(pid)
    out = subprocess.run(["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-H", f"Host: {HOST}", f"http://127.0.0.1:{port}/"],
                         capture_output=True, text=True, check=True).stdout
    after = cpu_seconds(pid)
    if "Non-2xx" in out or "Socket errors" in out:
        raise Failed(out)
    ms = {"us": 1e-3, "ms": 1, "s": 1e3}

    def percentile(p):
        v, unit = re.search(rf"^\s+{p}%\s+([\d.]+)(us|ms|s)$", out, re.M).groups()
        return float(v) * ms[unit]

    n = int(re.search(r"(\d+) requests in", out)[1])
    return {"rate": float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1]), "p50": percentile(50), "p99": percentile(99), "cpu_us": (after - before) / n * 1e6}


def table(values, connections):
    lines = ["| connections | router | requests/s | of the better rival | p50 | p99 | CPU a request |", "| --- | --- | --- | --- | --- | --- | --- |"]
    for c in connections:
        med = {s: {k: statistics.median(r[k] for r in values[f"{s} {c}"]) for k in ("rate", "p50", "p99", "cpu_us")} for s in ("cowbell", "haproxy", "nginx")}
        best = max(med["haproxy"]["rate"], med["nginx"]["rate"])
        for s, name in (("cowbell", "**Cowbell**"), ("haproxy", "HAProxy"), ("nginx", "nginx")):
            m = med[s]
            lines.append(f"| {c} | {name} | {m['rate']:,.0f} | {m['rate'] / best:.2f} × | {m['p50']:.2f} ms | {m['p99']:.2f} ms | {m['cpu_us']:.1f} µs |")
    return "\n".join(lines)


def main():
    a = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    a.add_argument("--rounds", type=int, default=7)
    a.add_argument("--seconds", type=int, default=4)
    a.add_argument("--connections", default="32")
    o = a.parse_args()
    os.environ["PATH"] += ":/usr/sbin"
    connections = [int(c) for c in o.connections.split(",")]
    stage = Stage()
    values = {}
    try:
        stage.start(["nginx", "-c", stage.write("backend", BACKEND)])
        wait("the backend", lambda: os.path.exists(os.path.join(stage.dir, "backend.sock")))
        pids = {"cowbell": start_cowbell(stage).pid}
        pids["nginx"] = stage.start(["nginx", "-c", stage.write("nginx", NGINX)]).pid
        pids["haproxy"] = stage.start(["haproxy", "-db", "-f", stage.write("haproxy", HAPROXY)]).pid
        for s, port in stage.ports.items():
            wait(s, lambda p=port: fetch(p) == b"hello, world\n")
            measure(port, pids[s], 32, 1)
        for n in range(o.rounds):
            for c in connections:
                for s in random.sample(list(pids), len(pids)):
                    print(f"\rround {n + 1}/{o.rounds} {s:8} {c:4} connections", end="", file=sys.stderr)
                    values.setdefault(f"{s} {c}", []).append(measure(stage.ports[s], pids[s], c, o.seconds))
        print(file=sys.stderr)
    except (Failed, OSError, subprocess.SubprocessError) as e:
        with open(os.path.join(stage.dir, "log"), encoding="utf-8", errors="replace") as f:
            print(f"bench/router.py: {e}\n{f.read()[-2000:]}", file=sys.stderr)
        return 1
    finally:
        stage.end()
    versions = " · ".join((subprocess.run(v, capture_output=True, text=True, check=False).stdout or subprocess.run(v, capture_output=True, text=True, check=False).stderr).splitlines()[0] for v in (["haproxy", "-v"], ["nginx", "-v"]))
    text = f"{table(values, connections)}\n\n{os.cpu_count()} CPUs; medians of {o.rounds} rounds of {o.seconds} s; {versions}\n"
    os.makedirs(BIN, exist_ok=True)
    with open(os.path.join(BIN, "router.json"), "w", encoding="utf-8") as f:
        json.dump(values, f, indent=1)
    with open(os.path.join(BIN, "router.md"), "w", encoding="utf-8") as f:
        f.write(text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
