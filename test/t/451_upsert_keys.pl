# Keys: which index does, what is refused when a pipeline is created, which rights are
# needed, keys that are bad messages, and where a tombstone has its key.

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use Test::More;

my $kafka = KafkaBroker->shared;
my $node = IngestCluster->new('main');
$node->connect_kafka($kafka);

sub query
{
	return $node->safe_psql('postgres', $_[0]);
}

# what a statement is refused with: "SQLSTATE message / detail", or "ok"
query(q{
	CREATE FUNCTION attempt(statement text) RETURNS text LANGUAGE plpgsql AS $$
	DECLARE
		detail text;
	BEGIN
		EXECUTE statement;
		RETURN 'ok';
	EXCEPTION WHEN OTHERS THEN
		GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
		RETURN concat_ws(' / ', SQLSTATE || ' ' || SQLERRM, nullif(detail, ''));
	END $$;
	CREATE SCHEMA other;
	CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
	CREATE ROLE loader LOGIN;
	GRANT USAGE ON FOREIGN SERVER kafka TO loader;
	GRANT CREATE, USAGE ON SCHEMA public TO loader;
});

# ---- which index ------------------------------------------------------------------

my $n = 0;

# A pipeline on a table t<n>; "T" in the SQL stands for it.
sub creating
{
	my ($sql, $options, %how) = @_;
	my $table = 't' . ++$n;
	$sql =~ s/(?<![a-zA-Z])T(?![a-zA-Z])/$table/g;
	query($sql);
	my $mode = $how{mode} // 'upsert';
	$options = $options ? ", $options" : '';
	return query(sprintf 'SELECT attempt($a$SELECT kafka_ingest.create_pipeline(%s)$a$)',
		"'$table', topic => 'none', target => '$table', paused => true, mode => '$mode' $options");
}

my $plain = 'CREATE TABLE T (k int NOT NULL, g text NOT NULL, v int, j json, d int GENERATED ALWAYS AS (v * 2) STORED);';
my @keys = (
	[ 'a primary key', 'ALTER TABLE T ADD PRIMARY KEY (k)', '', 'ok' ],
	[ 'no primary key', '', '', '42P10 "T" has no primary key' ],
	[ 'a unique index', 'CREATE UNIQUE INDEX ON T (k)', q(key_columns => '{k}'), 'ok' ],
	[ 'columns in another order', 'CREATE UNIQUE INDEX ON T (g, k)', q(key_columns => '{k,g}', on_tombstone => 'skip'), 'ok' ],
	[ 'INCLUDE', 'CREATE UNIQUE INDEX ON T (k) INCLUDE (v)', q(key_columns => '{k}'), 'ok' ],
	[ 'a column that may be null', 'CREATE UNIQUE INDEX ON T (v)', q(key_columns => '{v}'), 'ok' ],
	[ 'another operator class', 'CREATE UNIQUE INDEX ON T (g text_pattern_ops)', q(key_columns => '{g}'), 'ok' ],
	[ 'not unique', 'CREATE INDEX ON T (k)', q(key_columns => '{k}'), '42P10 no unique index of "T" is over exactly the key columns (k)' ],
	[ 'more columns', 'CREATE UNIQUE INDEX ON T (k, g)', q(key_columns => '{k}'), '42P10 no unique index of "T" is over exactly the key columns (k)' ],
	[ 'fewer columns', 'CREATE UNIQUE INDEX ON T (k)', q(key_columns => '{k,g}'), '42P10 no unique index of "T" is over exactly the key columns (k, g)' ],
	[ 'partial', 'CREATE UNIQUE INDEX i ON T (k) WHERE v > 0', q(key_columns => '{k}'), '42P10 no unique index of "T" is over exactly the key columns (k) / Index "i" is partial.' ],
	[ 'an expression', 'CREATE UNIQUE INDEX i2 ON T (abs(k))', q(key_columns => '{k}'), '42P10 no unique index of "T" is over exactly the key columns (k)' ],
	[ 'deferrable', 'ALTER TABLE T ADD CONSTRAINT c PRIMARY KEY (k) DEFERRABLE', '', '42P10 no unique index of "T" is over exactly the key columns (k) / Index "c" is deferrable.' ],
	[ 'another collation', 'CREATE UNIQUE INDEX i3 ON T (g COLLATE nocase)', q(key_columns => '{g}'), q(42P10 no unique index of "T" is over exactly the key columns (g) / Index "i3" compares otherwise than the columns' types do.) ],
	[ 'one good of two', 'CREATE UNIQUE INDEX ON T (k) WHERE v > 0; CREATE UNIQUE INDEX ON T (k); CREATE UNIQUE INDEX ON T (k) WHERE v > 1', q(key_columns => '{k}'), 'ok' ],
	[ 'no such column', '', q(key_columns => '{k,x}'), '42703 column "x" of option "key_columns" does not exist / The target is "T".' ],
	[ 'a column twice', 'CREATE UNIQUE INDEX ON T (k)', q(key_columns => '{k,k}'), '22023 option "key_columns" names column "k" twice' ],
	[ 'no columns', '', q(key_columns => '{}'), '22023 option "key_columns" names no column' ],
	[ 'a column that is not mapped', 'ALTER TABLE T ADD PRIMARY KEY (k)', q(columns => '{"g": "$.g", "v": "$.v"}'), '22023 key column "k" is not mapped / It takes nothing from a message.' ],
	[ 'a generated column', 'CREATE UNIQUE INDEX ON T (d)', q(key_columns => '{d}'), '22023 key column "d" is not mapped / It takes nothing from a message.' ],
	[ 'newer_by', 'ALTER TABLE T ADD PRIMARY KEY (k)', q(newer_by => 'v'), 'ok' ],
	[ 'newer_by without such a column', 'ALTER TABLE T ADD PRIMARY KEY (k)', q(newer_by => 'x'), '42703 column "x" of option "newer_by" does not exist / The target is "T".' ],
	[ 'newer_by the key', 'ALTER TABLE T ADD PRIMARY KEY (k)', q(newer_by => 'k'), '22023 option "newer_by" names the key column "k"' ],
	[ 'newer_by without an order', 'ALTER TABLE T ADD PRIMARY KEY (k)', q(newer_by => 'j'), '22023 option "newer_by" names column "j", whose type json has no order' ],
	[ 'newer_by not mapped', 'ALTER TABLE T ADD PRIMARY KEY (k)', q(newer_by => 'v', columns => '{"k": "$.k"}'), '22023 column "v" of option "newer_by" is not mapped / It takes nothing from a message.' ],
	[ 'a rule', 'ALTER TABLE T ADD PRIMARY KEY (k); CREATE RULE r AS ON UPDATE TO T DO ALSO SELECT 1', '', '42809 mode => \'upsert\' cannot write into "T" / The table has rules, and ON CONFLICT does not go with them.' ]);
foreach my $case (@keys)
{
	my ($name, $sql, $options, $expected) = @$case;
	my $result = creating("$plain $sql", $options);
	$expected =~ s/\bT\b/t$n/g;
	is($result, $expected, "key: $name");
}
foreach my $mode (qw(upsert insert_ignore))
{
	like(creating('CREATE TABLE base_T (k int PRIMARY KEY); CREATE VIEW T AS SELECT * FROM base_T', q(key_columns => '{k}'), mode => $mode),
		qr/^42809 mode => '$mode' cannot write into "t$n"/, "$mode: no view");
}
my $parted = 'CREATE TABLE T (k int, g text, v int) PARTITION BY RANGE (k); CREATE TABLE T_1 PARTITION OF T FOR VALUES FROM (0) TO (10);'
  . ' CREATE TABLE T_2 PARTITION OF T DEFAULT;';
is(creating("$parted ALTER TABLE T ADD PRIMARY KEY (k)", ''), 'ok', 'key: of a partitioned table');
like(creating("$parted CREATE UNIQUE INDEX i4 ON ONLY T (k)", q(key_columns => '{k}')), qr/^42P10 .* Index "i4" is not valid\.$/,
	'key: not in all partitions');

# ---- a tombstone's key --------------------------------------------------------------

my $two = "$plain ALTER TABLE T ADD PRIMARY KEY (k, g)";
like(creating($two, ''), qr/^22023 a tombstone has no value for key column "k"/, 'two columns and a text');
is(creating($two, q(key_format => 'json')), 'ok', 'two columns and a JSON key');
is(creating($two, q(on_tombstone => 'skip')), 'ok', 'two columns, no deletes');
is(creating($two, '', mode => 'insert_ignore'), 'ok', 'insert_ignore does not delete');
like(creating($two, q(columns => '{"*": "$.*", "g": "@key"}')), qr/^22023 .*"k"/, 'one of two columns takes the key');
is(creating($two, q(columns => '{"*": "$.*", "g": "@key", "k": "@partition"}')), 'ok', 'both take what tombstones have');

# ---- rights -------------------------------------------------------------------------

query("CREATE TABLE rights (k int PRIMARY KEY, v int, w int, x int DEFAULT 5)");
my $create = q{SELECT kafka_ingest.create_pipeline('rights', topic => 'none', target => 'rights', mode => 'upsert', paused => true,
	newer_by => 'w', columns => '{"k": "$.k", "v": "$.v", "w": "$.w"}', or_alter => true %s)};
my @grants = (
	[ 'INSERT', '', '42501 permission denied for column "k" of table "rights" / Role "loader" may not read it.' ],
	[ 'SELECT (k)', '', '42501 permission denied for column "v" of table "rights" / Role "loader" may not read it.' ],
	[ 'SELECT (v, w)', '', '42501 permission denied for column "v" of table "rights" / Role "loader" may not update it.' ],
	[ 'UPDATE (v, w)', '', '42501 permission denied for table "rights" / Role "loader" may not delete from it.' ],
	[ '', q(, on_tombstone => 'skip'), 'ok' ],
	[ '', q(, on_tombstone => 'skip', delete_when => '{"$.gone": "true"}'), '42501 permission denied for table "rights" / Role "loader" may not delete from it.' ],
	[ 'DELETE', '', 'ok' ]);
foreach my $case (@grants)
{
	my ($grant, $options, $expected) = @$case;
	query("GRANT $grant ON rights TO loader") if $grant;
	is(query("SET SESSION AUTHORIZATION loader; SELECT attempt(\$a\$" . sprintf($create, $options) . '$a$)'),
		$expected, 'rights: ' . ($grant || $options));
}
# just these are enough
my $rights = $kafka->create_topic('rights');
$kafka->produce_messages($rights, map { { key => 1, value => $_ } } '{"k": 1, "v": 1, "w": 5}', '{"k": 1, "v": 2, "w": 6}',
	'{"k": 1, "v": 3, "w": 2}', '{"k": 2, "v": 1, "w": 1}');
$kafka->produce_messages($rights, { key => 2, value => undef }, { key => 1, value => undef }, { key => 1, value => '{"k": 1, "v": 4, "w": 1}' });
query("SET SESSION AUTHORIZATION loader; SELECT kafka_ingest.alter_pipeline('rights', topic => '$rights', start_from => 'earliest', batch_max_messages => 4)");
query("SET SESSION AUTHORIZATION loader; CALL kafka_ingest.run('rights')");
is(query('SELECT * FROM rights'), '1|4|1|5', 'the rights are enough for all there is to do');
# each of them is looked at again
foreach my $revoke ('SELECT (k)', 'UPDATE (v)', 'DELETE', 'INSERT')
{
	query("REVOKE $revoke ON rights FROM loader");
	$kafka->produce_messages($rights, { key => 1, value => '{"k": 1, "v": 4, "w": 1}' });
	query("SELECT kafka_ingest.resume('rights')");
	$node->wait_for_state('rights', 'retrying/permission_denied');
	query("GRANT $revoke ON rights TO loader; SELECT kafka_ingest.pause('rights'); SELECT kafka_ingest.resume('rights')");
	$node->poll_until(q{SELECT state = 'running' AND lag = 0 FROM kafka_ingest.status WHERE pipeline = 'rights'});
	query("SELECT kafka_ingest.pause('rights')");
}

# ---- bad keys -----------------------------------------------------------------------

# Loads messages and says which became letters.
sub letters
{
	my ($name, $sql, $options, @messages) = @_;
	my $topic = $kafka->create_topic('keys');
	$kafka->produce_messages($topic, @messages);
	query("$sql; SELECT kafka_ingest.create_pipeline('$name', topic => '$topic', target => '$name', mode => 'upsert', paused => true $options);"
		  . " CALL kafka_ingest.run('$name')");
	return query(qq{SELECT string_agg(concat_ws(' ', message_offset, stage, sqlstate, column_name), ', ' ORDER BY message_offset)
		FROM kafka_ingest.dead_letters WHERE pipeline = '$name'});
}

is(letters('bad_rows', 'CREATE TABLE bad_rows (k int DEFAULT 9, g text, v int, PRIMARY KEY (k, g))', q(, key_format => 'json'),
		{ key => '{"k": 1, "g": "x"}', value => '{"k": 1, "g": "x", "v": 1}' },
		{ key => undef, value => '{"k": null, "g": "x", "v": 2}' },
		{ key => undef, value => '{"k": 2, "v": 3}' },
		{ key => undef, value => '{"g": "x", "v": 4}' },
		{ key => undef, value => '{"k": 1, "g": "y", "v": 5}' },
		{ key => undef, value => undef },
		{ key => 'no JSON', value => undef },
		{ key => 'no JSON', value => '{"k": 1, "g": "z", "v": 8}' },
		{ key => '{"k": 1}', value => undef },
		{ key => '{"k": 1, "g": null}', value => undef },
		{ key => '{"k": "x", "g": "y"}', value => undef },
		{ key => '7', value => undef },
		{ key => '{"more": 1, "g": "y", "k": 1}', value => undef }),
	'1 map 23502 k, 2 map 23502 g, 3 map 23502 k, 5 map 23502 k, 6 decode 22P02, 8 map 23502 g, 9 map 23502 g, 10 map 22P02 k, 11 map 23502 k',
	'keys of rows and tombstones that are bad messages');
is(query(q{SELECT string_agg(message_offset || ' ' || (error ~ 'the tombstone has no key to take the column from'), ', ' ORDER BY message_offset)
		FROM kafka_ingest.dead_letters WHERE pipeline = 'bad_rows' AND message_offset IN (1, 5, 8)}), '1 false, 5 true, 8 false', 'a tombstone without a key says so');
is(query('SELECT string_agg(t::text, $$ $$ ORDER BY g) FROM bad_rows t'), '(1,x,1) (1,z,8)', 'all others are applied');
is(query(q{SELECT messages, loaded, ignored, dead_letters FROM kafka_ingest.status WHERE pipeline = 'bad_rows'}), '13|4|0|9', 'and counted');

is(letters('own_source', 'CREATE TABLE own_source (p int, id bytea, h text, PRIMARY KEY (p, id, h))',
		q(, key_format => 'json', columns => '{"p": "@partition", "id": "@key.deep[0]::hex", "h": "@headers.t"}'),
		(map { { key => qq({"deep": ["$_"]}), value => '{}', headers => [ [ 't', 'a' ] ] } } '01', '02', '03'),
		{ key => '{"deep": ["02"]}', value => undef, headers => [ [ 't', 'a' ] ] },
		{ key => '{"deep": ["03"]}', value => undef, headers => [ [ 't', 'other' ] ] }), '', 'sources of their own');
is(query('SELECT string_agg(t::text, $$ $$ ORDER BY id) FROM own_source t'), '(0,"\\\\x01",a) (0,"\\\\x03",a)',
	'a tombstone takes what rows take, where it has that');
is(letters('whole', 'CREATE TABLE whole (k text PRIMARY KEY)', q(, columns => '{"k": "$.id"}'),
		(map { { key => $_, value => qq({"id": "$_"}) } } 'a b', '{1:2}', 'c'),
		{ key => 'a b', value => undef }, { key => '{1:2}', value => undef }), '', 'a text is the key');
is(query('SELECT string_agg(k, $$ $$) FROM whole'), 'c', 'whatever it looks like');

# ---- what there is beside the key ------------------------------------------------------

# triggers see what the statements would show them; generated columns, identity, foreign keys
is(letters('beside', q{
	CREATE TABLE log (n serial, what text);
	CREATE TABLE parent (id int PRIMARY KEY);
	INSERT INTO parent VALUES (1), (2);
	CREATE TABLE beside (k int PRIMARY KEY, v int, p int REFERENCES parent DEFERRABLE INITIALLY DEFERRED,
		twice int GENERATED ALWAYS AS (v * 2) STORED, n int GENERATED ALWAYS AS IDENTITY, changed text);
	CREATE FUNCTION before() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN NEW.changed := 'by ' || TG_OP; RETURN NEW; END $$;
	CREATE FUNCTION after() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN INSERT INTO log (what) VALUES (format('%s %s', TG_OP, coalesce(NEW.k, OLD.k))); RETURN NULL; END $$;
	CREATE TRIGGER before BEFORE UPDATE ON beside FOR EACH ROW EXECUTE FUNCTION before();
	CREATE TRIGGER after AFTER INSERT OR UPDATE OR DELETE ON beside FOR EACH ROW EXECUTE FUNCTION after();
	INSERT INTO beside (k, v) VALUES (1, 1), (2, 1), (3, 1), (4, 1)},
		q(, columns => '{"k": "$.k", "v": "$.v", "p": "$.p"}'),
		{ key => 1, value => '{"k": 1, "v": 10, "p": 1}' },
		{ key => 5, value => '{"k": 5, "v": 50, "p": 2}' },
		{ key => 2, value => undef },
		{ key => 3, value => undef },
		{ key => 6, value => '{"k": 6, "v": 60, "p": 3}' },
		{ key => 3, value => '{"k": 3, "v": 30, "p": 1}' }), '4 write 23503', 'a deferred constraint finds its message');
is(query('SELECT k, v, p, twice, changed FROM beside ORDER BY k'),
	join("\n", '1|10|1|20|by UPDATE', '3|30|1|60|', '4|1||2|', '5|50|2|100|'), 'rows');
is(query(q{SELECT string_agg(what, ', ' ORDER BY what) FROM log WHERE n > 4}),
	'DELETE 2, DELETE 3, INSERT 3, INSERT 5, UPDATE 1', 'triggers');

# a partitioned table, and one with children, whose rows have other keys
is(letters('parted', q{CREATE TABLE parted (k int, v int, PRIMARY KEY (k)) PARTITION BY RANGE (k);
	CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (10);
	CREATE TABLE parted_2 (v int, gone int, k int NOT NULL); ALTER TABLE parted_2 DROP gone;
	ALTER TABLE parted ATTACH PARTITION parted_2 DEFAULT;
	INSERT INTO parted VALUES (1, 0), (2, 0), (11, 0), (12, 0)}, '',
		(map { { key => $_, value => qq({"k": $_, "v": 1}) } } 1, 3, 11, 13),
		(map { { key => $_, value => undef } } 2, 12, 14), { key => 2, value => '{"k": 2, "v": 2}' }), '', 'a partitioned table');
is(query('SELECT string_agg(t::text, $$ $$ ORDER BY k) FROM parted t'), '(1,1) (2,2) (3,1) (11,1) (13,1)', 'in all partitions');
is(letters('parent_only', q{CREATE TABLE parent_only (k int PRIMARY KEY, v int); CREATE TABLE child () INHERITS (parent_only);
	INSERT INTO parent_only VALUES (1, 0); INSERT INTO child VALUES (1, 0), (2, 0)}, '',
		(map { { key => $_, value => undef } } 1, 2), { key => 2, value => '{"k": 2, "v": 1}' }), '', 'a table with children');
is(query('SELECT string_agg(tableoid::regclass || t::text, $$ $$ ORDER BY k, v) FROM parent_only t'), 'child(1,0) child(2,0) parent_only(2,1)',
	'they are not touched');

# the operators are those of the types, whatever the search_path has
is(letters('operators', q{CREATE SCHEMA odd;
	CREATE FUNCTION odd.never(int, int) RETURNS boolean LANGUAGE sql AS 'SELECT false';
	CREATE OPERATOR odd.= (FUNCTION = odd.never, LEFTARG = int, RIGHTARG = int);
	CREATE OPERATOR odd.>= (FUNCTION = odd.never, LEFTARG = int, RIGHTARG = int);
	CREATE TABLE operators (k int PRIMARY KEY, v int); INSERT INTO operators VALUES (1, 1), (2, 1)},
		q(, newer_by => 'v', search_path => 'public, odd, pg_catalog'),
		{ key => 1, value => undef }, { key => 2, value => '{"k": 2, "v": 2}' }), '', 'an operator that is in the way');
is(query('SELECT string_agg(t::text, $$ $$) FROM operators t'), '(2,2)', 'is not used');

# a column's name is no format of ours
is(letters('formats', q{CREATE TABLE formats (k int PRIMARY KEY, "v%s%s%n%d" int); INSERT INTO formats VALUES (1, 1), (2, 5), (3, 1)},
		q(, newer_by => 'v%s%s%n%d', delete_when => '{"$.gone": "true"}'),
		{ key => 1, value => '{"k": 1, "v%s%s%n%d": 2}' }, { key => 2, value => '{"k": 2, "v%s%s%n%d": 4}' },
		{ key => 3, value => '{"k": 3, "v%s%s%n%d": 2, "gone": true}' }), '', 'a name with percent signs');
is(query('SELECT string_agg(t::text, $$ $$ ORDER BY k) FROM formats t'), '(1,2) (2,5)', 'is a name');

# what delete_when marks needs no more than its key
is(letters('marked', q{CREATE TABLE marked (k int PRIMARY KEY, v int NOT NULL); INSERT INTO marked VALUES (1, 1), (2, 2)},
		q(, on_missing => 'error', delete_when => '{"$.gone": "true"}'),
		{ key => 1, value => '{"k": 1, "gone": true}' }, { key => 2, value => '{"k": 2, "v": "no number", "gone": true}' }),
	'', 'a deleted row needs no other columns');
is(query('SELECT count(*) FROM marked'), 0, 'and is gone');

# ---- an index that goes away ------------------------------------------------------------

my $topic = $kafka->create_topic('index');
$kafka->produce_messages($topic, { key => 1, value => '{"k": 1}' });
query(qq{CREATE TABLE indexed (k int); CREATE UNIQUE INDEX indexed_key ON indexed (k);
	SELECT kafka_ingest.create_pipeline('indexed', topic => '$topic', target => 'indexed', mode => 'upsert', key_columns => '{k}')});
$node->wait_for_position_sum('indexed', 1);
query('DROP INDEX indexed_key');
$kafka->produce_messages($topic, map { { key => $_, value => qq({"k": $_}) } } 1, 2);
$node->wait_for_state('indexed', 'retrying/target_changed');
is(query(q{SELECT dead_letters_total FROM kafka_ingest.status WHERE pipeline = 'indexed'}), 0, 'that is no fault of messages');
query('CREATE UNIQUE INDEX ON indexed (k)');
query(q{SELECT kafka_ingest.pause('indexed'); SELECT kafka_ingest.resume('indexed')});
$node->wait_for_position_sum('indexed', 3);
is(query('SELECT string_agg(k::text, $$ $$ ORDER BY k) FROM indexed'), '1 2', 'and when it is there again, all goes on');
is(query(q{SELECT write_method FROM kafka_ingest.pipelines WHERE pipeline = 'indexed'}), 'upsert', 'how it writes');

$node->stop;
done_testing();
