#!/usr/bin/perl
# SPDX-License-Identifier: ISC
# Shell scripts as instances: what dash and bash print and return here is what they print and return on the host, for
# pipelines, here-documents, command substitution, subshells, traps, background jobs, job control, process
# substitution, coprocesses, and scripts that are long.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Cowbell;
use Test::More;

my %both = (
	pipelines => <<'X',
echo one two three | tr ' ' '\n' | sort | paste -sd, -
seq 1 100000 | grep -c 7
yes | head -n 3 | wc -l
false | true; echo $?
! false; echo $?
seq 10 | while read x; do [ $((x % 2)) = 0 ] && echo $x; done | tail -n 2
{ echo err >&2; echo out; } 2>&1 | sort
cat </dev/null | wc -c
X
	heredocs => <<'X',
x=value
cat <<E
plain $x $(echo inner | tr a-z A-Z) `echo old`
E
cat <<'E'
quoted $x
E
cat <<-E
	tabs gone
E
cat <<A; cat <<B
first
A
second
B
while read line; do echo "<$line>"; done <<E
a b
c
E
X
	substitution => <<'X',
echo $(echo $(echo deep))
n=$(seq 1 50 | wc -l); echo $n
x=$(printf 'a\n\n\n'); echo "[$x]"
y=$(exit 4); echo $?
echo "$(cat <<E
here in there
E
)"
set -- $(echo 1 2 3); echo $#
big=$(seq 1 20000); echo ${#big}
X
	subshells => <<'X',
x=1; (x=2; echo $x); echo $x
(exit 7); echo $?
(cd /tmp && pwd); pwd >/dev/null
f() { echo "f $*"; return 3; }; f a b; echo $?
( ( ( echo nested ) ) )
(umask 077; : >/tmp/mode.$$; stat -c %a /tmp/mode.$$); umask; rm -f /tmp/mode.$$
set -e; (false) || echo caught; set +e
X
	traps => <<'X',
trap 'echo usr1' USR1; kill -USR1 $$; echo after
trap 'echo bye' EXIT
(trap 'echo sub exit' EXIT; echo in sub)
trap '' TERM; kill -TERM $$; echo ignored
trap - TERM
sh -c 'kill -TERM $$'; echo $?
sh -c 'kill -KILL $$' 2>/dev/null; echo $?
sh -c 'trap "echo got; exit 9" INT; kill -INT $$; sleep 5'; echo $?
X
	jobs => <<'X',
sleep 0.1 & p=$!; wait $p; echo $?
(exit 5) & wait $!; echo $?
for i in 1 2 3 4; do (echo $i >/tmp/j.$$.$i) & done; wait; cat /tmp/j.$$.*; rm -f /tmp/j.$$.*
sleep 100 & kill $!; wait $! 2>/dev/null; echo $?
sleep 100 & kill -STOP $!; kill -CONT $!; kill -9 $!; wait $! 2>/dev/null; echo $?
{ sleep 0.5; echo late; } & echo early; wait
wait; echo nothing left $?
X
	files => <<'X',
d=$(mktemp -d); cd $d
echo a >f; echo b >>f; cat f
exec 3>g; echo three >&3; exec 3>&-; cat g
mkfifo p; (echo through the fifo >p) & cat p; wait
find . -type f | sort | xargs wc -c | tail -n 1 | awk '{ print $1 }'
tar cf - f g | tar tf - | sort
for i in 1 2 3; do echo $i; done >list; read first <list; echo $first
ln -s f l; readlink l; test -L l && echo link
(flock 9; echo locked) 9>lock
gzip -c f | gzip -dc | cmp - f && echo same
find . -name '?' -exec sh -c 'echo "$1"' _ {} \; | sort | tr '\n' ' '; echo
cd /; rm -rf $d
X
	limits => <<'X',
i=0; while [ $i -lt 150 ]; do /bin/true || echo failed; i=$((i + 1)); done; echo $i
i=0; while [ $i -lt 100 ]; do i=$(expr $i + 1); done; echo $i
seq 60 | xargs -P 4 -n 5 echo | wc -w
(sleep 0.01 & sleep 0.01 & sleep 0.01 & wait); echo $?
echo 1 | cat | cat | cat | cat | cat | cat | cat | cat | cat | cat | cat | cat | cat | cat | cat | cat
X
);
my %bash = (
	'process substitution' => <<'X',
diff <(seq 1 5) <(seq 1 6); echo $?
sort -m <(printf 'a\nc\n') <(printf 'b\nd\n') | tr '\n' ' '; echo
echo teed | tee >(tr a-z A-Z >/tmp/ps.$$) >/dev/null; for i in $(seq 200); do [ -s /tmp/ps.$$ ] && break; sleep 0.05; done; cat /tmp/ps.$$; rm -f /tmp/ps.$$
while read x; do last=$x; done < <(seq 1 9); echo $last
X
	'bash jobs' => <<'X',
set -m
sleep 1 & jobs -r | wc -l; wait
sleep 50 & kill -TERM %1; wait %1 2>/dev/null; echo $?
(sleep 0.05; exit 3) & (sleep 50) & wait -n; echo first $?; kill %2; wait 2>/dev/null
coproc cat; echo to the coprocess >&${COPROC[1]}; read -r back <&${COPROC[0]}; echo $back; kill $COPROC_PID; wait 2>/dev/null
set -o pipefail; false | true; echo ${PIPESTATUS[@]} $?
shopt -s lastpipe; set +m; echo x | read v; echo "v=$v"
mapfile -t a < <(seq 3); echo ${#a[@]} ${a[2]}
time_out() { timeout 0.2 sleep 5; echo $?; }; time_out
exec {fd}<<<"a here string"; cat <&$fd; exec {fd}<&-
echo $BASHPID | grep -c .; [ $BASHPID != $(echo $BASHPID) ] && echo another
X
);

sub compare {
	my ($shell, $name, $script, @with) = @_;
	my $dir = scratch();
	spew("$dir/script", $script);
	my ($st, $out, $err) = run_out({dir => $dir, timeout => 60}, $shell, 'script');
	for my $m (monitors()) {
		my ($s, $o, $e) = run_out({dir => $dir, timeout => 60}, $COWBELL, 'run', '--monitor', $m, @with, '--', $shell, 'script');
		is("$o status $s", "$out status $st", "$m $shell: $name") or diag($e);
	}
}

compare('dash', $_, $both{$_}) for sort keys %both;
compare('bash', $_, $both{$_}) for sort keys %both;
compare('bash', $_, $bash{$_}) for sort keys %bash;
done_testing();
