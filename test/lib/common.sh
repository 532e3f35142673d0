# What run.sh and demo.sh share: packages, the unprivileged user, the build in a copy of the tree,
# and an installation of PostgreSQL with the extension that is nobody else's.
#
# To be sourced by a script that has set -euo pipefail; "root" is then the checkout.
#
# Nothing is installed into the system but Debian packages: the programs of the system's PostgreSQL
# are copied into the work directory (PostgreSQL finds its libraries and its extensions by its own
# place) and the extension is installed there. A server that runs on this machine is left alone.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
work=			# make_work_dir sets it
pg_config=		# find_pg_config sets it
runner=()		# how to become the unprivileged user; empty when we are one

say()
{
	printf '%s\n' "== $*"
}

die()
{
	printf '%s\n' "$(basename "$0"): $*" >&2
	exit 1
}

# ---- packages --------------------------------------------------------------------------------

package_is_installed()
{
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2> /dev/null)" = installed ]
}

as_root()
{
	if [ "$(id -u)" = 0 ]; then
		"$@"
	elif command -v sudo > /dev/null; then
		sudo "$@"
	else
		die "this needs root, and there is no sudo: $*"
	fi
}

apt()
{
	as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y \
		-o Dpkg::Options::=--force-confold -o DPkg::Lock::Timeout=300 "$@" > "$apt_log" 2>&1 \
		|| { tail -n 30 "$apt_log" >&2; die "apt-get $1 failed"; }
}

# Installs those of the packages that are missing; asks for no rights if none is.
need_packages()
{
	local package missing=()
	command -v dpkg-query > /dev/null || die "this script installs Debian packages; install these yourself: $*"
	for package in "$@"; do
		package_is_installed "$package" || missing+=("$package")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	say "installing ${missing[*]}"
	apt_log=$(mktemp)
	apt update
	apt install --no-install-recommends "${missing[@]}"
	rm -f "$apt_log"
}

# The newest PostgreSQL here that has both a server and the means to build extensions.
find_pg_config()
{
	local candidate
	for candidate in ${PG_CONFIG:-} $(printf '%s\n' /usr/lib/postgresql/*/bin/pg_config | sort -rV) \
		$(command -v pg_config || true); do
		# Debian's client package has pgxs.mk, but no headers
		if [ -x "$candidate" ] && [ -f "$("$candidate" --pgxs)" ] && [ -x "$("$candidate" --bindir)/initdb" ] \
			&& [ -f "$("$candidate" --includedir-server)/postgres.h" ]; then
			pg_config=$candidate
			return 0
		fi
	done
	return 1
}

need_postgresql()
{
	local major
	# the second line is what a private copy of librdkafka takes
	need_packages build-essential pkg-config librdkafka-dev \
		liblz4-dev libsasl2-dev libssl-dev libzstd-dev zlib1g-dev "$@"
	if ! find_pg_config; then
		need_packages postgresql
		major=$(printf '%s\n' /usr/lib/postgresql/*/bin/initdb | sort -V | tail -n 1 | cut -d / -f 5)
		need_packages "postgresql-server-dev-$major"
		find_pg_config || die "found no PostgreSQL to build for (PG_CONFIG may name its pg_config)"
	fi
	say "$("$pg_config" --version)"
}

# Java, and Maven if the jars are not there yet; sets KAFKA_HOME.
need_kafka()
{
	need_packages default-jre-headless
	if ! KAFKA_HOME=$(bash "$root/test/kafka/fetch.sh" --check); then
		need_packages maven
		KAFKA_HOME=$(bash "$root/test/kafka/fetch.sh")
	fi
	export KAFKA_HOME
}

# ---- the user and the work directory -----------------------------------------------------------

# PostgreSQL refuses to run as root: as root everything is done by the user of Debian's package.
as_user()
{
	"${runner[@]}" "$@"
}

# The checkout may be root's, in a directory that nobody else may read: work on a copy. Sockets
# are in the work directory, too, and their paths must be short.
make_work_dir()
{
	local parent=${TMPDIR:-/tmp}
	if [ "$(id -u)" = 0 ]; then
		id postgres > /dev/null 2>&1 || die "as root, the user postgres is needed"
		runner=(runuser -u postgres --)
		as_user test -w "$parent" -a -x "$parent" || parent=/tmp
	fi
	[ ${#parent} -le 50 ] || parent=/tmp
	work=$(mktemp -d "$parent/$1.XXXX")
	chmod 755 "$work"
	if [ "$(id -u)" = 0 ]; then
		chown postgres: "$work"
	fi
	# files like .psqlrc in anybody's home have no business in a test
	runner+=(env HOME="$work")
	cd "$work"
	unset PGHOST PGPORT PGUSER PGDATABASE PGDATA PGOPTIONS PGSERVICE PGPASSFILE MAKEFLAGS MAKELEVEL
	# PostgreSQL's test library takes LC_ALL away, and clusters follow LANG then
	export LC_ALL=C.UTF-8 LANG=C.UTF-8
}

# A copy of the checkout without what was built in it.
copy_tree()
{
	as_user mkdir -p "$1"
	tar -C "$root" --exclude=./.git --exclude=./.rdkafka --exclude='*.o' --exclude='*.so' --exclude='*.bc' \
		--exclude=./test/tools/kafka_tool --exclude=./test/tools/alloc_test --exclude=./test/tools/taking_test --no-same-owner -cf - . | as_user tar -C "$1" --no-same-owner -xf -
}

# ---- build -----------------------------------------------------------------------------------

# run_logged LOG COMMAND...: the output goes to the log, and to the terminal only after a failure
run_logged()
{
	local log=$1
	shift
	if ! "$@" > "$log" 2>&1; then
		tail -n "${LOG_LINES:-60}" "$log" >&2
		return 1
	fi
}

mirror_links()
{
	local from=$1 to=$2
	as_user mkdir -p "$to"
	as_user find "$from" -mindepth 1 -maxdepth 1 ! -name extension ! -name bitcode ! -name pgxs \
		-exec ln -s -t "$to" {} +
}

# make_installation DIR: programs copied, libraries and data linked, so that DIR is a PostgreSQL
# into which "make install DESTDIR=DIR" installs. What the system has of this extension is left out.
make_installation()
{
	local dir=$1 bin lib share
	bin=$("$pg_config" --bindir)
	lib=$("$pg_config" --pkglibdir)
	share=$("$pg_config" --sharedir)
	as_user mkdir -p "$dir$bin" "$dir$share/extension"
	as_user cp -p "$bin"/* "$dir$bin/"
	mirror_links "$lib" "$dir$lib"
	mirror_links "$share" "$dir$share"
	as_user find "$share/extension" -mindepth 1 -maxdepth 1 ! -name 'kafka_ingest*' \
		-exec ln -s -t "$dir$share/extension" {} +
	as_user rm -f "$dir$lib"/kafka_ingest*
}

# build_and_install SOURCE DIR [MAKE ARGUMENT ...]
build_and_install()
{
	local source=$1 dir=$2
	shift 2
	run_logged "$source.make.log" as_user make -C "$source" -j "$(nproc)" PG_CONFIG="$pg_config" "$@" \
		|| die "the build failed: make $*"
	make_installation "$dir"
	run_logged "$source.install.log" as_user make -C "$source" PG_CONFIG="$pg_config" "$@" \
		DESTDIR="$dir" install || die "make install failed: make $* install"
}

# build_ordinary [MAKE ARGUMENT ...]: the ordinary build, in a copy of the tree in the work directory;
# sets bin, where its programs are.
build_ordinary()
{
	say "building"
	copy_tree "$work/src"
	build_tool "$work/src"
	# no bitcode: it takes as long again
	build_and_install "$work/src" "$work/install" with_llvm=no "$@"
	bin=$work/install$("$pg_config" --bindir)
}

build_tool()
{
	run_logged "$1.tool.log" as_user make -C "$1/test/tools" PG_CONFIG="$pg_config" || die "test/tools does not build"
	export KAFKA_TOOL=$1/test/tools/kafka_tool
}

# ---- Kafka -----------------------------------------------------------------------------------

broker()
{
	as_user env KAFKA_HOME="${KAFKA_HOME:-}" KAFKA_TOOL="$KAFKA_TOOL" \
		bash "$work/src/test/kafka/broker.sh" "$@"
}

# Stops every broker whose data are below a directory: broker.sh looks whether the process is it.
stop_brokers_below()
{
	local file
	while IFS= read -r file; do
		broker kill "$(dirname "$file")" || true
	done < <(find "$1" -name kafka.pid 2> /dev/null)
}

# Stops every PostgreSQL whose data are below a directory.
stop_servers_below()
{
	local file
	while IFS= read -r file; do
		as_user "$("$pg_config" --bindir)/pg_ctl" -D "$(dirname "$file")" -m immediate -w -t 30 \
			stop > /dev/null 2>&1 || true
	done < <(find "$1" -name postmaster.pid 2> /dev/null)
}
