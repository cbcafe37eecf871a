#!/usr/bin/python3
# SPDX-License-Identifier: ISC
# A shell inside an instance, with the host's terminal as its own: Ctrl-C, Ctrl-Z, jobs, fg, bg, pipelines,
# background readers and writers, a second session on a pty of its own; and what the monitor's signals do to it.
import os, shutil, signal, subprocess, sys

sys.dont_write_bytecode = True
from terminals import BASH, COWBELL, DIR, Term, finish, monitors, ok, shell

# Sleeps, and says so; and again when it was continued and has the terminal, so that a key is for it and nobody else.
with open(DIR + '/nap.c', 'w') as f:
    f.write(r'''
#include <signal.h>
#include <stdio.h>
#include <unistd.h>
static void on(int s) { (void)s; }
int main(void)
{
	sigset_t cont, none;
	sigemptyset(&none);
	sigemptyset(&cont);
	sigaddset(&cont, SIGCONT);
	sigprocmask(SIG_BLOCK, &cont, NULL);
	signal(SIGCONT, on);
	setvbuf(stdout, NULL, _IONBF, 0);
	for (printf("asleep\n");; printf("again\n")) {
		sigsuspend(&none);
		while (tcgetpgrp(2) != getpgrp())
			usleep(1000);
	}
}
''')
if subprocess.call(['gcc', '-O1', DIR + '/nap.c', '-o', DIR + '/nap']):
    print('1..0 # SKIP no C compiler')
    sys.exit(0)
ASLEEP, AGAIN = r'asleep\r\n', r'again\r\n'


def bash(m, *more):
    return shell([COWBELL, 'run', '--monitor', m, *more] + BASH, term='dumb')


def jobs(m):
    t = bash(m)
    ok(m + ': no complaint about job control', 'job control' not in t.all, t.all)
    ok(m + ': the terminal is the shell\'s', t.run('tty', r'/dev/console\r\n'), t.all)
    t.send('cat\n')
    t.send('hello\n')
    ok(m + ': a job reads the terminal', t.wait(r'hello\r\nhello\r\n'), t.all)
    t.send('\x03')
    t.prompt()
    ok(m + ': Ctrl-C ends the job and not the shell', t.run('echo st=$?', 'st=130'), t.all)
    t.send('./nap\n')
    t.wait(ASLEEP)
    t.send('\x1a')
    ok(m + ': Ctrl-Z stops the job', t.wait(r'Stopped +./nap') and t.prompt(), t.all)
    ok(m + ': jobs', t.run('jobs', r'\[1\]\+ +Stopped +./nap'), t.all)
    ok(m + ': bg', t.run('bg', r'./nap &') and t.run('jobs', r'\[1\]\+ +Running +./nap &'), t.all)
    t.send('fg\n')
    t.wait(AGAIN)
    t.send('\x1c')
    ok(m + ': fg, Ctrl-\\', t.prompt() and t.run('echo st=$?', 'st=131'), t.all)

    t.send('./nap | cat | cat\n')
    t.wait(ASLEEP)
    t.send('\x1a')
    ok(m + ': a pipeline stops as a whole', t.wait(r'Stopped') and t.prompt() and
       t.asked('cat /proc/[0-9]*/stat | grep -c ") T "', r'\n3\r\n'), t.all)
    t.send('fg\n')
    t.wait(AGAIN)
    t.send('\x03')
    ok(m + ': and is ended as a whole', t.prompt() and t.asked('grep -sl ^nap /proc/[0-9]*/comm; echo no''ne', r'\nnone'), t.all)

    t.send('cat &\n')
    t.prompt()
    ok(m + ': a background job that reads is stopped', t.asked('jobs -l', r'Stopped \(tty input\)'), t.all)
    t.send('fg\n')
    t.wait(r'cat\r\n')
    t.send('now me\n')
    good = t.wait(r'now me\r\nnow me\r\n')
    t.send('\x04')
    ok(m + ': and reads in the foreground', good and t.prompt(), t.all)
    t.run('stty tostop')
    t.send('(sleep 0.2; echo out) &\n')
    t.prompt()
    ok(m + ': with tostop one that writes is, too', t.asked('jobs -l', r'Stopped \(tty output\)'), t.all)
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
    t.send(COWBELL + ' run --monitor ' + m + " /bin/bash -c './nap | cat'\n")
    t.wait(ASLEEP, 60)
    t.send('\x1a')
    ok(m + ': Ctrl-Z for the host\'s shell stops an instance of several processes', t.wait('Stopped') and t.prompt(), t.all)
    t.send('fg\n')
    t.wait(AGAIN)
    t.send('\x03')
    ok(m + ': fg, and Ctrl-C ends them all', t.prompt() and t.run('echo st=$?', 'st=130'), t.all)
    t.send(COWBELL + ' run --monitor ' + m + ' ' + ' '.join(BASH) + '\n')
    t.wait(r'[$#] ', 60)
    t.send("PS1='ins''ide> '\n")
    t.wait('inside> ')
    t.send('suspend -f\n')
    ok(m + ': suspend goes back to the host\'s shell', t.wait('Stopped') and t.prompt(), t.all)
    t.send('fg\n')
    t.wait(r'-i\r\n')
    t.send("echo b''ack\n")
    ok(m + ': and fg into the instance again', t.wait(r'back\r\n'), t.all)
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
    t.send('./nap\n')
    t.wait(ASLEEP)
    os.kill(t.pid, signal.SIGINT)
    ok(m + ': so does SIGINT, and not to the job in front', not t.wait('ready> ', 1), t.all)
    t.send('\x03')
    ok(m + ': which a key reaches', t.prompt(), t.all)
    t.send('exec ./nap\n')
    t.wait(ASLEEP)
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
    t.send('./nap\n')
    t.wait(ASLEEP)
    t.send('\x1a')
    ok(m + ': Ctrl-Z goes through both terminals to the job', t.wait('Stopped') and t.wait('pty> '), t.all)
    t.send('fg\n')
    t.wait(AGAIN)
    t.send('\x03')
    ok(m + ': Ctrl-C, too', t.wait('pty> '), t.all)
    t.send('exit\n')
    ok(m + ': and back to the outer shell', t.wait('exit\r\n') and t.run('', ''), t.all)
    t.send('exit\n')
    t.end()
    t.close()


for m in monitors():
    jobs(m)
    outside(m)
    inner_pty(m)
finish()
