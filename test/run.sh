#!/bin/bash
# Runs every test, on a fresh Debian, too: installs what is missing, builds (warnings are errors),
# starts a real Apache Kafka, runs check.sh, pg_regress, the isolation tests and the TAP tests.
#
#   bash test/run.sh              everything
#   bash test/run.sh NAME ...     the tests with that name: a part of the file name of a TAP test
#                                 (test/t/*NAME*.pl), or a test of sql/ or of test/isolation/specs/,
#                                 or check
#
# It ends with prove's summary and fails if anything failed; nothing is ever skipped. As root the
# tests run as the user postgres. Everything happens in a directory of its own below TMPDIR; after a
# failure the logs stay there. Nothing is installed but Debian packages. Environment:
#   KAFKA_INGEST_CACHE   where Kafka's jars are kept (test/kafka/fetch.sh)
#   PG_CONFIG            which PostgreSQL (default: the newest that can build extensions)
#   KAFKA_INGEST_KEEP=1  keep the work directory in any case
# What the tests find in theirs: KAFKA_BROKERS (host:port), KAFKA_DATA_DIR, KAFKA_TOOL, KAFKA_HOME,
# KAFKA_BROKER_SH, PG_CONFIG (of the installation that has the headers), KAFKA_INGEST_FAULTS_DIR (holds
# the kafka_ingest.so with fault injection; the directory above it is a PostgreSQL installation that has
# this one), KAFKA_INGEST_SHARED_DIR (the same for one that uses the shared librdkafka; made only for
# tests that want it).
set -euo pipefail

# shellcheck source=test/lib/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

prove_group=	# the process group of the tests
stages=()		# what prove is to run

# ---- what to run -----------------------------------------------------------------------------

# sql_tests DIR ENDING [NAME]: the tests in a directory, without the extension's own scripts
tests_in()
{
	local file name
	for file in "$root/$1"/*."$2"; do
		name=$(basename "$file" ".$2")
		if [ -f "$file" ] && [[ $name != kafka_ingest--* ]] && [ "${3:-$name}" = "$name" ]; then
			echo "$name"
		fi
	done
}

# add_stage NAME ARGUMENT...: a file that runs stage.sh, since prove runs files
add_stage()
{
	local file=$work/stages/$1.sh
	shift
	{
		echo '#!/bin/bash'
		printf 'exec bash %q' "$work/src/test/lib/stage.sh"
		printf ' %q' "$@"
		echo
	} | as_user tee "$file" > /dev/null
	as_user chmod +x "$file"
	stages+=("$file")
}

select_all()
{
	local names file
	if [ -f "$root/test/check.sh" ]; then
		add_stage check check
	fi
	mapfile -t names < <(tests_in sql sql)
	[ ${#names[@]} = 0 ] || add_stage regress regress "${names[@]}"
	mapfile -t names < <(tests_in test/isolation/specs spec)
	[ ${#names[@]} = 0 ] || add_stage isolation isolation "${names[@]}"
	for file in "$root"/test/t/*.pl; do
		[ ! -f "$file" ] || stages+=("test/t/$(basename "$file")")
	done
	[ ${#stages[@]} -gt 0 ] || die "there are no tests"
}

select_named()
{
	local name=$1 file before=${#stages[@]}
	[ "$name" != check ] || add_stage check check
	if [ -n "$(tests_in sql sql "$name")" ]; then
		add_stage "regress-$name" regress "$name"
	fi
	if [ -n "$(tests_in test/isolation/specs spec "$name")" ]; then
		add_stage "isolation-$name" isolation "$name"
	fi
	for file in "$root"/test/t/*"$name"*.pl; do
		[ ! -f "$file" ] || stages+=("test/t/$(basename "$file")")
	done
	[ ${#stages[@]} -gt "$before" ] || die "there is no test $name"
}

# ---- the steps -------------------------------------------------------------------------------

install_packages()
{
	# the three before the last are for check.sh
	need_postgresql libipc-run-perl perl universal-ctags pg-bsd-indent binutils openssl
	need_kafka
}

# Does a test that shall run ask for a server with the shared librdkafka?
wants_shared()
{
	(cd "$root" && grep -q 'shared =>' "${stages[@]}")
}

# The build that is tested, one that can be told to misbehave (test/lib/IngestCluster.pm), and one
# with the shared librdkafka, for the test of both kinds.
build_all()
{
	local lib
	lib=$("$pg_config" --pkglibdir)
	say "building"
	copy_tree "$work/src"
	as_user cp -r "$work/src" "$work/src-faults"
	as_user cp -r "$work/src" "$work/src-shared"
	build_tool "$work/src"
	# no bitcode: it takes as long again, and no test uses it
	build_and_install "$work/src" "$work/install" STRICT=1 RDKAFKA=private with_llvm=no
	build_and_install "$work/src-faults" "$work/install-faults" STRICT=1 FAULTS=1 RDKAFKA=private with_llvm=no
	export KAFKA_INGEST_FAULTS_DIR=$work/install-faults$lib
	[ -f "$KAFKA_INGEST_FAULTS_DIR/kafka_ingest.so" ] || die "the build made no kafka_ingest.so"
	if wants_shared; then
		build_and_install "$work/src-shared" "$work/install-shared" STRICT=1 RDKAFKA=shared with_llvm=no
		export KAFKA_INGEST_SHARED_DIR=$work/install-shared$lib
	fi
}

start_kafka()
{
	say "starting Apache Kafka"
	export KAFKA_DATA_DIR=$work/kafka KAFKA_BROKER_SH=$work/src/test/kafka/broker.sh
	KAFKA_BROKERS=$(broker start "$KAFKA_DATA_DIR" 0) || die "Apache Kafka did not start"
	export KAFKA_BROKERS
	say "Apache Kafka is at $KAFKA_BROKERS"
}

# The tests in a process group of their own, so that an interrupt ends all of them.
run_prove()
{
	local bin pgxs_test status=0 tee_process
	bin=$work/install$("$pg_config" --bindir)
	pgxs_test=$(dirname "$("$pg_config" --pgxs)")/../test
	as_user mkdir -p "$work/log" "$work/tap"
	mkfifo "$work/output"
	tee "$work/prove.log" < "$work/output" &
	tee_process=$!
	cd "$work/src"
	setsid "${runner[@]}" PATH="$bin:$PATH" PG_REGRESS="$pgxs_test/regress/pg_regress" \
		STAGE_SOURCE="$work/src" STAGE_LOG="$work/log" STAGE_PGXS_TEST="$pgxs_test" STAGE_BINDIR="$bin" \
		TESTDIR="$work/tap" TESTDATADIR="$work/tap/tmp_check" TESTLOGDIR="$work/tap/tmp_check/log" \
		KAFKA_PRIVATE_DIR="$work" PG_CONFIG="$pg_config" \
		prove --timer -I test/lib -I "$pgxs_test/perl" "${stages[@]}" > "$work/output" 2>&1 < /dev/null &
	prove_group=$!
	wait "$prove_group" || status=$?
	end_tests
	wait "$tee_process" || true
	return "$status"
}

# What explains a failure, then the summary once more: it is the end of the output.
report_failure()
{
	local log
	for log in $(failed_logs); do
		printf '\n--- the end of %s\n' "$log"
		tail -n 40 "$log"
	done
	printf '\nThe logs are in %s\n\n' "$work"
	sed -n '/^Test Summary Report/,$p' "$work/prove.log"
}

# The logs of the TAP tests that prove's summary names.
failed_logs()
{
	local name
	sed -n '/^Test Summary Report/,$p' "$work/prove.log" 2> /dev/null \
		| sed -n 's|^test/t/\([^ ]*\)\.pl .*|\1|p' \
		| while read -r name; do
			find "$work/tap/tmp_check/log" -name "regress_log_$name" -o -name "${name}_*.log"
		done
}

# ---- the end ---------------------------------------------------------------------------------

# Whatever happened: the processes that were started here end, and only they.
end_tests()
{
	if [ -n "$prove_group" ]; then
		kill -TERM -- "-$prove_group" 2> /dev/null || true
		wait "$prove_group" 2> /dev/null || true
		prove_group=
	fi
	stop_servers_below "$work"
	stop_brokers_below "$work"
}

cleanup()
{
	local status=$?
	trap - EXIT
	trap '' INT TERM
	set +e
	cd /
	[ -n "$work" ] || exit "$status"
	end_tests
	if [ "$status" = 0 ] && [ -z "${KAFKA_INGEST_KEEP:-}" ]; then
		rm -rf "$work"
	elif [ -z "${KAFKA_INGEST_KEEP:-}" ]; then
		# the logs are kept, what is big is not
		rm -rf "$work"/install* "$work"/src* "$work/kafka/data" "$work"/kafka_*/data \
			"$work"/tap/tmp_check/*_data/pgdata
		find "$work" -type d -empty -delete 2> /dev/null
	fi
	exit "$status"
}

main()
{
	local name
	install_packages
	make_work_dir kafka_ingest-test
	trap cleanup EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM
	as_user mkdir "$work/stages"
	if [ $# = 0 ]; then
		select_all
	else
		for name in "$@"; do
			select_named "$name"
		done
	fi
	build_all
	start_kafka
	if ! run_prove; then
		report_failure
		exit 1
	fi
}

main "$@"
