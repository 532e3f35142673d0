# A topic of changing keys gets a partition, and keys move there: in an upsert it is read
# only when the older ones have reached the end they had then, by whichever worker; so the
# newer value of each key is the one that stays.

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use Test::More;

my $kafka = KafkaBroker->shared();
my $node = IngestCluster->new('main');
$node->connect_kafka($kafka);

my $old = 3000;
my $keys = 100;

sub produce_values
{
	my ($topic, $partition, $count, $value) = @_;
	$kafka->produce_messages($topic, map {
		{ partition => $partition, key => $_ % $keys, value => sprintf('{"id": %d, "value": "%s"}', $_ % $keys, $value) }
	} 1 .. $count);
	return;
}

# A pipeline that has met the topic with one partition, is paused, and has a backlog there
# when the second one comes with the same keys.
sub prepare
{
	my ($name, $options) = @_;
	my $topic = $kafka->create_topic($name);
	$node->safe_psql('postgres', qq{
		CREATE TABLE $name (id bigint PRIMARY KEY, value text, _partition int, _offset bigint);
		CREATE TABLE ${name}_log (n bigserial, _partition int, _offset bigint);
		CREATE FUNCTION ${name}_log() RETURNS trigger LANGUAGE plpgsql AS
			'BEGIN INSERT INTO public.${name}_log (_partition, _offset) VALUES (NEW._partition, NEW._offset); RETURN NULL; END';
		CREATE TRIGGER log AFTER INSERT OR UPDATE ON $name FOR EACH ROW EXECUTE FUNCTION ${name}_log();
		SELECT kafka_ingest.create_pipeline('$name', topic => '$topic', target => '$name', mode => 'upsert', $options)});
	produce_values($topic, 0, 10, 'first');
	$node->wait_for_position_sum($name, 10);
	$node->safe_psql('postgres', "SELECT kafka_ingest.pause('$name')");
	produce_values($topic, 0, $old - 10, 'old');
	$kafka->create_partitions($topic, 2);
	produce_values($topic, 1, $keys, 'new');
	return $topic;
}

sub check
{
	my ($name) = @_;
	is($node->safe_psql('postgres', "SELECT count(*), count(*) FILTER (WHERE value = 'new' AND _partition = 1) FROM $name"),
		"$keys|$keys", "$name: the newer value stays for every key");
	is($node->safe_psql('postgres', "SELECT (SELECT max(n) FROM ${name}_log WHERE _partition = 0)
			< (SELECT min(n) FROM ${name}_log WHERE _partition = 1)"), 't', "$name: the older partition came first");
	is($node->safe_psql('postgres', "SELECT count(*) FROM kafka_ingest.position WHERE waits_for IS NOT NULL"), '0',
		"$name: nothing waits any more");
	return;
}

foreach my $workers (1, 2)
{
	my $name = "late_$workers";
	my $topic = prepare($name, "workers => $workers, max_messages_per_second => 1000");
	$node->safe_psql('postgres', "SELECT kafka_ingest.resume('$name')");
	is( $node->poll_until("SELECT next_offset || ' ' || waits_for FROM kafka_ingest.position
			WHERE topic = '$topic' AND partition = 1", qr/./),
		qq(0 {"$topic": {"0": $old}}), "$workers workers: the new partition waits for the end of the old one");
	# more for the old one, behind that end, does not hold the new one up
	produce_values($topic, 0, 5, 'first');
	$node->wait_for_position_sum($name, $old + $keys + 5);
	is($node->safe_psql('postgres', "SELECT partition, next_offset FROM kafka_ingest.partition_status
		WHERE pipeline = '$name' ORDER BY 1"), '0|' . ($old + 5) . "\n1|$keys", "$workers workers: all is read");
	is($node->safe_psql('postgres', "SELECT max(n) < (SELECT min(n) FROM ${name}_log WHERE _partition = 1)
		FROM ${name}_log WHERE _partition = 0 AND _offset < $old"), 't', "$workers workers: the older partition came first");
	is($node->safe_psql('postgres', "SELECT count(*) FROM $name WHERE value = 'old'"), '0', "$workers workers: no old value stays");
}

# by hand
prepare('late_run', 'paused => false');
$node->safe_psql('postgres', q{CALL kafka_ingest.run('late_run')});
is($node->position_sum('late_run'), $old + $keys, 'run() loads both');
check('late_run');

# seek() says where to read, so there is nothing to wait for
my $sought = prepare('late_sought', 'workers => 2, max_messages_per_second => 100');
$node->safe_psql('postgres', q{SELECT kafka_ingest.resume('late_sought')});
$node->poll_until("SELECT waits_for IS NOT NULL FROM kafka_ingest.position WHERE topic = '$sought' AND partition = 1");
$node->safe_psql('postgres', q{SELECT kafka_ingest.seek('late_sought', start_offsets => '{"1": 0}')});
$node->poll_until("SELECT next_offset = $keys FROM kafka_ingest.partition_status WHERE pipeline = 'late_sought' AND partition = 1");
cmp_ok($node->position_sum('late_sought'), '<', $old, 'seek() ends the waiting');

# rows that are appended have no order to keep
my $appended = $kafka->create_topic('late_appended');
$node->safe_psql('postgres', qq{
	CREATE TABLE appended (id bigint);
	SELECT kafka_ingest.create_pipeline('appended', topic => '$appended', target => 'appended', workers => 2, max_messages_per_second => 100)});
$kafka->produce($appended, count => 1);
$node->wait_for_position_sum('appended', 1);
$node->safe_psql('postgres', q{SELECT kafka_ingest.pause('appended')});
$kafka->produce($appended, count => 3000);
$kafka->create_partitions($appended, 2);
$kafka->produce($appended, count => 1, partition => 1);
$node->safe_psql('postgres', q{SELECT kafka_ingest.resume('appended')});
$node->poll_until("SELECT next_offset = 1 FROM kafka_ingest.partition_status WHERE pipeline = 'appended' AND partition = 1");
cmp_ok($node->position_sum('appended'), '<', 3000, 'append: a new partition is read at once');

$node->stop;
done_testing();
