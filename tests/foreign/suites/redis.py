# SPDX-License-Identifier: ISC
"""Redis's own tests: the Tcl harness with its servers, all in one instance, one unit a test file."""
import os
import re

from lib.suite import Suite


def units(root):
    with open(os.path.join(root, "src/redis/tests/test_helper.tcl"), encoding="utf-8") as f:
        return re.search(r"set ::all_tests \{(.*?)\}", f.read(), re.S)[1].split()


def parse(suite, unit, status, text):
    """
    [ok], [err], [skip] lines. A name that comes several times is one case, which passes when all do, and numbers that are
    drawn by chance are no part of it: how often is a matter of time in some tests.
    """
    cases = {}
    for result, name in re.findall(r"^\[(ok|err|skip|ignore|exception)\]: (.*)$", re.sub(r"\x1b\[[0-9;]*m", "", text), re.M):
        name = re.sub(r" \(\d+ ms\)$| in tests/\S+\.tcl$", "", name)
        case = "%s/%s" % (unit, re.sub(r"[\d.]+(?=ms\b)|#\d+\b(?!:? *regression)|(?<=CYCLE )\d+|(?<=x = )\d+", "N", name))
        r = {"ok": "pass", "skip": "skip", "ignore": "skip"}.get(result, "fail")
        if cases.get(case) != "fail":
            cases[case] = r
    if cases:
        cases[unit + "/ends"] = "timeout" if status == "timeout" else "pass" if status == 0 else "fail"
    return cases


SUITE = Suite(
    name="redis",
    title="Redis's own tests",
    about="Debian's source package `redis` with Debian's `redis-server`; a case is a test that the Tcl harness prints, and that a file "
          "ends without errors. Harness, servers and replicas are processes of one instance.",
    packages=["tcl8.6", "redis-server", "redis-tools", "redis-sentinel"],
    source="redis",
    build="""
cd redis
mkdir -p tests/tmp
for p in redis-server redis-cli redis-benchmark redis-check-aof redis-check-rdb redis-sentinel; do ln -sf /usr/bin/$p src/$p; done
""",
    units=units,
    # A unit that fails goes on to its next test (--durable).
    command=lambda unit: ["/usr/bin/tclsh8.6", "tests/test_helper.tcl", "--clients", "1", "--durable", "--timeout", "300", "--single", unit],
    parse=parse,
    cwd="/src/redis",
    memory="6G",
    timeout=600,
    target=95,
    ci=["unit/auth", "unit/protocol", "unit/keyspace", "unit/scan", "unit/type/hash", "unit/expire", "unit/multi", "unit/pubsub",
        "unit/quit", "unit/acl", "integration/logging", "integration/rdb", "unit/aofrw", "unit/networking"],
)
