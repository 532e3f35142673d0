# A topic that is deleted and made again under its name, with fewer and with more
# messages than the position, while the pipeline is paused and while it runs: it is
# another topic, so the pipeline stops and loads nothing of it, until seek() says so.

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use Test::More;

my $kafka = KafkaBroker->shared();
my $node = IngestCluster->new('main');
my $old = 300;

$node->connect_kafka($kafka);
$node->safe_psql('postgres', 'CREATE TABLE target (id bigint, _topic text, _partition int, _offset bigint)');

# A pipeline that has loaded all of a topic; the topic's name.
sub loaded
{
	my ($pipeline) = @_;
	my $topic = $kafka->create_topic($pipeline);
	$kafka->produce($topic, count => $old);
	$node->safe_psql('postgres', "SELECT kafka_ingest.create_pipeline('$pipeline', topic => '$topic', target => 'target')");
	$node->wait_for_position_sum($pipeline, $old);
	return $topic;
}

sub make_again
{
	my ($topic, $count) = @_;
	$kafka->delete_topic($topic);
	$kafka->create_topic('', name => $topic);
	$kafka->produce($topic, count => $count, from => 1_000_000) if $count > 0;
	return;
}

sub check_stopped
{
	my ($pipeline, $topic) = @_;
	$node->wait_for_state($pipeline, 'stopped/topic_recreated');
	pass("$pipeline: stopped/topic_recreated");
	like($node->safe_psql('postgres', "SELECT detail FROM kafka_ingest.status WHERE pipeline = '$pipeline'"),
		qr/"$topic" partition 0\b.*\b$old\b/, "$pipeline: the detail tells where");
	is($node->safe_psql('postgres', "SELECT count(*), count(DISTINCT id), max(id) FROM target WHERE _topic = '$topic'"),
		join('|', $old, $old, $old - 1), "$pipeline: nothing of the new topic is loaded");
	is($node->position_sum($pipeline), $old, "$pipeline: the position has not moved");
	return;
}

# paused meanwhile
foreach my $case ([ 'fewer', 100 ], [ 'none', 0 ], [ 'as_many', $old ], [ 'more', 2 * $old ])
{
	my ($pipeline, $count) = @$case;
	my $topic = loaded($pipeline);
	$node->safe_psql('postgres', "SELECT kafka_ingest.pause('$pipeline')");
	make_again($topic, $count);
	$node->safe_psql('postgres', "SELECT kafka_ingest.resume('$pipeline')");
	check_stopped($pipeline, $topic);
}

# while it runs
foreach my $case ([ 'fewer_running', 100 ], [ 'more_running', 2 * $old ])
{
	my ($pipeline, $count) = @$case;
	my $topic = loaded($pipeline);
	make_again($topic, $count);
	check_stopped($pipeline, $topic);
}

# the way on: from the beginning of the new one
my $topic = $node->safe_psql('postgres', q{SELECT topic FROM kafka_ingest.pipelines WHERE pipeline = 'more'});
$node->safe_psql('postgres', q{SELECT kafka_ingest.seek('more', start_offsets => '{"0": 0}', allow_duplicates => true)});
$node->wait_for_position_sum('more', 2 * $old);
is($node->safe_psql('postgres', "SELECT count(*), count(DISTINCT id), max(id) FROM target WHERE _topic = '$topic'"),
	join('|', 3 * $old, 3 * $old, 1_000_000 + 2 * $old - 1), 'after seek() the new topic is loaded, once');
is($node->state('more'), 'running', 'running');

done_testing();
