# kill -9 of one of two workers, 20 times over 200,000 messages into a table without
# any index, whose batches are large and slow to write: none is missing, none is
# there twice.

use strict;
use warnings;

use Chaos;
use IngestCluster;
use KafkaBroker;
use PostgreSQL::Test::Utils;
use Test::More;

my $kafka = KafkaBroker->shared();
my $topic = $kafka->create_topic('kill9_two', partitions => 4);
my $produced = $kafka->produce($topic, count => 400_000);
my $node = IngestCluster->new('main');
my $chaos = Chaos->new(node => $node, pipeline => 'p', ends => $produced, blows => 20,
	more => sub { $kafka->produce($topic, count => 100_000, from => $_[0]) });
my %killed;

$node->connect_kafka($kafka);
# the trigger makes time within the batch, after its rows were written
$node->safe_psql('postgres', qq{
	CREATE TABLE target (id bigint, _partition int, _offset bigint);
	CREATE FUNCTION be_slow() RETURNS trigger LANGUAGE plpgsql
		AS \$\$ BEGIN PERFORM pg_sleep(0.03); RETURN NULL; END \$\$;
	CREATE TRIGGER slow AFTER INSERT ON target
		FOR EACH STATEMENT EXECUTE FUNCTION be_slow();
	SELECT kafka_ingest.create_pipeline('p', topic => '$topic', target => 'target',
		workers => 2, batch_max_messages => 500);
});

while ($chaos->await_next_moment)
{
	my $worker = $chaos->freeze_worker;
	$chaos->kill9($worker);
	$killed{"@{ $worker->{partitions} }"}++;
}
$chaos->check_blows(in_flight => 15);
is_deeply([ sort keys %killed ], [ '0 2', '1 3' ], 'both workers were hit, each with its own partitions');
$chaos->check_complete('target', $topic);
is(scalar(() = slurp_file($node->logfile) =~ /was terminated by signal 9/g), 20,
	'the server restarted its sessions 20 times');

done_testing();
