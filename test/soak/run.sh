#!/bin/bash
# Loads millions of messages from a real Apache Kafka, one in a hundred of them bad, while workers,
# server and broker are killed every few seconds; half-way the mapping is changed and dead letters are
# retried. Then each of the messages must be a row or a dead letter, once.
#
#   bash test/soak/run.sh [MESSAGES]      default: 5000000, at least 100000
#
# Says what was killed, how many of the kills hit a transaction, and what came of it; fails if anything
# is missing, doubled or not as expected, and as "not exercised" if no kill hit a transaction. The
# seed is printed, SOAK_SEED=... repeats it. Environment otherwise: as of test/run.sh. Debian packages
# are installed where they are missing. The work directory (1 GB for 5,000,000 messages) is removed,
# but for the logs of a failure.
set -euo pipefail

# shellcheck source=test/lib/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib/common.sh"

messages=${1:-5000000}
group=		# the process group of the programme
[[ $messages =~ ^[1-9][0-9]{5,}$ ]] || die "usage: run.sh [MESSAGES], at least 100000"

# In a process group of its own, so that an interrupt ends all of it.
soak()
{
	local pgxs_test status=0
	pgxs_test=$(dirname "$("$pg_config" --pgxs)")/../test
	cd "$work/src"
	setsid "${runner[@]}" PATH="$bin:$PATH" PG_REGRESS="$pgxs_test/regress/pg_regress" \
		TESTDIR="$work" TESTDATADIR="$work/tmp_check" TESTLOGDIR="$work/tmp_check/log" \
		PG_TEST_TIMEOUT_DEFAULT="${PG_TEST_TIMEOUT_DEFAULT:-600}" \
		KAFKA_PRIVATE_DIR="$work" KAFKA_BROKER_SH="$work/src/test/kafka/broker.sh" \
		perl -I test/lib -I "$pgxs_test/perl" test/soak/soak.pl "$messages" < /dev/null &
	group=$!
	wait "$group" || status=$?
	group=
	return "$status"
}

cleanup()
{
	local status=$?
	trap - EXIT
	trap '' INT TERM
	set +e
	cd /
	[ -n "$work" ] || exit "$status"
	if [ -n "$group" ]; then
		kill -TERM -- "-$group" 2> /dev/null
		wait "$group" 2> /dev/null
	fi
	stop_servers_below "$work"
	stop_brokers_below "$work"
	if [ "$status" = 0 ]; then
		rm -rf "$work"
	else
		rm -rf "$work"/src "$work"/install "$work"/kafka_*/data \
			"$work"/tmp_check/*_data
		echo "run.sh: FAILED; the logs are in $work" >&2
	fi
	exit "$status"
}

main()
{
	need_postgresql libipc-run-perl perl
	need_kafka
	make_work_dir kafka_ingest-soak
	trap cleanup EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM
	build_ordinary STRICT=1
	say "soaking with $messages messages"
	soak || die "not every message found its place, or no kill hit a transaction"
	say "$messages messages: each a row or a letter, none missing, none twice"
}

main
