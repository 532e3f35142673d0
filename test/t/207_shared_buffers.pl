# A backlog that is larger than the shared buffers is loaded through a ring of
# few of them, as COPY does it, and leaves the other tables where they were; the
# ring outlives errors, and no table grows by more than its rows.

use strict;
use warnings;

use IngestCluster;
use JSON::PP;
use KafkaBroker;
use PostgreSQL::Test::Utils;
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

# Makes a pipeline, and waits until it has passed so many messages.  Options:
# batch (1000), the messages of one.
sub load
{
	my ($target, $topic, $count, %options) = @_;
	my $batch = $options{batch} // 1000;
	query("SELECT kafka_ingest.create_pipeline('$target', topic => '$topic', target => '$target', batch_max_messages => $batch)");
	is(query("SELECT write_method FROM kafka_ingest.pipelines WHERE pipeline = '$target'"), 'multi_insert', "$target is written as COPY does");
	$node->wait_for_position_sum($target, $count);
	return;
}

# ---- other tables --------------------------------------------------------------

# How many pages of the other table have to be read, and how many are there.
sub pages_of_other
{
	my $plan = decode_json(query('EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT sum(id) FROM other'))->[0]{Plan};
	return @$plan{ 'Shared Read Blocks', 'Shared Hit Blocks' };
}

query('CREATE TABLE other AS SELECT n AS id, repeat(md5(n::text), 30) AS pad FROM generate_series(1, 10000) n');
query('SELECT sum(id) FROM other');
my ($read, $hit) = pages_of_other();
cmp_ok($hit, '>', 1000, "another table has $hit pages");
is($read, 0, '... all of them in the shared buffers');

my $topic = $kafka->create_topic('backlog');
my $pad = 'x' x 1000;
$kafka->produce($topic, count => $messages, template => qq({"id":%d,"pad":"$pad"}));
query('CREATE TABLE target (id int, pad text)');
load('target', $topic, $messages);
cmp_ok(query("SELECT pg_relation_size('target') / (SELECT setting::int8 * 8192 FROM pg_settings WHERE name = 'shared_buffers')"),
	'>=', 1, 'what was loaded is larger than the shared buffers');
is((pages_of_other())[0], 0, 'the other table is still in the shared buffers');
is(query('SELECT count(*), sum(id::int8) FROM target'), join('|', $messages, $messages * ($messages - 1) / 2), 'every row is there');

# ---- what a table takes ----------------------------------------------------------

# After a backlog, one message more takes a page at most.
my $size = query(q{SELECT pg_relation_size('target')});
$kafka->produce($topic, count => 1, from => $messages, template => qq({"id":%d,"pad":"$pad"}));
$node->wait_for_position_sum('target', $messages + 1);
cmp_ok(query("SELECT pg_relation_size('target') - $size"), '<=', 8192, 'a row takes a page at most');

# A partition with one row among thousands of another has one page.
my $by_id = $kafka->create_topic('parts');
$kafka->produce($by_id, count => 10_000, template => qq({"id":%d,"pad":"$pad"}));
query(q{CREATE TABLE parts (id int, pad text) PARTITION BY RANGE (id);
	CREATE TABLE parts_most PARTITION OF parts FOR VALUES FROM (0) TO (9999);
	CREATE TABLE parts_last PARTITION OF parts FOR VALUES FROM (9999) TO (10000)});
load('parts', $by_id, 10_000);
is(query('SELECT count(*) FROM parts_most'), 9999, 'a partition has most of the rows');
is(query(q{SELECT count(*), pg_relation_size('parts_last') FROM parts_last}), '1|8192', 'another has one, in one page');

# ---- errors ----------------------------------------------------------------------

# What raises finds rows of the same piece in the table, where each is put at
# once since the CHECK's function might look at them: the arrays' input function
# on PostgreSQL 15, and that function on all versions.
my $bad = $kafka->create_topic('bad');
my @values = map { { value => qq({"id":$_,"list":"{$_}"}) } } 0 .. 4999;
$values[$_]{value} = qq({"id":$_,"list":"{no number}"}) foreach (999, 2500);
$values[$_]{value} = qq({"id":-$_,"list":"{0}"}) foreach (1700, 4999);
$kafka->produce_messages($bad, @values);
query(q{CREATE FUNCTION is_good(id int) RETURNS boolean LANGUAGE plpgsql AS $$
	BEGIN IF id < 0 THEN RAISE check_violation USING MESSAGE = 'it is negative'; END IF; RETURN true; END $$;
	CREATE TABLE lists (id int, list int[], CHECK (is_good(id)))});
load('lists', $bad, 5000, batch => 2500);
is(query('SELECT count(*), count(DISTINCT id), sum(id) FROM lists'), join('|', 4996, 4996, 4999 * 2500 - 999 - 1700 - 2500 - 4999),
	'the good rows of batches with bad ones are there');
is(query(q{SELECT string_agg(message_offset::text, ' ' ORDER BY message_offset) FROM kafka_ingest.dead_letters WHERE pipeline = 'lists'}),
	'999 1700 2500 4999', '... and the bad ones are dead letters');
unlike(slurp_file($node->logfile), qr/refcount leak|PANIC|terminated by signal/, 'no buffer stayed pinned');

done_testing();
