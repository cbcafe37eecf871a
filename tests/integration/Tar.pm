# SPDX-License-Identifier: ISC
# Tar files and OCI image directories byte by byte, so that they can be wrong on purpose.
package Tar;
use strict;
use warnings;
use Digest::SHA qw(sha256_hex);
use Exporter 'import';

our @EXPORT = qw(tar_header tar_entry tar_pax tar_end tar_of oci_dir);

# A 512-byte header. Fields: name mode uid gid size mtime type link magic prefix devmajor devminor; `raw` => {offset => bytes}
# overwrites anything before the checksum is made; `checksum` replaces that.
sub tar_header {
	my %f = (mode => 0644, uid => 0, gid => 0, size => 0, mtime => 0, type => '0', link => '', prefix => '',
		devmajor => 0, devminor => 0, magic => "ustar\x0000", @_);
	my $oct = sub { my ($v, $n) = @_; $v =~ /^\d+$/ && $v < 8**($n - 1) ? sprintf('%0*o', $n - 1, $v) . "\0" : base256($v, $n) };
	my $h = pack('a100 a8 a8 a8 a12 a12 a8 a1 a100 a8 a32 a32 a8 a8 a155 a12', $f{name}, $oct->($f{mode}, 8), $oct->($f{uid}, 8),
		$oct->($f{gid}, 8), $oct->($f{size}, 12), $oct->($f{mtime}, 12), ' ' x 8, $f{type}, $f{link}, $f{magic}, '', '',
		$oct->($f{devmajor}, 8), $oct->($f{devminor}, 8), $f{prefix}, '');
	substr($h, $_, length $f{raw}{$_}) = $f{raw}{$_} for keys %{$f{raw} // {}};
	substr($h, 148, 8) = sprintf("%06o\0 ", $f{checksum} // unpack('%32C*', $h));
	return $h;
}

# GNU's binary numbers, negative ones too.
sub base256 {
	my ($v, $n) = @_;
	my $b = '';
	for (1 .. $n) {
		$b = chr($v & 0xff) . $b;
		$v = $v < 0 ? -((-$v + 255) >> 8) : $v >> 8;
	}
	substr($b, 0, 1) = chr(ord(substr($b, 0, 1)) | 0x80);
	return $b;
}

sub padded { my $d = shift; return $d . "\0" x (-length($d) % 512) }

# tar_entry(name, contents, fields...): size is that of the contents unless it is given.
sub tar_entry {
	my ($name, $data, %f) = @_;
	return tar_header(name => $name, size => length($data // ''), %f) . padded($data // '');
}

# A PAX header for the next entry: key => value...
sub tar_pax {
	my $body = '';
	while (my ($k, $v) = splice @_, 0, 2) {
		my $rest = " $k=$v\n";
		my $n = length $rest;
		$n++ until $n == length($rest) + length($n);
		$body .= "$n$rest";
	}
	return tar_entry('pax', $body, type => 'x');
}

sub tar_end { return "\0" x 1024 }
sub tar_of { return join('', @_) . tar_end() }

sub blob {
	my ($dir, $data, $digest) = @_;
	$digest //= sha256_hex($data);
	open(my $f, '>', "$dir/blobs/sha256/$digest") or die "$dir: $!";
	print $f $data;
	close $f;
	return $digest;
}

# oci_dir(dir, [layer, ...], option => value...). A layer is its bytes, or a hash: data, diff (plain bytes), type, digest, size,
# diff_id. Options: cmd => [...], config => JSON members.
sub oci_dir {
	my ($dir, $layers, %o) = @_;
	system('rm', '-rf', $dir);
	system('mkdir', '-p', "$dir/blobs/sha256");
	my (@desc, @diff);
	for my $l (@$layers) {
		my %l = ref $l ? %$l : (data => $l);
		my $real = sha256_hex($l{data});
		my $digest = blob($dir, $l{data}, $l{digest} // $real);
		push @diff, $l{diff_id} // sha256_hex($l{diff} // $l{data});
		push @desc, sprintf('{"mediaType":"%s","digest":"sha256:%s","size":%d}',
			$l{type} // 'application/vnd.oci.image.layer.v1.tar', $digest, $l{size} // length $l{data});
	}
	my $cmd = join ',', map { "\"$_\"" } @{$o{cmd} // ['/bin/busybox', 'true']};
	my $config = sprintf('{"architecture":"amd64","os":"linux","config":{"Cmd":[%s]%s},"rootfs":{"type":"layers","diff_ids":[%s]}}',
		$cmd, $o{config} // '', join(',', map { "\"sha256:$_\"" } @diff));
	my $c = blob($dir, $config);
	my $manifest = sprintf('{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":'
		. '"application/vnd.oci.image.config.v1+json","digest":"sha256:%s","size":%d},"layers":[%s]}', $c, length $config, join(',', @desc));
	my $m = blob($dir, $manifest);
	open(my $f, '>', "$dir/index.json") or die;
	printf $f '{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:%s","size":%d}]}', $m, length $manifest;
	close $f;
	open($f, '>', "$dir/oci-layout") or die;
	print $f '{"imageLayoutVersion":"1.0.0"}';
	close $f;
}

1;
