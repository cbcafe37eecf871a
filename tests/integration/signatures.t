#!/usr/bin/perl
# SPDX-License-Identifier: ISC
# keygen, sign, verify and run --require-signature: what is signed, who signed, and what was changed since.
use strict;
use warnings;
use Digest::SHA qw(sha256_hex);
use FindBin;
use MIME::Base64 qw(decode_base64 encode_base64);
use Test::More;
use lib $FindBin::Bin;
use Cowbell qw(:DEFAULT cowbell succeeds refused);
use Registry;

plan skip_all => 'needs openssl and mkfs.erofs' unless have('openssl', 'mkfs.erofs');

my $d = scratch();
$ENV{HOME} = $d;
$ENV{XDG_DATA_HOME} = "$d/data";
$ENV{XDG_CACHE_HOME} = "$d/cache";
my $store = "$d/data/cowbell";
my ($monitor) = monitors();

sub openssl { return system("openssl @_ >/dev/null 2>&1") == 0 }
sub layout {
	my ($dir, $img) = @_;
	mkdir $_ for $dir, "$dir/blobs", "$dir/blobs/sha256";
	spew("$dir/oci-layout", '{"imageLayoutVersion":"1.0.0"}');
	spew("$dir/blobs/sha256/$_", $img->{blobs}{$_}) for keys %{$img->{blobs}};
	spew("$dir/blobs/sha256/$img->{hex}", $img->{manifest});
	spew("$dir/index.json", '{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:'
		. "$img->{hex}\",\"size\":" . length($img->{manifest}) . '}]}');
}
# A blob's bytes as they are on the disk, and other ones in their place, whatever its permissions.
sub change_blob {
	my ($hex, $text) = @_;
	my $file = "$store/blobs/sha256/$hex";
	unlink $file;
	spew($file, $text);
	chmod 0444, $file;
}
sub blob { return slurp("$store/blobs/sha256/$_[0]") }
# The manifest that a name points at (a link to base64url of the digest).
sub ref_file { my ($n) = @_; $n =~ tr{/:}{+,}; return "$store/refs/$n" }
sub ref_hex {
	my $t = readlink(ref_file($_[0])) // return '';
	$t =~ tr{-_}{+/};
	return unpack 'H*', decode_base64("$t=");
}

# --- keys ---------------------------------------------------------------------------------------------------------------
succeeds('keygen', 'keygen', "$d/a.pem", "$d/a.pub");
is((stat "$d/a.pem")[2] & 07777, 0600, 'the private key is for its owner alone');
ok(openssl("pkey -in $d/a.pem -pubout -out $d/a.check"), 'openssl reads it');
is(slurp("$d/a.check"), slurp("$d/a.pub"), 'and finds the same public key, byte by byte');
my $before = slurp("$d/a.pem");
refused('keygen over a private key', qr/never overwritten/, 'keygen', "$d/a.pem", "$d/new.pub");
refused('keygen over a public key', qr/never overwritten/, 'keygen', "$d/new.pem", "$d/a.pub");
ok(!-e "$d/new.pem" && !-e "$d/new.pub" && slurp("$d/a.pem") eq $before, 'nothing is written or changed');
openssl("genpkey -algorithm ed25519 -out $d/b.pem") && openssl("pkey -in $d/b.pem -pubout -out $d/b.pub") or die 'openssl';

# --- an image ----------------------------------------------------------------------------------------------------------
mkdir "$d/root";
mkdir "$d/root/bin";
system('cp', -e '/bin/busybox' ? '/bin/busybox' : '/usr/bin/busybox', "$d/root/bin/busybox");
my $img = native_image($d, "$d/root", '{"Cmd":["/bin/busybox","echo","signed"]}');
my $img2 = native_image($d, "$d/root", '{"Cmd":["/bin/busybox","echo","another"]}');
layout("$d/one", $img);
layout("$d/two", $img2);
succeeds('build --from', 'build', '--from', "oci:$d/one", '-t', 'app:1') or BAIL_OUT('no image to sign');
succeeds('and another', 'build', '--from', "oci:$d/two", '-t', 'other:1');
is(ref_hex('app:1'), $img->{hex}, 'a native image keeps its digest');

# --- sign and verify -----------------------------------------------------------------------------------------------------
refused('verify before', qr/app:1: is not signed/, 'verify', 'app:1', '--key', "$d/a.pub");
refused('run before', qr/is not signed/, 'run', '--monitor', $monitor, '--require-signature', "$d/a.pub", 'image:app:1');
like(succeeds('sign', 'sign', 'app:1', '--key', "$d/a.pem"), qr/^app:1: sha256:$img->{hex} signed$/, 'says what');
like(succeeds('sign again', 'sign', 'app:1', '--key', "$d/a.pem"), qr/signed with this key already/, 'adds nothing');
succeeds('verify', 'verify', 'app:1', '--key', "$d/a.pub");
like(succeeds('verify --json', 'verify', 'app:1', '--key', "$d/a.pub", '--json'),
	qr/^\{"name":"app:1","digest":"sha256:$img->{hex}","key":"[^"]*","signed":true,"verified":true,"signatures":1\}$/, 'one object');
is((run_out({timeout => 30}, $COWBELL, 'run', '--monitor', $monitor, '--require-signature', "$d/a.pub", 'image:app:1'))[1], "signed\n", 'run --require-signature');
refused('verify with a key that did not sign', qr/no valid signature by the key/, 'verify', 'app:1', '--key', "$d/b.pub");
refused('run with a key that did not sign', qr/no valid signature by the key/, 'run', '--monitor', $monitor, '--require-signature', "$d/b.pub", 'image:app:1');
my ($status, $out) = cowbell('verify', 'app:1', '--key', "$d/b.pub", '--json');
ok($status == 125 && $out =~ /"signed":false,"verified":false,"signatures":1/, 'as JSON as well');
succeeds('a key that openssl made signs, too', 'sign', 'app:1', '--key', "$d/b.pem");
succeeds("$_ verifies", 'verify', 'app:1', '--key', "$d/$_.pub") for qw(a b);
is((cowbell('sign', 'nothing:1', '--key', "$d/a.pem"))[0], 127, 'an image that is not here: 127');
succeeds('verify by digest', 'verify', "sha256:$img->{hex}", '--key', "$d/a.pub");
refused('sign by digest: under which name?', qr/give the image's name/, 'sign', "sha256:$img->{hex}", '--key', "$d/b.pem");
succeeds('another name for it', 'tag', 'app:1', 'renamed:2');
succeeds('has the same signatures', 'verify', 'renamed:2', '--key', "$d/a.pub");
succeeds('and takes them along when it goes', 'rm', 'renamed:2');
is(join(' ', grep { /renamed/ } glob "$store/refs/*"), '', 'to the last');

# --- the form: openssl agrees, cosign would -----------------------------------------------------------------------------
my $sig_name = "app:sha256-$img->{hex}.sig";
my $sig_hex = ref_hex($sig_name);
my $manifest = blob($sig_hex);
my @layers = $manifest =~ /"digest":"sha256:(\w+)","annotations":\{"dev\.cosignproject\.cosign\/signature":"([^"]+)"\}/g;
is(scalar(@layers), 4, 'two payloads with two signatures');
for my $i (0, 1) {
	my ($hex, $b64) = @layers[2 * $i, 2 * $i + 1];
	my $key = ('a', 'b')[$i];
	spew("$d/sig", decode_base64($b64));
	ok(openssl("pkeyutl -verify -rawin -pubin -inkey $d/$key.pub -in $store/blobs/sha256/$hex -sigfile $d/sig"), "openssl verifies the signature by $key");
}
is(blob($layers[0]), "{\"critical\":{\"identity\":{\"docker-reference\":\"app\"},\"image\":{\"docker-manifest-digest\":\"sha256:$img->{hex}\"},\"type\":\"cosign container image signature\"},\"optional\":null}",
	'the payload is cosign\'s');
like($manifest, qr{"mediaType":"application/vnd\.dev\.cosign\.simplesigning\.v1\+json"}, 'so is its type');

# A signature that openssl made is as good: put by hand in place of ours.
spew("$d/payload", blob($layers[0]));
openssl("pkeyutl -sign -rawin -inkey $d/b.pem -in $d/payload -out $d/sig2");
is(encode_base64(slurp("$d/sig2"), ''), $layers[3], 'Ed25519 has one signature for each message: the same as openssl\'s');

# --- what was changed ---------------------------------------------------------------------------------------------------------
# Each change is undone; verify must be good again.
sub tampered {
	my ($name, $want, $change, $undo) = @_;
	$change->();
	refused("$name: verify", $want, 'verify', 'app:1', '--key', "$d/a.pub");
	refused("$name: run", $want, 'run', '--monitor', $monitor, '--require-signature', "$d/a.pub", 'image:app:1');
	$undo->();
	my ($status, $out, $err) = cowbell('verify', 'app:1', '--key', "$d/a.pub");
	is($status, 0, '... undone') or diag "$out$err";
}
sub flipped { my ($text, $at) = @_; substr($text, $at, 1) = chr(ord(substr $text, $at, 1) ^ 1); return $text }
for (['a layer', $img->{layer}, 5000], ['the configuration', $img->{config}, 60]) {
	my ($what, $hex, $at) = @$_;
	my $good = blob($hex);
	tampered("one bit of $what", qr/was changed/, sub { change_blob($hex, flipped($good, $at)) }, sub { change_blob($hex, $good) });
	tampered("$what is longer", qr/was changed/, sub { change_blob($hex, $good . 'x') }, sub { change_blob($hex, $good) });
	tampered("$what is gone", qr/missing|no such|not (there|here)/i, sub { unlink "$store/blobs/sha256/$hex" }, sub { change_blob($hex, $good) });
}
my $good = blob($img->{hex});
tampered('the manifest', qr/changed|digest|damaged/i, sub { change_blob($img->{hex}, flipped($good, 20)) }, sub { change_blob($img->{hex}, $good) });
# The memo of a good layer does not outlive a write that keeps its times.
my $layer = blob($img->{layer});
sleep 3;	# a file is trusted without a look only when it has been left alone for a moment
cowbell('run', '--monitor', $monitor, '--require-signature', "$d/a.pub", 'image:app:1');
my $file = "$store/blobs/sha256/$img->{layer}";
my @st = stat $file;
tampered('in place, with the old times', qr/was changed/, sub {
	chmod 0600, $file;
	open my $f, '+<', $file or die;
	seek $f, 5000, 0;
	print $f 'Z';
	close $f;
	utime $st[8], $st[9], $file;
}, sub { change_blob($img->{layer}, $layer) });

# Signatures: another payload, another image's, none that can be read.
my $payload = blob($layers[0]);
sub only_a {	# a signature manifest with one layer
	my ($hex, $size, $b64) = @_;
	my $m = $manifest;
	$m =~ s/"layers":\[.*\]/"layers":[{"mediaType":"application\/vnd.dev.cosign.simplesigning.v1+json","size":$size,"digest":"sha256:$hex","annotations":{"dev.cosignproject.cosign\/signature":"$b64"}}]/;
	change_blob(sha256_hex($m), $m);
	my $name = ref_file($sig_name);
	unlink $name;
	my $t = encode_base64(pack('H*', sha256_hex($m)), '');
	$t =~ tr{+/=}{-_}d;
	symlink $t, $name or die;
	return sub {
		unlink $name;
		my $old = encode_base64(pack('H*', $sig_hex), '');
		$old =~ tr{+/=}{-_}d;
		symlink $old, $name;
	};
}
sub with_signature {
	my ($name, $want, @layer) = @_;
	my $undo;
	tampered($name, $want, sub { $undo = only_a(@layer) }, sub { $undo->() });
}
tampered('one bit of the payload', qr/payload of a signature was changed/, sub { change_blob($layers[0], flipped($payload, 30)) }, sub { change_blob($layers[0], $payload) });
my $evil = $payload =~ s/app/apq/r;
change_blob(sha256_hex($evil), $evil);
with_signature('another payload with our signature', qr/no valid signature/, sha256_hex($evil), length $evil, $layers[1]);
my $sig = decode_base64($layers[1]);
with_signature('one bit of the signature', qr/no valid signature/, $layers[0], length $payload, encode_base64(flipped($sig, 10), ''));
with_signature('half a signature', qr/no valid signature/, $layers[0], length $payload, encode_base64(substr($sig, 0, 32), ''));
with_signature('a signature that is no base64', qr/no valid signature/, $layers[0], length $payload, '*' x 88);
with_signature('an empty signature', qr/no valid signature/, $layers[0], length $payload, '');
cowbell('sign', 'other:1', '--key', "$d/a.pem");
my ($h2, $b2) = blob(ref_hex("other:sha256-$img2->{hex}.sig")) =~ /"digest":"sha256:(\w+)","annotations":\{"dev\.cosignproject\.cosign\/signature":"([^"]+)"/;
with_signature('the signature of another image', qr/another image/, $h2, length blob($h2), $b2);
# What the key's owner signed for another purpose.
my $letter = '{"critical":{"image":{"docker-manifest-digest":"sha256:' . $img->{hex} . '"},"type":"a letter"}}';
spew("$d/letter", $letter);
openssl("pkeyutl -sign -rawin -inkey $d/a.pem -in $d/letter -out $d/letter.sig");
change_blob(sha256_hex($letter), $letter);
with_signature('something else that the key signed', qr/another type/, sha256_hex($letter), length $letter, encode_base64(slurp("$d/letter.sig"), ''));

# --- keys that are none -----------------------------------------------------------------------------------------------------------
my $pub = slurp("$d/a.pub");
spew("$d/empty", '');
spew("$d/cut", substr($pub, 0, 60));
spew("$d/nobase64", $pub =~ s/M/*/r);
spew("$d/short", "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA\n-----END PUBLIC KEY-----\n");
spew("$d/words", "this is no key\n");
spew("$d/large", "-----BEGIN PUBLIC KEY-----\n" . 'A' x 100000);
openssl("genrsa -out $d/rsa.pem 2048") && openssl("rsa -in $d/rsa.pem -pubout -out $d/rsa.pub");
openssl("genpkey -algorithm x25519 -out $d/x.pem") && openssl("pkey -in $d/x.pem -pubout -out $d/x.pub");
openssl("pkey -in $d/a.pem -aes128 -passout pass:x -out $d/enc.pem");
my @bad = (
	[empty => qr/is empty/], [cut => qr/cut short/], [nobase64 => qr/base64/], [short => qr/length/], [words => qr/no PEM/], [large => qr/too large/],
	['rsa.pub' => qr/only Ed25519/], ['x.pub' => qr/only Ed25519/], ['a.pem' => qr/private key; give the public/], ['none' => qr/No such file/], ['root' => qr/directory/],
);
refused("verify with $_->[0]", $_->[1], 'verify', 'app:1', '--key', "$d/$_->[0]") for @bad;
refused("run with $_->[0]", $_->[1], 'run', '--monitor', $monitor, '--require-signature', "$d/$_->[0]", 'image:app:1') for @bad[0, 6];
refused("sign with $_->[0]", $_->[1], 'sign', 'app:1', '--key', "$d/$_->[0]")
	for ['a.pub' => qr/public key; the private/], ['rsa.pem' => qr/only Ed25519/], ['enc.pem' => qr/encrypted/], ['empty' => qr/is empty/];
refused('sign without a key', qr/--key/, 'sign', 'app:1');
refused('verify without an image', qr/one image/, 'verify', '--key', "$d/a.pub");

# Two keys at the same time: neither signature gets lost.
succeeds('a third image', 'tag', 'other:1', 'both:1');
my @pids = map {
	my $key = $_;
	my $p = fork // die;
	if (!$p) {
		open STDOUT, '>', '/dev/null';
		{ exec $COWBELL, 'sign', 'both:1', '--key', $key }
		POSIX::_exit(1);
	}
	$p;
} map { cowbell('keygen', "$d/n$_.pem", "$d/n$_.pub"); "$d/n$_.pem" } 1 .. 6;
waitpid $_, 0 for @pids;
is(scalar(grep { (cowbell('verify', 'both:1', '--key', "$d/n$_.pub"))[0] == 0 } 1 .. 6), 6, 'six keys that sign at the same time: all are there');

# --- along with push and pull ----------------------------------------------------------------------------------------------------------
SKIP: {
	skip 'no docker-registry', 8 unless have('docker-registry');
	my $port = start_registry("$d/registry");
	succeeds('push', 'push', 'app:1', "127.0.0.1:$port/x/app:1");
	# Another machine: pull, add a signature by a third key, push.
	cowbell('keygen', "$d/c.pem", "$d/c.pub");
	$ENV{XDG_DATA_HOME} = "$d/second";
	succeeds('pull elsewhere', 'pull', "127.0.0.1:$port/x/app:1", '-t', 'mine:1');
	succeeds('the signature came along', 'verify', 'mine:1', '--key', "$d/b.pub");
	cowbell('sign', 'mine:1', '--key', "$d/c.pem");
	succeeds('push with one more', 'push', 'mine:1', "127.0.0.1:$port/x/app:1");
	# The first one, which does not know of it, signs with a fourth and pushes.
	$ENV{XDG_DATA_HOME} = "$d/data";
	cowbell('keygen', "$d/d.pem", "$d/d.pub");
	cowbell('sign', 'app:1', '--key', "$d/d.pem");
	succeeds('push from the first', 'push', 'app:1', "127.0.0.1:$port/x/app:1");
	$ENV{XDG_DATA_HOME} = "$d/third";
	like(succeeds('pull', 'pull', "127.0.0.1:$port/x/app:1", '--json'), qr/"signatures":4/, 'all four are there');
	succeeds("$_ is among them", 'verify', "127.0.0.1:$port/x/app:1", '--key', "$d/$_.pub") for qw(a c d);
	succeeds('prune', 'prune');
	succeeds('keeps signatures', 'verify', "127.0.0.1:$port/x/app:1", '--key', "$d/a.pub");
	unlike((cowbell('images'))[1], qr/\.sig/, 'the list of images does not show them');
}
done_testing();
