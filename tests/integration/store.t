#!/usr/bin/perl
# SPDX-License-Identifier: ISC
# The store of images: images, inspect, tag, rm and prune; what is damaged; builders that are killed at any moment.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin";
use Cowbell;
use JSON::PP;
use POSIX qw(:sys_wait_h);
use Test::More;
use Time::HiRes qw(time sleep);

my $dir = scratch();
$ENV{XDG_DATA_HOME} = "$dir/data";
$ENV{XDG_CACHE_HOME} = "$dir/cache";
my $store = "$dir/data/cowbell";
my $tool = "$dir/store_tool";
system("cd '$TOP' && gcc -O1 -D_GNU_SOURCE -I. -o '$tool' tests/integration/store_tool.c image/dirs.c image/store/store.c image/store/blob.c " .
	"image/store/refs.c image/store/memo.c image/store/pending.c image/oci/oci.c lib/host/say.c lib/host/strings.c " .
	"-l:libnettle.a -l:libjansson.a") == 0 or BAIL_OUT('gcc');

my ($st, $out, $err);
sub cowbell { ($st, $out, $err) = run_out({dir => $dir, timeout => 60}, $COWBELL, @_); return $st }
sub tool {
	($st, $out, $err) = run_out({dir => $dir, timeout => 60}, $tool, @_);
	chomp(my $line = $out);
	return $line;
}
# command, status, what standard output and error look like
sub gives {
	my ($name, $want, $want_out, $want_err, @args) = @_;
	cowbell(@args);
	my $good = $st == $want && $out =~ $want_out && $err =~ $want_err;
	$good &&= $err eq '' || $err =~ /\A(cowbell: [^\n]+\n)+\z/;
	ok($good, $name) or diag "cowbell @args: status $st\nout: $out\nerr: $err";
}
sub list { cowbell('images', '--json'); return decode_json($out) }
sub blocks { my $sum = 0; $sum += (lstat)[12] * 512 for glob("$store/blobs/sha256/*"); return $sum }
sub verify_ok {
	my ($name) = @_;
	my $line = tool('verify');
	ok($st == 0, "$name: $line") or diag $out;
}
sub path_of { return "$store/blobs/sha256/$_[0]" }

# --- an empty store
gives('an empty store', 0, qr/\ANAME +TAG +DIGEST.*\n\n0 images, 0 B on disk\n\z/, qr/\A\z/, 'images');
gives('nothing to prune', 0, qr/removed 0 blobs, 0 memos, 0 leftovers: 0 B \(0 bytes\)/, qr/\A\z/, 'prune');
is((stat $store)[2] & 0777, 0700, 'it is its owner\'s alone');

# --- two images that share a layer
spew("$dir/big", join('', map { chr($_ * 7 % 256) } 1 .. 100000));
spew("$dir/a.layer", 'a' x 5000);
spew("$dir/b.layer", 'b' x 50);
my $a = tool('make', 'one:latest', 'big', 'a.layer');
my $b = tool('make', 'host.example:5000/two/more:v1', 'big', 'b.layer');
like($a, qr/^[0-9a-f]{64}$/, 'an image is made');
my $ad = substr($a, 0, 12);
gives('both are listed', 0, qr/^host.example:5000\/two\/more +v1 .*\n^one +latest +$ad +test 1.0 +[\d.]+ KiB +[\d.]+ KiB$/m, qr/\A\z/, 'images');
my $l = list();
is(scalar(@{$l->{images}}), 2, 'as JSON, too');
my ($one) = grep { $_->{digest} eq "sha256:$a" } @{$l->{images}};
my ($two) = grep { $_->{digest} eq "sha256:$b" } @{$l->{images}};
my $big_blocks = (grep { -s $_ == 100000 } glob("$store/blobs/sha256/*"))[0];
my $shared = (lstat $big_blocks)[12] * 512;
is($one->{shared_bytes}, $shared, 'what they share is the big layer');
is($one->{disk_bytes} + $two->{disk_bytes} - $shared, blocks(), 'sizes add up to the blocks on disk');
is($l->{disk_bytes}, blocks(), 'so does the sum');
is(join(' ', map { (lstat)[12] } glob("$store/refs/*")), '0 0', 'names take no block');
gives('digests alone', 0, qr/\A[0-9a-f]{12}\n[0-9a-f]{12}\n\z/, qr/\A\z/, 'images', '-q');

# --- inspect
gives('inspect --shared', 0, qr/^  Digest +sha256:$a\n.*^  Command +serve 'two words'\n.*^  Processes +web=serve --port \$PORT\n.*^  Ports +8080\/tcp\n.*shared by 2 +layer 0\n.*unshared +layer 1\n/ms,
	qr/\A\z/, 'inspect', '-s', 'one');
unlike($out, qr/\x1b/, 'no escape sequence comes through');
for my $word ("sha256:$a", substr($a, 0, 12), substr($a, 0, 6), 'one:latest', "one\@sha256:$a", "sha256:" . substr($a, 0, 9)) {
	gives("by $word", 0, qr/sha256:$a/, qr/\A\z/, 'inspect', $word);
}
gives('inspect', 0, qr/^  Digest +sha256:$a\n.*KiB on disk\n.*^  Signed +no\n.*KiB  +layer 0\n.*KiB  +layer 1\n/ms, qr/\A\z/, 'inspect', 'one');
cowbell('inspect', '--shared', '--json', 'one', 'host.example:5000/two/more:v1');
my $j = eval { decode_json($out) };
ok($j && @$j == 2 && $j->[0]{manifest}{schemaVersion} == 2 && $j->[0]{config}{config}{Cmd}[1] eq 'two words' && $j->[0]{layers}[0]{images} == 2,
	'inspect --json has manifest, configuration and account') or diag $out;
is($j->[0]{processes}{worker}, 'work', 'and process types');

# --- wrong input
gives('no such image', 127, qr/\A\z/, qr/nope: no such image/, 'inspect', 'nope');
gives('rm of nothing', 127, qr/\A\z/, qr/nope: no such image/, 'rm', 'nope');
gives('rm -f of nothing', 0, qr/\A\z/, qr/\A\z/, 'rm', '-f', 'nope');
gives('tag of nothing', 127, qr/\A\z/, qr/no such image/, 'tag', 'nope', 'x');
for my $bad ('', '../../etc', 'UPPER', 'a b', "a\nb", 'a:', ':b', 'a@sha256:12', "a\e[31m", 'x' x 5000, '-', 'a//b', '.', 'one:' . 'x' x 200) {
	(my $shown = substr($bad, 0, 20)) =~ s/[^ -~]/?/g;
	gives("'$shown' is no new name", 125, qr/\A\z/, qr/./, 'tag', '--', 'one', $bad);
}
gives('a digest is no new name', 125, qr/\A\z/, qr/digest/, 'tag', 'one', "x\@sha256:$a");
gives('nor is a signature\'s', 125, qr/\A\z/, qr/signatures/, 'tag', 'one', "x:sha256-$a.sig");
gives('too long for a file name', 125, qr/\A\z/, qr/too long/, 'tag', 'one', 'x' x 200 . ':' . 'y' x 100);
my ($layer) = map { m{([0-9a-f]{64})$} } $big_blocks;
gives('a layer is no image', 125, qr/\A\z/, qr/no image|cannot be read/, 'tag', "sha256:$layer", 'x');
gives('nor to inspect', 125, qr/\A\z/, qr/no image/, 'inspect', "sha256:$layer");
gives('a missing operand', 125, qr/\A\z/, qr/a name is missing/, 'tag', 'one');
gives('one too many', 125, qr/\A\z/, qr/'x' is too much/, 'images', 'x');
gives('an unknown option', 125, qr/\A\z/, qr/no option/, 'prune', '--everything');
for my $c (qw(images inspect tag rm prune)) {
	gives("$c --help", 0, qr/\AUsage: cowbell $c /, qr/\A\z/, $c, '--help');
	(my $man = slurp("$TOP/man/cowbell-images.1")) =~ s/\\-/-/g;
	is(join(' ', grep { $man !~ /--\Q$_\E\b/ } $out =~ /--([a-z][a-z-]*)/g), '', "the man page has the options of $c");
	ok(-e "$TOP/man/cowbell-$c.1", "cowbell-$c(1) is there");
}

# --- tag and rm, with signatures
my $sig = tool('sign', 'one:latest');
is(list()->{images}[1]{signatures}[0], $sig, 'a signature belongs to its image');
gives('tag', 0, qr/\A\z/, qr/\A\z/, 'tag', 'one', 'one:again');
gives('tag under another name', 0, qr/\A\z/, qr/\A\z/, 'tag', $ad, 'other:1');
gives('the same once more', 0, qr/\A\z/, qr/\A\z/, 'tag', 'one', 'other:1');
is(scalar(@{list()->{images}}), 2, 'still two images');
($one) = grep { $_->{digest} eq "sha256:$a" } @{list()->{images}};
is_deeply($one->{names}, ['one:again', 'one:latest', 'other:1'], 'one of them with three names');
is_deeply($one->{signatures}, [$sig, "other:sha256-$a.sig"], 'signatures go with the name');
gives('a digest with several names', 125, qr/\A\z/, qr/3 names/, 'rm', $ad);
gives('rm', 0, qr/\Aremoved one:latest\n\z/, qr/\A\z/, 'rm', 'one');
gives('rm of the last of a name takes the signature', 0, qr/\Aremoved one:again\nremoved \Q$sig\E\n\z/, qr/\A\z/, 'rm', 'one:again');
gives('the image is still there', 0, qr/other/, qr/\A\z/, 'inspect', '-s', $ad);
my $before = blocks();
($one) = grep { $_->{digest} eq "sha256:$a" } @{list()->{images}};
gives('rm of the last name', 0, qr/\Aremoved other:1\nremoved other:sha256-$a.sig\n\z/, qr/\A\z/, 'rm', $ad);
is(list()->{unused_bytes}, $one->{unshared_bytes}, 'unused is now what was unshared');
gives('a dry run', 0, qr/would remove 6 blobs.*\($one->{unshared_bytes} bytes\)/, qr/\A\z/, 'prune', '-n');
is(blocks(), $before, 'removes nothing');
gives('prune', 0, qr/removed 6 blobs.*\($one->{unshared_bytes} bytes\) freed/, qr/\A\z/, 'prune');
is($before - blocks(), $one->{unshared_bytes}, 'frees exactly what it says');
verify_ok('what is left is whole');

# --- the same names again and again: the account of replaced images
tool('make', 'one:latest', 'a.layer');
tool('make', 'one:latest', 'b.layer');
gives('a replaced image is pruned', 0, qr/"blobs": 3,/, qr/\A\z/, 'prune', '--json');
is(eval { decode_json($out)->{freed_bytes} > 0 }, 1, 'its bytes are said');

# --- what dead processes leave
run_out({}, $tool, 'litter');
ok(scalar(my @t = glob("$store/tmp/*")), 'a killed process leaves a scratch directory');
gives('prune takes it', 0, qr/removed 1 blob, 0 memos, 1 leftover: 1\d\d\.\d KiB/, qr/\A\z/, 'prune');
is(scalar(@t = glob("$store/tmp/*")), 0, 'it is gone');

# --- damage
$a = tool('make', 'sick:1', 'big', 'a.layer');
chmod 0600, path_of($a);
spew(path_of($a), '{"schemaVersion": 2');
gives('a damaged manifest is said', 125, qr/sick +1 .*damaged/, qr/sick:1: its manifest is damaged/, 'images');
gives('by inspect', 125, qr/damaged/, qr/damaged/, 'inspect', 'sick:1');
gives('it cannot be tagged', 125, qr/\A\z/, qr/cannot be read/, 'tag', 'sick:1', 'x');
my $blobs = () = glob("$store/blobs/sha256/*");
gives('prune removes no blob then', 125, qr/removed 0 blobs/, qr/sick:1.*\n.*no blob was removed/, 'prune');
is(scalar(my @n = glob("$store/blobs/sha256/*")), $blobs, 'none');
tool('make', 'sick:1', 'big', 'a.layer');
gives('building it again mends it', 0, qr/sick/, qr/\A\z/, 'images');
unlink path_of($a);
gives('a missing manifest', 125, qr/sick/, qr/its manifest is missing/, 'images');
gives('the name can be removed', 0, qr/removed sick:1/, qr/\A\z/, 'rm', 'sick:1');
symlink 'rubbish', "$store/refs/ill,1";
gives('a damaged name', 125, qr/./, qr/ill:1: the name is damaged/, 'images');
gives('to inspect', 125, qr/\A\z/, qr/the name is damaged; cowbell rm/, 'inspect', 'ill:1');
gives('can be removed', 0, qr/removed ill:1/, qr/\A\z/, 'rm', 'ill:1');
gives('then all is well', 0, qr/removed \d+ blob/, qr/\A\z/, 'prune');
$a = tool('make', 'sick:2', 'a.layer');
my ($config) = (slurp(path_of($a)) =~ /"config".*?sha256:([0-9a-f]{64})/s);
unlink path_of($config);
gives('a missing configuration', 125, qr/sick:2/, qr/configuration is damaged or missing/, 'inspect', 'sick:2');
gives('prune can do with that', 0, qr/removed/, qr/\A\z/, 'prune');
gives('rm', 0, qr/removed/, qr/\A\z/, 'rm', 'sick:2');
spew("$store/refs/not a name", '');
spew("$store/blobs/sha256/not-a-digest", '');
gives('files that are not ours are left alone', 0, qr/removed/, qr/\A\z/, 'prune');
ok(-e "$store/refs/not a name" && -e "$store/blobs/sha256/not-a-digest", 'they are there');
unlink "$store/refs/not a name", "$store/blobs/sha256/not-a-digest";

# --- places that cannot be a store
{
	local $ENV{XDG_DATA_HOME} = "$dir/big";
	gives('a file is no directory', 125, qr/\A\z/, qr/cannot be made the store/, 'images');
	mkdir "$dir/open";
	mkdir "$dir/open/cowbell";
	chmod 0777, "$dir/open/cowbell";
	$ENV{XDG_DATA_HOME} = "$dir/open";
	gives('a directory that others write to is refused', 125, qr/\A\z/, qr/others may write/, 'images');
}

# --- locks
my $hold = start_guest({}, $tool, 'hold', 700);
for (1 .. 100) { last if slurp($hold->{out}) =~ /held/; sleep 0.02 }
my $t = time;
gives('prune waits for who holds the store, and says so', 0, qr/removed/, qr/waiting for others/, 'prune');
ok(time - $t > 0.3, 'it did');
stop_guest($hold, 0, 5);
spew("$dir/number", "0\n");
my @c = map { start_guest({}, $tool, 'count', 'key', "$dir/number", 50) } 1 .. 4;
stop_guest($_, 0, 30) for @c;
is(slurp("$dir/number"), "200\n", 'a lock is one process\'s at a time');

# --- many small images
my $took = tool('many', 1000);
like($took, qr/^\d+ ms$/, "1000 images: $took");
$l = list();
my $per = ($l->{disk_bytes} - $two->{disk_bytes}) / 1000;
ok($per <= 16384, "$per bytes of disk for each");
$t = time;
cowbell('images');
ok($st == 0 && time - $t < 2, sprintf('1000 images are listed in %.0f ms', (time - $t) * 1000));
cowbell('rm', map { "app$_" } 1 .. 1000);
gives('and pruned', 0, qr/removed 300[01] blobs, 1000 memos/, qr/\A\z/, 'prune');

# --- kill -9 in a loop: builders, taggers, removers and pruners, none of which ends by itself
my ($rounds, $deaths, $pruned) = (0, 0, 0);
my $end = time + 15;
srand 42;
while (time < $end) {
	my @p = map { start_guest({}, $tool, 'churn', $rounds * 10 + $_) } 1 .. 2;
	push @p, start_guest({}, 'setsid', 'sh', '-c', "while :; do '$COWBELL' prune >/dev/null 2>&1; '$COWBELL' tag app1:v1 tagged:x 2>/dev/null; '$COWBELL' rm -f app2:v2 >/dev/null 2>&1; done");
	sleep 0.1 + rand(0.5);
	for my $p (sort { rand() <=> 0.5 } @p) {
		kill 'KILL', -$p->{pid} if $p == $p[2];	# the shell and the command that it runs
		$deaths++ if stop_guest($p, 'KILL', 5) eq '137';
	}
	$rounds++;
	if ($rounds % 4 == 0) {
		my $line = tool('verify');
		if ($st) {
			fail("after $rounds rounds: $line");
			diag $out;
			last;
		}
	}
	if ($rounds % 8 == 0) {
		cowbell('prune');
		$pruned++ if $st == 0;
		fail("prune: $st $err") if $st;
	}
}
is($deaths, $rounds * 3, "$rounds rounds, $deaths processes killed");
verify_ok('every name leads to a whole image, every blob is what its name says');
gives('prune', 0, qr/removed/, qr/\A\z/, 'prune');
is(scalar(@t = glob("$store/tmp/*")), 0, 'nothing is left in tmp');
is(list()->{unused_blobs}, 0, 'nor a blob that no image needs');
verify_ok('after the prune');

# --- with real builds
SKIP: {
	cowbell('build', '--help');
	skip('no cowbell build here', 12) if $st;
	mkdir "$dir/app$_" for 1, 2;
	for my $i (1, 2) {
		spew("$dir/app$i/index.html", "<h1>app $i</h1>\n");
		spew("$dir/app$i/Procfile", "web: python3 -m http.server \$PORT\n");
	}
	cowbell('build', "$dir/app1", '-t', 'first');
	skip("cowbell build does not work here: $err", 12) if $st;
	my @b = map { start_guest({}, $COWBELL, 'build', "$dir/app2", '-t', "second:$_") } 1 .. 2;
	my $p = start_guest({}, $COWBELL, 'prune');
	is(stop_guest($_, 0, 120), 0, 'one of two builds at the same time, with a prune beside them') for @b;
	is(stop_guest($p, 0, 120), 0, 'the prune');
	my %d = map { my $i = $_; map { $_ => $i->{digest} } @{$i->{names}} } @{list()->{images}};
	ok($d{'second:1'} && $d{'second:1'} eq $d{'second:2'}, 'the builds gave the same image');
	verify_ok('the store');
	my ($killed, $done) = (0, 0);
	for my $i (1 .. 60) {
		spew("$dir/app2/index.html", "<h1>$i</h1>\n");
		my $g = start_guest({}, $COWBELL, 'build', "$dir/app2", '-t', 'third');
		my $prune = $i % 5 ? undef : start_guest({}, $COWBELL, 'prune');
		sleep(0.001 * ($i % 30));
		my $status = stop_guest($g, 'KILL', 5);
		$status eq '137' ? $killed++ : $done++;
		if ($prune && (my $pst = stop_guest($prune, 0, 20))) {
			fail("prune: $pst");
		}
	}
	ok($killed, "$killed builds killed, $done done");
	verify_ok('the store then');
	cowbell('build', "$dir/app2", '-t', 'third');
	is($st, 0, 'the next build') or diag $err;
	gives('prune', 0, qr/removed/, qr/\A\z/, 'prune');
	is(scalar(@t = glob("$store/tmp/*")), 0, 'nothing is left in tmp');
	is(list()->{unused_blobs}, 0, 'nor a blob that no image needs');
	cowbell('prune', '--all');
	is($st, 0, 'prune --all');
	is(scalar(@t = glob("$store/memos/*")), 0, 'forgets what was remembered');
	my ($digest) = map { $_->{digest} } grep { grep { $_ eq 'third:latest' } @{$_->{names}} } @{list()->{images}};
	cowbell('build', "$dir/app2", '-t', 'fourth');
	my ($again) = map { $_->{digest} } grep { grep { $_ eq 'fourth:latest' } @{$_->{names}} } @{list()->{images}};
	is($again, $digest, 'and the next build gives the same image');
}
done_testing();
