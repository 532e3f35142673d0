#!/bin/bash
# Formats the C files of src/ by PostgreSQL's rules, as its own pgindent does: in place, or, with
# --diff, only shows what would change and fails if there is anything.
#
#   bash test/indent.sh [--diff] [DIR]        DIR: the tree; default: the one this script is in
#
# Debian packages: pg-bsd-indent universal-ctags
set -euo pipefail

diff_only=
if [ "${1:-}" = --diff ]; then
	diff_only=1
	shift
fi
root=${1:-$(dirname "${BASH_SOURCE[0]}")/..}
cd "$root"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# A copied installation may have a pg_config but no headers.
server_headers()
{
	local program directory
	for program in "${PG_CONFIG:-pg_config}" /usr/lib/postgresql/*/bin/pg_config; do
		directory=$("$program" --includedir-server 2> /dev/null) || continue
		if [ -f "$directory/c.h" ]; then
			echo "$directory"
			return
		fi
	done
	echo "indent.sh finds no headers of a PostgreSQL server" >&2
	return 1
}

# What is a type? The typedefs of the server, of the libraries and ours, but no words that our code
# uses for something else, and some of the C library's.
typedefs()
{
	local directory
	directory=$(server_headers) || return 1
	{
		find "$directory" src -name '*.[ch]'
		find /usr/include -maxdepth 2 \( -name 'rdkafka*.h' \)
	} | ctags -L - --languages=C --langmap=C:+.h --kinds-C=t -x --_xformat=%N
	printf '%s\n' bool size_t ssize_t pthread_t sigset_t FILE va_list time_t \
		int8_t int16_t int32_t int64_t uint8_t uint16_t uint32_t uint64_t
}
typedefs | grep -vxE 'chr|color|symbol' | LC_ALL=C sort -u > "$work/typedefs"

# pgindent's settings and the steps around the program: blocks that begin with /* --- keep their
# shape, and a function's return type has one blank before its star.
format()
{
	sed -E 's|/\* +---|/*---X_X|g' "$1" \
		| pg_bsd_indent -bad -bap -bbb -bc -bl -cli1 -cp33 -cdb -nce -d0 -di12 -nfc1 -i4 -l79 -lp -lpl \
			-nip -npro -sac -tpg -ts4 -U"$work/typedefs" \
		| sed -E -e 's|/\*---X_X|/* ---|g' -e 's|\*/(/\*.*\*/)$|*/\t\1|' \
			-e 's|^([A-Za-z_][^[:space:]]*)[[:space:]]+\*$|\1 *|'
}

status=0
for file in src/*.c src/*.h; do
	[ -f "$file" ] || continue
	format "$file" > "$work/formatted" || { echo "$file cannot be formatted" >&2; exit 1; }
	if cmp -s "$file" "$work/formatted"; then
		continue
	fi
	if [ -n "$diff_only" ]; then
		diff -u --label "$file" --label "$file, formatted" "$file" "$work/formatted" || true
		status=1
	else
		cat "$work/formatted" > "$file"
		echo "$file"
	fi
done
exit $status
