#!/bin/bash
# Puts the jars of Apache Kafka into a cache outside the source tree and prints their directory.
#
#   bash test/kafka/fetch.sh            fetch if need be, print the directory
#   bash test/kafka/fetch.sh --check    print it if it is complete; fail, and fetch nothing, if not
#
# KAFKA_INGEST_CACHE says where the cache is. Its default as root is /var/cache/kafka_ingest, because
# the tests run as another user, who must be able to read it; else it is in the user's own cache.
# KAFKA_VERSION chooses another version.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
version=${KAFKA_VERSION:-4.3.0}
plugin=org.apache.maven.plugins:maven-dependency-plugin:3.6.1

cache_dir()
{
	if [ -n "${KAFKA_INGEST_CACHE:-}" ]; then
		echo "$KAFKA_INGEST_CACHE"
	elif [ "$(id -u)" = 0 ]; then
		echo /var/cache/kafka_ingest
	else
		echo "${XDG_CACHE_HOME:-$HOME/.cache}/kafka_ingest"
	fi
}

# Maven checks every jar's checksum (-C); networks fail, so it is tried three times.
download()
{
	local to=$1 attempt
	cp "$here/pom.xml" "$to/pom.xml"
	for attempt in 1 2 3; do
		if mvn -q -B -C -f "$to/pom.xml" -Dkafka.version="$version" "$plugin:copy-dependencies" \
			-DincludeScope=runtime -DoutputDirectory="$to/lib" > "$to/maven.log" 2>&1; then
			return 0
		fi
		echo "fetch.sh: attempt $attempt failed" >&2
	done
	tail -n 30 "$to/maven.log" >&2
	return 1
}

# A directory under its final name is complete: it gets that name in one step, when everything is
# there. A run at the same time that was first is as good as ours.
fetch()
{
	local final=$1 temporary
	umask 022
	mkdir -p "$(dirname "$final")"
	temporary=$(mktemp -d "$(dirname "$final")/.fetch.XXXXXX")
	# shellcheck disable=SC2064	# the name of now is meant
	trap "rm -rf '$temporary'" EXIT
	echo "fetch.sh: downloading Apache Kafka $version to $final" >&2
	download "$temporary"
	ls "$temporary/lib/kafka_2.13-$version.jar" > /dev/null
	chmod -R a+rX "$temporary"
	mv -T "$temporary" "$final" 2> /dev/null || [ -d "$final/lib" ]
}

final=$(cache_dir)/kafka-$version
if [ ! -d "$final/lib" ]; then
	[ "${1:-}" != --check ] || exit 1
	fetch "$final"
fi
echo "$final"
