# With on_error => 'stop' a message that cannot be loaded stops its pipeline: status says which, why and
# where; the messages before it are in; resume tries again, seek goes past it.

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use PostgreSQL::Test::Utils;
use Test::More;

my $kafka = KafkaBroker->shared;
# what clients send is PostgreSQL's to log, not ours
my $node = IngestCluster->new('main', conf => "log_statement = none\n");
my $secret = 'never-show-this';
my $pipelines = 0;

$node->connect_kafka($kafka);

# Makes a pipeline and its topic: 100 good messages, the bad one, 100 good ones
# in partition 0, 100 in partition 1. The offset of the bad one is 100.
sub stops
{
	my ($name, $table, $options, $message, $pattern) = @_;
	my $p = 'p' . ++$pipelines;
	my $topic = $kafka->create_topic('bad', partitions => 2);
	$kafka->produce($topic, count => 100, partition => 0, template => '{"id": %d, "v": %o}', key => '{"k": 1}');
	$kafka->produce_messages($topic, $message);
	$kafka->produce($topic, count => 100, partition => $_, from => 200, template => '{"id": %d, "v": %o}', key => '{"k": 1}')
	  foreach 0, 1;
	$node->safe_psql('postgres', qq{
		CREATE TABLE $p ($table, _partition int, _offset bigint);
		SELECT kafka_ingest.create_pipeline('$p', topic => '$topic', target => '$p', on_error => 'stop' $options)});
	$node->wait_for_state($p, 'stopped/bad_message');
	my $detail = $node->safe_psql('postgres', "SELECT detail FROM kafka_ingest.status WHERE pipeline = '$p'");
	like($detail, qr/topic "$topic", partition 0, offset 100 cannot.*$pattern/, "$name: detail");
	is( $node->safe_psql('postgres', qq{SELECT count(*), max(_offset) FROM $p WHERE _partition = 0
			UNION ALL SELECT next_offset, messages FROM kafka_ingest.partition_status WHERE pipeline = '$p' AND partition = 0}),
		"100|99\n100|100", "$name: the messages before it are in, and no other");
	return ($p, $topic);
}

my ($p, $topic) = stops('no JSON', 'id bigint, v int', '',
	{ value => qq({"id": 1, "v": $secret) }, qr/SQLSTATE 22P02, stage decode/);
stops('no UTF-8', 'id bigint, v int', '', { value => qq({"id": 1, "v": "\xff$secret"}) }, qr/SQLSTATE 22021, stage decode/);
stops('the wrong type', 'id bigint, v int', '',
	{ value => qq({"id": 1, "v": "$secret"}) }, qr/SQLSTATE 22P02, stage map, column "v"/);
stops('out of range', 'id bigint, v smallint', '',
	{ value => '{"id": 1, "v": 70000}' }, qr/SQLSTATE 22003, stage map, column "v"/);
stops('too long', 'id bigint, v varchar(2)', '',
	{ value => qq({"id": 1, "v": "$secret"}) }, qr/SQLSTATE 22001, .*column "v"/);
stops('a constraint', 'id bigint, v int CONSTRAINT small CHECK (v <= 10)', '',
	{ value => '{"id": 1, "v": 11}' }, qr/SQLSTATE 23514, stage write.*constraint "small"/);
stops('NOT NULL', 'id bigint, v int NOT NULL', '',
	{ value => '{"id": 1, "v": null}' }, qr/SQLSTATE 23502, stage write, column "v"/);
stops('a key twice', 'id bigint PRIMARY KEY, v int', '',
	{ value => '{"id": 1, "v": 1}' }, qr/SQLSTATE 23505, stage write.*constraint "p\d+_pkey"/);
stops('a domain', 'id bigint, v small', '', { value => '{"id": 1, "v": 11}' }, qr/SQLSTATE 23514.*column "v"/)
  if $node->safe_psql('postgres', 'CREATE DOMAIN small AS int CHECK (VALUE <= 10)') eq '';
stops('a tombstone', 'id bigint, v int', ", on_tombstone => 'error'",
	{ key => 'k', value => undef }, qr/SQLSTATE 22004, stage decode/);
stops('a missing field', 'id bigint, v int', ", on_missing => 'error'",
	{ value => '{"id": 1}' }, qr/SQLSTATE 22\w{3}, stage map, column "v"/);
stops('no mapped field at all', 'id bigint, v int', '',
	{ value => qq({"other": "$secret"}) }, qr/SQLSTATE 22\w{3}, stage map/);
stops('a key that is no JSON', 'id bigint, v int, k int', q{, key_format => 'json', columns =>
		'{"id": "$.id", "v": "$.v", "k": "@key.k", "_partition": "@partition", "_offset": "@offset"}'},
	{ key => $secret, value => '{"id": 1, "v": 1}' }, qr/SQLSTATE 22P02, stage decode/);

# ---- no value is ever shown ---------------------------------------------------------------

my $shown = join "\n", map { $node->safe_psql('postgres', "SELECT v::text FROM kafka_ingest.$_ v") }
  qw(status events gaps recent_batches partition_status);
like($shown, qr/stopped.*bad_message/, 'the views were read');
unlike($shown, qr/\Q$secret/, 'no view shows a value');
unlike(slurp_file($node->logfile), qr/\Q$secret/, 'nor does the server log');
like(slurp_file($node->logfile), qr/pipeline "$p" stopped: bad_message/, 'which tells that it stopped');

# ---- resume ---------------------------------------------------------------------------------

is( $node->safe_psql('postgres', "SELECT count(*) FROM kafka_ingest.events WHERE pipeline = '$p' AND event = 'stop'"),
	1, 'stopping is an event');
$node->safe_psql('postgres', "SELECT kafka_ingest.resume('$p')");
$node->poll_until("SELECT count(*) FROM kafka_ingest.events WHERE pipeline = '$p' AND event = 'stop'", '2');
is($node->state($p), 'stopped/bad_message', 'resume() tries again, and it stops again');
is( $node->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'kafka_ingest worker'"),
	0, 'what is stopped has no process') or diag($node->status_text);
is($node->safe_psql('postgres', "SELECT count(*) FROM $p WHERE _partition = 0"), 100, 'nothing is doubled');

# The fault is the table's: mend that, and resume.
$node->safe_psql('postgres', q{ALTER TABLE p6 DROP CONSTRAINT small; SELECT kafka_ingest.resume('p6')});
$node->wait_for_position_sum('p6', 301);
is( $node->safe_psql('postgres', 'SELECT _partition, count(*), count(DISTINCT _offset) FROM p6 GROUP BY 1 ORDER BY 1'),
	"0|201|201\n1|100|100", 'the table is mended: resume() loads it, and all behind it, once');
is($node->safe_psql('postgres', q{SELECT gaps FROM kafka_ingest.status WHERE pipeline = 'p6'}), 0, 'without a gap');

# The fault is the mapping's.
$node->safe_psql('postgres', q{SELECT kafka_ingest.alter_pipeline('p3', columns =>
	'{"id": "$.id", "v": null, "_partition": "@partition", "_offset": "@offset"}');
	SELECT kafka_ingest.resume('p3')});
$node->wait_for_position_sum('p3', 301);
is( $node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT (_partition, _offset)) FROM p3'),
	'301|301', 'the mapping is mended');

# ---- past it --------------------------------------------------------------------------------

is( $node->safe_psql('postgres', "SELECT partition, old_offset, new_offset FROM kafka_ingest.seek('$p',
		start_offsets => '{\"0\": 101}', reason => 'garbage')"),
	'0|100|101', 'seek() past it');
$node->wait_for_position_sum($p, 301);
is($node->state($p), 'running', 'goes on without resume()');
is( $node->safe_psql('postgres', "SELECT partition, from_offset, to_offset, reason, detail FROM kafka_ingest.gaps WHERE pipeline = '$p'"),
	'0|100|100|seek|garbage', 'one gap of one message');
is( $node->safe_psql('postgres', "SELECT _partition, count(*), count(DISTINCT _offset) FROM $p GROUP BY 1 ORDER BY 1"),
	"0|200|200\n1|100|100", 'all others are there once');
is( $node->safe_psql('postgres', "SELECT string_agg(event, ' ' ORDER BY at) FROM kafka_ingest.events WHERE pipeline = '$p'"),
	'create stop resume stop seek', 'events tell the whole story');

$node->stop;
done_testing();
