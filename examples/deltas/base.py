"""A runtime base: imports what web apps need and waits; SIGUSR1 makes it run the app that its argument names.

A snapshot of it is the base of many apps: each is then stored as what differs from it, some 0.5 MB. See README.md.
"""
import gc
import http.server  # noqa: F401  what the apps have in common
import json  # noqa: F401
import os
import runpy
import signal
import socketserver  # noqa: F401
import sys
import threading  # noqa: F401


def wait_for(signum):
    """Until it comes; others, such as the SIGCONT that a restored program gets, do not count."""
    r, w = os.pipe()
    os.set_blocking(w, False)
    signal.set_wakeup_fd(w)
    signal.signal(signum, lambda *args: None)
    while os.read(r, 1)[0] != signum:
        pass
    signal.set_wakeup_fd(-1)
    os.close(r)
    os.close(w)


gc.collect()
gc.freeze()  # the collector does not write to what is there now: such pages stay those of the base
wait_for(signal.SIGUSR1)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
