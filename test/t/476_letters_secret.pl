# What a message holds, and the whole text of its error, is in dead_letters alone,
# and there for its owner and superusers: neither pg_monitor nor anybody else, no
# other view, no log has it.

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use PostgreSQL::Test::Utils;
use Test::More;

my $marker = 'geheim4711';
my $kafka = KafkaBroker->shared;
my $node = IngestCluster->new('main', conf => "log_error_verbosity = verbose\nlog_min_messages = info\nkafka_ingest.retry_backoff_max = '300ms'\n");
my $topic = $kafka->create_topic('secret');

# The statements of this test do not have the marker, since the log has them.
sub query
{
	my ($sql, $role) = @_;
	return $node->safe_psql('postgres', ($role ? "SET SESSION AUTHORIZATION $role; " : '') . $sql);
}

my %values = (
	1 => qq({"id": 1, "t": "$marker"),
	2 => qq({"id": 2, "m": "$marker"}),
	3 => qq({"id": 3, "t": "raise $marker"}),
	4 => qq({"id": 4, "t": "unique $marker"}),
	5 => qq({"id": 5, "t": "unique $marker"}),
	6 => qq({"id": 6, "t": "check $marker"}),
	7 => qq({"id": 7, "t": "look $marker"}),
	8 => qq({"id": 8, "i": "$marker"}));
$kafka->produce_messages($topic, { value => '{"id": 0}' },
	map { { key => "key $marker", value => $values{$_}, headers => [ [ "name $marker" => "value $marker" ] ] } } sort keys %values);
$node->connect_kafka($kafka);
query(q{
	CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN; CREATE ROLE watcher LOGIN IN ROLE pg_monitor;
	GRANT USAGE ON FOREIGN SERVER kafka TO alice;
	CREATE SCHEMA alice AUTHORIZATION alice;
	SET SESSION AUTHORIZATION alice;
	CREATE TYPE alice.mood AS ENUM ('fine');
	CREATE TABLE alice.t (id int, i int, m alice.mood, t text UNIQUE CHECK (t NOT LIKE 'check%'));
	CREATE FUNCTION alice.tell() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		IF NEW.t LIKE 'raise%' THEN RAISE 'text %', NEW.t USING DETAIL = 'detail ' || NEW.t, HINT = NEW.t; END IF;
		IF NEW.t LIKE 'look%' THEN EXECUTE 'SELECT ' || quote_ident(NEW.t); END IF;
		IF NEW.t LIKE 'pass%' THEN RAISE query_canceled USING MESSAGE = NEW.t, DETAIL = NEW.t; END IF;
		RETURN NULL;
	END $$;
	CREATE TRIGGER tell AFTER INSERT ON alice.t FOR EACH ROW EXECUTE FUNCTION alice.tell()});
query("SELECT kafka_ingest.create_pipeline('p', topic => '$topic', target => 'alice.t')", 'alice');
$node->wait_for_position_sum('p', 9);
is(query(q{SELECT string_agg(message_offset || ' ' || sqlstate, ', ' ORDER BY message_offset) FROM kafka_ingest.dead_letters}, 'alice'),
	'1 22P02, 2 22P02, 3 P0001, 5 23505, 6 23514, 7 42703, 8 22P02', 'letters of all kinds');

# ---- who sees what ------------------------------------------------------------------------------

my $marked = query(q{SELECT string_agg(message_offset || ' ' || (convert_from(value, 'UTF8') LIKE '%4711%') || (convert_from(key, 'UTF8') LIKE '%4711%')
	|| (headers[1]::text LIKE '%4711%'), ', ' ORDER BY message_offset) FROM kafka_ingest.dead_letters}, 'alice');
is($marked, join(', ', map { "$_ truetruetrue" } 1, 2, 3, 5, 6, 7, 8), 'the owner sees messages');
is(query(q{SELECT string_agg(message_offset::text, ' ' ORDER BY message_offset) FROM kafka_ingest.dead_letters WHERE error LIKE '%4711%'}, 'alice'), '3 5 7', '... and whole errors, where there were some');
like(query(q{SELECT error FROM kafka_ingest.dead_letters WHERE message_offset = 3}, 'alice'), qr/^text raise \w+\nDETAIL:  detail raise \w+$/, '... with their detail');
is(query('SELECT count(*) FROM kafka_ingest.dead_letters'), 7, 'a superuser, too');
foreach my $role (qw(watcher bob))
{
	is(query('SELECT count(*) FROM kafka_ingest.dead_letters', $role), 0, "$role sees no letter");
	my $err;
	isnt($node->psql('postgres', "SET SESSION AUTHORIZATION $role; SELECT * FROM kafka_ingest.dead_letter", stderr => \$err), 0, '... nor the table');
	isnt($node->psql('postgres', "SET SESSION AUTHORIZATION $role; SELECT kafka_ingest.$_('p')"), 0, "... nor may call $_()") foreach qw(retry_dead_letters discard_dead_letters);
}
is(query('SELECT dead_letters FROM kafka_ingest.status', 'watcher'), 7, 'pg_monitor sees how many there are');

# ---- nowhere else ---------------------------------------------------------------------------------

# tried again; and an error that passes
query(q{SELECT kafka_ingest.retry_dead_letters('p')}, 'alice');
is(query(q{SELECT count(*), min(attempts), max(attempts) FROM kafka_ingest.dead_letters}), '7|2|2', 'a retry of what cannot be mended is no error');
my $id = query('SELECT id FROM kafka_ingest.dead_letters WHERE message_offset = 7');
is(query("SELECT failed FROM kafka_ingest.retry_dead_letters('p', ids => ARRAY[$id])", 'alice'), 1, '... even alone, and of an error that could be anybody\'s');
$kafka->produce_messages($topic, { value => qq({"id": 9, "t": "pass $marker"}) });
$node->wait_for_state('p', 'retrying/database_error');
my $last = query('SELECT last_error_at FROM kafka_ingest.status');
$node->poll_until("SELECT last_error_at > '$last' FROM kafka_ingest.status", 't');
foreach my $view (qw(status partition_status recent_batches events gaps pipelines))
{
	unlike(query("SELECT v::text FROM kafka_ingest.$view v"), qr/\Q$marker/, "$view has no value");
}
unlike(query(q{SELECT a::text FROM pg_stat_activity a WHERE backend_type LIKE 'kafka_ingest%'}), qr/\Q$marker/, 'nor pg_stat_activity');
like(query('SELECT last_error FROM kafka_ingest.status'), qr/57014/, 'what is tried again is told');
query(q{SELECT kafka_ingest.discard_dead_letters('p')}, 'alice');
unlike(query('SELECT v::text FROM kafka_ingest.gaps v'), qr/\Q$marker/, 'nor the gaps of what was discarded');
unlike(slurp_file($node->logfile), qr/\Q$marker/, 'nor the server log');

$node->stop;
done_testing();
