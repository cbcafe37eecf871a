#!/usr/bin/python3
# SPDX-License-Identifier: ISC
"""`make bench-fork`: what new processes cost, natively and under both monitors, in turn in one run.

fork and exit of a process that holds 100 MB, what the parent's stores to all of it cost afterwards, the faults that all of it took,
and posix_spawn of /bin/true 1,000 times. Medians of each run, and of the runs; ratios to native. A table on standard
output, and in bench/results/fork.md.

    bench/forks.py [--reps N] [--mb MB] [--forks N] [--spawns N] [--systems native,kvm,process]
"""
import argparse
import os
import random
import re
import statistics
import subprocess
import sys

sys.dont_write_bytecode = True
from common import BENCH, BIN, COWBELL, Failed, build, kvm_usable  # noqa: E402


def run(system, args):
    """What the program prints, and the faults that the library OS counted."""
    cmd = ["./forks", *args]
    if system != "native":
        cmd = [COWBELL, "run", "--monitor", system, "-m", "512M", "--stats", "--with", "/bin/true", "--", *cmd]
    r = subprocess.run(cmd, cwd=BIN, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600)
    if r.returncode:
        raise Failed((r.stderr.strip().splitlines() or [f"status {r.returncode}"])[-1][:200])
    m = re.search(r"^page faults\s+(\d+)", r.stderr, re.M)
    return [float(x) for x in r.stdout.split()], int(m.group(1)) if m else None


def main():
    ap = argparse.ArgumentParser(description="What new processes cost, natively and under both monitors.")
    ap.add_argument("--reps", type=int, default=5)
    ap.add_argument("--mb", type=int, default=100)
    ap.add_argument("--forks", type=int, default=20)
    ap.add_argument("--spawns", type=int, default=1000)
    ap.add_argument("--systems", default="native,kvm,process")
    a = ap.parse_args()
    systems = [s for s in a.systems.split(",") if s != "kvm" or kvm_usable()]
    build()
    fork, again, spawn, faults = ({s: [] for s in systems} for _ in range(4))
    for _ in range(a.reps):
        for s in random.sample(systems, len(systems)):
            (f, g), n = run(s, ["fork", str(a.mb), str(a.forks)])
            fork[s].append(f)
            again[s].append(g)
            # one run without a fork has the faults that the start and the memory cost
            if n is not None:
                faults[s].append((n - run(s, ["fork", str(a.mb), "0"])[1]) / a.forks)
            spawn[s].append(run(s, ["spawn", str(a.spawns), "/bin/true"])[0][0])

    def row(what, values, unit):
        cells = []
        for s in systems:
            if not values[s]:
                cells.append("")
                continue
            m = statistics.median(values[s])
            base = values.get("native")
            ratio = f" ({m / statistics.median(base):.2f})" if base and s != "native" else ""
            cells.append(f"{m:,.0f}{unit}{ratio}")
        return f"| {what} | " + " | ".join(cells) + " |"

    table = "\n".join([
        "# New processes", "",
        f"Medians of {a.reps} runs, all systems in turn, on {os.cpu_count()} CPUs; the ratio to native is in brackets. Made by `make "
        "bench-fork`.", "",
        "| | " + " | ".join(systems) + " |", "| --- |" + " --- |" * len(systems),
        row(f"fork, exit, wait, {a.mb} MB held", fork, " µs"),
        row("the parent stores to all of it again", again, " µs"),
        row("page faults of both, a round", faults, ""),
        row(f"posix_spawn of /bin/true, {a.spawns} times, each", spawn, " µs")]) + "\n"
    os.makedirs(os.path.join(BENCH, "results"), exist_ok=True)
    with open(os.path.join(BENCH, "results", "fork.md"), "w") as f:
        f.write(table)
    print(table)


if __name__ == "__main__":
    main()
