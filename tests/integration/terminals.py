# SPDX-License-Identifier: ISC
# Programs on ptys of their own, for the tests of terminals: what such a test counts, sends, waits for and leaves behind.
import fcntl, os, pty, re, select, shutil, signal, struct, sys, tempfile, termios, time

TOP = os.path.abspath(os.path.dirname(os.path.abspath(__file__)) + '/../..')
COWBELL = os.environ.get('COWBELL', TOP + '/build/release/cowbell')
BASH = ['/bin/bash', '--norc', '--noprofile', '--noediting', '-i']
DIR = tempfile.mkdtemp(prefix='cowbell-tty-')  # where all programs start
CACHE = os.environ['XDG_CACHE_HOME'] = tempfile.mkdtemp(prefix='cowbell-tty-')
PATIENCE = 30  # what a loaded machine may take for anything
count = failed = 0


def ok(name, good, why=''):
    global count, failed
    count += 1
    failed += not good
    print('%sok %d - %s' % ('' if good else 'not ', count, name), flush=True)
    if not good and why:
        print('\n'.join('# ' + l for l in repr(why)[-700:].split('\\n')), flush=True)


def skip(name, why):
    global count
    count += 1
    print('ok %d - %s # SKIP %s' % (count, name, why), flush=True)


def monitors():
    for m in os.environ.get('COWBELL_MONITORS', 'process,kvm').split(','):
        if m == 'kvm' and not os.access('/dev/kvm', os.W_OK):
            print('# /dev/kvm cannot be used: the kvm monitor is not tested here')
        else:
            yield m


def finish():
    for d in (DIR, CACHE):
        shutil.rmtree(d, ignore_errors=True)
    print('1..%d' % count)
    sys.exit(failed != 0)


class Term:
    """A program on a pty of its own, as its session's leader."""

    def __init__(self, argv, rows=30, cols=100, term='xterm'):
        self.pid, self.fd = pty.fork()
        if not self.pid:
            os.chdir(DIR)
            os.environ.update(TERM=term, HISTFILE='')
            os.execvp(argv[0], argv)
        self.size(rows, cols)
        self.text = self.all = ''  # what is not taken yet; all that came
        self.status = None

    def size(self, rows, cols):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack('HHHH', rows, cols, 0, 0))

    def modes(self):
        a = termios.tcgetattr(self.fd)
        return a[:4] + [a[6]]

    def lflag(self, bit):
        return bool(termios.tcgetattr(self.fd)[3] & bit)

    def send(self, s):
        os.write(self.fd, s.encode())

    def take(self):
        """What there is to read; empty: the other side is closed."""
        try:
            b = os.read(self.fd, 65536)
        except OSError:
            b = b''
        self.text += b.decode(errors='replace')
        self.all += b.decode(errors='replace')
        return b

    def wait(self, pattern, seconds=PATIENCE):
        """What was read up to the end of the first match is taken; None: it did not come."""
        end = time.monotonic() + seconds
        while True:
            m = re.search(pattern, self.text)
            if m:
                self.text = self.text[m.end():]
                return m
            if time.monotonic() > end:
                return None
            if select.select([self.fd], [], [], 0.1)[0] and not self.take():
                return re.search(pattern, self.text)

    def prompt(self, seconds=PATIENCE):
        return self.wait(r'ready> ', seconds)

    def run(self, line, pattern='', seconds=PATIENCE):
        """A command, what it says, and the prompt after it."""
        self.send(line + '\n')
        m = self.wait(pattern, seconds)
        return m if m and self.prompt(seconds) else None

    def asked(self, line, pattern, seconds=PATIENCE):
        """Ask a shell again and again until it says so: things take their time, and of its jobs it tells before a prompt only."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.send(line + '\n')
            if self.wait(pattern, 0.7):
                return self.settle()
        return None

    def settle(self):
        """Past the prompts of all that was sent."""
        self.send("echo set''tled\n")
        return self.wait(r'settled\r\n') and self.prompt()

    def end(self, seconds=PATIENCE):
        """Exit status as a shell tells it; 'stuck' if it had to be killed."""
        end = time.monotonic() + seconds
        while self.status is None and time.monotonic() < end:
            p, st = os.waitpid(self.pid, os.WNOHANG)
            if p:
                self.status = 128 + os.WTERMSIG(st) if os.WIFSIGNALED(st) else os.WEXITSTATUS(st)
            elif select.select([self.fd], [], [], 0.02)[0] and not self.take():
                time.sleep(0.02)
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.status = 'stuck'
        return self.status

    def close(self):
        if self.status is None:
            self.end(0)
        os.close(self.fd)


def shell(argv=BASH, **how):
    t = Term(argv, **how)
    t.send("PS1='rea''dy> '\n")
    t.prompt(60)
    return t


def until(what, seconds=PATIENCE):
    end = time.monotonic() + seconds
    while not what() and time.monotonic() < end:
        time.sleep(0.02)
    return bool(what())
