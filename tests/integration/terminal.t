#!/usr/bin/python3
# SPDX-License-Identifier: ISC
# A terminal is a terminal: modes, size, Ctrl-C, Ctrl-\, Ctrl-Z and fg, background jobs, line editing.
# Each case has a pty of its own and, but for the first, an interactive bash in it.
import os, shutil, signal, subprocess, sys, termios, time

sys.dont_write_bytecode = True
from terminals import COWBELL, DIR, Term, finish, monitors, ok, shell, skip, until


def states(k):
    """Of each thread of process k."""
    try:
        return [open('/proc/%d/task/%s/stat' % (k, x)).read().rsplit(')', 1)[1].split()[0] for x in os.listdir('/proc/%d/task' % k)]
    except OSError:
        return []


def half_stopped(pid):
    """Children of pid whose first thread is stopped and another one is not."""
    return [k for k in children(pid) if state(k) == 'T' and set(states(k)) != {'T'}]


def state(pid):
    try:
        return open('/proc/%d/stat' % pid).read().rsplit(')', 1)[1].split()[0]
    except OSError:
        return ''


def children(pid):
    try:
        return [int(x) for x in open('/proc/%d/task/%d/children' % (pid, pid)).read().split()]
    except OSError:
        return []


def cpu(pid):
    try:
        f = open('/proc/%d/stat' % pid).read().rsplit(')', 1)[1].split()
    except OSError:
        return -1
    return int(f[11]) + int(f[12])


with open(DIR + '/t.c', 'w') as f:
    f.write(r'''
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>
static volatile sig_atomic_t got;
static void on(int s) { got = s; }
/* Signals are taken here and nowhere else, so that none falls between a look and a sleep. */
static void wait_signal(void)
{
	sigset_t none;
	sigemptyset(&none);
	sigsuspend(&none);
}
static void raw(void)
{
	struct termios t;
	tcgetattr(0, &t);
	cfmakeraw(&t);
	tcsetattr(0, TCSAFLUSH, &t);
}
int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	struct winsize w = {0};
	char b[100];
	sigset_t mine;
	sigemptyset(&mine);
	if (!strcmp(what, "catch") || !strcmp(what, "size") || !strcmp(what, "cont"))
		for (int i = 0; i < 5; i++)
			sigaddset(&mine, (int[]){SIGINT, SIGQUIT, SIGTSTP, SIGWINCH, SIGCONT}[i]);
	sigprocmask(SIG_BLOCK, &mine, NULL);
	setvbuf(stdout, NULL, _IONBF, 0);
	if (!strcmp(what, "tty")) {
		char *n = ttyname(0);
		int fd = open("/dev/tty", O_RDWR);
		printf("tty=%d%d%d name=%s devtty=%d pgrp=%d\n", isatty(0), isatty(1), isatty(2), n ? n : "-", isatty(fd),
		       tcgetpgrp(0) == getpgrp());
	} else if (!strcmp(what, "size")) {
		struct sigaction sa = {.sa_handler = on};
		sigaction(SIGWINCH, &sa, NULL);
		ioctl(0, TIOCGWINSZ, &w);
		printf("size %d %d\n", w.ws_row, w.ws_col);
		while (!got)
			wait_signal();
		ioctl(0, TIOCGWINSZ, &w);
		printf("size now %d %d after %d\n", w.ws_row, w.ws_col, got);
	} else if (!strcmp(what, "raw")) {
		raw();
		printf("raw\r\n");
		for (;;) {
			ssize_t n = read(0, b, 1);
			if (n <= 0 || b[0] == 'q')
				break;
			if (b[0] == 'x')
				_exit(7);
			if (b[0] == 'a')
				abort();
			if (b[0] == 's')
				*(volatile int *)8 = 1;
			if (b[0] == 'k')
				kill(getpid(), SIGKILL);
			if (b[0] == 'z')
				kill(getpid(), SIGTSTP);
			printf("<%02x>", (unsigned char)b[0]);
		}
		printf("left raw\r\n");
		return 4;
	} else if (!strcmp(what, "spin")) {
		printf("spinning\n");
		for (volatile unsigned long i = 0;; i++)
			;
	} else if (!strcmp(what, "sleep")) {
		printf("sleeping\n");
		for (;;)
			wait_signal();
	} else if (!strcmp(what, "catch")) {
		struct sigaction sa = {.sa_handler = on};
		int n = 0;
		sigaction(SIGINT, &sa, NULL);
		sigaction(SIGQUIT, &sa, NULL);
		sigaction(SIGTSTP, &sa, NULL);
		printf("catching\n");
		while (n < 3) {
			wait_signal();
			printf("got %d\n", got);
			n++;
		}
		return 9;
	} else if (!strcmp(what, "cont")) {
		struct sigaction sa = {.sa_handler = on};
		sigaction(SIGCONT, &sa, NULL);
		sigdelset(&mine, SIGCONT);
		sigprocmask(SIG_UNBLOCK, &mine, NULL);
		printf("waiting\n");
		for (int n = 0; n < 1;) {
			wait_signal();
			if (got == SIGCONT)
				n++;
		}
		usleep(200000);
		printf("continued\n");
	} else if (!strcmp(what, "line")) {
		printf("line?\n");
		while (fgets(b, sizeof(b), stdin))
			printf("line: %s", b);
		printf("end of file\n");
		return 2;
	}
	return 0;
}
''')
if subprocess.call(['gcc', '-O1', DIR + '/t.c', '-o', DIR + '/t']):
    print('1..0 # SKIP no C compiler')
    sys.exit(0)

T_LINE = termios.ICANON | termios.ECHO


def direct(m):
    run = [COWBELL, 'run', '--monitor', m]
    t = Term(run + ['-i', '-t', './t', 'tty'])
    r = t.wait(r'tty=(\d+) name=(\S+) devtty=(\d) pgrp=(\d)')
    ok(m + ': streams and /dev/tty are terminals', r and r.groups() == ('111', '/dev/console', '1', '1'),
       r and r.group(0) or t.text)
    ok(m + ': exit status', t.end() == 0)
    t.close()
    p = subprocess.run(run + ['./t', 'tty'], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, cwd=DIR)
    ok(m + ': no terminal where there is none', p.stdout.startswith(b'tty=00'), p.stdout)

    t = Term(run + ['./t', 'size'], 33, 77)
    ok(m + ': window size', t.wait(r'size 33 77'), t.text)
    t.size(44, 111)
    ok(m + ': SIGWINCH and the new size', t.wait(r'size now 44 111 after 28'), t.text)
    t.end()
    t.close()

    # every way out of raw mode puts the terminal back
    for how, want in (('q', 4), ('x', 7), ('a', 134), ('s', 139), ('k', 137), ('TERM', 143), ('HUP', 129)):
        t = Term(run + ['./t', 'raw'])
        before = t.modes()
        t.wait('\nraw\r\n|^raw\r\n')
        israw = until(lambda: not t.lflag(T_LINE), 5)
        if len(how) > 1:
            os.kill(t.pid, getattr(signal, 'SIG' + how))
        else:
            t.send('\x03\x1a')
            israw = israw and t.wait('<03><1a>')
            t.send(how)
        st = t.end()
        ok('%s: raw mode, end by %s: status %d, terminal as before' % (m, how, want),
           israw and st == want and t.modes() == before, (israw, st, t.modes() == before, t.text))
        t.close()
    t = Term(run + ['--timeout', '1s', './t', 'raw'])
    before = t.modes()
    t.wait('\nraw\r\n|^raw\r\n')
    ok(m + ': --timeout puts the terminal back', t.end() == 124 and t.modes() == before, t.text)
    t.close()

    for what, key, want in (('sleep', '\x03', 130), ('spin', '\x03', 130), ('sleep', '\x1c', 131), ('spin', '\x1c', 131)):
        t = Term(run + ['./t', what])
        t.wait(what[:4] + r'\w+\r\n')
        t.send(key)
        ok('%s: Ctrl-%s ends a program that %ss: %d' % (m, chr(ord(key) + 64), what, want), t.end() == want,
           (t.status, t.text))
        t.close()
    t = Term(run + ['./t', 'catch'])
    t.wait('catching\r\n')
    good = True
    for key, sig in (('\x03', 2), ('\x1c', 3), ('\x1a', 20)):
        t.send(key)
        good = good and t.wait('got %d\r\n' % sig)
    ok(m + ': a program catches Ctrl-C, Ctrl-\\ and Ctrl-Z', good and t.end() == 9, (t.status, t.text))
    t.close()

    t = Term(run + ['./t', 'line'])
    t.wait(r'line\?\r\n')
    t.send('wrong\x15hallp\x7fo\n')
    good = t.wait(r'line: hallo\r\n')
    t.send('\x04')
    ok(m + ': line editing of the terminal, Ctrl-D', good and t.wait('end of file') and t.end() == 2,
       (t.status, t.text))
    t.close()

    t = Term(run + ['./t', 'raw'])
    t.wait('raw')
    until(lambda: not t.lflag(T_LINE))
    everyone = [t.pid] + children(t.pid)
    os.close(t.fd)
    ok(m + ': a terminal that goes away ends the program', until(lambda: not any(state(p) not in ('', 'Z') for p in everyone)))
    os.waitpid(t.pid, os.WNOHANG)

    # nobody could continue it: Linux does not stop a session without a shell, nor do we
    t = Term(run + ['./t', 'line'])
    t.wait(r'line\?\r\n')
    t.send('\x1a')
    time.sleep(0.3)
    st = state(t.pid)
    os.kill(t.pid, signal.SIGCONT)
    t.send('x\n')
    ok(m + ': Ctrl-Z without a shell stops nothing', st in 'SR' and t.wait('line: x'), (st, t.text))
    t.close()


def jobs(m):
    cmd = COWBELL + ' run --monitor ' + m + ' '
    t = shell()
    t.send(cmd + './t spin\n')
    started = t.wait('spinning\r\n')
    kid = (children(t.pid) or [0])[0]
    everyone = [kid] + children(kid)
    t.send('\x1a')
    good = started and t.wait('Stopped') and until(lambda: state(kid) == 'T')
    used = [cpu(p) for p in everyone]
    time.sleep(0.5)
    ok(m + ': Ctrl-Z stops cowbell and the guest', good and [cpu(p) for p in everyone] == used, t.text)
    t.send('fg\n')
    time.sleep(0.3)
    ok(m + ': fg goes on', until(lambda: [cpu(p) for p in everyone] != used), t.text)
    t.send('\x03')
    t.prompt()
    t.send('echo st=$?\n')
    ok(m + ': and Ctrl-C still ends it', t.wait('st=130'), t.text)
    t.prompt()

    t.send(cmd + './t raw\n')
    t.wait('\nraw\r\n|^raw\r\n')
    until(lambda: not t.lflag(T_LINE))
    t.send('z')
    good = t.wait('Stopped') and t.prompt() and t.lflag(T_LINE)
    ok(m + ': a program in raw mode stops itself: the shell has its terminal', good, t.text)
    t.send('fg\n')
    good = t.wait(r't raw') and until(lambda: not t.lflag(T_LINE))
    t.send('y')
    ok(m + ': fg brings raw mode back', good and t.wait('<79>'), t.text)
    t.send('q')
    ok(m + ': and its end takes it away', t.wait('left raw') and t.prompt() and t.lflag(T_LINE), t.text)

    t.send(cmd + './t cont\n')
    t.wait('waiting\r\n')
    t.send('\x1a')
    good = t.wait('Stopped') and t.prompt()
    t.send('bg\n')
    ok(m + ': bg: the program sees SIGCONT and goes on', good and t.wait('continued'), t.text)
    # Its end must have been told before another job stops: bash may forget one of two that come at a time.
    t.asked('', 'Done')

    t.send(cmd + './t line &\n')
    good = t.wait(r'line\?\r\n')
    t.send('\n')
    good = good and until(lambda: [k for k in children(t.pid) if state(k) == 'T'])
    # The shell must know, too, before fg. It hears of it when the last thread has stopped (KVM has one
    # of its own in the process), which may be after the first.
    good = good and t.asked('', 'Stopped')
    half = [] if good else half_stopped(t.pid)
    if half:
        # Linux counts a process as stopped when its last thread is; KVM's own worker thread in it sometimes
        # sleeps on, and then no shell can hear of the stop. Not ours to mend, and not what is tested here.
        for name in ('a background job that reads the terminal stops', 'and reads in the foreground'):
            skip(m + ': ' + name, 'a thread of the host kernel in the process did not stop')
        for k in half:
            os.kill(k, signal.SIGKILL)
    else:
        ok(m + ': a background job that reads the terminal stops', good, t.text + str([states(k) for k in children(t.pid)]))
    t.settle()
    if not half:
        t.send('fg\n')
        t.wait(r't line\r\n')
        t.send('one\n')
        good = t.wait('line: one')
        t.send('\x04')
        ok(m + ': and reads in the foreground', good and t.wait('end of file'), t.text)
        t.prompt()

    t.send('echo piped | ' + cmd + './t line | cat\n')
    ok(m + ': in a pipeline', t.wait('line: piped') and t.wait('end of file'), t.text)
    t.prompt()
    t.send(cmd + './t raw\n')
    t.wait('\nraw\r\n|^raw\r\n')
    kid = (children(t.pid) or [0])[0]
    everyone = [kid] + children(kid)
    if kid:
        os.kill(kid, signal.SIGKILL)
    ok(m + ': kill -9 leaves no process behind', kid and until(lambda: not any(state(p) not in ('', 'Z') for p in everyone)))
    t.send('exit\n')
    t.end()
    t.close()


def programs(m):
    run = [COWBELL, 'run', '--monitor', m]
    if os.path.exists('/usr/bin/python3'):
        t = Term(run + ['/usr/bin/python3', '-q'])
        before = t.modes()
        good = t.wait('>>> ', 40)
        t.send('6*7\n')
        good = good and t.wait('\n42\r\n') and t.wait('>>> ')
        t.send('\x1b[A\x7f8\n')  # the line before, its last letter replaced
        ok(m + ': python3 REPL, history and editing', good and t.wait('\n48\r\n') and t.wait('>>> '), t.text)
        t.send('import time; time.sleep(30)\n')
        time.sleep(0.3)
        t.send('\x03')
        ok(m + ': Ctrl-C is KeyboardInterrupt', t.wait('KeyboardInterrupt') and t.wait('>>> '), t.text)
        t.send('import sys; prin\t"tab", sys.stdin.isatty())\n')
        ok(m + ': completion', t.wait('\ntab True\r\n'), t.text)
        t.wait('>>> ')
        t.send('\x04')
        ok(m + ': Ctrl-D leaves it', t.end() == 0 and t.modes() == before, (t.status, t.text))
        t.close()
    else:
        skip(m + ': python3 REPL', 'no /usr/bin/python3')
    if shutil.which('busybox'):
        t = Term(run + ['busybox', 'sh'])
        good = t.wait(r'[#$] ')
        t.send('echo $((6*7)) $0; cd /tmp && pwd\n')
        good = good and t.wait(r'\n42 sh\r?\n') and t.wait(r'/tmp\r?\n')
        t.send('exit 3\n')
        ok(m + ': busybox sh', good and t.end() == 3, (t.status, t.text))
        t.close()
        t = Term(run + ['busybox', 'vi', '/tmp/x'])
        before = t.modes()
        good = t.wait('~') and until(lambda: not t.lflag(T_LINE))
        t.send('ihallo\x1b')
        good = good and t.wait('hallo')
        t.send(':wq\r')
        ok(m + ': busybox vi', good and t.end() == 0 and t.modes() == before, (t.status, t.text))
        t.close()
    else:
        skip(m + ': busybox', 'not installed')


for m in monitors():
    direct(m)
    jobs(m)
    programs(m)
finish()
