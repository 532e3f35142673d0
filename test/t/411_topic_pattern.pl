# A pipeline that reads all topics that match a pattern: exactly once under kill -9 of
# one of two workers, and topics that appear while it runs join from offset 0, whatever
# start_from says, with what was produced before they were noticed.

use strict;
use warnings;

use Chaos;
use IngestCluster;
use KafkaBroker;
use Test::More;

my $kafka = KafkaBroker->shared();
my $node = IngestCluster->new('main');
my $prefix = $kafka->unique_name('pattern');
my $each = 50_000;
my %ends;

foreach my $i (0 .. 2)
{
	my $topic = $kafka->create_topic('', name => "$prefix.$i.in", partitions => 2);
	%ends = (%ends, %{ $kafka->produce_by_topic($topic, count => $each, from => $i * $each) });
}

# what the pattern does not mean: another ending, and Kafka's own
foreach my $other ("$prefix.3.out", "__$prefix.4.in", "other.$prefix.4.in")
{
	$kafka->create_topic('', name => $other);
	$kafka->produce($other, count => 10);
}

# ---- kill -9 of one of two workers --------------------------------------------

my $chaos = Chaos->new(node => $node, pipeline => 'p', ends => \%ends, blows => 6, by_topic => 1,
	more => sub { $kafka->produce_by_topic("$prefix.0.in", count => $each, from => $_[0]) });
$node->connect_kafka($kafka);
$node->safe_psql('postgres', qq{
	CREATE TABLE target (id bigint, _topic text, _partition int, _offset bigint);
	CREATE TABLE target_of_latest (LIKE target);
	CREATE TABLE target_of_run (LIKE target);
	CREATE TABLE target_of_own (LIKE target);
	CREATE TABLE target_of_all (LIKE target);
	CREATE FUNCTION be_slow() RETURNS trigger LANGUAGE plpgsql
		AS \$\$ BEGIN PERFORM pg_sleep(0.03); RETURN NULL; END \$\$;
	CREATE TRIGGER slow AFTER INSERT ON target
		FOR EACH STATEMENT EXECUTE FUNCTION be_slow();
	SELECT kafka_ingest.create_pipeline('p', topic => '$prefix.*.in', target => 'target',
		workers => 2, batch_max_messages => 500);
});
while ($chaos->await_next_moment)
{
	my $worker = $chaos->freeze_worker;
	$chaos->kill9($worker);
}
$chaos->check_blows(in_flight => 4);
$node->wait_until_up;
$node->safe_psql('postgres', 'DROP TRIGGER slow ON target');
$chaos->check_complete('target');
my $all = $chaos->total;

# ---- topics that join ------------------------------------------------------------

$node->safe_psql('postgres', qq{
	SELECT kafka_ingest.create_pipeline('latest', topic => '$prefix.*.in', target => 'target_of_latest', start_from => 'latest');
});
$node->wait_for_position_sum('latest', $all);
my $pids = $node->safe_psql('postgres', q{SELECT pids FROM kafka_ingest.status WHERE pipeline = 'p'});
my $new = $kafka->create_topic('', name => "$prefix.new.in", partitions => 3);
my $produced = $kafka->produce($new, count => 900);
foreach my $case ([ 'p', 'target' ], [ 'latest', 'target_of_latest' ])
{
	my ($pipeline, $table) = @$case;
	$node->wait_for_position_sum($pipeline, $all + 900);
	$node->ledger_check($table, $new, $produced, topic_column => 1,
		name => "$pipeline: what was there before the topic was noticed is loaded");
	is($node->safe_psql('postgres',
			"SELECT event, detail FROM kafka_ingest.events WHERE pipeline = '$pipeline' AND event LIKE 'topic%'"),
		qq(topic_joined|topic "$new" is read from offset 0 on), "$pipeline: one event");
}
is($node->safe_psql('postgres', q{SELECT pids FROM kafka_ingest.status WHERE pipeline = 'p'}), $pids,
	'the same processes read it');
is($node->safe_psql('postgres', q{SELECT count(*) FROM target_of_latest WHERE _topic <> '} . $new . q{'}), '0',
	'start_from latest: nothing old of the others');

# a partition more of a topic that matches
$kafka->create_partitions($new, 4);
$kafka->produce($new, count => 100, partition => 3, from => 5000);
$node->wait_for_position_sum('p', $all + 1000);
$node->ledger_check('target', $new, { %$produced, 3 => 100 }, topic_column => 1,
	name => 'a new partition of a topic that matches');

# ---- run() -----------------------------------------------------------------------

is($node->safe_psql('postgres', qq{
		SELECT kafka_ingest.create_pipeline('run', topic => '$prefix.*.in,$prefix.3.out', target => 'target_of_run', paused => true);
		CALL kafka_ingest.run('run');
	}) =~ s/^\n//r, sprintf('%d|0|t', $all + 1010), 'run() loads all topics of patterns and names');
is($node->safe_psql('postgres', q{SELECT count(DISTINCT _topic), count(*), count(DISTINCT (_topic, _partition, _offset)) FROM target_of_run}),
	sprintf('5|%d|%d', $all + 1010, $all + 1010), 'each message once');

# ---- Kafka's own topics, and patterns nothing matches ------------------------------

$node->safe_psql('postgres', qq{
	SELECT kafka_ingest.create_pipeline('all', topic => '*$prefix.4.*', target => 'target_of_all');
	SELECT kafka_ingest.create_pipeline('own', topic => '__$prefix.*', target => 'target_of_own');
	SELECT kafka_ingest.create_pipeline('none', topic => '$prefix.none.*', target => 'target_of_own');
});
$node->wait_for_position_sum($_, 10) foreach qw(all own);
is($node->safe_psql('postgres', q{SELECT string_agg(DISTINCT _topic, ' ') FROM target_of_all}), "other.$prefix.4.in",
	'a pattern does not mean topics whose names begin with __');
is($node->safe_psql('postgres', q{SELECT string_agg(DISTINCT _topic, ' ') FROM target_of_own}), "__$prefix.4.in",
	'unless it begins so, too');
$node->wait_for_state('none', 'running');
is($node->safe_psql('postgres', q{SELECT partitions, lag, detail FROM kafka_ingest.status WHERE pipeline = 'none'}),
	qq(0||No topic matches "$prefix.none.*" yet.), 'a pattern that nothing matches is no trouble, and is told');
is($node->safe_psql('postgres', q{SELECT pipeline, severity FROM kafka_ingest.check() WHERE code = 'no_topic'}), 'none|warning', '... by check(), too');
$kafka->create_topic('', name => "$prefix.none.1");
$kafka->produce("$prefix.none.1", count => 5);
$node->wait_for_position_sum('none', 5);
is($node->safe_psql('postgres', q{SELECT detail FROM kafka_ingest.status WHERE pipeline = 'none'}), '', 'and then something does');

done_testing();
