#!/usr/bin/perl
# SPDX-License-Identifier: ISC
# The working set of a snapshot: the first restored run records it, later ones start with it; a torn, strange or hostile memo
# costs time and nothing else. And memory: what the monitor writes into a page that the guest has only read so far is
# seen by the guest, whether or not the page was made ready.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Cowbell;
use Test::More;

own_network();
plan skip_all => 'needs a C compiler' unless have('cc', 'curl');
my $dir = scratch();
$ENV{XDG_DATA_HOME} = "$dir/data";
$ENV{XDG_CACHE_HOME} = "$dir/cache";
$ENV{XDG_STATE_HOME} = "$dir/state";
mkdir "$dir/$_" for qw(bin vol);

# Each request: look at all of the buffer, have the monitor write a file into it, look again.
spew("$dir/app.c", <<'C');
#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#define SIZE (256 << 10)
static char buf[SIZE] __attribute__((aligned(4096)));
static int all(char c) { for (int i = 0; i < SIZE; i++) if (buf[i] != c) return 0; return 1; }
int main(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(8000)};
	int s = socket(AF_INET, SOCK_STREAM, 0), one = 1, f = open("/vol/file", O_RDONLY);
	char last = 'A';
	memset(buf, last, SIZE);
	setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (f < 0 || bind(s, (void *)&a, sizeof a) || listen(s, 64)) return 1;
	for (;;) {
		char req[1000], ans[200], body[64];
		int c = accept(s, 0, 0);
		if (c < 0 || read(c, req, sizeof req) <= 0) continue;
		int before = all(last);
		ssize_t n = pread(f, buf, SIZE, 0);
		int after = all('B');
		last = 'B';
		snprintf(body, sizeof body, "before %d read %zd after %d\n", before, n, after);
		snprintf(ans, sizeof ans, "HTTP/1.0 200 OK\r\nContent-Length: %zu\r\n\r\n%s", strlen(body), body);
		if (write(c, ans, strlen(ans)) < 0) return 2;
		close(c);
	}
}
C
spew("$dir/vol/file", 'B' x (256 << 10));
is(system('cc', '-O1', '-o', "$dir/bin/app", "$dir/app.c"), 0, 'the program compiles');

sub memos { my ($kind) = @_; return grep { -s } glob("$dir/cache/cowbell/memos/workset-$kind.*") }

# One restored run and what it answers, twice.
sub answer {
	my ($m, $snap) = @_;
	my $port = free_port();
	my $g = start_guest({}, $COWBELL, 'run', '--monitor', $m, '-p', "127.0.0.1:$port:8000", '-v', "$dir/vol:/vol",
		'--snapshot', $snap);
	my ($code, $text) = wait_http($g, "http://127.0.0.1:$port/");
	my (undef, $again) = http("http://127.0.0.1:$port/");
	stop_guest($g);
	return $text . $again;
}

my $good = "before 1 read 262144 after 1\n" x 2;
for my $m (monitors()) {
	my $snap = "$dir/$m.snap";
	run_out({dir => "$dir/bin"}, $COWBELL, 'run', '--monitor', $m, '-p', '127.0.0.1:0:8000', '-v', "$dir/vol:/vol",
		'--snapshot-at', 'ready', '--snapshot-stop', '-o', $snap, "$dir/bin/app");
	ok(-s $snap, "$m: a snapshot");
	is(answer($m, $snap), $good, "$m: first run: sees what the monitor wrote");
	is(scalar(memos($m)), 1, "$m: it leaves a working set");
	my ($memo) = memos($m);
	my $bytes = slurp($memo);
	is(answer($m, $snap), $good, "$m: second run: sees it, too");
	is(slurp($memo), $bytes, "$m: and changes nothing");
	my $n = unpack('V', substr($bytes, 48, 4));
	cmp_ok($n, '>', 0, "$m: there are ranges");
	# hostile ones: far away, overlapping, without end, of another snapshot; torn
	my $head = substr($bytes, 0, 64);
	my %bad = (
		torn => substr($bytes, 0, length($bytes) - 8),
		flipped => substr($bytes, 0, 70) . chr(ord(substr($bytes, 70, 1)) ^ 1) . substr($bytes, 71),
		short => substr($bytes, 0, 20),
		far => crafted($head, [1 << 40, 1, 1]),
		overlapping => crafted($head, [0, 16, 1], [4096, 16, 1]),
		endless => crafted($head, [0, 0xffffffff, 1]),
		odd => crafted($head, [5, 1, 1]),
		empty => crafted($head),
		other => do { my $b = $bytes; substr($b, 20, 1) = chr(ord(substr($b, 20, 1)) ^ 1); $b },
	);
	for my $k (sort keys %bad) {
		spew($memo, $bad{$k});
		is(answer($m, $snap), $good, "$m: $k memo: ignored");
		my $now = slurp($memo);
		ok($now ne $bad{$k} && length($now) > 64, "$m: $k memo: recorded anew");
	}
	unlink $memo;
	mkdir $memo;
	is(answer($m, $snap), $good, "$m: a memo that cannot be a file");
	rmdir $memo;
	# a right one that names all there is
	my $ram = unpack('Q<', substr($bytes, 8, 8));
	spew($memo, crafted($head, map { [$_ * (4096 << 10), 1024, 1] } 0 .. $ram / (4096 << 10) - 1));
	is(answer($m, $snap), $good, "$m: a memo of all memory");
	unlink $memo;
}
done_testing();

sub crafted {
	my ($head, @ranges) = @_;
	my $r = join '', map { pack('Q<VV', @$_) } @ranges;
	my $h = $head;
	substr($h, 48, 8) = pack('VV', scalar(@ranges), crc32c($r));
	return $h . $r;
}

sub crc32c {
	my $c = 0xffffffff;
	for my $b (unpack 'C*', $_[0]) {
		$c ^= $b;
		$c = $c & 1 ? ($c >> 1) ^ 0x82f63b78 : $c >> 1 for 1 .. 8;
	}
	return $c ^ 0xffffffff;
}
