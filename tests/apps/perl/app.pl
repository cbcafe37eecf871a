#!/usr/bin/perl
# SPDX-License-Identifier: ISC
use strict;
use warnings;
use IO::Socket::INET;

my $s = IO::Socket::INET->new(LocalPort => 8080, Listen => 16, ReuseAddr => 1) or die "listen: $!";
while (my $c = $s->accept) {
	my $line = <$c> // '';
	while (my $h = <$c>) {
		last if $h =~ /^\r?$/;
	}
	my ($path) = $line =~ /^\S+ (\S+)/;
	my $body = 'hello from perl ' . ($path // '?');
	print $c "HTTP/1.1 200 OK\r\nContent-Length: " . length($body) . "\r\nConnection: close\r\n\r\n$body";
	close $c;
}
