# Statements over the messages of a batch: what "messages" holds, what statements
# can do with it, with a target and without, and that they follow changes.

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use PostgreSQL::Test::Utils;
use Test::More;

my $kafka = KafkaBroker->shared();
my $node = IngestCluster->new('main');
my $pipelines = 0;

$node->connect_kafka($kafka);

sub sql { return $node->safe_psql('postgres', $_[0]) }

# Makes a pipeline; waits until it has passed so many offsets.
sub load
{
	my ($topic, $offsets, $statement, $options) = @_;
	my $p = 'p' . ++$pipelines;
	$options //= '';
	sql(qq{SELECT kafka_ingest.create_pipeline('$p', topic => '$topic', statement => \$\$ $statement \$\$ $options)});
	$node->wait_for_position_sum($p, $offsets) if defined $offsets;
	return $p;
}

sub status_of
{
	my ($p) = @_;
	return sql("SELECT messages, loaded, filtered, ignored, dead_letters_total FROM kafka_ingest.status WHERE pipeline = '$p'");
}

# ---- what there is ---------------------------------------------------------------

my $all = $kafka->create_topic('all', partitions => 2);
$kafka->produce_messages($all,
	{ partition => 1, key => 'k1', value => '{"id": 1, "type": "order"}', timestamp => 1700000000123,
		headers => [ [ 'v', '2' ], [ 'v', '3' ] ] },
	{ partition => 0, key => 'k2', value => '[1, {"a": "\u00e4"}]' },
	{ partition => 1, key => 'k1', value => undef },
	{ partition => 0, value => '"text"' },
	{ partition => 0, key => 'k2', value => '  7' },
	{ partition => 0, value => 'null' },
	{ partition => 0, key => '', value => '{}' },
	{ partition => 0, key => 'k1', value => '{}' });
# tx tells the batches apart
sql('CREATE TABLE seen (n serial, tx bigint DEFAULT txid_current(), topic text, partition int, message_offset bigint, message_timestamp timestamptz,
		key text, value jsonb, headers jsonb, raw bytea, last_of_key boolean)');
my $p = load($all, 8, 'INSERT INTO seen (topic, partition, message_offset, message_timestamp, key, value, headers, raw, last_of_key)
	SELECT * FROM messages');
is(sql("SELECT partition, message_offset, coalesce(key, '-'), coalesce(value::text, '-'), headers, coalesce(convert_from(raw, 'UTF8'), '-') FROM seen ORDER BY partition, message_offset"),
	join("\n",
		'0|0|k2|[1, {"a": "' . "\xc3\xa4" . '"}]|{}|[1, {"a": "\u00e4"}]',
		'0|1|-|"text"|{}|"text"',
		'0|2|k2|7|{}|  7',
		'0|3|-|-|{}|null',
		'0|4||{}|{}|{}',
		'0|5|k1|{}|{}|{}',
		'1|0|k1|{"id": 1, "type": "order"}|{"v": ["2", "3"]}|{"id": 1, "type": "order"}',
		'1|1|k1|-|{}|-'),
	'all columns');
is(sql('SELECT count(*) FROM seen a JOIN seen b USING (tx) WHERE a.n < b.n AND (a.partition, a.message_offset) > (b.partition, b.message_offset)'),
	0, 'in the order of topic, partition and offset');
is(sql('SELECT count(*) FROM seen a WHERE last_of_key IS DISTINCT FROM
		(NOT EXISTS (SELECT FROM seen b WHERE a.tx = b.tx AND a.key = b.key AND a.n < b.n))'),
	0, 'last_of_key is the last one in a batch');
is(sql("SELECT DISTINCT topic FROM seen"), $all, 'the topic');
is(sql("SELECT message_timestamp AT TIME ZONE 'UTC' FROM seen WHERE partition = 1 AND message_offset = 0"),
	'2023-11-14 22:13:20.123', 'the timestamp');
is(status_of($p), '8|8|0|0|0', 'all of them count as loaded, tombstones too');
is(sql("SELECT target IS NULL, write_method IS NULL, on_tombstone IS NULL, statement LIKE '%SELECT * FROM messages%' FROM kafka_ingest.pipelines WHERE pipeline = '$p'"),
	't|t|t|t', 'pipelines has no target, and the text');
like(sql("SELECT kafka_ingest.pipeline_definition('$p')"), qr/statement => E?' INSERT INTO seen.*FROM messages '/s,
	'pipeline_definition has the text');

# each column alone, so that nothing but it is made
foreach my $column (qw(topic partition message_offset message_timestamp key value headers raw))
{
	my $cast = $column eq 'message_timestamp' ? 'extract(epoch FROM message_timestamp)::text' : "$column\::text";
	sql("CREATE TABLE only_$column (n serial, c text)");
	load($all, 8, "INSERT INTO only_$column (c) SELECT $cast FROM messages");
	is(sql("SELECT string_agg(coalesce(c, '-'), ' ' ORDER BY c) FROM only_$column"),
		sql("SELECT string_agg(coalesce($cast, '-'), ' ' ORDER BY $cast) FROM seen"), "only $column");
}

# places where a column may hide
sql('CREATE TABLE odd (what text, c text); CREATE TABLE other (partition int, value2 text); INSERT INTO other VALUES (0, $$zero$$), (2, $$two$$)');
load($all, 8, q{
	INSERT INTO odd SELECT 'row', messages::text FROM messages WHERE partition = 0 AND message_offset = 2;
	INSERT INTO odd SELECT 'sublink', (SELECT m.value::text) FROM messages m WHERE partition = 1 AND message_offset = 0;
	WITH w AS (SELECT * FROM messages) INSERT INTO odd SELECT 'cte', key FROM w WHERE partition = 0 AND message_offset = 2;
	INSERT INTO odd SELECT 'using', partition || coalesce(min(value2), '') || count(raw) / greatest(count(topic), 1) FROM messages FULL JOIN other USING (partition) WHERE value IS NOT NULL OR value2 = 'two' GROUP BY partition;
	INSERT INTO odd SELECT 'lateral', x FROM messages, LATERAL (SELECT headers->>'v' AS x) l WHERE headers ? 'v';
	INSERT INTO odd SELECT 'count', count(*) FROM messages;
	INSERT INTO odd SELECT 'nothing', 1 WHERE EXISTS (SELECT FROM messages) },
	', batch_max_messages => 100');
is(sql(q{SELECT c FROM odd WHERE what = 'row'}) =~ /^\(\Q$all\E,0,2,".*",k2,7,\{\},"\\\\x202037",t\)$/ ? 1 : 0, 1, 'a whole row')
  or diag(sql(q{SELECT c FROM odd WHERE what = 'row'}));
is(sql(q{SELECT c FROM odd WHERE what = 'sublink'}), '{"id": 1, "type": "order"}', 'an outer column in a sublink');
is(sql(q{SELECT c FROM odd WHERE what = 'cte'}), 'k2', 'a column of a CTE');
is(sql(q{SELECT string_agg(DISTINCT c, ',' ORDER BY c) FROM odd WHERE what = 'using'}), '0zero1,11,2two0', 'a column of a join');
is(sql(q{SELECT c FROM odd WHERE what = 'lateral'}), '["2", "3"]', 'a column in LATERAL');
is(sql(q{SELECT sum(c::int) FROM odd WHERE what = 'count'}), 8, 'no column at all');
is(sql(q{SELECT count(*) = (SELECT count(*) FROM odd WHERE what = 'count') FROM odd WHERE what = 'nothing'}), 't', 'nor in EXISTS');

# ---- keys -----------------------------------------------------------------------

my $keys = $kafka->create_topic('keys');
$kafka->produce_messages($keys,
	(map { { key => qq({"id": $_}), value => "{}" } } 1, 2, 1),
	{ key => '{"id": 1}', value => undef },
	{ value => '{}' });
sql('CREATE TABLE key_ids (o bigint, id int)');
load($keys, 5, q{INSERT INTO key_ids SELECT message_offset, (key->>'id')::int FROM messages}, q{, key_format => 'json'});
is(sql('SELECT * FROM key_ids ORDER BY o'), "0|1\n1|2\n2|1\n3|1\n4|", 'JSON keys, of tombstones, too');

# ---- tombstones -------------------------------------------------------------------

sql('CREATE TABLE not_null (o bigint)');
$p = load($keys, 5, 'INSERT INTO not_null SELECT message_offset FROM messages', q{, on_tombstone => 'skip'});
is(status_of($p), '5|4|0|1|0', 'on_tombstone => skip: ignored');
is(sql('SELECT string_agg(o::text, $$ $$ ORDER BY o) FROM not_null'), '0 1 2 4', 'and not seen');
$p = load($keys, undef, 'INSERT INTO not_null SELECT message_offset FROM messages', q{, on_tombstone => 'error', on_error => 'stop'});
$node->wait_for_state($p, 'stopped/bad_message');
is($node->position_sum($p), 3, 'on_tombstone => error: a bad message');

# ---- what statements can do -----------------------------------------------------------

my $orders = $kafka->create_topic('orders', partitions => 2);
$kafka->produce($orders, count => 2000, partition => $_, from => $_ * 2000, template => '{"id": %d, "sku": "s%o", "type": "order"}', key => 'k%p%o')
  foreach 0, 1;
sql(q{
	CREATE TABLE even (id bigint PRIMARY KEY);
	CREATE TABLE odd_ids (id bigint PRIMARY KEY, sku text);
	CREATE TABLE skus (sku text PRIMARY KEY, name text);
	INSERT INTO skus SELECT 's' || i, 'name ' || i FROM generate_series(1, 10) i;
	CREATE TABLE named (id bigint, name text);
	CREATE TABLE totals (sku text PRIMARY KEY, n bigint);
	CREATE TABLE merged (sku text PRIMARY KEY, n bigint, max bigint);
	CREATE TABLE latest (key text PRIMARY KEY, id bigint);
	CREATE TABLE log (n int);
	CREATE TABLE counted (one int);
	INSERT INTO counted VALUES (0);
	CREATE FUNCTION note(n bigint) RETURNS void LANGUAGE plpgsql AS 'BEGIN INSERT INTO log VALUES (n); END';
});
$p = load($orders, 4000, q{
	INSERT INTO even SELECT (value->>'id')::bigint FROM messages WHERE (value->>'id')::bigint % 2 = 0;
	INSERT INTO odd_ids SELECT (value->>'id')::bigint, value->>'sku' FROM messages WHERE (value->>'id')::bigint % 2 = 1;
	INSERT INTO named SELECT (value->>'id')::bigint, s.name FROM messages JOIN skus s ON s.sku = value->>'sku';
	INSERT INTO totals SELECT value->>'sku', count(*) FROM messages GROUP BY 1
		ON CONFLICT (sku) DO UPDATE SET n = totals.n + excluded.n;
	MERGE INTO merged t USING (SELECT value->>'sku' AS sku, count(*) AS n, max((value->>'id')::bigint) AS max FROM messages GROUP BY 1) m ON t.sku = m.sku
		WHEN MATCHED THEN UPDATE SET n = t.n + m.n, max = greatest(t.max, m.max)
		WHEN NOT MATCHED THEN INSERT VALUES (m.sku, m.n, m.max);
	UPDATE counted SET one = one + (SELECT count(*) FROM messages);
	DELETE FROM even WHERE id IN (SELECT (value->>'id')::bigint FROM messages WHERE (value->>'id')::bigint % 4 = 0);
	INSERT INTO latest SELECT key, (value->>'id')::bigint FROM messages WHERE last_of_key
		ON CONFLICT (key) DO UPDATE SET id = excluded.id;
	SELECT note(count(*)) FROM messages;
	SELECT value FROM messages },
	', batch_max_messages => 700');
is(sql('SELECT count(*), min(id), max(id), sum(id % 4) FROM even'), '1000|2|3998|2000', 'routed and deleted from again');
is(sql('SELECT count(*), count(DISTINCT id), min(id), max(id) FROM odd_ids'), '2000|2000|1|3999', 'routed to another table');
is(sql('SELECT count(*), count(DISTINCT name) FROM named'), '4000|10', 'a join');
is(sql('SELECT count(*), sum(n), min(n) FROM totals'), '10|4000|400', 'aggregates over batches');
is(sql('SELECT count(*), sum(n), max(max) FROM merged'), '10|4000|3999', 'MERGE');
is(sql('SELECT one FROM counted'), 4000, 'UPDATE');
is(sql('SELECT count(*), min(id), max(id) FROM latest'), '20|1990|3999', 'the last of each key');
is(sql('SELECT sum(n), count(*) >= 6 FROM log'), '4000|t', 'a function is called once per batch');
is(status_of($p), '4000|4000|0|0|0', 'the counts');
is(sql("SELECT sum(loaded), count(*) = (SELECT count(*) FROM log) FROM kafka_ingest.recent_batches WHERE pipeline = '$p'"),
	'4000|t', 'once per batch');

# ---- with a target -------------------------------------------------------------------

sql('CREATE TABLE target (id bigint PRIMARY KEY, sku text); CREATE TABLE target_log (n bigint, there bigint)');
$p = load($orders, 4000, q{INSERT INTO target_log SELECT count(*), count(t.id) FROM messages LEFT JOIN target t ON t.id = (value->>'id')::bigint},
	q{, target => 'target', filter => '{"$.sku": ["s1", "s2"]}'});
is(sql('SELECT count(*), count(DISTINCT sku) FROM target'), '800|2', 'with a target: its rows');
is(sql('SELECT sum(n), sum(there) FROM target_log'), '800|800', 'the statement runs after them, over the messages that were written');
is(status_of($p), '4000|800|3200|0|0', 'and the others are filtered');

# ---- notifications ---------------------------------------------------------------------

my $listener = $node->background_psql('postgres');
my $notes = $kafka->create_topic('notes');
$kafka->produce($notes, count => 30, template => '{"id": %d}');
$listener->query_safe('LISTEN ingested');
$p = load($notes, 30, q{SELECT pg_notify('ingested', count(*) || ' messages') FROM messages}, ', batch_max_messages => 10');
my $batches = sql("SELECT count(*) FROM kafka_ingest.recent_batches WHERE pipeline = '$p' AND messages > 0");
my $heard = $listener->query('SELECT 1');
my @heard = $heard =~ /Asynchronous notification "ingested" with payload "(\d+) messages"/g;
is(scalar(@heard), $batches, 'a listener hears once of each batch') or diag($heard);
is(eval { my $sum = 0; $sum += $_ foreach @heard; $sum }, 30, 'of all messages');
$listener->quit;

# ---- changes of what statements use ------------------------------------------------------

my $changes = $kafka->create_topic('changes');
sql(q{
	CREATE TABLE lookup (id int, name text);
	INSERT INTO lookup SELECT i, 'a' FROM generate_series(0, 9) i;
	CREATE TABLE joined (id bigint, name text);
});
my $sent = 0;
my $changing = load($changes, 0, q{INSERT INTO joined SELECT (value->>'id')::bigint, l.name FROM messages JOIN lookup l ON l.id = (value->>'id')::bigint % 10});

sub send_some
{
	my ($count, $name, $expected) = @_;
	$kafka->produce($changes, count => $count, from => $sent, template => '{"id": %d}');
	$sent += $count;
	$node->wait_for_position_sum($changing, $sent);
	is(sql("SELECT name, count(*), count(DISTINCT id) FROM joined WHERE id >= $sent - $count GROUP BY 1"), "$expected|$count|$count", $name);
	return;
}
send_some(20, 'a join', 'a');
sql('ALTER TABLE lookup ADD COLUMN more int; ALTER TABLE joined ADD COLUMN more int');
send_some(20, 'after ALTER TABLE', 'a');
sql('ALTER TABLE lookup RENAME TO lookup_old; CREATE TABLE lookup AS SELECT id, $$b$$ AS name FROM lookup_old');
send_some(20, 'after RENAME and CREATE: the name counts', 'b');
sql('DROP TABLE joined; CREATE TABLE joined (id bigint, name varchar(20))');
send_some(20, 'after DROP and CREATE', 'b');
sql('CREATE INDEX ON lookup (id); ANALYZE lookup');
send_some($_, "$_ messages at once", 'b') foreach 1, 9, 10, 11, 99, 101, 5000, 1, 9999, 3;
sql('DROP TABLE lookup');
$kafka->produce($changes, count => 5, from => $sent, template => '{"id": %d}');
$sent += 5;
$node->wait_for_state($changing, 'retrying/target_missing');
like(sql("SELECT last_error FROM kafka_ingest.status WHERE pipeline = '$changing'"), qr/relation "lookup" does not exist/,
	'a table that is gone is named');
sql(q{CREATE TABLE lookup AS SELECT id, 'c' AS name FROM lookup_old; SELECT kafka_ingest.resume('} . $changing . q{')});
$node->wait_for_position_sum($changing, $sent);
is(sql("SELECT name, count(*) FROM joined WHERE id >= $sent - 5 GROUP BY 1"), 'c|5', 'and taken up again when it is back');
sql("SELECT kafka_ingest.alter_pipeline('$changing', statement => 'INSERT INTO joined SELECT (value->>''id'')::bigint, ''altered'' FROM messages')");
send_some(7, 'another statement', 'altered');

# names follow the pipeline's search_path
sql(q{CREATE SCHEMA elsewhere; CREATE TABLE elsewhere.found (id bigint)});
load($notes, 30, q{INSERT INTO found SELECT (value->>'id')::bigint FROM messages}, q{, search_path => 'elsewhere'});
is(sql('SELECT count(*) FROM elsewhere.found'), 30, "names are looked up by the pipeline's search_path");

# a table of this name does not count
sql(q{CREATE TABLE messages (value jsonb); CREATE TABLE shadow (n bigint)});
load($notes, 30, q{INSERT INTO shadow SELECT count(*) FROM messages});
is(sql('SELECT sum(n) FROM shadow'), 30, 'a table "messages" is hidden');

# ---- in the foreground ------------------------------------------------------------------

sql(q{CREATE TABLE by_hand (id bigint)});
$p = load($notes, undef, q{INSERT INTO by_hand SELECT (value->>'id')::bigint FROM messages}, ', paused => true');
sql("BEGIN; CALL kafka_ingest.run('$p', max_batches => 1); ROLLBACK");
is(sql('SELECT count(*) FROM by_hand'), 0, 'run() in a block that is rolled back');
sql("CALL kafka_ingest.run('$p')");
is(sql('SELECT count(*), count(DISTINCT id) FROM by_hand'), '30|30', 'run()');

# ---- bad messages -------------------------------------------------------------------------

my $bad = $kafka->create_topic('bad');
$kafka->produce($bad, count => 100, template => '{"id": %d, "v": 1}');
$kafka->produce_messages($bad, { value => '{"id": 100, "v": "never-show-this"}' });
$kafka->produce($bad, count => 100, from => 101, template => '{"id": %d, "v": 1}');
sql('CREATE TABLE good (id bigint, v int)');
$p = load($bad, undef, q{INSERT INTO good SELECT (value->>'id')::bigint, (value->>'v')::int FROM messages}, q{, on_error => 'stop'});
$node->wait_for_state($p, 'stopped/bad_message');
like(sql("SELECT detail FROM kafka_ingest.status WHERE pipeline = '$p'"), qr/offset 100 cannot.*SQLSTATE 22P02, stage write/,
	'what a statement raises is the fault of the message it is raised for');
is(sql('SELECT count(*), count(DISTINCT id), max(id) FROM good'), '100|100|99', 'those before it are in, once');
unlike(slurp_file($node->logfile), qr/SQL statement|never-show-this/, 'neither the statement nor the value is in the log');

my $broken = $kafka->create_topic('broken');
$kafka->produce_messages($broken, { value => '{}' }, { value => '{"a": 1' }, { key => "\xff", value => '{}' });
sql('CREATE TABLE counts (n bigint)');
$p = load($broken, undef, 'INSERT INTO counts SELECT count(*) FROM messages', q{, on_error => 'stop'});
$node->wait_for_position_sum($p, 3);
is(sql('SELECT sum(n) FROM counts'), 3, 'a value that is no JSON, and a key that is no text, are not looked at when they are not used');
$p = load($broken, undef, 'INSERT INTO counts SELECT count(value) FROM messages', q{, on_error => 'stop'});
$node->wait_for_state($p, 'stopped/bad_message');
like(sql("SELECT detail FROM kafka_ingest.status WHERE pipeline = '$p'"), qr/offset 1 cannot.*SQLSTATE 22P02, stage decode/,
	'when it is used, a value that is no JSON is bad');
$p = load($broken, undef, 'INSERT INTO counts SELECT count(key) FROM messages', q{, on_error => 'stop', start_offsets => '{"0": 2}'});
$node->wait_for_state($p, 'stopped/bad_message');
like(sql("SELECT detail FROM kafka_ingest.status WHERE pipeline = '$p'"), qr/offset 2 cannot.*SQLSTATE 22021/, 'when it is used, it is');

# with dead letters: one, and all others land
sql('CREATE TABLE most (id bigint, v int); CREATE TABLE most_count (n bigint); INSERT INTO most_count VALUES (0)');
$p = load($bad, 201, q{INSERT INTO most SELECT (value->>'id')::bigint, (value->>'v')::int FROM messages;
	UPDATE most_count SET n = n + (SELECT count(*) FROM messages)});
is(sql('SELECT count(*), count(DISTINCT id), max(n) FROM most, most_count'), '200|200|200', 'all others land, once');
is(sql("SELECT message_offset, stage, sqlstate, convert_from(value, 'UTF8') FROM kafka_ingest.dead_letters WHERE pipeline = '$p'"),
	'100|write|22P02|{"id": 100, "v": "never-show-this"}', 'and one dead letter');
is(status_of($p), '201|200|0|0|1', 'the counts');
sql("SELECT kafka_ingest.alter_pipeline('$p', statement => 'INSERT INTO most SELECT (value->>''id'')::bigint, 0 FROM messages')");
is(sql("SELECT retried, loaded, failed FROM kafka_ingest.retry_dead_letters('$p')"), '1|1|0', 'which goes through another statement');
is(sql('SELECT count(*), count(DISTINCT id) FROM most'), '201|201', 'and is there');

# what is no message's fault makes none
sql(q{CREATE ROLE anna LOGIN; GRANT USAGE ON FOREIGN SERVER kafka TO anna; GRANT CREATE ON SCHEMA public TO anna;
	CREATE TABLE not_hers (id bigint); GRANT SELECT ON not_hers TO anna;
	SET SESSION AUTHORIZATION anna; CREATE TABLE hers (id bigint);
	SELECT kafka_ingest.create_pipeline('hers', topic => '} . $changes . q{', start_from => 'latest',
		statement => 'INSERT INTO hers SELECT (value->>''id'')::bigint FROM messages WHERE NOT EXISTS (SELECT FROM not_hers)')});
$node->wait_for_position_sum('hers', $sent);
sql('REVOKE SELECT ON not_hers FROM anna');
$kafka->produce($changes, count => 50, from => $sent, template => '{"id": %d}');
$node->wait_for_state('hers', 'retrying/permission_denied');
sql('GRANT SELECT ON not_hers TO anna');
sql(q{SELECT kafka_ingest.resume('hers')});
$node->wait_for_position_sum('hers', $sent + 50);
is(sql(q{SELECT count(*), (SELECT dead_letters_total FROM kafka_ingest.status WHERE pipeline = 'hers') FROM hers}), '50|0',
	'a right that is taken away holds everything up, and nothing is lost');

# constraints that are deferred belong to the batch, too
sql('CREATE TABLE deferred (id bigint UNIQUE DEFERRABLE INITIALLY DEFERRED)');
$p = load($bad, undef, q{INSERT INTO deferred SELECT (value->>'id')::bigint / 2 FROM messages}, q{, on_error => 'stop'});
$node->wait_for_state($p, 'stopped/bad_message');
like(sql("SELECT detail FROM kafka_ingest.status WHERE pipeline = '$p'"), qr/offset 1 cannot.*SQLSTATE 23505/, 'deferred constraints');

$node->stop;
done_testing();
