"""CPU-bound Python: dictionaries, strings, integers, calls. Prints seconds."""
import time


def work(n):
    d, s = {}, 0
    for i in range(n):
        k = (i * 7919) % 1000
        d[k] = d.get(k, 0) + i
        s += len(str(i)) ^ k
    return s + sum(sorted(d.values())[:10])


work(20000)
t = time.perf_counter()
for _ in range(5):
    work(200000)
print(f"{time.perf_counter() - t:.4f}")
