# max_messages_per_second holds over all workers, without a burst of more than a second's
# worth, in batches of a sensible size; and what it slows down still arrives once.

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use Test::More;
use Time::HiRes qw(time usleep);

my $kafka = KafkaBroker->shared();
my $node = IngestCluster->new('main');
$node->connect_kafka($kafka);
$node->safe_psql('postgres', 'CREATE TABLE target (id bigint, _topic text, _partition int, _offset bigint)');

foreach my $workers (1, 2)
{
	my $name = "rate_$workers";
	my $topic = $kafka->create_topic($name, partitions => 2);
	my $produced = $kafka->produce($topic, count => 2000);
	my $highest = 0;

	$node->safe_psql('postgres', "SELECT kafka_ingest.create_pipeline('$name', topic => '$topic', target => 'target',
		workers => $workers, max_messages_per_second => 500)");
	my $started = time;
	while (1)
	{
		my ($done, $rate) = split /\|/, $node->safe_psql('postgres',
			"SELECT messages, messages_per_second FROM kafka_ingest.status WHERE pipeline = '$name'");
		$highest = $rate if $rate > $highest;
		last if $done >= 2000;
		die 'it takes too long' if time > $started + $PostgreSQL::Test::Utils::timeout_default;
		usleep(100_000);
	}
	my $seconds = time - $started;
	cmp_ok($seconds, '>=', 3, sprintf('%d workers: 2,000 messages at 500 a second took %.1f s', $workers, $seconds));
	cmp_ok($highest, '<=', 600, sprintf('%d workers: the rate was %.0f at most', $workers, $highest));
	$node->ledger_check('target', $topic, $produced, topic_column => 1);
	my $batches = $node->safe_psql('postgres', "SELECT count(*) FROM kafka_ingest.recent_batches WHERE pipeline = '$name'");
	cmp_ok($batches, '<=', 10 * $workers * ($seconds + 1), "$workers workers: $batches batches");
}

# after a rest no more than a second's worth comes at once
my $rested = $kafka->create_topic('rested');
$node->safe_psql('postgres', "SELECT kafka_ingest.create_pipeline('rested', topic => '$rested', target => 'target',
	max_messages_per_second => 100)");
$kafka->produce($rested, count => 10);
$node->wait_for_position_sum('rested', 10);
$node->safe_psql('postgres', 'SELECT pg_sleep(3)');
my $started = time;
$kafka->produce($rested, count => 400);
$node->wait_for_position_sum('rested', 410);
cmp_ok(time - $started, '>=', 2.5, sprintf('after a rest: 400 at 100 a second took %.1f s', time - $started));

# a limit that is lifted is lifted at once
$kafka->produce($rested, count => 20_000);
$node->safe_psql('postgres', q{SELECT kafka_ingest.alter_pipeline('rested', reset => '{max_messages_per_second}')});
$started = time;
$node->wait_for_position_sum('rested', 20_410);
cmp_ok(time - $started, '<', 100, 'without a limit 20,000 more are loaded soon');

$node->stop;
done_testing();
