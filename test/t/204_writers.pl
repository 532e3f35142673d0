# One semantics, that of INSERT, whichever way rows are written: the same rows by
# INSERT, straight into the table, and by a statement.

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use Test::More;
use WriterCases;

my $kafka = KafkaBroker->shared;
my $node = IngestCluster->new('main');
$node->connect_kafka($kafka);
my $cases = WriterCases->new($node, $kafka);

# Rows with ids, and what else each of them has.
sub rows
{
	my ($from, $to, $more) = @_;
	return [ map { { id => $_, $more ? $more->($_) : () } } $from .. $to ];
}

# A row trigger that writes down what it was given, and how many rows it sees.
my $note = <<'END';
CREATE TABLE log (n serial, what text);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO log (what) SELECT format('%s %s %s %s: %s of %s', TG_NAME, TG_WHEN, TG_LEVEL, TG_TABLE_NAME,
		CASE WHEN TG_LEVEL = 'ROW' THEN NEW.id END, count(*)) FROM t;
	RETURN NEW;
END $$;
END
my $log = 'SELECT n, what FROM log UNION ALL SELECT 0, count(*)::text FROM t ORDER BY 1';

# ---- defaults ------------------------------------------------------------------

my $defaults = <<'END';
CREATE SEQUENCE s;
CREATE FUNCTION word() RETURNS text LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN 'a' || 'word'; END $$;
CREATE FUNCTION list() RETURNS int[] LANGUAGE plpgsql AS $$ DECLARE a int[] := '{1,2}'; BEGIN a[3] := 3; RETURN a; END $$;
CREATE TYPE pair AS (a int, b text);
CREATE TABLE t (id int, constant int DEFAULT 7, expr text DEFAULT 'x' || upper('y'), seq int DEFAULT nextval('s'),
	clock timestamptz DEFAULT clock_timestamp(), now timestamptz DEFAULT now(), func text DEFAULT word(),
	list int[] DEFAULT list(), pair pair DEFAULT ROW(1, 'b'), uuid uuid DEFAULT gen_random_uuid(), who text DEFAULT current_user,
	none text)
END
my @with_defaults = qw(constant expr seq clock now func list pair uuid who none);
my $check_defaults = 'SELECT id, constant, expr, seq, func, list, pair, who, none, (SELECT count(DISTINCT clock) > 10 FROM t),'
  . ' (SELECT count(DISTINCT now) FROM t), (SELECT count(DISTINCT uuid) FROM t) FROM t ORDER BY id';
$cases->add('defaults of unmapped columns', sql => $defaults, unmapped => \@with_defaults, check => $check_defaults,
	rows => rows(1, 1500));
$cases->add('defaults of absent fields', sql => $defaults, check => $check_defaults,
	rows => rows(1, 1500, sub { $_[0] == 1500 ? map { $_ => undef } @with_defaults : () }));
$cases->add('a field is absent, null or given', sql => $defaults, force => 'before', check => $check_defaults,
	rows => rows(1, 90, sub { $_[0] % 3 == 0 ? (constant => 1, seq => 5, func => 'f') : $_[0] % 3 == 1 ? (constant => undef, func => undef) : () }));
$cases->add('a check that changes what a default gave', unmapped => ['list'], rows => rows(1, 5), sql => <<'END');
CREATE FUNCTION list() RETURNS int[] LANGUAGE plpgsql AS $$ DECLARE a int[] := '{1,2}'; BEGIN a[3] := 3; RETURN a; END $$;
CREATE FUNCTION fits(a int[]) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN a[1] := 666; a[2000] := 1; RETURN true; END $$;
CREATE TABLE t (id int, list int[] DEFAULT list(), CHECK (fits(list)))
END
$cases->add('a default that must not be used', rows => rows(1, 5, sub { (v => 1) }), sql => <<'END');
CREATE FUNCTION must() RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RAISE 'v must be given'; END $$;
CREATE TABLE t (id int, v int DEFAULT must())
END
foreach my $volatility (qw(volatile stable))
{
	my $counts = "CREATE FUNCTION seen() RETURNS bigint LANGUAGE plpgsql $volatility AS 'BEGIN RETURN (SELECT count(*) FROM t); END';"
	  . ' CREATE TABLE t (id int, seen bigint DEFAULT seen())';
	$cases->add("a $volatility default that looks at the table, unmapped", sql => $counts, unmapped => ['seen'], rows => rows(1, 5));
	$cases->add("a $volatility default that looks at the table, absent", sql => $counts,
		rows => rows(1, 5, sub { $_[0] == 3 ? (seen => 100) : () }));
}
$cases->add('a default that looks at partitions', unmapped => ['seen'], rows => [ map { { id => $_ * 37 % 300 } } 1 .. 60 ], sql => <<'END');
CREATE FUNCTION seen() RETURNS bigint LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT count(*) FROM t); END';
CREATE TABLE t (id int, seen bigint DEFAULT seen()) PARTITION BY HASH (id);
CREATE TABLE h0 PARTITION OF t FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE h1 PARTITION OF t FOR VALUES WITH (MODULUS 2, REMAINDER 1)
END
$cases->add('a default after a statement trigger', multi_only => 'its defaults of absent fields come before the statement', rows => rows(1, 5, sub { $_[0] == 3 ? (v => 100) : () }), sql => <<'END');
CREATE SEQUENCE s;
CREATE TABLE t (id int, v int DEFAULT nextval('s'));
CREATE FUNCTION draw() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('s'); RETURN NULL; END $$;
CREATE TRIGGER draw BEFORE INSERT ON t FOR EACH STATEMENT EXECUTE FUNCTION draw()
END
$cases->add('a default that fails', bad => '22012', rows => rows(1, 20, sub { $_[0] == 13 ? () : (v => 1) }),
	sql => 'CREATE TABLE t (id int, v int DEFAULT 1 / (random() < 0)::int)');
$cases->add('identity columns', unmapped => [ 'a', 'b' ], rows => rows(1, 20),
	sql => 'CREATE TABLE t (id int, a int GENERATED BY DEFAULT AS IDENTITY, b int GENERATED ALWAYS AS IDENTITY (INCREMENT 5), c int)');
$cases->add('identity columns, some given', rows => rows(1, 20, sub { $_[0] % 4 ? () : (a => 100 + $_[0]) }),
	sql => 'CREATE TABLE t (id int, a int GENERATED BY DEFAULT AS IDENTITY, b int GENERATED ALWAYS AS IDENTITY (START 50))');
$cases->add('generated columns', unmapped => ['d'], force => 'view', rows => rows(1, 30, sub { $_[0] % 3 ? (v => $_[0]) : () }), sql => <<'END');
CREATE TABLE t (id int, twice int GENERATED ALWAYS AS (id * 2) STORED, v int DEFAULT 5, d text DEFAULT 'dd',
	joined text GENERATED ALWAYS AS (v || d || id) STORED, big text GENERATED ALWAYS AS (repeat('x', id * 100)) STORED,
	tab bool GENERATED ALWAYS AS (tableoid > 0::oid) STORED)
END
$cases->add('a generated column that fails', bad => '22012', rows => rows(-5, 5),
	sql => 'CREATE TABLE t (id int, inverse int GENERATED ALWAYS AS (10 / id) STORED)');
$cases->add('dropped columns', rows => rows(1, 30, sub { $_[0] % 3 ? (v => $_[0]) : () }), sql => <<'END');
CREATE TABLE t (gone int NOT NULL, id int, gone_too text DEFAULT 'x', v int DEFAULT 3, last int GENERATED ALWAYS AS (v + 1) STORED, gone_last text NOT NULL);
ALTER TABLE t DROP gone, DROP gone_too, DROP gone_last
END

# ---- NOT NULL, CHECK, domains ----------------------------------------------------

$cases->add('NOT NULL, null', bad => '23502', sql => 'CREATE TABLE t (id int, v int NOT NULL)',
	rows => rows(1, 30, sub { (v => $_[0] == 17 ? undef : 1) }));
$cases->add('NOT NULL, absent', bad => '23502', sql => 'CREATE TABLE t (id int, v int NOT NULL)', force => 'before',
	rows => rows(1, 30, sub { $_[0] == 17 ? () : (v => 1) }));
$cases->add('NOT NULL, unmapped', bad => '23502', unmapped => ['v'], rows => rows(1, 3), sql => 'CREATE TABLE t (id int, v int NOT NULL)');
$cases->add('NOT NULL DEFAULT', unmapped => ['w'], rows => rows(1, 9, sub { $_[0] % 2 ? (v => 1) : () }),
	sql => 'CREATE TABLE t (id int, v int NOT NULL DEFAULT 5, w int NOT NULL DEFAULT 6)');
$cases->add('NOT NULL of a generated column', bad => '23502', rows => rows(1, 30, sub { (v => $_[0] == 17 ? undef : 1) }),
	sql => 'CREATE TABLE t (id int, v int, g int GENERATED ALWAYS AS (v) STORED NOT NULL)');
$cases->add('CHECK', bad => '23514', rows => rows(1, 30, sub { (v => $_[0] == 3 ? undef : 100 - $_[0]) }),
	sql => 'CREATE TABLE t (id int, v int, CONSTRAINT big CHECK (v > 75), CONSTRAINT other CHECK (id > v - 1000) NO INHERIT)');
$cases->add('CHECK over a default', bad => '23514', unmapped => ['w'], rows => rows(1, 30, sub { $_[0] == 17 ? () : (v => 1) }),
	sql => 'CREATE TABLE t (id int, v int DEFAULT 9, w int DEFAULT 5, CONSTRAINT sum CHECK (v + w < 10))');
$cases->add('CHECK NOT VALID', bad => '23514', rows => rows(1, 30), sql => <<'END');
CREATE TABLE t (id int);
INSERT INTO t VALUES (1000);
ALTER TABLE t ADD CONSTRAINT small CHECK (id < 20) NOT VALID
END
$cases->add('a CHECK that looks at the table', bad => '23514', rows => rows(1, 30), sql => <<'END');
CREATE FUNCTION fits() RETURNS bool LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT count(*) < 7 FROM t); END';
CREATE TABLE t (id int, CONSTRAINT seven CHECK (fits()))
END
$cases->add('two faults, the earlier one is found at the end', bad => '23505', sql => 'CREATE TABLE t (id int, k int UNIQUE, v int NOT NULL)',
	rows => rows(1, 30, sub { (k => $_[0] == 9 ? 3 : $_[0], v => $_[0] == 11 ? undef : 1) }));
$cases->add("a partition's CHECK that looks at the table", bad => '23514', rows => [ map { { id => $_ * 37 % 299 } } 1 .. 60 ], sql => <<'END');
CREATE TABLE t (id int) PARTITION BY RANGE (id);
CREATE TABLE p1 PARTITION OF t FOR VALUES FROM (0) TO (100);
CREATE FUNCTION fits() RETURNS bool LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT count(*) < 33 FROM t); END';
CREATE TABLE p2 PARTITION OF t (CONSTRAINT few CHECK (fits())) FOR VALUES FROM (100) TO (300)
END
my $domains = <<'END';
CREATE DOMAIN small AS int CONSTRAINT small CHECK (VALUE < 100);
CREATE DOMAIN filled AS text NOT NULL;
CREATE DOMAIN smaller AS small CONSTRAINT smaller CHECK (VALUE < 50);
CREATE DOMAIN named AS text DEFAULT 'by domain' CHECK (VALUE <> '');
CREATE DOMAIN pairs AS int[] CHECK (cardinality(VALUE) = 2);
END
$cases->add('domains', unmapped => [ 'b', 'p' ], sql => "$domains CREATE TABLE t (id int, a named, b named, c small DEFAULT 7, d filled DEFAULT 'd', p pairs)",
	rows => rows(1, 30, sub { ($_[0] % 2 ? (a => 'given', d => 'dd') : (), $_[0] % 3 ? (c => 8) : ()) }));
$cases->add('a domain CHECK, mapped', bad => '23514', column => 'v', sql => "$domains CREATE TABLE t (id int, v smaller)",
	rows => rows(1, 30, sub { (v => $_[0] == 17 ? 60 : 1) }));
$cases->add('a domain CHECK, of a default', bad => '23514', sql => "$domains CREATE TABLE t (id int, v smaller DEFAULT 60)",
	rows => rows(1, 30, sub { $_[0] == 17 ? () : (v => 1) }));
$cases->add('a domain CHECK, unmapped', bad => '23514', unmapped => ['v'], rows => rows(1, 3), sql => "$domains CREATE TABLE t (id int, v small DEFAULT 200)");
$cases->add('a domain NOT NULL, null', bad => '23502', column => 'v', sql => "$domains CREATE TABLE t (id int, v filled)",
	rows => rows(1, 30, sub { (v => $_[0] == 17 ? undef : 'x') }));
$cases->add('a domain NOT NULL, absent', bad => '23502', sql => "$domains CREATE TABLE t (id int, v filled)",
	rows => rows(1, 30, sub { $_[0] == 17 ? () : (v => 'x') }));
$cases->add('a domain NOT NULL, unmapped', bad => '23502', unmapped => ['v'], rows => rows(1, 3), sql => "$domains CREATE TABLE t (id int, v filled)");

# ---- indexes ---------------------------------------------------------------------

$cases->add('a primary key', bad => '23505', sql => 'CREATE TABLE t (id int, k int PRIMARY KEY, v text)', force => 'view',
	rows => rows(1, 2500, sub { (k => $_[0] == 1333 ? 700 : $_[0], v => 'x') }));
$cases->add('a deferrable unique constraint', bad => '23505', sql => 'CREATE TABLE t (id int, k int CONSTRAINT once UNIQUE DEFERRABLE INITIALLY DEFERRED)',
	rows => rows(1, 60, sub { (k => $_[0] == 33 ? 32 : $_[0]) }));
$cases->add('a unique constraint, deferrable, not deferred', bad => '23505', sql => 'CREATE TABLE t (id int, k int CONSTRAINT once UNIQUE DEFERRABLE)',
	rows => rows(1, 60, sub { (k => $_[0] == 33 ? 32 : $_[0]) }));
$cases->add('an exclusion constraint', bad => '23P01', sql => 'CREATE TABLE t (id int, r int4range, CONSTRAINT apart EXCLUDE USING gist (r WITH &&))',
	rows => rows(1, 60, sub { my $from = $_[0] == 44 ? 205 : $_[0] * 10; (r => "[$from," . ($from + 10) . ')') }));
$cases->add('a deferred exclusion constraint', bad => '23P01', sql =>
	  'CREATE TABLE t (id int, r int4range, CONSTRAINT apart EXCLUDE USING gist (r WITH &&) DEFERRABLE INITIALLY DEFERRED)',
	rows => rows(1, 60, sub { my $from = $_[0] == 44 ? 205 : $_[0] * 10; (r => "[$from," . ($from + 10) . ')') }));
$cases->add('an expression index', bad => '23505', sql => 'CREATE TABLE t (id int, v text); CREATE UNIQUE INDEX folded ON t (lower(v))',
	rows => rows(1, 60, sub { (v => $_[0] == 50 ? 'V20' : "v$_[0]") }));
$cases->add('a partial index', bad => '23505', sql => 'CREATE TABLE t (id int, v int, live bool); CREATE UNIQUE INDEX alive ON t (v) WHERE live',
	rows => rows(1, 60, sub { (v => $_[0] > 30 ? 7 : $_[0], live => $_[0] < 30 || $_[0] == 57 ? 'true' : 'false') }));
my $indexes = <<'END';
CREATE TABLE t (id int PRIMARY KEY, v text, a int[], p point, r int4range) WITH (fillfactor = 20);
CREATE INDEX ON t (v, id DESC) INCLUDE (r);
CREATE INDEX ON t USING brin (id) WITH (pages_per_range = 1, autosummarize = on);
CREATE INDEX ON t USING gin (a);
CREATE INDEX ON t USING hash (v);
CREATE INDEX ON t USING gist (p);
CREATE INDEX ON t USING spgist (r);
CREATE INDEX ON t ((id % 10)) WHERE id % 3 = 0
END
my $by_index = join ' UNION ALL ', map { "SELECT id FROM (SELECT id FROM t WHERE $_ ORDER BY id) q" } 'id = 999', q(v = 'v5'), 'id BETWEEN 50 AND 60',
	q(a @> '{3,4}'), q(p <@ box '(0,0),(5,5)'), q(r @> 70), 'id % 10 = 3 AND id % 3 = 0';
$cases->add('indexes of every kind', sql => $indexes, check => $by_index,
	rows => rows(1, 2000, sub { (v => 'v' . $_[0] % 90, a => '{' . $_[0] % 7 . ',' . $_[0] % 5 . '}', p => "($_[0],1)", r => "[$_[0]," . ($_[0] + 9) . ')') }));

# ---- foreign keys and triggers ----------------------------------------------------

my $parent = 'CREATE TABLE parent (k int PRIMARY KEY); INSERT INTO parent SELECT generate_series(1, 40)';
foreach my $when ('', 'DEFERRABLE INITIALLY DEFERRED')
{
	$cases->add("a foreign key $when", bad => '23503', sql => "$parent; CREATE TABLE t (id int, k int CONSTRAINT known REFERENCES parent $when)",
		rows => rows(1, 60, sub { (k => $_[0] == 2 ? undef : $_[0]) }));
	$cases->add("a foreign key that holds $when", sql => "$parent; CREATE TABLE t (id int, k int REFERENCES parent $when)",
		rows => rows(1, 60, sub { (k => $_[0] % 40 + 1) }));
	$cases->add("a foreign key to later rows $when", sql => "CREATE TABLE t (id int PRIMARY KEY, next int REFERENCES t $when)",
		rows => rows(1, 1500, sub { (next => $_[0] % 1500 + 1) }));
}
$cases->add('row triggers', check => $log, rows => rows(1, 6), sql => "$note CREATE TABLE t (id int);" . <<'END');
CREATE TRIGGER b AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION note();
CREATE TRIGGER a AFTER INSERT OR UPDATE ON t FOR EACH ROW WHEN (NEW.id % 2 = 0) EXECUTE FUNCTION note();
CREATE TRIGGER never AFTER UPDATE ON t FOR EACH ROW EXECUTE FUNCTION note();
CREATE TRIGGER off AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION note();
CREATE TRIGGER always AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION note();
CREATE TRIGGER replica AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION note();
ALTER TABLE t DISABLE TRIGGER off, ENABLE ALWAYS TRIGGER always, ENABLE REPLICA TRIGGER replica;
END
$cases->add('statement triggers', check => $log, rows => rows(1, 1200), sql => "$note CREATE TABLE t (id int);" . <<'END');
CREATE TRIGGER a BEFORE INSERT ON t FOR EACH STATEMENT EXECUTE FUNCTION note();
CREATE TRIGGER b AFTER INSERT ON t FOR EACH STATEMENT EXECUTE FUNCTION note();
CREATE TRIGGER c AFTER DELETE ON t FOR EACH STATEMENT EXECUTE FUNCTION note();
END
$cases->add('tombstones alone', check => $log, rows => [ undef, undef ], sql => "$note CREATE TABLE t (id int);" . <<'END');
CREATE TRIGGER a BEFORE INSERT ON t FOR EACH STATEMENT EXECUTE FUNCTION note();
CREATE TRIGGER b AFTER INSERT ON t FOR EACH STATEMENT EXECUTE FUNCTION note();
END
$cases->add('a row trigger that raises', bad => 'P0001', rows => rows(1, 60), sql => <<'END');
CREATE TABLE t (id int);
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no' USING COLUMN = 'id', CONSTRAINT = 'mine'; END $$;
CREATE TRIGGER a AFTER INSERT ON t FOR EACH ROW WHEN (NEW.id = 39) EXECUTE FUNCTION refuse();
END
$cases->add('a deferred constraint trigger', check => $log, rows => rows(1, 6), sql => "$note CREATE TABLE t (id int);" . <<'END');
CREATE CONSTRAINT TRIGGER a AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION note();
CREATE TRIGGER b AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION note();
CREATE TRIGGER c AFTER INSERT ON t FOR EACH STATEMENT EXECUTE FUNCTION note();
END
$cases->add('triggers that write into the table', rows => rows(1, 1100), sql => <<'END');
CREATE TABLE t (id int, v text DEFAULT 'by trigger');
CREATE FUNCTION more() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF TG_LEVEL = 'STATEMENT' THEN INSERT INTO t VALUES (-1, TG_WHEN); RETURN NULL; END IF;
	UPDATE t SET v = v || '!' WHERE id = NEW.id - 1;
	DELETE FROM t WHERE id = NEW.id AND id % 7 = 0;
	RETURN NULL;
END $$;
CREATE TRIGGER a AFTER INSERT ON t FOR EACH ROW WHEN (NEW.id % 50 < 10 AND NEW.id > 0 AND pg_trigger_depth() = 0) EXECUTE FUNCTION more();
CREATE TRIGGER b BEFORE INSERT ON t FOR EACH STATEMENT WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION more();
CREATE TRIGGER c AFTER INSERT ON t FOR EACH STATEMENT WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION more();
END

# ---- partitions ------------------------------------------------------------------

my $range = <<'END';
CREATE TABLE t (gone int, id int, v int DEFAULT 5, w text DEFAULT 'root') PARTITION BY RANGE (id);
ALTER TABLE t DROP gone;
CREATE TABLE p1 PARTITION OF t FOR VALUES FROM (0) TO (100);
CREATE TABLE p2 (w text DEFAULT 'leaf', gone bytea, v int, also_gone int, id int);
ALTER TABLE p2 DROP gone, DROP also_gone;
ALTER TABLE t ATTACH PARTITION p2 FOR VALUES FROM (100) TO (200);
CREATE TABLE p3 PARTITION OF t FOR VALUES FROM (200) TO (300);
END
$cases->add('by range, differently laid out', sql => $range, unmapped => ['w'], rows => rows(0, 299, sub { $_[0] % 3 ? (v => $_[0]) : () }));
$cases->add('no partition for a row', sql => $range, bad => '23514', rows => rows(250, 350));
$cases->add('a null has no partition', sql => $range, bad => '23514', force => 'view', rows => [ @{ rows(1, 5) }, { id => undef, v => 1 } ]);
$cases->add('rows that go back and forth', sql => $range, rows => [ map { { id => $_ * 37 % 300, v => $_ } } 1 .. 2000 ],
	check => 'SELECT tableoid::regclass, * FROM t ORDER BY id, v');
$cases->add('by list, with a default, two levels', rows => rows(1, 300, sub { ($_[0] % 5 ? (area => (qw(eu us de fr))[ $_[0] % 4 ]) : (), day => '2026-0' . ($_[0] % 3 + 1) . '-01') }), sql => <<'END');
CREATE TABLE t (id int, area text DEFAULT 'none', day date, g int GENERATED ALWAYS AS (id + 1) STORED) PARTITION BY LIST (area);
CREATE TABLE eu PARTITION OF t FOR VALUES IN ('eu', 'de') PARTITION BY RANGE (day);
CREATE TABLE eu1 PARTITION OF eu FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE eu2 PARTITION OF eu DEFAULT;
CREATE TABLE us PARTITION OF t FOR VALUES IN ('us', NULL);
CREATE TABLE rest (g int GENERATED ALWAYS AS (id + 1) STORED, day date, area text, id int);
ALTER TABLE t ATTACH PARTITION rest DEFAULT
END
$cases->add('no partition in the second level', bad => '23514', rows => rows(1, 60, sub { (b => $_[0] == 31 ? 9 : 1) }), sql => <<'END');
CREATE TABLE t (id int, b int) PARTITION BY RANGE (id);
CREATE TABLE sub PARTITION OF t FOR VALUES FROM (0) TO (100) PARTITION BY LIST (b);
CREATE TABLE leaf PARTITION OF sub FOR VALUES IN (1)
END
$cases->add('by hash, 300 partitions', rows => rows(1, 2000, sub { (v => "v$_[0]") }), sql => <<'END');
CREATE TABLE t (id int PRIMARY KEY, v text) PARTITION BY HASH (id);
DO $$ BEGIN FOR i IN 0 .. 299 LOOP EXECUTE format('CREATE TABLE h%s PARTITION OF t FOR VALUES WITH (MODULUS 300, REMAINDER %s)', i, i); END LOOP; END $$
END
$cases->add('a unique index of a partition', sql => "$range CREATE UNIQUE INDEX once ON p2 (v)", bad => '23505',
	rows => rows(90, 160, sub { (v => $_[0] == 130 ? 120 : $_[0] < 100 ? 1 : $_[0]) }));
$cases->add("a partition's NOT NULL", sql => "$range ALTER TABLE p2 ALTER v SET NOT NULL", bad => '23502',
	rows => rows(90, 160, sub { (v => $_[0] < 100 || $_[0] == 130 ? undef : 1) }));
$cases->add("a partition's CHECK", sql => "$range ALTER TABLE p2 ADD CONSTRAINT small CHECK (v < 10)", bad => '23514',
	rows => rows(90, 160, sub { (v => $_[0] < 100 || $_[0] == 130 ? 50 : 1) }));
$cases->add('the target is a partition', bad => '23514', rows => rows(1, 20), sql => <<'END');
CREATE TABLE root (id int, v int DEFAULT 3) PARTITION BY RANGE (id);
CREATE TABLE t PARTITION OF root FOR VALUES FROM (0) TO (15)
END
$cases->add('the target is a partitioned partition', bad => '23514', rows => rows(1, 20), sql => <<'END');
CREATE TABLE root (id int, v int DEFAULT 3) PARTITION BY RANGE (id);
CREATE TABLE t PARTITION OF root FOR VALUES FROM (0) TO (15) PARTITION BY LIST (id);
CREATE TABLE leaf PARTITION OF t DEFAULT
END
$cases->add('foreign keys from and to partitions', rows => rows(0, 299, sub { (v => $_[0] + 1) }), sql => <<"END");
$range
ALTER TABLE t ADD PRIMARY KEY (id);
INSERT INTO t VALUES (0, 0, 'x');
DELETE FROM t;
CREATE TABLE parent (k int, v int, PRIMARY KEY (k)) PARTITION BY HASH (k);
CREATE TABLE parent0 PARTITION OF parent FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE parent1 PARTITION OF parent FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO parent SELECT n, n FROM generate_series(0, 300) n;
ALTER TABLE t ADD FOREIGN KEY (v) REFERENCES parent, ADD FOREIGN KEY (id) REFERENCES t DEFERRABLE INITIALLY DEFERRED
END
$cases->add('a foreign key of partitions fails', bad => '23503', rows => rows(0, 299, sub { (v => $_[0] + 1) }),
	sql => "$range CREATE TABLE parent (k int PRIMARY KEY); INSERT INTO parent SELECT generate_series(0, 250);"
	  . ' ALTER TABLE t ADD CONSTRAINT known FOREIGN KEY (v) REFERENCES parent');
$cases->add('row triggers on root and leaf', check => $log, rows => [ map { { id => $_ } } 150, 50, 250, 151, 51, 251, 152 ], sql => "$note $range" . <<'END');
CREATE TRIGGER b AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION note();
CREATE TRIGGER a AFTER INSERT ON p2 FOR EACH ROW EXECUTE FUNCTION note();
CREATE TRIGGER c AFTER INSERT ON t FOR EACH STATEMENT EXECUTE FUNCTION note();
CREATE TRIGGER d BEFORE INSERT ON p2 FOR EACH STATEMENT EXECUTE FUNCTION note();
END
$cases->add('deferred triggers on root and leaf', check => $log, rows => [ map { { id => $_ } } 150, 50, 250, 151, 51, 251, 152 ], sql => "$note $range" . <<'END');
CREATE CONSTRAINT TRIGGER b AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION note();
END
my $before = <<'END';
CREATE FUNCTION before() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.id % 10 = 3 THEN RETURN NULL; END IF;
	NEW.v := (SELECT count(*) FROM t);
	NEW.w := NEW.w || ' changed';
	IF NEW.id = 177 THEN NEW.id := 999; END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER before BEFORE INSERT ON p2 FOR EACH ROW EXECUTE FUNCTION before();
END
$cases->add("a partition's BEFORE trigger changes, skips and counts rows", sql => "$range $before",
	rows => [ map { { id => $_ * 37 % 170, w => "w$_" } } 1 .. 170 ]);
$cases->add("a partition's BEFORE trigger moves a row away", sql => "$range $before", bad => '23514', rows => rows(160, 180));
$cases->add("a BEFORE trigger of the level between", bad => '0A000', rows => rows(1, 60, sub { (b => 1) }), sql => <<'END');
CREATE TABLE t (id int, b int) PARTITION BY RANGE (id);
CREATE TABLE sub PARTITION OF t FOR VALUES FROM (0) TO (100) PARTITION BY LIST (b);
CREATE TABLE leaf PARTITION OF sub FOR VALUES IN (1, 3);
CREATE TABLE leaf2 PARTITION OF sub FOR VALUES IN (2);
CREATE FUNCTION move() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.id = 7 THEN NEW.b := 3; ELSIF NEW.id = 33 THEN NEW.b := 2; END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER move BEFORE INSERT ON sub FOR EACH ROW EXECUTE FUNCTION move();
END
$cases->add("a partition's BEFORE trigger, its constraints and index", bad => '23505', rows => [ map { { id => $_, v => $_ % 60 } } 80 .. 190 ],
	sql => "$range CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"
	  . ' CREATE TRIGGER keep BEFORE INSERT ON p2 FOR EACH ROW EXECUTE FUNCTION keep(); CREATE UNIQUE INDEX once ON p2 (v)');

# ---- sizes -----------------------------------------------------------------------

foreach my $count (1, 999, 1000, 1001, 2500)
{
	$cases->add("$count rows", sql => 'CREATE TABLE t (id int PRIMARY KEY, v text)', rows => rows(1, $count, sub { (v => "value $_[0]") }));
}
$cases->add('values of almost a megabyte', sql => 'CREATE TABLE t (id int, v text, w text); ALTER TABLE t ALTER w SET STORAGE EXTERNAL',
	rows => rows(1, 6, sub { (v => chr(96 + $_[0]) x 900_000, w => join('', map { $_ * $_[0] } 1 .. 10_000)) }),
	check => 'SELECT id, md5(v), md5(w), length(v), length(w) FROM t ORDER BY id');
$cases->add('rows of several pages and of many bytes', sql => "$range ALTER TABLE t ALTER w SET STORAGE EXTERNAL",
	rows => rows(0, 299, sub { (w => join('', map { $_ * $_[0] % 997 } 1 .. 5000)) }), check => 'SELECT id, v, md5(w) FROM t ORDER BY id');
my @columns = map { "c$_" } 1 .. 200;
$cases->add('200 columns', sql => 'CREATE TABLE t (id int, ' . join(', ', map { "$_ text DEFAULT '$_'" } @columns) . ')',
	rows => rows(1, 200, sub { my $id = $_[0]; map { $_ => "value $id" } grep { !/7/ || $id % 2 } @columns }),
	check => 'SELECT id, md5(t::text) FROM t ORDER BY id');

$cases->run;
$node->stop;
done_testing();
