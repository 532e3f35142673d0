# Retention removes messages that a pipeline has not read, while it is paused and
# while it runs: it stops with the numbers, jumps nowhere, and seek() leads on, with
# a gap row.

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use Test::More;

my $kafka = KafkaBroker->shared();
my $topic = $kafka->create_topic('offset_lost', partitions => 2);
my $node = IngestCluster->new('main');
my $rows = 'SELECT _partition, count(*), count(DISTINCT _offset), min(_offset), max(_offset) FROM target GROUP BY 1 ORDER BY 1';

$kafka->produce($topic, count => 100, from => 100 * $_, partition => $_) foreach 0, 1;
$node->connect_kafka($kafka);
$node->safe_psql('postgres', qq{
	CREATE TABLE target (id bigint, _partition int, _offset bigint);
	SELECT kafka_ingest.create_pipeline('p', topic => '$topic', target => 'target');
});
$node->wait_for_position_sum('p', 200);
$node->safe_psql('postgres', q{SELECT kafka_ingest.pause('p')});

# 0 to 499 in partition 1, and the first 300 of them are removed
$kafka->produce($topic, count => 400, from => 1000, partition => 1);
$kafka->produce($topic, count => 50, from => 2000, partition => 0);
$kafka->delete_records($topic, 1, 300);
is($kafka->offsets($topic)->{1}{low}, 300, 'the partition begins at 300 now');
is($node->state('p'), 'paused', 'a paused pipeline is paused');

$node->safe_psql('postgres', q{SELECT kafka_ingest.resume('p')});
$node->wait_for_state('p', 'stopped/offset_lost');
my $detail = $node->safe_psql('postgres', 'SELECT detail FROM kafka_ingest.status');
like($detail, qr/"$topic" partition 1\b/, 'the detail names the partition');
like($detail, qr/\b300\b/, 'and its beginning');
like($detail, qr/\b100\b/, 'and the position');
is($node->safe_psql('postgres', 'SELECT next_offset FROM kafka_ingest.partition_status WHERE partition = 1'),
	'100', 'the position has not moved');
is($node->safe_psql('postgres', 'SELECT max(_offset) FROM target WHERE _partition = 1'), '99',
	'nothing behind the hole was loaded');

# resume() finds the same
$node->safe_psql('postgres', q{SELECT kafka_ingest.resume('p')});
$node->poll_until(q{SELECT count(*) FROM kafka_ingest.events WHERE event = 'stop' AND detail LIKE 'offset_lost%'}, '2');

$node->safe_psql('postgres', q{SELECT kafka_ingest.seek('p', start_offsets => '{"1": 300}')});
$node->wait_for_position_sum('p', 650);
is($node->safe_psql('postgres', $rows), "0|150|150|0|149\n1|300|300|0|499", 'after seek() the rest is loaded, once');
is($node->safe_psql('postgres', 'SELECT partition, from_offset, to_offset, reason FROM kafka_ingest.gaps'),
	'1|100|299|seek', 'and there is a gap row');
is($node->state('p'), 'running', 'running');

# The message that was applied last is removed, and nothing else: no loss.
$kafka->delete_records($topic, 1, 500);
$node->restart;
$kafka->produce($topic, count => 10, from => 3000, partition => 1);
$node->wait_for_position_sum('p', 660);
is($node->safe_psql('postgres', 'SELECT state, gaps FROM kafka_ingest.status'), 'running|1',
	'the removal of what was loaded is no loss');

is($node->safe_psql('postgres', $rows), "0|150|150|0|149\n1|310|310|0|509", 'everything is there, once');

# While it runs, but gets no further, since somebody holds a lock on the target: what
# it has fetched by then it loads, what retention removed before that is lost.
my $big = $kafka->create_topic('offset_lost_running');
$node->append_conf('postgresql.conf', 'kafka_ingest.worker_memory = 1MB');
$node->restart;
$node->safe_psql('postgres', qq{
	CREATE TABLE held (id bigint, _offset bigint);
	SELECT kafka_ingest.create_pipeline('q', topic => '$big', target => 'held');
});
$kafka->produce($big, count => 10);
$node->wait_for_position_sum('q', 10);
my $holder = $node->background_psql('postgres');
$holder->query_safe('BEGIN; LOCK TABLE held IN ACCESS EXCLUSIVE MODE');
$kafka->produce($big, count => 100_000, from => 10);
$node->wait_for_state('q', 'retrying/lock_timeout');
$kafka->delete_records($big, 0, 90_000);
$holder->query_safe('ROLLBACK');
$holder->quit;
$node->wait_for_state('q', 'stopped/offset_lost');
my $stood = $node->position_sum('q');
cmp_ok($stood, '<', 90_000, "while it runs: stopped at $stood");
is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT _offset), max(_offset) FROM held'),
	join('|', $stood, $stood, $stood - 1), 'all before it is loaded, nothing behind it');
$detail = $node->safe_psql('postgres', q{SELECT detail FROM kafka_ingest.status WHERE pipeline = 'q'});
like($detail, qr/"$big" partition 0\b.*\b90000\b/, 'the detail tells the beginning');
like($detail, qr/\b$stood\b/, 'and the position');
$node->safe_psql('postgres', q{SELECT kafka_ingest.seek('q', start_offsets => '{"0": 90000}')});
$node->wait_for_position_sum('q', 100_010);
is($node->safe_psql('postgres', q{SELECT from_offset, to_offset, reason FROM kafka_ingest.gaps WHERE pipeline = 'q'}),
	"$stood|89999|seek", 'seek() leaves a gap row');
is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT _offset) FROM held'),
	join('|', ($stood + 10_010) x 2), 'and the rest is loaded, once');

done_testing();
