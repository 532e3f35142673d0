# run() ends clean, however it ends: called by user code of a load, failed, timed
# out, cancelled, without a broker. It leaves no lock, and a worker can take over.

use strict;
use warnings;

use IPC::Run ();
use IngestCluster;
use KafkaBroker;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $kafka = KafkaBroker->shared;
# little memory: so that not all is fetched when the broker goes away
my $node = IngestCluster->new('main', conf => <<'END');
kafka_ingest.worker_memory = '1MB'
kafka_ingest.lock_timeout = '100s'
max_prepared_transactions = 5
END
my $columns = '(id bigint, _partition int, _offset bigint)';

# Locks on pipelines that outlive a batch's transaction; those without a broker are
# at it all the time, beside everything else.
my $all_locks = q{SELECT count(*) FROM pg_locks
	WHERE locktype = 'object' AND classid = 'kafka_ingest.pipeline'::regclass AND objsubid <> 0};
my $own_locks = "$all_locks AND pid = pg_backend_pid()";
my $locks = "$all_locks AND objid NOT IN (SELECT id::oid FROM kafka_ingest.pipeline WHERE connection <> 'kafka')";

sub sql { my ($sql) = @_; return $node->safe_psql('postgres', $sql) }

# One session goes on after errors; what it printed, with the errors.
sub session
{
	my ($sql) = @_;
	my ($out, $err);
	$node->psql('postgres', "\\set VERBOSITY verbose\n$sql", stdout => \$out, stderr => \$err, on_error_stop => 0);
	return ($out, $err);
}

# A session of its own, and its end: what it printed, the errors, how long it took.
sub start_session
{
	my (@statements) = @_;
	my %session = (out => '', err => '');
	my $now = 'SELECT extract(epoch FROM clock_timestamp())';
	$session{run} = IPC::Run::start(
		[ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-v', 'VERBOSITY=verbose', map { ('-c', $_) } $now, @statements, $now ],
		'<', \undef, '>', \$session{out}, '2>', \$session{err}, IPC::Run::timeout(180));
	return \%session;
}

sub finish_session
{
	my ($session) = @_;
	$session->{run}->finish;
	my ($started, @out) = split /\n/, $session->{out};
	$session->{seconds} = pop(@out) - $started;
	$session->{out} = join "\n", @out;
	return $session;
}

sub pipeline
{
	my ($name) = @_;
	my $topic = $kafka->create_topic($name);
	sql(qq{CREATE TABLE $name $columns;
		SELECT kafka_ingest.create_pipeline('$name', topic => '$topic', target => '$name', on_error => 'stop', paused => true)});
	return $topic;
}

# A worker can begin, loads the rest, and everything is there once.
sub ok_worker_takes_over
{
	my ($name, $topic, $count) = @_;
	sql("SELECT kafka_ingest.resume('$name')");
	$node->wait_for_position_sum($name, $count);
	$node->wait_for_state($name, 'running');
	$node->ledger_check($name, $topic, { 0 => $count }, name => "$name: a worker takes over, all $count are there once");
	sql("SELECT kafka_ingest.pause('$name')");
	$node->poll_until($locks, '0');
	return;
}

$node->connect_kafka($kafka);

# ---- no broker: takes ten seconds, so it begins here and ends below ----------------------------

sql(qq{
	SELECT kafka_ingest.create_connection('dead', brokers => '127.0.0.1:1');
	CREATE TABLE dead $columns;
	SELECT kafka_ingest.create_pipeline('dead', topic => 'x', target => 'dead', connection => 'dead', paused => true);
	SELECT kafka_ingest.create_pipeline('dead2', topic => 'x', target => 'dead', connection => 'dead', paused => true)});
my $without = start_session(q{CALL kafka_ingest.run('dead')}, $own_locks);
my $with = start_session(q{CALL kafka_ingest.run('dead2', timeout => '3s')}, $own_locks);
my $own = KafkaBroker->new;
is(finish_session($with)->{out}, "0|0|f\n0", 'no broker, with a timeout: caught_up is false, and no lock is left');
like($with->{err}, qr/^WARNING:  08001: pipeline "dead2" cannot read its topic: broker_unreachable\n/, 'without an error, and says why');
cmp_ok($with->{seconds}, '>', 2.5, sprintf 'after its time (%.1f s)', $with->{seconds});
cmp_ok($with->{seconds}, '<', 10, 'and not much more');

# ---- the broker goes away while it runs ---------------------------------------------------------

my $away_topic = $own->create_topic('away');
$own->produce($away_topic, count => 400, template => '{"id": %d, "pad": "' . ('x' x 20_000) . '"}');
sql(qq{
	SELECT kafka_ingest.create_connection('own', brokers => '@{[$own->brokers]}');
	CREATE TABLE away $columns;
	CREATE TABLE gate (id int);
	CREATE FUNCTION wait_a_moment() RETURNS trigger LANGUAGE plpgsql AS
		'BEGIN PERFORM 1 FROM gate; RETURN NULL; END';
	CREATE TRIGGER t AFTER INSERT ON away FOR EACH STATEMENT EXECUTE FUNCTION wait_a_moment();
	SELECT kafka_ingest.create_pipeline('away', topic => '$away_topic', target => 'away', connection => 'own',
		batch_max_messages => 1, paused => true)});
sql(q{BEGIN; LOCK TABLE gate; PREPARE TRANSACTION 'gate'});
my $away = start_session(q{CALL kafka_ingest.run('away')}, $own_locks);
$node->poll_until(q{SELECT count(*) FROM pg_locks WHERE relation = 'gate'::regclass AND NOT granted}, '1');
$own->kill9;
sql(q{COMMIT PREPARED 'gate'});

# ---- by user code of another load ---------------------------------------------------------------

my $outer = pipeline('outer_one');
my $inner = pipeline('inner_one');
my ($outer_count, $inner_count) = (0, 0);
sql(q{
	CREATE TABLE outcomes (id serial, what text);
	CREATE FUNCTION nest() RETURNS trigger LANGUAGE plpgsql AS $$
	DECLARE m bigint; d bigint; c boolean;
	BEGIN
		IF pg_trigger_depth() = 1 THEN
			CALL kafka_ingest.run(TG_ARGV[0], max_batches => 1, timeout => '30s', messages => m, dead_letters => d, caught_up => c);
		END IF;
		RETURN NULL;
	END $$});

sub nest
{
	my ($name) = @_;
	sql(qq{DROP TRIGGER IF EXISTS nest ON outer_one;
		CREATE TRIGGER nest AFTER INSERT ON outer_one FOR EACH STATEMENT EXECUTE FUNCTION nest('$name')});
	$kafka->produce($outer, count => 5, from => $outer_count);
	$kafka->produce($inner, count => 5, from => $inner_count);
	$outer_count += 5;
	$inner_count += 5;
	return;
}

# No message is to blame, and nothing is half there.
sub ok_consistent
{
	my ($name) = @_;
	foreach my $p (qw(outer_one inner_one))
	{
		is(sql("SELECT count(*), count(DISTINCT _offset) FROM $p"),
			join('|', ($node->position_sum($p)) x 2), "$name: as many rows of $p as offsets passed");
		unlike($node->state($p), qr/^stopped/, "$name: $p is not stopped");
	}
	return;
}

foreach my $name (qw(inner_one outer_one))
{
	my $what = $name eq 'inner_one' ? 'another' : 'the same';
	nest($name);
	my $started = time;
	my ($out, $err) = session("CALL kafka_ingest.run('outer_one'); $locks");
	like($out, qr/^0$/m, "run() of $what pipeline within run(): no lock is left");
	like($err, qr/ERROR:  (55006|25001|0A000|55000)/, 'it fails clean') if $out !~ /\|t$/m;
	# all messages share the fault, and each of many attempts must not wait
	cmp_ok(time - $started, '<', 15, sprintf 'without long waits (%.1f s)', time - $started);
	ok_consistent('in run()');

	($out, $err) = session("BEGIN; CALL kafka_ingest.run('outer_one', max_batches => 1); COMMIT; $locks");
	like($out, qr/^0$/m, "run() of $what pipeline within one in a block: no lock is left");
	unlike($err, qr/bad_message/, 'no message is to blame');
	ok_consistent('in a block');

	# a worker of the outer one; the inner one is free for its trigger
	$kafka->produce($outer, count => 5, from => $outer_count);
	$outer_count += 5;
	sql(q{SELECT kafka_ingest.resume('outer_one')});
	$node->poll_until(qq{SELECT coalesce(last_error, '') <> '' OR messages = $outer_count
		FROM kafka_ingest.status WHERE pipeline = 'outer_one'}, 't');
	note("run('$name') within a worker: ", $node->status_text);
	ok_consistent('in a worker');
	sql(q{DROP TRIGGER nest ON outer_one; SELECT kafka_ingest.resume('outer_one')});
	ok_worker_takes_over('outer_one', $outer, $outer_count);
	ok_worker_takes_over('inner_one', $inner, $inner_count);
}

# ---- failures --------------------------------------------------------------------------------------

my $topic = pipeline('failing');
$kafka->produce($topic, count => 100);
sql(q{
	CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
		'BEGIN PERFORM pg_sleep(600); RETURN NEW; END';
	CREATE TRIGGER slow BEFORE INSERT ON failing FOR EACH ROW EXECUTE FUNCTION slow()});
my ($out, $err) = session("SET statement_timeout = '1s'; CALL kafka_ingest.run('failing'); RESET statement_timeout; $locks");
like($err, qr/ERROR:  57014.*statement timeout/, 'a statement timeout');
is($out, '0', 'leaves no lock in the session');
($out, $err) = session(qq{SET statement_timeout = '1s'; BEGIN; CALL kafka_ingest.run('failing', max_batches => 1);
	ROLLBACK; RESET statement_timeout; $locks});
like($err, qr/ERROR:  57014.*statement timeout/, 'a statement timeout in a block');
is($out, '0', 'leaves no lock in the session');

my $cancelled = start_session(q{CALL kafka_ingest.run('failing')}, $locks);
$node->poll_until(q{SELECT wait_event FROM pg_stat_activity WHERE query LIKE 'CALL kafka_ingest.run(''failing%'}, 'PgSleep');
is(sql($locks), 1, 'while it runs it holds one');
sql(q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE 'CALL kafka_ingest.run(''failing%'});
like(finish_session($cancelled)->{err}, qr/ERROR:  57014.*user request/, 'pg_cancel_backend()');
is($cancelled->{out}, '0', 'leaves no lock in the session');
$cancelled = start_session(q{CALL kafka_ingest.run('failing')});
$node->poll_until(q{SELECT wait_event FROM pg_stat_activity WHERE query LIKE 'CALL kafka_ingest.run(''failing%'}, 'PgSleep');
sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'CALL kafka_ingest.run(''failing%'});
$cancelled->{run}->finish;
$node->poll_until($locks, '0');
pass('pg_terminate_backend() leaves no lock');
is(sql('SELECT count(*) FROM failing'), 0, 'no row is left either');
sql('DROP TRIGGER slow ON failing');

$kafka->produce_messages($topic, { value => '{"id": "no number"}' });
($out, $err) = session(qq{CALL kafka_ingest.run('failing'); $locks;
	CALL kafka_ingest.run('failing'); BEGIN; CALL kafka_ingest.run('failing', max_batches => 1); ROLLBACK; $locks});
is(scalar(() = $err =~ /ERROR:  55000.*bad_message/g), 3, 'a bad message, three times');
is($out, "0\n0", 'leaves no lock in the session');
is($node->state('failing'), 'stopped/bad_message', 'the pipeline is stopped');
sql('ALTER TABLE failing ALTER COLUMN id TYPE text');
ok_worker_takes_over('failing', $topic, 101);

# ---- what the caller deferred -----------------------------------------------------------------------

sql(q{
	CREATE TABLE parents (id int PRIMARY KEY);
	CREATE TABLE children (id int CONSTRAINT has_parent REFERENCES parents DEFERRABLE INITIALLY DEFERRED)});
$kafka->produce($topic, count => 50, from => 1000);
($out, $err) = session(qq{BEGIN;
	INSERT INTO children VALUES (1);
	CALL kafka_ingest.run('failing', max_batches => 1);
	ROLLBACK;
	$locks});
like($err, qr/ERROR:  23503.*"has_parent"/, "a violation that the caller deferred: it is the caller's error");
unlike($err, qr/bad_message/, "no message's");
is($out, '0', 'it leaves no lock');
unlike($node->state('failing'), qr/^stopped/, 'and stops nothing');
($out, $err) = session(qq{BEGIN;
	INSERT INTO children VALUES (1);
	INSERT INTO parents VALUES (1);
	CALL kafka_ingest.run('failing', max_batches => 1);
	COMMIT;
	$locks});
is($err, '', 'what the caller deferred and mended is no error');
is($out, "50|0|t\n0", 'the batch is part of the transaction');
is(sql('SELECT count(*) FROM children'), 1, 'so is what the caller wrote');
ok_worker_takes_over('failing', $topic, 151);

# ---- without a broker, the end -----------------------------------------------------------------------

finish_session($without);
like($without->{err}, qr/ERROR:  08001.*broker_unreachable/, 'no broker, no timeout: 08001');
is($without->{out}, '0', 'and no lock is left');
finish_session($away);
like($away->{err}, qr/ERROR:  08001.*broker_unreachable/, 'the broker went away while it ran: 08001');
is($away->{out}, '0', 'and no lock is left');
my $rows = sql('SELECT count(*) FROM away');
is($node->position_sum('away'), $rows, "what it had loaded is in ($rows)");
cmp_ok($rows, '<', 400, 'it was not all');
cmp_ok($without->{seconds}, '>', 9, sprintf 'after %.1f s', $without->{seconds});
cmp_ok($without->{seconds}, '<', 25, 'which is about ten');
is(sql($all_locks), 0, 'no lock is left anywhere');

$node->stop;
done_testing();
