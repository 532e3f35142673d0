#!/bin/bash
# One of run.sh's stages that are not Perl, as a test for prove: its results are TAP on standard
# output, what explains a failure goes to standard error.
#
#   stage.sh check | regress NAME ... | isolation NAME ...
#
# run.sh sets the environment: STAGE_SOURCE (the copy of the tree), STAGE_LOG (a directory),
# STAGE_PGXS_TEST (pgxs' directory of test programs), STAGE_BINDIR, KAFKA_BROKERS, KAFKA_TOOL.
set -uo pipefail

diagnose()
{
	sed 's/^/# /' >&2
}

check()
{
	echo 1..1
	if bash "$STAGE_SOURCE/test/check.sh" > "$STAGE_LOG/check.log" 2>&1; then
		echo "ok 1 - test/check.sh"
	else
		tail -n 100 "$STAGE_LOG/check.log" | diagnose
		echo "not ok 1 - test/check.sh"
	fi
}

# pg_regress speaks TAP from PostgreSQL 16 on; before that it writes "test name ... ok".
as_tap()
{
	awk '
		/^(ok|not ok) [0-9]+ / { result[++n] = $0; next }
		/^test .*\.\.\. /      { n++; result[n] = (/\.\.\. ok/ ? "ok " : "not ok ") n " - " $2 }
		END                    { for (i = 1; i <= n; i++) print result[i]; print "1.." n }'
}

# run PROGRAM OUTPUT OPTION... -- the results, and a failure's differences and server log
run()
{
	local program=$1 output=$2 failed=0
	shift 2
	mkdir -p "$output"
	"$program" --bindir="$STAGE_BINDIR" --outputdir="$output" --temp-instance="$output/instance" \
		--temp-config="$STAGE_SOURCE/test/regress.conf" --no-locale --encoding=UTF8 \
		"$@" > "$output/output.log" 2>&1 || failed=1
	as_tap < "$output/output.log"
	if [ $failed = 1 ]; then
		{
			tail -n 40 "$output/output.log"
			tail -n 300 "$output/regression.diffs"
			echo "--- the end of $output/log/postmaster.log"
			tail -n 40 "$output/log/postmaster.log"
		} 2>&1 | diagnose
	fi
	rm -rf "$output/instance"
	exit $failed
}

stage=$1
shift
case $stage in
	check) check ;;
	regress)
		run "$STAGE_PGXS_TEST/regress/pg_regress" "$STAGE_LOG/regress" \
			--inputdir="$STAGE_SOURCE" --load-extension=kafka_ingest "$@"
		;;
	isolation)
		run "$STAGE_PGXS_TEST/isolation/pg_isolation_regress" "$STAGE_LOG/isolation" \
			--inputdir="$STAGE_SOURCE/test/isolation" --load-extension=kafka_ingest "$@"
		;;
esac
