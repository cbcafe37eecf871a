# SPDX-License-Identifier: ISC
"""busybox's testsuite: one unit an applet, whose tests print PASS, FAIL or SKIPPED, a case each."""
import os
import re

from lib.suite import Suite


def units(root):
    d = os.path.join(root, "src/busybox/testsuite")
    return sorted({n.split(".")[0] if n.endswith(".tests") else n for n in os.listdir(d)
                   if n.endswith(".tests") or os.path.isdir(os.path.join(d, n))})


WORDS = {"PASS": "pass", "FAIL": "fail", "SKIPPED": "skip", "UNTESTED": "skip"}


def parse(suite, unit, status, text):
    cases = {}
    for result, name in re.findall(r"^(PASS|FAIL|SKIPPED|UNTESTED): (.*)$", text, re.M):
        case, n = "%s/%s" % (unit, name.strip()), 2
        while case in cases:
            case, n = "%s/%s.%d" % (unit, name.strip(), n), n + 1
        cases[case] = WORDS[result]
    if status == "timeout":
        cases[unit + "/ends"] = "timeout"
    elif cases:
        cases[unit + "/ends"] = "pass"
    return cases


SUITE = Suite(
    name="busybox",
    title="busybox's tests",
    about="Debian's source package `busybox`, built with its default configuration; a case is a test that `testsuite/runtest` prints, "
          "and that the run of each applet's tests ends.",
    packages=["gcc", "libc6-dev", "make", "bzip2", "perl-base", "xz-utils", "file", "dpkg-dev"],
    source="busybox",
    build="""
cd busybox
make defconfig >/dev/null
sed -i -e 's/^CONFIG_TC=y/# CONFIG_TC is not set/' -e 's/^CONFIG_FEATURE_TC_INGRESS=y//' .config
yes '' | make oldconfig >/dev/null
make -j2 >/dev/null
cd testsuite && ./runtest true >/dev/null || true
""",
    units=units,
    command=lambda unit: ["/src/busybox/testsuite/runtest", "-v", unit],
    parse=parse,
    cwd="/src/busybox/testsuite",
    env={"VERBOSE": "", "SKIP_INTERNET_TESTS": "1"},
    timeout=120,
    target=97,
    ci=24,
    ci_from=lambda unit: unit != "all_sourcecode",
)
