# SPDX-License-Identifier: ISC
"""What is known: results of runs, and the differences that are accepted.

RESULTS is one file a suite in the work directory, a JSON object a line, written
when a unit has ended; a later line of the same unit and place replaces an
earlier one. Place is `native` or a monitor.

    {"suite", "version", "place", "unit", "build", "cases": {case: result},
     "status", "seconds", "tries", "details": {case: [..]}}

KNOWN DIFFERENCES is a file of the repository, one line each:

    suite case monitor result cause in words

case without blanks (they are written as _), monitor a name or * for all.

MEASURED, also of the repository, is what the documentation is generated from:
a line `case native process kvm` for each case, below a head that says which
version and build; made from RESULTS by `run docs`.
"""
import json
import os
import re

from lib import debian
from lib.suite import HERE

MONITORS = ["process", "kvm"]
KNOWN = os.path.join(HERE, "known-differences")


def word(case):
    return re.sub(r"\s+", "_", case.strip())


class Results:
    """All results of one suite at one version."""

    def __init__(self, suite, version):
        self.suite, self.version = suite, version
        d = os.path.join(debian.work_dir(), "results")
        os.makedirs(d, exist_ok=True)
        self.path = os.path.join(d, suite.name + ".jsonl")
        self.units = {}  # (place, unit) -> line
        if os.path.exists(self.path):
            with open(self.path, encoding="utf-8") as f:
                for line in f:
                    try:
                        r = json.loads(line)
                    except ValueError:
                        continue  # the machine ended while it was written
                    if r["version"] == version:
                        self.units[r["place"], r["unit"]] = r

    def get(self, place, unit, build=None):
        r = self.units.get((place, unit))
        return r if r and (build is None or r["build"] == build) else None

    def put(self, place, unit, build, cases, status, seconds, tries, details):
        r = {"suite": self.suite.name, "version": self.version, "place": place, "unit": unit, "build": build,
             "cases": {word(k): v for k, v in cases.items()}, "status": status, "seconds": round(seconds, 2), "tries": tries,
             "details": {word(k): v for k, v in details.items()}}
        self.units[place, unit] = r
        with open(self.path, "a", encoding="utf-8") as f:
            f.write(json.dumps(r, sort_keys=True) + "\n")
        return r

    def output_path(self, place, unit):
        d = os.path.join(debian.work_dir(), "output", self.suite.name, place)
        os.makedirs(d, exist_ok=True)
        return os.path.join(d, re.sub(r"[^\w.+-]", "_", unit)[:150] + ".txt")


def differences(native, here):
    """Cases that pass natively and not here: {case: result}."""
    return {c: here["cases"].get(c, "missing") for c, r in native["cases"].items()
            if r == "pass" and here["cases"].get(c, "missing") != "pass"}


def known_differences():
    """{(suite, case, monitor): (result, cause)}"""
    known = {}
    if not os.path.exists(KNOWN):
        return known
    with open(KNOWN, encoding="utf-8") as f:
        for n, line in enumerate(f, 1):
            if not line.strip() or line.startswith("#"):
                continue
            fields = line.split(None, 4)
            if len(fields) < 5:
                raise SystemExit("%s:%d: not `suite case monitor result cause`" % (KNOWN, n))
            for m in MONITORS if fields[2] == "*" else [fields[2]]:
                known[fields[0], fields[1], m] = (fields[3], fields[4].strip())
    return known


def surprises(suite, monitor, native, here, known):
    """What a unit's run says that known-differences does not: [(case, sentence)]."""
    out, diff = [], differences(native, here)
    for case, r in native["cases"].items():
        if r != "pass":
            continue
        got = diff.get(case, "pass")
        want = known.get((suite.name, case, monitor), ("pass", ""))[0]
        # What sometimes passes is noted as such; nothing of it is a surprise.
        if got == want or want == "flaky":
            continue
        out.append((case, "passes here now, and known-differences says %s" % want if got == "pass" else
                    "passes natively; here: %s" % got if want == "pass" else "here: %s; known-differences says %s" % (got, want)))
    return out
