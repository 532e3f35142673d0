# A message that cannot be written for its own fault becomes one dead letter:
# whole, with its fault, whichever stage and whichever writer finds it. All
# others of its batch land, and rows, letters and offsets commit together.

use strict;
use warnings;

use Chaos;
use IngestCluster;
use KafkaBroker;
use Test::More;

my $kafka = KafkaBroker->shared;
my $node = IngestCluster->new('main');
my $good = 40;	# messages of a case beside the bad one
my $at = 20;	# the offset of that
my $header_name = "\xff\x01";	# bytes to Kafka, and no text

$node->connect_kafka($kafka);

sub query
{
	return $node->safe_psql('postgres', $_[0]);
}

query(q{
	CREATE TYPE mood AS ENUM ('fine', 'tired');
	CREATE DOMAIN positive AS int CONSTRAINT is_positive CHECK (VALUE > 0);
	CREATE TABLE parent (id int PRIMARY KEY);
	INSERT INTO parent VALUES (1);
	CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		IF NEW.v = -1 THEN
			RAISE 'refused %', NEW.v USING ERRCODE = TG_ARGV[0], COLUMN = 'v', CONSTRAINT = 'by hand';
		END IF;
		RETURN NEW;
	END $$;
	CREATE FUNCTION do_nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'});

# Each case is a table T, the bad message's value, and the letter's stage,
# SQLSTATE, column and constraint. "only" names the one writer it is about.
my @cases = (
	{ name => 'no JSON', value => '{"id": 1, "v": ', is => 'decode|22P02||' },
	{ name => 'no bytes', value => '', is => 'decode|22P02||' },
	{ name => 'no UTF-8', value => "{\"id\": 1, \"v\": 1, \"t\": \"\xff\"}", is => 'decode|22021||' },
	{ name => 'the wrong type', value => '{"id": 1, "v": "x"}', is => 'map|22P02|v|' },
	{ name => 'no mapped field', value => '{"other": 1}', is => 'map|22035||' },
	{ name => 'an enum', columns => 'm mood', value => '{"id": 1, "v": 1, "m": "angry"}', is => 'map|22P02|m|' },
	{ name => 'an address', columns => 'a inet', value => '{"id": 1, "v": 1, "a": "1.2.3.256"}', is => 'map|22P02|a|' },
	{ name => 'a domain', columns => 'd positive', value => '{"id": 1, "v": 1, "d": -1}', is => 'map|23514|d|is_positive' },
	{ name => 'an array', columns => 'l int[]', value => '{"id": 1, "v": 1, "l": ["x"]}', is => 'map|22P02|l|' },
	{ name => 'NOT NULL', columns => 'n int NOT NULL DEFAULT 1', value => '{"id": 1, "v": 1, "n": null}', is => 'write|23502|n|' },
	{ name => 'CHECK', columns => 'CONSTRAINT small CHECK (v < 1000)', value => '{"id": 1, "v": 1000}', is => 'write|23514||small' },
	{ name => 'a generated column', columns => 'g int GENERATED ALWAYS AS (v * 2) STORED', value => '{"id": 1, "v": 2147483647}', is => 'write|22003||' },
	{ name => 'a primary key', columns => 'CONSTRAINT T_key PRIMARY KEY (id)', value => '{"id": 3, "v": 1}', is => 'write|23505||T_key' },
	{ name => 'a unique index', sql => 'CREATE UNIQUE INDEX T_u ON T ((v % 1000))', value => '{"id": 1, "v": 1005}', is => 'write|23505||T_u' },
	{ name => 'a deferred unique constraint', columns => 'CONSTRAINT T_late UNIQUE (v) DEFERRABLE INITIALLY DEFERRED', value => '{"id": 1, "v": 5}', is => 'write|23505||T_late' },
	{ name => 'an exclusion constraint', columns => 'r int4range, CONSTRAINT T_apart EXCLUDE USING gist (r WITH &&)',
		before => '{"id": 1, "v": 1, "r": "[1,5)"}', value => '{"id": 2, "v": 1, "r": "[3,4)"}', is => 'write|23P01||T_apart' },
	{ name => 'a foreign key', columns => 'p int CONSTRAINT known REFERENCES parent', value => '{"id": 1, "v": 1, "p": 2}', is => 'write|23503||known' },
	{ name => 'a deferred foreign key', columns => 'p int CONSTRAINT known REFERENCES parent DEFERRABLE INITIALLY DEFERRED', value => '{"id": 1, "v": 1, "p": 2}', is => 'write|23503||known' },
	{ name => 'no partition', columns => ') PARTITION BY RANGE (v', sql => 'CREATE TABLE T_1 PARTITION OF T FOR VALUES FROM (0) TO (1000)', value => '{"id": 1, "v": 1000}', is => 'write|23514||' },
	{ name => 'a constraint of a partition', columns => ') PARTITION BY RANGE (v', sql => 'CREATE TABLE T_1 PARTITION OF T (CONSTRAINT odd CHECK (v <> 77)) FOR VALUES FROM (0) TO (1000)',
		value => '{"id": 1, "v": 77}', is => 'write|23514||odd' },
	{ name => 'a trigger after the row', sql => q{CREATE TRIGGER t AFTER INSERT ON T FOR EACH ROW EXECUTE FUNCTION refuse('P0001')}, value => '{"id": 1, "v": -1}', is => 'write|P0001|v|by hand' },
	{ name => 'a deferred trigger', sql => q{CREATE CONSTRAINT TRIGGER t AFTER INSERT ON T DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse('38001')}, value => '{"id": 1, "v": -1}', is => 'write|38001|v|by hand' },
	{ name => 'a trigger before the row', only => 'insert', sql => q{CREATE TRIGGER t BEFORE INSERT ON T FOR EACH ROW EXECUTE FUNCTION refuse('22000')}, value => '{"id": 1, "v": -1}', is => 'write|22000|v|by hand' },
	{ name => "a view's check option", only => 'view', option => 'WITH CHECK OPTION', value => '{"id": 1, "v": 1000}', is => 'write|44000||' });

# ---- the messages --------------------------------------------------------------------------

# One partition a case: 20 good messages, the bad one, 20 good ones.
my $topic = $kafka->create_topic('letters', partitions => scalar @cases, config => { 'retention.ms' => -1 });
my @headers = ([ h => '1' ], [ h => undef ], [ bin => "\0\xff\x80" ], [ h => '' ], [ $header_name => 'x' ], [ h => '2' ]);
my @messages;
foreach my $n (0 .. $#cases)
{
	my $case = $cases[$n];
	foreach my $i (0 .. $good)
	{
		my $value = $i == $at ? $case->{value} : $i == 0 && $case->{before} ? $case->{before} : qq({"id": @{[$i + 2]}, "v": $i});
		push @messages, { partition => $n, value => $value,
			$i == $at ? (key => "k\0\xff", headers => \@headers, timestamp => 1_600_000_000_123) : () };
	}
}
$kafka->produce_messages($topic, @messages);

# ---- each case by each writer ------------------------------------------------------------------

sub hex_of
{
	return '\x' . unpack 'H*', $_[0];
}

# Loads a case and looks at all that is promised.
sub check_case
{
	my ($n, $writer) = @_;
	my $case = $cases[$n];
	my $t = "t_${n}_$writer";
	my $target = $t;
	my $columns = $case->{columns} ? ", $case->{columns}" : '';
	$columns =~ s/^, \)/)/;
	my $sql = "CREATE TABLE T (id int, v int, _partition int, _offset bigint$columns);\n" . ($case->{sql} // '') . ";\n";
	$sql .= "CREATE TRIGGER zz AFTER INSERT ON T REFERENCING NEW TABLE AS zz_rows FOR EACH STATEMENT EXECUTE FUNCTION do_nothing();\n" if $writer eq 'insert';
	if ($writer eq 'view')
	{
		$target = "view_$n";
		$sql .= "CREATE VIEW $target AS SELECT * FROM T WHERE v < 1000 OR v > 1000 @{[$case->{option} // '']};\n";
	}
	my $is = $case->{is};
	s/\bT(?=\b|_\w)/$t/g foreach $sql, $is;
	query($sql . "SELECT kafka_ingest.create_pipeline('$t', topic => '$topic', target => '$target', partitions => '{$n}', batch_max_messages => 1000, paused => true)");
	subtest "$case->{name} ($writer)" => sub {
		is(query("SELECT write_method FROM kafka_ingest.pipelines WHERE pipeline = '$t'"), $writer eq 'multi' ? 'multi_insert' : 'insert', 'the writer');
		is(query("CALL kafka_ingest.run('$t')"), join('|', $good + 1, 1, 't'), 'run() says so');
		is(query("SELECT stage, sqlstate, column_name, constraint_name FROM kafka_ingest.dead_letters WHERE pipeline = '$t'"), $is, 'the fault');
		is( query(qq{SELECT topic = '$topic', partition, message_offset, message_timestamp AT TIME ZONE 'UTC', key, value, superseded,
				attempts, error <> '', first_failed_at = last_failed_at AND first_failed_at > now() - interval '1 min'
				FROM kafka_ingest.dead_letters WHERE pipeline = '$t'}),
			join('|', 't', $n, $at, '2020-09-13 12:26:40.123', hex_of("k\0\xff"), hex_of($case->{value}), 'f', 1, 't', 't'), 'the message, whole');
		is( query(qq{SELECT string_agg(h.name || '=' || coalesce(h.value::text, 'NULL'), ' ' ORDER BY h.ordinality)
				FROM kafka_ingest.dead_letters l, unnest(l.headers) WITH ORDINALITY h WHERE pipeline = '$t'}),
			'h=\x31 h=NULL bin=\x00ff80 h=\x \xff01=\x78 h=\x32', 'all its headers in their order');
		is( query("SELECT count(*), count(DISTINCT _offset), count(*) FILTER (WHERE _offset = $at) FROM $t"), "$good|$good|0", 'all others are there, once');
		is( query("SELECT messages, loaded, filtered, ignored, dead_letters, dead_letters_total, gaps FROM kafka_ingest.status WHERE pipeline = '$t'"),
			join('|', $good + 1, $good, 0, 0, 1, 1, 0), 'the counts');
		is(query("SELECT next_offset FROM kafka_ingest.partition_status WHERE pipeline = '$t'"), $good + 1, 'the position');
	};
	return;
}

foreach my $n (0 .. $#cases)
{
	foreach my $writer (qw(multi insert view))
	{
		check_case($n, $writer) if ($cases[$n]{only} // $writer) eq $writer;
	}
}

# ---- odd messages -------------------------------------------------------------------------------

# Nothing but a key, no timestamp, many headers, a large one; several in a row.
my $odd = $kafka->create_topic('letters_odd', config => { 'retention.ms' => -1 });
$kafka->produce_messages($odd,
	{ value => '{"id": 0}' },
	{ value => 'no key, no headers', timestamp => -1 },
	{ key => '', value => 'empty key' },
	{ key => 'k', value => undef },
	{ key => 'k', value => 'x' x 500_000, headers => [ [ big => 'y' x 300_000 ], map { [ "n$_" => $_ ] } 1 .. 500 ] },
	{ value => '{"id": 1}' });
query(qq{CREATE TABLE odd (id int);
	SELECT kafka_ingest.create_pipeline('odd', topic => '$odd', target => 'odd', on_tombstone => 'error', max_error_ratio => 1)});
$node->wait_for_position_sum('odd', 6);
is( query(q{SELECT message_offset, message_timestamp IS NULL, key, length(value), cardinality(headers), sqlstate
		FROM kafka_ingest.dead_letters WHERE pipeline = 'odd' ORDER BY 1}),
	join("\n", '1|t||18|0|22P02', '2|f|\x|9|0|22P02', '3|f|\x6b||0|22004', '4|f|\x6b|500000|501|22P02'),
	'what a message lacks its letter lacks, by a worker, too');
is(query(q{SELECT (headers[1]).name, length((headers[1]).value), (headers[501]).name FROM kafka_ingest.dead_letters WHERE pipeline = 'odd' AND message_offset = 4}),
	'big|300000|n500', 'large ones are whole');
is(query(q{SELECT sum(messages), sum(loaded), sum(dead_letters) FROM kafka_ingest.recent_batches WHERE pipeline = 'odd'}), '6|2|4', 'recent_batches knows them');
is($node->state('odd'), 'running', 'and it goes on');
is(query(q{SELECT count(*) FROM kafka_ingest.events WHERE pipeline = 'odd' AND event = 'stop'}), 0, 'a letter is no stop');
is(query(q{SELECT last_error FROM kafka_ingest.status WHERE pipeline = 'odd'}), '', "nor an error of the pipeline");

# ---- exactly once, through kill -9 -----------------------------------------------------------------

# Tiny batches, so that the load takes its time. One of a hundred is bad: half of them are found without an error, the others raise.
my $once = $kafka->create_topic('letters_once', partitions => 4);
my $produced = $kafka->produce($once, count => 150_000);
query(qq{
	CREATE TABLE once (id bigint CHECK (id % 200 <> 37), _partition int, _offset bigint);
	CREATE FUNCTION refuse_some() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF NEW.id % 200 = 137 THEN RAISE ''no''; END IF; RETURN NULL; END';
	CREATE TRIGGER t AFTER INSERT ON once FOR EACH ROW EXECUTE FUNCTION refuse_some();
	SELECT kafka_ingest.create_pipeline('once', topic => '$once', target => 'once', batch_max_messages => 8)});
my $chaos = Chaos->new(node => $node, pipeline => 'once', ends => $produced, blows => 10,
	more => sub { $kafka->produce($once, count => 50_000, from => $_[0]) });
while ($chaos->await_next_moment)
{
	$chaos->kill9($chaos->freeze_worker);
}
$chaos->check_blows(in_flight => 6);
my $all = $chaos->total;
my $bad = $all / 100;
$node->wait_for_position_sum('once', $all);
is( query(q{SELECT count(*), count(DISTINCT (p, o)), count(*) FILTER (WHERE is_letter), count(DISTINCT id), count(*) FILTER (WHERE is_letter <> (id % 100 = 37)) FROM (
		SELECT id, _partition p, _offset o, false is_letter FROM once
		UNION ALL SELECT (convert_from(value, 'UTF8')::jsonb->>'id')::bigint, partition, message_offset, true
			FROM kafka_ingest.dead_letters WHERE pipeline = 'once') a}),
	"$all|$all|$bad|$all|0", 'target and letters together are what was produced, each once, and just the bad ones are letters');
is(query(q{SELECT messages, loaded, dead_letters, dead_letters_total, gaps FROM kafka_ingest.status WHERE pipeline = 'once'}),
	join('|', $all, $all - $bad, $bad, $bad, 0), 'and the counts say so');

$node->stop;
done_testing();
