#!/bin/sh
# SPDX-License-Identifier: ISC
# The fixed part of the foreign suites that CI runs (a seeded draw; `ci` in suites/*.py), one test a unit and
# monitor. It needs no network: what is not there (`make conformance-fetch` gets it) is left out.
# The whole: make conformance. COWBELL_MONITORS limits the monitors.
cd "$(dirname "$0")" || exit 1
echo "# all cases: make conformance [SUITE=cpython,libuv MONITOR=process ONLY='test_os,tcp_*']"
for need in python3 unshare ip dpkg-source; do
	command -v $need >/dev/null || { echo "1..0 # SKIP no $need here"; exit 0; }
done
unshare -m true 2>/dev/null || unshare -U -r -m true 2>/dev/null || { echo '1..0 # SKIP no namespaces here to run natively in'; exit 0; }
exec ./run run --part ci --offline --tap --monitor "${COWBELL_MONITORS:-}"
