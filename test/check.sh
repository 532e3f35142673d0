#!/bin/bash
# Checks the tree without running it: the floors, foreign libraries, sizes, forbidden words, exported
# symbols, documentation, formatting. Takes seconds; the first stage of test/run.sh.
#
#   bash test/check.sh [-n] [DIR]       DIR: the tree; default: the one this script is in
#                                       -n: without the checks of kafka_ingest.so, when it is not built
#
# Debian packages: universal-ctags pg-bsd-indent binutils
set -euo pipefail

library=1
if [ "${1:-}" = -n ]; then
	library=
	shift
fi
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=${1:-$here/..}
cd "$root"

# A file of floor N includes headers of lower floors and those of its own noun; on floors 0 and 1
# also those of its own floor. One line per noun: floor, noun, its files without .c and .h.
floors='
0 message        message
0 record         record
0 row            row
0 pipeline       pipeline
0 compat         compat
0 convert        convert convert_*
0 decimal        decimal
0 hex            hex
0 json_tokens    json_tokens json_shape
0 letter         letter
0 jsonb_build    jsonb_build
0 json_scan      json_scan json_scan_*
0 origin         origin
0 rdkafka_alloc  rdkafka_alloc rdkafka_idle
0 stage          stage
0 text           text
1 array_literal  array_literal
1 catalog        catalog catalog_*
1 column         column
1 connection     connection
1 enum_label     enum_label
1 fault          fault
1 filter         filter filter_*
1 header         header
1 key            key
1 lock           lock
1 mapping        mapping
1 offsets        offsets
1 property       property property_table
1 session        session
1 settings       settings
1 slot           slot
1 stats          stats
1 topics         topics
1 watermark      watermark
2 source         source source_kafka source_kafka_*
2 decode         decode decode_*
2 map            map map_*
2 statement      statement statement_*
2 target         target
2 write          write write_*
3 advance        advance
3 batch          batch batch_*
3 breaker        breaker
3 start          start
4 loader         loader loader_parts late lost open pace publish report resolve stop watch
4 worker         worker
5 ask            ask
5 look           look look_*
5 launcher       launcher reconciler stepaside
5 owned          owned pipeline_check
5 state          state
6 entry          kafka_ingest functions functions_*
'
# The only edges between nouns of one floor above 1: the mapping compiles its decoder, the worker runs
# the loader.
edges='map>decode statement>map batch>advance batch>breaker worker>loader'

function_lines=100
median_lines=25
file_lines=700
header_lines=200
long_headers='source.h pipeline.h catalog.h compat.h'
long_header_lines=240

# Where these may stand; everywhere else they are mistakes.
try_files='batch_isolate.c worker.c'
cache_context_files=''
rdkafka_files='source_kafka*'
jansson_files=''
curl_files=''

# What nobody but the extension itself and its tests uses: functions and settings.
undocumented='fdw_validator *_rows is_mine write_method fault'

mapfile -t install_scripts < <(find sql -maxdepth 1 -name "kafka_ingest--*.sql" 2> /dev/null | sort -V)
documents=()
for file in README.md doc/*.md; do
	[ ! -f "$file" ] || documents+=("$file")
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
: > "$work/problems"

problem()
{
	printf '%s\n' "$*" >> "$work/problems"
}

# Is a name among the words of a list, which may be patterns?
among()
{
	local name=$1 pattern
	shift
	set -f
	# shellcheck disable=SC2048 # lists of words
	for pattern in $*; do
		# shellcheck disable=SC2254 # a pattern it is
		case $name in $pattern) set +f; return 0 ;; esac
	done
	set +f
	return 1
}

need_program()
{
	command -v "$1" > /dev/null || { echo "check.sh needs $1 (Debian package $2)" >&2; exit 2; }
}

# ---- the code without its comments and the insides of its strings, line for line -------------

strip_code()
{
	awk '
		{
			out = ""
			for (i = 1; i <= length($0); i++) {
				c = substr($0, i, 1); two = substr($0, i, 2)
				if (comment) { if (two == "*/") { comment = 0; i++ } }
				else if (quote != "") {
					if (c == "\\") i++
					else if (c == quote) { quote = ""; out = out c }
				}
				else if (two == "/*") { comment = 1; i++; out = out " " }
				else if (two == "//") break
				else {
					if (c == "\"" || c == "\047") quote = c
					out = out c
				}
			}
			print out
		}' "$1"
}

# find_code PATTERN: where code has it, as file:line
find_code()
{
	{ cd "$work/code"; grep -nE -- "$1" ./* || true; } | sed -E 's|^\./([^:]*:[0-9]+):.*|\1|'
}

prepare_code()
{
	local file
	mkdir "$work/code"
	for file in src/*.c src/*.h; do
		[ ! -f "$file" ] || strip_code "$file" > "$work/code/${file#src/}"
	done
}

# ---- floors ----------------------------------------------------------------------------------

declare -A floor_of noun_of

place_files()
{
	local file name floor noun stems found told
	for file in src/*.c src/*.h; do
		[ -f "$file" ] || continue
		name=${file#src/}
		found=
		while read -r floor noun stems; do
			if [ -n "$floor" ] && among "${name%.[ch]}" "$stems"; then
				found=1
				floor_of[$name]=$floor
				noun_of[$name]=$noun
				break
			fi
		done <<< "$floors"
		if [ -z "$found" ]; then
			problem "$file: stands on no floor; put it into the table of test/check.sh"
			continue
		fi
		told=$(head -n 40 "$file" | tr '\n' ' ' | grep -oE '\*[[:space:]]+floor [0-9]|\(floor [0-9]|of floor [0-9]' \
			| grep -oE '[0-9]' | head -n 1 || true)
		if [ -n "$told" ] && [ "$told" != "$floor" ]; then
			problem "$file: its comment says floor $told, the table of test/check.sh floor $floor"
		fi
	done
}

check_include()
{
	local from=$1 line=$2 to=$3 from_floor to_floor
	[ -f "src/$to" ] || return 0
	[ -n "${floor_of[$from]:-}" ] && [ -n "${floor_of[$to]:-}" ] || return 0
	from_floor=${floor_of[$from]}
	to_floor=${floor_of[$to]}
	if [ "$to_floor" -lt "$from_floor" ] || [ "${noun_of[$from]}" = "${noun_of[$to]}" ]; then
		return 0
	fi
	if [ "$to_floor" = "$from_floor" ]; then
		[ "$from_floor" -gt 1 ] || return 0
		! among "${noun_of[$from]}>${noun_of[$to]}" "$edges" || return 0
	fi
	problem "src/$from:$line: floor $from_floor (${noun_of[$from]}) includes $to of floor $to_floor (${noun_of[$to]})"
}

check_floors()
{
	local from line to
	place_files
	while IFS=: read -r from line to; do
		check_include "${from#src/}" "$line" "$to"
	done < <(grep -nE '^[[:space:]]*#[[:space:]]*include[[:space:]]*"' src/*.c src/*.h /dev/null \
		| sed -E 's|^([^:]*:[0-9]+):.*"([^"]*)".*|\1:\2|')
}

# wall_in LIBRARY PATTERN FILES: only these files may include its headers
wall_in()
{
	local where name
	while read -r where; do
		name=${where#src/}
		among "${name%%:*}" "$3" || problem "$where: includes $1, which only ${3:-no file} may"
	done < <(grep -nE "^[[:space:]]*#[[:space:]]*include[[:space:]]*[<\"][^>\"]*$2" src/*.c src/*.h /dev/null \
		| cut -d: -f1,2)
}

check_libraries()
{
	wall_in librdkafka 'rdkafka\.h' "$rdkafka_files"
	wall_in jansson 'jansson' "$jansson_files"
	wall_in curl 'curl' "$curl_files"
}

# ---- sizes -----------------------------------------------------------------------------------

check_sizes()
{
	local file lines most median
	for file in src/*.c src/*.h; do
		[ -f "$file" ] || continue
		lines=$(wc -l < "$file")
		most=$file_lines
		case $file in
			*.h)
				most=$header_lines
				! among "${file#src/}" "$long_headers" || most=$long_header_lines
				;;
		esac
		[ "$lines" -le "$most" ] || problem "$file: has $lines lines, more than $most"
	done

	ctags --languages=C --kinds-C=f --fields=+ne -o - src/*.c \
		| awk -F '\t' '
			{
				for (i = 4; i <= NF; i++) {
					if ($i ~ /^line:/) from = substr($i, 6)
					if ($i ~ /^end:/) to = substr($i, 5)
				}
				print to - from + 1, $2 ":" from, $1
			}' | sort -n > "$work/functions"
	if [ ! -s "$work/functions" ]; then
		problem "src/: ctags finds no functions"
		return
	fi
	while read -r lines file name; do
		[ "$lines" -le "$function_lines" ] \
			|| problem "$file: $name has $lines lines, more than $function_lines"
	done < "$work/functions"
	median=$(awk '{ n[NR] = $1 } END { print n[int((NR + 1) / 2)] }' "$work/functions")
	[ "$median" -le "$median_lines" ] \
		|| problem "src/: the median function has $median lines, more than $median_lines"
	echo "$(wc -l < "$work/functions") functions, median $median lines, longest $(tail -n 1 "$work/functions")"
}

# ---- words -----------------------------------------------------------------------------------

# forbid PATTERN FILES WHAT: code may have it in these files only
forbid()
{
	local where
	while read -r where; do
		among "${where%%:*}" "$2" || problem "src/$where: $3"
	done < <(find_code "$1")
}

check_words()
{
	forbid '\<PG_TRY\>' "$try_files" "PG_TRY; only $try_files may"
	forbid '\<pg_usleep\>' '' "pg_usleep; wait on the latch"
	forbid '\<PG_VERSION_NUM\>' 'compat.h' "PG_VERSION_NUM; only compat.h may"
	forbid '\<json_object[[:space:]]*\(' '' "json_object(: the server has a function of that name"
	forbid '\<CacheMemoryContext\>' "$cache_context_files" "CacheMemoryContext: memory for ever"

	# ereport(ERROR, ...) up to its closing parenthesis
	local file
	for file in "$work"/code/*; do
		awk -v file="src/${file##*/}" '
			# the rest of the line, and of the call: where an opened ereport ends
			function scan(text,   i, c) {
				for (i = 1; i <= length(text); i++) {
					c = substr(text, i, 1)
					body = body c
					if (c == "(") depth++
					if (c == ")" && --depth == 0) {
						if (body !~ /errcode/) print file ":" line ": ereport without errcode"
						inside = 0
						return substr(text, i + 1)
					}
				}
				return ""
			}
			{
				rest = $0
				while (rest != "") {
					if (!inside) {
						if (!match(rest, /(^|[^A-Za-z_])ereport\((ERROR|FATAL|PANIC)([^A-Za-z_]|$)/)) break
						inside = 1; line = NR; body = ""; depth = 0
						rest = substr(rest, RSTART)
					}
					rest = scan(rest)
				}
			}' "$file" >> "$work/problems"
	done

	# written apart, so as not to be found here
	local words='TO''DO|FIX''ME|XX''X'
	{ grep -rnwIE "$words" src sql test doc README.md Makefile 2> /dev/null || true; } \
		| cut -d: -f1,2 | sed "s/\$/: ${words//|/, } left behind/" >> "$work/problems"
}

# ---- what the library exports and imports ----------------------------------------------------

# With a private copy of librdkafka nothing of libc may get hold of a block from src/rdkafka_alloc.c:
# what makes new ones may be called, what takes old ones not, but free and realloc, which go there.
check_linkage()
{
	local symbol
	! readelf -d kafka_ingest.so | grep -q '(NEEDED).*\[librdkafka\.so' || return 0
	while read -r symbol; do
		case $symbol in
			malloc | calloc | realloc | free | aligned_alloc | strdup | __strdup | strndup | __strndup) ;;
			*) problem "kafka_ingest.so: calls $symbol of libc; lead it to src/rdkafka_alloc.c, or forbid it in the Makefile" ;;
		esac
	done < <(nm -D --undefined-only kafka_ingest.so | sed -n 's/.* \([^ @]*\)@GLIBC_.*/\1/p' \
		| grep -xE '.*(alloc|memalign).*|c?free|_*strn?dup|malloc_.*|_*getline|_*getdelim|_*v?asprintf.*|realpath|open_w?memstream' || true)
}

check_library()
{
	local symbol
	if [ -z "$library" ]; then
		echo "kafka_ingest.so: not checked (-n)"
		return
	fi
	if [ ! -f kafka_ingest.so ]; then
		problem "kafka_ingest.so is not built: run make first, or check with -n"
		return
	fi
	nm -D --defined-only kafka_ingest.so | awk '{ print $NF }' > "$work/symbols"
	[ -s "$work/symbols" ] || problem "kafka_ingest.so: exports nothing"
	while read -r symbol; do
		case $symbol in
			ki_* | kafka_ingest_* | pg_finfo_kafka_ingest_* | Pg_magic_func | _PG_init) ;;
			*) problem "kafka_ingest.so: exports $symbol; make it static, or begin it with ki_" ;;
		esac
	done < "$work/symbols"
	check_linkage
	[ ${#install_scripts[@]} -gt 0 ] || return 0
	while read -r symbol; do
		grep -qx "$symbol" "$work/symbols" || problem "the SQL scripts: kafka_ingest.so has no $symbol"
	done < <(grep -oE "'MODULE_PATHNAME',[[:space:]]*'[^']*'" -h "${install_scripts[@]}" \
		| sed -E "s/.*'([^']*)'\$/\1/" | sort -u)
}

# ---- SQL and its documentation ---------------------------------------------------------------

# The objects that the install script makes: kind and name
sql_objects()
{
	sed 's/--.*//' "${install_scripts[@]}" \
		| grep -iE "^[[:space:]]*$1" \
		| sed -E -e 's/^[[:space:]]*//' -e 's/OR REPLACE //I' -e 's/(UNLOGGED|TEMP|TEMPORARY|RECURSIVE|MATERIALIZED) //I' \
		| sed -nE 's/^[A-Z]+( ON)? (FOREIGN DATA WRAPPER|EVENT TRIGGER|FUNCTION|PROCEDURE|AGGREGATE|VIEW|TABLE|SEQUENCE|TYPE|DOMAIN) ("?[a-zA-Z_][a-zA-Z0-9_.]*"?).*/\2:\3/Ip'
}

is_documented()
{
	[ ${#documents[@]} -gt 0 ] && grep -qE -- "$1" "${documents[@]}"
}

check_sql()
{
	local object kind name setting file base
	if [ ${#install_scripts[@]} = 0 ]; then
		problem "sql/: there is no install script"
		return
	fi
	sql_objects CREATE | sort -u > "$work/created"
	sql_objects 'COMMENT ON' | sort -u > "$work/commented"
	[ -s "$work/created" ] || problem "the SQL scripts: makes nothing"
	while read -r object; do
		problem "the SQL scripts: ${object/:/ } has no COMMENT ON"
	done < <(comm -23 "$work/created" "$work/commented")

	while IFS=: read -r kind name; do
		name=${name#kafka_ingest.}
		among "$name" "$undocumented" && continue
		case $kind in
			FUNCTION | PROCEDURE | AGGREGATE)
				is_documented "\\<$name *\\(" || problem "the SQL scripts: ${kind,,} $name is in no document"
				;;
			VIEW)
				is_documented "(\`|kafka_ingest\\.)$name\\>" \
					|| problem "the SQL scripts: view $name is in no document"
				;;
		esac
	done < <(sort -u "$work/created")

	if [ -f src/settings.c ]; then
		grep -oE '"kafka_ingest\.[a-z_]+"' src/settings.c | tr -d '"' | sort -u > "$work/settings" || true
		[ -s "$work/settings" ] || problem "src/settings.c: has no settings"
		while read -r setting; do
			among "${setting#*.}" "$undocumented" || is_documented "\\<${setting/./\\.}\\>" || problem "src/settings.c: setting $setting is in no document"
		done < "$work/settings"
	fi

	for file in sql/*.sql; do
		base=$(basename "$file" .sql)
		[[ $base == kafka_ingest--* ]] || [ -f "expected/$base.out" ] \
			|| problem "$file: there is no expected/$base.out"
	done
	for file in expected/*.out; do
		base=$(basename "$file" .out)
		[ ! -f "$file" ] || [ -f "sql/${base%_[0-9]}.sql" ] || [ -f "sql/$base.sql" ] \
			|| problem "$file: there is no sql/$base.sql"
	done
}

# ---- formatting ------------------------------------------------------------------------------

check_format()
{
	if ! command -v pg_bsd_indent > /dev/null; then
		echo "formatting: not checked, there is no pg_bsd_indent (Debian package pg-bsd-indent)"
		return
	fi
	if ! bash "$here/indent.sh" --diff . > "$work/format" 2>&1; then
		cat "$work/format"
		problem "src/: not formatted as PostgreSQL's code is: run bash test/indent.sh"
	fi
}

need_program ctags universal-ctags
need_program nm binutils
prepare_code
check_floors
check_libraries
check_sizes
check_words
check_library
check_sql
check_format

if [ -s "$work/problems" ]; then
	cat "$work/problems"
	echo "check.sh: $(wc -l < "$work/problems") problems"
	exit 1
fi
echo "check.sh: all is well"
