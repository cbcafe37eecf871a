# SPDX-License-Identifier: ISC
"""CPython's regression tests, module by module, with Debian's Python."""
import os
import re

from lib.suite import Suite


def units(root):
    d = os.path.join(root, "usr/lib/python3.11/test")
    return sorted(n[:-3] if n.endswith(".py") else n for n in os.listdir(d)
                  if n.startswith("test_") and (n.endswith(".py") or os.path.exists(os.path.join(d, n, "__init__.py"))))


def parse(suite, unit, status, text):
    if status == "timeout":
        return {unit: "timeout"}
    if re.search(r"^%s skipped" % unit, text, re.M) or "1 test skipped" in text or "NO TESTS RAN" in text:
        return {unit: "skip"}
    return {unit: "pass" if status == 0 else "fail"}


def details(text):
    return list(dict.fromkeys("%s %s" % m for m in re.findall(r"^(FAIL|ERROR): (\S+ \(\S+\))", text, re.M)))


SUITE = Suite(
    name="cpython",
    title="CPython regression tests",
    about="Debian's `libpython3.11-testsuite`; a case is a module, run with `python3 -m test MODULE`, without the resources "
          "that are off by default (network, large files, much CPU).",
    packages=["libpython3.11-testsuite", "python3.11", "python3-minimal", "libsqlite3-0", "ca-certificates", "openssl"],
    version_of="libpython3.11-testsuite",
    build="python3.11 -m compileall -q /usr/lib/python3.11 >/dev/null || true",
    units=units,
    command=lambda unit: ["/usr/bin/python3.11", "-m", "test", "--timeout", "500", unit],
    parse=parse,
    details=details,
    cwd="/tmp",
    env={"PYTHONHASHSEED": "1"},
    memory="2G",
    timeout=180,
    target=97,
    ci=24,
    ci_from=lambda unit: not re.search("multiprocessing|concurrent|asyncio|subprocess|zipfile", unit),
)
