# With on_error => 'stop', what cannot be loaded stops its pipeline as stopped/bad_message: with the
# right place, column, constraint and SQLSTATE, without any value of it in
# status, events or the server's log; what is before it is in, and a seek past
# it goes on.

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use PostgreSQL::Test::Utils;
use Test::More;

# Every bad value holds one of these, as text or digits, and nothing else does.
my $marker = qr/s3cr3t|8675309/i;

my $kafka = KafkaBroker->shared();
my $node = IngestCluster->new('bad', conf => <<'END');
log_statement = all
log_min_messages = info
log_error_verbosity = verbose
log_min_error_statement = debug5
log_min_duration_statement = 0
END
$node->connect_kafka($kafka);

sub query
{
	my ($sql) = @_;
	return $node->safe_psql('postgres', $sql);
}

# Produces a good message before each bad one and one at the end, and sees the
# pipeline stop at each bad one.  A case is: name, message (a hash, or the
# value), SQLSTATE, stage, column, constraint.  good: a message by its number;
# count: how many good ones are in.
sub bad_messages
{
	my ($pipeline, %options) = @_;
	my @cases = @{ $options{cases} };
	my $topic = $kafka->create_topic("bad_$pipeline");
	my @messages;
	foreach my $n (0 .. $#cases)
	{
		my $bad = $cases[$n][1];
		push @messages, $options{good}->($n), ref $bad ? $bad : { value => $bad };
	}
	$kafka->produce_messages($topic, @messages, $options{good}->(scalar @cases));
	query("SELECT kafka_ingest.create_pipeline('$pipeline', topic => '$topic', $options{arguments})");

	foreach my $n (0 .. $#cases)
	{
		is(stop_of($pipeline, $topic, 2 * $n + 1), stop_expected(2 * $n + 1, @{ $cases[$n] }), "$pipeline: $cases[$n][0]");
		is(query($options{count}), $n + 1, '... and what is before it is in');
		is(query(sprintf q{SELECT old_offset, new_offset FROM kafka_ingest.seek('%s', start_offsets => '{"0": %d}', reason => 'a bad message')},
				$pipeline, 2 * $n + 2), sprintf('%d|%d', 2 * $n + 1, 2 * $n + 2), '... where it stands');
	}
	$node->poll_until($options{count}, scalar @cases + 1);
	pass("$pipeline: all the good ones are in");
	is(query("SELECT messages, loaded, gaps FROM kafka_ingest.status WHERE pipeline = '$pipeline'"),
		join('|', (@cases + 1) x 2, scalar @cases), "$pipeline: and counted, and each that is not has its gap row");
	is(query("SELECT count(*) FROM kafka_ingest.gaps WHERE pipeline = '$pipeline' AND (from_offset % 2 = 0 OR to_offset <> from_offset OR reason <> 'seek')"),
		0, "$pipeline: which is about just that one");
	is(query("SELECT count(*) FROM kafka_ingest.events WHERE pipeline = '$pipeline' AND event = 'stop'"), scalar @cases, "$pipeline: each stop is an event");
	return;
}

# What the pipeline says when it has stopped, in brief.
sub stop_of
{
	my ($pipeline, $topic, $offset) = @_;
	my $state = $node->poll_until("SELECT CASE WHEN state = 'stopped' OR last_error <> '' AND state = 'retrying' OR EXISTS"
		  . " (SELECT FROM kafka_ingest.partition_status p WHERE p.pipeline = '$pipeline' AND next_offset > $offset) THEN concat_ws('/', state, reason) END"
		  . " FROM kafka_ingest.status WHERE pipeline = '$pipeline'", qr/./);
	my $detail = query("SELECT detail FROM kafka_ingest.status WHERE pipeline = '$pipeline'");
	diag("$pipeline, offset $offset shows a value: $detail") if $detail =~ $marker;
	my ($place, $text, $code, $stage, $column, $constraint) = $detail =~
	  /^Message at topic "\Q$topic\E", partition 0, offset (\d+) cannot be loaded: (.*) \(SQLSTATE (\w{5}), stage (\w+)(?:, column "(.*?)")?(?:, constraint "(.*?)")?\)\.$/
	  or return "$state: $detail";
	note("$text");
	return join ', ', $state, $place, $code, $stage, $column // '-', $constraint // '-';
}

sub stop_expected
{
	my ($offset, $name, $message, $code, $stage, $column, $constraint) = @_;
	return join ', ', 'stopped/bad_message', $offset, $code, $stage, $column // '-', $constraint // '-';
}

# ---- no document ------------------------------------------------------------------------

my @invalid = (
	[ 'no bytes' => '' ],
	[ 'blanks' => "  \t\r\n" ],
	[ 'no JSON' => 's3cr3t' ],
	[ 'a truncated object' => '{"id": 8675309' ],
	[ 'a truncated string' => '{"id": "s3cr3t' ],
	[ 'a truncated escape' => '{"id": "s3cr3t\\' ],
	[ 'a truncated word' => '{"id": 8675309, "b": tru' ],
	[ 'a truncated array' => '{"id": 8675309, "b": [1,' ],
	[ 'something behind it' => '{"id": 8675309} s3cr3t' ],
	[ 'two documents' => '{"id": 8675309}{"id": 8675309}' ],
	[ 'a comma too many' => '{"id": 8675309,}' ],
	[ 'a comma too few' => '{"id": 8675309 "b": 1}' ],
	[ 'a colon too few' => '{"id" 8675309}' ],
	[ 'no name' => '{8675309: 1}' ],
	[ 'a name without quotes' => '{s3cr3t: 1}' ],
	[ 'single quotes' => "{'s3cr3t': 1}" ],
	[ 'a brace for a bracket' => '{"id": 8675309, "b": [1}}' ],
	[ 'a leading zero' => '{"id": 08675309}' ],
	[ 'a plus sign' => '{"id": +8675309}' ],
	[ 'no digit before the point' => '{"id": .8675309}' ],
	[ 'no digit after the point' => '{"id": 8675309.}' ],
	[ 'no exponent' => '{"id": 8675309e}' ],
	[ 'hexadecimal digits' => '{"id": 0x8675309}' ],
	[ 'NaN' => '{"id": NaN, "s3cr3t": 1}' ],
	[ 'Infinity' => '{"id": -Infinity, "s3cr3t": 1}' ],
	[ 'an unknown escape' => '{"t": "s3cr3t\q"}' ],
	[ 'half a Unicode escape' => '{"t": "s3cr3t\u12"}' ],
	[ 'a wrong Unicode escape' => '{"t": "s3cr3t\u12g4"}' ],
	[ 'a line break in a string' => "{\"t\": \"s3cr3t\n\"}" ],
	[ 'a comment' => '{"id": 8675309 /* s3cr3t */}' ],
	[ 'a byte order mark' => "\xef\xbb\xbf" . '{"id": 8675309}' ],
	[ 'UTF-16, little end first' => "\xff\xfe" . join('', map { "$_\0" } split //, '{"id": 8675309}') ],
	[ 'UTF-16, big end first' => "\xfe\xff" . join('', map { "\0$_" } split //, '{"id": 8675309}') ],
	[ 'a high surrogate alone' => '{"t": "s3cr3t\ud83d"}' ],
	[ 'a low surrogate alone' => '{"t": "s3cr3t\ude00"}' ],
	[ 'a high surrogate and a letter' => '{"t": "s3cr3t\ud83dx"}' ],
	[ 'two high surrogates' => '{"t": "s3cr3t\ud83d\ud83d"}' ],
	[ 'a surrogate alone that nothing maps' => '{"id": 8675309, "other": {"x": ["\ud83d"]}}' ],
	[ 'a surrogate alone in a name' => '{"id": 8675309, "\ud83d": 1}' ],
	[ 'framing and nothing else' => "\0\0\0\0\1" ],
	[ 'framing before no JSON' => "\0\0\0\0\1s3cr3t" ],
);
my @not_utf8 = (
	[ 'a continuation byte alone' => "{\"t\": \"s3cr3t\x80\"}" ],
	[ 'Latin-1' => "{\"t\": \"s3cr3t\xe4\"}" ],
	[ 'an overlong NUL' => "{\"t\": \"s3cr3t\xc0\x80\"}" ],
	[ 'a surrogate in UTF-8' => "{\"t\": \"s3cr3t\xed\xa0\xbd\"}" ],
	[ 'a character beyond the last' => "{\"t\": \"s3cr3t\xf4\x90\x80\x80\"}" ],
	[ 'a truncated character' => "{\"id\": 8675309, \"t\": \"\xf0\x9f\x98" ],
	[ 'bad bytes that nothing maps' => "{\"id\": 8675309, \"other\": [\"\xff\"]}" ],
	[ 'bad bytes in a name' => "{\"id\": 8675309, \"\xff\": 1}" ],
	[ 'a NUL byte' => "{\"t\": \"s3cr3t\0\"}" ],
	[ 'a NUL byte behind it' => "{\"id\": 8675309}\0" ],
);
my @nul = (
	[ '\u0000' => '{"t": "s3cr3t\u0000"}' ],
	[ '\u0000 that nothing maps' => '{"id": 8675309, "other": {"x": "\u0000"}}' ],
	[ '\u0000 in a name' => '{"id": 8675309, "\u0000": 1}' ],
);
my @nothing_mapped = (
	[ 'a number' => '8675309' ],
	[ 'a string' => '"s3cr3t"' ],
	[ 'null' => 'null' ],
	[ 'an array' => '[{"id": 8675309}]' ],
	[ 'an empty object' => '{}' ],
	[ 'no field that is mapped' => '{"other": "s3cr3t", "ID": 8675309}' ],
);

query('CREATE TABLE documents (id int, t text, b jsonb)');
bad_messages('documents', arguments => "target => 'documents', on_error => 'stop'",
	good => sub { return { value => qq({"id": $_[0]}) } },
	count => 'SELECT count(*) FROM documents',
	cases => [
		(map { [ @$_, '22P02', 'decode' ] } @invalid),
		(map { [ @$_, '22021', 'decode' ] } @not_utf8),
		(map { [ @$_, '22P05', 'decode' ] } @nul),
		(map { [ @$_, '22035', 'map' ] } @nothing_mapped),
		[ 'a tower of arrays' => '{"id": 8675309, "other": ' . '[' x 900_000 . '}', '54001', 'decode' ],
		[ 'a tower of objects' => '{"b":' x 190_000 . '1', '54001', 'decode' ],
	]);

# ---- values their column does not take ----------------------------------------------------

query(<<'END');
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE TYPE pair AS (number int, text text);
CREATE DOMAIN positive AS int CONSTRAINT is_positive CHECK (VALUE > 0);
CREATE DOMAIN needed AS text NOT NULL;
CREATE DOMAIN short_list AS int[] CONSTRAINT is_short CHECK (cardinality(VALUE) < 3);
CREATE TABLE typed (id int, i2 int2, i4 int4, i8 int8, n numeric(5,2), nn numeric, f4 float4, f8 float8, v varchar(5), c char(3), ts timestamptz, d date, tm time, iv interval,
	bo boolean, u uuid, ip inet, mac macaddr, j json, jb jsonb, ai int[], at text[], ats timestamptz[], an numeric(3,1)[], av varchar(3)[], ajb jsonb[], by bytea, bi bit(3), m mood, am mood[], p pair, pos positive, apos positive[],
	nee needed DEFAULT 'x', sl short_list, r int4range, x xml, pt point, tv tsvector, o oid, rc regclass, jp jsonpath, mo money);
END
bad_messages('typed', arguments => "target => 'typed', on_error => 'stop'",
	good => sub { return { value => qq({"id": $_[0]}) } },
	count => 'SELECT count(*) FROM typed',
	cases => [
		map { my ($column, $json, $code, $constraint) = @$_;
			[ "$column $json", qq({"id": 8675309, "$column": $json}), $code, 'map', $column, $constraint ] }
		[ i2 => '8675309', '22003' ],
		[ i2 => '"8675309"', '22003' ],
		[ i2 => '32768', '22003' ],
		[ i4 => '86753098675309', '22003' ],
		[ i4 => '2147483648', '22003' ],
		[ i4 => '1e10', '22003' ],
		[ i4 => '8675309.5', '22P02' ],
		[ i4 => '1e-1', '22P02' ],
		[ i4 => '"s3cr3t"', '22P02' ],
		[ i4 => '""', '22P02' ],
		[ i4 => 'true', '22P02' ],
		[ i4 => '{"s3cr3t": 1}', '22P02' ],
		[ i4 => '[8675309]', '22P02' ],
		[ i8 => '9223372036854775808', '22003' ],
		[ i8 => '-9223372036854775809', '22003' ],
		[ i8 => '1e8675309', '22003' ],
		[ i8 => '"9223372036854775808"', '22003' ],
		[ n => '8675309', '22003' ],
		[ n => '"s3cr3t"', '22P02' ],
		[ n => 'true', '22P02' ],
		[ nn => '1e8675309', '22003' ],
		[ nn => '1e200000', '22003' ],
		[ f4 => '1e8675', '22003' ],
		[ f8 => '1e8675', '22003' ],
		[ f8 => '"s3cr3t"', '22P02' ],
		[ v => '"s3cr3t"', '22001' ],
		[ v => '8675309', '22001' ],
		[ c => '"s3cr3t"', '22001' ],
		[ ts => '"s3cr3t"', '22007' ],
		[ ts => '"8675-30-9"', '22008' ],
		[ ts => '"2024-02-30T00:00:00Z"', '22008' ],
		[ ts => '"31.12.2024"', '22008' ],
		[ ts => '"2024-01-01 00:00 Mars/s3cr3t"', '22023' ],
		[ ts => '1700000000123', '22008' ],
		[ ts => '""', '22007' ],
		[ d => '"s3cr3t"', '22007' ],
		[ d => '"2023-02-29"', '22008' ],
		[ tm => '"25:00"', '22008' ],
		[ iv => '"s3cr3t"', '22007' ],
		[ bo => '"s3cr3t"', '22P02' ],
		[ bo => '8675309', '22P02' ],
		[ u => '"s3cr3t"', '22P02' ],
		[ ip => '"s3cr3t"', '22P02' ],
		[ ip => '"1.2.3.256"', '22P02' ],
		[ mac => '"s3cr3t"', '22P02' ],
		[ jb => '1e8675309', '22003' ],
		[ jb => '{"x": [1e200000]}', '22003' ],
		[ ai => '["s3cr3t"]', '22P02' ],
		[ ai => '[1.5]', '22P02' ],
		[ ai => '[86753098675309]', '22003' ],
		[ ai => '8675309', '22P02' ],
		[ ai => '{"s3cr3t": 1}', '22P02' ],
		[ ai => '[1, [8675309]]', '22P02' ],
		[ ai => '[[1], [2, 8675309]]', '22P02' ],
		[ ai => '[{"s3cr3t": 1}]', '22P02' ],
		[ ai => '[[[[[[[8675309]]]]]]]', '54000' ],
		[ at => '"s3cr3t"', '22P02' ],
		[ ats => '["2024-01-01", "s3cr3t"]', '22007' ],
		[ an => '[8675309]', '22003' ],
		[ av => '["s3cr3t"]', '22001' ],
		[ ajb => '[1e200000]', '22003' ],
		[ by => '"\\\\xs3cr3t"', '22023' ],
		[ bi => '"1s3"', '22P02' ],
		[ bi => '"1111"', '22026' ],
		[ m => '"s3cr3t"', '22P02' ],
		[ m => '"OK"', '22P02' ],
		[ am => '["ok", "s3cr3t"]', '22P02' ],
		[ p => '"(s3cr3t,x)"', '22P02' ],
		[ p => '"(1"', '22P02' ],
		[ p => '{"number": 8675309}', '22P02' ],
		[ pos => '-8675309', '23514', 'is_positive' ],
		[ pos => '"s3cr3t"', '22P02' ],
		[ pos => '86753098675309', '22003' ],
		[ apos => '[1, -8675309]', '23514', 'is_positive' ],
		[ nee => 'null', '23502' ],
		[ sl => '[1, 2, 8675309]', '23514', 'is_short' ],
		[ r => '"[8675309,1)"', '22000' ],
		[ r => '"s3cr3t"', '22P02' ],
		[ x => '"<s3cr3t>"', '2200N' ],
		[ pt => '"s3cr3t"', '22P02' ],
		[ tv => q("'s3cr3t"), '42601' ],
		[ o => '-86753098675309', '22003' ],
		[ rc => '"s3cr3t"', '42P01' ],
		[ jp => '"$.s3cr3t["', '42601' ],
		[ mo => '"s3cr3t"', '22P02' ],
	]);

# ---- conversions, keys, headers -------------------------------------------------------------

query('CREATE TABLE sources (id int, ts timestamptz, ts_s timestamp, d date, by bytea, t64 text, tx text, j jsonb, i int, k int, h text, hi int, raw text, b64 bool)');
bad_messages('sources', arguments => q{target => 'sources', on_error => 'stop', key_format => 'json', columns => '{"id": "$.id", "ts": "$.ts::epoch_ms", "ts_s": "$.ts_s::epoch_s",
		"d": "$.d::epoch_days", "by": "$.by::base64", "b64": "$.b64::base64", "t64": "$.t64::base64", "tx": "$.tx::hex", "j": "$.j::json", "i": "$.i::json", "k": "@key.id", "h": "@headers.h", "hi": "@headers.hi"}'},
	good => sub { return { value => qq({"id": $_[0], "b64": "dA=="}), key => '{"id": 1}', headers => [ [ h => 'x' ], [ hi => '1' ] ] } },
	count => 'SELECT count(*) FROM sources',
	cases => [
		(map { my ($column, $json, $code) = @$_;
			[ "$column $json", qq({"id": 8675309, "$column": $json}), $code, 'map', $column ] }
		[ ts => '"s3cr3t"', '22P02' ],
		[ ts => '1e8675309', '22008' ],
		[ ts => '9223372036854775807', '22008' ],
		[ ts => '-9223372036854775808', '22008' ],
		[ ts => 'true', '22P02' ],
		[ ts => '[8675309]', '22P02' ],
		[ ts => '"2024-01-01"', '22P02' ],
		[ ts_s => '86753098675309', '22008' ],
		[ d => '8675309.5', '22P02' ],
		[ d => '86753098675309', '22008' ],
		[ by => '"s3cr3t!"', '22P02' ],
		[ b64 => '""', '22P02' ],
		[ by => '8675309', '22P02' ],
		[ t64 => '"/w=="', '22021' ],
		[ tx => '"s3cr3t"', '22P02' ],
		[ tx => '"abc"', '22P02' ],
		[ tx => '"00"', '22021' ],
		[ j => '"s3cr3t"', '22P02' ],
		[ j => '"{\"s3cr3t\": "', '22P02' ],
		[ j => '"{\"s3cr3t\": \"\\\\u0000\"}"', '22P05' ],
		[ j => '8675309', '22P02' ],
		[ j => '{"s3cr3t": 1}', '22P02' ],
		[ i => '"\"s3cr3t\""', '22P02' ],
		[ i => '"8675309.5"', '22P02' ]),
		[ 'a key that is no JSON', { key => 's3cr3t', value => '{"id": 8675309}' }, '22P02', 'decode' ],
		[ 'an empty key', { key => '', value => '{"id": 8675309}' }, '22P02', 'decode' ],
		[ 'a key that is not UTF-8', { key => "\"s3cr3t\xff\"", value => '{"id": 8675309}' }, '22021', 'decode' ],
		[ 'a key with a BOM', { key => "\xef\xbb\xbf{}", value => '{"id": 8675309}' }, '22P02', 'decode' ],
		[ 'a part of the key', { key => '{"id": "s3cr3t"}', value => '{"id": 8675309}' }, '22P02', 'map', 'k' ],
		[ 'a header that is not UTF-8', { value => '{"id": 8675309}', headers => [ [ h => "s3cr3t\xff" ] ] }, '22021', 'map', 'h' ],
		[ 'a header with a NUL byte', { value => '{"id": 8675309}', headers => [ [ h => "s3cr3t\0" ] ] }, '22021', 'map', 'h' ],
		[ 'a header that is no number', { value => '{"id": 8675309}', headers => [ [ hi => 's3cr3t' ] ] }, '22P02', 'map', 'hi' ],
	]);

# ---- rows their table does not take -----------------------------------------------------------

query(<<'END');
CREATE TABLE parent (id int PRIMARY KEY);
INSERT INTO parent VALUES (1);
CREATE TABLE written (id int PRIMARY KEY, needed text NOT NULL DEFAULT 'x', u text CONSTRAINT u_once UNIQUE, late int CONSTRAINT late_once UNIQUE DEFERRABLE INITIALLY DEFERRED,
	checked int CONSTRAINT is_low CHECK (checked < 10), parent int CONSTRAINT has_parent REFERENCES parent, late_parent int CONSTRAINT has_late_parent REFERENCES parent DEFERRABLE INITIALLY DEFERRED,
	span int4range, doubled int GENERATED ALWAYS AS (g * 2) STORED, g int, trouble text, CONSTRAINT no_overlap EXCLUDE USING gist (span WITH &&));
CREATE FUNCTION trouble() RETURNS trigger LANGUAGE plpgsql AS $f$
BEGIN
	IF NEW.trouble = 'raise s3cr3t' THEN RAISE 'no %', NEW.trouble USING DETAIL = NEW.trouble, HINT = NEW.trouble; END IF;
	IF NEW.trouble = 'own code s3cr3t' THEN RAISE SQLSTATE '38123' USING MESSAGE = NEW.trouble, COLUMN = 'trouble', CONSTRAINT = 'by hand'; END IF;
	IF NEW.trouble = 'divide s3cr3t' THEN PERFORM 1 / length(replace(NEW.trouble, NEW.trouble, '')); END IF;
	IF NEW.trouble = 'cast s3cr3t' THEN PERFORM NEW.trouble::int; END IF;
	IF NEW.trouble = 'missing s3cr3t' THEN EXECUTE 'SELECT s3cr3t()'; END IF;
	IF NEW.trouble = 'assert s3cr3t' THEN ASSERT false, NEW.trouble; END IF;
	IF NEW.trouble = 'too many s3cr3t' THEN SELECT g INTO STRICT NEW.g FROM generate_series(1, 2) g; END IF;
	IF NEW.trouble = 'privilege s3cr3t' THEN RAISE insufficient_privilege USING MESSAGE = NEW.trouble; END IF;
	IF NEW.trouble = 'table s3cr3t' THEN RAISE undefined_table USING MESSAGE = NEW.trouble; END IF;
	RETURN NEW;
END $f$;
CREATE TRIGGER trouble BEFORE INSERT ON written FOR EACH ROW EXECUTE FUNCTION trouble();
CREATE FUNCTION late_trouble() RETURNS trigger LANGUAGE plpgsql AS $f$
BEGIN
	IF NEW.trouble = 'late s3cr3t' THEN RAISE check_violation USING MESSAGE = NEW.trouble, TABLE = NEW.trouble; END IF;
	RETURN NULL;
END $f$;
CREATE CONSTRAINT TRIGGER late_trouble AFTER INSERT ON written DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION late_trouble();
INSERT INTO written (id, u, late, span) VALUES (8675309, 's3cr3t', 8675309, '[8675309,8675400)');
END
bad_messages('written', arguments => "target => 'written', on_error => 'stop'",
	good => sub { return { value => sprintf '{"id": %d, "u": "u%d", "late": %d, "parent": 1, "g": 1}', ($_[0]) x 3 } },
	count => 'SELECT count(*) - 1 FROM written',
	cases => [
		map { my ($name, $fields, $code, $column, $constraint) = @$_;
			[ $name, qq({"id": 42, $fields}), $code, 'write', $column, $constraint ] }
		[ 'NOT NULL', '"needed": null, "trouble": "s3cr3t"', '23502', 'needed' ],
		[ 'a primary key', '"id": 8675309', '23505', undef, 'written_pkey' ],
		[ 'a primary key that is null', '"id": null, "trouble": "s3cr3t"', '23502', 'id' ],
		[ 'a unique constraint', '"u": "s3cr3t"', '23505', undef, 'u_once' ],
		[ 'one that is deferred', '"late": 8675309', '23505', undef, 'late_once' ],
		[ 'a check', '"checked": 8675309', '23514', undef, 'is_low' ],
		[ 'a foreign key', '"parent": 8675309', '23503', undef, 'has_parent' ],
		[ 'one that is deferred', '"late_parent": 8675309', '23503', undef, 'has_late_parent' ],
		[ 'an exclusion constraint', '"span": "[8675309,8675310)"', '23P01', undef, 'no_overlap' ],
		[ 'a generated column that overflows', '"g": 2147483647, "trouble": "s3cr3t"', '22003' ],
		[ 'an index entry that is too large', '"u": "' . join('', 's3cr3t', map { sprintf '%08x', $_ * 2654435761 % 4294967296 } 1 .. 3000) . '"', '54000' ],
		[ 'RAISE in a trigger', '"trouble": "raise s3cr3t"', 'P0001' ],
		[ 'a code of its own', '"trouble": "own code s3cr3t"', '38123', 'trouble', 'by hand' ],
		[ 'a division by zero in a trigger', '"trouble": "divide s3cr3t"', '22012' ],
		[ 'a cast in a trigger', '"trouble": "cast s3cr3t"', '22P02' ],
		[ 'a function that a trigger misses', '"trouble": "missing s3cr3t"', '42883' ],
		[ 'ASSERT in a trigger', '"trouble": "assert s3cr3t"', 'P0004' ],
		[ 'too many rows in a trigger', '"trouble": "too many s3cr3t"', 'P0003' ],
		[ 'a privilege that a trigger misses', '"trouble": "privilege s3cr3t"', '42501' ],
		[ 'a constraint trigger that is deferred', '"trouble": "late s3cr3t"', '23514' ],
	]);

query(<<'END');
CREATE TABLE routed (id int, region text) PARTITION BY LIST (region);
CREATE TABLE routed_eu PARTITION OF routed FOR VALUES IN ('eu');
END
bad_messages('routed', arguments => "target => 'routed', on_error => 'stop'",
	good => sub { return { value => qq({"id": $_[0], "region": "eu"}) } },
	count => 'SELECT count(*) FROM routed',
	cases => [ [ 'no partition', '{"id": 1, "region": "s3cr3t"}', '23514', 'write' ] ]);

query(<<'END');
CREATE TABLE base (id int, region text);
CREATE VIEW narrow AS SELECT * FROM base WHERE region = 'eu' WITH CHECK OPTION;
END
bad_messages('narrow', arguments => "target => 'narrow', on_error => 'stop'",
	good => sub { return { value => qq({"id": $_[0], "region": "eu"}) } },
	count => 'SELECT count(*) FROM base',
	cases => [ [ 'the check option of a view', '{"id": 1, "region": "s3cr3t"}', '44000', 'write' ] ]);

# ---- alone in its batch -----------------------------------------------------------------------

# An error that could be the table's fault, too, is blamed on a message only
# when another goes through.  Until then the same is tried again, and what is
# shown of it has no value either.
my %alone = (
	function => '"trouble": "missing s3cr3t"',
	privilege => '"trouble": "privilege s3cr3t"',
	raised => '"trouble": "table s3cr3t"',
	input => q("words": "'s3cr3t"),
);
foreach my $name (sort keys %alone)
{
	query("CREATE TABLE alone_$name (id int, trouble text, g int, words tsvector);"
		  . " CREATE TRIGGER trouble BEFORE INSERT ON alone_$name FOR EACH ROW EXECUTE FUNCTION trouble()");
	my $alone = $kafka->create_topic("bad_alone_$name");
	$kafka->produce_messages($alone, { value => qq({"id": 1, $alone{$name}}) });
	query("SELECT kafka_ingest.create_pipeline('alone_$name', topic => '$alone', target => 'alone_$name', on_error => 'stop')");
	# from PostgreSQL 16 on an input function can say that it is the value's fault
	my $expected = $name eq 'input' ? qr/^(retrying|stopped)$/ : qr/^retrying$/;
	like($node->poll_until("SELECT state FROM kafka_ingest.status WHERE pipeline = 'alone_$name' AND state IN ('retrying', 'stopped')", qr/./),
		$expected, "alone ($name): it is tried again");
	unlike(query("SELECT concat_ws(' | ', reason, detail, last_error) FROM kafka_ingest.status WHERE pipeline = 'alone_$name'"),
		$marker, '... and no value is shown');
	$kafka->produce_messages($alone, { value => '{"id": 2}' });
	query("SELECT kafka_ingest.pause('alone_$name'); SELECT kafka_ingest.resume('alone_$name')");
	$node->wait_for_state("alone_$name", 'stopped/bad_message');
	like(query("SELECT detail FROM kafka_ingest.status WHERE pipeline = 'alone_$name'"), qr/offset 0 /, '... with another that goes through it is to blame');
	query("SELECT kafka_ingest.drop_pipeline('alone_$name')");
}

# ---- resume tries again: nothing of it is lost ------------------------------------------------

query('CREATE TABLE mended (id int, code varchar(5))');
my $topic = $kafka->create_topic('bad_mended');
$kafka->produce_messages($topic, { value => '{"id": 1, "code": "a"}' }, { value => '{"id": 2, "code": "s3cr3t"}' }, { value => '{"id": 3, "code": "b"}' });
query("SELECT kafka_ingest.create_pipeline('mended', topic => '$topic', target => 'mended', on_error => 'stop')");
$node->wait_for_state('mended', 'stopped/bad_message');
query("SELECT kafka_ingest.resume('mended')");
$node->poll_until("SELECT count(*) FROM kafka_ingest.events WHERE pipeline = 'mended' AND event = 'stop'", 2);
is(query("SELECT count(*) FROM mended"), 1, 'resume alone: it stops again, and nothing is loaded twice');
$node->wait_for_state('mended', 'stopped/bad_message');
query("ALTER TABLE mended ALTER code TYPE text; SELECT kafka_ingest.resume('mended')");
is(query("SELECT kafka_ingest.wait_until_caught_up('mended')"), 't', 'with the table mended it goes on');
is(query("SELECT id FROM mended ORDER BY id"), "1\n2\n3", 'and all of them are in');

# by hand it is an error that says the same
$kafka->produce_messages($topic, { value => '{"id": "s3cr3t", "code": "c"}' });
$node->wait_for_state('mended', 'stopped/bad_message');
query("SELECT kafka_ingest.pause('mended')");
my ($out, $err);
$node->psql('postgres', "\\set VERBOSITY verbose\nCALL kafka_ingest.run('mended')", stdout => \$out, stderr => \$err);
like($err, qr/ERROR:  55000: pipeline "mended" stopped: bad_message\nDETAIL:  Message at topic "\Q$topic\E", partition 0, offset 3 cannot be loaded: .*\(SQLSTATE 22P02, stage map, column "id"\)\.\nHINT:  /,
	'run() raises it');
unlike($err, $marker, 'without the value');

# ---- no value anywhere ------------------------------------------------------------------------

foreach my $view (qw(status events partition_status gaps recent_batches pipelines))
{
	is(query("SELECT count(*) FROM kafka_ingest.$view v WHERE v::text ~* 's3cr3t|8675309'"), 0, "no value in $view");
}
# What this test itself sends is logged, too.
my $log = slurp_file($node->logfile);
$log =~ s/^[^\t\n].*?(?:statement|execute \S+): .*\n(?:\t.*\n)*//mg;
my @lines = grep { $_ =~ $marker } split /\n/, $log;
is(scalar @lines, 0, 'no value in the server log')
  or diag(join "\n", map { substr $_, 0, 500 } @lines[ 0 .. ($#lines < 9 ? $#lines : 9) ]);

done_testing();
