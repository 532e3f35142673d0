#!/bin/bash
# kafka_ingest in two minutes: 100,000 Kafka messages become rows, a worker is killed half-way with
# kill -9, and in the end not a row is missing and none is there twice.
#
#   bash test/demo.sh                       with an embedded broker (librdkafka's mock cluster)
#   bash test/demo.sh --kafka               with a real Apache Kafka, downloaded if need be
#   bash test/demo.sh --brokers HOST:PORT   with yours, in a topic that is made and deleted again
#   ... --keep                              leaves everything running and says how to look at it
#
# Installs the Debian packages that are missing (as root or through sudo) and nothing else: the
# extension is built and installed in a directory below TMPDIR, next to a PostgreSQL server of its
# own, which listens on a socket there and on no port. As root the server is the user postgres'.
set -euo pipefail

# shellcheck source=test/lib/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

messages=100000
partitions=4
rate=5000		# messages a second: a stream of events, not a heap of them
kind=mock		# mock, kafka or brokers
brokers=
topic=demo_topic_1
keep=
topic_is_ours=	# to be deleted at the end: made on a broker that stays
bin=
mock_group=		# the embedded broker's process group
producer=		# the producer's process

parse_arguments()
{
	while [ $# -gt 0 ]; do
		case $1 in
			--kafka) kind=kafka ;;
			--brokers)
				[ $# -ge 2 ] || die "--brokers needs host:port"
				kind=brokers brokers=$2
				shift
				;;
			--keep) keep=1 ;;
			*) die "usage: bash test/demo.sh [--kafka | --brokers HOST:PORT] [--keep]" ;;
		esac
		shift
	done
}

with_commas()
{
	printf '%s' "$1" | sed -E ':a; s/^([0-9]+)([0-9]{3})/\1,\2/; ta'
}

# ---- the broker ------------------------------------------------------------------------------

start_mock()
{
	local deadline=$((SECONDS + 20))
	as_user mkfifo "$work/mock.stdin"
	# opened for both directions it never ends, so the mock runs until it is told to stop
	setsid "${runner[@]}" "$KAFKA_TOOL" mock --topics "$topic:$partitions" \
		<> "$work/mock.stdin" > "$work/mock.out" 2> "$work/mock.log" &
	mock_group=$!
	until [ -s "$work/mock.out" ]; do
		[ $SECONDS -le $deadline ] || { cat "$work/mock.log" >&2; die "the embedded broker did not start"; }
		sleep 0.05
	done
	brokers=$(< "$work/mock.out")
}

start_broker()
{
	case $kind in
		mock)
			start_mock
			say "an embedded broker is at $brokers"
			;;
		kafka)
			brokers=$(broker start "$work/kafka" 0)
			say "Apache Kafka is at $brokers"
			as_user "$KAFKA_TOOL" create-topic "$brokers" "$topic" "$partitions"
			;;
		brokers)
			# the broker is somebody's: a name that cannot be in use there
			topic=demo_topic_1_$(date +%s)_$$
			as_user "$KAFKA_TOOL" wait "$brokers" 15
			as_user "$KAFKA_TOOL" create-topic "$brokers" "$topic" "$partitions"
			topic_is_ours=1
			;;
	esac
}

# Each message's value is its number, so that the proof can tell any two apart.
start_producer()
{
	as_user "$KAFKA_TOOL" produce "$brokers" "$topic" --count "$messages" --from 1 --rate "$rate" \
		--template '{"category": "option%o", "value": %d}' > "$work/produced" 2> "$work/producer.log" &
	producer=$!
}

# infer_table wants to see some
await_first_messages()
{
	local deadline=$((SECONDS + 30))
	until as_user "$KAFKA_TOOL" offsets "$brokers" "$topic" | awk '$3 > 0 { found = 1 } END { exit !found }'; do
		[ $SECONDS -le $deadline ] || { cat "$work/producer.log" >&2; die "nothing is produced"; }
		sleep 0.1
	done
}

producer_is_running()
{
	[ -n "$producer" ] && kill -0 "$producer" 2> /dev/null
}

# ---- the server ------------------------------------------------------------------------------

start_server()
{
	as_user "$bin/initdb" -D "$work/data" -U postgres -A trust -E UTF8 --locale=C.UTF-8 -N \
		> "$work/initdb.log" || die "initdb failed"
	as_user tee -a "$work/data/postgresql.conf" > /dev/null <<-END
		shared_preload_libraries = 'kafka_ingest'
		listen_addresses = ''
		unix_socket_directories = '$work'
		unix_socket_permissions = 0700
		log_line_prefix = '%m [%p] '
	END
	as_user "$bin/pg_ctl" -D "$work/data" -l "$work/server.log" -w -t 60 start > /dev/null \
		|| { tail "$work/server.log" >&2; die "PostgreSQL did not start"; }
	as_user "$bin/createdb" -h "$work" -U postgres demo
}

psql()
{
	as_user "$bin/psql" -X -q -h "$work" -U postgres -d demo -v ON_ERROR_STOP=1 "$@"
}

query()
{
	psql -A -t -F ' ' -c "$1"
}

# While PostgreSQL restarts its sessions, an answer takes more than one attempt.
query_until_up()
{
	local deadline=$((SECONDS + 30))
	until query "$1" 2> "$work/query.log"; do
		[ $SECONDS -le $deadline ] || { cat "$work/query.log" >&2; die "PostgreSQL does not answer"; }
		say_restarting >&2
		sleep 0.2
	done
}

quick_start()
{
	say "the quick start, in psql:"
	psql -e -P pager=off -v brokers="$brokers" -v topic="$topic" <<-'END'
		CREATE EXTENSION kafka_ingest;
		SELECT kafka_ingest.create_connection('kafka', brokers => :'brokers');
		SELECT kafka_ingest.infer_table(:'topic', 'demo') \gexec
		SELECT kafka_ingest.create_pipeline('demo', topic => :'topic', target => 'demo');
		SELECT kafka_ingest.wait_until_caught_up('demo');
		\x on
		SELECT * FROM kafka_ingest.status;
	END
}

# ---- loading ---------------------------------------------------------------------------------

say_restarting()
{
	printf '   %3d s  PostgreSQL is restarting its sessions; connecting again\n' "$SECONDS"
}

# One line about the pipeline; sets "rows". Says so when the server is not to be had just now.
show_progress()
{
	local line
	if line=$(query "SELECT loaded, state || coalesce(nullif('/' || reason, '/'), ''),
			coalesce(lag::text, '?'), round(coalesce(messages_per_second, 0)::numeric), array_to_string(pids, ',')
			FROM kafka_ingest.status WHERE pipeline = 'demo'" 2> "$work/query.log"); then
		read -r rows state lag speed pids <<< "$line" || true
		printf '   %3d s  %-12s %8s rows  lag %-7s %6s messages/s  worker %s\n' "$SECONDS" "$state" \
			"$(with_commas "${rows:-0}")" "$lag" "$speed" "${pids:-none}"
	else
		say_restarting
	fi
}

# progress_until ROWS: shows the progress until so many rows are there
progress_until()
{
	local deadline=$((SECONDS + 75))
	rows=0
	while true; do
		show_progress
		[ "${rows:-0}" -lt "$1" ] || return 0
		[ $SECONDS -le $deadline ] || { tail -n 20 "$work/server.log" >&2; die "no $1 rows within 75 seconds"; }
		sleep 1
	done
}

# kill -9 of the worker, which must hit while it loads: with rows in, with messages to come, and the
# server must have seen it die.
kill_worker()
{
	local before after worker=${pids%%,*}
	before=$(query "SELECT count(*) FROM demo")
	[ -n "$worker" ] || die "no worker is running: nothing to kill"
	producer_is_running || die "the producer was done before the kill: the kill would not have hit mid-load"
	say "kill -9 $worker, with $(with_commas "$before") rows in the table"
	# bash's own kill: a small system has no other
	as_user bash -c 'kill -KILL "$1"' kill "$worker" || die "worker $worker was gone before the kill"
	await_crash "$worker"
	after=$(query_until_up "SELECT count(*) FROM demo")
	say "PostgreSQL is back, with $(with_commas "$after") rows"
	if [ "$before" -le 0 ] || [ "$after" -ge "$messages" ] || [ "$after" -lt "$before" ]; then
		die "the kill did not hit mid-load: $before rows before, $after after, of $messages"
	fi
}

await_crash()
{
	local deadline=$((SECONDS + 15))
	until grep -q "(PID $1) was terminated by signal 9" "$work/server.log"; do
		[ $SECONDS -le $deadline ] || die "PostgreSQL did not notice that worker $1 was killed"
		sleep 0.05
	done
}

await_producer()
{
	wait "$producer" || { cat "$work/producer.log" >&2; die "not every message was produced"; }
	producer=
}

# ---- the proof -------------------------------------------------------------------------------

prove_partitions()
{
	local partition low high stable produced position
	as_user "$KAFKA_TOOL" offsets "$brokers" "$topic" > "$work/offsets"
	printf '   partition   produced   offsets in Kafka   next_offset here\n'
	while read -r partition low high stable; do
		produced=$(awk -v p="$partition" '$1 == p { print $2 }' "$work/produced")
		position=$(query "SELECT next_offset FROM kafka_ingest.partition_status
			WHERE pipeline = 'demo' AND topic = '$topic' AND partition = $partition")
		printf '   %9d   %8d   %7d to %6d   %16d\n' "$partition" "$produced" "$low" "$high" "$position"
		[ "$low" = 0 ] || die "the broker has forgotten messages of partition $partition"
		[ "$high" = "$produced" ] && [ "$stable" = "$produced" ] && [ "$position" = "$produced" ] \
			|| die "partition $partition: $produced produced, $high in Kafka, position $position"
	done < "$work/offsets"
	[ "$(wc -l < "$work/offsets")" = "$partitions" ] || die "the topic has other partitions than were made"
}

# Values are 1 to 100,000: as many rows, all different, from the first to the last.
prove_rows()
{
	local found
	found=$(query "SELECT count(*), count(DISTINCT value), min(value), max(value),
		count(*) FILTER (WHERE category IS DISTINCT FROM 'option' || value % 10 + 1) FROM demo")
	say "rows, different ones, smallest, largest, wrong ones: $found"
	[ "$found" = "$messages $messages 1 $messages 0" ] \
		|| die "expected $messages $messages 1 $messages 0: rows are missing or there twice"
}

prove_it()
{
	[ "$(query "SELECT kafka_ingest.wait_until_caught_up('demo', '60s')")" = t ] \
		|| die "not caught up within 60 seconds"
	prove_partitions
	prove_rows
	query "SELECT count(*) FROM kafka_ingest.gaps" | grep -qx 0 || die "there are gaps"
	say "$(with_commas "$messages") messages are $(with_commas "$messages") rows: none missing, none twice ($SECONDS s)"
}

# ---- the end ---------------------------------------------------------------------------------

say_how_to_look()
{
	local as=
	[ "$(id -u)" != 0 ] || as="runuser -u postgres -- "
	say "left running:"
	echo "   $bin/psql -h $work -U postgres demo"
	echo "   $KAFKA_TOOL produce $brokers $topic --count 1000 --from $((messages + 1)) --template '{\"category\": \"option%o\", \"value\": %d}'"
	say "to stop it:"
	echo "   $as$bin/pg_ctl -D $work/data stop"
	case $kind in
		mock) echo "   kill -- -$mock_group" ;;
		kafka) echo "   ${as}bash $work/src/test/kafka/broker.sh stop $work/kafka" ;;
		brokers) echo "   $KAFKA_TOOL delete-topic $brokers $topic" ;;
	esac
	echo "   rm -rf $work"
}

end_processes()
{
	if producer_is_running; then
		kill -TERM "$producer" 2> /dev/null
	fi
	stop_servers_below "$work"
	[ -z "$topic_is_ours" ] || as_user "$KAFKA_TOOL" delete-topic "$brokers" "$topic"
	[ -z "$mock_group" ] || kill -TERM -- "-$mock_group" 2> /dev/null
	stop_brokers_below "$work"
	wait 2> /dev/null
}

cleanup()
{
	local status=$?
	trap - EXIT
	trap '' INT TERM
	set +e
	cd /
	if [ "$status" = 0 ] && [ -n "$keep" ]; then
		say_how_to_look
		exit 0
	fi
	end_processes
	if [ "$status" = 0 ]; then
		rm -rf "$work"
	else
		rm -rf "$work/src" "$work/install" "$work/kafka/data" "$work/data"
		echo "demo.sh: FAILED; the logs are in $work" >&2
	fi
	exit "$status"
}

prepare()
{
	need_postgresql
	[ $kind != kafka ] || need_kafka
	make_work_dir kafka_ingest-demo
	trap cleanup EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM
	build_ordinary
}

main()
{
	parse_arguments "$@"
	prepare
	start_broker
	start_server
	start_producer
	await_first_messages
	quick_start
	say "loading, while $(with_commas $rate) messages a second are produced:"
	progress_until $((messages / 2))
	kill_worker
	progress_until "$messages"
	await_producer
	prove_it
}

main "$@"
