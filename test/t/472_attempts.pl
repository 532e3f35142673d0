# What isolating a bad message costs: about as many failing attempts as the
# batch can be halved, wherever it stands, far fewer when the writer knows the
# row, and none where it need not raise. A sequence counts the attempts, since no rollback undoes that.

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use Test::More;

my $kafka = KafkaBroker->shared;
my $node = IngestCluster->new('main');
my $topic = $kafka->create_topic('attempts');
my $count = 10_000;
my $pipelines = 0;

$node->connect_kafka($kafka);
$kafka->produce($topic, count => $count);

sub query
{
	return $node->safe_psql('postgres', $_[0]);
}

# A BEFORE trigger of the statement counts the attempts that begin; each is a
# subtransaction of its own, whose number the rows have if it comes to its end.
query(q{
	CREATE SEQUENCE begun;
	CREATE TABLE bad (id bigint PRIMARY KEY);
	CREATE FUNCTION begin_it() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM nextval(''begun''); RETURN NULL; END';
	CREATE FUNCTION refuse_rows() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		IF EXISTS (SELECT FROM new_rows JOIN bad USING (id)) THEN RAISE 'one of these'; END IF;
		RETURN NULL;
	END $$});

# Loads the topic in one batch into T, completed by the SQL; how many attempts failed.
sub failing_attempts
{
	my ($name, $sql, @bad) = @_;
	my $p = 'p' . ++$pipelines;
	$sql =~ s/\bT\b/$p/g;
	query(qq{
		TRUNCATE bad; INSERT INTO bad SELECT unnest('{@{[join ',', @bad]}}'::int[]);
		SELECT setval('begun', 1, false);
		CREATE TABLE $p (id bigint, _partition int, _offset bigint);
		$sql;
		CREATE TRIGGER aa BEFORE INSERT ON $p FOR EACH STATEMENT EXECUTE FUNCTION begin_it();
		SELECT kafka_ingest.create_pipeline('$p', topic => '$topic', target => '$p', batch_max_messages => 100000, batch_max_ms => 60000, paused => true)});
	my $before = query("SELECT count(DISTINCT xmin::text) FROM $p");
	is(query("CALL kafka_ingest.run('$p')"), join('|', $count, scalar @bad, 't'), "$name: loaded");
	is( query("SELECT string_agg(message_offset::text, ' ' ORDER BY message_offset) FROM kafka_ingest.dead_letters WHERE pipeline = '$p'"), "@bad", '... and just the bad ones are letters');
	is(query("SELECT count(*), count(DISTINCT _offset) FROM $p WHERE id NOT IN (SELECT id FROM bad)"), join('|', ($count - @bad) x 2), '... and all others in');
	my $failed = query("SELECT last_value - ((SELECT count(DISTINCT xmin::text) FROM $p) - $before) FROM begun");
	note("$name: $failed failing attempts of " . query('SELECT last_value FROM begun'));
	return $failed;
}

my $blind = q{CREATE TRIGGER t AFTER INSERT ON T REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION refuse_rows()};

# No error tells which: by halves.
cmp_ok(failing_attempts("blind, number $_", $blind, $_), '<=', 15, "number $_ of a batch by halves") foreach 0, 1, 4999, 6543, 9999;
cmp_ok(failing_attempts('blind, both ends', $blind, 0, 9999), '<=', 20, 'both ends');
cmp_ok(failing_attempts('blind, neighbours', $blind, 5000 .. 5004), '<=', 40, 'five neighbours');
cmp_ok(failing_attempts('blind, ten', $blind, map { 1000 * $_ + 500 } 0 .. 9), '<=', 120, 'ten of them');

# The writer knows the row: the whole, and it alone.
my $apart = q{INSERT INTO T SELECT id FROM bad; ALTER TABLE T ADD EXCLUDE (id WITH =)};
cmp_ok(failing_attempts("known, number $_", $apart, $_), '<=', 2, "number $_ of a batch, known") foreach 0, 1, 4999, 6543, 9999;
cmp_ok(failing_attempts('known, a hundred', $apart, map { 100 * $_ + 37 } 0 .. 99), '<=', 220, 'a hundred of them');

# It is told without raising.
my $unique = q{INSERT INTO T SELECT id FROM bad; CREATE UNIQUE INDEX ON T (id)};
is(failing_attempts('told, both ends', $unique, 0, 9999), 0, 'both ends, told');
is(failing_attempts('told, a thousand', $unique, map { 10 * $_ + 7 } 0 .. 999), 0, 'a thousand of them, told');

$node->stop;
done_testing();
