
=pod

=head1 NAME

IngestCluster - a PostgreSQL server with kafka_ingest for a test

=head1 SYNOPSIS

  my $node = IngestCluster->new('main');            # started, extension created
  $node->connect_kafka($kafka);                     # connection 'kafka'
  $node->safe_psql('postgres', q{SELECT kafka_ingest.create_pipeline('demo', topic => ...)});
  $node->wait_for_state('demo', 'running');
  $node->kill9_worker('demo');                      # PostgreSQL restarts all sessions
  $node->ledger_check('demo', $topic, $produced);   # none missing, none twice

It is a PostgreSQL::Test::Cluster, so all of that works, too. Differences: it
restarts after a crash (a kill -9 of a worker is one), and it has settings for
speed. Methods that wait do so for a condition, at most PG_TEST_TIMEOUT_DEFAULT
seconds (180), and go on when the server is away meanwhile.

=cut

package IngestCluster;

use strict;
use warnings;

use parent -norequire, 'PostgreSQL::Test::Cluster';

use Carp;
use File::Basename qw(dirname);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

# Options:
#   faults => 1        the library with fault injection (KAFKA_INGEST_FAULTS_DIR)
#   shared => 1        the library that uses the shared librdkafka (KAFKA_INGEST_SHARED_DIR)
#   preload => text    instead of shared_preload_libraries = 'kafka_ingest'; '': nothing
#   library_path       dynamic_library_path
#   conf => text       more lines for postgresql.conf
#   extension => 0     do not create the extension in database postgres
#   start => 0         do not start it (then neither is the extension created)
#   and those of PostgreSQL::Test::Cluster->new
sub new
{
	my ($class, $name, %options) = @_;
	my %own = (preload => 'kafka_ingest', conf => '', extension => 1, start => 1);
	foreach my $option (qw(faults shared preload library_path conf extension start))
	{
		$own{$option} = delete $options{$option} if exists $options{$option};
	}
	$options{install_path} = _installation('KAFKA_INGEST_FAULTS_DIR') if $own{faults};
	$options{install_path} = _installation('KAFKA_INGEST_SHARED_DIR') if $own{shared};
	my $self = $class->SUPER::new($name, %options);
	$self->init;
	$self->append_conf('postgresql.conf', _configuration(%own));
	$self->start if $own{start};
	$self->safe_psql('postgres', 'CREATE EXTENSION kafka_ingest')
	  if $own{start} && $own{extension};
	return $self;
}

# run.sh builds it: a whole PostgreSQL, since the functions' library and the
# preloaded one must be the same file.
sub _installation
{
	my ($variable) = @_;
	my $dir = $ENV{$variable};
	croak "$variable is not set: run the tests through test/run.sh"
	  if !defined $dir || $dir eq '';
	return dirname($dir);
}

sub _configuration
{
	my (%own) = @_;
	my $conf = <<"END";
shared_preload_libraries = '$own{preload}'
restart_after_crash = on
max_worker_processes = 40
max_connections = 60
shared_buffers = 64MB
fsync = off
synchronous_commit = on
autovacuum_naptime = 10s
log_line_prefix = '%m [%p] %q%a %d '
END
	$conf .= "dynamic_library_path = '$own{library_path}'\n" if defined $own{library_path};
	# a failing target is tried again soon
	$conf .= "kafka_ingest.retry_backoff_max = '1s'\n" if $own{preload} ne '';
	return $conf . $own{conf} . "\n";
}

# Makes a connection to a KafkaBroker (or to 'host:port'), and pipelines can be.
# Options: name ('kafka'), dbname ('postgres').
sub connect_kafka
{
	my ($self, $kafka, %options) = @_;
	my $brokers = ref $kafka ? $kafka->brokers : $kafka;
	my $name = $options{name} // 'kafka';
	$self->safe_psql($options{dbname} // 'postgres',
		"SELECT kafka_ingest.create_connection('$name', brokers => '$brokers')");
	return;
}

# ---- queries that survive restarts ------------------------------------------

# One attempt: the result, or undef when the server is away or the query fails.
sub try_query
{
	my ($self, $query, %options) = @_;
	my ($out, $err) = ('', '');
	# without a server psql may end before it was given the query: a broken pipe
	my $status = eval {
		$self->psql($options{dbname} // 'postgres', $query,
			stdout => \$out, stderr => \$err, on_error_die => 0);
	};
	$self->{last_error} = defined $status ? $err : $@;
	return defined $status && $status == 0 ? $out : undef;
}

# Waits until the query returns what is expected ('t'; or a regular
# expression) and returns that. The server may be away and come back.
# Options: dbname, timeout (seconds).
sub poll_until
{
	my ($self, $query, $expected, %options) = @_;
	my $timeout = $options{timeout} // $PostgreSQL::Test::Utils::timeout_default;
	my $deadline = time + $timeout;
	my $result;
	$expected //= 't';
	while (1)
	{
		$result = $self->try_query($query, %options);
		return $result
		  if defined $result
		  && (ref $expected ? $result =~ $expected : $result eq $expected);
		last if time > $deadline;
		usleep(50_000);
	}
	croak sprintf("timed out after %d s: %s\nexpected: %s\nlast result: %s\nlast error: %s\nstatus:\n%s",
		$timeout, $query, $expected, $result // '(none)', $self->{last_error},
		$self->status_text);
}

# All of status, for diagnostics.
sub status_text
{
	my ($self) = @_;
	return $self->try_query('SELECT s::text FROM kafka_ingest.status s') // '(no server)';
}

# Waits until the server takes connections (after a crash).
sub wait_until_up
{
	my ($self) = @_;
	$self->poll_until('SELECT true');
	return;
}

# ---- pipelines ----------------------------------------------------------------

sub _literal
{
	my ($text) = @_;
	$text =~ s/'/''/g;
	return "'$text'";
}

# "state/reason" of a pipeline, or just its state.
sub state
{
	my ($self, $pipeline, %options) = @_;
	my $result = $self->try_query(
		"SELECT concat_ws('/', state, nullif(reason, '')) FROM kafka_ingest.status"
		  . ' WHERE pipeline = '
		  . _literal($pipeline), %options);
	return $result;
}

# Waits until state() is that: text, or a regular expression.
sub wait_for_state
{
	my ($self, $pipeline, $state, %options) = @_;
	return $self->poll_until(
		"SELECT concat_ws('/', state, nullif(reason, '')) FROM kafka_ingest.status"
		  . ' WHERE pipeline = '
		  . _literal($pipeline), $state, %options);
}

# The sum of the positions, which is how many offsets have been passed.
sub position_sum
{
	my ($self, $pipeline, %options) = @_;
	return $self->try_query(
		'SELECT coalesce(sum(next_offset), 0) FROM kafka_ingest.partition_status WHERE pipeline = '
		  . _literal($pipeline), %options);
}

# Waits until the pipeline has passed so many offsets.
sub wait_for_position_sum
{
	my ($self, $pipeline, $sum, %options) = @_;
	return $self->poll_until(
		"SELECT coalesce(sum(next_offset), 0) >= $sum FROM kafka_ingest.partition_status WHERE pipeline = "
		  . _literal($pipeline), 't', %options);
}

# The process ids of a pipeline's workers; waits until there is one.
sub worker_pids
{
	my ($self, $pipeline, %options) = @_;
	my $pids = $self->poll_until(
		"SELECT array_to_string(pids, ' ') FROM kafka_ingest.status WHERE pipeline = "
		  . _literal($pipeline), qr/^[1-9]/, %options);
	return split / /, $pids;
}

# One of them (the first).
sub worker_pid
{
	my ($self, $pipeline, %options) = @_;
	return ($self->worker_pids($pipeline, %options))[0];
}

# kill -9 of a worker; the process id. PostgreSQL then restarts all sessions:
# the server's log must say so before this returns, so that what the test asks
# next is not answered by the old server.
sub kill9_worker
{
	my ($self, $pipeline, %options) = @_;
	my $pid = $options{pid} // $self->worker_pid($pipeline, %options);
	my $before = -s $self->logfile;
	kill 'KILL', $pid or croak "cannot kill worker $pid: $!";
	$self->wait_for_log(qr/\(PID $pid\) was terminated by signal 9/, $before);
	$self->wait_until_up unless $options{no_wait};
	return $pid;
}

# ---- none missing, none twice ---------------------------------------------------

# Compares what is in a table (with columns _partition and _offset) with what was
# produced, { partition => messages }: in each partition as many rows, and as
# many different offsets. One test; dies of nothing.
# Options: dbname, topic_column => 1 (the table has a column _topic, too), name.
sub ledger_check
{
	my ($self, $table, $topic, $produced, %options) = @_;
	my $where = $options{topic_column} ? 'WHERE _topic = ' . _literal($topic) : '';
	my $rows = $self->safe_psql($options{dbname} // 'postgres',
		    "SELECT _partition, count(*), count(DISTINCT _offset) FROM $table $where"
		  . ' GROUP BY 1 ORDER BY 1');
	my %expected = map { $_ => "$produced->{$_}|$produced->{$_}" }
	  grep { $produced->{$_} > 0 } keys %$produced;
	my %found = map { /^(\d+)\|(.*)$/ ? ($1 => $2) : () } split /\n/, $rows;
	my $total = 0;
	$total += $_ foreach values %$produced;
	return is_deeply(\%found, \%expected, $options{name}
		  // "$table: count = distinct = produced in each partition of $topic ($total messages)");
}

1;
