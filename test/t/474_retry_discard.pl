# retry_dead_letters() loads what failed through the mapping and the table as
# they are now, as the owner, in the caller's transaction; discard_dead_letters()
# gives up what is left, and leaves gaps.

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use Test::More;

my $kafka = KafkaBroker->shared;
my $node = IngestCluster->new('main');
my $pipelines = 0;

$node->connect_kafka($kafka);

sub query
{
	my ($sql, @params) = @_;
	return $node->safe_psql('postgres', $sql, @params);
}

# What psql reports of a statement that fails.
sub error_of
{
	my ($sql) = @_;
	my $err;
	$node->psql('postgres', "\\set VERBOSITY verbose\n$sql", stderr => \$err);
	return $err;
}

# A pipeline of messages, those of them that are bad letters already.
sub create
{
	my ($table, $options, @values) = @_;
	my $p = 'p' . ++$pipelines;
	my $topic = $kafka->create_topic('retry', config => { 'retention.ms' => -1 });
	$kafka->produce_messages($topic, map { { key => 'key', headers => [ [ h => "\x01" ] ], timestamp => 1_600_000_000_123, value => $_ } } @values);
	$table =~ s/\bT\b/$p/g;
	query(qq{$table; SELECT kafka_ingest.create_pipeline('$p', topic => '$topic', target => '$p', max_error_ratio => 1 $options)});
	$node->wait_for_position_sum($p, scalar @values);
	return $p;
}

sub letters
{
	my ($p) = @_;
	return query(qq{SELECT coalesce(string_agg(concat_ws(' ', message_offset, stage, sqlstate, column_name, constraint_name, attempts), ', ' ORDER BY message_offset), '')
		FROM kafka_ingest.dead_letters WHERE pipeline = '$p'});
}

sub counts
{
	my ($p) = @_;
	return query("SELECT messages, loaded, dead_letters, dead_letters_total FROM kafka_ingest.status WHERE pipeline = '$p'");
}

sub retry
{
	my ($p, $arguments) = @_;
	return query("SELECT retried, loaded, superseded, failed FROM kafka_ingest.retry_dead_letters('$p'@{[$arguments // '']})");
}

# ---- mended ------------------------------------------------------------------------------------

# The table's fault, all of the message's parts, and each stays what it was.
my $p = create('CREATE TABLE T (id int, code varchar(3), _key text, _offset bigint, _timestamp timestamptz, _headers jsonb)', '',
	'{"id": 0, "code": "a"}', '{"id": 1, "code": "long one"}', 'no JSON', '{"id": 3, "code": "long two"}', '{"id": 4, "code": "b"}');
is(letters($p), '1 map 22001 code 1, 2 decode 22P02 1, 3 map 22001 code 1', 'three letters');
is(retry($p), '3|0|0|3', 'nothing is mended: they fail again');
is(letters($p), '1 map 22001 code 2, 2 decode 22P02 2, 3 map 22001 code 2', '... and have one attempt more');
is( query("SELECT count(*) FROM kafka_ingest.dead_letters WHERE pipeline = '$p' AND last_failed_at > first_failed_at"), 3, '... at another time');
query("ALTER TABLE $p ALTER code TYPE text");
is(retry($p), '3|2|0|1', 'the table is mended: two are loaded');
is(query("SELECT id, code, _key, _offset, _timestamp AT TIME ZONE 'UTC', _headers FROM $p WHERE id IN (1, 3) ORDER BY id"),
	qq{1|long one|key|1|2020-09-13 12:26:40.123|{"h": "\\u0001"}\n3|long two|key|3|2020-09-13 12:26:40.123|{"h": "\\u0001"}}, '... as if they came now');
is(letters($p), '2 decode 22P02 3', '... the other stays');
is(counts($p), '5|2|1|3', '... what was counted stays counted');
is(query("SELECT string_agg(detail, '; ' ORDER BY at) FROM kafka_ingest.events WHERE pipeline = '$p' AND event = 'retry'"),
	'3 dead letters: 0 loaded, 3 failed again; 3 dead letters: 2 loaded, 1 failed again', '... events tell');
is(query("SELECT next_offset FROM kafka_ingest.partition_status WHERE pipeline = '$p'"), 5, '... no position moved');

# The mapping's fault; some of them; another fault than before.
$p = create('CREATE TABLE T (id int, v int CONSTRAINT small CHECK (v < 100))', '', map { qq({"id": $_, "v": "x", "w": @{[10 * $_]}}) } 0 .. 19);
query("SELECT kafka_ingest.alter_pipeline('$p', columns => '{\"id\": \"\$.id\", \"v\": \"\$.w\"}')");
is(retry($p, ', max_messages => 3'), '3|3|0|0', 'max_messages: three');
is(query("SELECT string_agg(id::text, ' ' ORDER BY id) FROM $p"), '0 1 2', '... the first ones');
my $ids = query("SELECT array_agg(id) FROM kafka_ingest.dead_letters WHERE pipeline = '$p' AND message_offset IN (5, 7, 12)");
is(retry($p, ", ids => '$ids'::bigint[] || ARRAY[NULL, -1, 9223372036854775807]"), '3|2|0|1', 'ids: these');
is(query("SELECT string_agg(id::text, ' ' ORDER BY id) FROM $p"), '0 1 2 5 7', '... and no other');
is(query("SELECT concat_ws(' ', stage, sqlstate, column_name, constraint_name, attempts) FROM kafka_ingest.dead_letters WHERE pipeline = '$p' AND message_offset = 12"),
	'write 23514 small 2', 'what fails for another reason says that one');
is(retry($p, ", ids => '{}'"), '0|0|0|0', 'none is none');
like(error_of("SELECT kafka_ingest.retry_dead_letters('$p', ids => ARRAY[NULL, -1])"), qr/NOTICE: .* 1 of the ids is no open dead letter of pipeline "$p"/, '... an id that is none is told');
unlike(error_of("BEGIN; SELECT kafka_ingest.retry_dead_letters('$p', ids => '$ids'::bigint[] || array(SELECT id FROM kafka_ingest.dead_letters WHERE pipeline = '$p' LIMIT 1)); ROLLBACK"),
	qr/ 3 of the ids/, '... one that is open is not counted');
is(query("SELECT count(*) FROM kafka_ingest.events WHERE pipeline = '$p' AND event = 'retry'"), 2, '... and no event');
like(error_of("SELECT kafka_ingest.retry_dead_letters('$p', max_messages => 0)"), qr/ERROR:  22023: .*max_messages/, 'max_messages 0 is refused');

# A letter that writes nothing any more is settled, too.
$p = create('CREATE TABLE T (id int)', ", on_tombstone => 'error'", '{"id": 1}', undef, '{"id": 2}');
is(letters($p), '1 decode 22004 1', 'a tombstone that is an error');
query("SELECT kafka_ingest.alter_pipeline('$p', on_tombstone => 'skip')");
is(retry($p), '1|0|0|0', '... is skipped now: tried, neither loaded nor failed');
is(letters($p) . query("SELECT count(*) FROM $p"), '2', '... and no letter any more');

# Many, and more than a worker's memory, by pieces; bad ones among them that raise.
query("ALTER SYSTEM SET kafka_ingest.worker_memory = '8MB'; SELECT pg_reload_conf()");
$p = create('CREATE TABLE T (id int UNIQUE, t varchar(10))', ", batch_max_messages => 20", map { sprintf '{"id": %d, "t": "%s"}', $_ % 90, 'x' x 200_000 } 1 .. 100);
query("ALTER TABLE $p ALTER t TYPE text");
is(retry($p), '100|90|0|10', 'a hundred letters of 20 MB');
is(query("SELECT count(*), count(DISTINCT id), min(length(t)) FROM $p"), '90|90|200000', '... are in once');
is(query("SELECT count(*), min(message_offset), count(DISTINCT sqlstate || attempts) FROM kafka_ingest.dead_letters WHERE pipeline = '$p'"), '10|90|1', '... and those whose key was there failed again');

# ---- the caller's transaction -------------------------------------------------------------------

$p = create('CREATE TABLE T (id int, v int NOT NULL)', '', map { qq({"id": $_}) } 0 .. 9);
query("ALTER TABLE $p ALTER v DROP NOT NULL");
is(query("BEGIN; SELECT (kafka_ingest.retry_dead_letters('$p')).loaded; SELECT count(*) FROM $p; ROLLBACK; SELECT count(*) FROM $p"), "10\n10\n0", 'it rolls back with the caller');
is(query("SELECT count(*) FROM kafka_ingest.dead_letters WHERE pipeline = '$p' AND attempts = 1"), 10, '... the letters, too');
query(qq{DO \$\$ BEGIN
		BEGIN PERFORM kafka_ingest.retry_dead_letters('$p'); RAISE 'no'; EXCEPTION WHEN raise_exception THEN NULL; END;
		PERFORM kafka_ingest.retry_dead_letters('$p', max_messages => 4);
	END \$\$});
is(query("SELECT (SELECT count(*) FROM $p), (SELECT count(*) FROM kafka_ingest.dead_letters WHERE pipeline = '$p')"), '4|6', 'and with its subtransactions');
# ended in the middle
query(qq{CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF NEW.id = 8 THEN PERFORM pg_sleep(60); END IF; RETURN NULL; END';
	CREATE TRIGGER slow AFTER INSERT ON $p FOR EACH ROW EXECUTE FUNCTION slow()});
like(error_of("SET statement_timeout = '300ms'; SELECT kafka_ingest.retry_dead_letters('$p')"), qr/ERROR:  57014/, 'a statement timeout ends it');
is(query("SELECT (SELECT count(*) FROM $p), (SELECT count(*) FROM kafka_ingest.dead_letters WHERE pipeline = '$p' AND attempts = 1)"), '4|6', '... and nothing of it was done');
query("DROP TRIGGER slow ON $p");
like(error_of("SET default_transaction_read_only = on; SELECT kafka_ingest.retry_dead_letters('$p')"), qr/ERROR:  25006/, 'read-only: no retry');
like(error_of("SET default_transaction_read_only = on; SELECT kafka_ingest.discard_dead_letters('$p')"), qr/ERROR:  25006/, '... and no discard');
# its own deferred constraints are the caller's fault
query('CREATE TABLE caller (id int REFERENCES caller2 DEFERRABLE INITIALLY DEFERRED)') if query('CREATE TABLE caller2 (id int PRIMARY KEY)') eq '';
like(error_of("BEGIN; INSERT INTO caller VALUES (1); SELECT kafka_ingest.retry_dead_letters('$p'); COMMIT"), qr/ERROR:  23503:.*"caller"/, "a constraint of the caller's is no letter's");
is(retry($p), '6|6|0|0', 'without all that they are loaded');
is(query("SELECT count(*), count(DISTINCT id) FROM $p"), '10|10', '... once');

# While the worker loads, again and again: nothing is lost or doubled, and nobody waits for ever.
my $busy = $kafka->create_topic('busy', partitions => 2);
query(qq{CREATE TABLE busy (id bigint PRIMARY KEY, ok bool DEFAULT true CONSTRAINT most CHECK (id % 10 <> 3), _partition int, _offset bigint);
	SELECT kafka_ingest.create_pipeline('busy', topic => '$busy', target => 'busy', workers => 2, batch_max_messages => 500)});
my $producer = $kafka->produce_background($busy, count => 40_000, rate => 10_000);
$node->poll_until(q{SELECT dead_letters > 0 FROM kafka_ingest.status WHERE pipeline = 'busy'}, 't');
my ($rounds, $failed) = (0, 0);
while ($node->position_sum('busy') < 40_000 && $rounds < 1000)
{
	my ($retried, $loaded) = split /\|/, retry('busy', ', max_messages => 500');
	$failed++ if $retried != 0 && $loaded != 0;
	$rounds++;
}
is($producer->finish->{0} + 0, 20_000, 'all is produced');
cmp_ok($rounds, '>', 3, "$rounds retries while two workers load");
is($failed, 0, '... in which nothing that is bad is loaded');
query('ALTER TABLE busy DROP CONSTRAINT most');
like(retry('busy'), qr/^(\d+)\|\1\|0\|0$/, 'mended: all are loaded');
is(query(q{SELECT count(*), count(DISTINCT (_partition, _offset)) FROM busy}), '40000|40000', 'each of the messages is there, once');

# ---- as the owner -----------------------------------------------------------------------------------

query(q{
	CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN; CREATE ROLE carol LOGIN IN ROLE alice;
	CREATE SCHEMA alice AUTHORIZATION alice;
	GRANT USAGE ON FOREIGN SERVER kafka TO alice;
	SET SESSION AUTHORIZATION alice;
	CREATE FUNCTION alice.attempt(command text) RETURNS text LANGUAGE plpgsql AS $$
	BEGIN EXECUTE command; RETURN 'done as ' || current_user; EXCEPTION WHEN insufficient_privilege THEN RETURN 'refused to ' || current_user; END $$;
	CREATE TABLE alice.t (id int, v int, by_default text DEFAULT alice.attempt('SET ROLE postgres'), by_trigger text, by_temp text);
	CREATE FUNCTION alice.at_row() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN NEW.by_trigger := alice.attempt('ALTER ROLE alice SUPERUSER'); NEW.by_temp := alice.attempt('CREATE TEMP TABLE trap (i int)'); RETURN NEW; END $$;
	CREATE TRIGGER at_row BEFORE INSERT ON alice.t FOR EACH ROW EXECUTE FUNCTION alice.at_row();
	CREATE TABLE alice.late (id int, who text);
	CREATE FUNCTION alice.at_end() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO alice.late VALUES (NEW.id, alice.attempt('SET ROLE postgres')); RETURN NULL; END $$;
	CREATE CONSTRAINT TRIGGER at_end AFTER INSERT ON alice.t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION alice.at_end()});
my $topic = $kafka->create_topic('owner');
$kafka->produce_messages($topic, map { { value => qq({"id": $_, "v": "x"}) } } 0 .. 4);
query(qq{SET SESSION AUTHORIZATION alice;
	SELECT kafka_ingest.create_pipeline('a', topic => '$topic', target => 'alice.t')});
$node->wait_for_position_sum('a', 5);
query(q{SET SESSION AUTHORIZATION alice; SELECT kafka_ingest.alter_pipeline('a', columns => '{"id": "$.id"}')});
foreach my $call (qw(retry_dead_letters discard_dead_letters))
{
	like(error_of("SET SESSION AUTHORIZATION bob; SELECT kafka_ingest.$call('a')"), qr/ERROR:  42501/, "$call(): not another's");
	like(error_of("SELECT kafka_ingest.$call('none')"), qr/ERROR:  42704/, "$call(): there must be one");
	like(error_of("SELECT kafka_ingest.$call(NULL)"), qr/ERROR:  22004/, "$call(): with a name");
}
is(query(q{SET SESSION AUTHORIZATION bob; SELECT count(*) FROM kafka_ingest.dead_letters}), 0, '... nor seen');
is(query(q{SET search_path = pg_catalog, public; SET timezone = 'Asia/Tokyo'; SELECT retried, loaded, failed FROM kafka_ingest.retry_dead_letters('a', max_messages => 2);
	SELECT current_user, current_setting('search_path'), current_setting('timezone')}), "2|2|0\npostgres|pg_catalog, public|Asia/Tokyo", 'a superuser retries and is who they were');
my $refused = 'refused to alice';
is(query('SELECT count(*), by_default, by_trigger, by_temp FROM alice.t GROUP BY 2, 3, 4'), "2|$refused|$refused|$refused", '... user code runs as the owner, restricted');
is(query('SELECT count(*), who FROM alice.late GROUP BY 2'), "2|$refused", '... what is deferred, too');
is(query(q{SET SESSION AUTHORIZATION carol; SELECT retried, loaded, failed FROM kafka_ingest.retry_dead_letters('a', max_messages => 2)}), '2|2|0', 'a member of the owner may, too');
is(query(q{SET SESSION AUTHORIZATION alice; SELECT retried, loaded, failed FROM kafka_ingest.retry_dead_letters('a')}), '1|1|0', 'and the owner');
# the owner's rights count, not the caller's
$kafka->produce_messages($topic, { value => '"bad"' });
$node->wait_for_position_sum('a', 6);
query('ALTER TABLE alice.t OWNER TO postgres');
like(error_of(q{SELECT kafka_ingest.retry_dead_letters('a')}), qr/ERROR:  42501/, "a table that is not the owner's any more is not written by a superuser either");
is(query(q{SELECT count(*) FROM kafka_ingest.dead_letters WHERE pipeline = 'a'}), 1, '... and the letter stays');

# ---- discard ------------------------------------------------------------------------------------------

# The offsets that gap rows cover.
sub covered
{
	my ($p) = @_;
	return query(qq{SELECT coalesce(string_agg(o::text, ' ' ORDER BY o), '') FROM kafka_ingest.gaps, generate_series(from_offset, to_offset) o
		WHERE pipeline = '$p' AND reason = 'discarded'});
}

$p = create('CREATE TABLE T (id int)', '', map { $_ % 2 ? qq({"id": $_}) : 'bad' } 0 .. 19);
is(query("SELECT kafka_ingest.discard_dead_letters('$p', older_than => '1 hour')"), 0, 'none is that old');
like(error_of("SELECT kafka_ingest.discard_dead_letters('$p', older_than => '-1 hour')"), qr/ERROR:  22023: argument "older_than" must not be negative/, '... nor younger than now');
my ($last) = split / /, query("SELECT string_agg(id::text, ' ' ORDER BY message_offset DESC) FROM kafka_ingest.dead_letters WHERE pipeline = '$p'");
is(query("SELECT kafka_ingest.discard_dead_letters('$p', ids => ARRAY[$last])"), 1, 'one by its id');
is(covered($p), '18', '... leaves its gap');
like(error_of("SELECT kafka_ingest.discard_dead_letters('$p', ids => ARRAY[$last, $last, -1])"), qr/NOTICE: .* 2 of the ids are no open dead letters of pipeline "$p"/, '... and is no open one any more');
is(query("BEGIN; SELECT kafka_ingest.discard_dead_letters('$p'); ROLLBACK; SELECT dead_letters FROM kafka_ingest.status WHERE pipeline = '$p'"), "9\n9", 'it rolls back with the caller');
is(covered($p), '18', '... gaps, too');
like(error_of("SELECT kafka_ingest.drop_pipeline('$p')"), qr/ERROR:  2BP01: .* 9 open dead letters.*HINT:.*discard => true/s, 'drop_pipeline() does not lose them');
query("SELECT pg_sleep(0.01)");
is(query("SELECT kafka_ingest.discard_dead_letters('$p', older_than => '1 microsecond')"), 9, 'those that are older');
is(covered($p), '0 2 4 6 8 10 12 14 16 18', '... each offset has its gap');
is(counts($p), '20|10|0|10', '... counts stay');
is(query("SELECT string_agg(detail, '; ' ORDER BY at) FROM kafka_ingest.events WHERE pipeline = '$p' AND event = 'discard'"), '1 dead letter; 9 dead letters', '... events tell');
is(query("SELECT topic, partition, next_offset = 20 FROM kafka_ingest.drop_pipeline('$p')") =~ /\|0\|t$/ ? 1 : 0, 1, 'then it can be dropped');
$p = create('CREATE TABLE T (id int PRIMARY KEY)', '', 'bad', '{"id": 1}');
like(error_of("SELECT kafka_ingest.drop_pipeline('$p')"), qr/ has 1 open dead letter\n/, 'one is one');
query("SELECT kafka_ingest.alter_pipeline('$p', mode => 'upsert', on_tombstone => 'skip')");
like(query("SELECT hint FROM kafka_ingest.check() WHERE pipeline = '$p' AND code = 'dead_letters'"), qr/for 1 of them with allow_stale => true/,
	'check() says what retrying would leave alone');
query("SELECT kafka_ingest.drop_pipeline('$p', discard => true)");
like(query("SELECT detail FROM kafka_ingest.events WHERE pipeline = '$p' AND event = 'drop'"), qr/at 2; 1 dead letter lost$/, 'the event says what was lost');
is(query("SELECT count(*) FROM kafka_ingest.dead_letter l WHERE NOT EXISTS (SELECT FROM kafka_ingest.pipeline p WHERE p.id = l.pipeline)"), 0, 'or with discard => true, and none is left behind');

$node->stop;
done_testing();
