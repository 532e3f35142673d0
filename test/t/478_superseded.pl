# A dead letter of an upsert whose key had a later message in its partition is
# superseded: a retry neither overwrites something newer with it nor brings back
# what was deleted.

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use PostgreSQL::Test::Utils;
use Test::More;

my $kafka = KafkaBroker->shared;
my $node = IngestCluster->new('main');
$node->connect_kafka($kafka);

my $topic = $kafka->create_topic('superseded', partitions => 2);

sub query
{
	return $node->safe_psql('postgres', $_[0]);
}

sub produce
{
	my ($partition, $key, $value) = @_;
	$kafka->produce_messages($topic, { partition => $partition, key => $key, value => $value });
	return;
}

sub caught_up
{
	is(query(q{SELECT kafka_ingest.wait_until_caught_up('p')}), 't', 'caught up');
	return;
}

# key and superseded of the open letters, in order of their places
sub letters
{
	return query(q{SELECT string_agg(coalesce(convert_from(key, 'UTF8'), '-') || CASE WHEN superseded THEN '!' ELSE '' END,
		' ' ORDER BY partition, message_offset) FROM kafka_ingest.dead_letters});
}

sub rows
{
	return query(q{SELECT coalesce(string_agg(id || '=' || coalesce(v::text, 'null'), ' ' ORDER BY id), '') FROM target});
}

# ---- within one batch ---------------------------------------------------------------------

my $bad = '{"id": "%s", "v": "no number"}';
$kafka->produce_messages($topic,
	{ key => 'a', value => '{"id": "a", "v": 1}' },
	(map { { key => $_, value => sprintf $bad, $_ } } qw(b c d e)),
	{ key => 'b', value => '{"id": "b", "v": 2}' },
	{ key => 'c', value => undef },
	{ key => 'e', value => sprintf $bad, 'e' },
	{ key => undef, value => sprintf $bad, 'f' });
query(qq{CREATE TABLE target (id text PRIMARY KEY, v int);
	SELECT kafka_ingest.create_pipeline('p', topic => '$topic', target => 'target', mode => 'upsert')});
caught_up();
is(letters(), 'b! c! d e! e -', 'a later message of the key supersedes, be it a row, a tombstone or bad itself');
is(rows(), 'a=1 b=2', 'the good ones are in');

# ---- later batches, other partitions, a new process -----------------------------------------

produce(1, 'd', '{"id": "d1", "v": 1}');
caught_up();
is(letters(), 'b! c! d e! e -', 'not one of another partition');
my $pid = $node->worker_pid('p');
query("SELECT pg_terminate_backend($pid)");
$node->poll_until(q{SELECT pids[1] FROM kafka_ingest.status}, qr/^(?!$pid$)\d+$/);
produce(0, 'd', '{"id": "d", "v": 4}');
caught_up();
is(letters(), 'b! c! d! e! e -', 'another process marks, too');

# ---- retry ----------------------------------------------------------------------------------

query(q{SELECT kafka_ingest.alter_pipeline('p', columns => '{"id": "$.id", "v": null}')});
my ($status, $stdout, $notice) = (0, '', '');
$status = $node->psql('postgres', q{SELECT * FROM kafka_ingest.retry_dead_letters('p')}, stdout => \$stdout, stderr => \$notice);
is("$status $stdout", '0 1|1|4|0', 'only the newest of its key is retried');
like($notice, qr/1 dead letter of pipeline "p" was left alone/, 'what has no key is left alone, and said so');
is(letters(), 'b! c! d! e! -', 'the superseded ones stay');
is(rows(), 'a=1 b=2 d=4 d1=1 e=null', 'nothing newer is overwritten, nothing deleted comes back');
is(query(q{SELECT * FROM kafka_ingest.retry_dead_letters('p', allow_stale => true)}), '1|1|4|0', 'allow_stale takes what has no key');
is(rows(), 'a=1 b=2 d=4 d1=1 e=null f=null', 'but never what is known to be superseded');
is(query(q{SELECT messages, loaded, dead_letters, dead_letters_total FROM kafka_ingest.status}), '11|5|4|6', 'the counts only grow');
is(query(q{SELECT kafka_ingest.discard_dead_letters('p')}), 4, 'superseded letters can be discarded');
is(query(q{SELECT sum(to_offset - from_offset + 1) FROM kafka_ingest.gaps}), 4, 'and leave gaps');

# ---- another mode before ----------------------------------------------------------------------

query(q{SELECT kafka_ingest.alter_pipeline('p', mode => 'append', columns => '{"id": "$.id", "v": "$.v"}')});
produce(0, 'g', sprintf $bad, 'g');
caught_up();
query(q{SELECT kafka_ingest.alter_pipeline('p', mode => 'upsert')});
is(query(q{SELECT * FROM kafka_ingest.retry_dead_letters('p')}), '0|0|0|0', 'letters of another mode may be stale: left alone');
is(query(q{SELECT * FROM kafka_ingest.retry_dead_letters('p', allow_stale => true)}), '1|0|0|1', 'unless that is allowed');

$node->stop;
done_testing();
