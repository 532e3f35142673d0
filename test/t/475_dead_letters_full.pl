# What the open dead letters of a pipeline may take is limited: at the message
# that would exceed it the pipeline stops, with all before it in.

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use Test::More;

my $kafka = KafkaBroker->shared;
my $node = IngestCluster->new('main', conf => "kafka_ingest.dead_letter_max_size = '1MB'\n");
my $topic = $kafka->create_topic('full', partitions => 2);

$node->connect_kafka($kafka);

sub query
{
	return $node->safe_psql('postgres', $_[0]);
}

# Good ones and bad ones of 100 kB by turns; in partition 1 it is the headers that take the room.
foreach my $partition (0, 1)
{
	my @headers = $partition ? (headers => [ [ big => 'h' x 100_000 ] ]) : ();
	$kafka->produce_messages($topic, map {
			({ partition => $partition, value => qq({"id": $_}) },
				{ partition => $partition, value => $partition ? 'secret' : 'secret' x 16_667, @headers }) } 0 .. 24);
}
foreach my $partition (0, 1)
{
	my $p = "p$partition";
	query(qq{CREATE TABLE $p (id int);
		SELECT kafka_ingest.create_pipeline('$p', topic => '$topic', target => '$p', partitions => '{$partition}')});
	# ten letters fit; they do not grow by resuming
	foreach my $what ('it is full', 'it still is')
	{
		$node->wait_for_state($p, 'stopped/dead_letters_full');
		is( query(qq{SELECT messages, loaded, dead_letters, (SELECT next_offset FROM kafka_ingest.partition_status WHERE pipeline = '$p'),
				(SELECT string_agg(id::text, ' ' ORDER BY id) FROM $p) FROM kafka_ingest.status WHERE pipeline = '$p'}),
			'21|11|10|21|0 1 2 3 4 5 6 7 8 9 10', "partition $partition: $what, and what is before is in");
		my $events = query(qq{SELECT count(*) FROM kafka_ingest.events WHERE pipeline = '$p' AND event = 'stop'});
		query("SELECT kafka_ingest.resume('$p')");
		$node->poll_until("SELECT count(*) > $events FROM kafka_ingest.events WHERE pipeline = '$p' AND event = 'stop'", 't');
	}
	my $detail = query("SELECT detail FROM kafka_ingest.status WHERE pipeline = '$p'");
	like($detail, qr/dead_letter_max_size allows \(1024 kB\).*discard_dead_letters.*partition $partition, offset 21 cannot/, '... it is said what to do');
	unlike($detail, qr/secret/, '... without a value');

	# room is made, and it goes on up to the next limit, and then to the end
	foreach my $end (41, 50)
	{
		is(query("SELECT kafka_ingest.discard_dead_letters('$p')"), 10, 'all of them are discarded');
		query("SELECT kafka_ingest.resume('$p')");
		$node->poll_until("SELECT next_offset FROM kafka_ingest.partition_status WHERE pipeline = '$p'", $end);
		$node->wait_for_state($p, $end == 50 ? 'running' : 'stopped/dead_letters_full');
	}
	is(query(qq{SELECT messages, loaded, dead_letters, dead_letters_total, (SELECT count(DISTINCT id) FROM $p) FROM kafka_ingest.status WHERE pipeline = '$p'}),
		'50|25|5|25|25', 'in the end all is in');
}

# Letters that go while a worker runs make room at once.
query(q{SELECT kafka_ingest.discard_dead_letters('p0')});
$kafka->produce_messages($topic, map { { partition => 0, value => 'x' x 100_000 } } 1 .. 8);
$node->poll_until(q{SELECT next_offset FROM kafka_ingest.partition_status WHERE pipeline = 'p0'}, 58);
query(q{SELECT kafka_ingest.discard_dead_letters('p0')});
$kafka->produce_messages($topic, map { { partition => 0, value => 'x' x 100_000 } } 1 .. 8);
$node->poll_until(q{SELECT next_offset FROM kafka_ingest.partition_status WHERE pipeline = 'p0'}, 66);
is($node->state('p0'), 'running', 'what was discarded does not count any more');

# The limit is the configuration's: raised, it goes on.
$kafka->produce_messages($topic, map { { partition => 0, value => 'x' x 100_000 } } 1 .. 8);
$node->wait_for_state('p0', 'stopped/dead_letters_full');
$node->append_conf('postgresql.conf', "kafka_ingest.dead_letter_max_size = '10MB'\n");
$node->reload;
query(q{SELECT kafka_ingest.resume('p0')});
$node->poll_until(q{SELECT next_offset FROM kafka_ingest.partition_status WHERE pipeline = 'p0'}, 74);
is($node->state('p0'), 'running', 'a higher limit takes effect without a restart');

$node->stop;
done_testing();
