# SPDX-License-Identifier: ISC
"""Node's test/parallel, a seeded sample of 600, with Debian's node; one unit a script."""
import hashlib
import os
import re

from lib.suite import Suite

SEED = "cowbell conformance 1"
SAMPLE = 600
FLAGS = {}  # unit -> what its "// Flags:" line gives node, found by units()


def units(root):
    d = os.path.join(root, "src/nodejs/test/parallel")
    names = [n for n in os.listdir(d) if re.fullmatch(r"test-.*\.m?js", n)]
    names.sort(key=lambda n: hashlib.sha256((SEED + n).encode()).digest())
    for n in names[:SAMPLE]:
        with open(os.path.join(d, n), encoding="utf-8") as f:
            m = re.search(r"//\s+Flags:(.*)", f.read())
        FLAGS[n] = m[1].split() if m else []
    return sorted(names[:SAMPLE])


def parse(suite, unit, status, text):
    skip = re.search(r"^1\.\.0 # Skipped", text, re.M)
    return {unit: "timeout" if status == "timeout" else "skip" if skip and status == 0 else "pass" if status == 0 else "fail"}


SUITE = Suite(
    name="node",
    title="Node's test/parallel",
    about="Debian's source package `nodejs` with Debian's `node`: %d scripts of `test/parallel`, drawn by a hash of their names with a fixed seed; "
          "a case is a script that ends with status 0." % SAMPLE,
    packages=["nodejs", "libnode108", "openssl", "ca-certificates", "python3-minimal"],
    source="nodejs",
    # Only what tests look at stays: the rest is the sources of what Debian built.
    build="""
cd nodejs
find deps -mindepth 1 -maxdepth 1 ! -name npm ! -name acorn ! -name undici ! -name v8 -exec rm -rf {} +
find deps/v8 -mindepth 1 -maxdepth 1 ! -name tools -exec rm -rf {} + 2>/dev/null || true
rm -rf doc/changelogs types-node
mkdir -p out/Release
ln -s /usr/bin/node out/Release/node
""",
    units=units,
    command=lambda unit: ["/usr/bin/node", *FLAGS[unit], "test/parallel/" + unit],
    parse=parse,
    cwd="/src/nodejs",
    env={"NODE_TEST_DIR": "/tmp", "NODE_TEST_NO_INTERNET": "1", "NODE_SKIP_FLAG_CHECK": "1"},
    memory="4G",
    timeout=60,
    target=90,
    ci=60,
)
