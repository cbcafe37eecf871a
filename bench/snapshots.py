#!/usr/bin/python3
# SPDX-License-Identifier: ISC
"""`make bench-snapshots`: how fast an app starts from its snapshot, beside every other way to start it, in one run.

The time of a start is from the spawn of the command to the first HTTP 200, taken by one client in C for all (bench/spawn.c). All
systems are started in turn, in shuffled order, several times; medians are shown. Then: restores per second, the pause of a running
instance while it is snapshotted or cloned (as the command tells it, and as a client sees it that asks all the time), the memory
of many restored instances, and the size of a delta. This is no test: nothing here passes or fails.

    bench/snapshots.py [--reps N] [--only start,rate,pause,memory,delta] [--instances N] [--out DIR]

Results: a Markdown table on standard output, and with it the picture and the raw values in build/bench/snapshots.{md,svg,json}.
"""
import argparse
import json
import os
import platform
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
import phase1  # noqa: E402
from chart import bars  # noqa: E402
from common import BIN, COWBELL, PYTHON, Failed, bubblewrap, build, end_all, free_port, free_ports, kvm_usable, output, reached, rollup, with_children  # noqa: E402

GUEST_PORT = 8000
NODE = shutil.which("node") or "node"
APPS = {"c": ("C hello server", ["./hello_server"]), "python": ("Python http app", [PYTHON, "http_app.py"]), "node": ("Node http app", [NODE, "http_app.js"])}
GOALS = {"c": ["≤ 2.5 ms"], "python": ["≤ 5 ms", "≤ 0.125 ×"], "node": ["≤ 10 ms", "≤ 0.0833 ×"]}
WARMING = 8  # requests before a snapshot of an app that has answered before
SLOW = ("QEMU, phase 1",)  # seconds for one start: fewer of them


class Work:
    """What one run makes: a scratch directory, removed at its end, with a store and a cache of its own, and the snapshots."""

    def __init__(self, options):
        self.options = options
        self.dir = tempfile.mkdtemp(prefix="cowbell-bench-", dir=os.environ.get("TMPDIR", "/var/tmp"))
        # few variables, the same for all: some that a runtime looks at (NODE_EXTRA_CA_CERTS) make a native start slower
        self.env = dict({k: os.environ[k] for k in ("PATH", "HOME", "LANG", "TMPDIR") if k in os.environ}, **{f"XDG_{k.upper()}_HOME": self.path("xdg", k) for k in ("data", "cache", "state")})
        self.made = {}

    def path(self, *parts):
        return os.path.join(self.dir, *parts)

    def once(self, name, make):
        """What several need is made once; that it could not be made is remembered, too."""
        if name not in self.made:
            try:
                self.made[name] = make(self)
            except Failed as e:
                self.made[name] = e
        if isinstance(self.made[name], Failed):
            raise self.made[name]
        return self.made[name]

    def worksets(self):
        return {os.path.join(d, n) for d, _, names in os.walk(self.path("xdg")) for n in names if n.startswith("workset-")}

    def snapshot(self, monitor, app, use="later"):
        """A snapshot of an app that waits for its first connection, taken under a monitor."""
        def make(_):
            file = self.path(f"{app}.{monitor}.{use}.snap")
            argv = [*APPS[app][1], str(GUEST_PORT)]
            if use == "warm":
                with Running(self, monitor, argv, f"{app}-{monitor}-{use}") as app_runs:
                    for _ in range(WARMING - 1):
                        ask(app_runs.port)
                    output([COWBELL, "snapshot", "create", f"{app}-{monitor}-{use}", "-o", file], env=self.env)
            else:
                take(self, monitor, file, argv, [GUEST_PORT])
            return file
        return self.once(f"{app} {monitor} {use}", make)


def take(work, monitor, file, argv, ports):
    published = [x for p in ports for x in ("-p", f"127.0.0.1:{free_port()}:{p}")]
    output([COWBELL, "run", "--monitor", monitor, "--snapshot-at", "ready", "--snapshot-stop", "-o", file, "--timeout", "20s", *published, "--", *argv], env=work.env)
    if not os.path.exists(file):
        raise Failed("no snapshot was taken")


# --- one start ------------------------------------------------------------------------------------------------------------


def first_200(command, port, env=None):
    return float(output(["./spawn", "http", str(port), *command], env=env))


def native(work, app, port):
    return [*APPS[app][1], str(port)]


def in_bubblewrap(work, app, port):
    if not shutil.which("bwrap"):
        raise Failed("bubblewrap is not installed")
    return bubblewrap([*APPS[app][1], str(port)])


def in_crun(work, app, port):
    """Debian's crun on a bundle whose root is the host's own tree, read-only; the host's network; no cgroup."""
    if not shutil.which("crun"):
        raise Failed("crun is not installed")
    if os.geteuid():
        raise Failed("crun needs root here")
    bundle = work.path("bundle")
    os.makedirs(bundle + "/root", exist_ok=True)
    config = {"ociVersion": "1.0.2", "root": {"path": bundle + "/root", "readonly": True},
              "process": {"terminal": False, "user": {"uid": 0, "gid": 0}, "args": [*APPS[app][1], str(port)], "env": ["PATH=/usr/bin:/bin"], "cwd": BIN},
              "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}, {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}],
              "linux": {"namespaces": [{"type": t} for t in ("pid", "mount", "ipc", "uts")]}}
    with open(bundle + "/config.json", "w") as f:
        json.dump(config, f)
    return ["crun", "--cgroup-manager=disabled", "run", "-b", bundle, f"cowbell-bench-{port}"]


def crun_once(work, app):
    """The bind mount of the root, and out of crun's sight a cgroup hierarchy that it refuses, are made before the clock runs."""
    port = free_port()
    script = 'umount /sys/fs/cgroup/unified 2>/dev/null; mount --rbind / "$1" && shift && exec "$@"'
    command = in_crun(work, app, port)
    return float(output(["unshare", "-m", "sh", "-c", script, "sh", work.path("bundle", "root"), "./spawn", "http", str(port), *command],
                        env=dict(work.env, SPAWN_END=f"exec crun --cgroup-manager=disabled delete -f {command[-1]} >/dev/null 2>&1")))


def boot(monitor):
    def command(work, app, port):
        return [COWBELL, "run", "--monitor", monitor, "-p", f"127.0.0.1:{port}:{GUEST_PORT}", "--", *APPS[app][1], str(GUEST_PORT)]
    return command


def restore(monitor, use="later"):
    def command(work, app, port):
        return [COWBELL, "run", "--monitor", monitor, "-p", f"127.0.0.1:{port}:{GUEST_PORT}", "--snapshot", work.snapshot(monitor, app, use)]
    return command


def plain(command):
    def run(work, app):
        port = free_port()
        return first_200(command(work, app, port), port, work.env)
    return run


def restored_first(monitor):
    """A snapshot of its own, whose working set is forgotten after each run: every run is the first one."""
    def run(work, app):
        work.snapshot(monitor, app, "first")
        before = work.worksets()
        ms = plain(restore(monitor, "first"))(work, app)
        for memo in work.worksets() - before:
            os.unlink(memo)
        return ms
    return run


def restored_later(monitor, use="later"):
    """The first run of a snapshot, which remembers its working set, is not measured here."""
    def run(work, app):
        work.once(f"again {app} {monitor} {use}", lambda w: [plain(restore(monitor, use))(w, app) for _ in range(2)])
        return plain(restore(monitor, use))(work, app)
    return run


def restored_warm(monitor):
    """Of an app that has answered before: what a runtime compiles at its first requests is in the snapshot."""
    return restored_later(monitor, "warm")


def in_qemu(work, app, port):
    return phase1.command(work, app, [*APPS[app][1], str(GUEST_PORT)], port, GUEST_PORT)


def starts(monitors):
    systems = {"native": plain(native), "bubblewrap": plain(in_bubblewrap), "crun": crun_once, SLOW[0]: plain(in_qemu)}
    for what, how in (("boot", lambda m: plain(boot(m))), ("restore, first run", restored_first), ("restore", restored_later), ("restore, had answered before", restored_warm)):
        for m in monitors:
            systems[f"{what} ({m})"] = how(m)
    return systems


def measure_starts(work, monitors):
    """{(app, system): [ms]}, {(app, system): why not}."""
    systems, values, errors = starts(monitors), {}, {}
    for turn in range(work.options.reps + 1):  # the first turn fills caches and is not counted
        pairs = [(a, s) for a in APPS for s in systems if s not in SLOW or turn < 3]
        for pair in random.sample(pairs, len(pairs)):
            if pair in errors:
                continue
            try:
                ms = systems[pair[1]](work, pair[0])
                if turn or pair[1] in SLOW:
                    values.setdefault(pair, []).append(ms)
            except (Failed, OSError, ValueError) as e:
                errors[pair] = str(e) or type(e).__name__
                print(f"# {pair[0]}, {pair[1]}: {errors[pair]}", file=sys.stderr, flush=True)
        print(f"# starts: turn {turn} of {work.options.reps}", file=sys.stderr, flush=True)
    return values, errors


# --- the other figures: each function gives {name of a value: number} for a monitor -----------------------------------------


def rate(work, m):
    """Restores per second: two at a time, each answers once and is ended."""
    ports = free_ports(2)
    command = [COWBELL, "run", "--monitor", m, "-p", f"127.0.0.1:%p:{GUEST_PORT}", "--snapshot", work.snapshot(m, "python")]
    restored_later(m)(work, "python")
    return {"restores per second": float(output(["./spawn", "serve", "3", ",".join(map(str, ports)), *command], env=work.env))}


class Running:
    """An instance that answers on a port, from its start to its end."""

    def __init__(self, work, m, argv, name):
        self.port, self.err = free_port(), tempfile.TemporaryFile()
        self.p = subprocess.Popen([COWBELL, "run", "--monitor", m, "--name", name, "-p", f"127.0.0.1:{self.port}:{GUEST_PORT}", "--", *argv], cwd=BIN, env=work.env,
                                  stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self.err)
        wait_answer(self.port, self.p)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        end_all([self.p])


def ask(port, timeout=10):
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as s:
        s.sendall(b"GET / HTTP/1.0\r\n\r\n")
        return b"".join(iter(lambda: s.recv(4096), b"")).split(b" ")[1:2] == [b"200"]


def until(p, seconds, attempt):
    """What attempt() gives as soon as it gives something; OSError is another try, as long as p runs."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and p.poll() is None:
        try:
            got = attempt()
            if got:
                return got
        except OSError:
            pass
        time.sleep(0.005)
    raise Failed("it does not answer")


def wait_answer(port, p, seconds=60):
    until(p, seconds, lambda: ask(port))


def connected(port, p):
    return until(p, 20, lambda: socket.create_connection(("127.0.0.1", port), timeout=10))


def longest_gap(work, port, command):
    """(longest gap that a client sees while a command runs, what the command printed); no command: one second."""
    client = subprocess.Popen(["./spawn", "gap", str(port)], cwd=BIN, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    time.sleep(0.3)
    try:
        text = output(command, env=work.env) if command else time.sleep(0.7)
        time.sleep(0.3)
    finally:
        out = client.communicate("\n", timeout=20)[0].split()
    if len(out) != 4 or out[3] != "0":
        raise Failed(f"the client lost {out[3] if len(out) == 4 else 'all'} requests")
    return float(out[0]), text


def pause(work, m):
    name, got = f"bench-{os.getpid()}-{m}", {}
    with Running(work, m, [PYTHON, "holds_100mb.py", str(GUEST_PORT)], name) as r:
        got["client's longest wait, nothing else going on"] = longest_gap(work, r.port, None)[0]
        file = work.path("pause.snap")
        gap, text = longest_gap(work, r.port, [COWBELL, "snapshot", "create", name, "-o", file, "--json"])
        got["pause for a snapshot, as told"] = json.loads(text)["paused_ms"]
        got["client's longest wait, snapshot"] = gap
        os.unlink(file)
        gap, text = longest_gap(work, r.port, [COWBELL, "clone", name, "--json"])
        copies = json.loads(text)
        for c in copies:
            subprocess.run([COWBELL, "stop", c["id"]], env=work.env, capture_output=True, timeout=30)
            if "paused_ms" in c:
                got["pause for a clone, as told"] = c["paused_ms"]
        got["client's longest wait, clone"] = gap
    return got


def available_kb():
    with open("/proc/meminfo") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("MemAvailable:"))


def memory(work, m):
    """Restored apps that nobody has asked but once: what each has for itself, and what the host has less."""
    n = work.options.instances
    room = available_kb() // 1024 // 16
    if n > room:
        print(f"# memory: {room} instances instead of {n}, for want of memory", file=sys.stderr)
        n = room
    restored_later(m)(work, "python")
    ports, procs, before, start = free_ports(n), [], available_kb(), time.monotonic()
    try:
        for port in ports:
            procs.append(subprocess.Popen([COWBELL, "run", "--monitor", m, "-p", f"127.0.0.1:{port}:{GUEST_PORT}", "--snapshot", work.snapshot(m, "python")],
                                          env=work.env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        for p, port in zip(procs, ports):
            wait_answer(port, p)
        took = time.monotonic() - start
        time.sleep(1)
        pss, private, _ = rollup(with_children([p.pid for p in procs]))
        host = (before - available_kb()) / 1024
    finally:
        stuck = end_all(procs)
    if stuck:
        raise Failed(f"{stuck} of {n} did not end on SIGTERM")
    return {"instances": n, "private memory of each": private / n, "Pss of each": pss / n, "host's memory for each": host / n, "start of all": took}


def delta(work, m):
    """A hello-world web app over the snapshot of its runtime (Python with http.server imported), taken when it listens."""
    base, app, name = work.path(f"base.{m}.snap"), work.path(f"app.{m}.snap"), f"bench-delta-{os.getpid()}-{m}"
    take(work, m, base, [PYTHON, "runtime_base.py", "8001"], [8001, GUEST_PORT])
    load, port = free_ports(2)
    p = subprocess.Popen([COWBELL, "run", "--monitor", m, "--name", name, "-p", f"127.0.0.1:{load}:8001", "-p", f"127.0.0.1:{port}:{GUEST_PORT}", "--snapshot", base],
                         env=work.env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with open(os.path.join(BIN, "http_app.py"), "rb") as f, connected(load, p) as s:
            s.sendall(f.read())
        connected(port, p).close()
        told = json.loads(output([COWBELL, "snapshot", "create", name, "-o", app, "--json"], env=work.env))
    finally:
        end_all([p])
    if not told.get("delta"):
        raise Failed("the snapshot is not a delta")
    sizes = {"delta of the app": os.stat(app).st_blocks * 512 / 1e6, "its base": os.stat(base).st_blocks * 512 / 1e6}
    for f in (app, base):
        os.unlink(f)
    return sizes


# name, function, [(value, title, unit, goal)]
OTHERS = [
    ("rate", rate, [("restores per second", "Python app restored, asked once and ended; two at a time", "/s", "≥ 150 /s")]),
    ("pause", pause, [("pause for a snapshot, as told", "pause of a 100 MB instance for a snapshot, as told", "ms", "≤ 20 ms"),
                      ("client's longest wait, snapshot", "longest wait of a client meanwhile", "ms", "≤ 20 ms"),
                      ("pause for a clone, as told", "pause of a 100 MB instance for a clone, as told", "ms", "≤ 20 ms"),
                      ("client's longest wait, clone", "longest wait of a client meanwhile", "ms", "≤ 20 ms"),
                      ("client's longest wait, nothing else going on", "longest wait of that client when nothing else goes on, in one second", "ms", "")]),
    ("memory", memory, [("private memory of each", "{instances} restored idle Python apps: private memory of each (Pss_Anon + Pss_Shmem)", "MB", "≤ 2.5 MB"),
                        ("host's memory for each", "what the host has less, for each of them", "MB", ""),
                        ("start of all", "all of them started, one after the other, until the last has answered", "s", "")]),
    ("delta", delta, [("delta of the app", "delta of a hello-world Python web app over its runtime's base", "MB", "≤ 1 MB"),
                      ("its base", "that base", "MB", "")]),
]


def measure_others(work, monitors):
    """{(name, monitor): {value: [numbers]}}, errors; the monitors in turn."""
    values, errors = {}, {}
    for name, f, _ in OTHERS:
        if name not in work.options.only:
            continue
        for _ in range(1 if name == "memory" else min(3, work.options.reps)):
            for m in random.sample(monitors, len(monitors)):
                try:
                    for k, v in f(work, m).items():
                        values.setdefault((name, m), {}).setdefault(k, []).append(v)
                except (Failed, OSError, ValueError, KeyError) as e:
                    errors[name, m] = str(e) or type(e).__name__
                    print(f"# {name}, {m}: {errors[name, m]}", file=sys.stderr, flush=True)
        print(f"# {name}: done", file=sys.stderr, flush=True)
    return values, errors


# --- output ------------------------------------------------------------------------------------------------------------------


def fmt(v):
    return f"{v:,.0f}" if v >= 1000 else f"{v:.3g}"


def mark(goals, ratio, value):
    marks = [reached(g, ratio, value) for g in goals]
    return "" if not marks or None in marks else " ✓" if all(marks) else " ✗"


def start_table(values, errors, systems):
    out = ["| spawn to first 200, ms | " + " | ".join(t for t, _ in APPS.values()) + " |", "| --- |" + " --- |" * len(APPS)]
    notes = []
    for s in systems:
        cells = []
        for a in APPS:
            v, base = values.get((a, s)), values.get((a, "native"))
            if (a, s) in errors or not v:
                notes.append(f"{s}, {APPS[a][0]}: not measured: {errors.get((a, s), 'left out')}")
                cells.append("")
                continue
            ms = statistics.median(v)
            ratio = ms / statistics.median(base) if base else None
            times = "" if s == "native" or not ratio else f" (1/{1 / ratio:.1f})" if ratio < 1 else f" ({ratio:.2f} ×)"
            cells.append(fmt(ms) + times + (mark(GOALS[a], ratio, ms) if s.startswith(("restore (", "restore, had")) else ""))
        out.append(f"| {s} | " + " | ".join(cells) + " |")
    shown = {"≤ 0.125 ×": "≤ 1/8 of native", "≤ 0.0833 ×": "≤ 1/12 of native"}
    out.append("| to reach, restore | " + " | ".join(", ".join(shown.get(g, g) for g in GOALS[a]) for a in APPS) + " |")
    return out + [""] + notes


def other_table(values, errors, monitors, names):
    out, notes = ["| | " + " | ".join(monitors) + " | to reach |", "| --- |" + " --- |" * (len(monitors) + 1)], []
    for name, _, shown in OTHERS:
        if name not in names:
            continue
        notes += [f"{name}, {m}: not measured: {errors[name, m]}" for m in monitors if (name, m) in errors]
        for key, title, unit, goal in shown:
            cells = []
            for m in monitors:
                v = values.get((name, m), {}).get(key)
                cells.append(f"{fmt(statistics.median(v))} {unit}" + (mark([goal], None, statistics.median(v)) if goal else "") if v else "")
            n = max((int(v["instances"][0]) for (k, _), v in values.items() if k == name and "instances" in v), default=0)
            if any(cells):
                out.append(f"| {title.format(instances=n)} | " + " | ".join(cells) + f" | {goal} |")
    return (out if len(out) > 2 else []) + [""] + notes


def main():
    ap = argparse.ArgumentParser(description="Measure starts from snapshots beside all other starts.")
    names = ["start"] + [o[0] for o in OTHERS]
    ap.add_argument("--reps", type=int, default=7)
    ap.add_argument("--only", default=",".join(names), help="of: " + ",".join(names))
    ap.add_argument("--instances", type=int, default=500, help="restored at once for the figures of memory")
    ap.add_argument("--monitors", default="kvm,process")
    ap.add_argument("--out", default=BIN)
    o = ap.parse_args()
    o.only = o.only.split(",")
    monitors = [m for m in o.monitors.split(",") if m != "kvm" or kvm_usable()]
    build()
    work, raw, text = Work(o), {}, ["# Starts from snapshots", "",
           f"Medians of {o.reps} starts, all systems in turn in one run, on {os.cpu_count()} CPUs ({platform.machine()}). In brackets: of native. Made by "
           "`make bench-snapshots`; machines drift, so only figures of one run compare. QEMU emulates its CPU here (TCG).", ""]
    os.makedirs(o.out, exist_ok=True)
    try:
        if "start" in o.only:
            values, errors = measure_starts(work, monitors)
            text += start_table(values, errors, starts(monitors))
            raw["starts"] = {f"{a}/{s}": v for (a, s), v in values.items()}
            raw["start_errors"] = {f"{a}/{s}": v for (a, s), v in errors.items()}
            with open(os.path.join(o.out, "snapshots.svg"), "w") as f:
                f.write(bars("From spawn to the first HTTP 200", {APPS[a][0]: {s: statistics.median(values[a, s]) for s in starts(monitors) if (a, s) in values and (a, s) not in errors}
                                                                 for a in APPS}))
        values, errors = measure_others(work, monitors)
        text += other_table(values, errors, monitors, o.only)
        raw["others"] = {f"{n}/{m}": v for (n, m), v in values.items()}
        raw["other_errors"] = {f"{n}/{m}": v for (n, m), v in errors.items()}
    finally:
        shutil.rmtree(work.dir, ignore_errors=True)
    with open(os.path.join(o.out, "snapshots.md"), "w") as f:
        f.write("\n".join(text) + "\n")
    with open(os.path.join(o.out, "snapshots.json"), "w") as f:
        json.dump(raw, f, indent=1)
    print("\n".join(text))


if __name__ == "__main__":
    main()
