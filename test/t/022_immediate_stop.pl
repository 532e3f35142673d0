# The whole server is stopped in mode immediate, 20 times over 400,000 messages, with
# a batch in flight: none is missing, none is there twice.

use strict;
use warnings;

use Chaos;
use IngestCluster;
use KafkaBroker;
use Test::More;

my $kafka = KafkaBroker->shared();
my $topic = $kafka->create_topic('immediate', partitions => 4);
my $produced = $kafka->produce($topic, count => 400_000);
my $node = IngestCluster->new('main');
my $chaos = Chaos->new(node => $node, pipeline => 'p', ends => $produced, blows => 20,
	more => sub { $kafka->produce($topic, count => 100_000, from => $_[0]) });

$node->connect_kafka($kafka);
$node->safe_psql('postgres', qq{
	CREATE TABLE target (id bigint, _partition int, _offset bigint);
	SELECT kafka_ingest.create_pipeline('p', topic => '$topic', target => 'target',
		batch_max_messages => 6);
});

while ($chaos->await_next_moment)
{
	$chaos->stop_immediately($chaos->freeze_worker);
}
$chaos->check_blows(in_flight => 15);
$chaos->check_complete('target', $topic);

done_testing();
