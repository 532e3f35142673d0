# run() by a superuser on another's pipeline runs user code as the owner, in a
# security-restricted operation: nothing of it can get at the superuser.

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use PostgreSQL::Test::Utils;
use Test::More;

my $kafka = KafkaBroker->shared;
my $node = IngestCluster->new('main');
my $topic = $kafka->create_topic('restricted');

$node->connect_kafka($kafka);
$node->safe_psql('postgres', q{
	CREATE ROLE alice LOGIN;
	CREATE SCHEMA alice AUTHORIZATION alice;
	GRANT USAGE ON FOREIGN SERVER kafka TO alice;
	SET SESSION AUTHORIZATION alice;

	-- says what the code that it is called from may do
	CREATE FUNCTION alice.attempt(command text) RETURNS text LANGUAGE plpgsql AS $$
	BEGIN
		EXECUTE command;
		RETURN 'done as ' || current_user;
	EXCEPTION WHEN insufficient_privilege THEN
		RETURN 'refused to ' || current_user;
	END $$;
	CREATE FUNCTION alice.from_default() RETURNS text LANGUAGE sql AS
		$$ SELECT alice.attempt('SET ROLE postgres') $$;
	CREATE TABLE alice.target (id bigint, _partition int, _offset bigint,
		by_default text DEFAULT alice.from_default(),
		as_role text, as_session text, as_temp text, as_file text);
	CREATE TABLE alice.deferred (id bigint, who text, as_role text);

	CREATE FUNCTION alice.at_row() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		NEW.as_role := alice.attempt('SET ROLE postgres');
		NEW.as_session := alice.attempt('RESET SESSION AUTHORIZATION');
		NEW.as_temp := alice.attempt('CREATE TEMP TABLE IF NOT EXISTS pg_temp_trap (i int)');
		NEW.as_file := alice.attempt('COPY alice.deferred TO ''/tmp/never''');
		RETURN NEW;
	END $$;
	CREATE TRIGGER at_row BEFORE INSERT ON alice.target
		FOR EACH ROW EXECUTE FUNCTION alice.at_row();

	-- what is deferred must not run later, as the one who commits
	CREATE FUNCTION alice.at_end() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO alice.deferred VALUES (NEW.id, current_user, alice.attempt('SET ROLE postgres'));
		RETURN NULL;
	END $$;
	CREATE CONSTRAINT TRIGGER at_end AFTER INSERT ON alice.target
		DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION alice.at_end();
});
$node->safe_psql('postgres', qq{
	SET SESSION AUTHORIZATION alice;
	SELECT kafka_ingest.create_pipeline('p', topic => '$topic', target => 'alice.target', paused => true)});

sub check_rows
{
	my ($from, $to, $how) = @_;
	my $refused = join '|', ('refused to alice') x 5;
	is( $node->safe_psql('postgres', qq{SELECT count(*), by_default, as_role, as_session, as_temp, as_file
			FROM alice.target WHERE id BETWEEN $from AND $to GROUP BY 2, 3, 4, 5, 6}),
		($to - $from + 1) . "|$refused", "$how: defaults and triggers are restricted to the owner");
	is( $node->safe_psql('postgres', qq{SELECT count(*), who, as_role FROM alice.deferred
			WHERE id BETWEEN $from AND $to GROUP BY 2, 3}),
		($to - $from + 1) . '|alice|refused to alice', "$how: deferred triggers, too");
	return;
}

$kafka->produce($topic, count => 300);
is( $node->safe_psql('postgres', q{
		SET search_path = pg_catalog, public;
		SET timezone = 'Asia/Tokyo';
		CALL kafka_ingest.run('p');
		SELECT current_user, current_setting('search_path'), current_setting('timezone')}),
	"300|0|t\npostgres|pg_catalog, public|Asia/Tokyo",
	'a superuser runs it and is afterwards who they were');
check_rows(0, 299, 'outside a block');

$kafka->produce($topic, count => 200, from => 300);
is( $node->safe_psql('postgres', q{
		BEGIN;
		CALL kafka_ingest.run('p', max_batches => 1);
		SELECT current_user;
		COMMIT}),
	"200|0|t\npostgres", 'and in a transaction block');
check_rows(300, 499, 'in a block');

$node->ledger_check('alice.target', $topic, { 0 => 500 });

# What is looked at beforehand may run functions, too: those that are declared
# IMMUTABLE are run where an expression is made simpler.
$node->safe_psql('postgres', q{SET SESSION AUTHORIZATION alice;
	CREATE FUNCTION alice.raise() RETURNS text LANGUAGE plpgsql VOLATILE AS $$
	BEGIN
		EXECUTE 'ALTER ROLE alice SUPERUSER';
		RETURN 'raised';
	EXCEPTION WHEN insufficient_privilege THEN RETURN 'refused';
	END $$;
	CREATE FUNCTION alice.constant() RETURNS text LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN alice.raise(); END';
	CREATE TABLE alice.folded (id bigint, t text DEFAULT alice.constant(), CHECK (alice.constant() IS NOT NULL))});
$node->safe_psql('postgres', qq{
	SET SESSION AUTHORIZATION alice;
	SELECT kafka_ingest.create_pipeline('folded', topic => '$topic', target => 'alice.folded', paused => true,
		columns => '{"id": "\$.id"}')});
$node->psql('postgres', q{CALL kafka_ingest.run('folded')});
is($node->safe_psql('postgres', q{SELECT rolsuper FROM pg_roles WHERE rolname = 'alice'}),
	'f', 'nobody is raised by what is evaluated beforehand');
$node->stop;
done_testing();
