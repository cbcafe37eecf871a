# SPDX-License-Identifier: ISC
"""Threads, queues, locks, timers, signals and subinterpreter-free basics; prints one line."""
import queue
import signal
import threading
import time

q = queue.Queue(3)
out = []
lock = threading.Lock()


def worker():
    while True:
        n = q.get()
        if n is None:
            return
        with lock:
            out.append(n * n)


threads = [threading.Thread(target=worker) for _ in range(8)]
for t in threads:
    t.start()
for n in range(1000):
    q.put(n)
for _ in threads:
    q.put(None)
for t in threads:
    t.join()
ev = threading.Event()
threading.Timer(0.05, ev.set).start()
start = time.monotonic()
assert ev.wait(5)
assert time.monotonic() - start >= 0.045
hits = []
signal.signal(signal.SIGALRM, lambda *a: hits.append(1))
signal.setitimer(signal.ITIMER_REAL, 0.02)
time.sleep(0.1)
print(sum(out), len(hits))
