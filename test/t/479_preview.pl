# preview() shows what a pipeline would write of a message: the row, fields that
# nobody takes, or why it is bad; it writes nothing, runs user code as the owner,
# and needs no broker for a message that is given.

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use PostgreSQL::Test::Utils;
use Test::More;

my $kafka = KafkaBroker->shared;
my $node = IngestCluster->new('main');
my $topic = $kafka->create_topic('preview', partitions => 2);

sub query
{
	return $node->safe_psql('postgres', $_[0]);
}

# What the call gives, or the SQLSTATE it fails with.
sub preview
{
	my ($arguments, $role) = @_;
	my ($out, $err);
	$node->psql('postgres', '\set VERBOSITY verbose' . "\n" . ($role ? "SET SESSION AUTHORIZATION $role;\n" : '')
		  . "SELECT * FROM kafka_ingest.preview($arguments) ORDER BY 1, 2;", stdout => \$out, stderr => \$err);
	return $err =~ /ERROR:\s+(\w{5}):/ ? $1 : $out;
}

$node->connect_kafka('127.0.0.1:1');
query(qq{
	CREATE TABLE target (id int PRIMARY KEY, v int CHECK (v >= 0), col text NOT NULL, _key text, _headers jsonb, at timestamptz DEFAULT now());
	INSERT INTO target VALUES (7, 7, 'there', NULL, NULL);
	SELECT kafka_ingest.create_pipeline('p', topic => '$topic', target => 'target', paused => true)});

# ---- a message that is given: no broker answers -------------------------------------------

is( preview(q{'p', '{"id": 1, "v": "2", "col": "x", "more": 1, "other": {"a": 1}}', 'k', '{"h": "1"}'}),
	'||{"v": 2, "id": 1, "col": "x", "_key": "k", "_headers": {"h": "1"}}|{more,other}||',
	'the row, without what takes its default, and the fields that nobody takes');
like(preview(q['p', '{"id": 1, "v": 1']), qr/^\|\|\|\|22P02\|invalid JSON/, 'no JSON');
like(preview(q{'p', '{"id": 1, "v": "x", "col": "c"}'}), qr/^\|\|\|\{\}\|22P02\|column "v": invalid input/, 'the wrong type, and for which column');
like(preview(q{'p', '{"id": 1, "v": 1}'}), qr/^\|\|\{"v": 1.*\|23502\|column "col": null value/, 'NOT NULL');
like(preview(q{'p', '{"id": 1, "v": -1, "col": "c"}'}), qr/\|23514\|/, 'a constraint');
like(preview(q{'p', '{"id": 7, "v": 1, "col": "c"}'}), qr/\|23505\|/, 'a key that is there');
is(preview(q{'p', key => 'k'}), '|||{}||a tombstone, which writes no row', 'a tombstone');
is(preview(q{'p', '{}', headers => '[]'}), '22023', 'headers that are no object');
is(preview(q{'nobody', '{}'}), '42704', 'no such pipeline');
is(preview(q{'p', max_messages => 0}), '22023', 'no messages');
is(preview(q{'p'}), '08001', 'its next messages need the broker');
is(query('SELECT count(*) FROM target'), 1, 'nothing was written');

# ---- other ways of writing ------------------------------------------------------------------

query(q{SELECT kafka_ingest.alter_pipeline('p', filter => '{"$.col": "c"}')});
is(preview(q{'p', '{"id": 1, "v": 1, "col": "x"}'}), '|||{}||the filter does not let this message in', 'the filter');
query(q{SELECT kafka_ingest.alter_pipeline('p', reset => '{filter}', mode => 'upsert', delete_when => '{"$.gone": "true"}')});
is(preview(q{'p', key => '7'}), '||{"id": 7}|{}||a tombstone: the row of its key is deleted', 'a tombstone that deletes');
is( preview(q{'p', '{"id": 7, "gone": true}'}), '||{"id": 7}|{gone}||the row of this key is deleted',
	'what delete_when marks needs its key only');
is(preview(q{'p', '{"id": 7, "v": 8, "col": "new"}', 'k'}) =~ s/\|\{\}.*//sr, '||{"v": 8, "id": 7, "col": "new", "_key": "k", "_headers": {}}', 'a row that is there');
is(query('SELECT id, v FROM target'), '7|7', 'and stays as it is');
query(q{CREATE TABLE keys (k text);
	SELECT kafka_ingest.create_pipeline('keys', topic => 'keys', target => 'keys', columns => '{"k": "@key"}', paused => true)});
is(preview(q{'keys', 'no JSON', 'k'}), '||{"k": "k"}|{}||', 'a value that nobody looks at');
query(q{SELECT kafka_ingest.create_pipeline('s', topic => 's', statement => $$INSERT INTO keys SELECT value->>'k' FROM messages; SELECT 1 / (value->>'n')::int FROM messages$$, paused => true)});
is(preview(q{'s', '{"k": "a", "n": 1}'}), '|||{}||', 'a statement');
like(preview(q{'s', '{"k": "a", "n": 0}'}), qr/\|22012\|division by zero/, 'that fails');
is(query('SELECT count(*) FROM keys'), 0, 'nothing was written');

# ---- as whom --------------------------------------------------------------------------------

query(q{
	CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN;
	GRANT USAGE ON FOREIGN SERVER kafka TO alice;
	CREATE SCHEMA alice AUTHORIZATION alice;
	SET SESSION AUTHORIZATION alice;
	CREATE TABLE alice.spied (id int, who text, may text);
	CREATE FUNCTION alice.spy() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		BEGIN SET ROLE postgres; NEW.may := 'all'; EXCEPTION WHEN OTHERS THEN NEW.may := 'refused'; END;
		RAISE EXCEPTION '% is %', current_user, NEW.may;
	END $$;
	CREATE TRIGGER spy BEFORE INSERT ON alice.spied FOR EACH ROW EXECUTE FUNCTION alice.spy();
	SELECT kafka_ingest.create_pipeline('hers', topic => 'hers', target => 'alice.spied', paused => true)});
like(preview(q{'hers', '{"id": 1}'}), qr/P0001\|alice is refused/, 'a superuser runs its triggers as the owner, restricted');
like(preview(q{'hers', '{"id": 1}'}, 'alice'), qr/P0001\|alice is refused/, 'so does the owner');
is(preview(q{'hers', '{"id": 1}'}, 'bob'), '42501', 'nobody else may');

# ---- the next messages ------------------------------------------------------------------------

query('SELECT kafka_ingest.alter_connection(\'kafka\', brokers => \'' . $kafka->brokers . '\')');
query(q{SELECT kafka_ingest.alter_pipeline('p', mode => 'append', reset => '{delete_when}')});
$kafka->produce_messages($topic,
	(map { { partition => 0, key => "k$_", value => qq({"id": $_, "v": $_, "col": "c"}), headers => [ [ h => "v$_" ] ] } } 1 .. 4),
	{ partition => 0, value => 'broken' },
	{ partition => 1, value => '{"id": 9, "v": 9, "col": "c"}' });
my @rows = split /\n/, preview(q{'p'});
is(scalar(@rows), 6, 'all six');
is($rows[1], '0|1|{"v": 2, "id": 2, "col": "c", "_key": "k2", "_headers": {"h": "v2"}}|{}||', 'partition, offset, key, headers');
like($rows[4], qr/^0\|4\|\|\|22P02\|/, 'a bad one');
like($rows[5], qr/^1\|0\|\{"v": 9/, 'the other partition');
is(scalar(split /\n/, preview(q{'p', max_messages => 2})), 2, 'max_messages');
query(q{CALL kafka_ingest.run('p')});
is(preview(q{'p'}), '', 'none is left when all is loaded');
is(query(q{SELECT count(*) FROM target}), 6, 'they were all there to be loaded');
$kafka->produce_messages($topic, { partition => 1, value => '{"id": 10, "v": 1, "col": "c"}' });
like(preview(q{'p'}), qr/^1\|1\|\{"v": 1, "id": 10[^\n]*$/, 'from the position on');

$node->stop;
done_testing();
