# Transactions of producers: only what was committed is loaded, the position moves
# over the control records, so the lag is 0 at the end; an open transaction holds
# back what comes after it, and nothing more.

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use Test::More;

my $kafka = KafkaBroker->shared();
my $topic = $kafka->create_topic('transactions');
my $node = IngestCluster->new('main');
my $offsets = 'SELECT kind, string_agg(_offset::text, $$ $$ ORDER BY _offset) FROM target GROUP BY 1 ORDER BY 1';

$node->connect_kafka($kafka);
$node->safe_psql('postgres', qq{
	CREATE TABLE target (id bigint, kind text, _offset bigint);
	SELECT kafka_ingest.create_pipeline('p', topic => '$topic', target => 'target');
});

# The position at this offset, which is seen to be the last stable one, and the lag 0.
sub wait_for_end
{
	my ($next_offset, $what) = @_;
	$node->poll_until('SELECT next_offset, stable_offset, lag FROM kafka_ingest.partition_status',
		"$next_offset|$next_offset|0", timeout => 60);
	pass("$what: the position is at $next_offset, the lag 0");
	return;
}

# 0 1 2 C 4 5 6 7 A 9 10 C
$kafka->transactions($topic, 'commit:3,abort:4,commit:2');
wait_for_end(12, 'committed, aborted, committed');
is($node->safe_psql('postgres', $offsets), 'commit|0 1 2 9 10', 'the committed messages are there');
is($node->safe_psql('postgres', 'SELECT state, lag, messages, loaded, gaps FROM kafka_ingest.status'),
	'running|0|5|5|0', 'status: lag 0, no gap');

# 12 13 A
$kafka->transactions($topic, 'abort:2');
wait_for_end(15, 'nothing but an aborted one');
is($node->safe_psql('postgres', $offsets), 'commit|0 1 2 9 10', 'nothing was loaded');

# 15 16 plain, then 17 18 19 open, then 20 21 plain
$kafka->transactions($topic, 'plain:2');
my $open = $kafka->open_transaction($topic, 3);
$kafka->transactions($topic, 'plain:2');
wait_for_end(17, 'an open transaction');
is($node->safe_psql('postgres', $offsets), "commit|0 1 2 9 10\nplain|15 16",
	'what comes before it is there, what comes after it is not');
# the ends of the log are heard once a second
$node->poll_until('SELECT stable_offset, high_offset FROM kafka_ingest.partition_status', '17|22');
pass('partition_status tells the last stable offset from the end');
is($node->safe_psql('postgres', q{SELECT kafka_ingest.wait_until_caught_up('p')}), 't',
	'wait_until_caught_up() does not wait for it');

# 22 C
$open->commit;
wait_for_end(23, 'after its commit');
is($node->safe_psql('postgres', $offsets),
	"commit|0 1 2 9 10\nopen|17 18 19\nplain|15 16 20 21", 'its messages are there, and the later ones');

# 23 24 open, aborted by a control record at 25
$open = $kafka->open_transaction($topic, 2);
$open->abort;
wait_for_end(26, 'one that was open and is aborted');
is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT _offset), max(_offset) FROM target'),
	'12|12|21', 'nothing of it was loaded, nothing is there twice');

# A worker that begins at a control record: nothing to load, and no lag either.
$node->restart;
wait_for_end(26, 'after a restart');
is($node->safe_psql('postgres', 'SELECT messages, loaded, ignored, gaps FROM kafka_ingest.status'),
	'12|12|0|0', 'the counts are those of the rows');

# All of it again, in one go and in tiny batches, which end among aborted messages
# and control records.
$node->safe_psql('postgres', qq{
	CREATE TABLE target_of_again (LIKE target);
	SELECT kafka_ingest.create_pipeline('again', topic => '$topic', target => 'target_of_again',
		batch_max_messages => 2);
});
$node->wait_for_position_sum('again', 26);
is($node->safe_psql('postgres', 'SELECT string_agg(t::text, $$ $$ ORDER BY _offset) FROM target_of_again t'),
	$node->safe_psql('postgres', 'SELECT string_agg(t::text, $$ $$ ORDER BY _offset) FROM target t'),
	'a pipeline that comes later loads the same');
$node->poll_until(q{SELECT state, lag FROM kafka_ingest.status WHERE pipeline = 'again'}, 'running|0');

done_testing();
