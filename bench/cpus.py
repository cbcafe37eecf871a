#!/usr/bin/python3
# SPDX-License-Identifier: ISC
"""`make bench-cpus`: what a second CPU brings, natively and under both monitors, in turn in one run.

For each kind of work the rate of two workers on two CPUs against that of one worker; natively the machine's own CPUs. Medians of the
ratios of pairs that ran right after one another. A table on standard output, and in bench/results/cpus.md.

    bench/cpus.py [--reps N] [--systems native,kvm,process] [--kinds threads,go,...]
"""
import argparse
import os
import random
import shutil
import statistics
import subprocess
import sys

sys.dont_write_bytecode = True
from common import BENCH, BIN, COWBELL, Failed, build, kvm_usable, output  # noqa: E402

# kind: what it is, and the command but for the number of workers
KINDS = {
    "threads": ("C, threads compute", ["./cpus", "threads"]),
    "processes": ("C, processes compute", ["./cpus", "processes"]),
    "go": ("Go, goroutines compute", ["./cpus-go"]),
    "java": ("Java, a pool's threads compute", ["java", "-Xshare:auto", "-cp", ".", "Cpus"]),
    "node": ("Node, worker threads compute", ["node", "cpus.js"]),
    "malloc": ("C, threads allocate and free", ["./cpus", "malloc"]),
    "lock": ("C, threads share a mutex", ["./cpus", "lock"]),
    "faults": ("C, threads touch fresh memory", ["./cpus", "faults"]),
    "calls": ("C, threads make system calls", ["./cpus", "calls"]),
}
COMPILERS = {"go": ["go", "build", "-o", os.path.join(BIN, "cpus-go"), os.path.join(BENCH, "cpus.go")],
             "java": ["javac", "-d", BIN, os.path.join(BENCH, "Cpus.java")]}


def rate(system, command, workers):
    cmd = [*command, str(workers)]
    if system != "native":
        cmd = [COWBELL, "run", "--monitor", system, "--cpus", str(workers), "-m", "1G", "--", *cmd]
    return float(output(cmd, timeout=300).split()[0])


def prepare(kinds):
    """Builds what there is a compiler for; the kinds that can be run."""
    build()
    shutil.copy(os.path.join(BENCH, "cpus.js"), BIN)
    there = []
    for k in kinds:
        tool = COMPILERS.get(k, KINDS[k][1])[0]
        if not tool.startswith("./") and not shutil.which(tool):
            print(f"{k}: no {tool} here", file=sys.stderr)
            continue
        if k in COMPILERS:
            subprocess.run(COMPILERS[k], check=True)
        there.append(k)
    return there


def main():
    ap = argparse.ArgumentParser(description="What a second CPU brings, natively and under both monitors.")
    ap.add_argument("--reps", type=int, default=5)
    ap.add_argument("--systems", default="native,kvm,process")
    ap.add_argument("--kinds", default=",".join(KINDS))
    a = ap.parse_args()
    systems = [s for s in a.systems.split(",") if s != "kvm" or kvm_usable()]
    rows = []
    for k in prepare(a.kinds.split(",")):
        name, command = KINDS[k]
        ratios = {s: [] for s in systems}
        for _ in range(a.reps):
            for s in random.sample(systems, len(systems)):
                try:
                    one, two = rate(s, command, 1), rate(s, command, 2)
                    ratios[s].append(two / one)
                except Failed as e:
                    print(f"{k}, {s}: {e}", file=sys.stderr)
        rows.append(f"| {name} | " + " | ".join(f"{statistics.median(r):.2f}" if r else "failed" for r in ratios.values()) + " |")
        print(rows[-1], file=sys.stderr)
    table = "\n".join([
        "# A second CPU", "",
        f"The rate of two workers on two CPUs against that of one on one: 2 is all that can be had. Medians of {a.reps} pairs, all systems in "
        f"turn, on a machine of {os.cpu_count()} CPUs. Made by `make bench-cpus`.", "",
        "| | " + " | ".join(systems) + " |", "| --- |" + " --- |" * len(systems), *rows]) + "\n"
    os.makedirs(os.path.join(BENCH, "results"), exist_ok=True)
    with open(os.path.join(BENCH, "results", "cpus.md"), "w") as f:
        f.write(table)
    print(table)


if __name__ == "__main__":
    main()
