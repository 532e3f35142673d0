# check: every code that a test can bring about, who sees what, and that the
# reference has exactly the codes that there are.

use strict;
use warnings;

use FindBin;
use IngestCluster;
use KafkaBroker;
use PostgreSQL::Test::Utils;
use Test::More;

my $root = "$FindBin::RealBin/../..";
my $kafka = KafkaBroker->shared;
my $node = IngestCluster->new('check', conf => "autovacuum = off\n");

$node->connect_kafka($kafka);

sub query
{
	return $node->safe_psql('postgres', $_[0]);
}

# The advice of a pipeline, or of the server: "severity code", a line each.
sub advice
{
	my ($pipeline) = @_;
	my $where = defined $pipeline ? "pipeline = '$pipeline'" : 'pipeline IS NULL';
	# of the library, not of the server, and tested below
	return query("SELECT severity || ' ' || code FROM kafka_ingest.check() WHERE $where AND code <> 'unsafe_topic_recreation'");
}

sub wait_for_advice
{
	my ($pipeline, $advice) = @_;
	$node->poll_until("SELECT string_agg(severity || ' ' || code, E'\\n') FROM kafka_ingest.check() WHERE pipeline = '$pipeline'",
		$advice);
	pass("$pipeline: " . $advice =~ s/\n/, /r);
	return;
}

sub create
{
	my ($name, $topic, $options) = @_;
	query("CREATE TABLE $name (id bigint); SELECT kafka_ingest.create_pipeline('$name', topic => '$topic', target => '$name' $options)");
	return;
}

# ---- the server ---------------------------------------------------------------------------

is(advice(), 'warning fsync_off', 'the server: the tests run without fsync');
query('ALTER SYSTEM SET kafka_ingest.enabled = off');
query("ALTER ROLE CURRENT_USER SET synchronous_commit = off; SELECT pg_reload_conf()");
my $topic = $kafka->create_topic('check');
$kafka->produce($topic, count => 10);
create('demo', $topic, '');
create('demo2', $topic, '');
is(advice(), "warning disabled\nwarning fsync_off\ninfo synchronous_commit_off", 'what holds all back is said once, in order');
is(advice('demo'), '', 'and not of each pipeline');
query('ALTER SYSTEM RESET kafka_ingest.enabled');
query('ALTER ROLE CURRENT_USER RESET synchronous_commit; SELECT pg_reload_conf()');
query("UPDATE pg_extension SET extversion = '0.2.0' WHERE extname = 'kafka_ingest'");
is(advice(), "warning fsync_off\nwarning version_mismatch", 'SQL objects of another version');
query("UPDATE pg_extension SET extversion = (SELECT library FROM kafka_ingest.version()) WHERE extname = 'kafka_ingest'");
is(query('SELECT count(*) FROM kafka_ingest.version() WHERE features @> \'{unsafe_topic_recreation}\''),
	query("SELECT count(*) FROM kafka_ingest.check() WHERE code = 'unsafe_topic_recreation'"), 'unsafe_topic_recreation');
$node->wait_for_position_sum('demo', 10);
is(advice('demo'), '', 'a pipeline that is well');
is(query('SELECT count(*) FROM kafka_ingest.check() WHERE problem IS NULL OR hint IS NULL'), '0', 'there is always a problem and a hint');

# ---- dead letters ----------------------------------------------------------------------------

$kafka->produce_messages($topic, map { { value => qq({"id": "secret $_"}) } } 1 .. 3);
wait_for_advice('demo', 'warning dead_letters');
query('UPDATE kafka_ingest.dead_letter SET superseded = true WHERE id = (SELECT min(id) FROM kafka_ingest.dead_letters WHERE pipeline = \'demo\')');
query("ALTER SYSTEM SET kafka_ingest.dead_letter_max_size = '2kB'");
query('SELECT pg_reload_conf()');
is(query("SELECT code, problem FROM kafka_ingest.check() WHERE code ~ 'letters' AND pipeline = 'demo'"),
	"dead_letters|Messages that could not be written and wait as dead letters: 2.\n"
	  . 'superseded_letters|Dead letters that later messages of their keys supersede, and that will never be applied: 1.',
	'letters of both kinds, far from the limit');
$kafka->produce_messages($topic, { value => '{"id": "' . 'x' x 600 . '"}' });
wait_for_advice('demo', "warning dead_letters\nwarning dead_letters_near_limit\ninfo superseded_letters");
query('ALTER SYSTEM RESET kafka_ingest.dead_letter_max_size; ');
query('SELECT pg_reload_conf()');
is(query("SELECT count(*) FROM kafka_ingest.check() c WHERE c::text ~ 'secret|xxx'"), '0', 'no value of a message is shown');

# ---- states ----------------------------------------------------------------------------------

create('stops', $topic, ", on_error => 'stop'");
wait_for_advice('stops', 'error bad_message');
is(query("SELECT c.problem = s.detail FROM kafka_ingest.check() c JOIN kafka_ingest.status s USING (pipeline) WHERE pipeline = 'stops'"),
	't', 'the problem is the detail');
create('no_topic', 'check_no_such_topic', '');
wait_for_advice('no_topic', 'error topic_missing');
query('CREATE ROLE anna LOGIN; GRANT USAGE ON FOREIGN SERVER kafka TO anna; GRANT CREATE ON SCHEMA public TO anna');
my $good = $kafka->create_topic('check_good');
query("SET ROLE anna; CREATE TABLE annas (id bigint); SELECT kafka_ingest.create_pipeline('annas', topic => '$good', target => 'annas')");
if (query('SHOW server_version_num') < 170000)
{
	query('ALTER ROLE anna NOLOGIN');
	wait_for_advice('annas', 'error owner_cannot_login');
}
else
{
	# an owner need not log in; something else must be wrong
	query("SET ROLE anna; SELECT kafka_ingest.pause('annas')");
	query("UPDATE kafka_ingest.pipeline SET changed_at = now() - interval '25 hours' WHERE name = 'annas'");
	wait_for_advice('annas', 'info paused');
}
query("SELECT kafka_ingest.pause('demo2')");
is(advice('demo2'), 'warning dead_letters', 'paused a moment ago');
query("UPDATE kafka_ingest.pipeline SET changed_at = now() - interval '25 hours' WHERE name = 'demo2'");
is(advice('demo2'), "warning dead_letters\ninfo paused", 'for more than a day');
query('CREATE ROLE bob; CREATE ROLE monitor; GRANT pg_monitor TO monitor');
is(query("SET ROLE anna; SELECT string_agg(DISTINCT pipeline, ' ') FROM kafka_ingest.check()"), 'annas', 'an owner sees their own');
is(query("SET ROLE bob; SELECT count(*) FROM kafka_ingest.check() WHERE pipeline IS NOT NULL"), '0', 'others see none');
is(query("SET ROLE monitor; SELECT string_agg(DISTINCT pipeline, ' ') FROM kafka_ingest.check()"),
	query("SELECT string_agg(DISTINCT pipeline, ' ') FROM kafka_ingest.check()"), 'pg_monitor sees all');

# ---- connections -------------------------------------------------------------------------------

query(q{SELECT kafka_ingest.create_connection('plain', brokers => '127.0.0.1:1', properties => '{"security.protocol": "SASL_SSL", "sasl.mechanisms": "PLAIN"}')});
query(q{SELECT kafka_ingest.create_connection('scram', brokers => '127.0.0.1:1', properties => '{"security.protocol": "SASL_SSL", "sasl.mechanisms": "SCRAM-SHA-256"}',
	secrets => '{"sasl.username": "u", "sasl.password": "p"}')});
create('plain', 't', ", connection => 'plain', paused => true");
create('scram', 't', ", connection => 'scram', paused => true");
is(advice('plain'), 'error no_credentials', 'SASL without a user mapping');
my $is_old = query("SELECT string_to_array(librdkafka, '.')::int[] < '{2,6,1}' FROM kafka_ingest.version()");
is(advice('scram'), $is_old eq 't' ? 'warning old_scram' : '', 'SCRAM, and the version of librdkafka');
query(q{CREATE USER MAPPING FOR PUBLIC SERVER plain OPTIONS ("sasl.username" 'u', "sasl.password" 'p')});
is(advice('plain'), '', 'a mapping for PUBLIC will do');

# ---- configuration and speed ----------------------------------------------------------------------

my $slow = $kafka->create_topic('check_slow');
$kafka->produce($slow, count => 30_000);
query('CREATE FUNCTION sleeps() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM pg_sleep(0.02); RETURN NEW; END$$');
query('CREATE TABLE slow (id bigint); CREATE TRIGGER t BEFORE INSERT ON slow FOR EACH ROW EXECUTE FUNCTION sleeps()');
query("SELECT kafka_ingest.create_pipeline('slow', topic => '$slow', target => 'slow', batch_max_messages => 10, workers => 3)");
wait_for_advice('slow', "warning headroom_low\ninfo idle_workers\ninfo slow_writer");
query("SELECT kafka_ingest.pause('slow')");
query(qq{INSERT INTO kafka_ingest.gap SELECT id, '$slow', 0, 0, 9, r, NULL, now(), 'x' FROM kafka_ingest.pipeline, unnest('{start,seek,retention}'::text[]) r WHERE name = 'slow'});
is(query("SELECT problem ~ ': 1, with 10 offsets;' FROM kafka_ingest.check() WHERE code = 'gaps'"), 't', 'gaps: those that were lost');

# ---- an open transaction ---------------------------------------------------------------------------

my $held = $kafka->create_topic('check_held');
$kafka->produce($held, count => 5);
my $open = $kafka->open_transaction($held, 7);
create('held', $held, '');
$node->wait_for_position_sum('held', 5);
is(advice('held'), '', 'a transaction that is open for a moment');
wait_for_advice('held', 'warning open_transaction');
my $detail = query("SELECT detail FROM kafka_ingest.status WHERE pipeline = 'held' AND state = 'running' AND lag = 0");
like($detail, qr/open transaction.*"$held" partition 0: 7 offsets from 5 on/, 'the detail of status names it');
$open->commit;
$node->poll_until("SELECT count(*) FROM kafka_ingest.check() WHERE pipeline = 'held'", '0');
is(query("SELECT detail FROM kafka_ingest.status WHERE pipeline = 'held'"), '', 'until it ends');

# ---- not preloaded ---------------------------------------------------------------------------------

$node->stop;
my $plain = IngestCluster->new('plain', preload => '');
is($plain->safe_psql('postgres', "SELECT severity, code FROM kafka_ingest.check() WHERE code <> 'unsafe_topic_recreation' AND code <> 'fsync_off'"),
	'error|not_preloaded', 'a server without the library');
my (undef, undef, $err) = $plain->psql('postgres', 'SELECT * FROM kafka_ingest.cluster_status()', on_error_die => 0);
like($err, qr/there are no workers/, 'whose workers cannot be listed');
$plain->stop;

# ---- the reference ----------------------------------------------------------------------------------

sub slurp
{
	my ($file) = @_;
	open my $in, '<', "$root/$file" or die "$file: $!";
	local $/;
	return scalar <$in>;
}

my ($sql) = slurp('sql/kafka_ingest--0.2.0--0.3.0.sql') =~ /(CREATE FUNCTION kafka_ingest\.check\(\).*?\$\$;)/s;
my %codes = map { $_ => 1 } slurp('src/functions_check.c') =~ /advise\(check, "\w+", "(\w+)"/g,
  $sql =~ /'(?:error|warning|info)', '(\w+)'/g;
delete @codes{qw(not_preloaded disabled standby connection_missing)};    # reasons, too
my ($section) = slurp('doc/reference.md') =~ /^### `check\(\)`\n(.*?)^### /ms;
my @told = sort($section =~ /^\| `(\w+)` \|/mg);
is_deeply(\@told, [ sort keys %codes ], 'the reference has exactly the codes that there are');

done_testing();
