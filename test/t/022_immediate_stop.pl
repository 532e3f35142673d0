# The whole server is stopped in mode immediate, 20 times over 200,000 messages, with
# a batch in flight: none is missing, none is there twice.

use strict;
use warnings;

use Chaos;
use IngestCluster;
use KafkaBroker;
use Test::More;
use Time::HiRes qw(usleep);

my $kafka = KafkaBroker->shared();
my $topic = $kafka->create_topic('immediate', partitions => 4);
my $produced = $kafka->produce($topic, count => 400_000);
my $node = IngestCluster->new('main');
my $chaos = Chaos->new(node => $node, pipeline => 'p', ends => $produced, blows => 20);

$node->connect_kafka($kafka);
$node->safe_psql('postgres', qq{
	CREATE TABLE target (id bigint, _partition int, _offset bigint);
	SELECT kafka_ingest.create_pipeline('p', topic => '$topic', target => 'target',
		batch_max_messages => 6);
});

# Whether SIGQUIT, which is what mode immediate sends to everybody, waits for the
# stopped process.
sub has_sigquit
{
	my ($pid) = @_;
	open my $status, '<', "/proc/$pid/status" or return 0;
	local $/;
	my $text = <$status>;
	close $status;
	my $pending = 0;
	$pending |= hex substr($_, -8) foreach $text =~ /^(?:SigPnd|ShdPnd):\s*(\w+)/mg;
	return $pending & (1 << 2);
}

# The worker gets the signal before it goes on, so it goes nowhere any more.
sub stop_immediately
{
	my ($pid) = @_;
	my $postmaster = $node->{_pid};
	kill 'QUIT', $postmaster or die "cannot stop the server: $!";
	my $tries = 0;
	until (has_sigquit($pid))
	{
		die 'the worker got no SIGQUIT' if $tries++ > 4000;
		usleep(1000);
	}
	kill 'CONT', $pid;
	$tries = 0;
	while (-e $node->data_dir . '/postmaster.pid')
	{
		die 'the server does not stop' if $tries++ > 30_000;
		usleep(1000);
	}
	$node->_update_pid(0);
	return;
}

while ($chaos->await_next_moment)
{
	my $worker = $chaos->freeze_worker;
	stop_immediately($worker->{pid});
	$node->start;
	$chaos->count_blow($worker);
}
$chaos->check_blows(in_flight => 15);
$chaos->check_complete('target', $topic);

done_testing();
