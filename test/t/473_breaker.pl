# The circuit breaker: more than max_error_ratio * 1,000 dead letters among the
# last 1,000 messages stop the pipeline, at exactly the message that would be
# one too many, whatever the batches are and however the messages are bad.

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use Test::More;

my $kafka = KafkaBroker->shared;
my $node = IngestCluster->new('main');
my $seed = $ENV{BREAKER_SEED} // int(rand(2**31));
my $pipelines = 0;

srand($seed);
diag("BREAKER_SEED=$seed");
$node->connect_kafka($kafka);

sub query
{
	return $node->safe_psql('postgres', $_[0]);
}

query(q{CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF NEW.id < 0 THEN RAISE ''secret %'', NEW.id; END IF; RETURN NULL; END'});

# What must come of a pattern of good (g) and bad (b) messages: letters, and
# where it stops, or its length.
sub expected
{
	my ($pattern, $limit) = @_;
	my @bad;
	my $letters = 0;
	foreach my $at (0 .. length($pattern) - 1)
	{
		next if substr($pattern, $at, 1) eq 'g';
		shift @bad while @bad && $bad[0] <= $at - 1000;
		return ($letters, $at) if @bad + 1 > $limit;
		push @bad, $at;
		$letters++;
	}
	return ($letters, length $pattern);
}

# Bad by their JSON (found at once, without an error), by a unique index (found when later
# messages were taken already), by a trigger (raised), or by turns.
sub value_of
{
	my ($at, $letter, $kind) = @_;
	return qq({"id": $at}) if $letter eq 'g';
	return qq({"id": $at, "u": 1}) if $kind eq 'late' && $at % 3;
	return $kind eq 'late' || $kind eq 'soft' || ($kind eq 'mixed' && $at % 3) ? 'secret' : qq({"id": -@{[$at + 1]}});
}

sub produce
{
	my ($pattern, $kind) = @_;
	my $topic = $kafka->create_topic('breaker');
	my @letters = split //, $pattern;
	$kafka->produce_messages($topic, map { { value => value_of($_, $letters[$_], $kind) } } 0 .. $#letters);
	return $topic;
}

# Runs to the end or the stop; options of the pipeline.
sub check_run
{
	my ($name, $topic, $pattern, $limit, $options) = @_;
	my $p = 'p' . ++$pipelines;
	my ($letters, $end) = expected($pattern, $limit);
	my $stops = $end < length $pattern;
	my ($out, $err);
	query(qq{CREATE TABLE $p (id int, u int UNIQUE);
		INSERT INTO $p VALUES (NULL, 1);
		CREATE TRIGGER t AFTER INSERT ON $p FOR EACH ROW EXECUTE FUNCTION refuse();
		SELECT kafka_ingest.create_pipeline('$p', topic => '$topic', target => '$p', paused => true $options)});
	$node->psql('postgres', "CALL kafka_ingest.run('$p')", stdout => \$out, stderr => \$err);
	is( query(qq{SELECT state, reason, messages, loaded, dead_letters, (SELECT next_offset FROM kafka_ingest.partition_status WHERE pipeline = '$p'),
			(SELECT count(id) FROM $p), (SELECT count(*) FROM kafka_ingest.dead_letters WHERE pipeline = '$p') FROM kafka_ingest.status WHERE pipeline = '$p'}),
		join('|', $stops ? ('stopped', 'error_ratio') : ('paused', ''), $end, $end - $letters, $letters, $end, $end - $letters, $letters),
		"$name: " . ($stops ? "stops at $end" : 'does not stop') . " with $letters letters");
	like($err, qr/stopped: error_ratio\n.*partition 0, offset $end cannot/, '... and run() says where') if $stops;
	unlike($err, qr/secret/, '... without a value');
	return $p;
}

# ---- exactly there -----------------------------------------------------------------------------

my %patterns = (
	'all are bad' => [ 'b' x 1200, '' => 500 ],
	'one more than is borne' => [ ('g' x 700) . ('b' x 600), '' => 500 ],
	'as many as are borne' => [ 'b' x 500 . 'g' x 500 . 'b' x 500 . 'g' x 500, '' => 500 ],
	'every second' => [ 'bg' x 1000, '' => 500 ],
	'one too many, 999 behind the first' => [ 'b' x 500 . 'g' x 499 . 'b' . 'g' x 10, '' => 500 ],
	'one that is just far enough' => [ 'b' x 500 . 'g' x 500 . 'b' . 'g' x 10, '' => 500 ],
	'every second, 0.499' => [ 'bg' x 1000, ', max_error_ratio => 0.499' => 499 ],
	'turned off' => [ 'b' x 1500, ', max_error_ratio => 1' => 1000 ],
	'0.999' => [ 'b' x 1500, ', max_error_ratio => 0.999' => 999 ],
	'none is borne' => [ 'g' x 30 . 'b' . 'g' x 30, ', max_error_ratio => 0.0005' => 0 ],
	'one is borne' => [ 'b' . 'g' x 999 . 'b' . 'g' x 998 . 'b' . 'g' x 5, ', max_error_ratio => 0.001' => 1 ],
	'0.7' => [ 'b' x 1000, ', max_error_ratio => 0.7' => 700 ]);

foreach my $name (sort keys %patterns)
{
	my ($pattern, $options, $limit) = @{ $patterns{$name} };
	foreach my $kind (qw(soft late mixed))
	{
		my $topic = produce($pattern, $kind);
		check_run("$name, $kind, batches of $_", $topic, $pattern, $limit, "$options, batch_max_messages => $_") foreach 10_000, 100;
	}
}

# Stretches of different error rates, and batches that end anywhere.
foreach my $round (1 .. 9)
{
	my $pattern = join '', map { my $rate = rand; join '', map { rand() < $rate ? 'b' : 'g' } 1 .. int(rand 700) } 1 .. 6;
	my $limit = 300 + int(rand 400);
	my $size = 1 + int(rand 400);
	check_run("by chance $round, at most $limit, batches of $size", produce($pattern, $round == 9 ? 'raised' : $round > 5 ? 'late' : 'mixed'), $pattern, $limit,
		sprintf ', max_error_ratio => %.3f, batch_max_messages => %d', $limit / 1000, $size);
}

# ---- by a worker, and resume -------------------------------------------------------------------

my $topic = produce('b' x 1400 . 'g' x 10, 'soft');
query(qq{CREATE TABLE w (id int);
	SELECT kafka_ingest.create_pipeline('w', topic => '$topic', target => 'w', batch_max_messages => 333)});
foreach my $end (500, 1000)
{
	$node->wait_for_state('w', 'stopped/error_ratio');
	is(query(q{SELECT next_offset FROM kafka_ingest.partition_status WHERE pipeline = 'w'}), $end, "a worker stops at $end");
	my $detail = query(q{SELECT detail FROM kafka_ingest.status WHERE pipeline = 'w'});
	like($detail, qr/0\.5.*1000.*topic "\Q$topic\E", partition 0, offset $end cannot.*SQLSTATE 22P02, stage decode/, '... and tells numbers, place and fault');
	unlike($detail, qr/secret/, '... but no value');
	query(q{SELECT kafka_ingest.resume('w')});
}
$node->wait_for_position_sum('w', 1410);
is(query(q{SELECT state, dead_letters, (SELECT count(*) FROM w), (SELECT count(*) FROM kafka_ingest.events WHERE pipeline = 'w' AND event = 'stop')
	FROM kafka_ingest.status WHERE pipeline = 'w'}), 'running|1400|10|2', 'resume() empties the window: it goes on, in the end to the end');
is(query(q{SELECT count(*), count(DISTINCT message_offset), max(message_offset) FROM kafka_ingest.dead_letters WHERE pipeline = 'w'}), '1400|1400|1399', 'each bad one is a letter, once');

$node->stop;
done_testing();
