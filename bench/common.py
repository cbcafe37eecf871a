# SPDX-License-Identifier: ISC
"""What the benches share: where things are, the programs that are measured, free ports, memory of processes, a table's marks."""
import os
import re
import shutil
import socket
import subprocess

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BENCH = os.path.join(TOP, "bench")
BIN = os.path.join(TOP, "build", "bench")
COWBELL = os.environ.get("COWBELL", os.path.join(TOP, "build", "release", "cowbell"))
PYTHON = "/usr/bin/python3"
PROGRAMS = ["getppid", "clock", "churn", "chase", "hello", "hello_server", "spawn", "forks", "cpus"]
SCRIPTS = ["cpu.py", "http_app.py", "http_app.js", "holds_100mb.py", "runtime_base.py"]


class Failed(Exception):
    """A measurement that could not be made; its text goes into the results."""


def build():
    os.makedirs(BIN, exist_ok=True)
    for name in PROGRAMS:
        src, out = os.path.join(BENCH, name + ".c"), os.path.join(BIN, name)
        if not os.path.exists(out) or os.path.getmtime(out) < os.path.getmtime(src):
            subprocess.run(["gcc", "-O2", "-D_GNU_SOURCE", "-o", out, src], check=True)
    for name in SCRIPTS:
        shutil.copy(os.path.join(BENCH, name), BIN)


def kvm_usable():
    return os.access("/dev/kvm", os.R_OK | os.W_OK)


def free_ports(n):
    """n different ports: all are held before the first is given back."""
    held = [socket.socket() for _ in range(n)]
    for s in held:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in held]
    for s in held:
        s.close()
    return ports


def free_port():
    return free_ports(1)[0]


def bubblewrap(argv, binds=()):
    """argv in a sandbox of the host's own tree, read-only, with the host's network."""
    return ["bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/run", "--tmpfs", "/tmp", "--ro-bind", BIN, BIN, *binds,
            "--unshare-all", "--share-net", "--die-with-parent", *argv]


def output(cmd, cwd=BIN, timeout=120, env=None):
    """What a command prints; its failure is told by its last line."""
    try:
        r = subprocess.run(cmd, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, env=env)
    except subprocess.TimeoutExpired:
        raise Failed(f"no end within {timeout} s")
    if r.returncode:
        raise Failed((r.stderr.strip().splitlines() or [f"status {r.returncode}"])[-1][:200])
    return r.stdout


def with_children(pids):
    """The pids and all below them: the process monitor's guest is a process of its own."""
    out, todo = [], list(pids)
    while todo:
        pid = todo.pop()
        out.append(pid)
        try:
            for t in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{t}/children") as f:
                    todo += [int(x) for x in f.read().split()]
        except OSError:
            pass
    return out


def rollup(pids):
    """Sums over processes, MB: Pss of all pages, of these the private ones (anonymous, and memory files of one instance), and
    what the others would take if nobody shared them."""
    pss = private = alone = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps_rollup") as f:
                v = {line.split(":")[0]: int(line.split()[1]) for line in f if line.endswith("kB\n")}
        except OSError:
            continue  # it has ended
        pss += v["Pss"]
        private += v["Pss_Anon"] + v["Pss_Shmem"]
        alone += v["Rss"] - v["Pss_Anon"] - v["Pss_Shmem"]
    return pss / 1024, private / 1024, alone / 1024


def end_all(procs, seconds=10):
    """SIGTERM for all of them, then SIGKILL for those that do not end; how many of these there were."""
    stuck = 0
    for p in procs:
        p.terminate()
    for p in procs:
        try:
            p.wait(seconds)
        except subprocess.TimeoutExpired:
            p.kill()
            p.wait()
            stuck += 1
    return stuck


def reached(target, ratio, value):
    """Does a figure reach its target, "≤ 5 ms" or "≤ 0.125 ×" (of native)? None if there is nothing to compare."""
    m = re.match(r"(≤|≥|<) ([\d.]+) ?(×)?", target)
    x = ratio if m and m.group(3) else value
    if not m or x is None:
        return None
    bound = float(m.group(2))
    return x >= bound if m.group(1) == "≥" else x < bound if m.group(1) == "<" else x <= bound
