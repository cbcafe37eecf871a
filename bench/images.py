#!/usr/bin/python3
# SPDX-License-Identifier: ISC
"""`make bench-images`: images, beside the tools that do the same, in one run.

Each row is a list of systems that do the same work in turn, several times, in shuffled order; medians are shown, and the
ratio to the first system. Absolute times of different machines mean little. This is no test: nothing here passes or fails.
Results: a Markdown table on standard output, and with the raw values in bench/results/images.{md,json}.

    bench/images.py [--reps N] [--only ROW,...] [--size MB] [--out DIR]

A row is added with @row: a function that gets the Work (a scratch directory, the options) and returns {system: function};
each function does the work once and returns seconds, or another number where the row's unit says so.
"""
import argparse
import gzip
import hashlib
import io
import json
import os
import platform
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time

sys.dont_write_bytecode = True
from common import COWBELL, TOP, end_all, free_ports, kvm_usable, rollup, with_children  # noqa: E402

ROWS = []


class Skip(Exception):
    pass


def row(title, unit="s", better="lower"):
    def add(f):
        ROWS.append((f.__name__, title, unit, better, f))
        return f
    return add


class Work:
    """Scratch space of one run, removed at its end."""

    def __init__(self, options):
        self.options = options
        self.dir = tempfile.mkdtemp(prefix="cowbell-bench-", dir=os.environ.get("TMPDIR", "/var/tmp"))
        self.made = {}

    def path(self, *parts):
        return os.path.join(self.dir, *parts)

    def env(self, store):
        """Environment of cowbell with its own store and cache."""
        return dict(os.environ, XDG_DATA_HOME=self.path(store, "data"), XDG_CACHE_HOME=self.path(store, "cache"))

    def once(self, name, make):
        """What several rows need is made once."""
        if name not in self.made:
            self.made[name] = make(self)
        return self.made[name]


def timed(cmd, **kw):
    """Seconds that a command takes; its failure ends the row."""
    start = time.monotonic()
    r = subprocess.run(cmd, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600, **kw)
    took = time.monotonic() - start
    if r.returncode:
        raise Skip(f"{os.path.basename(cmd[0])}: " + ((r.stderr.strip().splitlines() or [f"status {r.returncode}"])[-1])[:200])
    return took


def need(*programs):
    for p in programs:
        if not shutil.which(p):
            raise Skip(f"{p} is not installed")


# --- an OCI image of this machine's own files ---------------------------------------------------------------------------


def put(blobs, data):
    digest = hashlib.sha256(data).hexdigest()
    with open(os.path.join(blobs, digest), "wb") as f:
        f.write(data)
    return {"digest": "sha256:" + digest, "size": len(data)}


def collect(limit):
    """Regular files below /usr, in a fixed order, until there are `limit` bytes of them."""
    total, files = 0, []
    for top in ("/usr/lib/x86_64-linux-gnu", "/usr/bin", "/usr/lib", "/usr/share"):
        for d, dirs, names in os.walk(top):
            dirs.sort()
            for n in sorted(names):
                p = os.path.join(d, n)
                try:
                    size = os.lstat(p).st_size
                    if os.path.islink(p) or not os.path.isfile(p) or not os.access(p, os.R_OK) or size > 32 << 20:
                        continue
                except OSError:
                    continue
                files.append(p)
                total += size
                if total >= limit:
                    return files
    return files


def layer(blobs, fill, work):
    """A gzip'ed tar layer: (descriptor, diff_id). fill(tar) adds the files."""
    plain = work.path("layer.tar")
    with tarfile.open(plain, "w", format=tarfile.PAX_FORMAT) as t:
        fill(t)
    with open(plain, "rb") as f:
        data = f.read()
    os.unlink(plain)
    d = put(blobs, gzip.compress(data, 6, mtime=0))
    d["mediaType"] = "application/vnd.oci.image.layer.v1.tar+gzip"
    return d, "sha256:" + hashlib.sha256(data).hexdigest()


def layout(work, name, fills):
    """An OCI layout with one layer for each function that fills a tar."""
    d = work.path(name)
    blobs = os.path.join(d, "blobs", "sha256")
    os.makedirs(blobs)
    layers = [layer(blobs, f, work) for f in fills]
    config = {"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/usr/bin/true"]},
              "rootfs": {"type": "layers", "diff_ids": [x for _, x in layers]}}
    oci = "application/vnd.oci.image."
    manifest = {"schemaVersion": 2, "mediaType": oci + "manifest.v1+json",
                "config": dict(put(blobs, json.dumps(config).encode()), mediaType=oci + "config.v1+json"),
                "layers": [x for x, _ in layers]}
    entry = dict(put(blobs, json.dumps(manifest).encode()), mediaType=oci + "manifest.v1+json",
                 annotations={"org.opencontainers.image.ref.name": "latest"})
    for file, value in (("index.json", {"schemaVersion": 2, "manifests": [entry]}), ("oci-layout", {"imageLayoutVersion": "1.0.0"})):
        with open(os.path.join(d, file), "w") as f:
            json.dump(value, f)
    return d


def oci_image(work):
    """--size MB of this machine's files in four layers."""
    files = list(dict.fromkeys(collect(work.options.size << 20)))
    n = (len(files) + 3) // 4

    def fill(part):
        return lambda t: [t.add(p, arcname=p.lstrip("/"), recursive=False) for p in part]
    return layout(work, "oci", [fill(files[i:i + n]) for i in range(0, len(files), n)])


def oci_small(work):
    """20,000 files of up to 700 bytes in 100 directories."""
    def fill(t):
        for i in range(20000):
            x = tarfile.TarInfo(f"app/d{i % 100}/f{i}")
            x.size = i * 7 % 700
            t.addfile(x, io.BytesIO(b"x" * x.size))
    return layout(work, "small", [fill])


# --- rows ---------------------------------------------------------------------------------------------------------------


def against_umoci(work, image, name):
    need("umoci")
    rootless = [] if os.geteuid() == 0 else ["--rootless"]

    def umoci():
        shutil.rmtree(work.path("bundle"), ignore_errors=True)
        return timed(["umoci", "unpack", *rootless, "--image", image + ":latest", work.path("bundle")])

    def cowbell():
        shutil.rmtree(work.path(name), ignore_errors=True)
        os.makedirs(work.path(name))
        return timed([COWBELL, "build", "--from", "oci:" + image, "-t", "bench"], env=work.env(name))

    return {"umoci unpack": umoci, "cowbell build --from": cowbell}


@row("import of an OCI image of {size} MB, 4 layers, gzip")
def import_oci(work):
    return against_umoci(work, work.once("oci", oci_image), "import")


@row("import of an OCI image of 20,000 small files")
def import_small(work):
    return against_umoci(work, work.once("small", oci_small), "import-small")


@row("the same again, when the store has it")
def import_again(work):
    image = work.once("oci", oci_image)
    os.makedirs(work.path("again"))
    command = [COWBELL, "build", "--from", "oci:" + image, "-t", "bench"]
    timed(command, env=work.env("again"))
    return {"cowbell build --from": lambda: timed(command, env=work.env("again"))}


def python_app(path, text="hello"):
    os.makedirs(os.path.join(path, "shop"))
    for name in ("app.py", "shop/__init__.py", "shop/cart.py", "shop/user.py", "shop/mail.py"):
        with open(os.path.join(path, name), "w") as f:
            f.write(f"# {name}\nprint({text!r})\n" * 20)


def change(path):
    with open(os.path.join(path, "shop", "cart.py"), "a") as f:
        f.write(f"# {random.random()}\n")


@row("build of a 5-file Python app, one file changed")
def build_changed(work):
    app, env = work.path("five"), work.env("five-store")
    python_app(app)
    timed([COWBELL, "build", app, "-t", "five"], env=env)

    def cowbell():
        change(app)
        return timed([COWBELL, "build", app, "-t", "five"], env=env)

    systems = {"cowbell build": cowbell}
    if shutil.which("buildah"):
        with open(work.path("Containerfile"), "w") as f:
            f.write("FROM scratch\nCOPY . /app\nCMD [\"python3\", \"/app/app.py\"]\n")
        store = ["--root", work.path("buildah"), "--runroot", work.path("buildah-run"), "--storage-driver", "vfs"]

        def buildah():
            change(app)
            return timed(["buildah", *store, "bud", "-q", "-t", "five", "-f", work.path("Containerfile"), app])

        try:
            buildah()
            systems = {"buildah (app layer alone)": buildah, **systems}
        except Skip:
            pass
    return systems


@row("the same with nothing changed")
def build_again(work):
    app, env = work.path("same"), work.env("same-store")
    python_app(app)
    timed([COWBELL, "build", app, "-t", "same"], env=env)
    return {"cowbell build": lambda: timed([COWBELL, "build", app, "-t", "same"], env=env)}


def thousand(work):
    """Builds 1,000 different Python apps; seconds, and MB on disk beyond the first of them, which brings the runtime."""
    env = work.env("thousand-store")
    for i in range(1001):
        python_app(work.path("thousand", str(i)), f"app {i}")
    timed([COWBELL, "build", work.path("thousand", "1000"), "-t", "first"], env=env)

    def disk():
        out = subprocess.run(["du", "-sk", env["XDG_DATA_HOME"]], capture_output=True, text=True, check=True).stdout
        return int(out.split()[0]) / 1024

    before = disk()
    took = sum(timed([COWBELL, "build", work.path("thousand", str(i)), "-t", f"app{i}"], env=env) for i in range(1000))
    return took, disk() - before


@row("1,000 different Python apps, built one after the other")
def thousand_time(work):
    return {"cowbell build": lambda: work.once("thousand", thousand)[0]}


@row("disk that the 1,000 apps take beyond the runtime", unit="MB")
def thousand_disk(work):
    return {"cowbell build": lambda: work.once("thousand", thousand)[1]}


WEB_APP = """import os
from http.server import BaseHTTPRequestHandler, HTTPServer
class Page(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"app %d")
    def log_message(self, *a):
        pass
HTTPServer(("", int(os.environ["PORT"])), Page).serve_forever()
"""
N_RUNNING = 200


def running(work, command):
    """Starts N_RUNNING different Python web apps, each of which answers once; then the rollup of them all."""
    procs, ports = [], free_ports(N_RUNNING)
    try:
        for i in range(N_RUNNING):
            procs.append(subprocess.Popen(command(i, ports[i]), env=work.env("running-store"), stdin=subprocess.DEVNULL,
                                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        for i, port in enumerate(ports):
            end = time.monotonic() + 120
            while True:
                try:
                    with socket.create_connection(("127.0.0.1", port), timeout=10) as s:
                        s.sendall(b"GET / HTTP/1.0\r\n\r\n")
                        answer = b"".join(iter(lambda: s.recv(4096), b""))
                    if answer.endswith(b"app %d" % i):
                        break
                except OSError:
                    pass
                if time.monotonic() > end:
                    raise Skip(f"app {i} of {N_RUNNING} does not answer")
                time.sleep(0.05)
        return rollup(with_children([p.pid for p in procs]))
    finally:
        end_all(procs)


def memory(work):
    """{system: (Pss, private, others unshared)} of N_RUNNING apps, measured once."""
    env = work.env("running-store")
    for i in range(N_RUNNING):
        app = work.path("running", str(i))
        os.makedirs(app, exist_ok=True)
        for name, text in (("app.py", WEB_APP % i), ("Procfile", "web: python3 app.py\n")):
            with open(os.path.join(app, name), "w") as f:
                f.write(text)
        timed([COWBELL, "build", app, "-t", f"run{i}"], env=env)
    systems = {"native": lambda i, port: ["env", f"PORT={port}", "/usr/bin/python3", work.path("running", str(i), "app.py")]}
    for m in ("kvm", "process"):
        if m == "process" or kvm_usable():
            systems[m] = lambda i, port, m=m: [COWBELL, "run", "--monitor", m, "-p", f"127.0.0.1:{port}:8080", f"image:run{i}"]
    return {name: running(work, command) for name, command in systems.items()}


def memory_row(work, part):
    return {name: lambda v=v: part(v) for name, v in work.once("memory", memory).items()}


@row(f"{N_RUNNING} running Python apps: memory in all, per app (Pss)", unit="MB")
def running_pss(work):
    return memory_row(work, lambda v: v[0] / N_RUNNING)


@row("of it private to one app", unit="MB")
def running_private(work):
    return memory_row(work, lambda v: v[1] / N_RUNNING)


@row("file pages of an app that it shares with the others", unit="%", better="higher")
def running_shared(work):
    return memory_row(work, lambda v: 100 * (1 - (v[0] - v[1]) / v[2]))


# --- the run ------------------------------------------------------------------------------------------------------------


def measure(work, f, reps):
    systems = f(work)
    values = {name: [] for name in systems}
    for name in systems:
        systems[name]()  # the page cache is warm for all alike
    for _ in range(reps):
        order = list(systems)
        random.shuffle(order)
        for name in order:
            values[name].append(systems[name]())
    return values


def show(value, unit):
    return f"{value * 1000:.1f} ms" if unit == "s" and value < 1 else f"{value:.2f} {unit}"


def main():
    p = argparse.ArgumentParser(description="Measure images beside other tools.")
    p.add_argument("--reps", type=int, default=5)
    p.add_argument("--only", default="", help="names of rows, separated by commas: " + ", ".join(r[0] for r in ROWS))
    p.add_argument("--size", type=int, default=200, help="MB of files in the imported image")
    p.add_argument("--out", default=os.path.join(TOP, "bench", "results"))
    o = p.parse_args()
    work, lines, raw = Work(o), ["| what | system | median | to the first | lowest | highest |", "| --- | --- | --- | --- | --- | --- |"], {}
    try:
        for name, title, unit, better, f in ROWS:
            if o.only and name not in o.only.split(","):
                continue
            title = title.format(size=o.size)
            print(f"# {title}", file=sys.stderr, flush=True)
            try:
                values = measure(work, f, o.reps)
            except Skip as e:
                lines.append(f"| {title} | not measured: {e} | | | | |")
                print(f"# not measured: {e}", file=sys.stderr, flush=True)
                continue
            raw[name] = {"title": title, "unit": unit, "values": values}
            first = None
            for system, v in values.items():
                m = statistics.median(v)
                first = first or m
                ratio = m / first if better == "higher" else first / m
                lines.append(f"| {title} | {system} | {show(m, unit)} | {ratio:.2f} x as good | {show(min(v), unit)} | {show(max(v), unit)} |")
    finally:
        shutil.rmtree(work.dir, ignore_errors=True)
    text = "\n".join(lines) + "\n"
    print(text, end="")
    os.makedirs(o.out, exist_ok=True)
    with open(os.path.join(o.out, "images.md"), "w") as f:
        f.write(f"Images. {o.reps} repetitions, {os.cpu_count()} CPUs, {platform.machine()}.\n\n" + text)
    with open(os.path.join(o.out, "images.json"), "w") as f:
        json.dump(raw, f, indent=1)


if __name__ == "__main__":
    main()
