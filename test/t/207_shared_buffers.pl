# A backlog that is larger than the shared buffers is loaded through a ring of
# few of them, as COPY does it, and leaves the other tables where they were.

use strict;
use warnings;

use IngestCluster;
use JSON::PP;
use KafkaBroker;
use Test::More;

my $messages = 120_000;
my $kafka = KafkaBroker->shared;
my $node = IngestCluster->new('main', conf => 'autovacuum = off');
$node->connect_kafka($kafka);

sub query
{
	my ($sql) = @_;
	return $node->safe_psql('postgres', $sql);
}

# How many pages of the other table have to be read, and how many are there.
sub pages_of_other
{
	my $plan = decode_json(query('EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT sum(id) FROM other'))->[0]{Plan};
	return @$plan{ 'Shared Read Blocks', 'Shared Hit Blocks' };
}

query('CREATE TABLE other AS SELECT n AS id, repeat(md5(n::text), 30) AS pad FROM generate_series(1, 10000) n');
query('SET max_parallel_workers_per_gather = 0; SELECT sum(id) FROM other');
my ($read, $hit) = pages_of_other();
cmp_ok($hit, '>', 1000, "another table has $hit pages");
is($read, 0, '... all of them in the shared buffers');

my $topic = $kafka->create_topic('backlog');
my $pad = 'x' x 1000;
$kafka->produce($topic, count => $messages, template => qq({"id":%d,"pad":"$pad"}));
query('CREATE TABLE target (id int, pad text)');
query("SELECT kafka_ingest.create_pipeline('p', topic => '$topic', target => 'target')");
is(query("SELECT write_method FROM kafka_ingest.pipelines WHERE pipeline = 'p'"), 'multi_insert', 'rows are written as COPY does');
$node->wait_for_position_sum('p', $messages);

cmp_ok(query("SELECT pg_relation_size('target') / (SELECT setting::int8 * 8192 FROM pg_settings WHERE name = 'shared_buffers')"),
	'>=', 1, 'what was loaded is larger than the shared buffers');
is((pages_of_other())[0], 0, 'the other table is still in the shared buffers');
is(query('SELECT count(*), sum(id::int8) FROM target'), join('|', $messages, $messages * ($messages - 1) / 2), 'every row is there');

done_testing();
