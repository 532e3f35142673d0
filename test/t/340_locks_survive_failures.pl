# A worker whose batch fails keeps its session locks, through every attempt: nobody
# else can load the pipeline meanwhile, and what it loads in the end is exact.

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use PostgreSQL::Test::Utils;
use Test::More;

my $kafka = KafkaBroker->shared;
my $node = IngestCluster->new('main', conf => "kafka_ingest.retry_backoff_max = '300ms'\n");
my $topic = $kafka->create_topic('locks', partitions => 2);
my $columns = '(id bigint, _partition int, _offset bigint)';

sub sql { my ($sql) = @_; return $node->safe_psql('postgres', $sql) }

# Modes and parts of the locks on pipelines, of all processes.
my $locks = q{SELECT string_agg(mode || ' ' || objsubid, ', ' ORDER BY objsubid) FROM pg_locks
	WHERE locktype = 'object' AND classid = 'kafka_ingest.pipeline'::regclass AND granted AND objsubid <> 0};

sub ok_held
{
	my ($pid, $name) = @_;
	is(sql($locks), 'ShareLock 1, ExclusiveLock 3', "$name: the worker's locks are held");
	is(sql("$locks AND pid = $pid"), 'ShareLock 1, ExclusiveLock 3', 'by the same process');
	foreach my $call (q{CALL kafka_ingest.run('p')}, q{BEGIN; CALL kafka_ingest.run('p', max_batches => 1)})
	{
		my $err;
		$node->psql('postgres', "\\set VERBOSITY verbose\n$call", stderr => \$err);
		like($err, qr/ERROR:  55006/, "$call: in use");
	}
	return;
}

# So many attempts more.
sub wait_for_attempts
{
	my ($count) = @_;
	foreach (1 .. $count)
	{
		my $last = sql('SELECT last_error_at FROM kafka_ingest.status');
		$node->poll_until("SELECT last_error_at > '$last' FROM kafka_ingest.status", 't');
	}
	return;
}

sub produce
{
	my ($from) = @_;
	$kafka->produce($topic, count => 500, partition => $_, from => $from + 500 * $_) foreach 0, 1;
	return;
}

$node->connect_kafka($kafka);
sql(qq{
	CREATE TABLE target $columns;
	SELECT kafka_ingest.create_pipeline('p', topic => '$topic', target => 'target')});
produce(0);
$node->wait_for_position_sum('p', 1000);
my $pid = $node->worker_pid('p');
ok_held($pid, 'running');

# ---- errors in the rows, which abort the batch's transaction ----------------------------------

sql(q{
	CREATE SEQUENCE failures;
	CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM nextval('failures');
		RAISE EXCEPTION USING ERRCODE = TG_ARGV[0], MESSAGE = 'not now';
	END $$});
my $sum = 1000;
foreach my $trigger ([ '40001', 'AFTER INSERT ON target' ],
	[ '42501', 'AFTER INSERT ON target' ],
	[ '53100', 'AFTER INSERT ON target DEFERRABLE INITIALLY DEFERRED' ])
{
	my ($sqlstate, $when) = @$trigger;
	my $kind = $when =~ /DEFERRED/ ? 'CONSTRAINT TRIGGER' : 'TRIGGER';
	sql("CREATE $kind fail $when FOR EACH ROW EXECUTE FUNCTION fail('$sqlstate')");
	produce($sum);
	$node->wait_for_state('p', qr/^retrying/);
	wait_for_attempts(3);
	ok_held($pid, "after $sqlstate");
	is($node->position_sum('p'), $sum, 'no offset moved');
	sql(q{DROP TRIGGER fail ON target; SELECT kafka_ingest.resume('p')});
	$sum += 1000;
	$node->wait_for_position_sum('p', $sum);
	is($node->worker_pid('p'), $pid, 'it goes on in the same process');
}
cmp_ok(sql(q{SELECT nextval('failures')}), '>', 9, 'the batches did fail');
$node->ledger_check('target', $topic, { 0 => 2000, 1 => 2000 });

# ---- no target ----------------------------------------------------------------------------------

sql('DROP TABLE target');
produce($sum);
$node->wait_for_state('p', 'retrying/target_missing');
wait_for_attempts(2);
ok_held($pid, 'without a target');
is($node->position_sum('p'), $sum, 'no offset moved');
sql(qq{CREATE TABLE target $columns; SELECT kafka_ingest.resume('p')});
$node->wait_for_position_sum('p', $sum + 1000);
$node->wait_for_state('p', 'running');
ok_held($pid, 'made again');
is( sql('SELECT _partition, count(*), count(DISTINCT _offset), min(_offset), max(_offset) FROM target GROUP BY 1 ORDER BY 1'),
	"0|500|500|2000|2499\n1|500|500|2000|2499", 'what was not loaded before is, once');

# ---- they end with the process --------------------------------------------------------------------

sql(q{SELECT kafka_ingest.pause('p')});
produce($sum + 1000);
is(sql(q{CALL kafka_ingest.run('p')}), '1000|0|t', 'paused, run() takes over');
is(sql($locks), '', 'and leaves no lock');
sql(q{SELECT kafka_ingest.resume('p')});
$node->wait_for_state('p', 'running');
isnt($node->worker_pid('p'), $pid, 'then it is another process');
ok_held($node->worker_pid('p'), 'resumed');
is(sql('SELECT count(*), count(DISTINCT (_partition, _offset)) FROM target'), '2000|2000', 'nothing is loaded twice');

$node->stop;
done_testing();
