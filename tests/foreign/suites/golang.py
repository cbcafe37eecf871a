# SPDX-License-Identifier: ISC
"""Tests of Go's standard library; one unit a test file of a package, one case a Test function."""
import os
import re

from lib.suite import Suite

PACKAGES = ["net", "os", "os/signal", "os/exec", "syscall", "time", "runtime"]
TESTS = {}  # unit -> its Test functions, found by units()


def binary(package):
    return "/src/go/%s.test" % package.replace("/", "_")


def units(root):
    """PACKAGE/FILE for each test file with functions that the package's test program has."""
    for package in PACKAGES:
        with open(root + binary(package) + ".list", encoding="utf-8") as f:
            has = set(re.findall(r"^Test\w*$", f.read(), re.M))
        d = os.path.join(root, "usr/share/go-1.19/src", package)
        for name in sorted(os.listdir(d)):
            if name.endswith("_test.go"):
                with open(os.path.join(d, name), encoding="utf-8") as f:
                    tests = [t for t in re.findall(r"^func (Test\w*)\(\w+ \*(?:testing\.)?T\)", f.read(), re.M) if t in has]
                if tests:
                    TESTS["%s/%s" % (package, name[:-3])] = tests
                    has -= set(tests)
    return sorted(TESTS)


def command(unit):
    package = unit.rsplit("/", 1)[0]
    return ["/bin/sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", "/usr/share/go-1.19/src/" + package, binary(package),
            "-test.v", "-test.short", "-test.timeout", "1200s", "-test.run", "^(%s)$" % "|".join(TESTS[unit])]


def parse(suite, unit, status, text):
    package = unit.rsplit("/", 1)[0]
    words = {"PASS": "pass", "FAIL": "fail", "SKIP": "skip"}
    # A test's own output may stand before its verdict in a line.
    cases = {"%s.%s" % (package, t): words[r] for r, t in re.findall(r"--- (PASS|FAIL|SKIP): (Test\w*) \(", text)}
    for t in re.findall(r"=== RUN   (Test\w*)\s", text):
        cases.setdefault("%s.%s" % (package, t), "timeout" if status == "timeout" or "panic: test timed out" in text else "fail")
    return cases


def details(text):
    return re.findall(r"--- FAIL: (Test\S*/\S*)", text)


SUITE = Suite(
    name="golang",
    title="Go's standard library",
    about="Debian's `golang-1.19-src`, which is of the source package `golang-1.19`: tests of net, os, os/signal, os/exec, syscall, time and runtime, "
          "in short mode, built by `go test -c`; a case is a Test function.",
    packages=["golang-1.19-go", "golang-1.19-src", "gcc", "libc6-dev", "git", "iproute2"],
    version_of="golang-1.19-src",
    # The zone file that time's tests insist on is not in the package; it is made from the system's zones.
    # What the tests of runtime build is built once before, so that the build cache has it.
    build=r"""
ln -s ../lib/go-1.19/bin/go /usr/bin/go
ln -s ../lib/go-1.19/bin/gofmt /usr/bin/gofmt
mkdir -p go /usr/lib/go-1.19/lib/time
export GOPROXY=off HOME=/root
cat >/tmp/zones.go <<'END'
package main

import (
	"archive/zip"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

func main() {
	out, err := os.Create(os.Args[2])
	if err != nil {
		panic(err)
	}
	z := zip.NewWriter(out)
	err = filepath.WalkDir(os.Args[1], func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil || !strings.HasPrefix(string(data), "TZif") {
			return err
		}
		w, err := z.CreateHeader(&zip.FileHeader{Name: path[len(os.Args[1])+1:], Method: zip.Store})
		if err == nil {
			_, err = w.Write(data)
		}
		return err
	})
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		panic(err)
	}
}
END
go run /tmp/zones.go /usr/share/zoneinfo /usr/lib/go-1.19/lib/time/zoneinfo.zip
for p in net os os/signal os/exec syscall time runtime; do
	n=$(echo $p | tr / _)
	cd /usr/lib/go-1.19/src/$p
	go test -c -o /src/go/$n.test .
	/src/go/$n.test -test.list '^Test' >/src/go/$n.test.list
done
cd /usr/lib/go-1.19/src/runtime/testdata
for p in testprog testprogcgo testprognet; do (cd $p && go build -o /tmp/$p .); done
""",
    units=units,
    command=command,
    parse=parse,
    details=details,
    cwd="/tmp",
    env={"GOPROXY": "off", "TMPDIR": "/tmp"},
    memory="4G",
    timeout=400,
    target=90,
    ci=["net/conn_test", "net/tcpsock_test", "net/udpsock_test", "net/unixsock_test", "net/listen_test", "net/timeout_test", "net/sendfile_test",
        "os/os_test", "os/pipe_test", "os/path_test", "os/signal/signal_test", "os/exec/exec_test", "syscall/syscall_linux_test", "time/sleep_test",
        "time/tick_test", "runtime/chan_test", "runtime/proc_test", "runtime/gc_test", "runtime/rwmutex_test"],
)
