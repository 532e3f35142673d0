
=pod

=head1 NAME

KafkaBroker - a real Apache Kafka for a test

=head1 SYNOPSIS

  my $kafka = KafkaBroker->shared();            # the one run.sh started
  my $topic = $kafka->create_topic('orders', partitions => 4, config => { 'cleanup.policy' => 'compact' });
  my $produced = $kafka->produce($topic, count => 1000, template => '{"id": %d}');   # { partition => count }

  my $own = KafkaBroker->new('log.retention.ms=1000');    # one that may be killed
  $own->kill9; $own->start; $own->sigstop; $own->sigcont; $own->restart;

All methods die when what they do fails, after a time limit. A test of its own
broker need not stop it: that happens at the end. The shared one must never be
stopped: other tests use it, and therefore topics get names of their own.

=cut

package KafkaBroker;

use strict;
use warnings;

use Carp;
use Fcntl qw(SEEK_SET);
use File::Path qw(rmtree);
use IPC::Run ();
use Test::More ();

my @private;
my $ntopics = 0;

# ---- making and ending brokers --------------------------------------------

# A name of the environment that run.sh sets; without it there is no test.
sub _environment
{
	my ($name) = @_;
	my $value = $ENV{$name};
	croak "$name is not set: run the tests through test/run.sh"
	  if !defined $value || $value eq '';
	return $value;
}

# The broker that run.sh started.
sub shared
{
	my ($class) = @_;
	my $self = bless {
		brokers => _environment('KAFKA_BROKERS'),
		dir     => _environment('KAFKA_DATA_DIR'),
		shared  => 1
	}, $class;
	return $self;
}

# A broker of this test, started; the arguments are broker properties ("name=value").
# After kill -9 its controller knows the dead one for as long as its session lasts, and
# refuses the new one.
sub new
{
	my ($class, @properties) = @_;
	unshift @properties, 'broker.session.timeout.ms=2000';
	my $dir = sprintf('%s/kafka_%d_%d',
		_environment('KAFKA_PRIVATE_DIR'), $$, scalar @private);
	my $self = bless { dir => $dir, shared => 0, properties => \@properties }, $class;
	push @private, $self;
	$self->_start(0, @properties);
	return $self;
}

sub _broker_sh
{
	my ($self, @arguments) = @_;
	my ($output, $error) = ('', '');
	# The broker's own process must not hold pipes of ours: broker.sh sees to that.
	IPC::Run::run([ 'bash', _environment('KAFKA_BROKER_SH'), @arguments ],
		'<', \undef, '>', \$output, '2>', \$error)
	  or croak "broker.sh @arguments: $error";
	chomp $output;
	return $output;
}

sub _must_be_private
{
	my ($self) = @_;
	croak 'the shared broker serves other tests: make one with KafkaBroker->new'
	  if $self->{shared};
	return;
}

sub _start
{
	my ($self, $port, @properties) = @_;
	$self->_must_be_private;
	$self->{brokers} = $self->_broker_sh('start', $self->{dir}, $port, @properties);
	Test::More::note("Kafka at $self->{brokers}, data in $self->{dir}");
	return;
}

# Starts it again after stop or kill9, with its data and on its old port.
sub start
{
	my ($self) = @_;
	return $self->_start(0);
}

sub stop
{
	my ($self) = @_;
	$self->_must_be_private;
	$self->_broker_sh('stop', $self->{dir});
	return;
}

sub kill9
{
	my ($self) = @_;
	$self->_must_be_private;
	$self->_broker_sh('kill', $self->{dir});
	return;
}

sub restart
{
	my ($self) = @_;
	$self->stop;
	return $self->start;
}

sub pid
{
	my ($self) = @_;
	return $self->_broker_sh('pid', $self->{dir});
}

sub sigstop
{
	my ($self) = @_;
	$self->_must_be_private;
	kill 'STOP', $self->pid or croak "cannot stop the broker: $!";
	return;
}

sub sigcont
{
	my ($self) = @_;
	kill 'CONT', $self->pid or croak "cannot continue the broker: $!";
	return;
}

# host:port, as in brokers => ...
sub brokers
{
	my ($self) = @_;
	return $self->{brokers};
}

sub port
{
	my ($self) = @_;
	return (split /:/, $self->{brokers})[1];
}

END
{
	my $status = $?;
	foreach my $broker (@private)
	{
		eval { $broker->kill9; };
		rmtree("$broker->{dir}/data") if $status == 0;
	}
	$? = $status;
}

# ---- kafka_tool -----------------------------------------------------------

# Runs a command of kafka_tool on this broker; its output. $input: undef or text.
sub tool
{
	my ($self, $input, $command, @arguments) = @_;
	my ($output, $error) = ('', '');
	my @call = (_environment('KAFKA_TOOL'), $command, $self->{brokers}, @arguments);
	IPC::Run::run(\@call, '<', defined $input ? \$input : \undef,
		'>', \$output, '2>', \$error, IPC::Run::timeout(300))
	  or croak "kafka_tool $command @arguments: $error";
	return $output;
}

# Starts such a command and leaves it running; see KafkaBroker::Process.
sub _start_tool
{
	my ($self, $command, @arguments) = @_;
	my @call = (_environment('KAFKA_TOOL'), $command, $self->{brokers}, @arguments);
	return KafkaBroker::Process->new(@call);
}

# "partition<TAB>number" lines as a hash.
sub _counts
{
	my ($output) = @_;
	my %counts = map { split /\t/ } grep { /^\d+\t\d+$/ } split /\n/, $output;
	return \%counts;
}

sub _options
{
	my (%options) = @_;
	return map { ("--$_", $options{$_}) } sort keys %options;
}

# A name that no other test, and no other run, uses.
sub unique_name
{
	my ($self, $prefix) = @_;
	return sprintf('%s_%d_%d_%d', $prefix, time % 1_000_000, $$, ++$ntopics);
}

# Makes a topic; its name, which is unique and begins with the prefix.
# Options: partitions (1), config ({}), name (instead of a unique one).
sub create_topic
{
	my ($self, $prefix, %options) = @_;
	my $name = $options{name} // $self->unique_name($prefix);
	my $config = $options{config} // {};
	$self->tool(undef, 'create-topic', $name, $options{partitions} // 1,
		map { "$_=$config->{$_}" } sort keys %$config);
	return $name;
}

sub create_partitions
{
	my ($self, $topic, $total) = @_;
	$self->tool(undef, 'create-partitions', $topic, $total);
	return;
}

sub delete_topic
{
	my ($self, $topic) = @_;
	$self->tool(undef, 'delete-topic', $topic);
	return;
}

# Deletes all before the offset, as retention does.
sub delete_records
{
	my ($self, $topic, $partition, $offset) = @_;
	$self->tool(undef, 'delete-records', $topic, $partition, $offset);
	return;
}

# Produces messages by a template; { partition => acknowledged messages }.
# Options: count, from, partition, set, rate, template, key, codec.
sub produce
{
	my ($self, $topic, %options) = @_;
	return _counts($self->tool(undef, 'produce', $topic, _options(%options)));
}

# The same for a load of several topics: { "topic/partition" => acknowledged messages }.
sub produce_by_topic
{
	my ($self, $topic, %options) = @_;
	my $produced = $self->produce($topic, %options);
	return { map { ("$topic/$_" => $produced->{$_}) } keys %$produced };
}

# The same as produce in the background: ->finish waits and returns what produce returns.
sub produce_background
{
	my ($self, $topic, %options) = @_;
	return $self->_start_tool('produce', $topic, _options(%options));
}

# Produces in the background what a program writes, lines for produce-stdin:
# ->finish waits and returns what produce returns.
sub produce_program
{
	my ($self, $topic, @program) = @_;
	my $tool = _environment('KAFKA_TOOL');
	return KafkaBroker::Process->new('bash', '-c',
		'set -o pipefail; "${@:4}" | "$1" produce-stdin "$2" "$3"',
		'produce', $tool, $self->{brokers}, $topic, @program);
}

# Produces the messages given: hashes with partition (0), key, value, headers
# ([[name, value], ...]), timestamp (ms). What is undef is a null; strings are
# bytes (encode them).
sub produce_messages
{
	my ($self, $topic, @messages) = @_;
	my $input = join '', map { _message_line($_) } @messages;
	return _counts($self->tool($input, 'produce-stdin', $topic, '--hex', 'yes'));
}

sub _message_line
{
	my ($message) = @_;
	my $hex = sub { defined $_[0] ? unpack('H*', $_[0]) : '\N' };
	my @fields = ($message->{partition} // 0, $hex->($message->{key}), $hex->($message->{value}));
	push @fields, map { "$_->[0]=" . $hex->($_->[1]) } @{ $message->{headers} // [] };
	push @fields, "\@$message->{timestamp}" if defined $message->{timestamp};
	return join("\t", @fields) . "\n";
}

# Transactions by a script, such as 'commit:3,abort:4,plain:2'.
# Options: partition (0), template, from, id.
sub transactions
{
	my ($self, $topic, $script, %options) = @_;
	$self->tool('', 'transactions', $topic, $script, _options(%options));
	return;
}

# Opens a transaction with so many messages and returns when they are at the
# broker; ->commit or ->abort ends it, ->kill9 leaves it to the broker's time-out.
sub open_transaction
{
	my ($self, $topic, $count, %options) = @_;
	my $process = $self->_start_tool('transactions', $topic, "open:$count", _options(%options));
	$process->expect(qr/^open$/m);
	return $process;
}

# { partition => { low => ..., high => ..., stable => ... } }
sub offsets
{
	my ($self, $topic) = @_;
	my %offsets;
	foreach my $line (split /\n/, $self->tool(undef, 'offsets', $topic))
	{
		my ($partition, $low, $high, $stable) = split /\t/, $line;
		$offsets{$partition} = { low => $low, high => $high, stable => $stable };
	}
	return \%offsets;
}

# Commits offsets for a consumer group, { partition => offset }.
sub commit_offsets
{
	my ($self, $group, $topic, $offsets) = @_;
	$self->tool(undef, 'commit-offsets', $group, $topic,
		map { "$_:$offsets->{$_}" } sort keys %$offsets);
	return;
}

# Nobody may use the group, at a broker with an authorizer.
sub deny_group
{
	my ($self, $group) = @_;
	$self->tool(undef, 'deny-group', $group);
	return;
}

# What a consumer group has committed, { partition => offset }.
sub group_offsets
{
	my ($self, $group, $topic) = @_;
	return _counts($self->tool(undef, 'group-offsets', $group, $topic));
}

# ---- the broker's files ---------------------------------------------------

# The file of the log segment that holds an offset (default: the first segment).
sub path_of_log_segment
{
	my ($self, $topic, $partition, $offset) = @_;
	my @segments = sort glob("$self->{dir}/data/$topic-$partition/*.log");
	croak "no log of $topic, partition $partition in $self->{dir}/data" if !@segments;
	return $segments[0] if !defined $offset;
	my @before = grep { m{(\d+)\.log$} && $1 <= $offset } @segments;
	croak "offset $offset of $topic, partition $partition is in no segment" if !@before;
	return $before[-1];
}

# The place of the record set with an offset: (file, position, length).
sub _find_record_set
{
	my ($self, $topic, $partition, $offset) = @_;
	my $path = $self->path_of_log_segment($topic, $partition, $offset);
	my $position = 0;
	open my $file, '<:raw', $path or croak "$path: $!";
	# baseOffset int64, batchLength int32, leader epoch int32, magic int8,
	# crc int32, attributes int16, lastOffsetDelta int32 ...
	while (seek($file, $position, SEEK_SET) && read($file, my $head, 27) == 27)
	{
		my ($base, $length, $last) = unpack 'q> N x4 x1 x4 x2 N', $head;
		return ($path, $position, 12 + $length)
		  if $base <= $offset && $offset <= $base + $last;
		last if $length == 0;
		$position += 12 + $length;
	}
	croak "found no record set with offset $offset in $path";
}

# Flips the last byte of the record set with an offset, so its checksum is
# wrong; a second call repairs it.
sub corrupt_record_set
{
	my ($self, $topic, $partition, $offset) = @_;
	my ($path, $position, $length) = $self->_find_record_set($topic, $partition, $offset);
	open my $file, '+<:raw', $path or croak "$path: $!";
	seek $file, $position + $length - 1, SEEK_SET;
	read $file, my $byte, 1;
	seek $file, $position + $length - 1, SEEK_SET;
	print $file $byte ^ "\xff";
	close $file or croak "$path: $!";
	return;
}

# Cuts off a partition's log before the record set with an offset, as a broker
# that lost its disk's cache would find it; the broker must be stopped.
sub cut_log
{
	my ($self, $topic, $partition, $offset) = @_;
	$self->_must_be_private;
	my ($path, $position) = $self->_find_record_set($topic, $partition, $offset);
	truncate $path, $position or croak "$path: $!";
	unlink glob("$self->{dir}/data/$topic-$partition/*.{index,timeindex,snapshot}");
	return;
}

# CRC-32C (Castagnoli), bit by bit: for small record sets.
sub _crc32c
{
	my ($bytes) = @_;
	my $crc = 0xffffffff;
	foreach my $byte (unpack 'C*', $bytes)
	{
		$crc ^= $byte;
		$crc = $crc & 1 ? ($crc >> 1) ^ 0x82f63b78 : $crc >> 1 foreach 1 .. 8;
	}
	return $crc ^ 0xffffffff;
}

# Gives the only record of a record set another timestamp, in the log: one that no
# producer of today can send, and that a log may hold all the same.
sub rewrite_timestamp
{
	my ($self, $topic, $partition, $offset, $timestamp_ms) = @_;
	my ($path, $position, $length) = $self->_find_record_set($topic, $partition, $offset);
	open my $file, '+<:raw', $path or croak "$path: $!";
	my $set;
	seek $file, $position, SEEK_SET;
	read $file, $set, $length;
	# the CRC covers all behind it; base and greatest timestamp are at 27 and 35
	substr($set, 27, 16) = pack 'q> q>', $timestamp_ms, $timestamp_ms;
	substr($set, 17, 4) = pack 'N', _crc32c(substr $set, 21);
	seek $file, $position, SEEK_SET;
	print $file $set;
	close $file or croak "$path: $!";
	return;
}

# ---- a kafka_tool in the background ---------------------------------------

package KafkaBroker::Process;

use strict;
use warnings;

use Carp;
use IPC::Run ();

sub new
{
	my ($class, @call) = @_;
	my $self = bless { input => '', output => '', error => '', call => "@call" }, $class;
	$self->{timer} = IPC::Run::timeout(600);
	$self->{run} = IPC::Run::start(\@call, '<', \$self->{input}, '>', \$self->{output},
		'2>', \$self->{error}, $self->{timer});
	return $self;
}

# Waits until its output matches.
sub expect
{
	my ($self, $pattern) = @_;
	while ($self->{output} !~ $pattern)
	{
		croak "$self->{call} ended: $self->{error}" if !$self->{run}->pumpable;
		$self->{run}->pump;
	}
	return;
}

sub is_running
{
	my ($self) = @_;
	$self->{run}->pump_nb if $self->{run}->pumpable;
	return $self->{run}->pumpable ? 1 : 0;
}

# Waits for its end, which must be a good one; what it counted.
sub finish
{
	my ($self) = @_;
	# it may have run for longer than that until now
	$self->{timer}->start(600);
	$self->{run}->finish or croak "$self->{call} failed: $self->{error}";
	return KafkaBroker::_counts($self->{output});
}

sub commit
{
	my ($self) = @_;
	$self->{input} .= "commit\n";
	return $self->finish;
}

sub abort
{
	my ($self) = @_;
	$self->{input} .= "abort\n";
	return $self->finish;
}

sub kill9
{
	my ($self) = @_;
	$self->{run}->kill_kill(grace => 0);
	return;
}

1;
