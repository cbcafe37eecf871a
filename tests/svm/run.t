#!/usr/bin/perl
# SPDX-License-Identifier: ISC
# The KVM monitor on real hardware semantics: Debian's kernel with kvm-amd boots
# in QEMU's emulation of a CPU with SVM, and the conformance programs run under
# the kvm monitor inside it. What they print is compared with Linux here.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../integration";
use Cowbell;
use Test::More;

# tools/deps unpacks the kernel beside the build where none is installed
my ($vmlinuz) = (glob("$TOP/build/kernel/boot/vmlinuz-*-cloud-amd64"), glob('/boot/vmlinuz-*-cloud-amd64'));
plan skip_all => 'linux-image-cloud-amd64 is not here' unless $vmlinuz;
plan skip_all => 'qemu-system-x86 is not installed' unless have('qemu-system-x86_64');
plan skip_all => 'busybox-static, cpio or mkfs.erofs is not installed' unless have('busybox', 'cpio', 'mkfs.erofs');
my ($kernel, $release) = $vmlinuz =~ m{^(.*)/boot/vmlinuz-(.*)$};
my $tmp = scratch();
my $rd = "$tmp/rd";

sub sh { system(@_) == 0 or BAIL_OUT("@_ failed") }
sh('mkdir', '-p', map { "$rd/$_" } qw(bin lib64 proc sys dev modules root tmp));
sh('cp', (-x '/usr/bin/busybox' ? '/usr/bin/busybox' : '/bin/busybox'), "$rd/bin/busybox");
sh('cp', $COWBELL, "$rd/bin/cowbell");
sh('cp', "$FindBin::Bin/init", "$rd/init");
chmod 0755, "$rd/init";
for my $lib (map { /(\/\S+) \(0x/ ? $1 : () } `ldd $COWBELL`) {
	my ($dir) = $lib =~ m{^(.*)/};
	sh('mkdir', '-p', "$rd$dir");
	sh('cp', '-L', $lib, "$rd$lib");
}
for my $m ('virt/lib/irqbypass', 'arch/x86/kvm/kvm', 'arch/x86/kvm/kvm-amd') {
	my ($f) = glob("$kernel/lib/modules/$release/kernel/$m.ko*");
	BAIL_OUT("no module $m for $release") unless $f;
	my ($base) = $m =~ m{([^/]+)$};
	sh('sh', '-c', $f =~ /xz$/ ? "xz -dc $f > $rd/modules/$base.ko" : "cp $f $rd/modules/$base.ko");
}

# The guest's root: the conformance programs, linked statically, as one image.
my $root = "$tmp/root";
sh('mkdir', '-p', map { "$root/$_" } qw(t tmp dev proc sys etc bin usr/bin));
chmod 01777, "$root/tmp";
sh('cp', "$rd/bin/busybox", "$root/bin/busybox");
symlink 'busybox', "$root/bin/sh";
spew("$root/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n");
my %want;
my @list;
for my $src (sort glob("$FindBin::Bin/../conformance/*.c")) {
	my ($name) = $src =~ m{([^/]+)\.c$};
	sh($ENV{CC} // 'gcc', '-O1', '-w', '-pthread', '-static', $src, '-o', "$root/t/$name");
	my ($st, $out) = run_out({timeout => 60, dir => "$root/t"}, "$root/t/$name");
	$want{$name} = [$st, grep { /^(ok|value|done|FAIL)/ } split /\n/, $out];
	push @list, $name;
}
sh('sh', '-c', "mkfs.erofs --quiet $rd/tests.erofs $root >/dev/null 2>&1 || mkfs.erofs $rd/tests.erofs $root >/dev/null");
spew("$rd/list", join("\n", @list) . "\n");
sh('sh', '-c', "cd $rd && find . | cpio -o -H newc --quiet | gzip -1 > $tmp/rd.gz");

my ($st, $out) = run_out({timeout => 900}, 'qemu-system-x86_64', '-M', 'q35', '-cpu', 'EPYC-v3,+svm', '-accel', 'tcg', '-m', '2048', '-nographic',
	'-no-reboot', '-nic', 'none', '-kernel', $vmlinuz, '-initrd', "$tmp/rd.gz", '-append', 'console=ttyS0 quiet panic=-1');
$out =~ s/\r//g;
like($out, qr/^SVM-DONE$/m, "Debian's kernel boots with kvm-amd and the list ends") or diag substr($out, -3000);
for my $name (@list) {
	my ($text, $got_st) = $out =~ /^SVM-BEGIN $name\n(.*?)^SVM-END $name (\d+)$/ms;
	$text //= '';
	my @got = grep { /^(ok|value|done|FAIL)/ } split /\n/, $text;
	my ($want_st, @w) = @{$want{$name}};
	my $i = 0;
	for my $l (@w) {
		my $g = $got[$i++] // 'nothing (ended early)';
		is($g, $l, "kvm-amd $name: $l");
		if ($g =~ /ended early/) {
			diag substr($text, -1500);
			last;
		}
	}
	is($got_st // 'none', $want_st, "kvm-amd $name: exit status");
}
done_testing();
