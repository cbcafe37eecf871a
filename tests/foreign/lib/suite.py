# SPDX-License-Identifier: ISC
"""What a suite is. One file in suites/ each, which sets SUITE.

A *unit* is what is run at once, in an instance of its own: a test module, a
script, a named test of a program. It yields one or many *cases*, each with one
of the results

    pass fail skip timeout missing

where `missing` is a case that the native run has and this one never came to.
Only a case that passes natively is counted; under cowbell it then passes, or it
is a difference. A case that is skipped here but passes natively is one, too.
"""
import dataclasses
import importlib.util
import os
import typing

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def by_status(suite, unit, status, text):
    """The plain way: a unit is one case, and its exit status says it all."""
    return {unit: "timeout" if status == "timeout" else "pass" if status == 0 else "fail"}


@dataclasses.dataclass
class Suite:
    name: str
    title: str  # of the documentation
    about: str  # where it comes from and what is run, one or two sentences
    packages: list  # Debian's binary packages, without dependencies and lib/debian.py's BASE
    units: typing.Callable  # (root directory) -> names of all units
    command: typing.Callable  # (unit) -> argv inside of the root
    version_of: str = ""  # the package whose version is the suite's, if it is not a source package
    source: str = ""  # Debian's source package, unpacked to /src/NAME
    build: str = ""  # shell commands, run inside of the root in /src
    parse: typing.Callable = by_status  # (suite, unit, status or "timeout", output) -> {case: result}
    details: typing.Callable = None  # (output) -> what failed inside of a case, a list of words
    cwd: str = "/tmp"
    user: str = "root"  # or "tester", number 1000; natively this takes root
    env: dict = dataclasses.field(default_factory=dict)
    memory: str = "1G"
    timeout: int = 60  # seconds, natively
    patience: int = 3  # times as many under cowbell
    target: float = 95.0  # percent
    ci: object = 0  # units of the part that CI runs: a list, or how many are drawn with the fixed seed
    ci_from: typing.Callable = None  # (unit) -> may it be drawn
    unless: dict = dataclasses.field(default_factory=dict)  # unit -> why it is not run at all


def names():
    return sorted(f[:-3] for f in os.listdir(os.path.join(HERE, "suites")) if f.endswith(".py"))


def load(name):
    path = os.path.join(HERE, "suites", name + ".py")
    spec = importlib.util.spec_from_file_location("foreign_" + name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.SUITE.name == name, path
    return module.SUITE
