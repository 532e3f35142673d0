# A record set whose bytes were flipped in a closed segment of the log: what comes
# before it is loaded, then the pipeline stops after three openings and skips
# nothing; seek() leads past it, leaves a gap row, and nothing is there twice.

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use KafkaLog;
use PostgreSQL::Test::Utils;
use Test::More;

my $kafka = KafkaBroker->new();
my $topic = $kafka->create_topic('corrupt', partitions => 2,
	config => { 'segment.bytes' => 1024 * 1024 });
my $log = KafkaLog->new($kafka, $topic, 0);
my $node = IngestCluster->new('main');
my $pad = 'x' x 200;

# several record sets, in more than one segment
$kafka->produce($topic, count => 1000, from => 1000 * $_, partition => 0,
	template => qq({"id": %d, "pad": "$pad"})) foreach 0 .. 9;
$kafka->produce($topic, count => 1000, from => 10_000, partition => 1);

my @sets = $log->record_sets;
my @segments = do { my %seen; grep { !$seen{$_}++ } map { $_->{file} } @sets };
cmp_ok(scalar @segments, '>', 1, 'there is a closed segment');
my @closed = grep { $_->{file} eq $segments[0] } @sets;
my $bad = $closed[ @closed / 2 ];
note(sprintf '%d record sets in %d segments; the bad one has offsets %d to %d',
	scalar @sets, scalar @segments, $bad->{first}, $bad->{last});
cmp_ok($bad->{first}, '>', 0, 'the bad one is not the first');
$kafka->stop;
$kafka->corrupt_record_set($topic, 0, $bad->{first});
$kafka->start;
is_deeply($kafka->offsets($topic)->{0}, { low => 0, high => 10_000, stable => 10_000 },
	'the broker knows nothing of it');

$node->connect_kafka($kafka);
$node->safe_psql('postgres', qq{
	CREATE TABLE target (id bigint, pad text, _partition int, _offset bigint);
	SELECT kafka_ingest.create_pipeline('p', topic => '$topic', target => 'target',
		batch_max_messages => 100, properties => '{"debug": "generic"}');
});
my $position = 'SELECT next_offset FROM kafka_ingest.partition_status WHERE partition = 0';
my $rows = 'SELECT count(*), count(DISTINCT _offset), min(_offset), max(_offset) FROM target WHERE _partition = 0';

# How often the Kafka client was made: with this property it says so in the log.
sub openings
{
	return scalar(() = slurp_file($node->logfile) =~ /: INIT: .*librdkafka v/g);
}

$node->wait_for_state('p', 'stopped/corrupt');
is($node->safe_psql('postgres', $position), $bad->{first}, 'the position is before the bad record set');
is($node->safe_psql('postgres', $rows), "$bad->{first}|$bad->{first}|0|" . ($bad->{first} - 1),
	'all before it is loaded, nothing behind it');
like($node->safe_psql('postgres', 'SELECT detail FROM kafka_ingest.status'),
	qr/"$topic" partition 0 .*offset $bad->{first}\b/, 'the detail tells the place');
is($node->safe_psql('postgres', 'SELECT gaps FROM kafka_ingest.status'), '0', 'nothing was passed over');
is(openings(), 3, 'it was opened three times');

# It stays so: resume() tries again, and stops again.
$node->safe_psql('postgres', q{SELECT kafka_ingest.resume('p')});
$node->poll_until(q{SELECT count(*) FROM kafka_ingest.events WHERE event = 'stop' AND detail LIKE 'corrupt%'}, '2');
is($node->safe_psql('postgres', $position), $bad->{first}, 'resume() does not pass it');
is(openings(), 6, 'and opens it three times more');

# The way past it.
my $next = $bad->{last} + 1;
is($node->safe_psql('postgres', qq{
		SELECT partition, old_offset, new_offset
		FROM kafka_ingest.seek('p', start_offsets => '{"0": $next}', reason => 'disk')}),
	"0|$bad->{first}|$next", 'seek() leads past it');
$node->wait_for_position_sum('p', 11_000);
is($node->safe_psql('postgres', 'SELECT partition, from_offset, to_offset, reason FROM kafka_ingest.gaps'),
	"0|$bad->{first}|$bad->{last}|seek", 'the gap is recorded');
my $missing = $bad->{last} - $bad->{first} + 1;
is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT (_partition, _offset)), count(DISTINCT id) FROM target'),
	join('|', (11_000 - $missing) x 3), 'everything else is loaded, once');
is($node->safe_psql('postgres',
		"SELECT count(*) FROM target WHERE _partition = 0 AND _offset BETWEEN $bad->{first} AND $bad->{last}"),
	'0', 'nothing of the bad record set is');
is($node->state('p'), 'running', 'running');

done_testing();
