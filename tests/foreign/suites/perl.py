# SPDX-License-Identifier: ISC
"""Perl's core tests, t/ and lib/, with Debian's perl; one unit a script."""
import os
import re

from lib.suite import Suite

# t/bigmem, t/benchmark and t/porting need much memory, much time, or check the source tree; t/win32 and t/japh say nothing here.
DIRS = ["base", "class", "cmd", "comp", "io", "lib", "mro", "op", "opbasic", "perf", "re", "run", "test_pl", "uni"]
SWITCHES = {}  # unit -> what the script's first line asks for, found by units()


def units(root):
    """t/DIR/NAME.t and lib/**/NAME.t that the source package has."""
    top = os.path.join(root, "src/perl")
    with open(os.path.join(top, "MANIFEST"), encoding="utf-8", errors="replace") as f:
        names = [line.split()[0] for line in f if line.split()]
    found = [n for n in names if n.endswith(".t") and (n.startswith("lib/") or (n.startswith("t/") and n.split("/")[1] in DIRS))]
    for n in found:
        with open(os.path.join(top, n), "rb") as f:
            m = re.match(rb"#!.*perl.*?\s-([tTwW].*)$", f.readline())
        SWITCHES[n] = ("-" + m[1].decode("latin-1")).split() if m else []
    return sorted(found)


def command(unit):
    """As t/TEST does it: in t/, with the library of the tree, and as a shell's child, so that it leads no session."""
    init = [] if unit.split("/")[1] in ("base", "comp", "run") and unit.startswith("t/") else [
        "-I..", "-MTestInit=U1" if unit.startswith("lib/") else "-MTestInit"]
    return ["/bin/sh", "-c", '"$@"; exit $?', "sh", "./perl", *init, *SWITCHES[unit], unit[2:] if unit.startswith("t/") else "../" + unit]


def parse(suite, unit, status, text):
    """A script is one case: its plan fulfilled, nothing `not ok` but what is to do, status 0."""
    if status == "timeout":
        return {unit: "timeout"}
    plans = re.findall(r"^1\.\.(\d+)", text, re.M)
    if plans and plans[-1] == "0":
        return {unit: "skip"}
    bad = [l for l in re.findall(r"^not ok\b.*$", text, re.M) if not re.search(r"# *TODO\b", l, re.I)]
    results = len(re.findall(r"^(?:not )?ok\b", text, re.M))
    # a script may print more than what is kept of it
    right = plans and not bad and status == 0 and (results == int(plans[-1]) or "\n[...]\n" in text)
    return {unit: "pass" if right else "fail"}


def details(text):
    return [re.sub(r"\s+", " ", l)[:100] for l in re.findall(r"^not ok\b.*$", text, re.M) if not re.search(r"# *TODO\b", l, re.I)]


SUITE = Suite(
    name="perl",
    title="Perl's core tests",
    about="Debian's source package `perl`, the scripts of `t/` and `lib/` with Debian's perl and its installed modules; a case is a script. "
          "Not run: `t/bigmem`, `t/benchmark`, `t/porting`, `t/win32`, `t/japh`.",
    packages=["perl", "perl-modules-5.36", "libperl5.36", "gcc", "libc6-dev", "make"],
    source="perl",
    build="""
cd perl
for d in /usr/lib/x86_64-linux-gnu/perl-base /usr/lib/x86_64-linux-gnu/perl/5.36.0 /usr/share/perl/5.36.0; do
	cp -a --remove-destination $d/. lib/
done
cp /usr/bin/perl perl
ln -s ../perl t/perl
""",
    units=units,
    command=command,
    parse=parse,
    details=details,
    cwd="/src/perl/t",
    env={"PERL_CORE": "1", "PERL_DESTRUCT_LEVEL": "2", "PERL_DL_NONLAZY": "1", "LC_ALL": "C", "PERL_SKIP_TTY_TEST": "1"},
    memory="2G",
    timeout=300,
    target=97,
    ci=60,
)
