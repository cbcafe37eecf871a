#!/usr/bin/perl
# SPDX-License-Identifier: ISC
# Servers and tools of Debian that nothing else here is made for or tested with: each is started as an instance with an
# everyday configuration, and asked for something by a client of its own kind, under every monitor. Results also go
# to build/results/strangers.tsv, of which tools/gen-languages makes a part of docs/languages.md.
# COWBELL_STRANGER=name,... limits it; COWBELL_RESULTS=FILE: the results go there, whatever was run.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Cowbell;
use Test::More;
use Time::HiRes qw(sleep time);

$ENV{PATH} .= ':/usr/sbin:/sbin';
my %only = map { $_ => 1 } split /,/, $ENV{COWBELL_STRANGER} // '';
my @rows;
my $www = "<h1>hello from a file</h1>\n";

# name, package; files: made in the working directory, '@D@' becomes its name; with: --with; opt: more options.
# A tool: run, in (standard input), out (regexp). A server: run, port, check: a shell command on the host that sees $P (the
# host's port) and is tried until its output matches `out`; need: programs that the check takes.
# volume: a directory at /data. passive: a port that is the same inside and outside, '@Q@' in files. user: runs as. status: exit status of a tool, 0 if not given.
my @table = (
	# --- web servers, proxies, caches ---
	{name => 'lighttpd', package => 'lighttpd', run => [qw(lighttpd -D -f lighttpd.conf)], port => 8080, out => qr/hello from a file/,
	 check => 'curl -sf http://127.0.0.1:$P/', files => {'www/index.html' => $www, 'lighttpd.conf' => <<'X'}},
server.document-root = "@D@/www"
server.port = 8080
index-file.names = ( "index.html" )
mimetype.assign = ( ".html" => "text/html" )
X
	{name => 'Caddy', package => 'caddy', run => [qw(caddy file-server --listen :8080 --root www)], port => 8080, out => qr/hello from a file/,
	 check => 'curl -sf http://127.0.0.1:$P/', files => {'www/index.html' => $www}},
	{name => 'Squid', package => 'squid', run => [qw(squid -N -f squid.conf)], port => 3128, out => qr/^400$/, kill => 1,
	 check => 'curl -s -o /dev/null -w "%{http_code}" http://127.0.0.1:$P/', files => {'squid.conf' => <<'X'}},
http_port 3128
http_access allow all
pid_filename none
access_log none
cache_log /tmp/cache.log
shutdown_lifetime 1 seconds
X
	{name => 'Tinyproxy', package => 'tinyproxy-bin', run => [qw(tinyproxy -d -c tp.conf)], port => 8888, out => qr/Tinyproxy|tinyproxy/,
	 check => 'curl -s -H "Host: tinyproxy.stats" -x http://127.0.0.1:$P http://tinyproxy.stats/', files => {'tp.conf' => <<'X'}},
Port 8888
Listen 0.0.0.0
Timeout 60
MaxClients 20
StatHost "tinyproxy.stats"
X
	{name => 'stunnel', package => 'stunnel4', need => ['openssl'], run => [qw(stunnel4 st.conf)], port => 4433, out => qr/s:CN = localhost/,
	 check => 'echo | timeout 5 openssl s_client -connect 127.0.0.1:$P 2>&1 | head -20', prep => sub { certificate("$_[0]/key.pem", "$_[0]/cert.pem") }, files => {'st.conf' => <<'X'}},
foreground = yes
[echo]
accept = 4433
connect = 127.0.0.1:4434
cert = @D@/cert.pem
key = @D@/key.pem
X
	# --- names, directories, time ---
	{name => 'Unbound', package => 'unbound', need => ['dig'], run => [qw(unbound -d -c unbound.conf)], port => 5353, out => qr/1\.2\.3\.4/,
	 check => 'dig +time=1 +tries=1 @127.0.0.1 -p $P a.test +short', files => {'unbound.conf' => <<'X'}},
server:
 interface: 0.0.0.0@5353
 access-control: 0.0.0.0/0 allow
 do-daemonize: no
 chroot: ""
 username: ""
 directory: "/tmp"
 pidfile: ""
 use-syslog: no
 local-data: "a.test. A 1.2.3.4"
remote-control:
 control-enable: no
X
	{name => 'dnsmasq', package => 'dnsmasq-base', need => ['dig'], run => [qw(dnsmasq -d -p 5353 --address=/a.test/1.2.3.4 -u root --no-resolv)], port => 5353,
	 out => qr/1\.2\.3\.4/, check => 'dig +time=1 +tries=1 @127.0.0.1 -p $P a.test +short'},
	{name => 'BIND named', package => 'bind9', need => ['dig'], run => [qw(named -g -c named.conf -n 1)], port => 5353, out => qr/10\.9\.8\.7/,
	 check => 'dig +time=1 +tries=1 @127.0.0.1 -p $P www.example.test +short',
	 files => {'zone' => "\$TTL 60\n@ IN SOA ns. root. 1 60 60 60 60\n@ IN NS ns.example.test.\nns IN A 10.9.8.1\nwww IN A 10.9.8.7\n", 'named.conf' => <<'X'}},
options { directory "@D@"; listen-on port 5353 { any; }; listen-on-v6 { none; }; recursion no; pid-file none; session-keyfile "/tmp/session.key"; };
controls { };
zone "example.test" { type master; file "zone"; };
X
	{name => 'OpenLDAP slapd', package => 'slapd', need => ['ldapsearch'], run => [qw(slapd -d 0 -h ldap://0.0.0.0:3890 -f slapd.conf)], port => 3890, volume => 1,
	 out => qr/namingContexts: dc=example/, check => 'ldapsearch -x -H ldap://127.0.0.1:$P -s base -b "" namingContexts', files => {'slapd.conf' => <<'X'}},
include /etc/ldap/schema/core.schema
pidfile /tmp/slapd.pid
modulepath /usr/lib/ldap
moduleload back_mdb
database mdb
suffix "dc=example"
rootdn "cn=admin,dc=example"
rootpw secret
directory /data
X
	# --- queues, stores, numbers ---
	{name => 'Mosquitto', package => 'mosquitto', need => ['mosquitto_pub'], run => [qw(mosquitto -c mosq.conf)], port => 1883, out => qr/^hello$/,
	 check => 'mosquitto_pub -p $P -t a/b -m hello -r && mosquitto_sub -p $P -t a/b -C 1 -W 3', files => {'mosq.conf' => "listener 1883 0.0.0.0\nallow_anonymous true\n"}},
	{name => 'beanstalkd', package => 'beanstalkd', run => [qw(beanstalkd -b /data)], port => 11300, volume => 1, out => qr/RESERVED 1 5\r\nhello/,
	 check => q{timeout 2 bash -c 'exec 3<>/dev/tcp/127.0.0.1/$0; printf "put 1 0 60 5\r\nhello\r\nreserve\r\nquit\r\n" >&3; cat <&3' $P}},
	{name => 'etcd', package => 'etcd-server', need => ['etcdctl'], port => 2379, out => qr/^k\nv$/m, volume => 1,
	 run => [qw(etcd --data-dir /data/e --listen-client-urls http://0.0.0.0:2379 --advertise-client-urls http://127.0.0.1:2379)],
	 check => 'export ETCDCTL_API=3; etcdctl --endpoints http://127.0.0.1:$P put k v && etcdctl --endpoints http://127.0.0.1:$P get k'},
	{name => 'Prometheus', package => 'prometheus', run => [qw(prometheus --config.file=prom.yml --storage.tsdb.path=/data/p)], port => 9090, volume => 1,
	 out => qr/is Ready/i, check => 'curl -sf http://127.0.0.1:$P/-/ready', files => {'prom.yml' => "global: {scrape_interval: 15s}\n"}},
	{name => 'MariaDB', package => 'mariadb-server', need => ['mariadb'], port => 3306, volume => 1, out => qr/^42$/m, prep => \&mariadb_prepare,
	 run => [qw(mariadbd --no-defaults --user=root --datadir=/data/db --socket=/tmp/m.sock --bind-address=0.0.0.0 --innodb-buffer-pool-size=32M --skip-grant-tables)],
	 check => q{mariadb --no-defaults -h 127.0.0.1 -P $P -u root -N -e 'create database if not exists d; create or replace table d.t(a int) engine=innodb; insert into d.t values(40),(2); select sum(a) from d.t'}},
	{name => 'ngIRCd', package => 'ngircd', run => [qw(ngircd -n -f irc.conf)], port => 6667, out => qr/ 001 joe /,
	 check => q{timeout 3 bash -c 'exec 3<>/dev/tcp/127.0.0.1/$0; printf "NICK joe\r\nUSER joe 0 * :Joe\r\n" >&3; head -3 <&3' $P},
	 files => {'irc.conf' => "[Global]\nName = irc.example.test\nInfo = x\nListen = 0.0.0.0\nServerUID = 0\nServerGID = 0\n[Options]\nDNS = no\nIdent = no\nPAM = no\n"}},
	{name => 'Tor', package => 'tor', run => [qw(tor -f torrc)], port => 9050, out => qr/This is a SOCKS proxy/, check => 'curl -s http://127.0.0.1:$P/',
	 files => {'torrc' => "SocksPort 0.0.0.0:9050\nSocksPolicy accept *\nDisableNetwork 0\nDataDirectory /tmp/tor\nUser root\n"}, opt => ['--egress', 'none']},
	# --- servers that start processes ---
	{name => 'rsync daemon', package => 'rsync', need => ['rsync'], run => [qw(rsync --daemon --no-detach --config=rsyncd.conf --port=8730)], port => 8730, volume => 1, out => qr/^same$/m,
	 check => 'rsync -q @D@/rsyncd.conf rsync://127.0.0.1:$P/data/a && rsync -q rsync://127.0.0.1:$P/data/a @D@/back && cmp @D@/back @D@/rsyncd.conf && echo same',
	 files => {'rsyncd.conf' => "use chroot = no\nuid = root\ngid = root\n[data]\npath = /data\nread only = no\n"}},
	{name => 'vsftpd', package => 'vsftpd', need => ['curl'], run => [qw(vsftpd @D@/vsftpd.conf)], port => 2121, passive => 1, out => qr/hello from a file/, note => 'passive mode: its data port is forwarded, too',
	 check => 'curl -sS --disable-epsv --ftp-skip-pasv-ip ftp://127.0.0.1:$P/index.html', prep => sub { chmod 0755, $_[0]; system("chown root $_[0]/vsftpd.conf; chmod 600 $_[0]/vsftpd.conf; chmod 555 $_[0]/www"); '' },
	 files => {'www/index.html' => $www, 'vsftpd.conf' => <<'X'}},
listen=YES
listen_port=2121
background=NO
anonymous_enable=YES
anon_root=@D@/www
pasv_min_port=@Q@
pasv_max_port=@Q@
nopriv_user=nobody
ftp_username=daemon
X
	{name => 'Exim', package => 'exim4-daemon-light', run => ['/usr/sbin/exim4', '-bdf', '-oX', '2525', '-C', 'exim.conf'], port => 2525, out => qr/^250 OK id=/m, opt => ['-u', 'root'],
	 check => q{timeout 5 bash -c 'exec 3<>/dev/tcp/127.0.0.1/$0; s() { read -r l <&3; echo "$l"; }; s; for c in "HELO x" "MAIL FROM:<a@example.test>" "RCPT TO:<b@example.test>" DATA; do printf "%s\r\n" "$c" >&3; s; done; printf "Subject: x\r\n\r\nhi\r\n.\r\n" >&3; s; printf "QUIT\r\n" >&3' $P},
	 files => {'exim.conf' => <<'X'}},
primary_hostname = mail.example.test
domainlist local_domains = example.test
acl_smtp_rcpt = acl_all
spool_directory = /tmp/spool
log_file_path = /tmp/exim_%slog
exim_user = root
exim_group = root
never_users =
daemon_smtp_ports = 2525
begin acl
acl_all:
  accept
begin routers
all:
  driver = accept
  transport = file
begin transports
file:
  driver = appendfile
  file = /tmp/mbox
  user = root
X
	{name => 'Dovecot', package => 'dovecot-imapd', run => [qw(dovecot -F -c dovecot.conf)], port => 1143, out => qr/^a OK .*\n.*\* LIST .*INBOX/ms, with => ['dovecot-imapd'],
	 check => q{timeout 5 bash -c 'exec 3<>/dev/tcp/127.0.0.1/$0; printf "a LOGIN joe pw\r\nb LIST \"\" *\r\nc LOGOUT\r\n" >&3; cat <&3' $P | tr -d '\r'},
	 files => {'dovecot.conf' => <<'X'}},
base_dir = /tmp/dovecot
state_dir = /tmp/dovecot-state
protocols = imap
ssl = no
disable_plaintext_auth = no
log_path = /dev/stderr
mail_location = maildir:/tmp/mail/%u
service imap-login {
  inet_listener imap {
    port = 1143
  }
}
passdb {
  driver = static
  args = password=pw
}
userdb {
  driver = static
  args = uid=mail gid=mail home=/tmp/mail/%u
}
first_valid_uid = 1
X
	{name => 'supervisor', package => 'supervisor', run => [qw(/usr/bin/supervisord -n -c super.conf)], with => ['supervisor'], port => 9001, out => qr/RUNNING.*RUNNING/s,
	 check => 'curl -s http://127.0.0.1:$P/ | tr a-z A-Z',
	 files => {'super.conf' => "[supervisord]\nnodaemon=true\nlogfile=/dev/null\nlogfile_maxbytes=0\npidfile=/tmp/s.pid\nuser=root\n[inet_http_server]\nport=0.0.0.0:9001\n[program:a]\ncommand=sleep 100\n[program:b]\ncommand=sh -c 'while sleep 1; do echo tick; done'\n"}},
	{name => 'uWSGI', package => 'uwsgi-core', port => 8080, out => qr/^hello \d+$/, check => 'curl -sf http://127.0.0.1:$P/', with => ['uwsgi-plugin-python3', 'python3'],
	 run => [qw(/usr/bin/uwsgi --plugin python3 --http-socket :8080 --master --processes 3 --die-on-term --worker-reload-mercy 3 --wsgi-file app.py)],
	 files => {'app.py' => "import os\ndef application(env, start):\n    start('200 OK', [])\n    return [b'hello %d' % os.getpid()]\n"}},
	{name => 'Puma', package => 'puma', port => 8080, out => qr/^hello from puma \d+$/, check => 'curl -sf http://127.0.0.1:$P/', run => [qw(/usr/bin/puma -w 2 -b tcp://0.0.0.0:8080 config.ru)],
	 files => {'config.ru' => "run ->(env) { [200, {}, [\"hello from puma #{Process.pid}\"]] }\n"}},
	{name => 'Celery', package => 'celery', with => ['redis-server', 'celery', 'python3-redis'], out => qr/^done 42$/m, run => [qw(bash start.sh)],
	 files => {'start.sh' => "redis-server --save '' --unixsocket /tmp/r.sock --port 0 >/dev/null &\n/usr/bin/celery -A tasks worker -c 2 -l warning >&2 &\n/usr/bin/python3 -c 'from tasks import add; print(\"done\", add.delay(40, 2).get(timeout=30))'\nkill %2 %1; wait\n",
		   'tasks.py' => "from celery import Celery\napp = Celery('tasks', broker='redis+socket:///tmp/r.sock', backend='redis+socket:///tmp/r.sock')\n\@app.task\ndef add(a, b):\n    return a + b\n"}},
	{name => 'cron', package => 'cron', with => ['cron'], out => qr/^crontab: 1 line/m, run => ['bash', '-c', 'mkdir -p /var/spool/cron/crontabs; echo "* * * * * echo tick >>/tmp/ticks" | crontab - && cron && until kill -0 $(cat /run/crond.pid) 2>/dev/null; do sleep 0.1; done && echo "crontab: $(crontab -l | grep -c tick) line"']},
	{name => 'tmux', package => 'tmux', with => ['tmux'], out => qr/^42 in tmux$/m, run => ['bash', '-c', 'export TERM=xterm; tmux new-session -d -s a -x 80 -y 24; tmux send-keys -t a "echo \$((6*7)) in tmux" Enter; for i in $(seq 100); do tmux capture-pane -p -t a | grep "^42" && break; sleep 0.1; done; tmux kill-server']},
	{name => 'screen', package => 'screen', with => ['screen'], out => qr/^42 in screen$/m, run => ['bash', '-c', 'export TERM=xterm SCREENDIR=/tmp/screens; mkdir -m 700 $SCREENDIR; screen -dmS a sh; for i in $(seq 50); do screen -S a -X stuff "echo \$((6*7)) in screen$(printf "\\r")" >/tmp/said && break; sleep 0.2; done; for i in $(seq 50); do screen -S a -X hardcopy /tmp/h; grep "^42" /tmp/h && break; sleep 0.2; done; screen -S a -X quit']},
	{name => 'busybox sh and httpd', package => 'busybox-static', run => [qw(busybox httpd -f -p 8080 -h www)], port => 8080, out => qr/hello from a file/, check => 'curl -sf http://127.0.0.1:$P/index.html', files => {'www/index.html' => $www}},
	# --- tools ---
	{name => 'ImageMagick', package => 'imagemagick-6.q16', run => [qw(/usr/bin/convert -size 64x64 gradient:red-blue -resize 32x32 -blur 2 png:- )], out => qr/^\x89PNG/},
	{name => 'Ghostscript', package => 'ghostscript', run => [qw(gs -q -dNOPAUSE -dBATCH -sDEVICE=pngmono -sOutputFile=- page.ps)], out => qr/^\x89PNG/,
	 files => {'page.ps' => "%!PS\n/Helvetica findfont 20 scalefont setfont 72 72 moveto (hello) show showpage\n"}},
	{name => 'FFmpeg', package => 'ffmpeg', run => [qw(ffmpeg -v error -f lavfi -i testsrc=duration=1:size=64x64:rate=5 -c:v libx264 -f matroska -)], out => qr/matroska/},
	{name => 'Pandoc', package => 'pandoc', run => [qw(pandoc -t html a.md)], out => qr{<em>there</em>}, files => {'a.md' => "# hi *there*\n"}},
	{name => 'Graphviz', package => 'graphviz', run => [qw(dot -Tsvg a.dot)], out => qr{<svg.*</svg>}s, files => {'a.dot' => "digraph { a -> b }\n"}},
	{name => 'jq', package => 'jq', run => ['jq', '-c', '[.a[] | . * 2]', 'a.json'], out => qr/^\[2,4\]$/, files => {'a.json' => '{"a":[1,2]}'}},
	{name => 'bc', package => 'bc', run => ['bc'], in => "2^200\nscale=20; 4*a(1)\n", out => qr/^1606938044258990275541962092341162602522202993782792835301376$/m},
	{name => 'Lynx', package => 'lynx', run => [qw(lynx -dump a.html)], out => qr/^\s+Hi\s+there$/m, files => {'a.html' => '<p>Hi <b>there</b></p>'}},
	{name => 'Mercurial', package => 'mercurial', run => ['bash', '-c', 'cd /tmp && hg init r && cd r && echo a >a && hg add a && hg commit -u me -m one && hg log -T "{rev} {desc}\n"'],
	 with => ['hg'], out => qr/^0 one$/m, fork => 1},
	{name => 'Subversion', package => 'subversion', with => ['svn', 'svnadmin'], fork => 1, out => qr/Committed revision 1/,
	 run => ['bash', '-c', 'cd /tmp && svnadmin create r && svn checkout -q file:///tmp/r w && cd w && echo a >a && svn add -q a && svn commit -m one']},
	{name => 'fish', package => 'fish', run => ['fish', '-c', 'for i in (seq 3); echo (math $i x 7); end | string join ,'], fork => 1, out => qr/^7,14,21$/},
	{name => 'zsh', package => 'zsh', run => ['zsh', '-c', 'a=(c b a); print -l ${(o)a} | tr a-z A-Z | paste -sd,'], fork => 1, out => qr/^A,B,C$/},
	{name => 'gawk', package => 'gawk', run => ['gawk', 'BEGIN { "date -u -d @0 +%Y" | getline y; print y, 2**10; print "b\na" | "sort" }'], fork => 1, out => qr/^1970 1024\na\nb$/},
);

sub certificate {
	my ($key, $cert) = @_;
	return system("openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost -days 30 -keyout $key -out $cert >/dev/null 2>&1") ? 'openssl failed' : '';
}

# The directory of a fresh database, made by the package's own script on the host.
sub mariadb_prepare {
	my ($dir, $volume) = @_;
	return system("mariadb-install-db --no-defaults --user=root --datadir=$volume/db --auth-root-authentication-method=normal --skip-test-db >$dir/install.log 2>&1")
		? 'mariadb-install-db failed' : '';
}

sub version { return (`dpkg-query -W -f '\${db:Status-Status} \${Version}' '$_[0]' 2>/dev/null` =~ /^installed (.*)/)[0] }

# (ok, why)
sub tool {
	my ($r, $m, $dir, @opt) = @_;
	my ($st, $out, $err) = run_out({in => $r->{in}, dir => $dir, timeout => 120}, $COWBELL, 'run', @opt, '--', @{$r->{run}});
	return (1) if $st == ($r->{status} // 0) && $out =~ $r->{out};
	return (0, "status $st\nout: " . substr($out, 0, 600) . "\nerr: " . substr($err, -1500));
}

sub server {
	my ($r, $m, $dir, @opt) = @_;
	my $port = free_port();
	my $g = start_guest({dir => $dir}, $COWBELL, 'run', @opt, '-p', "127.0.0.1:$port:$r->{port}", '--', @{$r->{run}});
	my ($out, $ok, $end) = ('', 0, time + 90);
	while (!$ok && time < $end) {
		(undef, $out, my $err) = run_out({timeout => 10}, 'env', "P=$port", 'sh', '-c', $r->{check} =~ s/\@D\@/$dir/gr);
		$ok = $out =~ $r->{out};
		$out .= $err;
		if (!$ok && waitpid($g->{pid}, POSIX::WNOHANG()) == $g->{pid}) {
			$g->{status} = $? & 127 ? 128 + ($? & 127) : $? >> 8;
			last;
		}
		sleep 0.1 if !$ok;
	}
	my $st = stop_guest($g, $r->{kill} ? 'KILL' : 'TERM', 20);
	return (1) if $ok && $st ne 'stuck';
	return (0, "status $st\ncheck: " . substr($out, 0, 600) . "\nout: " . substr(slurp($g->{out}), -800) . "\nerr: " . substr(slurp($g->{err}), -1500));
}

for my $r (@table) {
	my $n = $r->{name};
	next if %only && !$only{$n};
	my $version = version($r->{package});
	my @missing = grep { !have($_) } @{$r->{need} // []};
	my $reason = !defined $version ? "$r->{package} is not installed" : @missing ? "not installed: @missing" : '';
	for my $m (monitors()) {
		SKIP: {
			my ($dir, $volume, $passive) = (scratch(), scratch(), free_port());
			for my $f (sort keys %{$r->{files} // {}}) {
				system('mkdir', '-p', "$dir/" . ($f =~ m{^(.*)/} ? $1 : ''));
				spew("$dir/$f", $r->{files}{$f} =~ s/\@D\@/$dir/gr =~ s/\@Q\@/$passive/gr);
			}
			$reason ||= $r->{prep}->($dir, $volume) if $r->{prep};
			if ($reason) {
				push @rows, join("\t", $n, $r->{package}, $version // '', $m, 'skipped', '', $reason);
				skip("$m $n: $reason", 1);
			}
			my @opt = ('--monitor', $m, '-m', '1G', @{$r->{opt} // []}, map { ('--with', $_) } @{$r->{with} // []});
			push @opt, '-v', "$volume:/data" if $r->{volume};
			push @opt, '-p', "127.0.0.1:$passive:$passive" if $r->{passive};
			my @cmd = map { s/\@D\@/$dir/gr } @{$r->{run}};
			local $r->{run} = \@cmd;
			my ($ok, $why) = $r->{port} ? server($r, $m, $dir, @opt) : tool($r, $m, $dir, @opt);
			ok($ok, "$m $n") or diag($why);
			my $line = join ' ', map { /[^\w.:,=\/+-]/ ? "'$_'" : $_ } map { s/\Q$dir\E\///gr } @{$r->{run}};
			push @rows, join("\t", $n, $r->{package}, $version, $m, $ok ? 'ok' : 'FAILED', $line, $r->{note} // '');
			results() if $ENV{COWBELL_RESULTS};
		}
	}
}
sub results {
	mkdir "$TOP/build";
	mkdir "$TOP/build/results";
	spew($ENV{COWBELL_RESULTS} // "$TOP/build/results/strangers.tsv", join("\n", @rows) . "\n") if !%only || $ENV{COWBELL_RESULTS};
}
results();
done_testing();
