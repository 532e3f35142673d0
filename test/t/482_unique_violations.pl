# Rows that break a unique constraint are told without raising, so that no attempt fails, and
# come out as from INSERT, message by message: the same rows, letters, errors and triggers. Where
# that cannot be, the slower way leads to the same.

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use PostgreSQL::Test::Utils;
use Test::More;

my $seed = $ENV{UNIQUE_SEED} // int(rand(2**31));
srand($seed);
diag("UNIQUE_SEED=$seed");
my $kafka = KafkaBroker->shared;
my $node = IngestCluster->new('main', conf => "deadlock_timeout = 50ms\n");
my $tables = 0;

$node->connect_kafka($kafka);

sub query
{
	return $node->safe_psql('postgres', $_[0]);
}

# INSERT of each message, as PL/pgSQL does it; what fails goes to "refused", in its order.
# An attempt at a piece is a subtransaction, whose number its rows have; "begun" counts all.
query(q{
	CREATE SEQUENCE begun;
	CREATE FUNCTION begin_it() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM nextval(''begun''); RETURN NULL; END';
	CREATE FUNCTION take_away() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		EXECUTE format('DELETE FROM %s WHERE v %% 2 = 1', TG_RELID::regclass);
		RETURN NULL;
	END $$;
	CREATE FUNCTION note_row() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		EXECUTE format('INSERT INTO %I (id) VALUES ($1)', TG_ARGV[0]) USING NEW.id;
		RETURN NULL;
	END $$;
	CREATE TABLE refused (message_offset bigint, sqlstate text, constraint_name text, error text);
	CREATE TABLE given (message_offset bigint, message jsonb);
	CREATE FUNCTION insert_each(target regclass) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		one record;
		con text;
		det text;
	BEGIN
		FOR one IN SELECT * FROM given ORDER BY message_offset LOOP
			BEGIN
				EXECUTE format('INSERT INTO %1$s (%2$s) SELECT %2$s FROM jsonb_populate_record(NULL::%1$s, $1)', target,
					(SELECT string_agg(quote_ident(key), ', ') FROM jsonb_each(one.message))) USING one.message;
			EXCEPTION WHEN integrity_constraint_violation THEN
				GET STACKED DIAGNOSTICS con = CONSTRAINT_NAME, det = PG_EXCEPTION_DETAIL;
				INSERT INTO refused VALUES (one.message_offset, SQLSTATE, con, concat_ws(E'\nDETAIL:  ', SQLERRM, nullif(det, '')));
			END;
		END LOOP;
	END $$});

sub json_of
{
	my ($row) = @_;
	return '{' . join(', ', map { qq("$_": ) . (!defined $row->{$_} ? 'null' : $row->{$_} =~ /^-?\d+(\.\d+)?$/ ? $row->{$_} : qq("$row->{$_}")) } sort keys %$row) . '}';
}

# The table T is made twice, once for INSERT. Options:
#   before   SQL for both tables, once they are there
#   fails    there must be attempts that fail; otherwise there must be none
#   options  of the pipeline
#   check    more queries over T that must give the same
# Returns the name of the pipeline and its table.
sub check_rows
{
	my ($name, $sql, $rows, %case) = @_;
	my ($t, $o) = ('t' . ++$tables, "o$tables");
	my $topic = $kafka->create_topic('unique');
	my @values = map { ref $_ ? json_of($_) : $_ } @$rows;
	my $given = join '', map { "$_\t" . $values[$_] =~ s/\\/\\\\/gr . "\n" } grep { ref $rows->[$_] } 0 .. $#values;
	my %made;
	foreach my $table ($t, $o)
	{
		$made{$table} = $sql . ";\n" . ($case{before} // '') . ";\n";
		$made{$table} =~ s/\bT(?=\b|_)/$table/g;
	}
	$kafka->produce_messages($topic, map { { value => $_ } } @values);
	query("TRUNCATE given, refused;\nCOPY given FROM stdin;\n$given\\.\n$made{$o}; SELECT insert_each('$o');");
	query(qq{$made{$t};
		SELECT setval('begun', 1, false);
		CREATE TRIGGER aa BEFORE INSERT ON $t FOR EACH STATEMENT EXECUTE FUNCTION begin_it();
		SELECT kafka_ingest.create_pipeline('$t', topic => '$topic', target => '$t', batch_max_messages => 100000, batch_max_ms => 60000, paused => true @{[$case{options} // '']})});
	subtest $name => sub {
		my $pieces = "SELECT count(DISTINCT xmin::text) FROM $t";
		my $before = query($pieces);
		query("CALL kafka_ingest.run('$t')");
		foreach my $check ('SELECT * FROM T', @{ $case{check} // [] })
		{
			my ($is, $expected) = map { $check =~ s/\bT(?=\b|_)/$_/gr } $t, $o;
			is(query("SELECT * FROM ($is) q ORDER BY q::text"), query("SELECT * FROM ($expected) q ORDER BY q::text"), "the same rows: $check");
		}
		my $refused = query(q{SELECT message_offset, sqlstate, constraint_name, error FROM refused ORDER BY message_offset}) =~ s/\bo(\d+)(?=\b|_)/t$1/gr;
		is( query(qq{SELECT message_offset, sqlstate, constraint_name, error FROM kafka_ingest.dead_letters
				WHERE pipeline = '$t' AND sqlstate LIKE '23%' ORDER BY id}), $refused, 'the same errors, as letters in order');
		isnt($refused, '', '... some of which there are');
		my $others = grep { !ref } @$rows;
		my $count = @values;
		is( query(qq{SELECT messages, loaded + dead_letters, dead_letters = $others + (SELECT count(*) FROM refused) FROM kafka_ingest.status WHERE pipeline = '$t'}),
			"$count|$count|t", 'the counts');
		is( query(qq{SELECT count(*) FROM (SELECT message_offset > lag(message_offset) OVER (ORDER BY id) AS follows FROM kafka_ingest.dead_letters WHERE pipeline = '$t') q WHERE NOT follows}),
			0, 'all letters are in order');
		cmp_ok(query("SELECT last_value - (($pieces) - $before) FROM begun"), $case{fails} ? '>' : '==', 0,
			$case{fails} ? 'by attempts that fail' : 'without an attempt that fails');
	};
	return $t;
}

sub pick { return $_[ rand @_ ] }

# ---- as INSERT -----------------------------------------------------------------------------------

my @many = map { { id => 1 + int rand 3000, v => $_ } } 1 .. 3500;
check_rows('a primary key', 'CREATE TABLE T (id int PRIMARY KEY, v int)', \@many, before => 'INSERT INTO T SELECT n, -n FROM generate_series(1, 3000, 10) n', options => ', max_error_ratio => 1');
check_rows('each message again', 'CREATE TABLE T (id int PRIMARY KEY, v int)', [ map { ({ id => $_, v => 1 }, { id => $_, v => 2 }) } 1 .. 1500 ], options => ', max_error_ratio => 1');
check_rows('three unique indexes', 'CREATE TABLE T (id int PRIMARY KEY, a int, b text, UNIQUE (a, b), CONSTRAINT T_b UNIQUE (b) INCLUDE (a))',
	[ map { { id => 1 + int rand 4000, a => int rand 50, b => pick(undef, 'x') ? 'b' . int rand 4000 : undef } } 1 .. 2500 ], options => ', max_error_ratio => 1');
# a refused row must not stand in the way of the next one, by another index
check_rows('behind refused ones', 'CREATE TABLE T (id int, a int UNIQUE, b int UNIQUE)',
	[ map { { id => $_->[0], a => $_->[1], b => $_->[2] } } [ 1, 1, 1 ], [ 2, 1, 2 ], [ 3, 3, 2 ], [ 4, 3, 4 ], [ 5, 5, 4 ], [ 6, 6, 5 ], [ 7, 5, 6 ], [ 8, 8, 6 ] ],
	options => ', max_error_ratio => 1');
check_rows('NULLS NOT DISTINCT', 'CREATE TABLE T (id int, a int, b int, UNIQUE NULLS NOT DISTINCT (a, b), UNIQUE (b, id))',
	[ map { { id => $_, a => pick(undef, 1 .. 20), b => pick(undef, 1 .. 20) } } 1 .. 600 ], options => ', max_error_ratio => 1');
check_rows('expressions, predicates and types', q{CREATE TABLE T (id int, n numeric, f float8, s text COLLATE "und-x-icu", m name, live bool);
	CREATE UNIQUE INDEX T_n ON T (n); CREATE UNIQUE INDEX T_f ON T (f DESC NULLS FIRST); CREATE UNIQUE INDEX T_s ON T (lower(s)) WHERE live; CREATE UNIQUE INDEX T_m ON T (m)},
	[   map({ { id => $_, n => pick(undef, '1.0', '1.00', int rand 900), live => pick('true', 'false') } } 1 .. 300),
		map({ { id => $_, f => pick('0.0', '0', int rand 900), s => pick('a', 'A', 'b') . int rand 300, live => pick('true', 'false') } } 301 .. 800),
		map({ { id => $_, m => 'name' . int rand 150 } } 801 .. 1000) ], options => ', max_error_ratio => 1');
check_rows('a generated column', 'CREATE TABLE T (id int, g int GENERATED ALWAYS AS (id / 3) STORED UNIQUE)', [ map { { id => $_ } } 1 .. 1000 ], options => ', max_error_ratio => 1');
check_rows('toasted values', 'CREATE TABLE T (id int PRIMARY KEY, s text); ALTER TABLE T ALTER s SET STORAGE EXTERNAL',
	[ map { { id => 1 + int rand 1200, s => 'x' x 2100 . $_ } } 1 .. 1100 ], options => ', max_error_ratio => 1');
my $toast = query("SELECT reltoastrelid::regclass FROM pg_class WHERE relname = 't$tables'");
is(query("SELECT count(DISTINCT chunk_id) = (SELECT count(*) FROM t$tables) FROM $toast"), 't', '... and none are left behind');

# Deferrable ones are checked at the end, by raising.
my @rare = map { { id => 1 + int rand 100_000, a => 1 + int rand 100_000 } } 1 .. 300;
check_rows('a deferrable one beside', 'CREATE TABLE T (id int PRIMARY KEY, a int UNIQUE DEFERRABLE)', [ @rare, { id => 7, a => 100_001 }, { id => 7, a => 100_002 }, { id => 8, a => 100_001 }, @rare[ 0 .. 5 ] ], fails => 1);
check_rows('a deferrable one that is content', 'CREATE TABLE T (id int PRIMARY KEY, a int UNIQUE DEFERRABLE INITIALLY DEFERRED)', [ map { { id => int($_ / 2), a => $_ } } 1 .. 1000 ]);
check_rows('an exclusion constraint beside', 'CREATE TABLE T (id int PRIMARY KEY, r int4range, EXCLUDE USING gist (r WITH &&))',
	[ map { { id => int($_ / 2), r => "[$_,@{[$_ + 1]})" } } 1 .. 200 ], options => ', max_error_ratio => 1');
check_rows('an exclusion constraint', 'CREATE TABLE T (id int PRIMARY KEY, r int4range, EXCLUDE USING gist (r WITH &&))',
	[ map({ { id => $_, r => "[$_,@{[$_ + 1]})" } } 1 .. 50), { id => 60, r => '[3,9)' }, { id => 60, r => '[100,101)' } ], fails => 1);

my @levels = map { { id => 1 + int rand 500, k => int rand 30, v => $_ } } 1 .. 3000;
check_rows('partitions', q{CREATE TABLE T (v int, k int, id int, PRIMARY KEY (id, k)) PARTITION BY RANGE (k);
	CREATE TABLE T_1 PARTITION OF T FOR VALUES FROM (0) TO (10);
	CREATE TABLE T_2 (gone int, id int NOT NULL, v int, k int NOT NULL); ALTER TABLE T_2 DROP gone; ALTER TABLE T ATTACH PARTITION T_2 FOR VALUES FROM (10) TO (20);
	CREATE UNIQUE INDEX T_2_v ON T_2 ((v / 2)); CREATE TABLE T_3 PARTITION OF T FOR VALUES FROM (20) TO (30)}, \@levels, options => ', max_error_ratio => 1');

# ---- triggers and foreign keys ---------------------------------------------------------------------

my @children = map { { id => $_ % 7 ? $_ : $_ - 1, parent => $_ % 5 ? 1 : undef, u => $_ } } 1 .. 2000;
check_rows('a foreign key to itself', 'CREATE TABLE T (id int PRIMARY KEY, parent int REFERENCES T, u int UNIQUE)', \@children);
check_rows('a disabled trigger', q{CREATE TABLE T (id int PRIMARY KEY, v int);
	CREATE TRIGGER t AFTER INSERT ON T FOR EACH ROW EXECUTE FUNCTION take_away(); ALTER TABLE T DISABLE TRIGGER t}, [ map { { id => $_ % 7 ? $_ : $_ - 1, v => $_ } } 1 .. 300 ]);

# Triggers behind the rows may take away what a later one meets.
check_rows('a trigger per row, and a foreign key to itself', q{CREATE TABLE T_log (n serial, id int);
	CREATE TABLE T (id int PRIMARY KEY, parent int REFERENCES T, u int UNIQUE);
	CREATE TRIGGER n AFTER INSERT ON T FOR EACH ROW EXECUTE FUNCTION note_row('T_log')},
	\@children, fails => 1,
	check => ['SELECT n, id FROM (SELECT row_number() OVER (ORDER BY n) AS n, id FROM T_log) q']);
my @taken = map { { id => int($_ / 6), v => int($_ / 2) } } 1 .. 120;
check_rows("a trigger per $_ that takes rows away", qq{CREATE TABLE T (id int PRIMARY KEY, v int);
	CREATE TRIGGER t AFTER INSERT ON T FOR EACH $_ EXECUTE FUNCTION take_away()}, \@taken, fails => 1, options => ', max_error_ratio => 1') foreach 'ROW', 'STATEMENT';
check_rows('a trigger of the partitioned table that takes rows away', q{CREATE TABLE T (id int PRIMARY KEY, v int) PARTITION BY RANGE (id);
	CREATE TABLE T_1 PARTITION OF T FOR VALUES FROM (0) TO (1000);
	CREATE TRIGGER t AFTER INSERT ON T FOR EACH STATEMENT EXECUTE FUNCTION take_away()}, \@taken, fails => 1, options => ', max_error_ratio => 1');
check_rows('a foreign key to a refused row', 'CREATE TABLE T (id int PRIMARY KEY, u int UNIQUE, parent int REFERENCES T)',
	[ { id => 1, u => 1 }, { id => 2, u => 1 }, { id => 3, u => 3, parent => 2 }, { id => 4, u => 4, parent => 1 }, { id => 4, u => 5, parent => 2 } ], fails => 1, options => ', max_error_ratio => 1');

# A trigger before the row of a partition has done something by then, which only raising takes back.
check_rows('a trigger before the row of a partition', q{CREATE TABLE T_log (id int);
	CREATE TABLE T (id int PRIMARY KEY, v int) PARTITION BY RANGE (id); CREATE TABLE T_1 PARTITION OF T FOR VALUES FROM (0) TO (1000);
	CREATE FUNCTION T_before() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO T_log VALUES (NEW.id); RETURN NEW; END';
	CREATE TRIGGER b BEFORE INSERT ON T_1 FOR EACH ROW EXECUTE FUNCTION T_before()},
	[ map { { id => int($_ / 2), v => $_ } } 1 .. 20 ], check => ['SELECT * FROM T_log'], fails => 1, options => ', max_error_ratio => 1');

# ---- beside other faults ---------------------------------------------------------------------------

check_rows('other faults in between', 'CREATE TABLE T (id int PRIMARY KEY, v int NOT NULL CONSTRAINT small CHECK (v < 4000))',
	[ map { $_ % 11 == 0 ? 'no JSON' : $_ % 13 == 0 ? '{"id": "x"}' : { id => $_ % 7 ? $_ : $_ - 1, v => $_ } } 1 .. 3000 ]);

my $same = [ map { { id => int($_ / 10), v => $_ } } 1 .. 100 ];
my $retried = check_rows('most of them', 'CREATE TABLE T (id int PRIMARY KEY, v int)', $same, options => ', max_error_ratio => 1');
query("DELETE FROM $retried WHERE id = 3");
is(query("SELECT retried, loaded, superseded, failed FROM kafka_ingest.retry_dead_letters('$retried')"), '89|1|0|88', 'a retry goes the same way: the first of them goes in');
is(query("SELECT v FROM $retried WHERE id = 3"), 31, '... the first one');
is(query("SELECT count(*), count(DISTINCT message_offset), max(attempts) FROM kafka_ingest.dead_letters WHERE pipeline = '$retried'"), '88|88|2', '... and the others stay');

# Nothing may follow a bad message: the table is as it was before it.
my $topic = $kafka->create_topic('stop');
$kafka->produce_messages($topic, map { { value => qq({"id": @{[$_ == 700 ? 5 : $_]}}) } } 0 .. 999);
query(qq{CREATE TABLE stopped (id int PRIMARY KEY);
	SELECT kafka_ingest.create_pipeline('stopped', topic => '$topic', target => 'stopped', on_error => 'stop', paused => true)});
my ($out, $err);
$node->psql('postgres', q{CALL kafka_ingest.run('stopped')}, stdout => \$out, stderr => \$err);
like($err, qr/bad_message.*offset 700 /s, 'on_error stop: it stops');
is(query(q{SELECT next_offset, (SELECT count(*) FROM stopped), (SELECT max(id) FROM stopped) FROM kafka_ingest.partition_status WHERE pipeline = 'stopped'}), '700|700|699', '... just before');

# A statement is given the messages of written rows only.
query(qq{CREATE TABLE beside (id int PRIMARY KEY); CREATE TABLE seen (id int);
	SELECT kafka_ingest.create_pipeline('beside', topic => '$topic', target => 'beside', statement => \$\$INSERT INTO seen SELECT (value->>'id')::int FROM messages\$\$, paused => true);
	CALL kafka_ingest.run('beside')});
is(query(q{SELECT count(*), count(DISTINCT id), (SELECT count(*) FROM beside) FROM seen}), '999|999|999', 'a statement sees no message of a refused row');

# No room for the letters: as many as there is room for, and all before the next one.
$topic = $kafka->create_topic('room');
my $long = 'x' x 100_000;
$kafka->produce_messages($topic, map { { value => $_ % 2 ? qq({"id": 0, "s": "$long"}) : qq({"id": $_}) } } 0 .. 49);
query(qq{ALTER SYSTEM SET kafka_ingest.dead_letter_max_size = '1MB'; SELECT pg_reload_conf()});
$node->poll_until(q{SHOW kafka_ingest.dead_letter_max_size}, '1MB');
query(qq{CREATE TABLE room (id int PRIMARY KEY); SELECT kafka_ingest.create_pipeline('room', topic => '$topic', target => 'room', paused => true)});
$node->psql('postgres', q{CALL kafka_ingest.run('room')}, stdout => \$out, stderr => \$err);
is(query(q{SELECT reason, messages, loaded, dead_letters, (SELECT max(id) FROM room) FROM kafka_ingest.status WHERE pipeline = 'room'}), 'dead_letters_full|21|11|10|20', 'it stops where the letters are full');
query(qq{ALTER SYSTEM RESET kafka_ingest.dead_letter_max_size; SELECT pg_reload_conf()});

# ---- others at work --------------------------------------------------------------------------------

# Somebody's open transaction has the key, or deletes it: his end decides.
sub check_open
{
	my ($name, $does, $ends, $is, $letters) = @_;
	my $p = 'p' . ++$tables;
	my $t = $kafka->create_topic('open');
	$kafka->produce_messages($t, map { { value => qq({"id": $_}) } } 1 .. 100);
	query("CREATE TABLE $p (id int PRIMARY KEY, v text DEFAULT 'ours'); INSERT INTO $p VALUES (70, 'there')");
	my $other = $node->background_psql('postgres');
	$other->query_safe("BEGIN; SET application_name = 'other'; " . $does =~ s/\bT\b/$p/r);
	query("SELECT kafka_ingest.create_pipeline('$p', topic => '$t', target => '$p')");
	$node->poll_until(qq{SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND pid = ANY ((SELECT pids FROM kafka_ingest.status WHERE pipeline = '$p')::int[])}, 't');
	$other->query_safe($ends);
	$other->quit;
	$node->wait_for_position_sum($p, 100);
	is(query("SELECT count(*), (SELECT string_agg(id || v, ' ' ORDER BY id) FROM $p WHERE id IN (40, 70)) FROM $p"), $is, "$name: the rows");
	is(query("SELECT string_agg(message_offset + 1 || ' ' || error, ' ' ORDER BY id) FROM kafka_ingest.dead_letters WHERE pipeline = '$p'"),
		join(' ', map { qq($_ duplicate key value violates unique constraint "${p}_pkey"\nDETAIL:  Key (id)=($_) already exists.) } @$letters), '... and the letters');
	return;
}

check_open('inserted and rolled back', q{INSERT INTO T VALUES (40, 'theirs')}, 'ROLLBACK', '100|40ours 70there', [70]);
check_open('inserted and committed', q{INSERT INTO T VALUES (40, 'theirs')}, 'COMMIT', '100|40theirs 70there', [ 40, 70 ]);
check_open('deleted and rolled back', q{DELETE FROM T WHERE id = 70}, 'ROLLBACK', '100|40ours 70there', [70]);
check_open('deleted and committed', q{DELETE FROM T WHERE id = 70}, 'COMMIT', '100|40ours 70ours', []);

# Workers that meet each other's keys all the time.
my $partitions = 3;
my $count = 15_000;
$topic = $kafka->create_topic('shared', partitions => $partitions);
my %ids;
$kafka->produce_messages($topic, map { my $id = int rand 10_000; $ids{$id} = 1; { partition => $_ % $partitions, value => qq({"id": $id}) } } 1 .. $count);
query(qq{CREATE TABLE shared (id int PRIMARY KEY, _partition int, _offset bigint);
	SELECT kafka_ingest.create_pipeline('shared', topic => '$topic', target => 'shared', workers => $partitions, batch_max_messages => 500, max_error_ratio => 1)});
$node->wait_for_position_sum('shared', $count);
is(query('SELECT count(*), count(DISTINCT id) FROM shared'), join('|', (scalar keys %ids) x 2), 'several workers: each key is there');
is( query(q{SELECT count(*), count(DISTINCT (partition, message_offset)) FROM (SELECT partition, message_offset FROM kafka_ingest.dead_letters WHERE pipeline = 'shared' AND sqlstate = '23505'
		UNION ALL SELECT _partition, _offset FROM shared) q}), "$count|$count", '... and each message is a row or a letter');
query(q{SELECT kafka_ingest.drop_pipeline('shared', discard => true)});

# ---- logical decoding --------------------------------------------------------------------------------

# A subscriber would meet the conflict of a row that is deleted again.
$node->append_conf('postgresql.conf', "wal_level = logical\n");
$node->restart;
query(q{SELECT pg_create_logical_replication_slot('decoded', 'test_decoding')});
my $decoded = check_rows('while it is decoded', 'CREATE TABLE T (id int PRIMARY KEY, v int)', [ map { { id => $_ == 50 ? 7 : $_, v => $_ } } 1 .. 100 ], fails => 1);
is( query(qq{SELECT count(*), count(*) FILTER (WHERE data LIKE '%INSERT%'), count(*) FILTER (WHERE data LIKE '%v[integer]:50')
		FROM pg_logical_slot_get_changes('decoded', NULL, NULL) WHERE data LIKE 'table public.$decoded:%'}), '99|99|0', '... nothing is seen of the refused row');

$node->stop;
done_testing();
