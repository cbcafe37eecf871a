# SPDX-License-Identifier: ISC
"""Debian packages as file systems that nothing of the host takes part in.

A suite names binary packages and perhaps one source package. apt, with a
configuration, lists and a (empty) package state of its own below the work
directory, resolves and downloads them and checks every file against the signed
lists; nothing in /etc changes and nothing is installed. The packages are
unpacked into a directory, no maintainer script runs, and the suite's build
commands run inside of it. The result is remembered by a digest of what decided
it (packages with versions, build commands): another recipe, another root.

Where the packages come from is what the host's own apt uses, with deb-src
added; a host that is not Debian 12 names a file in sources.list format with
COWBELL_FOREIGN_SOURCES.
"""
import fcntl
import glob
import hashlib
import os
import re
import shutil
import subprocess

from lib import isolate

CODENAME = "bookworm"
# What a shell script expects to find, and what maintainer scripts would have made of it.
BASE = ["base-files", "base-passwd", "bash", "coreutils", "dash", "debianutils", "diffutils", "findutils", "grep", "gzip",
        "hostname", "libc-bin", "mawk", "ncurses-base", "ncurses-bin", "netbase", "procps", "sed", "tar", "tzdata", "util-linux"]


class Unavailable(Exception):
    """A suite that cannot be had here; its text says why."""


def work_dir():
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.environ.get("COWBELL_FOREIGN") or os.path.join(base, "cowbell-foreign")


class Lock:
    """One preparation at a time, also of several runs side by side."""

    def __init__(self, name):
        os.makedirs(work_dir(), exist_ok=True)
        self.path = os.path.join(work_dir(), name + ".lock")

    def __enter__(self):
        self.f = open(self.path, "w")
        fcntl.flock(self.f, fcntl.LOCK_EX)

    def __exit__(self, *unused):
        self.f.close()


def one_line_entries(text):
    """sources.list lines of our release, as (URI, suite, components, options)."""
    for line in text.splitlines():
        m = re.match(r"deb\s+(?:\[(.*?)\]\s+)?(\S+)\s+(\S+)\s+(.+)", line.split("#")[0].strip())
        if m and m[3].startswith(CODENAME):
            yield m[2], m[3], m[4], m[1] or ""


def deb822_entries(text):
    text = "\n".join(l for l in text.splitlines() if not l.startswith("#"))
    for block in re.split(r"\n\s*\n", text):
        f = {k.lower(): v.strip() for k, v in re.findall(r"^([\w-]+):[ \t]*(.*)$", block, re.M)}
        if "deb" not in f.get("types", "").split():
            continue
        for uri in f.get("uris", "").split():
            for suite in f.get("suites", "").split():
                if suite.startswith(CODENAME):
                    key = f.get("signed-by", "")
                    yield uri, suite, f.get("components", "main"), "signed-by=" + key if key else ""


def sources_list():
    """The host's own entries of our release, with deb-src."""
    own = os.environ.get("COWBELL_FOREIGN_SOURCES")
    files = [own] if own else ["/etc/apt/sources.list"] + sorted(glob.glob("/etc/apt/sources.list.d/*"))
    entries = []
    for name in files:
        if os.path.isfile(name):
            with open(name, encoding="utf-8") as f:
                entries += deb822_entries(f.read()) if name.endswith(".sources") else one_line_entries(f.read())
    # Other vendors' archives do not have our release's name and its security updates both; Debian's have "main".
    entries = [e for e in dict.fromkeys(entries) if "main" in e[2].split()]
    if not any(e[1] == CODENAME for e in entries):
        raise Unavailable("apt's sources here have no Debian %s; name a file that has with COWBELL_FOREIGN_SOURCES" % CODENAME)
    return "".join("%s %s%s %s main\n" % (kind, "[%s] " % opt if opt else "", uri, suite)
                   for uri, suite, _, opt in entries for kind in ("deb", "deb-src"))


def apt(*args, cwd=None):
    """apt-get with our own configuration; its standard output."""
    d = os.path.join(work_dir(), "apt")
    if not shutil.which("apt-get"):
        raise Unavailable("no apt-get here")
    for sub in ("lists/partial", "archives/partial"):
        os.makedirs(os.path.join(d, sub), exist_ok=True)
    with open(os.path.join(d, "status"), "a", encoding="utf-8"):
        pass
    with open(os.path.join(d, "sources.list"), "w", encoding="utf-8") as f:
        f.write(sources_list())
    with open(os.path.join(d, "apt.conf"), "w", encoding="utf-8") as f:
        f.write('Dir::Etc::sourcelist "%s/sources.list";\nDir::Etc::sourceparts "-";\n' % d +
                'Dir::State "%s";\nDir::State::status "%s/status";\nDir::Cache "%s";\n' % (d, d, d) +
                'APT::Install-Recommends "false";\nAPT::Architecture "amd64";\nAPT::Sandbox::User "";\nDebug::NoLocking "true";\n')
    r = subprocess.run(["apt-get", "-qq", *args], cwd=cwd, env={**os.environ, "APT_CONFIG": d + "/apt.conf", "LC_ALL": "C"},
                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
    if r.returncode:
        raise Unavailable("apt-get %s: %s" % (args[0], r.stderr.strip().splitlines()[-1] if r.stderr.strip() else r.returncode))
    return r.stdout


def update_lists():
    lists = os.path.join(work_dir(), "apt", "lists")
    if not glob.glob(lists + "/*_Packages*"):
        apt("update")


def fetch_debs(packages):
    """Downloads the packages and all that they depend on; their paths."""
    want = apt("install", "-y", "--print-uris", *packages)
    apt("install", "-y", "--download-only", *packages)
    names = re.findall(r"^'\S+' (\S+\.deb) ", want, re.M)
    here = os.path.join(work_dir(), "apt", "archives")
    # What was downloaded before is not in the list of URIs.
    debs = re.findall(r"^Inst (\S+) \((\S+) .*?\[(\w+)\]\)", apt("install", "-y", "-s", *packages), re.M)
    names = ["%s_%s_%s.deb" % (n.split(":")[0], v.replace(":", "%3a"), a) for n, v, a in debs]
    return [os.path.join(here, n) for n in names]


def unpack(debs, root):
    """The packages' files. /bin and its like are links, as Debian has them."""
    for d in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        os.makedirs(os.path.join(root, "usr", d), exist_ok=True)
        os.symlink("usr/" + d, os.path.join(root, d))
    for deb in debs:
        data = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE)
        subprocess.run(["tar", "-x", "--keep-directory-symlink", "--no-same-owner", "-f", "-", "-C", root], stdin=data.stdout, check=True)
        if data.wait():
            raise Unavailable("%s cannot be unpacked" % os.path.basename(deb))


def settle(root):
    """The few files that maintainer scripts would have made."""
    def put(path, text):
        with open(os.path.join(root, path), "w", encoding="utf-8") as f:
            f.write(text)

    for kind in ("passwd", "group"):
        shutil.copy("%s/usr/share/base-passwd/%s.master" % (root, kind), "%s/etc/%s" % (root, kind))
    for path, line in (("passwd", "tester:x:1000:1000::/home/tester:/bin/sh"), ("group", "tester:x:1000:")):
        with open("%s/etc/%s" % (root, path), "a", encoding="utf-8") as f:
            f.write(line + "\n")
    put("etc/hosts", "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n127.0.1.1 cowbell\n")
    put("etc/hostname", "cowbell\n")
    put("etc/resolv.conf", "")
    put("etc/nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nservices: files\nprotocols: files\n")
    put("etc/shadow", "root:*:19000:0:99999:7:::\n")
    os.chmod(os.path.join(root, "etc/shadow"), 0o640)
    for link, target in (("usr/bin/awk", "mawk"), ("etc/mtab", "../proc/self/mounts"), ("etc/localtime", "/usr/share/zoneinfo/Etc/UTC"),
                         ("usr/bin/cc", "gcc")):
        if not os.path.lexists(os.path.join(root, link)):
            os.symlink(target, os.path.join(root, link))
    for d in ("proc", "sys", "dev", "tmp", "root", "run", "var/tmp", "src", "home/tester"):
        os.makedirs(os.path.join(root, d), exist_ok=True)
    if os.geteuid() == 0:
        os.chown(os.path.join(root, "home/tester"), 1000, 1000)
    os.chmod(os.path.join(root, "tmp"), 0o1777)
    os.chmod(os.path.join(root, "var/tmp"), 0o1777)


def source_versions(name):
    """The newest, then the others by name: a mirror may lack files of a version that its lists have."""
    r = subprocess.run(["apt-cache", "madison", name], env={**os.environ, "APT_CONFIG": os.path.join(work_dir(), "apt/apt.conf")},
                       stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
    found = re.findall(r"^ *%s \| (\S+) \| .* Sources$" % re.escape(name), r.stdout, re.M)
    return [name, *("%s=%s" % (name, v) for v in dict.fromkeys(found))]


def fetch_source(name, root):
    """The source package, its checksums and Debian's patches, in ROOT/src/NAME; its version."""
    d = os.path.join(work_dir(), "source")
    os.makedirs(d, exist_ok=True)
    for version in source_versions(name):
        try:
            files = re.findall(r"^'\S+' (\S+\.dsc) ", apt("source", "--print-uris", version, cwd=d), re.M)
            apt("source", "--download-only", version, cwd=d)
            break
        except Unavailable as e:
            why = e
    else:
        raise why
    if not shutil.which("dpkg-source"):
        raise Unavailable("no dpkg-source here (package dpkg-dev)")
    dsc = os.path.join(d, files[0]) if files else max(glob.glob(d + "/%s_*.dsc" % name), key=os.path.getmtime)
    subprocess.run(["dpkg-source", "--no-check", "-x", dsc, os.path.join(root, "src", name)], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with open(dsc, encoding="utf-8") as f:
        return re.search(r"^Version: (.*)$", f.read(), re.M)[1]


def recipe(suite):
    text = repr((CODENAME, BASE, suite.packages, suite.source, suite.build, 4))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def prepare(suite, say):
    """The suite's root, made if it is not there; returns (directory, version of what is tested)."""
    place = os.path.join(work_dir(), suite.name)
    root, stamp = os.path.join(place, "root"), os.path.join(place, "stamp")
    with Lock(suite.name):
        if os.path.exists(stamp):
            with open(stamp, encoding="utf-8") as f:
                made, version = f.read().split()
            if made == recipe(suite):
                return root, version
        if suite.user != "root" and os.geteuid() != 0:
            raise Unavailable("%s: its native runs as another user take root" % suite.name)
        say("%s: fetching and building" % suite.name)
        with Lock("apt"):
            update_lists()
            shutil.rmtree(place, ignore_errors=True)
            os.makedirs(root)
            debs = fetch_debs(BASE + suite.packages)
            version = None
            for deb in debs:
                name, v = os.path.basename(deb).split("_")[:2]
                if name == suite.version_of:
                    version = v.replace("%3a", ":")
            unpack(debs, root)
            settle(root)
            if suite.source:
                version = fetch_source(suite.source, root)
        if suite.build:
            out = os.path.join(place, "build.log")
            status = isolate.build(root, suite.build, out)
            if status:
                raise Unavailable("%s: its build ended with status %d; see %s" % (suite.name, status, out))
        with open(stamp, "w", encoding="utf-8") as f:
            f.write("%s %s\n" % (recipe(suite), version))
        return root, version
