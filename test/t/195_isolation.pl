# One message of 10,000 is at fault: it is found, exactly, whoever
# finds the fault, and at once or only at the end of the transaction.

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use PostgreSQL::Test::Utils;
use Test::More;

my $kafka = KafkaBroker->shared;
my $node = IngestCluster->new('main');
my $topic = $kafka->create_topic('isolation');
my $pipelines = 0;
my $bad = 6543;

$node->connect_kafka($kafka);
$kafka->produce($topic, count => 10_000);
$node->safe_psql('postgres', qq{
	CREATE SEQUENCE attempts;
	CREATE TABLE known (id bigint PRIMARY KEY);
	INSERT INTO known SELECT generate_series(0, 9999);
	DELETE FROM known WHERE id = $bad;
	CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS \$\$
	BEGIN
		PERFORM nextval('attempts');
		IF NEW.id = $bad THEN
			RAISE EXCEPTION USING ERRCODE = TG_ARGV[0], MESSAGE = 'value of ' || NEW.id;
		END IF;
		RETURN NEW;
	END \$\$;
	CREATE FUNCTION fail_statement() RETURNS trigger LANGUAGE plpgsql AS \$\$
	BEGIN
		PERFORM nextval('attempts');
		IF EXISTS (SELECT FROM new_rows WHERE id = $bad) THEN RAISE 'not this one'; END IF;
		RETURN NULL;
	END \$\$});

# Loads the topic into a table T, completed by the SQL, and expects that it
# stops at exactly the bad message.
sub isolates
{
	my ($name, $sql, $pattern) = @_;
	my $p = 'p' . ++$pipelines;
	$sql =~ s/\bT\b/$p/g;
	$node->safe_psql('postgres', qq{
		CREATE TABLE $p (id bigint, _partition int, _offset bigint);
		SELECT setval('attempts', 1, false);
		$sql;
		SELECT kafka_ingest.create_pipeline('$p', topic => '$topic', target => '$p', on_error => 'stop', paused => true)});
	my $err;
	$node->psql('postgres', "\\set VERBOSITY verbose\nCALL kafka_ingest.run('$p')", stderr => \$err);
	like($err, qr/55000.*bad_message.*DETAIL:.*partition 0, offset $bad cannot.*$pattern/s, "$name: found");
	unlike($err, qr/value of/, "$name: no value is shown");
	is($node->state($p), 'stopped/bad_message', "$name: stopped");
	is( $node->safe_psql('postgres', "SELECT count(*), count(DISTINCT _offset), max(_offset) FROM $p"),
		"$bad|$bad|" . ($bad - 1), "$name: all before it are in, once, and no other");
	is($node->safe_psql('postgres', "SELECT next_offset FROM kafka_ingest.partition_status WHERE pipeline = '$p'"),
		$bad, "$name: the position is the bad message's");
	return $p;
}

# ---- at once -----------------------------------------------------------------------

isolates('a trigger that raises', q{CREATE TRIGGER t BEFORE INSERT ON T FOR EACH ROW EXECUTE FUNCTION fail('P0001')},
	qr/SQLSTATE P0001, stage write/);
# by halves: every row in a few attempts, not in thousands
my $attempts = $node->safe_psql('postgres', q{SELECT nextval('attempts')});
cmp_ok($attempts, '<', 60_000, "which took $attempts calls of the trigger");
isolates('a trigger after the row', q{CREATE TRIGGER t AFTER INSERT ON T FOR EACH ROW EXECUTE FUNCTION fail('22000')},
	qr/SQLSTATE 22000, stage write/);
isolates('a statement trigger', q{CREATE TRIGGER t AFTER INSERT ON T REFERENCING NEW TABLE AS new_rows
	FOR EACH STATEMENT EXECUTE FUNCTION fail_statement()}, qr/SQLSTATE P0001/);
isolates("an error whose class does not tell", q{CREATE TRIGGER t BEFORE INSERT ON T
	FOR EACH ROW EXECUTE FUNCTION fail('42P01')}, qr/SQLSTATE 42P01, stage write/);
isolates('a foreign key', q{ALTER TABLE T ADD CONSTRAINT must_be_known FOREIGN KEY (id) REFERENCES known},
	qr/SQLSTATE 23503.*"must_be_known"/);
isolates('a unique index on an expression', qq{INSERT INTO T VALUES (-1, -1, -1); DELETE FROM T;
	CREATE UNIQUE INDEX twice ON T ((CASE WHEN id IN (17, $bad) THEN -1 ELSE id END))}, qr/SQLSTATE 23505.*"twice"/);

# ---- at the end of the transaction ---------------------------------------------------

isolates('a deferred foreign key', q{ALTER TABLE T ADD CONSTRAINT must_be_known FOREIGN KEY (id) REFERENCES known
	DEFERRABLE INITIALLY DEFERRED}, qr/SQLSTATE 23503.*"must_be_known"/);
isolates('a deferred unique constraint', qq{
	ALTER TABLE T ADD twice bigint GENERATED ALWAYS AS (CASE WHEN id IN (17, $bad) THEN -1 ELSE id END) STORED;
	ALTER TABLE T ADD CONSTRAINT once UNIQUE (twice) DEFERRABLE INITIALLY DEFERRED}, qr/SQLSTATE 23505.*"once"/);
my $p = isolates('a deferred trigger', q{CREATE CONSTRAINT TRIGGER t AFTER INSERT ON T DEFERRABLE INITIALLY DEFERRED
	FOR EACH ROW EXECUTE FUNCTION fail('P0001')}, qr/SQLSTATE P0001/);

# ---- by a worker, and on -------------------------------------------------------------

$node->safe_psql('postgres', "SELECT kafka_ingest.resume('$p')");
$node->poll_until("SELECT count(*) FROM kafka_ingest.events WHERE pipeline = '$p' AND event = 'stop'", '2');
is($node->state($p), 'stopped/bad_message', 'a worker finds it, too');
is($node->safe_psql('postgres', "SELECT next_offset FROM kafka_ingest.partition_status WHERE pipeline = '$p'"),
	$bad, 'at the same place');
$node->safe_psql('postgres', "SELECT kafka_ingest.seek('$p', start_offsets => '{\"0\": @{[$bad + 1]}}')");
$node->wait_for_position_sum($p, 10_000);
is( $node->safe_psql('postgres', "SELECT count(*), count(DISTINCT _offset) FROM $p WHERE _offset <> $bad"),
	'9999|9999', 'behind it all are loaded, once');

# Loaded from the start by workers, with a bad message in each of several partitions.
my $many = $kafka->create_topic('isolation2', partitions => 4);
$kafka->produce($many, count => 2000, set => 100, template => '{"id": %d}');
$node->safe_psql('postgres', qq{
	CREATE TABLE many (id bigint CHECK (id % 500 <> 250), _partition int, _offset bigint);
	SELECT kafka_ingest.create_pipeline('many', topic => '$many', target => 'many', workers => 2)});
$node->wait_for_position_sum('many', 2000);
is( $node->safe_psql('postgres', q{SELECT count(*), count(DISTINCT (_partition, _offset)), min(id % 500) FILTER (WHERE id % 500 = 250) FROM many}),
	'1996|1996|', 'two workers, four bad messages: all others are loaded, once');
is( $node->safe_psql('postgres', q{SELECT count(*), count(DISTINCT (partition, message_offset)), count(DISTINCT value),
		min((convert_from(value, 'UTF8')::jsonb->>'id')::int % 500) = 250 FROM kafka_ingest.dead_letters WHERE pipeline = 'many'}),
	'4|4|4|t', 'and these are letters, once');

$node->stop;
done_testing();
