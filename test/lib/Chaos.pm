
=pod

=head1 NAME

Chaos - blows at random moments of a load, each with proof of what it hit

=head1 SYNOPSIS

  my $chaos = Chaos->new(node => $node, pipeline => 'p', ends => $produced, blows => 20);
  while ($chaos->await_next_moment)
  {
      my $worker = $chaos->freeze_worker;      # SIGSTOP: as it is now, so it dies
      $chaos->kill9($worker);
  }
  $chaos->check_blows(in_flight => 15);        # fails as "not exercised" without blows
  $chaos->check_complete('target', $topic);    # none missing, none twice

The moments are random places of the load: the sum of the positions is waited
for, then whatever the worker does when it is looked at is what is hit. A frozen
process cannot go on while it is looked at, so what is found is what it died of:
"in flight" means that its transaction had an id, which it gets when it locks
its positions, and had not been committed.

The seed is printed; CHAOS_SEED repeats it (or whatever seed_name says).

=cut

package Chaos;

use strict;
use warnings;

use Carp;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep time);

# A look at a frozen process that holds a lock of ours may hang: then let it go.
use constant LOOK_SECONDS => 5;
use constant MAX_SECONDS  => 120;

# An orphan ends what it is at, a batch, and goes.
use constant ORPHAN_SECONDS => 20;

# Options: node, pipeline, ends ({ partition => next_offset at the end }), blows, and
# by_topic => 1 for a pipeline of several topics: then the keys of ends, and the
# partitions of a worker, are topic/partition. seed_name: the variable of the
# environment that has the seed. more: called with the number of messages produced so
# far, produces more and returns { partition => acknowledged messages }, for a load that
# a slow machine finds over before the last blow.
sub new
{
	my ($class, %options) = @_;
	my $seed_name = $options{seed_name} // 'CHAOS_SEED';
	my $self = bless {
		%options,
		struck    => 0,
		between   => 0,
		in_flight => 0,
		looks     => 0,
		key       => $options{by_topic} ? "s.topic || '/' || s.partition" : 's.partition',
		gone      => [],
		total     => _sum(values %{ $options{ends} }),
		seed      => $ENV{$seed_name} // int(rand(2**31))
	}, $class;
	srand($self->{seed});
	diag("$seed_name=$self->{seed}");
	return $self;
}

sub _sum
{
	my $sum = 0;
	$sum += $_ foreach @_;
	return $sum;
}

# ---- when -------------------------------------------------------------------

sub _positions_sql
{
	my ($self) = @_;
	return 'FROM kafka_ingest.position s JOIN kafka_ingest.pipeline p ON p.id = s.pipeline'
	  . " WHERE p.name = '$self->{pipeline}'";
}

# { partition => next_offset }, from the table itself.
sub positions
{
	my ($self) = @_;
	my $rows = $self->{node}->poll_until(
		"SELECT string_agg($self->{key} || '=' || next_offset, ' ') " . $self->_positions_sql,
		qr/\d/);
	return { map { split /=/ } split / /, $rows };
}

# The wait for the moment and the look at the workers are one call, and the waiting
# is done within the server: a client that asks again and again would be late by
# thousands of messages.
sub _moment_sql
{
	my ($self, $place) = @_;
	my $sum = 'SELECT coalesce(sum(next_offset), 0) ' . $self->_positions_sql;
	my $workers = "FROM kafka_ingest.partition_status s WHERE pipeline = '$self->{pipeline}'";
	my $gone = join ',', @{ $self->{gone} };
	return <<"END";
DO \$\$
DECLARE
	deadline timestamptz := clock_timestamp() + interval '60 s';
	goal bigint := least(greatest(($sum) + 1, $place), $self->{total} - 1);
BEGIN
	WHILE ($sum) < goal OR EXISTS (SELECT $workers AND (worker_pid IS NULL OR worker_pid = ANY ('{$gone}'))) LOOP
		IF clock_timestamp() > deadline THEN
			RAISE 'no progress';
		END IF;
		PERFORM pg_sleep(0.001);
	END LOOP;
END \$\$;
SELECT coalesce(string_agg(worker_pid || ':' || $self->{key} || ':' || next_offset, ' '), '') $workers;
END
}

# Waits for the place where the next blow is due, a random one within its own part of
# the load: there is a part more than there are blows, so that the last one does not
# race with the end. False after the last one, or when the load is over.
sub await_next_moment
{
	my ($self) = @_;
	return 0 if $self->{struck} == $self->{blows};
	do { $self->_await_place } until @{ $self->{workers} } || !$self->_prolong;
	return @{ $self->{workers} } > 0;
}

# Finds the workers that have work left at the place of the next blow.
sub _await_place
{
	my ($self) = @_;
	my $place = int(($self->{struck} + rand) / ($self->{blows} + 1) * $self->{total});
	my $rows = $self->{node}->poll_until($self->_moment_sql($place), qr/^\d/);
	my (%partitions, %left);
	foreach my $row (split / /, $rows)
	{
		my ($pid, $partition, $next_offset) = split /:/, $row;
		push @{ $partitions{$pid} }, $partition;
		$left{$pid} += $self->{ends}{$partition} - $next_offset;
	}
	$self->{gone} = [ keys %partitions ];
	$self->{workers} = [ map { { pid => $_, partitions => $partitions{$_} } }
		  grep { $left{$_} > 0 } sort keys %partitions ];
	return;
}

# Makes a load longer that is over, for the same workers; false if it cannot be.
sub _prolong
{
	my ($self) = @_;
	return 0 if !$self->{more};
	my $produced = $self->{more}->($self->{total});
	$self->{ends}{$_} += $produced->{$_} foreach keys %$produced;
	$self->{total} = _sum(values %{ $self->{ends} });
	$self->{gone} = [];
	note("the load was over: it has $self->{total} messages now");
	return 1;
}

# ---- whom -------------------------------------------------------------------

# A process: (state, parent); ('', 0) when it is gone, or waits for nothing but its
# parent's attention.
sub _process
{
	my ($pid) = @_;
	my $stat = eval { slurp_file("/proc/$pid/stat") } // '';
	return $stat =~ /\) ([^Z]) (\d+) /s ? ($1, $2) : ('', 0);
}

# SIGSTOP, and its effect; false: the process is gone.
sub freeze
{
	my ($self, $pid) = @_;
	kill 'STOP', $pid or return 0;
	foreach (1 .. 2000)
	{
		return 1 if (_process($pid))[0] eq 'T';
		usleep(1000);
	}
	return 0;
}

# One query while a process is frozen, which may hold a lock that the query
# needs: undef when there is no answer.
sub ask
{
	my ($self, $sql) = @_;
	my ($timed_out, $out, $err) = (0, '', '');
	# a broken pipe, when psql finds no server, is no answer either
	my $status = eval {
		$self->{node}->psql('postgres', $sql, stdout => \$out, stderr => \$err,
			timeout => LOOK_SECONDS, timed_out => \$timed_out);
	};
	return !$timed_out && defined $status && $status == 0 ? $out : undef;
}

# What the frozen process is doing: adds in_flight, next_offset and end to the
# worker. False: could not be seen.
sub _look
{
	my ($self, $worker) = @_;
	my $partitions = join ', ', map { "'$_'" } @{ $worker->{partitions} };
	my $out = $self->ask('SELECT a.backend_xid IS NOT NULL, (SELECT sum(s.next_offset) '
		  . $self->_positions_sql
		  . " AND ($self->{key})::text IN ($partitions))"
		  . " FROM pg_stat_activity a WHERE a.pid = $worker->{pid}");
	return 0 if ($out // '') !~ /^([tf])\|(\d+)$/;
	$worker->{in_flight} = $1 eq 't' ? 1 : 0;
	$worker->{next_offset} = $2;
	$worker->{end} = _sum(map { $self->{ends}{$_} } @{ $worker->{partitions} });
	return 1;
}

# Has it begun, and is not at its end?
sub _is_between
{
	my ($worker) = @_;
	return 0 < $worker->{next_offset} && $worker->{next_offset} < $worker->{end};
}

# Was it seen at its end?
sub _is_over
{
	my ($worker) = @_;
	return defined $worker->{end} && $worker->{next_offset} >= $worker->{end};
}

# One that has no work left is not looked at again; others, or more work, are found.
sub _leave_out
{
	my ($self, $worker) = @_;
	$self->{workers} = [ grep { $_ != $worker } @{ $self->{workers} } ];
	return if @{ $self->{workers} };
	$self->{gone} = [];
	$self->await_next_moment or croak 'the load ended';
	return;
}

sub _any_worker
{
	my ($self) = @_;
	my @workers = @{ $self->{workers} };
	return $workers[ rand @workers ];
}

# Stops a worker, by chance one of those that have work, with SIGSTOP and looks
# what it is doing. Every fourth is taken as it is, the others only with a batch in
# flight: else it goes on for a moment and is looked at again. The process stays
# stopped, so what was found is what it dies of. One that has not stored anything
# yet is let go for another one; one that has stored everything is no longer of use.
sub freeze_worker
{
	my ($self) = @_;
	my $any = $self->{struck} % 4 == 3;
	my $worker = $self->_any_worker;
	my $began = time;
	while (time < $began + MAX_SECONDS)
	{
		if (!$self->freeze($worker->{pid}))
		{
			# it has ended since it was listed: wait for the next one
			note("process $worker->{pid} is gone");
			kill 'CONT', $worker->{pid};
			$self->{gone} = [ $worker->{pid} ];
			$self->await_next_moment or croak 'the load ended';
			$worker = $self->_any_worker;
			next;
		}
		$self->{looks}++;
		my $is_between = $self->_look($worker) && _is_between($worker);
		return $worker if $is_between && ($any || $worker->{in_flight});
		kill 'CONT', $worker->{pid};
		usleep(int(rand(2000)));
		next if $is_between;
		$self->_leave_out($worker) if _is_over($worker);
		$worker = $self->_any_worker;
	}
	croak sprintf 'no batch was in flight in %d seconds: process %d is at %s of %s; %s', MAX_SECONDS,
	  $worker->{pid}, $worker->{next_offset} // '?', $worker->{end} // '?', $self->{node}->status_text;
}

# kill -9 of a frozen worker. PostgreSQL ends and restarts all sessions then, which
# await_next_moment notices by their process ids.
sub kill9
{
	my ($self, $worker) = @_;
	kill 'KILL', $worker->{pid} or croak "cannot kill process $worker->{pid}: $!";
	$self->count_blow($worker);
	return;
}

# Whether SIGQUIT, which is what mode immediate sends to everybody, waits for a
# stopped process.
sub _has_sigquit
{
	my ($pid) = @_;
	my $pending = 0;
	$pending |= hex substr($_, -8) foreach slurp_file("/proc/$pid/status") =~ /^(?:SigPnd|ShdPnd):\s*(\w+)/mg;
	return $pending & (1 << 2);
}

# Waits for a condition that processes outside the server make true.
sub _await
{
	my ($what, $condition, $seconds) = @_;
	my $deadline = time + ($seconds // $PostgreSQL::Test::Utils::timeout_default);
	until ($condition->())
	{
		croak "waited in vain: $what" if time > $deadline;
		usleep(1000);
	}
	return 1;
}

# Stops the server in mode immediate while a worker is frozen, who gets the signal
# before it goes on, so it goes nowhere any more; then starts it again.
sub stop_immediately
{
	my ($self, $worker) = @_;
	my $node = $self->{node};
	kill 'QUIT', $node->{_pid} or croak "cannot stop the server: $!";
	_await('SIGQUIT for the worker', sub { _has_sigquit($worker->{pid}) });
	kill 'CONT', $worker->{pid};
	_await('the end of the server', sub { !-e $node->data_dir . '/postmaster.pid' });
	$node->_update_pid(0);
	$node->start;
	$self->count_blow($worker);
	return;
}

sub _children
{
	my ($parent) = @_;
	return grep { (_process($_))[1] == $parent } map { m{/proc/(\d+)} } glob '/proc/[0-9]*';
}

# kill -9 of the postmaster alone, after which a frozen worker may end what it was at:
# the others must notice that they are orphans, and go. Or with all its processes:
# with some of them the rest could wait for ever for a lock of the dead, and nobody
# would clean up. Then starts the server again.
sub kill9_postmaster
{
	my ($self, $worker, %options) = @_;
	my $node = $self->{node};
	my $postmaster = $node->{_pid};
	my @orphans = _children($postmaster);
	$node->kill9;
	kill 'KILL', @orphans if $options{all};
	kill 'CONT', $worker->{pid};
	$worker->{in_flight} = 0 if !$options{all};
	# a new one takes the postmaster's number for in use until nobody has it
	_await("the end of process $postmaster", sub { !kill 0, $postmaster });
	foreach my $pid (@orphans)
	{
		next if eval { _await("the end of process $pid, an orphan", sub { (_process($pid))[0] eq '' }, ORPHAN_SECONDS) };
		# nobody else would end them
		kill 'KILL', @orphans;
		croak $@;
	}
	$node->start;
	$self->count_blow($worker);
	return;
}

# Books a blow with what freeze_worker returned, or with the positions as a whole.
sub count_blow
{
	my ($self, $worker) = @_;
	$self->{struck}++;
	$self->{in_flight}++ if $worker->{in_flight};
	$self->{between}++ if _is_between($worker);
	note(sprintf 'blow %d: process %s at %d of %d%s', $self->{struck}, $worker->{pid} // '-',
		$worker->{next_offset}, $worker->{end}, $worker->{in_flight} ? ', batch in flight' : '');
	return;
}

# How many messages were produced, in the end.
sub total
{
	my ($self) = @_;
	return $self->{total};
}

# ---- what came of it ----------------------------------------------------------

sub check_blows
{
	my ($self, %options) = @_;
	my $blows = $self->{blows};
	my $seed = "seed $self->{seed}";
	if ($self->{struck} == 0)
	{
		fail("not exercised: no blow at all ($seed)");
		return;
	}
	is($self->{struck}, $blows, "$blows blows ($seed)");
	is($self->{between}, $blows, 'each with next_offset strictly between start and end');
	cmp_ok($self->{in_flight}, '>=', $options{in_flight},
		"at least $options{in_flight} with a batch in flight"
		  . " ($self->{in_flight} in $self->{looks} looks)")
	  if $options{in_flight};
	return;
}

# What was produced of each topic: { topic => { partition => end } }.
sub _ends_by_topic
{
	my ($self) = @_;
	my %ends;
	foreach my $key (keys %{ $self->{ends} })
	{
		my ($topic, $partition) = split m{/}, $key;
		$ends{$topic}{$partition} = $self->{ends}{$key};
	}
	return \%ends;
}

# Waits for the end of the load, then compares everything with what was produced.
# The table has the columns id, _partition, _offset; ids are 0, 1, 2 ... With by_topic
# it has _topic, too, the ids go through all topics, and $topic is not needed.
sub check_complete
{
	my ($self, $table, $topic) = @_;
	my $node = $self->{node};
	my $total = $self->{total};
	my $ends = $self->{by_topic} ? $self->_ends_by_topic : { $topic => $self->{ends} };
	$node->wait_for_position_sum($self->{pipeline}, $total);
	$node->ledger_check($table, $_, $ends->{$_}, topic_column => $self->{by_topic})
	  foreach sort keys %$ends;
	is($node->safe_psql('postgres',
			"SELECT count(*), count(DISTINCT id), min(id), max(id) FROM $table"),
		join('|', $total, $total, 0, $total - 1), 'each of the messages is there, once');
	is_deeply($self->positions, $self->{ends}, 'the positions are at the ends');
	is($node->safe_psql('postgres',
			'SELECT messages, loaded, ignored, dead_letters_total, gaps'
			  . " FROM kafka_ingest.status WHERE pipeline = '$self->{pipeline}'"),
		"$total|$total|0|0|0", 'and the counts say so');
	$node->poll_until("SELECT lag FROM kafka_ingest.status WHERE pipeline = '$self->{pipeline}'",
		'0');
	return;
}

1;
