# The target may be altered, renamed, moved and dropped while it is loaded: what
# is changed counts from the next batch on, what is dropped and made again under
# its name is taken up again. Nothing is lost or doubled.

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use PostgreSQL::Test::Utils;
use Test::More;

my $kafka = KafkaBroker->shared;
my $node = IngestCluster->new('main');
my $topic = $kafka->create_topic('changes', partitions => 2);

$node->connect_kafka($kafka);
$node->safe_psql('postgres', qq{
	CREATE TABLE target (id bigint, value int, _partition int, _offset bigint);
	SELECT kafka_ingest.create_pipeline('p', topic => '$topic', target => 'target', batch_max_messages => 500)});
my $producer = $kafka->produce_background($topic, count => 1_000_000, rate => 4000, set => 100,
	template => '{"id": %d, "value": %o, "extra": "x%o"}');

sub ok_loads
{
	my ($name) = @_;
	my $sum = $node->position_sum('p');
	$node->wait_for_position_sum('p', $sum + 500);
	return pass($name);
}

ok_loads('it loads');

# ---- what takes effect at the next batch --------------------------------------------

$node->safe_psql('postgres', 'ALTER TABLE target ADD COLUMN extra text');
ok_loads('with a column more');
$node->poll_until(q{SELECT count(*) > 0 FROM target WHERE extra LIKE 'x%'}, 't');
pass('which is loaded from then on');
$node->safe_psql('postgres', 'ALTER TABLE target ALTER COLUMN value TYPE numeric(12,2), ALTER COLUMN id TYPE text');
ok_loads('with other types');
$node->safe_psql('postgres', 'ALTER TABLE target RENAME TO renamed');
ok_loads('with another name');
$node->safe_psql('postgres', 'CREATE SCHEMA elsewhere; ALTER TABLE renamed SET SCHEMA elsewhere');
ok_loads('in another schema');
$node->poll_until('SELECT target FROM kafka_ingest.pipelines', 'elsewhere.renamed');
$node->safe_psql('postgres', q{
	CREATE UNIQUE INDEX ON elsewhere.renamed (_partition, _offset);
	ALTER TABLE elsewhere.renamed ADD CHECK (value > 0)});
ok_loads('with a unique index and a constraint');
$node->safe_psql('postgres', 'VACUUM FULL elsewhere.renamed');
ok_loads('after VACUUM FULL');
unlike($node->state('p'), qr/stopped/, 'nothing of that stopped it');

# ---- a mapped column that goes away ------------------------------------------------

$node->safe_psql('postgres', q{SELECT kafka_ingest.alter_pipeline('p', columns =>
	'{"id": "$.id", "value": "$.value", "extra": "$.extra", "_partition": "@partition", "_offset": "@offset"}')});
ok_loads('with a mapping of its own');
$node->safe_psql('postgres', 'ALTER TABLE elsewhere.renamed RENAME COLUMN extra TO extra_was');
$node->wait_for_state('p', 'retrying/target_changed');
like($node->safe_psql('postgres', 'SELECT detail FROM kafka_ingest.status'), qr/extra/, 'detail names the missing column');
$node->safe_psql('postgres', 'ALTER TABLE elsewhere.renamed RENAME COLUMN extra_was TO extra');
ok_loads('there again: it loads on');
is($node->state('p'), 'running', 'and runs');

# ---- dropped -----------------------------------------------------------------------

# What is in the table is put aside in the transaction that drops it.
$node->safe_psql('postgres', q{
	BEGIN;
	LOCK TABLE elsewhere.renamed;
	CREATE TABLE kept AS TABLE elsewhere.renamed;
	DROP TABLE elsewhere.renamed;
	COMMIT});
$node->wait_for_state('p', 'retrying/target_missing');
my $detail = $node->safe_psql('postgres', 'SELECT detail FROM kafka_ingest.status');
like($detail, qr/elsewhere\.renamed/, 'detail names the missing target');
my $stands = $node->position_sum('p');
is($stands, $node->safe_psql('postgres', 'SELECT count(*) FROM kept'), 'the position stands where the rows end');
$node->safe_psql('postgres', q{
	CREATE TABLE elsewhere.renamed (_offset bigint, _partition int, id bigint, value int, extra text)});
ok_loads('made again under its name: taken up again');
is($node->state('p'), 'running', 'and runs');
ok($producer->is_running, 'all of that while messages were coming');

# ---- the whole ledger -----------------------------------------------------------------

$producer->kill9;
my $offsets = $kafka->offsets($topic);
my $produced = { map { $_ => $offsets->{$_}{high} } keys %$offsets };
is( $node->safe_psql('postgres', q{SELECT kafka_ingest.wait_until_caught_up('p', '60s')}),
	't', 'caught up');
$node->safe_psql('postgres', q{CREATE VIEW everything AS
	SELECT _partition, _offset, id::bigint, value::numeric FROM kept
	UNION ALL SELECT _partition, _offset, id, value FROM elsewhere.renamed});
$node->ledger_check('everything', $topic, $produced);
is( $node->safe_psql('postgres', 'SELECT count(*) FROM everything WHERE value <> id % 10 + 1'),
	0, 'and every row is right');
is($node->safe_psql('postgres', q{SELECT messages = loaded AND gaps = 0 FROM kafka_ingest.status}), 't', 'no gaps');

$node->stop;
done_testing();
