# SPDX-License-Identifier: ISC
"""One unit of a suite, run natively and under cowbell in surroundings that are alike.

Both see the same file system (a tree, with what is written kept in memory and
forgotten), /proc, /dev, a /tmp of their own, loopback and no other network, the
same user, environment, directory and host name, an empty standard input and a
pipe for the output. Natively this is namespaces: mounts, processes, network,
System V IPC, host name; as root, or in a user namespace where one may be made.
Process 1 of the namespace is a shell there and the library OS here.

A run is bounded in time and in what is kept of its output.
"""
import os
import select
import shlex
import signal
import subprocess
import time

KEEP = 4 << 20  # bytes of output that are looked at: the first and the last half of that

# $1 root, $2 scratch directory, $3 "ro" for a throw-away layer above it or "rw", $4 directory, $5 user; the rest is the command.
NATIVE = r"""
set -e
root=$1 scratch=$2 mode=$3 cwd=$4 user=$5
shift 5
[ $user = root ] || { chroot() { command chroot --userspec=$user:$user --groups= "$@"; }; }
mount --make-rprivate /
hostname cowbell
ip link set lo up
mount -t tmpfs -o size=4g tmpfs "$scratch"
mkdir "$scratch/up" "$scratch/work" "$scratch/root"
if [ $mode = ro ]; then
	mount -t overlay overlay -o "lowerdir=$root,upperdir=$scratch/up,workdir=$scratch/work" "$scratch/root"
else
	mount --bind "$root" "$scratch/root"
fi
r=$scratch/root
mount -t proc proc "$r/proc"
mount --rbind /sys "$r/sys" 2>/dev/null || :
mount -t tmpfs -o mode=755 tmpfs "$r/dev"
for n in null zero full random urandom tty; do : > "$r/dev/$n"; mount --bind /dev/$n "$r/dev/$n"; done
mkdir "$r/dev/pts" "$r/dev/shm" "$r/dev/mqueue"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$r/dev/pts"
mount -t mqueue mqueue "$r/dev/mqueue" 2>/dev/null || :
ln -s pts/ptmx "$r/dev/ptmx"
ln -s /proc/self/fd "$r/dev/fd"
ln -s fd/0 "$r/dev/stdin"; ln -s fd/1 "$r/dev/stdout"; ln -s fd/2 "$r/dev/stderr"
mount -t tmpfs -o mode=1777 tmpfs "$r/dev/shm"
mount -t tmpfs -o mode=1777 tmpfs "$r/tmp"
chroot "$r" /bin/sh -c 'cd "$1" && shift && exec "$@"' sh "$cwd" "$@"
exit $?
"""


def unshare():
    user = [] if os.geteuid() == 0 else ["-U", "-r"]
    return ["unshare", *user, "-m", "-p", "-n", "-u", "-i", "--fork", "--kill-child=KILL"]


def surroundings(suite):
    return {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "USER": suite.user, "LOGNAME": suite.user,
            "HOME": "/root" if suite.user == "root" else "/home/" + suite.user, "LANG": "C.UTF-8", "TERM": "dumb", **suite.env}


def run(argv, env, seconds, grace=3):
    """Status (128+N for a signal, 'timeout'), output, seconds that it took."""
    start = time.monotonic()
    p = subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    head, tail, late = b"", b"", False
    deadline = start + seconds
    os.set_blocking(p.stdout.fileno(), False)
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            if late:
                break
            late, deadline = True, deadline + grace
            os.killpg(p.pid, signal.SIGTERM)
            continue
        ready = select.select([p.stdout], [], [], min(left, 0.2))[0]
        data = p.stdout.read(65536) if ready else None
        if data == b"" or (not ready and p.poll() is not None):
            break
        if data:
            room = KEEP // 2 - len(head)
            head, data = head + data[:max(room, 0)], data[max(room, 0):]
            tail = (tail + data)[-KEEP // 2:]
    if late or p.poll() is None:
        try:
            p.wait(timeout=max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            late = True
    try:
        os.killpg(p.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    st = p.wait()
    p.stdout.close()
    took = time.monotonic() - start
    text = head.decode("utf-8", "replace") + ("\n[...]\n" if len(tail) == KEEP // 2 else "") + tail.decode("utf-8", "replace")
    return ("timeout" if late else 128 - st if st < 0 else st), text, took


def native(root, suite, unit, scratch):
    """A unit on the host's own kernel."""
    os.makedirs(scratch, exist_ok=True)
    argv = [*unshare(), "sh", "-c", NATIVE, "sh", root, scratch, "ro", suite.cwd, suite.user, *suite.command(unit)]
    r = run(argv, {**surroundings(suite)}, suite.timeout)
    os.rmdir(scratch)
    return r


def guest(cowbell, monitor, image, suite, unit, cache):
    """The same unit in an instance of its own. It gets more time: a wait for a slower machine is not a difference."""
    limit = suite.timeout * suite.patience + 10
    argv = [cowbell, "run", "--monitor", monitor, "--root", image, "-m", suite.memory, "-u", suite.user, "-w", suite.cwd, "--egress", "none",
            "--timeout", "%ds" % limit]
    for k, v in surroundings(suite).items():
        argv += ["-e", "%s=%s" % (k, v)]
    env = {"PATH": os.environ.get("PATH", ""), "HOME": os.environ.get("HOME", "/"), "XDG_CACHE_HOME": cache}
    if "XDG_RUNTIME_DIR" in os.environ:
        env["XDG_RUNTIME_DIR"] = os.environ["XDG_RUNTIME_DIR"]
    status, text, took = run([*argv, "--", *suite.command(unit)], env, limit + 20)
    return ("timeout" if status == 124 and took > limit - 1 else status), text, took


def build(root, commands, log):
    """The suite's build commands, inside of its root, which they change. Status."""
    scratch = root + ".mount"
    os.makedirs(scratch, exist_ok=True)
    env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8", "TERM": "dumb"}
    status, text, _ = run([*unshare(), "sh", "-c", NATIVE, "sh", root, scratch, "rw", "/src", "root", "sh", "-exc", commands], env, 3600)
    os.rmdir(scratch)
    with open(log, "w", encoding="utf-8") as f:
        f.write(text)
    return 1 if status == "timeout" else status


def shown(suite, monitor, image, unit):
    """The command that repeats a unit, for whoever looks for the cause."""
    env = " ".join("-e %s=%s" % (k, shlex.quote(v)) for k, v in surroundings(suite).items())
    return "cowbell run --monitor %s --root %s -m %s -u %s -w %s --egress none %s -- %s" % (
        monitor, image, suite.memory, suite.user, suite.cwd, env, shlex.join(suite.command(unit)))
