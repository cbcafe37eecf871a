#!/usr/bin/perl
# SPDX-License-Identifier: ISC
# git push over HTTP: real git and dulwich as clients, names of all kinds, pushes that are refused.
use strict;
use warnings;
no warnings 'exec';
use FindBin;
use lib $FindBin::Bin;
use Compress::Zlib ();
use Cowbell;
use File::Temp qw(tempdir);
use IO::Socket::INET;
use Platform;
use Test::More;
use Time::HiRes qw(sleep time);

plan skip_all => 'needs git' unless grep { -x "$_/git" } split /:/, $ENV{PATH};
my $p = Platform->start(args => ['--build-timeout', '20s', '--max-source', '4M']);
my $dir = tempdir(CLEANUP => 1);
my %env = (PATH => $ENV{PATH}, HOME => "$dir/home", LANG => 'C.UTF-8', GIT_TERMINAL_PROMPT => 0, GIT_CONFIG_NOSYSTEM => 1, GIT_AUTHOR_NAME => 'a', GIT_AUTHOR_EMAIL => 'a@b.example',
	GIT_COMMITTER_NAME => 'a', GIT_COMMITTER_EMAIL => 'a@b.example');
mkdir "$dir/home";

# A program in a directory: its status, and all it printed.
sub in_dir {
	my ($d, @command) = @_;
	my $pid = open(my $f, '-|') // die;
	if (!$pid) {
		%ENV = %env;
		chdir $d or POSIX::_exit(126);
		open(STDERR, '>&', \*STDOUT);
		open(STDIN, '<', '/dev/null');
		exec 'timeout', '-k', '5', '60', @command;
		POSIX::_exit(127);
	}
	local $/;
	my $out = <$f> // '';
	close $f;
	return ($? >> 8, $out);
}
sub git { my ($d, @args) = @_; return in_dir($d, 'git', @args) }
sub must { my ($s, $out) = git(@_); die "git @_: $out" if $s; return $out }
sub url { my ($app, $token) = @_; return sprintf 'http://%s:%s@127.0.0.1:%d/%s.git', 'anybody', $token // $p->token, $p->port_of, $app }
sub repo {
	my ($name, $branch, %files) = @_;
	my $d = "$dir/$name";
	mkdir $d;
	must($d, 'init', '-q', '-b', $branch);
	%files = ('app.py' => $Platform::TEXT_APP, Procfile => "web: python3 app.py\n", 'requirements.txt' => '', %files);
	spew("$d/$_", $files{$_}) for keys %files;
	commit($d, 'first');
	return $d;
}
sub commit { my ($d, $m) = @_; must($d, 'add', '-A'); must($d, 'commit', '-q', '--allow-empty', '-m', $m) }
sub app { $p->ok_api(201, 'POST', '/apps', {name => $_[0]}) }
sub serves { my ($app, $text, $name) = @_; my $r; $p->wait_for(10, sub { $r = $p->app($app); $r->{content} eq $text }); local $Test::Builder::Level = $Test::Builder::Level + 1; is($r->{content}, $text, $name) }

my $one = repo('one', 'main', text => "one\n");
subtest 'push main' => sub {
	app('demo');
	my ($s, $out) = git($one, 'push', url('demo'), 'main');
	is($s, 0, 'it succeeds') or diag($out);
	like($out, qr/^remote: -----> Python app detected/m, 'the build is shown');
	like($out, qr/^remote:        Released v1/m, 'and its end');
	unlike($out, qr/error|warning|fatal/i, 'nothing else is complained about');
	serves('demo', "one\n", 'it answers');
	my $head = must($one, 'rev-parse', 'HEAD');
	like($p->api('GET', '/apps/demo/releases')->{json}[0]{description}, qr/^Deploy @{[substr $head, 0, 8]}$/, 'the release names the commit');
	($s, $out) = git($one, 'push', url('demo'), 'main');
	like($out, qr/Everything up-to-date/, 'once more: nothing to do');
	spew("$one/text", "two\n");
	commit($one, 'second');
	is((git($one, 'push', url('demo'), 'main'))[0], 0, 'a second commit');
	serves('demo', "two\n", 'is what is served');
};

subtest 'a build that fails refuses the push' => sub {
	spew("$one/requirements.txt", "surely-not-there==1\n");
	commit($one, 'bad');
	my ($s, $out) = git($one, 'push', url('demo'), 'main');
	isnt($s, 0, 'not 0');
	like($out, qr/remote:  !     .*surely-not-there/, 'the reason');
	like($out, qr/pre-receive hook declined/, 'it is refused');
	serves('demo', "two\n", 'the old release goes on');
	must($one, 'reset', '-q', '--hard', 'HEAD~1');
	spew("$one/text", "three\n");
	commit($one, 'third');
	is((git($one, 'push', url('demo'), 'main'))[0], 0, 'mended: taken');
	must($one, 'commit', '-q', '--amend', '-m', 'other');
	isnt((git($one, 'push', url('demo'), 'main'))[0], 0, 'rewritten: git itself refuses without --force');
	is((git($one, 'push', '--force', url('demo'), 'main'))[0], 0, 'with --force: taken');
	serves('demo', "three\n", 'and served');
};

subtest 'clone' => sub {
	my ($s, $out) = git($dir, 'clone', '-q', url('demo'), "$dir/back");
	is($s, 0, 'it comes back') or diag($out);
	is(slurp("$dir/back/text"), "three\n", 'as it was pushed');
	($s, $out) = git($dir, '-c', 'protocol.version=0', 'clone', '-q', url('demo'), "$dir/back0");
	is($s, 0, 'by the older protocol, too') or diag($out);
	my ($gs) = git("$dir/back", 'fsck', '--strict');
	is($gs, 0, 'whole');
};

subtest 'master; other branches; tags; deleting' => sub {
	app('old');
	my $two = repo('two', 'master', text => "master\n");
	my ($s, $out) = git($two, 'push', url('old'), 'master');
	is($s, 0, 'master is deployed') or diag($out);
	serves('old', "master\n", 'it answers');
	is((git($dir, 'clone', '-q', url('old'), "$dir/backm"))[0], 0, 'a clone');
	is(slurp("$dir/backm/text") // '', "master\n", 'checks it out');
	my $before = @{$p->api('GET', '/apps/old/releases')->{json}};
	must($two, 'checkout', '-q', '-b', 'topic');
	commit($two, 'topic');
	($s, $out) = git($two, 'push', url('old'), 'topic');
	is($s, 0, 'another branch is stored');
	like($out, qr/not main or master: nothing is built/, 'and this is said');
	must($two, 'tag', 'v1');
	is((git($two, 'push', url('old'), 'v1'))[0], 0, 'a tag');
	is(scalar @{$p->api('GET', '/apps/old/releases')->{json}}, $before, 'no release was made');
	isnt((git($two, 'push', url('old'), ':master'))[0], 0, 'master cannot be deleted');
	is((git($two, 'push', url('old'), 'topic:main'))[0], 0, 'topic as main');
};

subtest 'who may' => sub {
	my ($s, $out) = git($one, 'push', url('demo', 'wrong'), 'main');
	isnt($s, 0, 'a wrong token');
	like($out, qr/Authentication failed|401|403/, 'is told');
	isnt((git($one, 'push', 'http://127.0.0.1:' . $p->port_of . '/demo.git', 'main'))[0], 0, 'no token');
	($s, $out) = git($one, 'push', url('nosuch'), 'main');
	isnt($s, 0, 'an app that is not there');
	like($out, qr/not found|404/i, 'is told, and not made');
	is($p->api('GET', '/apps/nosuch')->{status}, 404, 'really not');
	my $get = sub { HTTP::Tiny->new->get('http://x:' . $p->token . '@127.0.0.1:' . $p->port_of . $_[0]) };
	is($get->('/demo.git/info/refs')->{status}, 403, 'the dumb protocol is refused');
	is($get->("/demo.git/$_")->{status}, 404, "/demo.git/$_: no file is served") for 'HEAD', 'config', 'objects/info/packs', '../../platform.db';
	is($get->("/$_.git/info/refs?service=git-upload-pack")->{status}, 404, "'$_' is no app") for '..', '-demo', 'Demo', 'demo%2f..', '%2e%2e', "demo'", 'a' x 60, '--upload-pack=touch';
	is($get->('/demo.git/info/refs?service=git-upload-archive')->{status}, 403, 'no other service');
	is($get->('/demo.git/git-receive-pack')->{status}, 405, 'GET where POST is meant');
};

subtest 'names full of quotes, newlines, semicolons' => sub {
	app('odd');
	my $d = repo('odd', 'main', text => "odd\n", "it's; \"so\" \$(touch PWNED) `touch PWNED`" => 'x', "new\nline" => 'y', '-rf' => 'z', '--output=PWNED' => 'w');
	my ($s, $out) = git($d, 'push', url('odd'), 'main');
	is($s, 0, 'files of such names') or diag($out);
	serves('odd', "odd\n", 'it answers');
	for my $b ("q'uote;\$(touch\${IFS}PWNED)", 'semi;colon', '`touch`', "uml\xc3\xa4ut", 'a/-b', 'x"y', 'main;touch') {
		is((git($d, 'push', url('odd'), "HEAD:refs/heads/$b"))[0], 0, "branch $b");
	}
	($s, $out) = git($d, 'push', url('odd'), 'HEAD:refs/heads/-branch');
	unlike($out, qr/panic|usage:/i, "'-branch' is a name, not an option");
	ok(!-e $p->data . "/git/$_", "no $_") for 'PWNED';
	is(scalar(grep { /PWNED/ } glob($p->data . '/git/*/*')), 0, 'nothing was run');
	must($d, 'update-index', '--add', '--cacheinfo', '160000,' . '1' x 40 . ',sub');
	spew("$d/.gitmodules", "[submodule \"../../evil\"]\n\tpath = sub\n\turl = ext::touch% PWNED\n");
	must($d, 'add', '.gitmodules');
	must($d, 'commit', '-q', '-m', 'sub');
	($s, $out) = git($d, 'push', url('odd'), 'main');
	isnt($s, 0, 'a .gitmodules that attacks is refused') or diag($out);
	must($d, 'reset', '-q', '--hard', 'HEAD~1');
	spew("$d/.gitattributes", "text export-subst\n*.py filter=evil ident\n");
	spew("$d/text", "\$Format:%H\$\n");
	commit($d, 'attributes');
	is((git($d, 'push', url('odd'), 'main'))[0], 0, 'export-subst and filters');
	serves('odd', "\$Format:%H\$\n", 'are not followed');
	spew("$d/l", '');
	unlink "$d/l";
	symlink '../../../etc/passwd', "$d/l";
	commit($d, 'link');
	($s, $out) = git($d, 'push', url('odd'), 'main');
	isnt($s, 0, 'a link that leaves');
	like($out, qr/leads out of the source/, 'is told');
	must($d, 'reset', '-q', '--hard', 'HEAD~1');
	spew("$d/big", join '', map { chr int rand 256 } 1 .. 6_000_000);
	commit($d, 'big');
	($s, $out) = git($d, 'push', url('odd'), 'main');
	isnt($s, 0, 'more than the limit');
	serves('odd', "\$Format:%H\$\n", 'and the old release goes on');
};

subtest 'two at one time; a client that leaves' => sub {
	plan skip_all => 'needs make, gcc and bubblewrap' if grep { my $c = $_; !grep { -x "$_/$c" } split /:/, $ENV{PATH} } qw(make gcc bwrap);
	app('slow');
	my $d = "$dir/slow";
	mkdir $d;
	must($d, 'init', '-q', '-b', 'main');
	spew("$d/Makefile", "all:\n\tsleep 3\n\tgcc -o main main.c\n");
	spew("$d/main.c", "int main(void) { return 0; }\n");
	spew("$d/Procfile", "web: ./main\n");
	commit($d, 'slow');
	must($dir, 'clone', '-q', $d, "$dir/slow2");
	spew("$dir/slow2/x", 'x');
	commit("$dir/slow2", 'second');
	my $pid = fork // die;
	if (!$pid) { my ($s) = git($d, 'push', url('slow'), 'main'); POSIX::_exit($s) }
	sleep 1.5;
	my ($s, $out) = git("$dir/slow2", 'push', url('slow'), 'main');
	isnt($s, 0, 'a second push while the first is built is refused');
	like($out, qr/Another push/, 'and told why') or diag($out);
	waitpid $pid, 0;
	is($?, 0, 'the first is taken');
	is((git("$dir/slow2", 'push', url('slow'), 'main'))[0], 0, 'then the second');
	spew("$d/y", 'y');
	commit($d, 'third');
	must($d, 'pull', '-q', '--rebase', "$dir/slow2", 'main');
	$pid = fork // die;
	if (!$pid) {
		%ENV = %env;
		chdir $d;
		open(STDERR, '>', '/dev/null');
		setpgrp;
		exec 'git', 'push', url('slow'), 'main';
	}
	sleep 1.5;
	kill 'KILL', -$pid;
	waitpid $pid, 0;
	ok($p->wait_for(10, sub { my $b = $p->api('GET', '/apps/slow/builds')->{json}; $b->[-1]{status} eq 'failed' }), 'the build of a client that left is cancelled');
	($s, $out) = git($d, 'push', url('slow'), 'main');
	is($s, 0, 'and it can be pushed again') or diag($out);
	ok($p->wait_for(5, sub { !glob($p->data . '/sources/*') && !glob($p->data . '/git/*/objects/*incoming*') }), 'nothing is left over');
};

subtest 'another client: dulwich' => sub {
	my ($python) = grep { -x $_ && !(in_dir($dir, $_, '-c', 'import dulwich'))[0] } '/usr/bin/python3', '/usr/local/bin/python3';
	plan skip_all => 'needs python3-dulwich' unless $python;
	app('dul');
	spew("$one/text", "by dulwich\n");
	commit($one, 'dulwich');
	my ($s, $out) = in_dir($dir, $python, '-c', "from dulwich import porcelain; import sys; porcelain.push(sys.argv[1], sys.argv[2], 'refs/heads/main')", $one, url('dul'));
	is($s, 0, 'push') or diag($out);
	serves('dul', "by dulwich\n", 'it answers');
	($s, $out) = in_dir($dir, $python, '-c', "from dulwich import porcelain; import sys; porcelain.clone(sys.argv[1], sys.argv[2])", url('dul'), "$dir/dback");
	is($s, 0, 'clone') or diag($out);
	is(slurp("$dir/dback/text") // '', "by dulwich\n", 'comes back');
};

subtest 'requests by hand: gzip, bombs, and one whose sender goes' => sub {
	my $mallory = $p->ok_api(201, 'POST', '/users', {email => 'mallory@example.org'});
	$p->ok_api(201, 'POST', '/apps', {name => 'hand'});
	$p->ok_api(201, 'POST', '/apps/hand/collaborators', {user => 'mallory@example.org'});
	# bytes that cannot be compressed, and so many that the child is behind
	my $d = repo('hand', 'main', noise => join '', map { pack 'L*', map { int rand 2**32 } 1 .. 65536 } 1 .. 12);
	my $body = sub {
		my ($branch) = @_;
		my $head = must($d, 'rev-parse', 'HEAD') =~ s/\s+\z//r;
		spew("$dir/rev", "$head\n");
		my $pack = qx(cd $d && git pack-objects --revs --stdout -q < $dir/rev);
		my $line = sprintf "%s %s refs/heads/%s\0 report-status side-band-64k object-format=sha1", "0" x 40, $head, $branch;
		return sprintf('%04x%s0000', 4 + length $line, $line) . $pack;
	};
	my $send = sub {
		my ($bytes, $headers, $cut, $between) = @_;
		my $s = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $p->port_of) or die;
		local $SIG{PIPE} = 'IGNORE';
		print $s "POST /hand.git/git-receive-pack HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n${headers}Authorization: Bearer $mallory->{token}\r\n" .
			"Content-Type: application/x-git-receive-pack-request\r\nContent-Length: " . length($bytes) . "\r\n\r\n" . substr $bytes, 0, $cut // length $bytes;
		$s->flush;
		$between->() if $between;
		print $s substr $bytes, $cut if defined $cut;
		$s->flush;
		local $/;
		local $SIG{ALRM} = sub { die "no answer\n" };
		alarm 40;
		my $got = eval { readline $s } // '';
		alarm 0;
		return $got;
	};
	my $b = $body->('side');
	cmp_ok(length $b, '>', 3_000_000, 'some megabytes');
	like($send->(Compress::Zlib::memGzip($b), "Content-Encoding: gzip\r\n"), qr/unpack ok.*ok refs\/heads\/side/s, 'a large one, packed by gzip');
	unlike($send->(Compress::Zlib::memGzip($b) . 'x' x 100, "Content-Encoding: gzip\r\n"), qr/ok refs/, 'bytes behind the gzip');
	my ($peak) = slurp('/proc/' . $p->pid . '/status') =~ /^VmHWM:\s+(\d+)/m;
	unlike($send->(Compress::Zlib::memGzip("\0" x 200_000_000), "Content-Encoding: gzip\r\n"), qr/ok refs/, 'a bomb of gzip');
	my ($now) = slurp('/proc/' . $p->pid . '/status') =~ /^VmHWM:\s+(\d+)/m;
	cmp_ok($now - $peak, '<', 20_000, 'takes no memory') unless ($ENV{COWBELL_PLATFORM} // '') =~ /asan/;
	my $got = $send->($body->('main'), '', 20, sub {
		sleep 0.3;
		is($p->api('DELETE', '/users/mallory@example.org')->{status}, 200, 'the account goes while the push comes');
		$p->ok_api(201, 'POST', '/users', {email => "other$_\@example.org"}) for 1 .. 3; # in the place of what was freed
	});
	like($got, qr/no access to this app any more/, 'the push is refused');
	is_deeply($p->ok_api(200, 'GET', '/apps/hand/releases'), [], 'and nothing is released');
};

subtest 'an app that goes takes its repository along' => sub {
	my $n = () = glob($p->data . '/git/*');
	is($p->api('DELETE', '/apps/demo')->{status}, 200, 'destroyed');
	ok($p->wait_for(5, sub { (() = glob($p->data . '/git/*')) == $n - 1 }), 'one less');
	unlike($p->log, qr/@{[$p->token]}/, "the token is in nobody's log");
};
done_testing;
