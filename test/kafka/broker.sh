#!/bin/bash
# Runs one node of the real Apache Kafka (KRaft, broker and controller in one process).
#
#   broker.sh start DIR PORT [PROPERTY=VALUE ...]
#                          prints the bootstrap address once the broker answers; PORT 0: a free one.
#                          A DIR that was used before goes on with its data, its ports and its
#                          properties (PROPERTY=VALUE given then are added to them;
#                          PROPERTY+=VALUE adds to the list that a property has)
#   broker.sh stop DIR     in good order; after 30 seconds without
#   broker.sh kill DIR     kill -9
#   broker.sh pid DIR      the process id of the running broker, or failure
#   broker.sh bootstrap DIR
#   broker.sh wait DIR     until it answers (60 seconds at most)
#
# Everything it makes is in DIR: kafka.properties, kafka.pid, kafka.log, and the data in data/.
# KAFKA_HOME is the directory that fetch.sh printed (default: asks fetch.sh); KAFKA_TOOL is
# test/tools/kafka_tool (default: the one beside, which must have been built).
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
tool=${KAFKA_TOOL:-$here/../tools/kafka_tool}

die()
{
	echo "broker.sh: $*" >&2
	exit 1
}

java_with_kafka()
{
	local home=${KAFKA_HOME:-}
	[ -n "$home" ] || home=$(bash "$here/fetch.sh")
	[ -r "$home/lib" ] || die "cannot read $home/lib"
	# exec: the process id is then Java's. A serial collector starts faster and needs less memory.
	exec java -Xmx512m -XX:+UseSerialGC -Djava.awt.headless=true \
		-Dorg.slf4j.simpleLogger.defaultLogLevel="${KAFKA_LOG_LEVEL:-warn}" \
		-Dorg.slf4j.simpleLogger.showDateTime=true \
		-Dorg.slf4j.simpleLogger.dateTimeFormat="yyyy-MM-dd HH:mm:ss.SSS" \
		-cp "$home/lib/*" "$@"
}

port_is_free()
{
	! (exec 3<> "/dev/tcp/127.0.0.1/$1") 2> /dev/null
}

# Below the range from which the kernel gives ports to clients, so nobody gets it by chance.
free_port()
{
	local port attempt
	for attempt in {1..100}; do
		port=$((10000 + RANDOM % 20000))
		if [ "$port" != "${1:-}" ] && port_is_free "$port"; then
			echo "$port"
			return
		fi
	done
	die "found no free port in $attempt attempts"
}

property()
{
	sed -n "s/^$2=//p" "$1/kafka.properties" | tail -n 1
}

bootstrap()
{
	echo "127.0.0.1:$(property "$1" test.port)"
}

# For tests: one replica of everything, one partition of the internal topics (starts faster), and
# retention, compaction and deletion that act within a second and not within minutes. A broker that
# a slow disk holds up for seconds keeps its partitions: its only controller waits half a minute.
write_properties()
{
	local dir=$1 port=$2 controller
	controller=$(free_port "$port")
	cat > "$dir/kafka.properties" <<-END
		test.port=$port
		process.roles=broker,controller
		node.id=1
		controller.quorum.voters=1@127.0.0.1:$controller
		listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller
		advertised.listeners=PLAINTEXT://127.0.0.1:$port
		controller.listener.names=CONTROLLER
		listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
		log.dirs=$dir/data
		auto.create.topics.enable=false
		default.replication.factor=1
		offsets.topic.replication.factor=1
		offsets.topic.num.partitions=1
		transaction.state.log.replication.factor=1
		transaction.state.log.min.isr=1
		transaction.state.log.num.partitions=1
		share.coordinator.state.topic.replication.factor=1
		share.coordinator.state.topic.min.isr=1
		group.initial.rebalance.delay.ms=0
		log.initial.task.delay.ms=500
		log.retention.check.interval.ms=500
		log.segment.delete.delay.ms=500
		log.cleaner.backoff.ms=500
		log.cleaner.dedupe.buffer.size=16777216
		controlled.shutdown.enable=false
		broker.session.timeout.ms=30000
		broker.heartbeat.interval.ms=300
	END
}

# assign DIR PROPERTY=VALUE, or PROPERTY+=VALUE
assign()
{
	local name=${2%%=*}
	if [[ $name == *+ ]]; then
		printf '%s=%s,%s\n' "${name%+}" "$(property "$1" "${name%+}")" "${2#*=}"
	else
		printf '%s\n' "$2"
	fi >> "$1/kafka.properties"
}

prepare()
{
	local dir=$1 port=$2 assignment
	shift 2
	mkdir -p "$dir"
	if [ ! -f "$dir/kafka.properties" ]; then
		[ "$port" != 0 ] || port=$(free_port)
		write_properties "$dir" "$port"
	fi
	for assignment in "$@"; do
		assign "$dir" "$assignment"
	done
	if [ ! -f "$dir/data/meta.properties" ]; then
		(java_with_kafka kafka.tools.StorageTool format -t "$(cluster_id)" \
			-c "$dir/kafka.properties") > "$dir/format.log" 2>&1 \
			|| { cat "$dir/format.log" >&2; die "could not format $dir/data"; }
	fi
}

# 22 characters, as Kafka wants them: a random UUID in URL-safe base64.
cluster_id()
{
	head -c 16 /dev/urandom | base64 | tr '+/' 'ab' | cut -c 1-22
}

# The process id, if it is alive and is the broker of this directory: numbers are used again.
running_pid()
{
	local dir=$1 pid
	[ -s "$dir/kafka.pid" ] || return 1
	pid=$(< "$dir/kafka.pid")
	tr '\0' ' ' 2> /dev/null < "/proc/$pid/cmdline" | grep -qF "$dir/kafka.properties" || return 1
	echo "$pid"
}

wait_until_ready()
{
	local dir=$1 deadline=$((SECONDS + 60))
	[ -x "$tool" ] || die "$tool is missing: make -C test/tools"
	until "$tool" wait "$(bootstrap "$dir")" 2 2> /dev/null; do
		if ! running_pid "$dir" > /dev/null; then
			tail -n 30 "$dir/kafka.log" >&2
			die "the broker of $dir ended before it was ready"
		elif [ $SECONDS -gt $deadline ]; then
			tail -n 30 "$dir/kafka.log" >&2
			die "the broker of $dir was not ready within 60 seconds"
		fi
	done
}

start()
{
	local dir=$1
	! running_pid "$dir" > /dev/null || die "the broker of $dir is running"
	prepare "$@"
	# A session of its own: Ctrl-C is for the script that started it, which then stops it.
	export -f java_with_kafka die
	export here KAFKA_HOME=${KAFKA_HOME:-}
	# shellcheck disable=SC2016	# the inner shell expands them
	setsid bash -c 'echo $$ > "$1/kafka.pid"; java_with_kafka kafka.Kafka "$1/kafka.properties"' \
		broker "$dir" >> "$dir/kafka.log" 2>&1 < /dev/null &
	await_start "$dir"
	wait_until_ready "$dir"
	bootstrap "$dir"
}

# Until the new process has become Java.
await_start()
{
	local deadline=$((SECONDS + 15))
	until running_pid "$1" > /dev/null; do
		[ $SECONDS -le $deadline ] || { cat "$1/kafka.log" >&2; die "java did not start"; }
		sleep 0.05
	done
}

# Waits until the process is gone (a zombie is, too), then says so.
await_end()
{
	local pid=$1 deadline=$((SECONDS + $2))
	while [ -e "/proc/$pid" ] && ! grep -q '^State:[[:space:]]*Z' "/proc/$pid/status" 2> /dev/null; do
		[ $SECONDS -le $deadline ] || return 1
		sleep 0.05
	done
}

stop()
{
	local dir=$1 signal=$2 pid
	pid=$(running_pid "$dir") || return 0
	kill "-$signal" "$pid" 2> /dev/null || true
	kill -CONT "$pid" 2> /dev/null || true
	if ! await_end "$pid" 30; then
		kill -KILL "$pid" 2> /dev/null || true
		await_end "$pid" 10 || die "process $pid does not end"
	fi
	rm -f "$dir/kafka.pid"
}

[ $# -ge 2 ] || die "usage: broker.sh start|stop|kill|pid|bootstrap|wait DIR [PORT [PROPERTY=VALUE ...]]"
command=$1
directory=$(realpath -m "$2")
shift 2
case $command in
	start) start "$directory" "${@:-0}" ;;
	stop) stop "$directory" TERM ;;
	kill) stop "$directory" KILL ;;
	pid) running_pid "$directory" ;;
	bootstrap) bootstrap "$directory" ;;
	wait) wait_until_ready "$directory" ;;
	*) die "unknown command: $command" ;;
esac
