#!/usr/bin/perl
# SPDX-License-Identifier: ISC
# PostgreSQL as an instance, its data on a volume: initdb, the server with its processes, clients of the host, pgbench, a
# monitor that is killed with SIGKILL in the middle of it, and the recovery. What a client was told is committed is there afterwards.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Cowbell;
use Test::More;
use Time::HiRes qw(sleep time);

my ($bin) = reverse sort glob('/usr/lib/postgresql/*/bin');
plan skip_all => 'postgresql is not installed' unless $bin && -x "$bin/initdb" && -x "$bin/postgres";
plan skip_all => 'psql and pgbench are not installed' unless -x "$bin/psql" && -x "$bin/pgbench";
plan skip_all => 'no user postgres' unless defined getpwnam('postgres');
delete @ENV{qw(PGHOST PGPORT PGUSER PGDATA)};

sub client {
	my ($port, $program, @args) = @_;
	my ($st, $out, $err) = run_out({timeout => 60}, "$bin/$program", '-h', '127.0.0.1', '-p', $port, '-U', 'postgres', @args);
	return wantarray ? ($st, $out, $err) : $out;
}

sub start {
	my ($m, $d, $port) = @_;
	my $g = start_guest({}, $COWBELL, 'run', '--monitor', $m, '-m', '1G', '-u', 'postgres', '-p', "127.0.0.1:$port:5432", '-v', "$d:/data", '--', "$bin/postgres",
		'-D', '/data/db', '-c', 'listen_addresses=*', '-c', 'shared_buffers=32MB', '-c', 'unix_socket_directories=/tmp', '-c', 'max_connections=20', '-c', 'recovery_init_sync_method=syncfs');
	my $end = time + 90;
	my $up = '';
	while (time < $end && $up ne "1\n") {
		$up = client($port, 'psql', '-Atc', 'select 1');
		sleep 0.2 if $up ne "1\n";
	}
	return ($g, $up eq "1\n");
}

for my $m (monitors()) {
	my ($d, $port) = (scratch(), free_port());
	mkdir "$d/db", 0700; # ours here, and the user's of -u there
	my ($st, $out, $err) = run_out({timeout => 100}, $COWBELL, 'run', '--monitor', $m, '-m', '1G', '-u', 'postgres', '-v', "$d:/data", '--', "$bin/initdb",
		'-D', '/data/db', '-A', 'trust', '-E', 'UTF8', '--locale', 'C.UTF-8', '--no-sync');
	is($st, 0, "$m initdb") or diag(substr($out . $err, -3000)), next;
	open(my $hba, '>>', "$d/db/pg_hba.conf");
	print $hba "host all all all trust\n";
	close $hba;
	my ($g, $up) = start($m, $d, $port);
	ok($up, "$m postgres answers") or diag(substr(slurp($g->{err}), -3000)), next;
	is(client($port, 'psql', '-Atc', 'create table t(a int, b text)', '-c', "insert into t select i, repeat('x', 100) from generate_series(1, 5000) i",
			'-c', 'select count(*), sum(a), sum(length(b)) from t'), "CREATE TABLE\nINSERT 0 5000\n5000|12502500|500000\n", "$m a table");
	is(client($port, 'psql', '-Atc', "set max_parallel_workers_per_gather=2", '-c', 'set parallel_setup_cost=0', '-c', 'set min_parallel_table_scan_size=0', '-c', 'select sum(a) from t where b like \'x%\''),
		"SET\nSET\nSET\n12502500\n", "$m parallel workers");
	($st, $out, $err) = client($port, 'pgbench', '-i', '-q', '-s', '1', 'postgres');
	is($st, 0, "$m pgbench -i") or diag($err);
	($st, $out, $err) = client($port, 'pgbench', '-c', '4', '-T', '2', '-n', 'postgres');
	ok($st == 0 && $out =~ /number of failed transactions: 0/, "$m pgbench with 4 clients: " . ($out =~ /(tps = [\d.]+)/ ? $1 : 'no figure')) or diag($out . $err);

	# The monitor dies in the middle of a bench, and of a writer that remembers what was acknowledged.
	my $log = "$d.acked";
	my $bench = fork // die;
	if (!$bench) {
		open(STDOUT, '>', '/dev/null');
		open(STDERR, '>', '/dev/null');
		exec "$bin/pgbench", '-h', '127.0.0.1', '-p', $port, '-U', 'postgres', '-c', '3', '-T', '20', '-n', 'postgres';
	}
	my $writer = fork // die;
	if (!$writer) {
		open(my $w, '|-', "$bin/psql", '-q', '-h', '127.0.0.1', '-p', $port, '-U', 'postgres', '-At', '-o', $log) or die;
		$w->autoflush(1);
		$SIG{PIPE} = 'DEFAULT';
		print $w "create table acked(n int);\n";
		print $w "insert into acked values ($_) returning n;\n" for 1 .. 100000;
		POSIX::_exit(0);
	}
	my $end = time + 60;
	sleep 0.1 while time < $end && (-s $log // 0) < 200;
	sleep 0.5;
	kill 'KILL', $g->{pid};
	stop_guest($g, 'KILL');
	kill 'KILL', $writer, $bench;
	waitpid $_, 0 for $writer, $bench;
	my @acked = slurp($log) =~ /^(\d+)$/mg;
	pop @acked; # the last line may be half a number
	cmp_ok(scalar @acked, '>', 10, "$m killed after " . scalar @acked . ' acknowledged transactions');
	($g, $up) = start($m, $d, $port);
	ok($up, "$m postgres comes up again") or diag(substr(slurp($g->{err}), -3000));
	like(slurp($g->{err}), qr/not properly shut down; automatic recovery in progress.*redo done/s, "$m by recovery");
	is(client($port, 'psql', '-Atc', "select count(*) from acked where n <= $acked[-1]") + 0, $acked[-1], "$m everything that was acknowledged is there");
	is(client($port, 'psql', '-Atc', 'select count(*), sum(a) from t'), "5000|12502500\n", "$m and what was there before");
	is(client($port, 'psql', '-Atc', 'select (select sum(abalance) from pgbench_accounts) = (select sum(bbalance) from pgbench_branches), (select sum(tbalance) from pgbench_tellers) = (select sum(delta) from pgbench_history)'),
		"t|t\n", "$m the accounts of pgbench agree");
	is(stop_guest($g, 'INT', 30), 0, "$m a fast shutdown by SIGINT") or diag(substr(slurp($g->{err}), -2000));
	unlink $log;
}
done_testing();
