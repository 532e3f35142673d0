# A pipeline of an ordinary role loads as that role; to other roles it is as if
# it were not there, and the extension's tables are nobody's to touch.

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use PostgreSQL::Test::Utils;
use Test::More;

my $secret = 'pa55word-of-the-vault';
my $kafka = KafkaBroker->shared;
# log_statement: what a client sends is PostgreSQL's to log, not ours
my $node = IngestCluster->new('main', conf => "log_statement = none\n");
my $topic = $kafka->create_topic('roles', partitions => 2);

$node->connect_kafka($kafka);
$node->safe_psql('postgres', q{
	CREATE ROLE alice LOGIN;
	CREATE ROLE bob LOGIN;
	CREATE ROLE carol LOGIN IN ROLE alice;
	CREATE ROLE monitor LOGIN IN ROLE pg_monitor;
	CREATE SCHEMA alice AUTHORIZATION alice;
	CREATE TABLE bobs (id bigint);
	ALTER TABLE bobs OWNER TO bob;
	GRANT USAGE ON FOREIGN SERVER kafka TO alice;
	GRANT USAGE ON FOREIGN DATA WRAPPER kafka_ingest TO alice;
});

sub as_role
{
	my ($role, $sql) = @_;
	my ($out, $err) = ('', '');
	my $status = $node->psql('postgres', "\\set VERBOSITY verbose\n$sql",
		stdout => \$out, stderr => \$err, extra_params => [ '-U', $role ]);
	return ($status, $out, $err);
}

sub value_as
{
	my ($role, $sql) = @_;
	my ($status, $out, $err) = as_role($role, $sql);
	BAIL_OUT("$role: $sql: $err") if $status != 0;
	return $out;
}

sub refused_to
{
	my ($role, $sql) = @_;
	my ($status, $out, $err) = as_role($role, $sql);
	return like($err, qr/^psql:.*ERROR:  42501:/m, "refused to $role: $sql");
}

# ---- loading as the owner -------------------------------------------------------

$kafka->produce($topic, count => 1000);
value_as('alice', qq{
	CREATE TABLE alice.target (id bigint, _partition int, _offset bigint,
		default_user text DEFAULT current_user, session text DEFAULT session_user,
		trigger_user text);
	CREATE FUNCTION alice.note() RETURNS trigger LANGUAGE plpgsql AS
		'BEGIN NEW.trigger_user := current_user; RETURN NEW; END';
	CREATE TRIGGER note BEFORE INSERT ON alice.target FOR EACH ROW EXECUTE FUNCTION alice.note();
	SELECT kafka_ingest.create_pipeline('alices', topic => '$topic', target => 'alice.target');
});
is(value_as('alice', q{SELECT kafka_ingest.wait_until_caught_up('alices', '60s')}),
	't', 'an ordinary role creates a pipeline and waits for it');
is( $node->safe_psql('postgres',
		'SELECT DISTINCT default_user, session, trigger_user FROM alice.target'),
	'alice|alice|alice', 'defaults and triggers run as the owner, whose session it is');
$node->ledger_check('alice.target', $topic, { 0 => 500, 1 => 500 });
is( $node->safe_psql('postgres', q{SELECT DISTINCT usename FROM pg_stat_activity
		WHERE backend_type = 'kafka_ingest worker'}),
	'alice', "the worker is the owner's in pg_stat_activity");

# ---- other roles ------------------------------------------------------------------

refused_to('bob', "SELECT kafka_ingest.$_")
  foreach "pause('alices')", "resume('alices')",
  "alter_pipeline('alices', batch_max_ms => 100)",
  "drop_pipeline('alices')", "pipeline_definition('alices')",
  "seek('alices', start_offsets => '{\"0\": 1}')",
  "wait_until_caught_up('alices')", "wait_for('alices', 0, 0)",
  "create_pipeline('alices', topic => 'x', target => 'bobs', or_alter => true)";
refused_to('bob', "CALL kafka_ingest.run('alices')");
refused_to('bob', "SELECT kafka_ingest.create_pipeline('mine', topic => 'x', target => 'bobs')");
$node->safe_psql('postgres', 'GRANT USAGE ON FOREIGN SERVER kafka TO bob; GRANT USAGE ON SCHEMA alice TO bob');
refused_to('bob', "SELECT kafka_ingest.create_pipeline('mine', topic => 'x', target => 'alice.target')");

foreach my $role ('alice', 'bob', 'monitor')
{
	refused_to($role, "SELECT * FROM kafka_ingest.$_")
	  foreach qw(pipeline position gap event dead_letter installation);
	refused_to($role, "DELETE FROM kafka_ingest.$_") foreach qw(pipeline position gap event);
	refused_to($role, 'UPDATE kafka_ingest.position SET next_offset = 0');
	refused_to($role, "INSERT INTO kafka_ingest.installation VALUES (gen_random_uuid())");
	refused_to($role, "SELECT nextval('kafka_ingest.pipeline_id')");
}

my @views = qw(status partition_status recent_batches pipelines gaps events dead_letters);
is(value_as('bob', "SELECT count(*) FROM kafka_ingest.$_"), 0, "bob sees nothing in $_")
  foreach @views;
is(value_as('bob', "SELECT count(*) FROM kafka_ingest.${_}_rows()"), 0, "nor in ${_}_rows()")
  foreach qw(status partition_status recent_batches);
isnt(value_as('monitor', "SELECT count(*) FROM kafka_ingest.$_ WHERE pipeline = 'alices'"),
	0, "pg_monitor sees $_")
  foreach qw(status partition_status recent_batches);
is(value_as('monitor', 'SELECT count(*) FROM kafka_ingest.pipelines'),
	0, 'but not the configuration');
isnt(value_as('alice', "SELECT count(*) FROM kafka_ingest.$_ WHERE pipeline = 'alices'"),
	0, "the owner sees $_")
  foreach qw(status partition_status recent_batches pipelines events);

# ---- a member of the owner role -----------------------------------------------------

is( value_as('carol', q{SELECT kafka_ingest.pause('alices');
		SELECT state FROM kafka_ingest.status WHERE pipeline = 'alices'}),
	"\npaused", 'a member of the owner role may pause, and sees it');
value_as('carol', q{SELECT kafka_ingest.resume('alices')});
is( value_as('carol', q{SELECT by FROM kafka_ingest.events WHERE event = 'pause'}),
	'carol', 'events say who it was');

# ---- secrets ----------------------------------------------------------------------

value_as('alice', qq{
	SELECT kafka_ingest.create_connection('vault', brokers => '127.0.0.1:1',
		properties => '{"security.protocol": "sasl_plaintext", "sasl.mechanisms": "PLAIN"}',
		secrets => '{"sasl.username": "loader", "sasl.password": "$secret"}');
	CREATE TABLE alice.vaulted (id bigint);
	SELECT kafka_ingest.create_pipeline('vaulted', topic => 'x', target => 'alice.vaulted',
		connection => 'vault');
});
$node->wait_for_state('vaulted', qr{^reconnecting/});
my $shown = '';
foreach my $role ('postgres', 'alice', 'bob', 'monitor')
{
	$shown .= value_as($role, "SELECT v::text FROM kafka_ingest.$_ v") foreach @views;
	$shown .= value_as($role, 'SELECT v::text FROM pg_stat_activity v') if $role eq 'postgres';
	$shown .= value_as($role, 'SELECT s::text FROM pg_foreign_server s');
}
$shown .= value_as('alice', q{SELECT kafka_ingest.pipeline_definition('vaulted')});
like($shown, qr/vaulted/, 'the views were read');
unlike($shown, qr/\Q$secret/, 'no view, definition or activity shows a secret');

foreach my $call (
	qq{alter_connection('vault', secrets => '{"sasl.password": ["$secret"]}')},
	qq{alter_connection('vault', secrets => '{"sasl.passwort": "$secret"}')},
	qq{alter_connection('vault', properties => '{"sasl.password": "$secret"}')},
	qq{create_pipeline('v', topic => 'x', target => 'alice.vaulted', properties => '{"sasl.password": "$secret"}')},
	q{check_connection('vault', '2s')})
{
	my ($status, $out, $err) = as_role('alice', "SELECT kafka_ingest.$call");
	(my $name = $call) =~ s/\Q$secret/.../;
	like($err, qr/ERROR/, "fails: $name");
	# psql itself repeats no statement; a line with the statement would be the server's
	unlike($err, qr/\Q$secret/, 'and shows no secret');
}
my $log = slurp_file($node->logfile);
# log_min_error_statement: the failing statements above are PostgreSQL's to log
my @lines = grep { /\Q$secret/ && !/STATEMENT:/ } split /\n/, $log;
is_deeply(\@lines, [], 'nor does the server log, but for statements that clients sent');

$node->stop;
done_testing();
