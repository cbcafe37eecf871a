# SPDX-License-Identifier: ISC
"""libuv's own tests, each by its name: the runner starts the test and its helper processes."""
import os
import re

from lib.suite import Suite


def units(root):
    """Entries of test-list.h that are tests; helpers and benchmarks are others."""
    with open(os.path.join(root, "src/libuv1/tests.txt"), encoding="utf-8") as f:
        return [n for n in f.read().split() if re.fullmatch(r"\w+", n)]


def parse(suite, unit, status, text):
    if status == "timeout":
        return {unit: "timeout"}
    if re.search(r"^ok \d+ - \S+ # SKIP", text, re.M):
        return {unit: "skip"}
    return {unit: "pass" if status == 0 and re.search(r"^ok \d+ - ", text, re.M) else "fail"}


SUITE = Suite(
    name="libuv",
    title="libuv's tests",
    about="Debian's source package `libuv1`; a case is an entry of `test/test-list.h`, run with `uv_run_tests NAME`.",
    packages=["gcc", "libc6-dev", "make", "cmake", "dpkg-dev"],
    source="libuv1",
    build="""
cd libuv1
cmake -S . -B build -DLIBUV_BUILD_BENCH=OFF -DCMAKE_BUILD_TYPE=RelWithDebInfo >/dev/null
make -C build -j2 uv_run_tests
cp build/uv_run_tests .
chown -R tester:tester .
UV_RUN_AS_ROOT=1 ./uv_run_tests --list | sort -u > tests.txt
""",
    units=units,
    command=lambda unit: ["/src/libuv1/uv_run_tests", unit],
    parse=parse,
    cwd="/src/libuv1",
    user="tester",
    env={"UV_TEST_TIMEOUT_MULTIPLIER": "2"},
    timeout=60,
    target=95,
    ci=60,
)
