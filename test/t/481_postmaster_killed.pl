# kill -9 of the postmaster alone, while there is a backlog for minutes: its workers
# end after their batch, so that the server can start again, and nothing is missing
# or there twice.

use strict;
use warnings;

use Chaos;
use IngestCluster;
use KafkaBroker;
use Test::More;

my $kafka = KafkaBroker->shared();
my $topic = $kafka->create_topic('postmaster_killed', partitions => 4);
my $produced = $kafka->produce($topic, count => 400_000);
my $node = IngestCluster->new('main');
my $chaos = Chaos->new(node => $node, pipeline => 'p', ends => { map { $_ => 100_000 } 0 .. 3 }, blows => 2);

is_deeply($produced, $chaos->{ends}, 'everything was produced');
$node->connect_kafka($kafka);
# slow without ever waiting, since whoever waits notices
$node->safe_psql('postgres', qq{
	CREATE TABLE target (id bigint, _partition int, _offset bigint);
	CREATE FUNCTION be_slow() RETURNS trigger LANGUAGE plpgsql
		AS \$\$ BEGIN FOR i IN 1 .. 2000000 LOOP NULL; END LOOP; RETURN NULL; END \$\$;
	CREATE TRIGGER slow AFTER INSERT ON target
		FOR EACH STATEMENT EXECUTE FUNCTION be_slow();
	SELECT kafka_ingest.create_pipeline('p', topic => '$topic', target => 'target',
		workers => 2, batch_max_messages => 100);
});

# orphans are given much less time than the backlog would take
foreach (1 .. 2)
{
	my $position = $node->position_sum('p');
	$node->wait_for_position_sum('p', $position + 200);
	my ($pid) = $node->worker_pids('p');
	$chaos->kill9_postmaster({ pid => $pid, next_offset => $position + 200, end => 400_000 });
}
$chaos->check_blows;
cmp_ok($node->position_sum('p'), '<', 200_000, 'most of the backlog is still there');

$node->safe_psql('postgres', q{
	DROP TRIGGER slow ON target;
	SELECT kafka_ingest.alter_pipeline('p', batch_max_messages => 10000)});
$chaos->check_complete('target', $topic);

done_testing();
