# SPDX-License-Identifier: ISC
# For tests with registries: a real one (Debian's docker-registry) with TLS or without, a token server that it trusts, a proxy that
# cuts connections, a server that answers with what a test says, and images made by hand.
package Registry;
use strict;
use warnings;
use Digest::SHA qw(sha256_hex);
use Exporter 'import';
use FindBin;
use IO::Select;
use IO::Socket::INET;
use MIME::Base64 qw(encode_base64 encode_base64url decode_base64);
use POSIX qw(:sys_wait_h);
use Time::HiRes qw(sleep time);
use lib $FindBin::Bin;
use Cowbell;

our @EXPORT = qw(make_ca start_registry start_token_server start_proxy start_server proxy_log put_image native_image end_process);
my %children;

sub end_process {
	my ($pid) = @_;
	return unless delete $children{$pid};
	kill 'KILL', $pid;
	waitpid $pid, 0;
}

END {
	my $status = $?;
	end_process($_) for keys %children;
	$? = $status;
}

# A process that runs $code->() and ends.
sub spawn {
	my ($code) = @_;
	my $pid = fork // die "fork: $!";
	if (!$pid) {
		%children = ();
		open STDOUT, '>', '/dev/null';	# TAP is the parent's
		eval { $code->(); 1 } or print STDERR $@;
		POSIX::_exit(0);
	}
	$children{$pid} = 1;
	return $pid;
}

sub quiet { return system(join(' ', map { "'$_'" } @_) . ' >/dev/null 2>&1') == 0 }

# ca.pem, cert.pem and key.pem (for localhost and 127.0.0.1) in a directory.
sub make_ca {
	my ($d) = @_;
	quiet(qw(openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test-ca -keyout), "$d/ca.key", '-out', "$d/ca.pem") or die 'openssl';
	quiet(qw(openssl req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout), "$d/key.pem", '-out', "$d/csr.pem") or die 'openssl';
	spew("$d/ext", "subjectAltName=DNS:localhost,IP:127.0.0.1\nkeyUsage=digitalSignature,keyEncipherment\n");
	quiet(qw(openssl x509 -req -days 2 -CAcreateserial -in), "$d/csr.pem", '-CA', "$d/ca.pem", '-CAkey', "$d/ca.key", '-extfile', "$d/ext", '-out', "$d/cert.pem")
		or die 'openssl';
}

sub listening {
	my ($port) = @_;
	for (1 .. 100) {
		return 1 if IO::Socket::INET->new(PeerAddr => "127.0.0.1:$port", Timeout => 1);
		sleep 0.1;
	}
	return 0;
}

# start_registry($dir, tls => $certs, token => $token_port): its port. Storage is $dir/data.
sub start_registry {
	my ($d, %o) = @_;
	my $port = free_port();
	my $conf = "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: $d/data}, maintenance: {uploadpurging: {enabled: false}}}\n"
		. "http:\n  addr: 127.0.0.1:$port\n";
	$conf .= "  tls: {certificate: $o{tls}/cert.pem, key: $o{tls}/key.pem}\n" if $o{tls};
	$conf .= "auth: {token: {realm: 'http://127.0.0.1:$o{token}/token', service: test-registry, issuer: test-issuer, rootcertbundle: $o{root}}}\n" if $o{token};
	mkdir $d;
	spew("$d/config.yml", $conf);
	my $pid = spawn(sub {
		open STDERR, '>', "$d/log";
		exec 'docker-registry', 'serve', "$d/config.yml";
	});
	listening($port) or die 'docker-registry does not start: ' . slurp("$d/log");
	return wantarray ? ($port, $pid) : $port;
}

# --- servers of our own ------------------------------------------------------------------------------------------------

# Read one HTTP request: (first line, \%headers, body), or nothing at the end.
sub read_request {
	my ($c) = @_;
	my $line = <$c> // return;
	my (%h, $body);
	while (defined(my $l = <$c>)) {
		$l =~ s/\r?\n$//;
		last if $l eq '';
		$h{lc $1} = $2 if $l =~ /^([^:]+):\s*(.*)$/;
	}
	$line =~ s/\r?\n$//;
	$body = '';
	if (my $n = $h{'content-length'}) {
		while (length $body < $n) {
			read($c, $body, $n - length $body, length $body) or last;
		}
	}
	return ($line, \%h, $body);
}

# start_server($log, sub { my ($c, $line, $headers, $body) = @_; print $c ... }): port. Each request is logged; connections are closed after one answer.
sub start_server {
	my ($log, $answer) = @_;
	my $s = IO::Socket::INET->new(Listen => 20, LocalAddr => '127.0.0.1', ReuseAddr => 1) or die "listen: $!";
	my $port = $s->sockport;
	my $pid = spawn(sub {
		$SIG{CHLD} = 'IGNORE';
		while (1) {
			my $c = $s->accept or next;
			next if fork;
			$SIG{PIPE} = 'DEFAULT';
			alarm 60;
			if (my ($line, $h, $body) = read_request($c)) {
				open my $f, '>>', $log;
				print $f "$line", (map { " [$_: $h->{$_}]" } grep { exists $h->{$_} } qw(range authorization content-range)), "\n";
				close $f;
				$c->autoflush(1);
				$answer->($c, $line, $h, $body);
			}
			POSIX::_exit(0);
		}
	});
	close $s;
	return wantarray ? ($port, $pid) : $port;
}

# A proxy in front of a port that closes the first $cuts connections after $bytes bytes in direction $from ('server' or 'client'). Logs
# the requests that it sees. start_proxy($log, $to, $from, $bytes, $cuts): port.
sub start_proxy {
	my ($log, $to, $from, $bytes, $cuts) = @_;
	my $s = IO::Socket::INET->new(Listen => 20, LocalAddr => '127.0.0.1', ReuseAddr => 1) or die "listen: $!";
	my $port = $s->sockport;
	spew("$log.cuts", '');
	spawn(sub {
		$SIG{CHLD} = 'IGNORE';
		while (1) {
			my $c = $s->accept or next;
			next if fork;
			$SIG{PIPE} = 'IGNORE';
			alarm 120;
			my $u = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$to") or POSIX::_exit(1);
			my %count = (client => 0, server => 0);
			my $sel = IO::Select->new($c, $u);
			LOOP: while (1) {
				for my $r ($sel->can_read) {
					my $who = $r == $c ? 'client' : 'server';
					my $n = sysread($r, my $data, 16384) or last LOOP;
					if ($who eq 'client') {
						open my $f, '>>', $log;
						while ($data =~ m{^((?:GET|HEAD|POST|PUT|PATCH) \S+) HTTP/1.1\r\n(.*?)\r\n\r\n}msg) {
							my ($line, $h) = ($1, $2);
							print $f $line, ($h =~ /^(Range: [^\r]*)/mi ? " [$1]" : ''), ($h =~ /^(Content-Range: [^\r]*)/mi ? " [$1]" : ''), "\n";
						}
					}
					$count{$who} += $n;
					my $w = $who eq 'client' ? $u : $c;
					my $over = $count{$from} - $bytes;
					if ($who eq $from && $over > 0 && -s "$log.cuts" < $cuts) {
						syswrite($w, $data, $n - $over) if $over < $n;
						open my $f, '>>', "$log.cuts";
						print $f '.';
						close $f;
						last LOOP;
					}
					my $off = 0;
					while ($off < $n) {
						my $k = syswrite($w, $data, $n - $off, $off) or last LOOP;
						$off += $k;
					}
				}
			}
			POSIX::_exit(0);
		}
	});
	close $s;
	return $port;
}

sub proxy_log { return split /\n/, slurp($_[0]) }

# A token server: Basic auth of user:secret gives all that is asked for; without it, pull only if $anonymous. The tokens are JWTs signed with
# $certs/key.pem. They last $lifetime seconds.
sub start_token_server {
	my ($log, $certs, %o) = @_;
	my $x5c = slurp("$certs/cert.pem");
	$x5c =~ s/-----[^-]*-----|\s//g;
	return start_server($log, sub {
		my ($c, $line, $h) = @_;
		my ($query) = $line =~ /\?(\S*)/;
		my (@access, $good);
		$good = ($h->{authorization} // '') eq 'Basic ' . encode_base64('user:secret', '');
		if (exists $h->{authorization} && !$good) {
			my $why = '{"details":"incorrect user or pass"}';
			print $c "HTTP/1.1 401 Unauthorized\r\nContent-Length: " . length($why) . "\r\nConnection: close\r\n\r\n$why";
			return;
		}
		for my $scope ($query =~ /scope=([^&]*)/g) {
			$scope =~ s/%([0-9A-Fa-f]{2})/chr hex $1/ge;
			my ($type, $name, $actions) = split /:/, $scope;
			my @a = grep { $good || ($o{anonymous} && $_ eq 'pull') } split /,/, $actions;
			push @access, sprintf '{"type":"%s","name":"%s","actions":[%s]}', $type, $name, join ',', map { "\"$_\"" } @a;
		}
		my $now = int time;
		my $life = $o{lifetime} // 300;
		my $text = encode_base64url("{\"typ\":\"JWT\",\"alg\":\"RS256\",\"x5c\":[\"$x5c\"]}") . '.'
			. encode_base64url("{\"iss\":\"test-issuer\",\"sub\":\"user\",\"aud\":\"test-registry\",\"exp\":@{[$now + $life]},\"nbf\":@{[$now - 10]},\"iat\":$now,\"jti\":\"$$\",\"access\":["
			. join(',', @access) . ']}');
		my $tmp = "$log.$$";
		spew($tmp, $text);
		my $sig = `openssl dgst -sha256 -sign '$certs/key.pem' '$tmp'`;
		unlink $tmp;
		my $json = "{\"token\":\"$text." . encode_base64url($sig) . "\",\"expires_in\":$life}";
		print $c "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: " . length($json) . "\r\nConnection: close\r\n\r\n$json";
	});
}

# --- images ---------------------------------------------------------------------------------------------------------------

# native_image($root_dir, %config): {manifest => text, hex => ..., blobs => {hex => bytes}}: one EROFS layer with the tree.
sub native_image {
	my ($d, $root, $config) = @_;
	quiet('mkfs.erofs', '-T0', '--all-root', '-U00000000-0000-0000-0000-000000000000', "$d/layer.erofs", $root) or die 'mkfs.erofs';
	my $layer = slurp("$d/layer.erofs");
	my $lh = sha256_hex($layer);
	my $cfg = "{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":$config,\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"sha256:$lh\"]}}";
	my $ch = sha256_hex($cfg);
	my $m = '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:'
		. "$ch\",\"size\":" . length($cfg) . '},"layers":[{"mediaType":"application/vnd.cowbell.layer.v1.erofs","digest":"sha256:'
		. "$lh\",\"size\":" . length($layer) . '}]}';
	return {manifest => $m, hex => sha256_hex($m), layer => $lh, config => $ch, size => length $layer, blobs => {$lh => $layer, $ch => $cfg}};
}

# Put an image on a registry with curl: put_image($scratch, $base_url, $repository, $tag, $image, curl options).
sub put_image {
	my ($d, $base, $repo, $tag, $img, @o) = @_;
	for my $hex (keys %{$img->{blobs}}) {
		spew("$d/put.blob", $img->{blobs}{$hex});
		my ($loc) = `curl -s @o -i -X POST '$base/v2/$repo/blobs/uploads/'` =~ /^Location: (\S+)/mi or return 0;
		quiet('curl', '-sf', @o, '-X', 'PUT', '-H', 'Content-Type: application/octet-stream', '--data-binary', "\@$d/put.blob", "$loc&digest=sha256:$hex") or return 0;
	}
	spew("$d/put.manifest", $img->{manifest});
	return quiet('curl', '-sf', @o, '-X', 'PUT', '-H', 'Content-Type: application/vnd.oci.image.manifest.v1+json', '--data-binary', "\@$d/put.manifest", "$base/v2/$repo/manifests/$tag");
}

1;
