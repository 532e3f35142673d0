# partitions => names the partitions that are read, also after they have positions:
# those left out stand still and are not counted; named ones are read once they exist.

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use PostgreSQL::Test::Utils;
use Test::More;

my $kafka = KafkaBroker->shared;
my $node = IngestCluster->new('main');

sub sql { my ($sql) = @_; return $node->safe_psql('postgres', $sql) }

# "partition=next_offset ...", as it is stored
sub positions
{
	my ($pipeline) = @_;
	return sql("SELECT string_agg(partition || '=' || next_offset, ' ' ORDER BY partition)
		FROM kafka_ingest.partition_status WHERE pipeline = '$pipeline'");
}

# So many messages into each of the first partitions.
sub produce_each
{
	my ($t, $partitions, $count) = @_;
	$kafka->produce($t, count => $count, partition => $_) foreach 0 .. $partitions - 1;
	return;
}

sub ok_caught_up
{
	my ($pipeline) = @_;
	is(sql("SELECT kafka_ingest.wait_until_caught_up('$pipeline', '60s')"), 't', "$pipeline is caught up");
	return;
}

$node->connect_kafka($kafka);

# ---- left out after it was loaded ----------------------------------------------------------

my $topic = $kafka->create_topic('left_out', partitions => 2);
produce_each($topic, 2, 500);
sql(qq{
	CREATE TABLE one (id bigint, _partition int, _offset bigint);
	CREATE TABLE two (LIKE one);
	SELECT kafka_ingest.create_pipeline('one', topic => '$topic', target => 'one');
	SELECT kafka_ingest.create_pipeline('two', topic => '$topic', target => 'two', workers => 2)});
foreach my $p (qw(one two))
{
	ok_caught_up($p);
	sql("SELECT kafka_ingest.alter_pipeline('$p', partitions => '{1}')");
}
produce_each($topic, 2, 300);
foreach my $p (qw(one two))
{
	ok_caught_up($p);
	is(positions($p), '0=500 1=800', "$p: only partition 1 goes on");
	is(sql("SELECT count(*) FROM $p"), 1300, "$p: with its rows");
	is( $node->poll_until("SELECT lag, partitions FROM kafka_ingest.status WHERE pipeline = '$p'", qr/^\d/),
		'0|1', "$p: lag counts only partition 1");
	is($node->state($p), 'running', "$p: runs");
}
# run() by hand, too
sql(q{SELECT kafka_ingest.pause('one')});
produce_each($topic, 2, 100);
is(sql(q{CALL kafka_ingest.run('one')}), '100|0|t', 'run() reads only partition 1');
is(positions('one'), '0=500 1=900', 'and moves only its position');
sql(q{SELECT kafka_ingest.resume('one')});

sql("SELECT kafka_ingest.alter_pipeline('$_', reset => '{partitions}')") foreach qw(one two);
foreach my $p (qw(one two))
{
	ok_caught_up($p);
	is(positions($p), '0=900 1=900', "$p: reset, partition 0 goes on");
	$node->ledger_check($p, $topic, { 0 => 900, 1 => 900 }, name => "$p: exactly where it stood");
	is( $node->poll_until("SELECT lag, partitions, gaps, messages FROM kafka_ingest.status WHERE pipeline = '$p'", qr/^\d/),
		'0|2|0|1800', "$p: both are counted again");
}

# ---- named before it exists -------------------------------------------------------------------

my $growing = $kafka->create_topic('growing');
my $missing = $kafka->create_topic('missing');
$kafka->produce($growing, count => 300);
sql(qq{
	CREATE TABLE early (LIKE one);
	CREATE TABLE late (LIKE one);
	SELECT kafka_ingest.create_pipeline('early', topic => '$growing', target => 'early', partitions => '{0,1}');
	SELECT kafka_ingest.create_pipeline('late', topic => '$growing', target => 'late', partitions => '{1,0}', start_from => 'latest');
	CREATE TABLE missing (LIKE one);
	SELECT kafka_ingest.create_pipeline('missing', topic => '$missing', target => 'missing', partitions => '{1}')});
ok_caught_up($_) foreach qw(early late);
is(positions('early'), '0=300', 'the partition that is there is loaded');
is($node->state('early'), 'running', 'and the one that is not is no trouble');
my $pid = $node->worker_pid('early');
$kafka->produce($missing, count => 100);
$node->wait_for_state('missing', 'running');
pass('nor when none of those named is there');
$kafka->create_partitions($growing, 3);
$kafka->create_partitions($missing, 2);
$kafka->produce($missing, count => 100, partition => 1);
produce_each($growing, 3, 250);
foreach my $p (qw(early late))
{
	$node->wait_for_position_sum($p, 800);
	is(positions($p), '0=550 1=250', "$p: the named partition is read when it appears, the other new one is not");
}
$node->ledger_check('early', $growing, { 0 => 550, 1 => 250 });
$node->ledger_check('late', $growing, { 0 => 250, 1 => 250 },
	name => 'start_from latest: nothing of the partition that appeared is left out');
is($node->worker_pid('early'), $pid, 'the same process reads it');
$node->wait_for_position_sum('missing', 100);
$node->ledger_check('missing', $missing, { 1 => 100 });

# ---- one topic, two pipelines --------------------------------------------------------------------

my $shared = $kafka->create_topic('halves', partitions => 4);
sql(qq{
	CREATE TABLE halves (LIKE one, pipeline text);
	SELECT kafka_ingest.create_pipeline('even', topic => '$shared', target => 'halves', partitions => '{0,2}', workers => 2);
	SELECT kafka_ingest.create_pipeline('odd', topic => '$shared', target => 'halves', partitions => '{1,3}')});
my $producer = $kafka->produce_background($shared, count => 8000, rate => 4000, set => 100);
$node->wait_for_position_sum($_, 500) foreach qw(even odd);
sql(q{SELECT kafka_ingest.pause(); SELECT kafka_ingest.resume()});
my $produced = $producer->finish;
ok_caught_up($_) foreach qw(even odd);
$node->ledger_check('halves', $shared, $produced, name => 'two pipelines, each with half of the partitions: together all, once');
like(positions('even'), qr/^0=\d+ 2=\d+$/, 'each has positions of its own partitions only');
is( sql(q{SELECT pipeline, messages, partitions FROM kafka_ingest.status WHERE pipeline IN ('even', 'odd') ORDER BY 1}),
	"even|4000|2\nodd|4000|2", 'and counts of its own');

$node->stop;
done_testing();
