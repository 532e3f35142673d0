#!/bin/bash
# Measures kafka_ingest against COPY and against a loader in Python, side by side, on a real Apache
# Kafka. README.md says what is measured and how.
#
#   bash test/bench/run.sh [quick|full] [WORKLOAD ...]    W1 W2 W5 W6 W7 W8 W9 W10 profile; default: all
#   bash test/bench/run.sh profile [WORKLOAD ...]         kafka_ingest alone, with perf: W1, W1-key, W2
#
# Results go to a directory of their own in the cache; those of a full run of everything also to
# test/bench/results/. Fails if any row was lost, doubled or wrong. Environment: as of test/run.sh, and
#   KAFKA_INGEST_RESULTS     the directory for results
#   KAFKA_INGEST_PUBLISH=1   whatever was run, results go to test/bench/results/, too
set -euo pipefail

# shellcheck source=test/lib/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib/common.sh"

size=quick
mode=run		# run or profile
names=()		# workloads; none: all
venv=			# need_python sets it
bin=			# the private installation's programs
results=		# where the results are to be in the end
profiled="W1 W1-key W2"

parse_arguments()
{
	case ${1:-} in
		quick | full) size=$1; shift ;;
		profile) mode=profile size=full; shift ;;
	esac
	names=("$@")
}

# ---- preparation -----------------------------------------------------------------------------

# The Python packages in a virtual environment in the cache, by the checksum of what is wanted.
need_python()
{
	local here=$root/test/bench temporary
	venv=$(dirname "$KAFKA_HOME")/bench-venv-$(cksum < "$here/requirements.txt" | cut -d ' ' -f 1)
	[ ! -x "$venv/bin/python" ] || [ ! -f "$venv/complete" ] || return 0
	say "installing Python packages into $venv"
	rm -rf "$venv"
	temporary=$(mktemp)
	/usr/bin/python3 -m venv "$venv"
	run_logged "$temporary" "$venv/bin/pip" install --disable-pip-version-check -r "$here/requirements.txt" \
		|| die "pip failed"
	rm -f "$temporary"
	touch "$venv/complete"
	chmod -R a+rX "$venv"
}

start_broker()
{
	say "starting Apache Kafka"
	KAFKA_BROKERS=$(broker start "$work/kafka" 0) || die "Apache Kafka did not start"
	export KAFKA_BROKERS
}

# A quarter of the memory, at most 4 GB.
shared_buffers_mb()
{
	awk '/^MemTotal:/ { mb = int($2 / 4096); print mb < 4096 ? mb : 4096 }' /proc/meminfo
}

start_server()
{
	say "starting PostgreSQL"
	as_user "$bin/initdb" -D "$work/data" -U postgres -A trust -E UTF8 --locale=C -N > "$work/initdb.log" \
		|| die "initdb failed"
	as_user tee -a "$work/data/postgresql.conf" > /dev/null <<-END
		shared_preload_libraries = 'kafka_ingest'
		listen_addresses = ''
		unix_socket_directories = '$work'
		shared_buffers = $(shared_buffers_mb)MB
		max_wal_size = 16GB
		# files of the log are used again, as on a server that has run for a while
		min_wal_size = 8GB
		checkpoint_timeout = 1h
		wal_level = replica
		fsync = on
		synchronous_commit = on
		autovacuum = off
		track_commit_timestamp = on
		max_connections = 150
		max_worker_processes = 130
		kafka_ingest.max_workers = 110
		log_line_prefix = '%m [%p] '
	END
	as_user "$bin/pg_ctl" -D "$work/data" -l "$work/server.log" -w -t 60 start > /dev/null \
		|| { tail "$work/server.log" >&2; die "PostgreSQL did not start"; }
	as_user "$bin/psql" -X -q -h "$work" -U postgres -d postgres -v ON_ERROR_STOP=1 \
		-c "CREATE EXTENSION kafka_ingest" \
		-c "SELECT kafka_ingest.create_connection('kafka', brokers => '$KAFKA_BROKERS')" > /dev/null
}

git_hash()
{
	local hash
	hash=$(git -C "$root" rev-parse --short HEAD 2> /dev/null) || hash=unknown
	[ -z "$(git -C "$root" status --porcelain -- src sql 2> /dev/null)" ] || hash=$hash-changed
	echo "$hash"
}

prepare()
{
	need_postgresql python3-venv
	need_kafka
	need_python
	make_work_dir kafka_ingest-bench
	trap cleanup EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM
	results=${KAFKA_INGEST_RESULTS:-$(dirname "$KAFKA_HOME")/bench-results}/$(date +%Y%m%dT%H%M%S)-$size
	mkdir -p "$results"
	as_user mkdir "$work/results" "$work/rows"
	# without assertions
	build_ordinary
	start_broker
	start_server
}

# ---- measuring -------------------------------------------------------------------------------

python()
{
	as_user env PYTHONDONTWRITEBYTECODE=1 KAFKA_BROKERS="$KAFKA_BROKERS" KAFKA_TOOL="$KAFKA_TOOL" \
		KAFKA_VERSION="$(basename "$KAFKA_HOME" | sed 's/^kafka-//')" BENCH_GIT="$(git_hash)" \
		BENCH_RESULTS="$work/results/results.jsonl" BENCH_DIR="$work/rows" \
		BENCH_DSN="host=$work user=postgres dbname=postgres" \
		"$venv/bin/python" "$work/src/test/bench/$1" "${@:2}"
}

# Software clock: virtual machines often have no counters. The stacks are unwound by their debugging
# information, since Debian's PostgreSQL has no frame pointers.
perf_record()
{
	as_root perf record -q -e cpu-clock -F 1999 --call-graph dwarf,16384 -o "$1" "${@:2}" \
		> "$work/perf.log" 2>&1
}

perf_works()
{
	command -v perf > /dev/null && perf_record "$work/perf.try" true
}

profile_one()
{
	local pid recorder
	say "profile of $1"
	pid=$(python bench.py profile-start "$size" "$1")
	perf_record "$work/perf.data" -p "$pid" &
	recorder=$!
	python bench.py profile-finish "$size" "$1"
	# its process is gone, so that it ends by itself
	wait "$recorder" || true
	# a root's file, so read by root; that it cannot name a few symbols is no news
	as_root perf script -i "$work/perf.data" --no-inline -F comm,tid,ip,sym,dso 2> "$work/perf-script.log" \
		| python parts.py "$1" "$work/results/results.jsonl"
	as_root rm -f "$work/perf.data"
}

# wants NAME: is it among the workloads that were asked for?
wants()
{
	local name
	[ ${#names[@]} -gt 0 ] || return 0
	for name in "${names[@]}"; do
		[ "$name" != "$1" ] || return 0
	done
	return 1
}

profile_all()
{
	local name
	if ! perf_works; then
		[ $mode = run ] || { cat "$work/perf.log" >&2; die "perf does not work here"; }
		say "no profile: perf does not work here"
		return 0
	fi
	for name in "$@"; do
		profile_one "$name"
	done
}

report()
{
	[ -s "$work/results/results.jsonl" ] || return 0
	python report.py "$work/results"
	cp "$work/results"/* "$results/"
	say "the results are in $results"
	if [ -n "${KAFKA_INGEST_PUBLISH:-}" ] || { [ "$size" = full ] && [ ${#names[@]} = 0 ]; }; then
		mkdir -p "$root/test/bench/results"
		cp "$work/results"/* "$root/test/bench/results/"
	fi
}

# ---- the end ---------------------------------------------------------------------------------

cleanup()
{
	local status=$?
	trap - EXIT
	trap '' INT TERM
	set +e
	cd /
	[ -n "$work" ] || exit "$status"
	stop_servers_below "$work"
	stop_brokers_below "$work"
	if [ "$status" = 0 ]; then
		rm -rf "$work"
	else
		rm -rf "$work"/src "$work"/install "$work"/kafka/data "$work"/data "$work"/rows
		echo "run.sh: FAILED; the logs are in $work" >&2
	fi
	exit "$status"
}

main()
{
	parse_arguments "$@"
	prepare
	if [ $mode = profile ]; then
		# shellcheck disable=SC2086	# a list of words
		profile_all ${names[@]:-$profiled}
		return
	fi
	python bench.py run "$size" "${names[@]}"
	if wants profile; then
		# shellcheck disable=SC2086	# a list of words
		profile_all $profiled
	fi
	report
}

main "$@"
