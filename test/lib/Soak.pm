
=pod

=head1 NAME

Soak - many messages, some of them bad, loaded under blows and mended half-way

=head1 SYNOPSIS

  Soak->new(messages => 5_000_000, batch => 5000, blows => 50)->run;

Two workers load four partitions while they are produced. By turns a worker is
killed or ended in good order, the postmaster killed with or without all its
processes, the server stopped at once; twice it is the broker's turn. Half-way the mapping is changed and dead letters are
retried, and both calls are killed before they are done right. Then every message must
be a row or a letter, once, and each the one that SoakRule says.

The seed is printed; SOAK_SEED repeats it.

=cut

package Soak;

use strict;
use warnings;

use Carp;
use Chaos;
use File::Basename qw(dirname);
use IPC::Run ();
use IngestCluster;
use KafkaBroker;
use List::Util qw(shuffle sum0);
use PostgreSQL::Test::Utils;
use SoakRule;
use Test::More;
use Time::HiRes qw(time);

# By turns. All but the postmaster's end a transaction, if there is one.
my @KILLS = qw(worker worker terminate terminate postmaster all immediate);

my %TELL = (
	worker       => 'kill -9 of a worker',
	terminate    => 'pg_terminate_backend of a worker',
	postmaster   => 'kill -9 of the postmaster alone',
	all          => 'kill -9 of the postmaster and its processes',
	immediate    => 'stop of the server in mode immediate',
	broker_stop  => 'stop of the broker',
	broker_kill9 => 'kill -9 of the broker',
	alter        => 'kill -9 of alter_pipeline()',
	retry        => 'kill -9 of retry_dead_letters()');

# Where each kind of bad message is found, and as what.
my %FAULTS = (
	broken    => 'decode 22021',
	mistyped  => 'map 22P02 amount',
	oversized => 'map 22003 amount',
	empty     => 'write 23502 note',
	twin      => 'write 23505 target_pkey',
	unknown   => 'map 22P02 status',
	negative  => 'write 23514 target_amount_check',
	stray     => 'write 23503 target_region_fkey');

# What the log may say at these levels: what the blows do, and nothing else.
my $EXPECTED_ERRORS = qr/
	terminating\ background\ worker\ .*\ due\ to\ administrator\ command |
	terminating\ connection\ due\ to\ administrator\ command |
	the\ database\ system\ is\ (?:starting\ up|shutting\ down|in\ recovery\ mode|not\ yet\ accepting\ connections)
/x;

# Options: messages, batch (batch_max_messages), blows (those while it loads), and
# slow (seconds that each statement on the table takes longer; 0): few messages are
# loaded before they can be aimed at.
sub new
{
	my ($class, %options) = @_;
	my $self = bless { slow => 0, struck => {}, inside => {}, deck => [], %options }, $class;
	$self->{counts} = SoakRule::counts($self->{messages});
	$self->{mended} = sum0(map { $self->{counts}{$_} } SoakRule::mended_kinds());
	$self->{bad} = $self->{messages} - $self->{counts}{good};
	$self->{is_mended} = sprintf 'kind_of(number) IN (%s)',
	  join ', ', map { "'$_'" } SoakRule::mended_kinds();
	return $self;
}

sub run
{
	my ($self) = @_;
	my $half = $self->{blows} / 2;
	$self->_set_up;
	$self->_start;
	$self->_strike_until($half);
	$self->_mend;
	$self->_strike_until($self->{blows});
	$self->_finish;
	$self->_check_blows;
	$self->_check_everything;
	$self->_check_log;
	$self->{node}->stop;
	return;
}

sub _query
{
	my ($self, $sql) = @_;
	return $self->{node}->safe_psql('postgres', $sql);
}

# ---- the load -----------------------------------------------------------------------

sub _set_up
{
	my ($self) = @_;
	$self->{kafka} = KafkaBroker->new;
	$self->{topic} = $self->{kafka}->create_topic('soak', partitions => SoakRule::PARTITIONS);
	my $node = $self->{node} = IngestCluster->new('soak');
	$self->{chaos} = Chaos->new(
		node      => $node,
		pipeline  => 'soak',
		ends      => SoakRule::ends($self->{messages}),
		blows     => $self->{blows},
		seed_name => 'SOAK_SEED');
	$node->connect_kafka($self->{kafka});
	$self->_query(SoakRule::sql());
	$self->_query(q{
		CREATE TYPE status AS ENUM ('new', 'paid', 'sent');
		CREATE TABLE region (id int PRIMARY KEY);
		INSERT INTO region SELECT generate_series(0, 9);
		CREATE TABLE target (
			id bigint PRIMARY KEY,
			amount int CHECK (amount >= 0),
			status status,
			region int REFERENCES region,
			note text NOT NULL,
			_partition int,
			_offset bigint);
		CREATE VIEW loaded AS SELECT number_of(_partition, _offset) AS number, * FROM target;
		CREATE VIEW letters AS SELECT number_of(partition, message_offset) AS number, * FROM kafka_ingest.dead_letters});
	$self->_query(qq{
		CREATE FUNCTION be_slow() RETURNS trigger LANGUAGE plpgsql
			AS 'BEGIN PERFORM pg_sleep($self->{slow}); RETURN NULL; END';
		CREATE TRIGGER slow AFTER INSERT ON target FOR EACH STATEMENT EXECUTE FUNCTION be_slow()})
	  if $self->{slow} > 0;
	return;
}

sub _start
{
	my ($self) = @_;
	$self->{started} = time;
	$self->{producer} = $self->{kafka}->produce_program($self->{topic}, $^X, '-I', dirname(__FILE__),
		'-MSoakRule', '-e', "SoakRule::print_lines($self->{messages})");
	$self->_query(qq{SELECT kafka_ingest.create_pipeline('soak', topic => '$self->{topic}', target => 'target',
		workers => 2, batch_max_messages => $self->{batch})});
	return;
}

sub _finish
{
	my ($self) = @_;
	is_deeply($self->{producer}->finish, SoakRule::ends($self->{messages}), 'everything was produced, once');
	$self->{node}->wait_for_position_sum('soak', $self->{messages});
	my $seconds = time - $self->{started};
	note(sprintf '%d messages in %.0f s, %.0f a second', $self->{messages}, $seconds, $self->{messages} / $seconds);
	return;
}

# ---- blows --------------------------------------------------------------------------

sub _strike_until
{
	my ($self, $blows) = @_;
	my $chaos = $self->{chaos};
	while ($chaos->{struck} < $blows && $chaos->await_next_moment)
	{
		my $share = $chaos->{struck} / $self->{blows};
		if ($share >= 0.25 && !$self->{struck}{broker_stop})
		{
			$self->_strike_broker('stop');
		}
		elsif ($share >= 0.75 && !$self->{struck}{broker_kill9})
		{
			$self->_strike_broker('kill9');
		}
		else
		{
			$self->_strike_worker;
		}
	}
	return;
}

sub _book
{
	my ($self, $kind, $is_inside) = @_;
	$self->{struck}{$kind}++;
	$self->{inside}{$kind} += $is_inside ? 1 : 0;
	note($TELL{$kind} . ($is_inside ? ', inside a transaction' : ''));
	return;
}

sub _strike_worker
{
	my ($self) = @_;
	my $chaos = $self->{chaos};
	$self->{deck} = [ shuffle @KILLS ] if !@{ $self->{deck} };
	my $kind = shift @{ $self->{deck} };
	my $worker = $chaos->freeze_worker;
	$chaos->kill9($worker) if $kind eq 'worker';
	$chaos->kill9_postmaster($worker, all => $kind eq 'all') if $kind =~ /^(?:postmaster|all)$/;
	$chaos->stop_immediately($worker) if $kind eq 'immediate';
	$self->_terminate($worker) if $kind eq 'terminate';
	$self->_book($kind, $worker->{in_flight});
	return;
}

# What ends in good order may have committed before: its transaction's fate tells. (The
# server is too young for transaction ids of more than 32 bits.)
sub _terminate
{
	my ($self, $worker) = @_;
	my $pid = $worker->{pid};
	my $answer = $self->{chaos}->ask("SELECT backend_xid, pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = $pid");
	kill 'CONT', $pid;
	croak "process $pid was not terminated" if ($answer // '') !~ /^(\d*)\|t$/;
	my $xid = $1;
	$self->{node}->poll_until("SELECT count(*) FROM pg_stat_activity WHERE pid = $pid", '0');
	$worker->{in_flight} = $xid ne '' && $self->_query("SELECT pg_xact_status('$xid')") eq 'aborted' ? 1 : 0;
	# the other worker lives on, so do not wait for another one
	$self->{chaos}{gone} = [$pid];
	$self->{chaos}->count_blow($worker);
	return;
}

# The broker is gone while a batch is in flight, which has nothing to fear.
sub _strike_broker
{
	my ($self, $how) = @_;
	my $chaos = $self->{chaos};
	my $worker = $chaos->freeze_worker;
	$self->{kafka}->$how;
	kill 'CONT', $worker->{pid};
	$worker->{in_flight} = 0;
	$chaos->{gone} = [];
	$chaos->count_blow($worker);
	$self->{node}->wait_for_state('soak', qr/^reconnecting/);
	$self->{kafka}->start;
	$self->_book("broker_$how", 0);
	return;
}

# The session of that name is in a transaction that has changed something. It is
# waited for within the server, since it may not take long.
sub _in_transaction_sql
{
	my ($name) = @_;
	my $from = "FROM pg_stat_activity WHERE application_name = '$name' AND backend_xid IS NOT NULL";
	return <<"END";
SET statement_timeout = '60s';
DO \$\$
BEGIN
	WHILE NOT EXISTS (SELECT $from) LOOP
		PERFORM pg_sleep(0.001);
		PERFORM pg_stat_clear_snapshot();
	END LOOP;
END \$\$;
SELECT pid $from
END
}

# Calls a function in a transaction that would never end, and kills it -9 as soon as it
# has changed something.
sub _strike_call
{
	my ($self, $kind, $call) = @_;
	my ($node, $chaos) = ($self->{node}, $self->{chaos});
	my ($out, $err, $place) = ('', '');
	my $session = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres') . " application_name=soak_$kind",
			'-c', 'BEGIN', '-c', $call, '-c', 'SELECT pg_sleep(600)' ], '<', \undef, '>', \$out, '2>', \$err);
	my $pid = $node->poll_until(_in_transaction_sql("soak_$kind"), qr/^\d+$/);
	do
	{
		kill 'CONT', $pid;
		$chaos->freeze($pid) or croak "$call has ended: $err";
		$place = $chaos->ask("SELECT query ~ 'pg_sleep' FROM pg_stat_activity WHERE pid = $pid AND backend_xid IS NOT NULL");
	} until defined $place;
	$node->kill9_worker('soak', pid => $pid);
	$session->finish;
	note($place eq 't' ? 'after the call, before its commit' : 'within the call');
	$self->_book($kind, $place ne '');
	return;
}

# ---- mending ------------------------------------------------------------------------

# The open letters that the new mapping mends, and in how many attempts they failed.
sub _mended_letters
{
	my ($self) = @_;
	return $self->_query("SELECT count(*), max(attempts) FROM letters WHERE $self->{is_mended}");
}

sub _mend
{
	my ($self) = @_;
	my $alter = q{SELECT kafka_ingest.alter_pipeline('soak', columns => '{"id": "$.id", "amount": "$.total", "status": "$.status",
		"region": "$.region", "note": "$.note", "_partition": "@partition", "_offset": "@offset"}')};
	my $retry = q{SELECT retried, loaded, superseded, failed FROM kafka_ingest.retry_dead_letters('soak')};

	# the last blow is over when there are workers again
	$self->{chaos}->await_next_moment;
	$self->_strike_call('alter', $alter);
	is($self->_query(q{SELECT columns IS NULL FROM kafka_ingest.pipelines}), 't', 'a killed alter_pipeline() has changed nothing');
	$self->_query($alter);
	my $position = $self->{node}->position_sum('soak');
	my $letters = $self->_mended_letters;
	my ($count) = split /\|/, $letters;
	ok(0 < $position && $position < $self->{messages}, "the mapping is mended half-way, at $position")
	  or diag('not exercised: there was nothing to load any more');
	cmp_ok($count, '>', 0, "... with $count letters that it mends");

	$self->_strike_call('retry', $retry);
	is($self->_mended_letters, $letters, 'a killed retry_dead_letters() has settled none of them');
	is($self->_query('SELECT count(*) FROM letters l JOIN target t ON (t._partition, t._offset) = (l.partition, l.message_offset)'),
		0, '... and loaded none');
	my $result = $self->_query($retry);
	like($result, qr/^\d+\|$count\|0\|\d+$/, "retry_dead_letters() loads all of them: $result");
	is($self->_mended_letters, '0|', '... and none is left');
	$self->{retried} = $count;
	return;
}

# ---- what came of it ------------------------------------------------------------------

sub _check_blows
{
	my ($self) = @_;
	my ($struck, $inside) = ($self->{struck}, $self->{inside});
	my @kills = grep { !/^broker/ } keys %$struck;
	my $kills = sum0(map { $struck->{$_} } @kills);
	my $hits = sum0(map { $inside->{$_} } @kills);
	note(sprintf '%3d times %s, %d inside a transaction', $struck->{$_}, $TELL{$_}, $inside->{$_}) foreach sort keys %$struck;
	is($self->{chaos}{struck}, $self->{blows}, "$self->{blows} blows while it loaded");
	is_deeply([ sort keys %$struck ], [ sort keys %TELL ], '... of every kind');
	if ($hits == 0)
	{
		fail('not exercised: no kill hit a transaction');
		return;
	}
	cmp_ok($hits, '>=', $kills / 2, "$hits of $kills kills were inside a transaction");
	return;
}

sub _check_everything
{
	my ($self) = @_;
	my $total = $self->{messages};
	my $left = $self->{bad} - $self->{mended};
	is($self->_query('SELECT (SELECT count(*) FROM loaded) + (SELECT count(*) FROM letters)'), $total,
		"rows + letters = produced: $total");
	is($self->_query('SELECT count(*), count(DISTINCT number), min(number), max(number)
			FROM (SELECT number FROM loaded UNION ALL SELECT number FROM letters) a'),
		join('|', $total, $total, 0, $total - 1), '... disjoint, and each of the messages once');
	is($self->_query(q{SELECT count(*) FROM loaded
			WHERE (id, amount, status::text, region, note) IS DISTINCT FROM (number, number % 1000, 'paid', number % 10, 'number ' || number)}),
		0, '... each row is its message');
	is($self->_query('SELECT count(*) FROM letters WHERE value IS DISTINCT FROM value_of(number) OR key IS NOT NULL OR superseded'),
		0, '... each letter has the bytes of its message');
	$self->_check_kinds;
	is($self->_query('SELECT retried, loaded, superseded, failed FROM kafka_ingest.retry_dead_letters($$soak$$)'),
		"$left|0|0|$left", "$left letters fail again");
	$self->_check_kinds;
	$self->_check_status;
	return;
}

# Of each kind as many rows, and letters, as the rule makes.
sub _check_kinds
{
	my ($self) = @_;
	my %mended = map { $_ => 1 } SoakRule::mended_kinds();
	my $counts = $self->{counts};
	is($self->_query('SELECT kind_of(number), count(*) FROM loaded GROUP BY 1 ORDER BY 1'),
		join("\n", map { "$_|$counts->{$_}" } sort(grep { $_ eq 'good' || $mended{$_} } keys %$counts)),
		'... the rows are the good ones and the mended ones');
	is($self->_query(q{SELECT kind_of(number), count(*), concat_ws(' ', stage, sqlstate, coalesce(constraint_name, column_name))
			FROM letters GROUP BY 1, 3 ORDER BY 1}),
		join("\n", map { "$_|$counts->{$_}|$FAULTS{$_}" } sort(grep { $FAULTS{$_} && !$mended{$_} } keys %$counts)),
		'... the letters are the others, each for its reason');
	return;
}

# What was counted stays counted: a retried letter is not loaded once more.
sub _check_status
{
	my ($self) = @_;
	my $left = $self->{bad} - $self->{mended};
	my $letters = $left + $self->{retried};
	is($self->_query(q{SELECT messages, loaded, filtered, ignored, dead_letters_total, dead_letters, gaps FROM kafka_ingest.status}),
		join('|', $self->{messages}, $self->{messages} - $letters, 0, 0, $letters, $left, 0),
		"... status says so: $letters were letters, $self->{retried} were loaded later, $left are");
	is($self->_query(q{SELECT count(*) FROM kafka_ingest.gaps}), 0, '... without a gap');
	is_deeply($self->{chaos}->positions, $self->{chaos}{ends}, '... and the positions are at the ends');
	is($self->{node}->state('soak'), 'running', '... and it runs');
	return;
}

sub _check_log
{
	my ($self) = @_;
	my $log = slurp_file($self->{node}->logfile);
	my %signals = map { $_ => 1 } $log =~ /was terminated by signal (\d+)/g;
	my %unexpected = map { $_ => 1 } grep { !/$EXPECTED_ERRORS/ } $log =~ /(?:ERROR|FATAL|PANIC|TRAP): .*/g;
	is(join(' ', sort keys %signals), '9', 'no process ended by a signal but those killed');
	is(join("\n", sort keys %unexpected), '', 'the log has no error but those of the blows');
	return;
}

1;
