# A topic of several that is deleted: an event, the others go on, its positions stay, and
# when it comes back its old positions are compared with the new log, as always.

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use Test::More;

my $kafka = KafkaBroker->shared();
my $node = IngestCluster->new('main');
my $prefix = $kafka->unique_name('vanish');
my %produced = (0 => 100, 1 => 100);

$node->connect_kafka($kafka);

sub make_topic
{
	my ($name, $count) = @_;
	$kafka->create_topic('', name => $name, partitions => 2);
	$kafka->produce($name, count => $count, partition => $_) foreach 0, 1;
	return;
}

sub events
{
	my ($pipeline) = @_;
	return $node->safe_psql('postgres',
		"SELECT string_agg(event || ': ' || detail, ' / ' ORDER BY at) FROM kafka_ingest.events"
		  . " WHERE pipeline = '$pipeline' AND event LIKE 'topic%'");
}

# by a pattern and by a list, with one worker and with two
foreach my $case ([ 'pattern', 1 ], [ 'pattern', 2 ], [ 'list', 1 ], [ 'list', 2 ])
{
	my ($kind, $workers) = @$case;
	my $p = "${kind}_$workers";
	my ($stays, $goes) = map { "$prefix.$p.$_" } qw(stays goes);
	my $topics = $kind eq 'list' ? "$stays,$goes" : "$prefix.$p.*";

	make_topic($_, 100) foreach $stays, $goes;
	$node->safe_psql('postgres', qq{
		CREATE TABLE $p (id bigint, _topic text, _partition int, _offset bigint);
		SELECT kafka_ingest.create_pipeline('$p', topic => '$topics', target => '$p', workers => $workers);
	});
	$node->wait_for_position_sum($p, 400);

	$kafka->delete_topic($goes);
	$node->poll_until("SELECT count(*) FROM kafka_ingest.events WHERE pipeline = '$p' AND event = 'topic_vanished'", '1');
	$kafka->produce($stays, count => 50, from => 500, partition => $_) foreach 0, 1;
	$node->wait_for_position_sum($p, 500);
	$node->ledger_check($p, $stays, { 0 => 150, 1 => 150 }, topic_column => 1, name => "$p: the other topic goes on");
	$node->ledger_check($p, $goes, \%produced, topic_column => 1, name => "$p: what was loaded stays");
	is($node->safe_psql('postgres', qq{SELECT count(*), sum(next_offset), count(worker_pid) FROM kafka_ingest.partition_status
			WHERE pipeline = '$p' AND topic = '$goes'}), '2|200|0', "$p: so do its positions, which nobody reads");
	$node->wait_for_state($p, $kind eq 'list' ? 'reconnecting/topic_missing' : 'running');
	$node->poll_until("SELECT partitions || '/' || lag FROM kafka_ingest.status WHERE pipeline = '$p'", '4/0');
	pass("$p: the state and the lag are those of what is read");
	is($node->safe_psql('postgres', "SELECT kafka_ingest.wait_for('$p', 0, 149, '5 s')"), 't', "$p: wait_for does not wait for it");

	# opening anew is no second event
	$node->safe_psql('postgres', "SELECT kafka_ingest.pause('$p')");
	$node->safe_psql('postgres', "SELECT kafka_ingest.resume('$p')");
	$kafka->produce($stays, count => 10, from => 700, partition => $_) foreach 0, 1;
	$node->wait_for_position_sum($p, 520);
	is(events($p), qq(topic_vanished: topic "$goes" does not exist any more; its positions are kept), "$p: one event");

	# it comes back, shorter than its positions
	make_topic($goes, 20);
	$node->wait_for_state($p, 'stopped/topic_recreated');
	like($node->safe_psql('postgres', "SELECT detail FROM kafka_ingest.status WHERE pipeline = '$p'"),
		qr/"\Q$goes\E" partition [01] ends at offset 20, before the next one to read, 100/, "$p: stopped, and why");
	is($node->safe_psql('postgres', "SELECT count(*) FROM $p WHERE _topic = '$goes'"), '200', "$p: nothing of it was loaded");
	$node->safe_psql('postgres', qq{SELECT kafka_ingest.seek('$p', start_offsets => '{"$goes": {"0": 0, "1": 0}}', allow_duplicates => true)});
	$node->poll_until("SELECT count(*) FROM $p WHERE _topic = '$goes'", '240');
	like(events($p), qr{/ topic_joined: topic "\Q$goes\E" is back$}, "$p: after seek() the new one is loaded");
}

# the only topic of a pipeline
my $only = $kafka->create_topic('vanish_only');
$kafka->produce($only, count => 10);
$node->safe_psql('postgres', qq{
	CREATE TABLE only_one (id bigint);
	SELECT kafka_ingest.create_pipeline('only', topic => '$only', target => 'only_one');
});
$node->wait_for_position_sum('only', 10);
$kafka->delete_topic($only);
$node->wait_for_state('only', 'reconnecting/topic_missing');
$node->poll_until(q{SELECT count(*) FROM kafka_ingest.events WHERE pipeline = 'only' AND event = 'topic_vanished'}, '1');
pass('the only topic: an event, too');

done_testing();
