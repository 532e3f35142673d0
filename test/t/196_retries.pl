# What is not the message's fault is tried again, with the same batch, until it
# works: everything is loaded once, and no offset moves before.

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use PostgreSQL::Test::Utils;
use Test::More;

my $kafka = KafkaBroker->shared;
my $node = IngestCluster->new('main', conf => "deadlock_timeout = '100ms'\nmax_prepared_transactions = 5\n");
my $pipelines = 0;

$node->connect_kafka($kafka);
$node->safe_psql('postgres', q{
	CREATE SEQUENCE failures;
	CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		-- a sequence remembers what is rolled back
		IF nextval('failures') <= TG_ARGV[1]::int THEN
			RAISE EXCEPTION USING ERRCODE = TG_ARGV[0], MESSAGE = 'not now';
		END IF;
		RETURN NULL;
	END $$});

# Loads 2000 messages into a table whose trigger raises the first five times.
sub retries
{
	my ($sqlstate, $state, $when) = @_;
	my $p = 'p' . ++$pipelines;
	my $topic = $kafka->create_topic('retries', partitions => 2);
	my $trigger = $when eq 'deferred'
	  ? "CREATE CONSTRAINT TRIGGER t AFTER INSERT ON $p DEFERRABLE INITIALLY DEFERRED FOR EACH ROW"
	  : "CREATE TRIGGER t AFTER INSERT ON $p FOR EACH STATEMENT";
	$kafka->produce($topic, count => 2000);
	$node->safe_psql('postgres', qq{
		SELECT setval('failures', 1, false);
		CREATE TABLE $p (id bigint, _partition int, _offset bigint);
		$trigger EXECUTE FUNCTION fail('$sqlstate', 5);
		SELECT kafka_ingest.create_pipeline('$p', topic => '$topic', target => '$p')});
	$node->wait_for_state($p, "retrying/$state");
	like($node->safe_psql('postgres', "SELECT concat_ws(' ', detail, last_error, next_retry_at) FROM kafka_ingest.status WHERE pipeline = '$p'"),
		qr/$sqlstate.*$sqlstate/, "$sqlstate, $when: retrying/$state is shown");
	$node->wait_for_position_sum($p, 2000);
	$node->ledger_check($p, $topic, { 0 => 1000, 1 => 1000 }, name => "$sqlstate, $when: everything is loaded once");
	cmp_ok($node->safe_psql('postgres', q{SELECT nextval('failures')}), '>', 5, "$sqlstate, $when: after five failures");
	$node->wait_for_state($p, 'running');
	is( $node->safe_psql('postgres', "SELECT messages, loaded, gaps, detail IS NULL FROM kafka_ingest.status WHERE pipeline = '$p'"),
		'2000|2000|0|t', "$sqlstate, $when: status is clean");
	return;
}

retries('40001', 'conflict', 'at once');
retries('40001', 'conflict', 'deferred');
retries('40P01', 'conflict', 'at once');
retries('53100', 'out_of_space', 'at once');
retries('55P03', 'lock_timeout', 'at once');
retries('57014', 'database_error', 'at once');
retries('58030', 'database_error', 'deferred');
retries('25006', 'read_only', 'at once');

# ---- an error that all messages have: standing, nobody's fault ------------------------------

my $topic = $kafka->create_topic('standing');
$kafka->produce($topic, count => 500);
$node->safe_psql('postgres', qq{
	CREATE TABLE standing (id bigint, _partition int, _offset bigint);
	CREATE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM 1 FROM no_such_table; RETURN NULL; END';
	CREATE TRIGGER t AFTER INSERT ON standing FOR EACH ROW EXECUTE FUNCTION broken();
	SELECT kafka_ingest.create_pipeline('standing', topic => '$topic', target => 'standing')});
$node->wait_for_state('standing', 'retrying/database_error');
like($node->safe_psql('postgres', q{SELECT detail FROM kafka_ingest.status WHERE pipeline = 'standing'}),
	qr/42P01/, 'an error that every message has stops nothing');
is($node->position_sum('standing'), 0, 'no offset moved');
$node->safe_psql('postgres', 'CREATE TABLE no_such_table ()');
$node->wait_for_position_sum('standing', 500);
$node->ledger_check('standing', $topic, { 0 => 500 });

# ---- a real deadlock ----------------------------------------------------------------------------

# The worker's batches lock two rows in one order; a session does it in the other,
# again and again. Whoever loses, nothing is lost or doubled.
my $dead = $kafka->create_topic('deadlock');
$node->safe_psql('postgres', qq{
	CREATE TABLE locks (id int PRIMARY KEY, n bigint DEFAULT 0);
	INSERT INTO locks VALUES (1), (2);
	CREATE TABLE dead (id bigint, _partition int, _offset bigint);
	CREATE FUNCTION lock_both() RETURNS trigger LANGUAGE plpgsql AS \$\$
	BEGIN
		UPDATE locks SET n = n + 1 WHERE id = 1;
		PERFORM pg_sleep(0.02);
		UPDATE locks SET n = n + 1 WHERE id = 2;
		RETURN NULL;
	END \$\$;
	CREATE TRIGGER t AFTER INSERT ON dead FOR EACH STATEMENT EXECUTE FUNCTION lock_both();
	SELECT kafka_ingest.create_pipeline('dead', topic => '$dead', target => 'dead', batch_max_messages => 100)});
my $log = -s $node->logfile;
my $producer = $kafka->produce_background($dead, count => 5000, rate => 2500, set => 100);
for (my $i = 0; $i < 200 && $producer->is_running; $i++)
{
	$node->psql('postgres', q{BEGIN; UPDATE locks SET n = n WHERE id = 2; SELECT pg_sleep(0.02);
		UPDATE locks SET n = n WHERE id = 1; COMMIT}, stderr => \my $ignored);
}
my $produced = $producer->finish;
is($node->safe_psql('postgres', q{SELECT kafka_ingest.wait_until_caught_up('dead', '60s')}), 't', 'caught up');
my $deadlocks = () = slurp_file($node->logfile, $log) =~ /deadlock detected/g;
cmp_ok($deadlocks, '>', 0, "there were deadlocks ($deadlocks lines)");
$node->ledger_check('dead', $dead, $produced);
unlike($node->state('dead'), qr/^stopped/, 'and none stopped it');

$node->stop;
done_testing();
