# kill -9 of the worker of a pipeline that has only statements, 20 times: what they
# write, and what they add up, is of each message once.

use strict;
use warnings;

use Chaos;
use IngestCluster;
use KafkaBroker;
use PostgreSQL::Test::Utils;
use Test::More;

my $kafka = KafkaBroker->shared();
my $topic = $kafka->create_topic('kill9_statement', partitions => 4);
my $produced = $kafka->produce($topic, count => 200_000, template => '{"id": %d}');
my $node = IngestCluster->new('main');
my $chaos = Chaos->new(node => $node, pipeline => 'p', ends => $produced, blows => 20,
	more => sub { $kafka->produce($topic, count => 50_000, from => $_[0], template => '{"id": %d}') });

$node->connect_kafka($kafka);
$node->safe_psql('postgres', qq{
	CREATE TABLE target (id bigint, _partition int, _offset bigint);
	CREATE TABLE sums (partition int PRIMARY KEY, n bigint, total numeric);
	SELECT kafka_ingest.create_pipeline('p', topic => '$topic', batch_max_messages => 20, statement => \$\$
		INSERT INTO target SELECT (value->>'id')::bigint, partition, message_offset FROM messages;
		INSERT INTO sums SELECT partition, count(*), sum((value->>'id')::bigint) FROM messages GROUP BY 1
			ON CONFLICT (partition) DO UPDATE SET n = sums.n + excluded.n, total = sums.total + excluded.total
	\$\$);
});

while ($chaos->await_next_moment)
{
	my $worker = $chaos->freeze_worker;
	$chaos->kill9($worker);
}
$chaos->check_blows(in_flight => 15);
$chaos->check_complete('target', $topic);
is($node->safe_psql('postgres', 'SELECT partition, n, total FROM sums ORDER BY 1'),
	$node->safe_psql('postgres', 'SELECT _partition, count(*), sum(id) FROM target GROUP BY 1 ORDER BY 1'),
	'sums over batches are of each message once');

done_testing();
