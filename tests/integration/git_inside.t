#!/usr/bin/perl
# SPDX-License-Identifier: ISC
# git inside an instance, with the processes that it starts: init, commit with a hook, clone over file://, push, fetch, a
# rebase, gc, a bundle; and git daemon, which a client of the host clones from.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Cowbell;
use Test::More;

plan skip_all => 'git is not installed' unless have('git');
my $dir = scratch();
spew("$dir/work.sh", <<'X');
set -e
export GIT_AUTHOR_NAME=me GIT_AUTHOR_EMAIL=me@example.test GIT_COMMITTER_NAME=me GIT_COMMITTER_EMAIL=me@example.test
export GIT_AUTHOR_DATE='2024-01-01T00:00:00Z' GIT_COMMITTER_DATE='2024-01-01T00:00:00Z' HOME=/tmp GIT_CONFIG_NOSYSTEM=1
rm -rf /tmp/git.$$; mkdir /tmp/git.$$; cd /tmp/git.$$
git init -q -b main one; cd one
printf '#!/bin/sh\necho "hook in $(basename "$PWD")"\n' >.git/hooks/pre-commit; chmod +x .git/hooks/pre-commit
for i in 1 2 3; do seq $((i * 1000)) >file$i; git add file$i; git commit -q -m "commit $i"; done
cd ..
git clone -q file://$PWD/one two; cd two; git log --format=%H,%s
echo change >>file1; git commit -q -am four; git push -q origin HEAD:refs/heads/side
cd ../one; git branch -a --format='%(refname:short)'; echo other >other; git add other; git commit -q -m five
cd ../two; git fetch -q; git rebase -q origin/main; git log --format=%s | paste -sd,
git gc -q; git fsck 2>&1 | grep -v ^dangling || true; git bundle create -q ../b main; git clone -q ../b ../three -b main
git -C ../three rev-parse HEAD; git status --short | wc -l; git blame -s file1 | tail -n 1 | cut -d' ' -f1 | wc -c
git archive HEAD | tar tf - | paste -sd,
cd /; rm -rf /tmp/git.$$
X
my ($st, $out, $err) = run_out({dir => $dir, timeout => 60}, 'bash', 'work.sh');
is($st, 0, 'the script runs on the host') or diag($err);
for my $m (monitors()) {
	my ($s, $o, $e) = run_out({dir => $dir, timeout => 60}, $COWBELL, 'run', '--monitor', $m, '--with', 'git', '--', 'bash', 'work.sh');
	is("$o status $s", "$out status 0", "$m: git's commands print the same, hashes and all") or diag(substr($e, -3000));
}

# A server: git daemon starts a process for each client.
system("cd $dir && git init -q -b main srv && cd srv && git config user.name me && git config user.email me\@example.test && seq 5000 >f && git add f && git commit -q -m one && touch .git/git-daemon-export-ok") == 0
	or BAIL_OUT('git');
for my $m (monitors()) {
	my $port = free_port();
	my $g = start_guest({}, $COWBELL, 'run', '--monitor', $m, '-v', "$dir:/srv/git:ro", '-e', 'GIT_CONFIG_COUNT=1', '-e', 'GIT_CONFIG_KEY_0=safe.directory', '-e', 'GIT_CONFIG_VALUE_0=*',
		'-p', "127.0.0.1:$port:9418", '--', 'git', 'daemon', '--base-path=/srv/git', '--reuseaddr', '/srv/git');
	my ($ok, $e) = (1, '');
	my $end = time + 60;
	while (time < $end) {
		($ok, undef, $e) = run_out({timeout => 60}, 'git', 'clone', '-q', "git://127.0.0.1:$port/srv", "$dir/clone.$m");
		last if !$ok;
		select undef, undef, undef, 0.1;
	}
	is($ok, 0, "$m: a clone from git daemon in the instance") or diag($e, substr(slurp($g->{err}), -1500));
	is(slurp("$dir/clone.$m/f"), slurp("$dir/srv/f"), "$m: is whole");
	isnt(stop_guest($g), 'stuck', "$m: git daemon ends");
}
done_testing();
