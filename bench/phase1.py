# SPDX-License-Identifier: ISC
"""Phase 1, for comparison: a program as the only one of a Linux guest in QEMU (Debian's cloud kernel, emulated CPU).

The initramfs holds busybox for the few steps before the program (mounts, network driver, address), the program, its libraries,
and for Python the modules that the app imports. The network is QEMU's own user network with one port of loopback forwarded.
"""
import glob
import gzip
import os
import re
import shutil
import subprocess

from common import BIN, PYTHON, TOP, Failed, output

DRIVERS = ["drivers/virtio/virtio_ring", "drivers/virtio/virtio", "drivers/virtio/virtio_pci_modern_dev", "drivers/virtio/virtio_pci_legacy_dev",
           "drivers/virtio/virtio_pci", "net/core/failover", "drivers/net/net_failover", "drivers/net/virtio_net"]
INIT = """#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
for m in {modules}; do /bin/busybox insmod /modules/$m.ko; done
/bin/busybox hostname localhost
/bin/busybox ip link set lo up
/bin/busybox ip link set eth0 up
/bin/busybox ip addr add 10.0.2.15/24 dev eth0
cd /app
exec {command}
"""


def kernel():
    """(image, its modules) of Debian's cloud kernel, installed or unpacked by tools/deps."""
    for image in glob.glob(f"{TOP}/build/kernel/boot/vmlinuz-*-cloud-amd64") + glob.glob("/boot/vmlinuz-*-cloud-amd64"):
        release = os.path.basename(image)[len("vmlinuz-"):]
        for top in (os.path.dirname(os.path.dirname(image)), "/usr"):
            for modules in (f"{top}/lib/modules/{release}/kernel", f"/lib/modules/{release}/kernel"):
                if os.path.isdir(modules):
                    return image, modules
    raise Failed("linux-image-cloud-amd64 is not here")


def add(root, path):
    """A file of this machine, with the libraries that it needs, at the same place."""
    to = root + path
    if os.path.exists(to):
        return
    os.makedirs(os.path.dirname(to), exist_ok=True)
    shutil.copy(path, to)
    with open(path, "rb") as f:
        elf = f.read(4) == b"\x7fELF"
    for lib in re.findall(r"(/\S+) \(0x", subprocess.run(["ldd", path], capture_output=True, text=True).stdout) if elf else ():
        add(root, lib)


def python_files():
    """What http_app.py imports: source, compiled form, libraries."""
    text = output([PYTHON, "-c", "import sys, http.server, encodings.idna\nfor m in list(sys.modules.values()):\n"
                   " for n in '__file__', '__cached__':\n  f = getattr(m, n, None)\n  if f: print(f)\nprint(sys._stdlib_dir + '/os.py')\n"])
    return [f for f in dict.fromkeys(text.split()) if os.path.exists(f)]


def initramfs(work, name, argv):
    """Path of an initramfs that runs argv, whose files are in BIN or on PATH."""
    root, made = work.path("phase1." + name), work.path(name + ".cpio.gz")
    modules = kernel()[1]
    for d in ("bin", "proc", "sys", "dev", "tmp", "app", "modules", "etc"):
        os.makedirs(os.path.join(root, d))
    shutil.copy(shutil.which("busybox"), root + "/bin/busybox")
    for m in DRIVERS:
        found = glob.glob(f"{modules}/{m}.ko*")
        if not found:
            raise Failed(f"no module {m}")
        to = f"{root}/modules/{os.path.basename(m)}.ko"
        if found[0].endswith(".xz"):
            with open(to, "wb") as f:
                subprocess.run(["xz", "-dc", found[0]], stdout=f, check=True)
        else:
            shutil.copy(found[0], to)
    for word in argv:
        if os.path.isabs(word) and os.path.exists(word):
            add(root, word)
        elif os.path.exists(os.path.join(BIN, word)):
            shutil.copy(os.path.join(BIN, word), root + "/app")
    if os.path.exists(root + "/app/hello_server"):
        for lib in re.findall(r"(/\S+) \(0x", output(["ldd", BIN + "/hello_server"])):
            add(root, lib)
    if PYTHON in argv:
        for f in python_files():
            add(root, f)
    with open(root + "/etc/hosts", "w") as f:
        f.write("127.0.0.1 localhost\n")
    with open(root + "/init", "w") as f:
        f.write(INIT.format(modules=" ".join(os.path.basename(m) for m in DRIVERS), command=" ".join(argv)))
    os.chmod(root + "/init", 0o755)
    data = subprocess.run("find . | cpio -o -H newc --quiet", shell=True, cwd=root, stdout=subprocess.PIPE, check=True).stdout
    with gzip.open(made, "wb", 1) as f:
        f.write(data)
    shutil.rmtree(root)
    return made


def command(work, name, argv, port, guest_port):
    for p in ("qemu-system-x86_64", "busybox", "cpio"):
        if not shutil.which(p):
            raise Failed(f"{p} is not installed")
    rd = work.once("initramfs " + name, lambda w: initramfs(w, name, argv))
    return ["qemu-system-x86_64", "-M", "q35", "-accel", "tcg", "-cpu", "max", "-m", "512", "-nographic", "-no-reboot", "-kernel", kernel()[0],
            "-initrd", rd, "-append", "console=ttyS0 quiet panic=-1", "-netdev", f"user,id=n,hostfwd=tcp:127.0.0.1:{port}-:{guest_port}",
            "-device", "virtio-net-pci,netdev=n"]
