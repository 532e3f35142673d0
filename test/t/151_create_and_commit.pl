# create_pipeline takes effect at commit, within about a second, and not at all
# after a rollback.

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $kafka = KafkaBroker->shared;
my $node = IngestCluster->new('main');
my $topic = $kafka->create_topic('commit', partitions => 2);
my $workers = q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'kafka_ingest worker'};

$kafka->produce($topic, count => 1000);
$node->connect_kafka($kafka);
$node->safe_psql('postgres', 'CREATE TABLE target (id bigint, _partition int, _offset bigint)');

# ---- rolled back ---------------------------------------------------------------------

my $create = "SELECT kafka_ingest.create_pipeline('undone', topic => '$topic', target => 'target');";
$node->safe_psql('postgres', "BEGIN; $create ROLLBACK");
$node->safe_psql('postgres', "BEGIN; SAVEPOINT s; $create ROLLBACK TO s; COMMIT");
$node->psql('postgres', "BEGIN; $create SELECT 1/0; COMMIT");
is( $node->safe_psql('postgres', q{SELECT count(*) FROM kafka_ingest.pipeline
		UNION ALL SELECT count(*) FROM kafka_ingest.position
		UNION ALL SELECT count(*) FROM kafka_ingest.gap
		UNION ALL SELECT count(*) FROM kafka_ingest.event
		UNION ALL SELECT count(*) FROM kafka_ingest.status}),
	"0\n0\n0\n0\n0", 'after a rollback nothing is left');

# ---- committed: how long until the first row is there? -------------------------------------

my @seconds;
for my $round (1 .. 5)
{
	$node->safe_psql('postgres', "CREATE TABLE t$round (id bigint, _partition int, _offset bigint)");
	# one session waits, so that starting psql is not measured; it looks every 10 ms
	my ($ms) = $node->safe_psql('postgres', qq{
		SET client_min_messages = warning;
		SELECT kafka_ingest.create_pipeline('p$round', topic => '$topic', target => 't$round');
		DO \$\$
		DECLARE
			committed timestamptz := clock_timestamp();
		BEGIN
			LOOP
				IF EXISTS (SELECT FROM t$round) THEN EXIT; END IF;
				IF clock_timestamp() > committed + interval '60 s' THEN RAISE 'no row in 60 s'; END IF;
				COMMIT;
				PERFORM pg_sleep(0.01);
			END LOOP;
			PERFORM set_config('test.ms', extract(epoch FROM (clock_timestamp() - committed) * 1000)::int::text, false);
		END \$\$;
		SELECT 'ms=' || current_setting('test.ms')}) =~ /ms=(\d+)/;
	push @seconds, $ms / 1000;
}
my ($best, $median) = (sort { $a <=> $b } @seconds)[ 0, 2 ];
note("from commit to the first row: @seconds s");
# on a machine of its own: 0.1 to 0.3 s
cmp_ok($best, '<', 1, "from commit to the first row within a second (best: $best s)");
cmp_ok($median, '<', 3, "and usually (median: $median s)");
foreach my $round (1 .. 5)
{
	# the other partition may come with the next answer of the broker
	$node->wait_for_position_sum("p$round", 1000);
	$node->ledger_check("t$round", $topic, { 0 => 500, 1 => 500 });
}

# Nobody began to load what was rolled back: the launcher has been awake since.
is($node->safe_psql('postgres', $workers), 5, 'one worker for each pipeline that was committed');
is($node->safe_psql('postgres', 'SELECT count(*) FROM target'), 0, 'none for what was rolled back');

# ---- drop and pause, too ---------------------------------------------------------------

$node->safe_psql('postgres', q{BEGIN; SELECT kafka_ingest.drop_pipeline('p1'); ROLLBACK});
$node->safe_psql('postgres', q{BEGIN; SELECT kafka_ingest.pause(); ROLLBACK});
$kafka->produce($topic, count => 1000, from => 1000);
$node->wait_for_position_sum('p1', 2000);
pass('a drop and a pause that are rolled back do nothing');
$node->safe_psql('postgres', q{SELECT kafka_ingest.drop_pipeline('p1')});
$node->poll_until($workers, '4');
pass('a drop that is committed ends the worker');
is($node->safe_psql('postgres', q{SELECT event FROM kafka_ingest.events WHERE pipeline = 'p1' ORDER BY at}),
	"create\ndrop", 'events tell what happened');

# ---- the broker is asked later ------------------------------------------------------------

$node->safe_psql('postgres', q{
	SELECT kafka_ingest.create_connection('nowhere', brokers => '127.0.0.1:1');
	CREATE TABLE early (id bigint, _partition int, _offset bigint);
	SELECT kafka_ingest.create_pipeline('early', topic => 'early', target => 'early', connection => 'nowhere')});
$node->wait_for_state('early', 'reconnecting/broker_unreachable');
my $brokers = $kafka->brokers;
$node->safe_psql('postgres', "ALTER SERVER nowhere OPTIONS (SET brokers '$brokers')");
$node->wait_for_state('early', 'reconnecting/topic_missing');
my $name = $kafka->unique_name('early');
$node->safe_psql('postgres', qq{SELECT kafka_ingest.drop_pipeline('early');
	SELECT kafka_ingest.create_pipeline('early', topic => '$name', target => 'early')});
$node->wait_for_state('early', 'reconnecting/topic_missing');
$kafka->create_topic('early', name => $name, partitions => 2);
$kafka->produce($name, count => 1000);
$node->wait_for_position_sum('early', 1000);
$node->ledger_check('early', $name, { 0 => 500, 1 => 500 },
	name => 'a topic that came after its pipeline is loaded');

$node->stop;
done_testing();
