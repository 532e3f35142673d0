# kill -9 of the broker, 6 times while 200,000 messages are produced and loaded, with
# batches in flight: none is missing, none is there twice.

use strict;
use warnings;

use Chaos;
use IngestCluster;
use KafkaBroker;
use Test::More;

my $kafka = KafkaBroker->new();
my $topic = $kafka->create_topic('broker_kill9', partitions => 4);
my $first = $kafka->produce($topic, count => 100_000);
# with little memory hardly anything is fetched ahead, so a dead broker matters
my $node = IngestCluster->new('main', conf => 'kafka_ingest.worker_memory = 1MB');
my $chaos = Chaos->new(node => $node, pipeline => 'p', blows => 6,
	ends => { map { $_ => 50_000 } 0 .. 3 });

$node->connect_kafka($kafka);
$node->safe_psql('postgres', qq{
	CREATE TABLE target (id bigint, _partition int, _offset bigint);
	CREATE FUNCTION be_slow() RETURNS trigger LANGUAGE plpgsql
		AS \$\$ BEGIN PERFORM pg_sleep(0.02); RETURN NULL; END \$\$;
	CREATE TRIGGER slow AFTER INSERT ON target
		FOR EACH STATEMENT EXECUTE FUNCTION be_slow();
	SELECT kafka_ingest.create_pipeline('p', topic => '$topic', target => 'target',
		batch_max_messages => 500);
});
my $producer = $kafka->produce_background($topic, count => 100_000, from => 100_000,
	rate => 5000);

while ($chaos->await_next_moment)
{
	my $worker = $chaos->freeze_worker;
	$kafka->kill9;
	kill 'CONT', $worker->{pid};
	$chaos->count_blow($worker);
	# the worker lives on, so do not wait for another one
	$chaos->{gone} = [];
	$node->wait_for_state('p', 'reconnecting/broker_unreachable') if $chaos->{struck} == 1;
	$kafka->start;
}
$chaos->check_blows(in_flight => 4);

my $second = $producer->finish;
is_deeply({ map { $_ => $first->{$_} + $second->{$_} } keys %$first }, $chaos->{ends},
	'everything was produced, once');
$chaos->check_complete('target', $topic);
is($node->state('p'), 'running', 'running after the last restart');

done_testing();
