#!/usr/bin/perl
# SPDX-License-Identifier: ISC
# A small C project is compiled, linked, tested and archived inside an instance by make -j4 and gcc: once with the tools
# of this machine (--with), once in an image whose Aptfile names them. The program that comes out is the host's, byte by byte.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Cowbell;
use Test::More;

plan skip_all => 'needs gcc and make' unless have('gcc', 'make');
my $dir = scratch();
my $n = 8;
mkdir "$dir/src";
spew("$dir/src/f$_.c", "#include \"all.h\"\nint f$_(int x)\n{\n\treturn x * $_ + 1;\n}\n") for 1 .. $n;
spew("$dir/src/all.h", join('', map { "int f$_(int);\n" } 1 .. $n));
spew("$dir/src/main.c", "#include <stdio.h>\n#include \"all.h\"\nint main(void)\n{\n\tprintf(\"%d\\n\", " . join('', map { "f$_(" } 1 .. $n) . '1' . ')' x $n . ");\n\treturn 0;\n}\n");
spew("$dir/src/Makefile", <<'X');
OBJS := main.o $(patsubst %.c,%.o,$(sort $(wildcard f*.c)))
CFLAGS := -O1 -g0 -Wall
check: prog libf.a
	./prog | tee result
	test "$$(cat result)" = "$$(./prog)"
	@echo "objects: $(words $(OBJS)), in the archive: $$(ar t libf.a | wc -l)"
	@sha256sum prog
prog: $(OBJS)
	$(CC) -o $@ $^
libf.a: $(filter f%.o,$(OBJS))
	ar rcD $@ $^
%.o: %.c all.h
	$(CC) $(CFLAGS) -c -o $@ $<
.PHONY: check
X
sub last_lines { return join '', (split /^/, $_[0])[-3 .. -1] }
system("cp -r $dir/src $dir/host");
my ($st, $out) = run_out({dir => "$dir/host", timeout => 60}, 'make', '-j4', 'check');
is($st, 0, 'the project builds on the host');
my $want = last_lines($out);

# The tools are in the image that the store has: built once.
$ENV{XDG_DATA_HOME} = "$dir/data";
rename "$dir/src/Makefile", "$dir/src/project.mk"; # a Makefile says that the app is in C, and it would be built already
spew("$dir/src/Aptfile", "gcc\nlibc6-dev\n");
spew("$dir/src/Procfile", "web: make -f project.mk -j4 check\n");
my ($b, undef, $berr) = run_out({dir => "$dir/src", timeout => 120}, $COWBELL, 'build', '-t', 'project', "$dir/src");
is($b, 0, 'an image with gcc, make and libc6-dev of its Aptfile') or diag($berr);

for my $m (monitors()) {
	my ($s, $o, $e) = run_out({dir => "$dir/src", timeout => 100}, $COWBELL, 'run', '--monitor', $m, '--with', 'gcc,make,libc6-dev', '--', 'make', '-f', 'project.mk', '-j4', 'check');
	is(last_lines($o) . "status $s", "${want}status 0", "$m: make -j4 with the machine's gcc gives the same program") or diag(substr($o . $e, -3000));
	($s, $o, $e) = run_out({timeout => 100}, $COWBELL, 'run', '--monitor', $m, 'image:project');
	is(last_lines($o) . "status $s", "${want}status 0", "$m: and with that of an image") or diag(substr($o . $e, -3000));
	spew("$dir/src/bad.c", "int f(void) { return x; }\n");
	($s, $o, $e) = run_out({dir => "$dir/src", timeout => 100}, $COWBELL, 'run', '--monitor', $m, '--with', 'gcc', '--', 'gcc', '-c', 'bad.c', '-o', '/tmp/bad.o');
	ok($s == 1 && $e =~ /bad\.c:1:.*undeclared/, "$m: an error of the compiler is one here") or diag("$s $o $e");
	unlink "$dir/src/bad.c";
}
done_testing();
