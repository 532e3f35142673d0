# A pipeline that reads a list of topics: each (topic, partition) belongs to one of its
# workers, every message is loaded exactly once though workers are killed with batches
# in flight, and a topic of the list that does not exist holds up none of the others.

use strict;
use warnings;

use Chaos;
use IngestCluster;
use KafkaBroker;
use Test::More;

my $kafka = KafkaBroker->shared();
my $node = IngestCluster->new('main');
my $each = 60_000;
my $table = 'id bigint, _topic text, _partition int, _offset bigint';

# ---- kill -9 of one of two workers --------------------------------------------

my @topics = map { $kafka->create_topic("list_$_", partitions => 3) } qw(a b c);
my %ends;
%ends = (%ends, %{ $kafka->produce_by_topic($topics[$_], count => $each, from => $_ * $each) }) foreach 0 .. $#topics;
my $chaos = Chaos->new(node => $node, pipeline => 'p', ends => \%ends, blows => 8, by_topic => 1,
	more => sub { $kafka->produce_by_topic($topics[0], count => $each, from => $_[0]) });
my %killed;

$node->connect_kafka($kafka);
# the trigger makes time within the batch, after its rows were written
$node->safe_psql('postgres', qq{
	CREATE TABLE target ($table);
	CREATE FUNCTION be_slow() RETURNS trigger LANGUAGE plpgsql
		AS \$\$ BEGIN PERFORM pg_sleep(0.03); RETURN NULL; END \$\$;
	CREATE TRIGGER slow AFTER INSERT ON target
		FOR EACH STATEMENT EXECUTE FUNCTION be_slow();
	SELECT kafka_ingest.create_pipeline('p', topic => '@{[ join ',', @topics ]}', target => 'target',
		workers => 2, batch_max_messages => 500);
});
while ($chaos->await_next_moment)
{
	my $worker = $chaos->freeze_worker;
	$chaos->kill9($worker);
	$killed{$_}++ foreach @{ $worker->{partitions} };
}
$chaos->check_blows(in_flight => 6);
$node->wait_until_up;
$node->safe_psql('postgres', 'DROP TRIGGER slow ON target');
$chaos->check_complete('target');
is($node->safe_psql('postgres', q{
		SELECT count(*), count(DISTINCT (topic, partition)), count(DISTINCT worker_pid), count(worker_pid)
		FROM kafka_ingest.partition_status WHERE pipeline = 'p'}),
	'9|9|2|9', 'every partition of every topic has one row, and one of both workers');

# ---- what is shown --------------------------------------------------------------

my ($first, $second) = map { $kafka->create_topic("shown_$_", partitions => 2) } qw(a b);

# So many messages in each of the two partitions.
sub fill
{
	my ($topic, $count) = @_;
	$kafka->produce($topic, count => $count, partition => $_) foreach 0, 1;
	return;
}

fill($first, 10);
fill($second, 20);
$node->safe_psql('postgres', qq{
	CREATE TABLE shown ($table);
	SELECT kafka_ingest.create_pipeline('shown', topic => '$first,$second', target => 'shown', paused => true);
	CALL kafka_ingest.run('shown');
	SELECT kafka_ingest.resume('shown');
});
is($node->safe_psql('postgres', q{SELECT _topic, _partition, count(*) FROM shown GROUP BY 1, 2 ORDER BY 1, 2}),
	"$first|0|10\n$first|1|10\n$second|0|20\n$second|1|20", 'run() loads all topics of the list');
$node->poll_until(q{SELECT state FROM kafka_ingest.status WHERE pipeline = 'shown'}, 'running');
fill($_, 1) foreach $first, $second;
$node->wait_for_position_sum('shown', 64);
my $ranges = q{SELECT topic, p.key::int AS partition, min((p.value ->> 0)::bigint), max((p.value ->> 1)::bigint)
	FROM kafka_ingest.recent_batches, jsonb_each(offsets) t(topic, ranges), jsonb_each(ranges) p
	WHERE pipeline = 'shown' GROUP BY 1, 2 ORDER BY 1, 2};
is($node->safe_psql('postgres', $ranges),
	"$first|0|10|10\n$first|1|10|10\n$second|0|20|20\n$second|1|20|20",
	'recent_batches: the offsets by topic and partition');
$node->poll_until(q{SELECT string_agg(next_offset || '/' || stable_offset || '/' || lag, ' ' ORDER BY topic, partition)
	FROM kafka_ingest.partition_status WHERE pipeline = 'shown'}, '11/11/0 11/11/0 21/21/0 21/21/0');
pass('partition_status: each partition has the offsets of its own topic');
is($node->safe_psql('postgres', q{SELECT partitions, lag FROM kafka_ingest.status WHERE pipeline = 'shown'}), '4|0',
	'status counts the partitions of all topics');

# wait_for by number means every topic that has the partition
is($node->safe_psql('postgres', q{SELECT kafka_ingest.wait_for('shown', 0, 10, '10 s')}), 't',
	'wait_for: passed in all topics');
is($node->safe_psql('postgres', q{SELECT kafka_ingest.wait_for('shown', 0, 15, '0.1 s')}), 'f',
	'wait_for: passed in one topic only');
is($node->safe_psql('postgres', q{SELECT kafka_ingest.wait_until_caught_up('shown', '10 s')}), 't',
	'wait_until_caught_up');

# ---- starts by topic ------------------------------------------------------------

my $offsets = qq({"$first": {"0": 5}, "$second": {"0": -3, "1": 20}});
$node->safe_psql('postgres', qq{
	CREATE TABLE offsets ($table);
	SELECT kafka_ingest.create_pipeline('offsets', topic => '$first,$second', target => 'offsets', start_offsets => '$offsets');
});
$node->poll_until(q{SELECT lag FROM kafka_ingest.status WHERE pipeline = 'offsets'}, '0');
is($node->safe_psql('postgres', 'SELECT _topic, _partition, min(_offset), count(*) FROM offsets GROUP BY 1, 2 ORDER BY 1, 2'),
	"$first|0|5|6\n$first|1|0|11\n$second|0|18|3\n$second|1|20|1",
	'start_offsets: each topic its own, and what is not named from the beginning');
is($node->safe_psql('postgres', q{SELECT topic, partition, from_offset, to_offset FROM kafka_ingest.gaps WHERE pipeline = 'offsets' ORDER BY 1, 2}),
	"$first|0|0|4\n$second|0|0|17\n$second|1|0|19", 'what they leave out are gaps of their topics');
is($node->safe_psql('postgres',
		qq{SELECT topic, partition, old_offset, new_offset FROM kafka_ingest.seek('offsets', start_offsets => '{"$second": {"1": 0}}', allow_duplicates => true)}),
	"$second|1|21|0", 'seek() moves a partition of one topic');
$node->poll_until(qq{SELECT count(*) FROM offsets WHERE _topic = '$second' AND _partition = 1}, '22');
is($node->safe_psql('postgres', qq{SELECT count(*) FROM offsets WHERE _topic = '$first'}), '17', 'and of no other');

# ---- a topic of the list that does not exist --------------------------------------

my $late = $kafka->unique_name('late');
$node->safe_psql('postgres', qq{
	CREATE TABLE partly ($table);
	SELECT kafka_ingest.create_pipeline('partly', topic => '$late,$first', target => 'partly', start_from => 'latest');
});
$node->wait_for_state('partly', 'reconnecting/topic_missing');
like($node->safe_psql('postgres', q{SELECT detail FROM kafka_ingest.status WHERE pipeline = 'partly'}),
	qr/"$late" does not exist/, 'the missing topic is named');
$node->wait_for_position_sum('partly', 22);
$kafka->produce($first, count => 10, from => 200);
$node->wait_for_position_sum('partly', 32);
is($node->safe_psql('postgres', 'SELECT _topic, count(*) FROM partly GROUP BY 1'), "$first|10",
	'the other one is loaded meanwhile');
$kafka->create_topic('', name => $late, partitions => 2);
$kafka->produce($late, count => 30, from => 300);
$node->wait_for_position_sum('partly', 62);
is($node->safe_psql('postgres', 'SELECT _topic, count(*) FROM partly GROUP BY 1 ORDER BY 1'), "$late|30\n$first|10",
	'all of it is new, whatever start_from says');
$node->wait_for_state('partly', 'running');
is($node->safe_psql('postgres', q{SELECT event FROM kafka_ingest.events WHERE pipeline = 'partly' ORDER BY at}),
	"create\ntopic_joined", 'and it joined');

# ---- batches of several topics ------------------------------------------------------

# both are there when it goes on, so usually the first attempt makes one
my $mixed = 'f';
my $sum = 74;
foreach (1 .. 20)
{
	$node->safe_psql('postgres', q{SELECT kafka_ingest.pause('shown')});
	$kafka->produce($_, count => 50, partition => 0, from => 1000) foreach $first, $second;
	$node->safe_psql('postgres', q{SELECT kafka_ingest.resume('shown')});
	$node->wait_for_position_sum('shown', $sum += 100);
	$mixed = $node->safe_psql('postgres', q{SELECT bool_or((SELECT count(*) = 2 FROM jsonb_object_keys(offsets)))
		FROM kafka_ingest.recent_batches WHERE pipeline = 'shown'});
	last if $mixed eq 't';
}
is($mixed, 't', 'recent_batches shows several topics of one batch');

# ---- a list that grows ----------------------------------------------------------------

my ($kept, $added) = map { $kafka->create_topic($_) } qw(kept added);
$kafka->produce($_, count => 20) foreach $kept, $added;
$node->safe_psql('postgres', qq{CREATE TABLE grown (_topic text, id bigint);
	SELECT kafka_ingest.create_pipeline('grown', topic => '$kept', target => 'grown')});
$node->wait_for_position_sum('grown', 20);
$node->safe_psql('postgres', qq{SELECT kafka_ingest.alter_pipeline('grown', topic => '$kept,$added', start_from => 'earliest')});
$node->wait_for_position_sum('grown', 40);
is($node->safe_psql('postgres', q{SELECT count(*), count(DISTINCT (_topic, id)) FROM grown}), '40|40',
	'a topic that stays is read on, a new one from its start');
is($node->safe_psql('postgres', q{SELECT messages FROM kafka_ingest.status WHERE pipeline = 'grown'}), 40, 'and is counted on');
$node->safe_psql('postgres', qq{SELECT kafka_ingest.alter_pipeline('grown', topic => '$added', start_from => 'latest')});
$kafka->produce($added, count => 5, from => 20);
$node->wait_for_position_sum('grown', 25);
is($node->safe_psql('postgres', q{SELECT count(*), count(DISTINCT (_topic, id)) FROM grown}), '45|45',
	'one that goes is forgotten, the other one is read on');

done_testing();
