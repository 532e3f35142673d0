# Upsert from a compacted topic: a table that was filled before compaction, and one that
# is filled after it, are the same.

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use KafkaLog;
use Test::More;

my $kafka = KafkaBroker->shared();
my $topic = $kafka->create_topic('upsert_compacted', config => {
		'cleanup.policy'            => 'compact',
		'segment.ms'                => 200,
		'min.cleanable.dirty.ratio' => 0.01,
		'delete.retention.ms'       => 86_400_000
	});
my $log = KafkaLog->new($kafka, $topic, 0);
my $node = IngestCluster->new('main');
$node->connect_kafka($kafka);

sub create
{
	my ($name) = @_;
	$node->safe_psql('postgres', qq{CREATE TABLE $name (id text PRIMARY KEY, v int);
		SELECT kafka_ingest.create_pipeline('$name', topic => '$topic', target => '$name', mode => 'upsert',
			columns => '{"id": "\@key", "v": "\$.v"}')});
	return;
}

create('before');
my %model;
foreach my $n (1 .. 200)
{
	my $key = 'k' . $n % 7;
	my $is_tombstone = $n % 10 == 0 || $n > 198;
	$kafka->produce_messages($topic, { key => $key, value => $is_tombstone ? undef : qq({"v": $n}) }) if $n > 190;
	push @{ $model{first} }, { key => $key, value => $is_tombstone ? undef : qq({"v": $n}) } if $n <= 190;
	$kafka->produce_messages($topic, @{ $model{first} }) if $n == 190;
}
$node->wait_for_position_sum('before', 200);

# A closed segment is compacted some time after a message comes that opens the next one.
my $rolls = 0;
my $deadline = time + 120;
while ((grep { $_ < 200 } $log->offsets) > 7)
{
	die 'not compacted' if time > $deadline;
	$kafka->produce_messages($topic, { key => 'roll', value => sprintf('{"v": %d}', ++$rolls) });
}
create('after');
$node->poll_until(qq{SELECT lag FROM kafka_ingest.status WHERE pipeline = '$_'}, '0') foreach qw(before after);
my $rows = 'SELECT string_agg(id || v, $$ $$ ORDER BY id) FROM ';
# the last of each key: 194 to 200 without the tombstones 199 and 200
is($node->safe_psql('postgres', "$rows before"), "k0196 k1197 k2198 k5194 k6195 roll$rolls", 'the last value of each key');
is($node->safe_psql('postgres', "$rows after"), "k0196 k1197 k2198 k5194 k6195 roll$rolls", 'also of what compaction left');
my $messages = $node->safe_psql('postgres', q{SELECT messages FROM kafka_ingest.status WHERE pipeline = 'after'});
cmp_ok($messages, '<', 200, 'which is less');

$node->stop;
done_testing();
