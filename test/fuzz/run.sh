#!/bin/bash
# Fuzzes the JSON scanner: builds test/fuzz/fuzz_json_scan.c with clang's libFuzzer, address and
# undefined behaviour sanitizers, runs it on JSONTestSuite, test/fuzz/seeds and what it makes of
# them, and says how many documents were tried. Fails on a finding, which it shows, and when nothing
# was tried.
#
#   bash test/fuzz/run.sh [SECONDS]      default: 60
#
# Debian packages are installed where they are missing. The work directory is removed, but for the
# document that was found.
set -euo pipefail

# shellcheck source=test/lib/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib/common.sh"

seconds=${1:-60}
[[ $seconds =~ ^[1-9][0-9]*$ ]] || die "usage: run.sh [SECONDS]"

# libFuzzer comes with the sanitizers' runtime, a package of its own.
find_clang()
{
	local major
	compgen -c clang- | grep -qxE 'clang-[0-9]+' || need_packages clang
	clang=$(compgen -c clang- | grep -xE 'clang-[0-9]+' | sort -V | tail -n 1)
	major=${clang#clang-}
	need_packages "libclang-rt-$major-dev" libjansson-dev
}

build()
{
	local flags=(-g -O1 -fno-omit-frame-pointer -fwrapv -fno-strict-aliasing -Wall -Wextra -Werror
		-Wno-sign-compare -Wno-unused-parameter -isystem "$("$pg_config" --includedir-server)" -Isrc -Itest/fuzz
		-fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all)
	cd "$work/src"
	# the scanner once more, as it is where there is no SSE2
	local source
	for source in json_scan json_scan_list; do
		run_logged "$work/build.log" as_user "$clang" "${flags[@]}" -DKI_SCAN_PORTABLE -Dki_json_scan=portable_json_scan \
			-Dki_scan_list=portable_scan_list -c "src/$source.c" -o "$work/portable_$source.o" \
			|| die "the portable scanner does not build"
	done
	# buffers as small as their contents, so that no write beyond them is missed
	run_logged "$work/build.log" as_user "$clang" "${flags[@]}" -DKI_FUZZ src/json_*.c \
		src/jsonb_build.c src/convert_number.c src/decimal.c test/fuzz/fuzz_*.c \
		"$work"/portable_json_scan*.o -ljansson -o "$work/fuzz" || die "the fuzz target does not build"
}

fuzz()
{
	local status=0 runs
	as_user mkdir "$work/corpus"
	cd "$work"
	as_user ./fuzz -max_total_time="$seconds" -max_len=4096 -timeout=10 -print_final_stats=1 \
		-artifact_prefix="$work/found-" -dict=src/test/fuzz/json.dict corpus \
		src/test/fuzz/seeds src/test/data/JSONTestSuite/test_parsing src/test/data/JSONTestSuite/test_transform \
		> "$work/fuzz.log" 2>&1 || status=$?
	if [ $status != 0 ]; then
		grep -vE '^#[0-9]+[[:space:]]+(NEW|REDUCE|pulse|RELOAD)' "$work/fuzz.log" | tail -n 60 >&2
		die "a document was found that the scanner does not read as it should: see $work"
	fi
	runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$work/fuzz.log")
	[ "${runs:-0}" -gt 0 ] || die "nothing was tried: see $work/fuzz.log"
	say "$runs documents in $seconds s, no finding"
}

cleanup()
{
	local status=$?
	cd /
	if [ -n "$work" ] && [ $status = 0 ]; then
		rm -rf "$work"
	elif [ -n "$work" ]; then
		rm -rf "$work/src" "$work/corpus"
	fi
	exit $status
}

need_postgresql
find_clang
make_work_dir kafka_ingest-fuzz
trap cleanup EXIT
copy_tree "$work/src"
build
say "fuzzing with $clang"
fuzz
