#!/usr/bin/python3
# SPDX-License-Identifier: ISC
# A shell inside an instance, with the host's terminal as its own: Ctrl-C, Ctrl-Z, jobs, fg, bg, pipelines,
# background readers and writers, a second session on a pty of its own; and what the monitor's signals do to it.
import fcntl, os, pty, re, select, shutil, signal, struct, sys, tempfile, termios, time

TOP = os.path.abspath(os.path.dirname(os.path.abspath(__file__)) + '/../..')
COWBELL = os.environ.get('COWBELL', TOP + '/build/release/cowbell')
DIR = tempfile.mkdtemp(prefix='cowbell-jobs-')
CACHE = os.environ['XDG_CACHE_HOME'] = tempfile.mkdtemp(prefix='cowbell-jobs-')
BASH = ['/bin/bash', '--norc', '--noprofile', '--noediting', '-i']
count = failed = 0


def ok(name, good, why=''):
    global count, failed
    count += 1
    failed += not good
    print('%sok %d - %s' % ('' if good else 'not ', count, name), flush=True)
    if not good:
        print('\n'.join('# ' + l for l in repr(why)[-700:].split('\\n')), flush=True)


class Term:
    """A program on a pty of its own, as its session's leader."""

    def __init__(self, argv):
        self.pid, self.fd = pty.fork()
        if not self.pid:
            os.chdir(DIR)
            os.environ.update(TERM='dumb', HISTFILE='')
            os.execvp(argv[0], argv)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack('HHHH', 30, 100, 0, 0))
        self.text = self.all = ''
        self.status = None

    def send(self, s):
        os.write(self.fd, s.encode())

    def take(self):
        try:
            b = os.read(self.fd, 65536)
        except OSError:
            b = b''
        self.text += b.decode(errors='replace')
        self.all += b.decode(errors='replace')
        return b

    def wait(self, pattern, seconds=20):
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

    def prompt(self, seconds=20):
        return self.wait(r'ready> ', seconds)

    def run(self, line, pattern='', seconds=20):
        """A command, what it says, and the prompt after it."""
        self.send(line + '\n')
        m = self.wait(pattern, seconds)
        return m if m and self.prompt(seconds) else None

    def until(self, line, pattern, seconds=20):
        """Ask again and again: things take their time."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.text = ''
            self.send(line + '\n')
            if self.wait(pattern, 0.7):
                return self.prompt()
        return None

    def end(self, seconds=20):
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


def shell(argv):
    t = Term(argv)
    t.send("PS1='rea''dy> '\n")
    t.wait(r'ready> ', 60)
    return t


def bash(m, *more):
    return shell([COWBELL, 'run', '--monitor', m, *more] + BASH)


def in_front(t):
    """The job that was just started has come to its sleep."""
    time.sleep(0.5)
    return t


def jobs(m):
    t = bash(m)
    ok(m + ': no complaint about job control', 'job control' not in t.all, t.all)
    ok(m + ': the terminal is the shell\'s', t.run('tty', r'/dev/console\r\n'), t.all)
    t.send('cat\n')
    in_front(t).send('hello\n')
    ok(m + ': a job reads the terminal', t.wait(r'hello\r\nhello\r\n'), t.all)
    t.send('\x03')
    t.prompt()
    ok(m + ': Ctrl-C ends the job and not the shell', t.run('echo st=$?', 'st=130'), t.all)
    t.send('sleep 100\n')
    in_front(t).send('\x1a')
    ok(m + ': Ctrl-Z stops the job', t.wait(r'Stopped +sleep 100') and t.prompt(), t.all)
    ok(m + ': jobs', t.run('jobs', r'\[1\]\+ +Stopped +sleep 100'), t.all)
    ok(m + ': bg', t.run('bg', r'sleep 100 &') and t.run('jobs', r'\[1\]\+ +Running +sleep 100 &'), t.all)
    t.send('fg\n')
    t.wait(r'sleep 100\r\n')
    in_front(t).send('\x1c')
    ok(m + ': fg, Ctrl-\\', t.prompt() and t.run('echo st=$?', 'st=131'), t.all)

    t.send('sleep 100 | cat | cat\n')
    in_front(t).send('\x1a')
    ok(m + ': a pipeline stops as a whole', t.wait(r'Stopped') and t.prompt() and
       t.until('cat /proc/[0-9]*/stat | grep -c ") T "', r'\n3\r\n'), t.all)
    t.send('fg\n')
    t.wait(r'sleep 100 \| cat \| cat\r\n')
    in_front(t).send('\x03')
    ok(m + ': and is ended as a whole', t.prompt() and t.until('grep -sl ^sleep /proc/[0-9]*/comm; echo no''ne', r'\nnone'), t.all)

    t.send('cat &\n')
    t.prompt()
    ok(m + ': a background job that reads is stopped', t.until('jobs -l', r'Stopped \(tty input\)'), t.all)
    t.send('fg\n')
    t.wait(r'cat\r\n')
    in_front(t).send('now me\n')
    good = t.wait(r'now me\r\nnow me\r\n')
    t.send('\x04')
    ok(m + ': and reads in the foreground', good and t.prompt(), t.all)
    t.run('stty tostop')
    t.send('(sleep 0.2; echo out) &\n')
    t.prompt()
    ok(m + ': with tostop one that writes is, too', t.until('jobs -l', r'Stopped \(tty output\)'), t.all)
    t.run('stty -tostop')
    t.send('fg\n')
    ok(m + ': and writes then', t.wait(r'\nout\r\n') and t.prompt(), t.all)

    t.send('\x03')
    ok(m + ': Ctrl-C at the prompt', t.wait(r'\^C\r\n') and t.prompt(), t.all)
    ok(m + ': wait and a killed job', t.run('sleep 100 & kill %1; wait %1; echo st=$?', r'\nst=143'), t.all)
    ok(m + ': a shell in it', t.run("bash -c 'sleep 0.1 | cat; echo in=$?; kill -TERM $$'; echo st=$?", r'\nin=0(.|\r\n)*\nst=143'), t.all)
    t.send('exit 7\n')
    ok(m + ': exit status', t.end() == 7, (t.status, t.all))
    t.close()

    t = bash(m)
    t.run('sleep 100 & disown')
    t.send('exit 3\n')
    ok(m + ': the end of the shell is the end of the instance', t.end() == 3, (t.status, t.all))
    t.close()


def outside(m):
    t = shell(BASH)
    t.send(COWBELL + ' run --monitor ' + m + " /bin/bash -c 'echo go; sleep 100 | cat'\n")
    t.wait(r'\ngo\r\n', 60)
    in_front(t).send('\x1a')
    ok(m + ': Ctrl-Z for the host\'s shell stops an instance of several processes', t.wait('Stopped') and t.prompt(), t.all)
    t.send('fg\n')
    t.wait("cat'\r\n")
    in_front(t).send('\x03')
    ok(m + ': fg, and Ctrl-C ends them all', t.prompt() and t.run('echo st=$?', 'st=130'), t.all)
    t.send(COWBELL + ' run --monitor ' + m + ' ' + ' '.join(BASH) + '\n')
    t.wait(r'[$#] ', 60)
    t.send("PS1='ins''ide> '\n")
    t.wait('inside> ')
    t.send('suspend -f\n')
    ok(m + ': suspend goes back to the host\'s shell', t.wait('Stopped') and t.prompt(), t.all)
    t.send('fg\n')
    t.wait(r'-i\r\n')
    in_front(t).send("echo b''ack\n")
    ok(m + ': and fg into the instance again', t.wait(r'\nback\r\n'), t.all)
    t.send('exit\n')
    ok(m + ': left', t.prompt(), t.all)
    t.send('exit\n')
    t.end()
    t.close()

    t = bash(m)
    t.run("trap 'echo te''rm in shell' TERM")
    os.kill(t.pid, signal.SIGTERM)
    ok(m + ': SIGTERM of the monitor goes to the program', t.run('', 'term in shell'), t.all)
    t.run('trap - TERM')
    t.send('sleep 100\n')
    in_front(t)
    os.kill(t.pid, signal.SIGINT)
    time.sleep(0.5)
    ok(m + ': so does SIGINT, and not to the job in front', not t.wait('ready> ', 1), t.all)
    t.send('\x03')
    ok(m + ': which a key reaches', t.prompt(), t.all)
    t.send('exec sleep 50\n')
    time.sleep(1)
    os.kill(t.pid, signal.SIGTERM)
    ok(m + ': the program can be ended', t.end() == 143, (t.status, t.all))
    t.close()


def inner_pty(m):
    if not shutil.which('script'):
        print('# no script(1)')
        return
    t = bash(m, '--with', 'script')
    t.send("script -qc '%s' /dev/null\n" % ' '.join(BASH))
    t.wait(r'-i. /dev/null\r\n')
    t.wait(r'[$#] ', 60)
    t.send("PS1='pt''y> '\n")
    t.wait('pty> ')
    t.send('tty\n')
    ok(m + ': a shell on a pty inside', t.wait(r'/dev/pts/0\r\n') and t.wait('pty> '), t.all)
    t.send('sleep 100\n')
    in_front(t).send('\x1a')
    ok(m + ': Ctrl-Z goes through both terminals to the job', t.wait('Stopped') and t.wait('pty> '), t.all)
    t.send('fg\n')
    t.wait('sleep 100\r\n')
    in_front(t).send('\x03')
    ok(m + ': Ctrl-C, too', t.wait('pty> '), t.all)
    t.send('exit\n')
    ok(m + ': and back to the outer shell', t.wait('exit\r\n') and t.run('', ''), t.all)
    t.send('exit\n')
    t.end()
    t.close()


for m in os.environ.get('COWBELL_MONITORS', 'process,kvm').split(','):
    if m == 'kvm' and not os.access('/dev/kvm', os.W_OK):
        print('# /dev/kvm cannot be used: the kvm monitor is not tested here')
        continue
    jobs(m)
    outside(m)
    inner_pty(m)
for d in (DIR, CACHE):
    shutil.rmtree(d, ignore_errors=True)
print('1..%d' % count)
sys.exit(failed != 0)
