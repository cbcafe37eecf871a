#!/usr/bin/perl
# SPDX-License-Identifier: ISC
# Layers of Debian packages: the right packages, whole and nothing of this machine's; the same bytes each time; packages
# that are not installed; what an Aptfile may not say; languages that start from their layers.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin";
use Cowbell;
use JSON::PP;
use Test::More;

plan skip_all => 'not a Debian machine: no /var/lib/dpkg/status' if !-r '/var/lib/dpkg/status';

my $dir = scratch();
$ENV{XDG_CACHE_HOME} = "$dir/cache";
my ($st, $out, $err);
sub store { $ENV{XDG_DATA_HOME} = "$dir/$_[0]"; return "$dir/$_[0]/cowbell" }
sub cowbell { ($st, $out, $err) = run_out({dir => $dir, timeout => 120}, $COWBELL, @_); return $st }

# Build an app of the given files; its status.
my $n_apps = 0;
sub build {
	my ($tag, %files) = @_;
	my $app = "$dir/app" . $n_apps++;
	mkdir $app;
	for my $f (keys %files) {
		(my $d = "$app/$f") =~ s,/[^/]*$,,;
		system('mkdir', '-p', $d);
		spew("$app/$f", $files{$f});
	}
	return cowbell('build', $app, '-t', $tag);
}

sub inspect {
	cowbell('inspect', '--json', $_[0]) == 0 or return {};
	return decode_json($out)->[0];
}
sub layers { return grep { $_->{media_type} =~ /erofs/ } @{inspect($_[0])->{layers} // []} }
sub blob { my ($store, $digest) = @_; $digest =~ s/^sha256://; return "$store/blobs/sha256/$digest" }
sub sboms {
	my ($store, $name) = @_;
	return map { decode_json(slurp(blob($store, $_->{digest}))) }
		grep { $_->{media_type} =~ /cyclonedx/ } @{inspect($name)->{layers} // []};
}

sub installed { return `dpkg-query -W -f '\${db:Status-Status}' '$_[0]' 2>/dev/null` eq 'installed' }

# --- closure, contents -------------------------------------------------------------------------------
my $store = store('one');
is(build('py', 'app.py' => "print('hello')\n"), 0, 'a Python app is built') or diag($err);
my @l = layers('py');
is(scalar @l, 2, 'runtime and app');
my ($sbom) = sboms($store, 'py');
my %in = map { $_->{name} => $_ } @{$sbom->{components}};
ok($in{$_}, "$_ is in the runtime") for qw(python3 libpython3.11-stdlib libc6 libssl3 zlib1g ca-certificates tzdata dash coreutils);
ok(!$in{$_}, "$_ is not") for qw(dpkg debconf apt systemd adduser perl-base bash login passwd);

my @wrong = grep { my $v = `dpkg-query -W -f '\${Version}' '$_'`; $v ne $in{$_}{version} } grep { installed($_) } keys %in;
is("@wrong", '', 'versions are those of dpkg');
# Every library that a package of the layer depends on is there, too.
my @missing;
for my $p (grep { ($in{$_}{properties} // [])->[0] ? 0 : 1 } keys %in) {
	for my $group (split /\s*,\s*/, `dpkg-query -W -f '\${Pre-Depends}, \${Depends}' '$p' 2>/dev/null`) {
		my @names = grep { /^lib/ } map { (split /[ :(]/)[0] } split /\s*\|\s*/, $group;
		next if !@names || $group =~ /\|/ && grep({ !/^\s*lib/ } split /\|/, $group);
		push @missing, "$p: $group" if !grep {
			my $name = $_;
			$in{$name} || grep { $in{$_} } split /[\s,]+/, `dpkg-query -W -f '\${Package}, \${Provides}\n' 2>/dev/null | grep -w -- '$name' | cut -d, -f1`
		} @names;
	}
}
is("@missing", '', 'no library is missing from the closure');

SKIP: {
	skip 'no fsck.erofs', 12 if !have('fsck.erofs', 'readelf');
	my $x = "$dir/x";
	is(system('fsck.erofs', "--extract=$x", blob($store, $l[0]{digest})) >> 8, 0, 'the layer is sound EROFS');
	my %have = map { s,.*/,,r => 1 } glob("$x/usr/lib/x86_64-linux-gnu/*.so* $x/usr/lib64/*");
	my @lost;
	for my $f (glob("$x/usr/bin/* $x/usr/lib/x86_64-linux-gnu/*.so* $x/usr/lib/python3*/lib-dynload/*.so")) {
		next if -l $f || !-f $f;
		push @lost, map { "$f: $_" } grep { !$have{$_} } `readelf -d '$f' 2>/dev/null` =~ /NEEDED.*\[(.*)\]/g;
	}
	is("@lost", '', 'every library that an ELF of the layer links to is in it');
	is(readlink("$x/bin"), 'usr/bin', '/bin is a link into /usr');
	ok(-x "$x/usr/bin/sh" && -l "$x/usr/bin/sh" && -x "$x/usr/bin/ls", 'sh and ls');
	ok(!-e "$x/usr/share/doc" && !-e "$x/usr/share/man" && !-e "$x/usr/include", 'no documentation, no headers');
	ok(!-e "$x/app", '/app is left to the app');
	ok(-s "$x/usr/lib/python3.11/__pycache__/os.cpython-311.pyc" || !-e '/usr/lib/python3.11/__pycache__/os.cpython-311.pyc',
		'compiled modules are there');
	my @people = grep { my @f = split /:/; $f[2] >= 1000 && $f[0] !~ /^(nobody|app)$/ } split /\n/, slurp("$x/etc/passwd");
	is("@people", '', 'no account of a person');
	ok(!(grep { -e "$x/etc/$_" } qw(shadow gshadow hosts hostname resolv.conf machine-id fstab ssh)),
		'no secret and no name of this machine');
	is((() = slurp("$x/etc/ssl/certs/ca-certificates.crt") =~ /BEGIN CERTIFICATE/g),
		scalar(() = glob('/usr/share/ca-certificates/mozilla/*.crt')), 'the authorities of the package');
	is(scalar((stat "$x/usr")[9]), 315532801, 'directories have the one fixed time');
	my @special = `find '$x' '(' -perm /7022 -o ! -user 0 ')' ! -type l ! -path '$x/tmp' ! -path '$x/var/tmp' ! -path '$x/run/lock'`;
	is("@special", '', 'no special bits, nothing writable to others');
}

# --- SBOM ------------------------------------------------------------------------------------------------
is($sbom->{bomFormat}, 'CycloneDX', 'SBOM: format');
ok($sbom->{specVersion} >= 1.4 && $sbom->{version} == 1, 'SBOM: versions');
like($sbom->{serialNumber}, qr/^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/, 'SBOM: serial number');
my @bad = grep { ($_->{type} // '') !~ /^(library|application)$/ || !$_->{name} || !length $_->{version} ||
		($_->{purl} // '') !~ m{^pkg:deb/[a-z]+/[a-z0-9.%A-F-]+@[A-Za-z0-9.~%_-]+\?arch=(amd64|all)$} } @{$sbom->{components}};
is(scalar @bad, 0, 'SBOM: each component has type, name, version and package URL') or diag(explain($bad[0]));
my %refs = map { $_->{'bom-ref'} => 1 } @{$sbom->{components}};
is(scalar keys %refs, scalar @{$sbom->{components}}, 'SBOM: references are unique');
ok(!exists $sbom->{metadata}{timestamp}, 'SBOM: no time');

# --- the same bytes ----------------------------------------------------------------------------------------
store('two');
is(build('py', 'app.py' => "print('hello')\n"), 0, 'the same app in another store') or diag($err);
is(join(' ', map { $_->{digest} } layers('py')), join(' ', map { $_->{digest} } @l), 'has the same layers');
store('one');
is(build('py2', 'app.py' => "print('other')\n"), 0, 'another app');
is((layers('py2'))[0]{digest}, $l[0]{digest}, 'shares the runtime');

SKIP: {
	my $nobody = getpwnam('nobody');
	my $open = "/tmp/cowbell-test-$$";
	skip 'not root, or no nobody', 2 if $> || !defined $nobody || !have('su') || !mkdir($open);
	system("cp '$COWBELL' '$open/cowbell' && mkdir '$open/app' && echo \"print('hello')\" > '$open/app/app.py' && chown -R nobody '$open'");
	my ($s, $o, $e) = run_out({dir => '/', timeout => 120}, 'su', 'nobody', '-s', '/bin/sh', '-c',
		"cd '$open/app' && XDG_DATA_HOME='$open/d' XDG_CACHE_HOME='$open/c' '$open/cowbell' build . -t py >/dev/null && XDG_DATA_HOME='$open/d' '$open/cowbell' inspect --json py");
	is($s, 0, 'an ordinary user builds') or diag($e);
	my $d = eval { decode_json($o)->[0]{layers}[0]{digest} } // '';
	is($d, $l[0]{digest}, 'and gets the same runtime as root');
	system('rm', '-rf', $open);
}

# --- names --------------------------------------------------------------------------------------------------
for my $name ('-o', '--help', '../x', 'a;touch pwned', '$(touch pwned)', 'Apt::Get', 'hello=1.0', "a\tb", '-oDpkg::Pre-Invoke::=touch', 'x' x 300) {
	my $r = build('bad', 'app.py' => '', 'Aptfile' => "$name\n");
	ok($r == 125 && $err =~ /^ !     /m && !-e "$dir/pwned", "Aptfile with " . substr($name, 0, 30) . " is refused") or diag("$r $out $err");
}
is(build('bad', 'app.py' => '', 'Aptfile' => "pythn3\n"), 125, 'a package that does not exist');
like($err, qr/pythn3/, 'is named');
SKIP: {
	skip 'apt has no lists of packages', 1 if !glob('/var/lib/apt/lists/*_Packages*');
	like($err, qr/Did you mean.*python3/, 'and names like it are, too');
}

# --- a package that is not installed --------------------------------------------------------------------------
SKIP: {
	my ($deb, $cmd) = @{(grep { !installed($_->[0]) } ['toilet', '/usr/bin/toilet'], ['figlet', '/usr/bin/figlet'], ['hello', '/usr/bin/hello'])[0] // []};
	skip 'all candidates are installed', 8 if !$deb;
	my $probe = "$dir/probe";
	mkdir $probe;
	skip "apt cannot fetch $deb: no network", 8 if system("cd '$probe' && timeout 60 apt-get -qq download $deb >/dev/null 2>&1");
	my $before = slurp('/var/lib/dpkg/status');
	is(build('extra', 'app.py' => "print(1)\n", 'Aptfile' => "# comment\n$deb\n"), 0, "$deb is fetched") or diag($err);
	is(slurp('/var/lib/dpkg/status'), $before, 'and not installed');
	my @e = layers('extra');
	is(scalar @e, 3, 'runtime, packages, app');
	is($e[0]{digest}, $l[0]{digest}, 'the runtime is the shared one');
	my %extra = map { $_->{name} => 1 } map { @{$_->{components}} } (sboms($store, 'extra'))[1];
	ok($extra{$deb} && !$extra{libc6} && !$extra{python3}, 'the layer has the package, and not what is below');
	for my $m (monitors()) {
		cowbell('run', '--monitor', $m, 'image:extra', $cmd, $deb eq 'hello' ? () : ('hi'));
		ok($st == 0 && length $out > 5, "$m: it runs") or diag("$st $err");
	}
	store('two');
	is(build('extra', 'app.py' => "print(1)\n", 'Aptfile' => "$deb\n"), 0, 'fetched into another store');
	is((layers('extra'))[1]{digest}, $e[1]{digest}, 'it is the same layer');
	store('one');
}

# --- an archive of our own: apt reads it from a directory, no network is needed -----------------------------------
my $apt = "$dir/apt";
system('mkdir', '-p', "$apt/repo", "$apt/state/lists/partial", "$apt/cache/archives/partial");
my $records = '';

# A package: fields of its record, then a command that makes its files in the current directory, and the script that may never run.
sub make_deb {
	my ($name, $version, $fields, $files, $postinst, $sum) = @_;
	my $d = "$apt/$name";
	my $deb = "$apt/repo/$name.deb";
	system('mkdir', '-p', "$d/data", "$d/control");
	spew("$d/control/control", "Package: $name\nVersion: $version\nArchitecture: all\nMaintainer: x <x\@example.org>\nDescription: x\n$fields");
	spew("$d/control/postinst", $postinst) if $postinst;
	system("cd '$d/data' && $files") == 0 or die $files;
	system("cd '$d' && tar -C control -czf control.tar.gz . && { test -e data.tar.gz || tar -C data --owner=0 --group=0 --mtime=\@1000000000 -czf data.tar.gz .; } && echo 2.0 > debian-binary && " .
		"rm -f '$deb' && ar rc '$deb' debian-binary control.tar.gz data.tar.gz") == 0 or die "ar $name";
	$sum //= (split ' ', `sha256sum '$deb'`)[0];
	$records .= "Package: $name\nVersion: $version\nArchitecture: all\nMaintainer: x\nDescription: x\n${fields}Filename: ./$name.deb\nSize: " . (-s $deb) . "\nSHA256: $sum\n\n";
}

SKIP: {
	skip 'no apt-get, ar, dpkg-deb or fsck.erofs', 28 if !have('apt-get', 'ar', 'dpkg-deb', 'fsck.erofs');
	make_deb('cbt-app', '1:1.0~rc1-1', "Depends: cbt-lib (>= 2), cbt-none | cbt-virtual, adduser\n",
		'mkdir -p usr/bin usr/share/doc/x bin && echo doc > usr/share/doc/x/y && printf "#!/bin/sh\necho from the app\n" > usr/bin/cbt-app && chmod 4755 usr/bin/cbt-app && ' .
		'echo secret > usr/bin/unreadable && chmod 600 usr/bin/unreadable && ln usr/bin/cbt-app usr/bin/cbt-hard && printf x > bin/cbt-old-place',
		"#!/bin/sh\ntouch $dir/pwned\nupdate-alternatives --install /usr/bin/cbt cbt /usr/bin/cbt-app 10 \\\n  --slave /usr/share/cbt/s cbt-s /usr/share/cbt/lib.txt\nupdate-alternatives --install \$X y \$Z 1\n");
	make_deb('cbt-lib', '2.5', '', 'mkdir -p usr/share/cbt && echo lib > usr/share/cbt/lib.txt');
	make_deb('cbt-provider', '1', "Provides: cbt-virtual (= 1)\n", 'mkdir -p etc && echo conf > etc/cbt.conf');
	make_deb('cbt-needy', '1', "Depends: cbt-lib (>= 3)\n", 'true');
	make_deb('cbt-wrong', '1', '', 'true', undef, '0' x 64);
	make_deb('cbt-newer', '1', "Depends: netbase (>= 9999)\n", 'true');
	make_deb('netbase', '9999', '', 'mkdir -p etc && echo newer > etc/services');
	make_deb('cbt-module', '1', "Depends: python3\n", 'mkdir -p usr/lib/python3/dist-packages/cbt && echo "X = 7" > usr/lib/python3/dist-packages/cbt/__init__.py && ' .
		'printf "print 1\nraise SystemExit(open(\"/tmp/cbt-ran\", \"w\"))\n" > usr/lib/python3/dist-packages/cbt/old.py');
	# hostile: out of the tree, through a link, devices
	make_deb('cbt-hostile', '1', '', "mkdir -p usr/share etc ../evil/cbt-dir && echo fine > usr/share/cbt-fine && echo evil > ../evil/up && echo evil > ../evil/dots && echo evil > ../evil/through && " .
		"ln -s /etc usr/share/cbt-link && mkfifo usr/share/cbt-fifo && tar --owner=0 --group=0 -cf ../data.tar . && " .
		"tar -C ../evil -P --transform 's,^up\$,../../../../../../$dir/escaped,' -rf ../data.tar up && " .
		"tar -C ../evil -P --transform 's,^dots\$,usr/share/../../etc/cbt-dots,' -rf ../data.tar dots && " .
		"tar -C ../evil -P --transform 's,^through\$,usr/share/cbt-link/cbt-through,' -rf ../data.tar through && gzip -n ../data.tar");
	spew("$apt/repo/Packages", $records);
	spew("$apt/sources.list", "deb [trusted=yes] copy:$apt/repo ./\n");
	spew("$apt/apt.conf", "Dir::State \"$apt/state\";\nDir::State::status \"/var/lib/dpkg/status\";\nDir::Cache \"$apt/cache\";\nDir::Etc::sourcelist \"$apt/sources.list\";\n" .
		"Dir::Etc::sourceparts \"/dev/null\";\nAPT::Sandbox::User \"root\";\n");
	local $ENV{APT_CONFIG} = "$apt/apt.conf";
	skip 'apt does not read an archive of a directory here', 28 if system("apt-get -qq update >'$dir/update' 2>&1");

	is(build('own', 'app.py' => '', 'Aptfile' => "cbt-app\n"), 0, 'a package of an archive of our own') or diag($err);
	ok(!-e "$dir/pwned", 'its script does not run');
	my @own = layers('own');
	is($own[0]{digest}, $l[0]{digest}, 'on the shared runtime');
	my %own = map { $_->{name} => $_->{version} } map { @{$_->{components}} } (sboms($store, 'own'))[1];
	is_deeply(\%own, {'cbt-app' => '1:1.0~rc1-1', 'cbt-lib' => '2.5', 'cbt-provider' => '1'}, 'closure: versions, alternatives, what is provided');
	my $x = "$dir/own";
	system('fsck.erofs', "--extract=$x", blob($store, $own[1]{digest}));
	is(slurp("$x/usr/share/cbt/lib.txt"), "lib\n", 'files of a dependency');
	is(slurp("$x/etc/cbt.conf"), "conf\n", 'files of the provider');
	is(sprintf('%o', (stat "$x/usr/bin/cbt-app")[2] & 07777), '755', 'no set-user-id bit');
	is((stat "$x/usr/bin/cbt-app")[9], 1000000000, 'the time of the package');
	is(slurp("$x/usr/bin/cbt-hard"), slurp("$x/usr/bin/cbt-app"), 'hard link');
	ok(-e "$x/usr/bin/cbt-old-place" && !-e "$x/bin/cbt-old-place", '/bin is /usr/bin');
	ok(!-e "$x/usr/bin/unreadable" && !-e "$x/usr/share/doc", 'no file that only root may read, no documentation');
	is(readlink("$x/usr/bin/cbt"), '/etc/alternatives/cbt', 'the alternative that its script would register');
	is(readlink("$x/etc/alternatives/cbt-s"), '/usr/share/cbt/lib.txt', 'and its slave');
	for my $m (monitors()) {
		cowbell('run', '--monitor', $m, 'image:own', 'cat', '/usr/share/cbt/s');
		is($out, "lib\n", "$m: seen through the alternative");
	}

	is(build('hostile', 'app.py' => '', 'Aptfile' => "cbt-hostile\n"), 0, 'a hostile archive') or diag($err);
	$x = "$dir/hostile";
	system('fsck.erofs', "--extract=$x", blob($store, (layers('hostile'))[1]{digest}));
	is(slurp("$x/usr/share/cbt-fine"), "fine\n", 'gives what is fine');
	ok(!-e "$dir/escaped" && !-e "$x/etc/cbt-dots" && !-e "$x/etc/cbt-through" && !-e "/etc/cbt-through" && !-e "$x/usr/share/cbt-fifo",
		'and nothing that leaves the tree, passes through a link or is no file');
	is(readlink("$x/usr/share/cbt-link"), '/etc', 'a link stays a link');

	is(build('module', 'app.py' => "import cbt\nprint(cbt.X, cbt.__cached__, open(cbt.__cached__, 'rb').read(4) != b'')\n", 'Aptfile' => "cbt-module\n"), 0,
		'a Python module that is fetched') or diag($err);
	cowbell('run', '--monitor', (monitors())[0], 'image:module');
	like($out, qr{^7 /usr/lib/python3/dist-packages/cbt/__pycache__/__init__\.cpython-3\d+\.pyc True}, 'is compiled') or diag($err);
	SKIP: {
		skip 'netbase is not installed', 2 if !installed('netbase');
		is(build('newer', 'app.py' => '', 'Aptfile' => "cbt-newer\n"), 0, 'a package that wants a newer one than what is installed') or diag($err);
		my %newer = map { $_->{name} => $_->{version} } map { @{$_->{components}} } (sboms($store, 'newer'))[1];
		is_deeply(\%newer, {'cbt-newer' => 1, 'netbase' => 9999}, 'brings it');
	}
	is(build('needy', 'app.py' => '', 'Aptfile' => "cbt-needy\n"), 125, 'a dependency that nothing satisfies');
	like($err, qr/cbt-needy.*cbt-lib/, 'is named');
	is(build('wrong', 'app.py' => '', 'Aptfile' => "cbt-wrong\n"), 125, 'a package that is not what its record says');
	is(build('own2', 'app.py' => '', 'Aptfile' => "cbt-lib\ncbt-app\n"), 0, 'two packages');
	my @again = layers('own2');
	is($again[1]{digest}, $own[1]{digest}, 'in another order with their dependencies: the same layer');
}

# --- a machine that is not as it should be ----------------------------------------------------------------------
# In a mount namespace of its own, so that nothing of the machine is touched.
sub elsewhere {
	my ($mounts, $net, @cmd) = @_;
	my $script = join('', map { "mount --bind '$_->[0]' '$_->[1]' && " } @$mounts) . 'exec "$@"';
	($st, $out, $err) = run_out({dir => $dir, timeout => 120}, 'unshare', '-m', ($net ? () : '-n'), 'sh', '-c', $script, 'sh', @cmd);
	return $st;
}
SKIP: {
	skip 'no mount namespaces here', 12 if $> || system("unshare -m -n true 2>/dev/null");
	mkdir "$dir/lua";
	spew("$dir/lua/main.lua", "print('hello')\n");
	store('none');
	mkdir "$dir/empty";
	SKIP: {
		skip 'no nodejs package', 3 if !installed('nodejs') || !-x '/usr/bin/node';
		mkdir "$dir/node";
		spew("$dir/node/package.json", '{"name":"x","version":"1.0.0","scripts":{"start":"node s.js"}}');
		spew("$dir/node/s.js", "console.log('hello ' + process.execPath)\n");
		system('mkdir', '-p', "$dir/vendor/bin", "$dir/vendor/lib");
		system('cp', '/usr/bin/node', "$dir/vendor/bin/node");
		spew("$dir/status0", join('', grep { !/^Package: nodejs$/m } split /(?<=\n\n)/, slurp('/var/lib/dpkg/status')));
		local $ENV{PATH} = "$dir/vendor/bin:$ENV{PATH}";
		is(elsewhere([["$dir/status0", '/var/lib/dpkg/status'], ["$dir/empty", '/var/lib/apt/lists']], 0, $COWBELL, 'build', "$dir/node", '-t', 'node'), 0,
			"a vendor's node that no package owns") or diag($err);
		for my $m ((monitors())[0]) {
			cowbell('run', '--monitor', $m, 'image:node');
			is($out, "hello $dir/vendor/bin/node\n", "$m: runs from its own prefix") or diag($err);
		}
		my ($app) = grep { $_->{type} eq 'application' } map { @{$_->{components}} } sboms("$dir/none/cowbell", 'node');
		is($app && $app->{name}, 'node', 'its SBOM names it');
	}
	is(elsewhere([["$dir/empty", '/var/lib/dpkg']], 1, $COWBELL, 'build', "$dir/lua", '-t', 'x'), 125, 'not a Debian machine');
	like($err, qr/not a Debian machine/, 'is told so');
	SKIP: {
		skip 'lua5.4 is not installed', 7 if !installed('lua5.4');
		spew("$dir/status", join('', grep { !/^Package: lua5\.4$/m } split /(?<=\n\n)/, slurp('/var/lib/dpkg/status')));
		is(elsewhere([["$dir/status", '/var/lib/dpkg/status'], ["$dir/empty", '/var/lib/apt/lists']], 0, $COWBELL, 'build', "$dir/lua", '-t', 'x'),
			125, 'a package that is not installed, without apt\'s lists');
		like($err, qr/lua5\.4.*\n.*apt-get update/, 'advice is given');
		store('one');
		is(build('lua', 'main.lua' => "print('hello')\n"), 0, 'from the installed package') or diag($err);
		my $want = (layers('lua'))[0]{digest};
		system("cp /usr/bin/lua5.4 '$dir/lua.changed' && echo changed >> '$dir/lua.changed'");
		store('four');
		elsewhere([["$dir/lua.changed", '/usr/bin/lua5.4']], 0, $COWBELL, 'build', "$dir/lua", '-t', 'lua');
		ok($st == 0 && $out =~ /lua5.4 was changed on this machine.*taken as it is/, 'a changed package, without a network: taken, and told');
		isnt((layers('lua'))[0]{digest}, $want, 'with what it has now');
		skip 'apt cannot fetch lua5.4', 2
			if system("mkdir -p '$dir/probe2' && cd '$dir/probe2' && timeout 60 apt-get -qq download lua5.4=`dpkg-query -W -f '\${Version}' lua5.4` >/dev/null 2>&1");
		store('three');
		elsewhere([["$dir/lua.changed", '/usr/bin/lua5.4']], 1, $COWBELL, 'build', "$dir/lua", '-t', 'lua');
		like($out, qr/lua5.4 was changed on this machine: fetched anew/, 'with a network: fetched anew');
		is((layers('lua'))[0]{digest}, $want, 'what is fetched and what is installed give the same bytes');
	}
	store('one');
}

# --- languages --------------------------------------------------------------------------------------------------
my @langs = (
	['python3', 'python3', {'app.py' => "import ssl, sqlite3, zoneinfo\nprint('hello', len(ssl.create_default_context().get_ca_certs()) > 50, zoneinfo.ZoneInfo('Europe/Berlin'))\n"}, 'hello True Europe/Berlin'],
	['perl', 'perl', {'cpanfile' => '', 'app.pl' => "use POSIX; use Encode; use Socket; use JSON::PP; print encode_json({hello => [1]}), qq{\\n};\n", 'Procfile' => "web: perl app.pl\n"}, '{"hello":[1]}'],
	['lua5.4', 'lua', {'main.lua' => "print('hello ' .. _VERSION)\n"}, 'hello Lua 5.4'],
	['ruby', 'ruby', {'Gemfile' => "source 'https://rubygems.org'\n", 'app.rb' => "require 'json'\nrequire 'openssl'\nputs JSON.dump(hello: [1])\n", 'Procfile' => "web: ruby app.rb\n"}, '{"hello":[1]}'],
	['php-cli', 'php', {'index.php' => '', 'a.php' => "<?php echo json_encode(['hello' => extension_loaded('pdo') && extension_loaded('ctype')]), \"\\n\";\n", 'Procfile' => "web: php a.php\n"}, '{"hello":true}'],
	['nodejs', 'node', {'package.json' => '{"name":"x","version":"1.0.0","scripts":{"start":"node s.js"}}', 's.js' => "console.log('hello', require('tls').rootCertificates.length > 50)\n"}, 'hello true'],
	['dash', 'sh', {'app.py' => '', 'Procfile' => "web: ls /bin/sh /etc/os-release && echo \$HOME\n"}, "/bin/sh\n/etc/os-release"],
);
for my $t (@langs) {
	my ($deb, $program, $files, $want) = @$t;
	SKIP: {
		skip "$deb is not installed", scalar monitors() + 1 if !installed($deb);
		is(build("l-$program", %$files), 0, "$program: built") or diag($out . $err);
		for my $m (monitors()) {
			my @cmd = $program eq 'sh' ? ('ls', '/bin/sh', '/etc/os-release') : ();
			cowbell('run', '--monitor', $m, "image:l-$program", @cmd);
			like($out, qr/^\Q$want\E/m, "$program: runs with $m") or diag("$st $err");
		}
	}
}

done_testing;
