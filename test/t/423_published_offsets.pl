# After commits the positions are published to the group at the broker, where Kafka's own
# tools show them: at most once a second, nothing when nothing moves, nothing of what may
# still be rolled back; a broker that refuses is no trouble.

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use Test::More;
use Time::HiRes qw(time usleep);

my $kafka = KafkaBroker->new('authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer',
	'allow.everyone.if.no.acl.found=true');
my $node = IngestCluster->new('main');
my $topic = $kafka->create_topic('published', partitions => 2);

# Waits for the published offsets.
sub wait_for_group
{
	my ($group, $expected, $name, $of) = @_;
	my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;
	my $found = {};
	while (time < $deadline)
	{
		$found = $kafka->group_offsets($group, $of // $topic);
		last if join(' ', map { "$_:$found->{$_}" } sort keys %$found) eq
			join(' ', map { "$_:$expected->{$_}" } sort keys %$expected);
		usleep(50_000);
	}
	return is_deeply($found, $expected, $name);
}

# How many records all groups have written so far.
sub commits
{
	my $offsets = $kafka->offsets('__consumer_offsets');
	my $sum = 0;
	$sum += $_->{high} foreach values %$offsets;
	return $sum;
}

$kafka->produce($topic, count => 1000);
$node->connect_kafka($kafka);
$node->safe_psql('postgres', qq{
	CREATE TABLE target (id bigint, _partition int, _offset bigint);
	SELECT kafka_ingest.create_pipeline('p', topic => '$topic', target => 'target', workers => 2, batch_max_messages => 10)});
$node->wait_for_position_sum('p', 1000);
my $group = 'kafka_ingest.postgres.p';
wait_for_group($group, { 0 => 500, 1 => 500 }, 'both workers publish to one group');

# ---- not too often --------------------------------------------------------------------------

my $before = commits();
my $started = time;
$kafka->produce($topic, count => 10_000, from => 1000, rate => 2500);
$node->wait_for_position_sum('p', 11_000);
wait_for_group($group, { 0 => 5500, 1 => 5500 }, 'a thousand batches later');
my $seconds = time - $started;
my $count = commits() - $before;
cmp_ok($count, '<=', 2 * ($seconds + 2), sprintf('%d commits in %.1f s, by two workers', $count, $seconds));
cmp_ok($count, '>=', 4, 'and while it was busy, too');

$before = commits();
$node->safe_psql('postgres', 'SELECT pg_sleep(3)');
is(commits(), $before, 'nothing moves: nothing is sent');

# ---- seek, another group, no group ------------------------------------------------------------

$node->safe_psql('postgres', q{SELECT kafka_ingest.seek('p', start_offsets => '{"0": 5000}', allow_duplicates => true)});
$node->wait_for_position_sum('p', 11_000);
wait_for_group($group, { 0 => 5500, 1 => 5500 }, 'after seek()');
$node->safe_psql('postgres', q{SELECT kafka_ingest.alter_pipeline('p', group_id => 'another')});
wait_for_group('another', { 0 => 5500, 1 => 5500 }, 'another group takes over');
$node->safe_psql('postgres', q{SELECT kafka_ingest.alter_pipeline('p', group_id => '')});
$kafka->produce($topic, count => 100, partition => 0);
$node->wait_for_position_sum('p', 11_100);
$node->safe_psql('postgres', 'SELECT pg_sleep(1.5)');
is_deeply($kafka->group_offsets('another', $topic), { 0 => 5500, 1 => 5500 }, 'no group: nothing is published');
is_deeply($kafka->group_offsets('kafka_ingest', $topic), {}, 'nor to a group in its place');

# ---- by hand --------------------------------------------------------------------------------

my $hand = $kafka->create_topic('by_hand');
$kafka->produce($hand, count => 300);
$node->safe_psql('postgres', qq{
	CREATE TABLE by_hand (id bigint);
	SELECT kafka_ingest.create_pipeline('hand', topic => '$hand', target => 'by_hand', batch_max_messages => 100, paused => true)});
$node->safe_psql('postgres', q{BEGIN; CALL kafka_ingest.run('hand', 1); ROLLBACK});
is_deeply($kafka->group_offsets('kafka_ingest.postgres.hand', $hand), {}, 'run() in a block publishes nothing');
is($node->safe_psql('postgres', q{CALL kafka_ingest.run('hand', 2)}), '200|0|f', 'run()');
is_deeply($kafka->group_offsets('kafka_ingest.postgres.hand', $hand), { 0 => 200 }, 'has published when it returns');

# ---- a copy keeps to itself -------------------------------------------------------------------

$node->safe_psql('template1', 'CREATE DATABASE copy TEMPLATE postgres');
my $err;
$node->psql('copy', q{SELECT kafka_ingest.adopt(group_id => 'copies')}, stderr => \$err);
like($err, qr/one pipeline/, 'one group for all pipelines is refused');
$node->safe_psql('copy', q{
	SELECT kafka_ingest.adopt('hand', group_id => 'copy');
	SELECT kafka_ingest.adopt(group_id => '')});
is($node->safe_psql('copy', q{SELECT pipeline, group_id FROM kafka_ingest.pipelines ORDER BY 1}), "hand|copy\np|", 'adopt() sets the group');
like($node->safe_psql('copy', q{SELECT detail FROM kafka_ingest.events WHERE event = 'adopt' AND pipeline = 'hand'}),
	qr/"copy"/, 'and says so in events');
$node->safe_psql('copy', q{CALL kafka_ingest.run('hand')});
is_deeply($kafka->group_offsets('copy', $hand), { 0 => 300 }, 'the copy publishes there');
is_deeply($kafka->group_offsets('kafka_ingest.postgres.hand', $hand), { 0 => 200 }, 'and leaves the group of the original alone');

# ---- refused --------------------------------------------------------------------------------------

my $refused = $kafka->create_topic('refused');
$kafka->deny_group('forbidden');
my $log = -s $node->logfile;
$node->safe_psql('postgres', qq{
	CREATE TABLE refused (id bigint);
	SELECT kafka_ingest.create_pipeline('refused', topic => '$refused', target => 'refused', group_id => 'forbidden')});
foreach my $i (1 .. 5)
{
	$kafka->produce($refused, count => 100);
	$node->wait_for_position_sum('refused', 100 * $i);
	$node->safe_psql('postgres', 'SELECT pg_sleep(1.1)');
}
is($node->state('refused'), 'running', 'a group that may not be used: it runs');
is($node->safe_psql('postgres', q{SELECT last_error IS NULL FROM kafka_ingest.status WHERE pipeline = 'refused'}), 't', 'without an error');
my @lines = grep { /forbidden/ && /LOG:/ && !/statement/ } split /\n/, PostgreSQL::Test::Utils::slurp_file($node->logfile, $log);
is(scalar @lines, 1, 'one line in the log') or diag(join "\n", @lines);

# and reading a group that may not be read is said
$node->safe_psql('postgres', qq{
	SELECT kafka_ingest.create_pipeline('start', topic => '$refused', target => 'refused', start_from => 'committed', start_group => 'forbidden')});
$node->wait_for_state('start', 'reconnecting/not_authorized');
like($node->safe_psql('postgres', q{SELECT detail FROM kafka_ingest.status WHERE pipeline = 'start'}), qr/group "forbidden"/,
	'start_group: the state names the group');

$node->stop;
done_testing();
