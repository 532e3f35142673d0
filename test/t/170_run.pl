# CALL run(): by hand, to the end as it was at the call.

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use PostgreSQL::Test::Utils;
use Test::More;

my $kafka = KafkaBroker->shared;
my $node = IngestCluster->new('main', conf => "max_prepared_transactions = 5\n");
my $topic = $kafka->create_topic('run', partitions => 2);
my $count = 'SELECT count(*) FROM target';

$node->connect_kafka($kafka);
$node->safe_psql('postgres', qq{
	CREATE TABLE target (id bigint, _partition int, _offset bigint);
	SELECT kafka_ingest.create_pipeline('p', topic => '$topic', target => 'target',
		paused => true, batch_max_messages => 100)});

sub run
{
	my ($arguments) = @_;
	return $node->safe_psql('postgres', "CALL kafka_ingest.run('p'$arguments)");
}

sub fails
{
	my ($sql, $pattern, $name) = @_;
	my $err;
	my $status = $node->psql('postgres', "\\set VERBOSITY verbose\n$sql", stderr => \$err);
	isnt($status, 0, "$name: it fails");
	return like($err, $pattern, $name);
}

# ---- what it returns -----------------------------------------------------------------

is(run(''), '0|0|t', 'an empty topic: caught up');
$kafka->produce($topic, count => 1000);
is(run(', max_batches => 2'), '200|0|f', 'max_batches');
is($node->safe_psql('postgres', $count), 200, 'so many rows');
is(run(", timeout => '0s'"), '0|0|f', 'a timeout of nothing');
is(run(''), '800|0|t', 'to the end');
is(run(''), '0|0|t', 'nothing more');
is($node->state('p'), 'paused', 'the pipeline is paused, before and after');
$node->ledger_check('target', $topic, { 0 => 500, 1 => 500 });
is( $node->safe_psql('postgres', q{
		DO $$
		DECLARE m bigint; d bigint; c boolean;
		BEGIN
			CALL kafka_ingest.run('p', messages => m, dead_letters => d, caught_up => c);
			RAISE LOG 'run: % % %', m, d, c;
			PERFORM set_config('test.result', format('%s %s %s', m, d, c), false);
		END $$;
		SELECT current_setting('test.result')}),
	'0 0 t', 'INOUT arguments in PL/pgSQL');

# to the end as it was at the call: it does not run after a producer for ever
my $producer = $kafka->produce_background($topic, count => 1_000_000, rate => 3000, set => 100);
like(run(''), qr/^\d+\|0\|t$/, 'it ends while messages keep coming');
ok($producer->is_running, 'they do');
$producer->kill9;
like(run(''), qr/^\d+\|0\|t$/, 'and the rest');
my $offsets = $kafka->offsets($topic);
$node->ledger_check('target', $topic, { map { $_ => $offsets->{$_}{high} } keys %$offsets });

# it commits per batch: what is in when it is interrupted stays in
my $total = $node->safe_psql('postgres', $count);
$kafka->produce($topic, count => 1000, from => 100_000);
$node->safe_psql('postgres', q{
	CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN IF NEW.id >= 100900 THEN PERFORM pg_sleep(600); END IF; RETURN NEW; END $$;
	CREATE TRIGGER slow BEFORE INSERT ON target FOR EACH ROW EXECUTE FUNCTION slow()});
fails(q{SET statement_timeout = '5s'; CALL kafka_ingest.run('p')}, qr/57014/, 'a statement timeout');
my $rows = $node->safe_psql('postgres', $count);
cmp_ok($rows, '>', $total, 'batches before that are committed');
is($node->position_sum('p'), $rows, 'with their offsets');
$node->safe_psql('postgres', 'DROP TRIGGER slow ON target');
is(run(''), ($total + 1000 - $rows) . '|0|t', 'and the next run() goes on behind them');

# ---- in a transaction block ------------------------------------------------------------

$kafka->produce($topic, count => 300, from => 200_000);
$total = $node->safe_psql('postgres', $count);
fails(q{BEGIN; CALL kafka_ingest.run('p')}, qr/25001.*max_batches => 1/, 'in a block without max_batches');
fails(q{BEGIN; CALL kafka_ingest.run('p', max_batches => 2)}, qr/25001/, 'in a block with max_batches => 2');
$node->safe_psql('postgres', q{
	CREATE FUNCTION from_function() RETURNS void LANGUAGE plpgsql AS
		$$ DECLARE m bigint; d bigint; c boolean;
		BEGIN CALL kafka_ingest.run('p', messages => m, dead_letters => d, caught_up => c); END $$});
fails('SELECT from_function()', qr/25001/, 'in a function');
is( $node->safe_psql('postgres', qq{
		BEGIN;
		CALL kafka_ingest.run('p', max_batches => 1);
		$count;
		ROLLBACK;
		$count}),
	"100|0|f\n" . ($total + 100) . "\n$total", 'one batch, which is rolled back with the block');
is( $node->safe_psql('postgres', qq{
		BEGIN;
		CALL kafka_ingest.run('p', max_batches => 1);
		CREATE TABLE along AS TABLE target;
		COMMIT;
		SELECT count(*) FROM along}),
	"100|0|f\n" . ($total + 100), 'or committed with it');
is(run(''), '200|0|t', 'the rest');

# one batch as part of a transaction that another one must not pass
$kafka->produce($topic, count => 200, from => 300_000);
$node->safe_psql('postgres', q{BEGIN; CALL kafka_ingest.run('p', max_batches => 1); PREPARE TRANSACTION 'one'});
fails(q{CALL kafka_ingest.run('p')}, qr/55006/, 'while another run() holds the pipeline');
$node->safe_psql('postgres', q{ROLLBACK PREPARED 'one'});
is(run(''), '200|0|t', 'rolled back: all of it');

# ---- while a worker has it -----------------------------------------------------------

$node->safe_psql('postgres', q{SELECT kafka_ingest.resume('p')});
$node->wait_for_state('p', 'running');
fails(q{CALL kafka_ingest.run('p')}, qr/55006/, 'while a worker has it');
fails(q{BEGIN; CALL kafka_ingest.run('p', max_batches => 1)}, qr/55006/, 'in a block, too');
# a failing batch does not make the worker let go of it
$node->safe_psql('postgres', q{BEGIN; LOCK TABLE target; PREPARE TRANSACTION 'lock'});
$kafka->produce($topic, count => 100, from => 400_000);
$node->wait_for_state('p', 'retrying/lock_timeout');
fails(q{CALL kafka_ingest.run('p')}, qr/55006/, 'and while the worker tries again');
$node->safe_psql('postgres', q{ROLLBACK PREPARED 'lock'});
$node->wait_for_state('p', 'running');
$node->safe_psql('postgres', q{SELECT kafka_ingest.pause('p')});
$node->poll_until(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'kafka_ingest worker'}, '0');
like(run(''), qr/^\d+\|0\|t$/, 'paused: it may run again');

# ---- a bad message that stops ----------------------------------------------------------

$node->safe_psql('postgres', q{SELECT kafka_ingest.alter_pipeline('p', on_error => 'stop')});
my $bad = $kafka->offsets($topic)->{0}{high} + 150;
$kafka->produce($topic, count => 150, partition => 0, from => 500_000);
$kafka->produce_messages($topic, { value => '{"id": "no number"}' });
$kafka->produce($topic, count => 150, partition => 0, from => 500_150);
fails(q{CALL kafka_ingest.run('p')}, qr/55000.*bad_message.*DETAIL:.*partition 0, offset $bad.*22P02.*"id".*HINT:/s, 'a bad message');
is( $node->safe_psql('postgres', 'SELECT max(id), count(*) FILTER (WHERE id >= 500000) FROM target'),
	'500149|150', 'the messages before it are in');
is($node->state('p'), 'stopped/bad_message', 'and the pipeline is stopped');
fails(q{CALL kafka_ingest.run('p')}, qr/55000.*bad_message.*HINT:  Messages before it are loaded\. .*seek\(\)/s, 'run() tries again');
fails(q{BEGIN; CALL kafka_ingest.run('p', max_batches => 1)}, qr/55000.*bad_message.*HINT:  The transaction is undone; use run\(\) outside a block, or seek\(\)\.\n/s,
	'in a block it says that the rest is undone');
$node->safe_psql('postgres', "SELECT kafka_ingest.seek('p', start_offsets => '{\"0\": @{[$bad + 1]}}')");
is(run(''), '150|0|t', 'behind it, it goes on');

# ---- one that does not ------------------------------------------------------------------

$node->safe_psql('postgres', q{SELECT kafka_ingest.alter_pipeline('p', on_error => 'dead_letter')});
$kafka->produce_messages($topic, { value => '{"id": 600000}' }, { value => '{"id": "no number"}' }, { value => 'no JSON' }, { value => '{"id": 600001}' });
is(run(', max_batches => 1'), '4|2|t', 'dead letters are counted, and are no error');

# ---- too many that do not -----------------------------------------------------------------

$node->safe_psql('postgres', q{SELECT kafka_ingest.alter_pipeline('p', max_error_ratio => 0.001)});
$kafka->produce_messages($topic, map { { value => 'no JSON' } } 1 .. 3);
fails(q{CALL kafka_ingest.run('p')}, qr/55000.*error_ratio.*HINT:  Messages before it are loaded\. Mend the mapping .*; then resume\(\)/s, 'no seek() where the messages are not to blame');
fails(q{SELECT kafka_ingest.wait_for('p', 0, 1000000)}, qr/55000.*error_ratio.*HINT:  Mend the mapping or the target, or make room/s, '... nor in wait_for()');
fails(q{BEGIN; CALL kafka_ingest.run('p', max_batches => 1)}, qr/error_ratio.*HINT:  The transaction is undone; use run\(\) outside a block\.\n/s, '... nor in a block');

# ---- bad calls -----------------------------------------------------------------------

fails(q{CALL kafka_ingest.run('nobody')}, qr/42704/, 'no such pipeline');
fails(q{CALL kafka_ingest.run(NULL)}, qr/22004/, 'NULL');
fails(q{CALL kafka_ingest.run('p', max_batches => 0)}, qr/22023/, 'max_batches => 0');
fails(q{CALL kafka_ingest.run('p', timeout => '-1s')}, qr/22023/, 'a negative timeout');
$node->safe_psql('postgres', q{
	SELECT kafka_ingest.create_connection('dead', brokers => '127.0.0.1:1');
	SELECT kafka_ingest.create_pipeline('dead', topic => 'x', target => 'target', connection => 'dead', paused => true)});
my ($out, $warning);
$node->psql('postgres', q{CALL kafka_ingest.run('dead', timeout => '1s')}, stdout => \$out, stderr => \$warning);
is($out, '0|0|f', 'no broker: it ends with its timeout');
like($warning, qr/WARNING: .*"dead" cannot read its topic: broker_unreachable.*DETAIL:.*127\.0\.0\.1:1/s, '... and a warning');
fails(q{CALL kafka_ingest.run('dead')}, qr/08001.*broker_unreachable/, 'or with an error');
$node->safe_psql('postgres', q{DROP SERVER dead});
fails(q{CALL kafka_ingest.run('dead')}, qr/connection_missing/, 'no connection');

$node->stop;
done_testing();
