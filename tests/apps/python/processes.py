# SPDX-License-Identifier: ISC
# What Python programs do with processes: subprocess, os.fork, and multiprocessing by fork, spawn and forkserver.
import multiprocessing as mp, os, subprocess, time
from multiprocessing import shared_memory, managers
def sq(x): return x*x
def worker(q, n):
    for i in range(n): q.put((os.getpid(), i))
def shm_writer(name):
    s = shared_memory.SharedMemory(name=name); s.buf[0:5] = b'hello'; s.close()
def locked(v, l):
    for _ in range(200):
        with l: v.value += 1
def main():
    print(subprocess.run(['ls','/etc/passwd'],capture_output=True,text=True).stdout.strip())
    print(subprocess.check_output('echo a b | wc -w', shell=True, text=True).strip())
    p = subprocess.Popen(['cat'], stdin=subprocess.PIPE, stdout=subprocess.PIPE); print(p.communicate(b'x'*200000)[0] == b'x'*200000)
    try: subprocess.run(['sleep','10'], timeout=0.2)
    except subprocess.TimeoutExpired: print('timeout')
    print(subprocess.run(['sh','-c','kill -9 $$']).returncode)
    try: subprocess.run(['/nonexistent'])
    except FileNotFoundError: print('not found')
    pid=os.fork()
    if pid==0: os._exit(7)
    print(os.waitstatus_to_exitcode(os.waitpid(pid,0)[1]))
    for method in ('fork','spawn','forkserver'):
        c = mp.get_context(method)
        with c.Pool(4) as p: print(method, p.map(sq, range(10)), p.apply_async(sq,(9,)).get())
        q = c.Queue(); ps = [c.Process(target=worker, args=(q, 50)) for _ in range(3)]
        [x.start() for x in ps]; got = [q.get() for _ in range(150)]; [x.join() for x in ps]
        print(method, len(got), len({g[0] for g in got}), [x.exitcode for x in ps])
        s = shared_memory.SharedMemory(create=True, size=100)
        w = c.Process(target=shm_writer, args=(s.name,)); w.start(); w.join(); print(bytes(s.buf[0:5])); s.close(); s.unlink()
        v = c.Value('i', 0, lock=False); l = c.Lock(); ps = [c.Process(target=locked, args=(v,l)) for _ in range(3)]
        [x.start() for x in ps]; [x.join() for x in ps]; print(method, v.value)
        m = c.Manager(); d = m.dict(); d['a'] = 1; print(dict(d)); m.shutdown()
        a, b = c.Pipe(); x = c.Process(target=b.send, args=({'k': 1},)); x.start(); print(a.recv()); x.join()
        x = c.Process(target=time.sleep, args=(60,)); x.start(); x.terminate(); x.join(); print(x.exitcode)
if __name__ == '__main__':
    main()
