# The target changes between batches while the workers of both writers run on:
# each change counts from the next batch, as it does for INSERT.

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use Test::More;
use WriterCases;

my $kafka = KafkaBroker->shared;
my $node = IngestCluster->new('main', conf => "wal_level = logical\n");
$node->connect_kafka($kafka);
my $cases = WriterCases->new($node, $kafka);    # for its functions in the database
my @schemas = qw(o m s);
my ($target, %pids, $next_offset);

sub query
{
	my ($sql) = @_;
	return $node->safe_psql('postgres', $sql);
}

# A table t in each schema; two pipelines that read one topic.
sub begin_target
{
	my ($name, $sql) = @_;
	$target = $name;
	my $topic = $kafka->create_topic("change_$name");
	foreach my $schema (@schemas)
	{
		query("CREATE SCHEMA ${schema}_$name; SET search_path = ${schema}_$name; $sql");
		next if $schema eq 'o';
		query(qq{SET search_path = ${schema}_$name;
			SELECT kafka_ingest.create_pipeline('${schema}_$name', topic => '$topic', target => 't', search_path => '${schema}_$name',
				columns => '{"u": null, "*": "\$.*"}', on_error => 'stop')});
	}
	query("SET search_path = s_$name; CREATE TRIGGER zz_force AFTER INSERT ON t REFERENCING NEW TABLE AS zz_rows"
		  . ' FOR EACH STATEMENT EXECUTE FUNCTION public.do_nothing()');
	%pids = map { $_ => $node->worker_pid("${_}_$name") } qw(m s);
	$next_offset = 0;
	return $topic;
}

# One change, and rows after it.
#   rows    as in WriterCases; methods: what is shown of both (default multi_insert and insert)
#   bad     the SQLSTATE that the last of the rows is refused with
sub change
{
	my ($topic, $name, $sql, %step) = @_;
	my $rows = $step{rows};
	foreach my $schema (@schemas)
	{
		query("SET search_path = ${schema}_$target; $sql") if $sql ne '';
	}
	$kafka->produce_messages($topic, map { { value => WriterCases::json_of($_) } } @$rows);
	my @good = $step{bad} ? @$rows[ 0 .. $#$rows - 1 ] : @$rows;
	query("SET search_path = o_$target; " . WriterCases::insert_of({ rows => $rows }, @good)) if @good;
	my $end = $next_offset + @good;
	$node->poll_until(qq{SELECT count(*) FROM kafka_ingest.partition_status WHERE pipeline IN ('m_$target', 's_$target') AND next_offset = $end}, '2');
	my %found = map { $_ => query("SELECT public.result('${_}_$target', 'SELECT tableoid::regclass, * FROM t ORDER BY id')") } @schemas;
	subtest "$target: $name" => sub {
		is($found{m}, $found{o}, 'multi_insert does as INSERT');
		is($found{s}, $found{o}, 'insert does as INSERT');
		is(query("SELECT string_agg(write_method, ' ' ORDER BY pipeline) FROM kafka_ingest.pipelines WHERE pipeline IN ('m_$target', 's_$target')"),
			$step{methods} // 'multi_insert insert', 'the writers');
		refuses($rows->[-1], $end, $step{bad}) if $step{bad};
	};
	$next_offset += @$rows;
	return;
}

# The last row stopped both pipelines, as it fails by INSERT; then it is passed by.
sub refuses
{
	my ($row, $offset, $sqlstate) = @_;
	my $insert = query(sprintf q{SELECT public.insert_until_error('o_%s', ARRAY[%s])},
		$target, WriterCases::quote(WriterCases::insert_of({ rows => [$row] }, $row)));
	like($insert, qr/^0\|$sqlstate\|/, "INSERT: $insert");
	$insert =~ s/^0/$offset/;
	foreach my $pipeline ("m_$target", "s_$target")
	{
		$node->wait_for_state($pipeline, 'stopped/bad_message');
		is(WriterCases::outcome_of(query("SELECT detail FROM kafka_ingest.status WHERE pipeline = '$pipeline'")), $insert, "$pipeline judges so, too");
		query(sprintf q{SELECT kafka_ingest.seek('%s', start_offsets => '{"0": %d}')}, $pipeline, $offset + 1);
		$pids{ substr $pipeline, 0, 1 } = $node->worker_pid($pipeline);
	}
	return;
}

my $id = 0;

# Rows with ids that nothing had before.
sub rows
{
	my ($count, $more) = @_;
	return [ map { { id => ++$id, $more ? $more->($id) : () } } 1 .. $count ];
}

# The process that knew the table before the change is the one that saw it.
sub same_workers
{
	is($node->worker_pid("${_}_$target"), $pids{$_}, "$target: worker of ${_}_$target never began anew") foreach qw(m s);
	return;
}

# ---- a table ------------------------------------------------------------------------

query(q{SELECT pg_create_logical_replication_slot('changes', 'test_decoding')});
my $topic = begin_target('plain', q{
	CREATE SEQUENCE n;
	CREATE DOMAIN word AS text DEFAULT 'old';
	CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1';
	CREATE TABLE t (id int, v int DEFAULT 1, u word, f int DEFAULT f(), n int DEFAULT nextval('n'))});
change($topic, 'as it was made', '', rows => rows(5, sub { $_[0] % 2 ? (v => 7) : () }));
change($topic, 'ADD COLUMN', q{ALTER TABLE t ADD w text DEFAULT 'w'}, rows => rows(5, sub { $_[0] % 2 ? (w => 'x') : () }));
change($topic, 'SET DEFAULT', 'ALTER TABLE t ALTER v SET DEFAULT 2', rows => rows(5));
change($topic, 'DROP DEFAULT', 'ALTER TABLE t ALTER v DROP DEFAULT', rows => rows(5));
change($topic, 'DROP COLUMN', 'ALTER TABLE t DROP w', rows => rows(5, sub { (v => 3) }));
change($topic, 'ADD COLUMN of that name, of another type', 'ALTER TABLE t ADD w int DEFAULT 3', rows => rows(5, sub { $_[0] % 2 ? (w => 4) : () }));
change($topic, 'ALTER TYPE', q{ALTER TABLE t ALTER v TYPE text, ALTER v SET DEFAULT 'text'}, rows => rows(5, sub { $_[0] % 2 ? (v => 'word') : () }));
change($topic, 'ALTER DOMAIN SET DEFAULT', q{ALTER DOMAIN word SET DEFAULT 'new'}, rows => rows(5));
change($topic, 'a domain column', 'ALTER TABLE t ADD d word', rows => rows(5));
change($topic, 'ALTER DOMAIN SET DEFAULT of a mapped column', q{ALTER DOMAIN word SET DEFAULT 'newer'}, rows => rows(5, sub { $_[0] % 2 ? (d => 'd') : () }));
# what is tried again draws from a sequence again
change($topic, 'DROP COLUMN with a sequence', 'ALTER TABLE t DROP n', rows => rows(5));
change($topic, 'ALTER DOMAIN ADD CHECK', q{ALTER DOMAIN word ADD CONSTRAINT few CHECK (length(VALUE) < 10); ALTER DOMAIN word SET DEFAULT 'much too long'},
	rows => rows(1), bad => '23514');
change($topic, 'ALTER DOMAIN SET NOT NULL', q{ALTER DOMAIN word DROP DEFAULT; DELETE FROM t; ALTER DOMAIN word SET NOT NULL}, rows => rows(1), bad => '23502');
change($topic, 'ALTER DOMAIN DROP NOT NULL', 'ALTER DOMAIN word DROP NOT NULL', rows => rows(3));
change($topic, 'CREATE OR REPLACE FUNCTION of a default', q{CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 2'}, rows => rows(5));
change($topic, 'a default that looks at the table from now on',
	q{CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT count(*) FROM t); END'; ALTER TABLE t ALTER f SET DEFAULT f()}, rows => rows(5));
change($topic, 'ADD CHECK', 'ALTER TABLE t ADD CONSTRAINT small CHECK (id < 1000)', rows => [ @{ rows(3) }, { id => 1001 } ], bad => '23514');
change($topic, 'ADD a generated column', 'ALTER TABLE t ADD g int GENERATED ALWAYS AS (id * 2) STORED', rows => rows(5));
change($topic, 'SET NOT NULL', q{UPDATE t SET v = 'x' WHERE v IS NULL; ALTER TABLE t ALTER v SET NOT NULL}, rows => [ @{ rows(3) }, { id => ++$id, v => undef } ], bad => '23502');
change($topic, 'CREATE INDEX', 'CREATE UNIQUE INDEX once ON t (id)', rows => [ @{ rows(3) }, { id => $id - 5 } ], bad => '23505');
change($topic, 'DROP INDEX', 'DROP INDEX once', rows => rows(3));
change($topic, 'VACUUM FULL', "VACUUM FULL t", rows => rows(5));
change($topic, 'TRUNCATE', 'TRUNCATE t', rows => rows(5));
change($topic, 'CREATE TRIGGER, after', q{
	CREATE TABLE log (n int);
	CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.w := 99; INSERT INTO log VALUES (NEW.id); RETURN NEW; END';
	CREATE TRIGGER note AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION note()}, rows => rows(5));
change($topic, 'CREATE TRIGGER, before', 'CREATE TRIGGER note_before BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION note()', rows => rows(5), methods => 'insert insert');
change($topic, 'DROP TRIGGER', 'DROP TRIGGER note_before ON t', rows => rows(5));
change($topic, 'CREATE RULE', 'CREATE RULE also AS ON INSERT TO t DO ALSO INSERT INTO log VALUES (NEW.id)', rows => rows(5), methods => 'insert insert');
# that there are no rules any more is VACUUM's to find out
change($topic, 'DROP RULE', 'DROP RULE also ON t; VACUUM t', rows => rows(5));
is(query("SELECT public.result('m_plain', 'TABLE log')"), query("SELECT public.result('o_plain', 'TABLE log')"), 'plain: what trigger and rule wrote down');
is(query("SELECT public.result('s_plain', 'TABLE log')"), query("SELECT public.result('o_plain', 'TABLE log')"), 'plain: by a statement, too');
same_workers();

# ---- partitions ---------------------------------------------------------------------

$id = 0;
$topic = begin_target('partitioned', q{
	CREATE TABLE t (id int, v int DEFAULT 1, u text DEFAULT 'u') PARTITION BY RANGE (id);
	CREATE TABLE p1 PARTITION OF t FOR VALUES FROM (0) TO (1000)});
my $some = sub { [ map { { id => $_[0] + ++$id } } 1 .. 4 ] };
change($topic, 'as it was made', '', rows => $some->(0));
change($topic, 'ATTACH', 'CREATE TABLE p2 (u text, gone int, v int, id int); ALTER TABLE p2 DROP gone; ALTER TABLE t ATTACH PARTITION p2 FOR VALUES FROM (1000) TO (2000)',
	rows => [ @{ $some->(0) }, @{ $some->(1000) } ]);
change($topic, 'DETACH', 'ALTER TABLE t DETACH PARTITION p2', rows => [ @{ $some->(0) }, { id => 1500 } ], bad => '23514');
change($topic, 'ATTACH, of another shape, with an index', 'DROP TABLE p2; CREATE TABLE p2 PARTITION OF t FOR VALUES FROM (1000) TO (2000); CREATE INDEX ON p2 (v)', rows => $some->(1000));
change($topic, "a partition's SET NOT NULL", 'ALTER TABLE p2 ALTER v SET NOT NULL', rows => [ @{ $some->(1000) }, { id => 1500, v => undef } ], bad => '23502');
change($topic, "a partition's ADD CHECK", 'ALTER TABLE p2 ADD CONSTRAINT small CHECK (v < 10)', rows => [ @{ $some->(1000) }, { id => 1500, v => 10 } ], bad => '23514');
change($topic, "a partition's BEFORE trigger", q{
	CREATE FUNCTION counted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.u := (SELECT count(*) FROM t); RETURN NEW; END';
	CREATE TRIGGER counted BEFORE INSERT ON p2 FOR EACH ROW EXECUTE FUNCTION counted()}, rows => [ @{ $some->(0) }, @{ $some->(1000) }, @{ $some->(0) } ]);
change($topic, 'without it again', 'DROP TRIGGER counted ON p2', rows => [ @{ $some->(1000) }, @{ $some->(0) } ]);
change($topic, "a partition's TRUNCATE", 'TRUNCATE p2', rows => $some->(1000));
change($topic, 'ADD and DROP COLUMN of the root', q{ALTER TABLE t ADD w text DEFAULT 'w', DROP COLUMN v; ALTER TABLE t ADD v text DEFAULT 'v'}, rows => [ @{ $some->(0) }, @{ $some->(1000) } ]);
change($topic, 'a partition that is partitioned', q{
	ALTER TABLE t DETACH PARTITION p1;
	CREATE TABLE p1_levels (w text, v text, u text, id int) PARTITION BY LIST (v);
	CREATE TABLE p1_v PARTITION OF p1_levels FOR VALUES IN ('v');
	CREATE TABLE p1_rest PARTITION OF p1_levels DEFAULT;
	ALTER TABLE t ATTACH PARTITION p1_levels FOR VALUES FROM (0) TO (1000)}, rows => [ map { { id => $_, $_ % 2 ? (v => "v$_") : () } } 10 .. 20 ]);
change($topic, 'many partitions', q{DO $$ BEGIN FOR i IN 20 .. 319 LOOP
	EXECUTE format('CREATE TABLE many%s PARTITION OF t FOR VALUES FROM (%s) TO (%s)', i, i * 100, i * 100 + 100); END LOOP; END $$},
	rows => [ map { { id => 2000 + $_ * 37 % 30_000, w => "w$_" } } 1 .. 6000 ]);
# more rows of a partition than wait for one write, and more slots than are kept
change($topic, 'many rows for each of some', '', rows => [ map { { id => 2000 + int($_ / 1500) * 100 + $_ % 97, v => "v$_" } } 1 .. 9000 ]);
change($topic, 'and few again', '', rows => $some->(1000));
same_workers();

# ---- logical decoding -----------------------------------------------------------------

# Every row is in the stream of changes, as INSERT's are; rows of several partitions in another order.
foreach my $name (qw(plain partitioned))
{
	my %stream = map {
		my $schema = "${_}_$name";
		$_ => query(qq{SELECT md5(string_agg(change, chr(10) ORDER BY change)) || count(*) FROM (
			SELECT replace(data, '$schema.', '') AS change FROM pg_logical_slot_peek_changes('changes', NULL, NULL)
			WHERE data LIKE 'table $schema.%: INSERT:%' AND data NOT LIKE 'table $schema.log:%') q})
	} @schemas;
	is($stream{$_}, $stream{o}, "$name: the stream of changes of $_ ($stream{$_})") foreach qw(m s);
}

# ---- rights --------------------------------------------------------------------------

# A role that may insert into some columns only, and use no sequence.
query(q{CREATE ROLE loader LOGIN; GRANT USAGE ON FOREIGN SERVER kafka TO loader});
$topic = $kafka->create_topic('change_rights');
foreach my $schema (@schemas)
{
	query(qq{
		CREATE SCHEMA ${schema}_rights; SET search_path = ${schema}_rights;
		CREATE SEQUENCE n;
		CREATE TABLE t (id int, v int DEFAULT 5, n int DEFAULT nextval('n'), secret text DEFAULT current_user, i int GENERATED BY DEFAULT AS IDENTITY);
		GRANT USAGE ON SCHEMA ${schema}_rights TO loader;
		GRANT INSERT (id, v) ON t TO loader});
	query(qq{SET SESSION AUTHORIZATION loader; SET search_path = ${schema}_rights;
		SELECT kafka_ingest.create_pipeline('${schema}_rights', topic => '$topic', target => 't', search_path => '${schema}_rights',
			columns => '{"id": "\$.id", "v": "\$.v"}', on_error => 'stop')}) if $schema ne 'o';
}
query('SET search_path = s_rights; CREATE TRIGGER zz_force BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION public.do_nothing()');
$kafka->produce_messages($topic, map { { value => qq({"id": $_}) } } 1 .. 5);
my $stderr;
$node->psql('postgres', "\\set VERBOSITY verbose\nSET SESSION AUTHORIZATION loader; INSERT INTO o_rights.t (id) VALUES (1)", stderr => \$stderr);
like($stderr, qr/42501: permission denied for sequence n/, 'rights: INSERT needs the sequence');
$node->wait_for_state("${_}_rights", 'retrying/permission_denied') foreach qw(m s);
is(query("SELECT string_agg(pipeline || ' ' || write_method, ', ' ORDER BY pipeline) FROM kafka_ingest.pipelines WHERE pipeline ~ 'rights'"),
	'm_rights multi_insert, s_rights insert', 'rights: so do both writers');
query("GRANT USAGE ON SEQUENCE ${_}_rights.n TO loader") foreach @schemas;
query('SET SESSION AUTHORIZATION loader; INSERT INTO o_rights.t (id) SELECT generate_series(1, 5)');
$node->wait_for_position_sum("${_}_rights", 5) foreach qw(m s);
my %granted = map { $_ => query("SELECT id, v, secret, i, count(*) OVER () FROM ${_}_rights.t ORDER BY id") } @schemas;
is($granted{$_}, $granted{o}, "rights: granted, $_ does as INSERT") foreach qw(m s);
query("REVOKE INSERT (v) ON ${_}_rights.t FROM loader") foreach @schemas;
$kafka->produce_messages($topic, { value => '{"id": 6}' });
$node->wait_for_state("${_}_rights", 'retrying/permission_denied') foreach qw(m s);
like(query("SELECT detail FROM kafka_ingest.status WHERE pipeline = '${_}_rights'"), qr/column "v"/, "rights: $_ misses that of a column") foreach qw(m s);
query("GRANT INSERT (v) ON ${_}_rights.t TO loader") foreach @schemas;
$node->wait_for_position_sum("${_}_rights", 6) foreach qw(m s);
query("REVOKE USAGE ON SCHEMA ${_}_rights FROM loader") foreach @schemas;
$kafka->produce_messages($topic, { value => '{"id": 7}' });
$node->wait_for_state("${_}_rights", 'retrying/permission_denied') foreach qw(m s);
like(query("SELECT detail FROM kafka_ingest.status WHERE pipeline = '${_}_rights'"), qr/schema "${_}_rights"/, "rights: $_ misses that of the schema") foreach qw(m s);
query("GRANT USAGE ON SCHEMA ${_}_rights TO loader") foreach @schemas;
$node->wait_for_position_sum("${_}_rights", 7) foreach qw(m s);

# ---- pieces of a batch ------------------------------------------------------------------

# Where a bad message that no error names cuts a batch into pieces, each is a statement of its own:
# a default that looks at the table sees the pieces before.
$topic = $kafka->create_topic('change_pieces');
foreach my $schema (qw(m s))
{
	query(qq{CREATE SCHEMA ${schema}_pieces; SET search_path = ${schema}_pieces;
		CREATE FUNCTION seen() RETURNS bigint LANGUAGE plpgsql STABLE AS 'BEGIN RETURN (SELECT count(*) FROM t); END';
		CREATE TABLE t (id int, seen bigint DEFAULT seen());
		CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF NEW.id = 18 THEN RAISE ''no''; END IF; RETURN NULL; END';
		CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse();
		SELECT kafka_ingest.create_pipeline('${schema}_pieces', topic => '$topic', target => 't', search_path => '${schema}_pieces',
			on_error => 'stop', paused => true)});
}
query('SET search_path = s_pieces; CREATE TRIGGER zz_force BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION public.do_nothing()');
$kafka->produce_messages($topic, map { { value => qq({"id": $_}) } } 1 .. 20);
query("SELECT kafka_ingest.resume('${_}_pieces')") foreach qw(m s);
$node->wait_for_state("${_}_pieces", 'stopped/bad_message') foreach qw(m s);
my %seen = map { $_ => query("SELECT string_agg(id || ':' || seen, ' ' ORDER BY id) FROM ${_}_pieces.t") } qw(m s);
# in a piece all see the same, which is less than what is there after it
is(query("SELECT count(*) FROM (SELECT seen, min(id), max(id) FROM ${_}_pieces.t GROUP BY seen) q WHERE seen <> min - 1"), 0,
	"pieces: a default of $_ sees those before ($seen{$_})") foreach qw(m s);
is(query("SELECT count(DISTINCT seen) BETWEEN 2 AND 10 FROM ${_}_pieces.t"), 't', "pieces: there are some by $_") foreach qw(m s);

# ---- tables that are more than what is stored in them ----------------------------------

foreach my $extension (qw(citus timescaledb))
{
	is( query(qq{BEGIN;
			INSERT INTO pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion)
				VALUES (99999, '$extension', 10, 'public'::regnamespace, false, '1');
			SELECT write_method FROM kafka_ingest.pipelines WHERE pipeline = 'm_plain';
			ROLLBACK;
			SELECT write_method FROM kafka_ingest.pipelines WHERE pipeline = 'm_plain'}),
		"insert\nmulti_insert", "where $extension is, a statement writes");
}

$node->stop;
done_testing();
