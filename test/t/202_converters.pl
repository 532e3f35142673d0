# Our own converters give exactly what the types' input functions give: the
# same bytes, or the same SQLSTATE, for common and odd spellings of every type;
# and they, not the input functions, do the common ones.

use strict;
use warnings;
use utf8;
no warnings 'qw';    # commas are meant

use Encode qw(encode_utf8);
use IngestCluster;
use Test::More;

srand(202);

my $node = IngestCluster->new('converters', faults => 1, conf => <<'END');
timezone = 'UTC'
datestyle = 'ISO, MDY'
extra_float_digits = 1
END

sub query
{
	my ($sql, $dbname) = @_;
	my $result = $node->safe_psql($dbname // 'postgres', encode_utf8($sql));
	utf8::decode($result);
	return $result;
}

# What is expected of a value: its text goes to the type's input function.
# Numbers for integers are the exception, since 1.0 and 1e3 are integers, too.
my $functions = <<'END';
CREATE FUNCTION test_convert("json" text, type oid, typmod int, OUT value text, OUT image bytea, OUT is_fast boolean, OUT state text)
	LANGUAGE C STRICT AS '$libdir/kafka_ingest', 'kafka_ingest_test_convert';
CREATE FUNCTION test_input(input text, type oid, typmod int, OUT value text, OUT image bytea)
	LANGUAGE C STRICT AS '$libdir/kafka_ingest', 'kafka_ingest_test_input';
CREATE FUNCTION actual("json" text, type oid, typmod int, OUT value text, OUT image bytea, OUT is_fast boolean, OUT state text)
	LANGUAGE plpgsql AS $f$
BEGIN
	SELECT c.* INTO value, image, is_fast, state FROM test_convert(json, type, typmod) c;
EXCEPTION WHEN OTHERS THEN
	is_fast := false;
	state := SQLSTATE;
END $f$;
CREATE FUNCTION expected("json" text, type oid, typmod int, OUT value text, OUT image bytea, OUT state text)
	LANGUAGE plpgsql AS $f$
DECLARE
	document text := btrim(json, E' \t\r\n');
	input text := CASE WHEN type IN ('json'::regtype, 'jsonb'::regtype) THEN document ELSE document::json #>> '{}' END;
	number numeric;
BEGIN
	IF json_typeof(json::json) = 'number' AND type IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype) THEN
		number := input::numeric;
		IF abs(trunc(number)) <= 9223372036854775808 AND number <> trunc(number) THEN
			state := '22P02';
			RETURN;
		END IF;
		input := trunc(number)::text;
	END IF;
	SELECT i.* INTO value, image FROM test_input(input, type, typmod) i;
EXCEPTION WHEN OTHERS THEN
	state := SQLSTATE;
END $f$;
CREATE TABLE cases (n int GENERATED ALWAYS AS IDENTITY, type text, fast boolean, json text);
END
query($functions);

# ---- how cases are written ----------------------------------------------------------------

my @types = ('int2', 'int4', 'int8', 'float4', 'float8', 'numeric', 'numeric(10,2)', 'numeric(5,0)', 'numeric(3,5)', 'numeric(3,-2)', 'numeric(1000,70)',
	'bool', 'text', 'varchar', 'varchar(5)', 'bpchar', 'bpchar(5)', 'date', 'timestamp', 'timestamptz', 'timestamp(0)', 'timestamp(3)', 'timestamptz(0)', 'timestamptz(3)',
	'uuid', 'json', 'jsonb', 'inet', 'mood', 'calm_mood');
my @labels = ('fine', 'tired', 'Fine', '', ' ', 'sehr müde', '漢字', 'a"b\\c', 'x' x 63);
query('CREATE TYPE mood AS ENUM (' . join(', ', map { "'$_'" } @labels) . ");\nCREATE DOMAIN calm_mood AS mood CHECK (VALUE <> 'tired')");
query('CREATE TABLE shapes (' . join(', ', map { qq("$_" $_) } @types) . ')');

# A case is a type, a JSON document, and whether the input function must not be
# called (1), must be called (0), or either (undef).
my @cases;

sub add
{
	my ($type, $fast, @documents) = @_;
	push @cases, map { [ $type, $fast, $_ ] } @documents;
	return;
}

# A JSON string, plainly.
sub quoted
{
	my ($text) = @_;
	$text =~ s/(["\\])/\\$1/g;
	$text =~ s/([\x01-\x1f])/sprintf '\\u%04x', ord $1/ge;
	return qq("$text");
}

sub add_strings
{
	my ($type, $fast, @strings) = @_;
	add($type, $fast, map { quoted($_) } @strings);
	return;
}

sub pick { return $_[ rand @_ ] }
sub digits { my ($count) = @_; return join '', map { int rand 10 } 1 .. $count }
sub whole { my ($count) = @_; return $count > 1 ? (1 + int rand 9) . digits($count - 1) : int rand 10 }

# One character more, less, or another one.
sub mutated
{
	my ($text, $characters) = @_;
	my $at = int rand(length($text) + 1);
	my $new = substr $characters, rand length $characters, 1;
	my $how = int rand 3;
	return substr($text, 0, $at) . $new . substr($text, $at) if $how == 0;
	substr($text, $at, 1) = $how == 1 ? $new : '' if $at < length $text;
	return $text;
}

sub run_cases
{
	my ($name) = @_;
	my $copied = join '', map {
		my @fields = ($_->[0], defined $_->[1] ? $_->[1] ? 't' : 'f' : '\N', $_->[2]);
		$fields[2] =~ s/\\/\\\\/g;
		$fields[2] =~ s/\n/\\n/g;
		$fields[2] =~ s/\t/\\t/g;
		$fields[2] =~ s/\r/\\r/g;
		join("\t", @fields) . "\n";
	} @cases;
	my $result = query("TRUNCATE cases;\nCOPY cases (type, fast, json) FROM stdin;\n$copied\\.\n" . <<'END');
CREATE TEMP TABLE results AS
SELECT n, c.type, c.fast, json, e.value AS e_value, e.image AS e_image, e.state AS e_state, a.*
FROM cases c JOIN pg_attribute s ON attrelid = 'shapes'::regclass AND attname = c.type,
	expected(json, atttypid, atttypmod) e, actual(json, atttypid, atttypmod) a;
SELECT format('%s %s: expected %s %s, got %s %s%s', type, left(json, 300), left(e_value, 300), e_state, left(value, 300), state,
	CASE WHEN e_value = value THEN ': other bytes' END)
FROM results WHERE (e_value, e_image, e_state) IS DISTINCT FROM (value, image, state) ORDER BY n LIMIT 20;
SELECT format('%s %s: %s by us', type, left(json, 300), CASE WHEN is_fast THEN 'done' ELSE 'not done' END)
FROM results WHERE fast <> is_fast ORDER BY n LIMIT 20;
SELECT format('%s compared', count(*)) FROM results;
END
	is($result, sprintf('%d compared', scalar @cases), sprintf '%s: %d cases', $name, scalar @cases);
	@cases = ();
	return;
}

# ---- numbers ---------------------------------------------------------------------------------

my %limits = (int2 => [ '-32768', '32767' ], int4 => [ '-2147483648', '2147483647' ], int8 => [ '-9223372036854775808', '9223372036854775807' ]);
my %beyond = (int2 => [ '-32769', '32768' ], int4 => [ '-2147483649', '2147483648' ], int8 => [ '-9223372036854775809', '9223372036854775808' ]);
foreach my $type (sort keys %limits)
{
	add($type, 1, @{ $limits{$type} }, @{ $beyond{$type} });
	# int64 cannot hold all numbers of 19 digits, which need not be fast
	add_strings($type, $type eq 'int8' ? undef : 1, @{ $limits{$type} }, @{ $beyond{$type} });
	add($type, 1, qw(0 -0 1 -1 1.0 1e3 -1e3 1E+2 12.5e1 -1200e-2 0.0 0e99999 1.5 -0.1 1e-5 40000.5 1e18 1e19 1e400 -1e400 123456789012345678 99999999999999999999.5));
	add_strings($type, 1, qw(0 -0 +0 1 -1 +1 007 -007 +12 123456789012345678 x abc), '');
	add($type, 1, map { (rand() < 0.5 ? '-' : '') . whole(1 + int rand 20) } 1 .. 300);
	add_strings($type, 1, map { pick('', '-', '+') . whole(1 + int rand 18) } 1 .. 300);
	add_strings($type, undef, map { mutated(pick('', '-', '+') . whole(1 + int rand 22), ' 0123456789-+._xXoObBeE,') } 1 .. 1000);
}

# digits and power of ten that arithmetic has exactly
sub decimal { my ($most) = @_; my $fraction = digits(int rand $most); return pick('', '-') . whole(1 + int rand($most - length $fraction)) . ($fraction eq '' ? '' : ".$fraction") }
sub with_exponent { my ($number, $most) = @_; return $number . pick('e', 'E') . pick('', '-', '+') . int rand($most + 1) }

add('float8', 1, qw(0 -0 0.0 -0.0 1 -1 0.1 -0.1 1.5 100 1e22 1e-22 123456789012345 999999999999999e22 999999999999999e-22 0.000001 19.99 1.10 100.000000));
add('float8', 0, qw(1e23 1e-23 1234567890123456 9007199254740993 0.1234567890123456 1e308 1.7976931348623157e308 1e309 4.9406564584124654e-324 1e-400 0e5));
add('float8', 1, map { decimal(15) } 1 .. 1000);
add('float8', 1, map { with_exponent(decimal(7), 14) } 1 .. 500);
add('float8', undef, map { with_exponent(decimal(20), pick(30, 330)) } 1 .. 1000);
add_strings('float8', 1, map { decimal(15) } 1 .. 100);
add('float4', 1, qw(0 -0 0.0 -0.0 1 -1 0.1 -0.1 1.5 100 16777216 1e10 1e-10 19.99 16777215e-10));
add('float4', 0, qw(16777217 1e11 1e-11 123456789 3.4028235e38 1e39 1e-46 1e-60));
add('float4', 1, map { decimal(7) } 1 .. 1000);
add('float4', undef, map { with_exponent(decimal(12), pick(12, 50)) } 1 .. 1000);
foreach my $type ('float4', 'float8')
{
	add_strings($type, undef, map { mutated(decimal(9), ' 0123456789-+._xXeE,') } 1 .. 1000);
	add_strings($type, 1, '', 'abc', 'x', 'true');
}

my @numerics = (qw(0 -0 0.0 -0.000 1 -1 10 100 1000 10000 100000000 1.0 1.50 -1.50 0.1 0.01 0.001 0.0001 0.00001 0.000100 12345.6789 9999.9999 10000.0001
	  99999 100010001 1e3 1.5e-3 1E+4 1e0 1e-0 -12.34e-5 120e-1 0e3 0e-3 0.00e2 1e100 1e-100 123456789012345678901234567890.123456789012345678901234567890),
	'1e250', '1e256', '1e255', '1e-255', '1e-256', '1e-257', '1e-260', '0.' . '0' x 62 . '1', '0.' . '0' x 63 . '1', '1.' . '0' x 63, '1.' . '0' x 64, '9' x 256, '9' x 257, '1' . '0' x 500);
add('numeric', 1, @numerics, '1' x 1000, '1e999', '1e-1000', '0.' . '1' x 1000);
add_strings('numeric', 1, @numerics, '007.10', '00', '', 'abc', 'x1');
add('numeric', 0, '1' x 1001, '1e1000', '1e131071', '1e131072', '1e-1001', '1e-16383', '1e-16384', '0e-16384', '0e99999999999', '0e2147483647', '1' . '0' x 1000, '0.' . '0' x 1000 . '1', '1e-99999999999');
add_strings('numeric', 0, 'NaN', 'Infinity', '-inf', 'infinity', ' 1', '1 ', '+1', '.5', '5.', '1e', '-', '1.2.3', '1_000', '0x10');
add('numeric', 1, map { decimal(80) } 1 .. 1500);
add('numeric', 1, map { with_exponent(decimal(40), 300) } 1 .. 1500);
add_strings('numeric', undef, map { mutated(decimal(12), ' 0123456789-+._xXeE,') } 1 .. 1500);
foreach my $type (grep { /^numeric\(/ } @types)
{
	my $is_usual = $type !~ /-/;
	add($type, $is_usual, qw(0 -0 0e5));
	add($type, undef, @numerics, map({ decimal(12) } 1 .. 1000), map({ with_exponent(decimal(8), 12) } 1 .. 500), map({ decimal(1 + int rand 150) } 1 .. 200));
}
add('numeric(10,2)', 1, qw(0.00 1 1.5 1.50 1.500 -1.5 99999999 99999999.99 99999999.990 100000000 -100000000.5 1e7 1e8 5e-2));
add('numeric(10,2)', 0, qw(1.005 99999999.995 5e-3));
add('numeric(5,0)', 1, qw(99999 100000 -99999 -100000 1.0));
add('numeric(3,5)', 1, qw(0.00999 0.01 -0.00001 1));
run_cases('numbers');

# ---- times -----------------------------------------------------------------------------------

my @days = qw(31 28 31 30 31 30 31 31 30 31 30 31);
sub day { my $month = int rand 12; return sprintf '%04d-%02d-%02d', pick(1 + int rand 9999, 1970 + int rand 80), $month + 1, 1 + int rand $days[$month] }
sub clock { my ($most) = @_; my $digits = digits(int rand($most + 1)); return sprintf('%02d:%02d', int rand 24, int rand 60) . pick('', sprintf(':%02d', int rand 60) . ($digits eq '' ? '' : ".$digits")) }
sub zone { return pick('', 'Z', sprintf('%s%02d', pick('+', '-'), int rand 16), sprintf('%s%02d%s%02d', pick('+', '-'), int rand 16, pick('', ':'), int rand 60)) }

my @edge_days = qw(0001-01-01 9999-12-31 1999-12-31 2000-01-01 1970-01-01 1969-12-31 2000-02-29 2024-02-29 1900-02-28 0004-02-29 2100-02-28 1582-10-10);
my @no_days = qw(2023-02-29 1900-02-29 2024-13-01 2024-00-10 2024-04-31 2024-01-32 2024-01-00 2024-99-99);
my @odd_days = ('0000-01-01', '10000-01-01', '2024-1-1', '20240101', '2024/01/02', '01/02/2024', '2024-02', '24-01-02', ' 2024-01-01', '2024-01-01 ', 'today', 'epoch', 'infinity', '-infinity',
	'2024-01-01 BC', 'January 8, 1999', '1999.008', 'J2451187', '', 'abc', '2024-01-0a', '-2024-01-01', '2024-001');
my @odd_times = ('2024-01-01T24:00:00', '2024-01-01T24:00:01', '2024-12-31 23:59:60', '2024-01-01 23:60', '2024-01-01 25:00', '2024-01-01 10:00:61', '2024-01-01T10:00:00.1234567', '2024-01-01T10:00:00.9999999',
	'2024-01-01T10:00:00.', '2024-01-01T10', '2024-01-01T10:0', '2024-01-01t10:00:00z', '2024-01-01  10:00', '2024-01-01 10:00 +02', '2024-01-01 10:00 UTC', '2024-01-01T10:00:00+2', '2024-01-01T10:00:00+16',
	'2024-01-01T10:00:00+15:59', '2024-01-01T10:00:00-15:59:59', '2024-01-01T10:00:00+02:', '2024-01-01T10:00:00+02:60', '2024-01-01T10:00:00+02:00:00', '2024-01-01T10:00:00ZZ', '2024-01-01T10:00:00Z+02', '2024-01-01Z',
	'2024-01-01+02', '2024-01-01T', '2024-01-01 ', '2024-01-01T10:00:00 Europe/Berlin', '2024-01-01 10:00 PM', '2024-01-01T10:00:00 BC', '2024-01-01T100000', '20240101T100000', 'now', '2024-02-30T10:00:99',
	'2024-02-30T10:00:00Zx', '2024-02-30 25:00', '0001-01-01T00:00:00+15:59', '9999-12-31T23:59:59.999999-15:59');
add_strings('date', 1, @edge_days, @no_days, map { day() } 1 .. 500);
add_strings('date', 0, @odd_days, @odd_times);
add_strings('date', undef, map { mutated(day(), ' 0123456789-+:.TZBC/') } 1 .. 1500);
foreach my $type (grep { /^timestamp/ } @types)
{
	my $digits = $type =~ /\((\d)\)/ ? $1 : 6;
	add_strings($type, 1, @edge_days, @no_days, map({ $_ . pick('T', ' ') . clock($digits) . zone() } @no_days, @edge_days, map { day() } 1 .. 500));
	add_strings($type, undef, @odd_days, @odd_times, map({ $_ . pick('T', ' ') . clock(6) . zone() } map { day() } 1 .. 300),
		map { mutated(day() . pick('T', ' ') . clock(6) . zone(), ' 0123456789-+:.TZBC/') } 1 .. 1500);
	add_strings($type, 1, '2024-01-02T03:04:05Z', '2024-01-02 03:04:05+00', '2024-01-02T03:04:05', '2024-01-02T03:04', '2024-01-02T23:59:59+05:30', '1999-12-31T23:59:59-0800');
}
add_strings($_, 1, '2024-01-02T03:04:05.123Z', '1969-12-31T23:59:59.999Z') foreach 'timestamp', 'timestamptz', 'timestamp(3)', 'timestamptz(3)';
add_strings($_, 1, '2024-01-02T03:04:05.123456Z', '1969-12-31T23:59:59.999999Z', '2024-01-02T03:04:05.1+14:00') foreach 'timestamp', 'timestamptz';
add_strings($_, 0, '2024-01-02T03:04:05.9999Z', '1969-12-31T23:59:59.999999Z') foreach 'timestamp(3)', 'timestamptz(3)';
run_cases('times');

# ---- booleans, text, uuid ----------------------------------------------------------------------

add('bool', 1, qw(true false 1 0));
add_strings('bool', 1, map { ($_, uc $_, ucfirst $_) } qw(true tru tr t false fals f yes ye y no n on off of 1 0));
add_strings('bool', 0, '', 'o', ' true', 'false ', 'truee', 'yesno', '2', '10', 'null', 'x', 'ja');
add('bool', 0, qw(2 -1 1.0 [] {}));

my $letters = "abc \t\n\"\\/äößéЖ漢字😀\x{7f}\x{80}\x{10ffff}";
my @texts = ('', 'a', ' ', 'abcde', 'abcdef', 'abcde ', 'abcde   ', 'äöüßé', 'äöüßéx', '漢字漢字漢', '😀😀😀😀😀', '😀😀😀😀😀😀', 'x' x 100_000, '漢' x 30_000,
	map { join '', map { substr $letters, rand length $letters, 1 } 1 .. rand 12 } 1 .. 300);
foreach my $type ('text', 'varchar', 'varchar(5)', 'bpchar', 'bpchar(5)', 'json')
{
	add_strings($type, 1, @texts);
	add($type, 1, qw(1 -1.50e3 true false [1,2] {"a":1}), '{ "b" : [ 1 , "ä" ] }', '"\u00e4\ud83d\ude00\n\"\\\/"');
}
foreach my $type ('varchar(5)', 'bpchar(5)')
{
	add_strings($type, 1, '', ' ', 'ab', 'abcde', 'äöüßé', '😀😀', '😀😀😀😀😀', 'abcdef', 'abcde ', 'ab    ', 'äöüßé   ', 'äöüßéx', 'äöüßé x', 'abcde' . ' ' x 1000, "abcde\t", "abcde\x{a0}");
}

sub hex_digits { my ($count) = @_; return join '', map { pick(0 .. 9, 'a' .. 'f', 'A' .. 'F') } 1 .. $count }
my @uuids = map { join '-', map { hex_digits($_) } 8, 4, 4, 4, 12 } 1 .. 200;
add_strings('uuid', 1, @uuids, map({ tr/-//dr } @uuids), '', 'abc-', '0' x 31 . 'g', 'not a uuid', "$uuids[0] ");
add_strings('uuid', undef, map({ "{$_}" } @uuids[ 0 .. 9 ]), '{' . $uuids[0], $uuids[0] . '}', map({ mutated($_, '0aF-g {}') } @uuids, @uuids), '-' x 36, '0' x 36, '0' x 33, join('-', ('0123') x 8), '');
@cases = grep { !($_->[0] eq 'uuid' && defined $_->[1] && $_->[2] =~ /^"(|abc-)"$/) } @cases;

# a domain's constraints are for its input function, what is no label is not
my @no_labels = ('angry', 'FINE', 'fine ', ' fine', 'x' x 62, 'x' x 64, 'x' x 1000, 'ü' x 32, "fine\t");
add_strings('mood', 1, @labels, @no_labels);
add('mood', 1, qw(1 true {} ["fine"]));
add_strings('calm_mood', 0, @labels);
add_strings('calm_mood', 1, @no_labels);
run_cases('booleans, text, uuid and enums');

# ---- addresses ---------------------------------------------------------------------------------

my @addresses = ('0.0.0.0', '255.255.255.255', '10.1.2.3', '10.1.2.3/8', '10.1.2.3/32', '10.1.2.3/0', '10.1', '10', '010.001.2.3', '10.1.2.3/08', '10.1.2.3 ', ' 10.1.2.3', '10.1.2.256', '10.1.2.3/33', '10.1.2.3.4', '10.1.2.',
	'10..2.3', '1.2.3.4/', '1.2.3.4/a', '0x0a010203', '::', '::1', '::1/128', '::1/129', 'fe80::1%eth0', '2001:db8::ff00:42:8329/64', '2001:db8:0:0:0:0:0:1', '1:2:3:4:5:6:7:8:9', '1:2:3:4:5:6:7', '::ffff:10.1.2.3', '::ffff:10.1.2.3/96',
	'::10.1.2.300', '12345::', ':', ':::', '1::2::3', 'g::', '', 'localhost', '1/2/3', '-1.2.3.4', '1.2.3.4/-1', 'ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255/128');
my @usual = map { (join('.', map { int rand 256 } 1 .. 4) . pick('', '/' . int rand 33), join(':', map { sprintf '%x', rand 65536 } 1 .. 8) . pick('', '/' . int rand 129)) } 1 .. 300;
add_strings('inet', 1, @addresses, @usual, map { mutated(pick(@usual, @addresses), '0123456789.:/abfg ') } 1 .. 2000);
add_strings('inet', 0, '0' x 100 . '1.2.3.4', '1' x 64);
add('inet', 1, qw(1 10.1 -1 true {} [1]));
run_cases('addresses');

# What is no label leaves nothing behind
my $cached = q{SELECT sum(total_bytes) FROM pg_backend_memory_contexts WHERE name = 'CacheMemoryContext'};
is(query(<<"END") =~ s/^\n+//r, "40000\nt", 'unknown labels take no memory');
SELECT FROM test_convert('"fine"', 'mood'::regtype, -1);
CREATE TEMP TABLE cached AS SELECT ($cached) AS bytes;
SELECT count(*) FROM generate_series(1, 40000) n, test_convert('"no ' || n || '"', 'mood'::regtype, -1) c WHERE c.state = '22P02' AND c.is_fast;
SELECT ($cached) - (SELECT bytes FROM cached) < 2000000;
END

# A label is found as soon as it is there, and under its new name; its own transaction may not use it.
is(query(<<'END'), "55P04|f\n|t\n22P02|t\n|t", 'enums follow ALTER TYPE');
BEGIN;
ALTER TYPE mood ADD VALUE 'angry';
SELECT state, is_fast FROM actual('"angry"', 'mood'::regtype, -1);
COMMIT;
SELECT state, is_fast FROM actual('"angry"', 'mood'::regtype, -1);
ALTER TYPE mood RENAME VALUE 'angry' TO 'calm';
SELECT state, is_fast FROM actual('"angry"', 'mood'::regtype, -1);
SELECT state, is_fast FROM actual('"calm"', 'mood'::regtype, -1);
END

# ---- every string for every type ---------------------------------------------------------------

my @strings = (@odd_days, @odd_times, @no_days, @edge_days, @numerics, @uuids[ 0 .. 3 ], qw(t f yes no on off nan NaN inf -inf Infinity null 1.0 1e3 0x1F 0b1 0o7 1_0 +1 --1 {} [] 1,5 1;2 ١), "\x{a0}1", "1\x{2009}");
foreach my $type (@types)
{
	add_strings($type, undef, @strings);
	add($type, undef, qw(true false 0 1 -1 1.5 1e3 [] {} [1,2] {"a":1} [[]] 20240101 1700000000), map { " $_\n" } @numerics[ 0 .. 10 ]);
}
@cases = grep { $_->[2] ne 'null' } @cases;
run_cases('every string for every type');

# ---- jsonb -------------------------------------------------------------------------------------

sub space { return rand() < 0.8 ? '' : pick(' ', "\n", "\t", "\r", '   ', " \n\t ") }
my @escapes = ('\"', '\\\\', '\/', '\b', '\f', '\n', '\r', '\t', '\u0001', '\u001F', '\u0041', '\u00e4', '\u07ff', '\u0800', '\uFFFF', '\uD83D\uDE00', '\udbff\udfff', '\ud800\udc00');

sub json_string
{
	my $kind = rand;
	return '""' if $kind < 0.05;
	return '"' . join('', map { rand() < 0.4 ? pick(@escapes) : pick('a', 'bc', 'ä', '漢', '😀', ' ', "'", '{', ']', "\x7f") } 1 .. 1 + rand 12) . '"' if $kind < 0.4;
	return '"' . join('', map { pick('a' .. 'z', '0' .. '9', ' ', '-') } 1 .. rand pick(5, 20, 60, 300)) . '"';
}

# few different names, so that some are repeated; the same ones with escapes
sub json_name
{
	my $name = pick('a' .. 'e', 'aa' .. 'ad', '', 'id', 'key', 'name', 'ä', 'ö');
	return json_string() if rand() < 0.3;
	$name =~ s/([a-z])/sprintf '\\u%04x', ord $1/e if rand() < 0.1;
	return qq("$name");
}

sub json_number
{
	my $kind = rand;
	return pick(0 .. 20, -1, 100, 1000, 10000, 65536) if $kind < 0.4;
	return pick('-0', '0.0', '-0.00', '1e5', '1E-5', '0e0', '1.5e+3') if $kind < 0.5;
	return decimal(12) if $kind < 0.8;
	return decimal(200) if $kind < 0.85;
	return with_exponent(decimal(20), 200);
}

sub json_value
{
	my ($depth, $most) = @_;
	my $kind = rand;
	return json_string() if $kind < 0.25;
	return json_number() if $kind < 0.45;
	return pick('true', 'false', 'null') if $kind < 0.55;
	return pick('[]', '{}', '[ ]', "{\n}") if $depth == 0 || $kind < 0.6;
	my $count = int rand(rand() < 0.05 ? 150 : $most);
	my @items = map { json_value($depth - 1, $most) } 1 .. $count;
	@items = map { json_name() . space() . ':' . space() . $_ } @items if $kind < 0.82;
	my $items = space() . join(space() . ',' . space(), @items) . space();
	return $kind < 0.82 ? "{$items}" : "[$items]";
}

add('jsonb', 1, map { space() . json_value(pick(0 .. 5), pick(2, 4, 8)) . space() } 1 .. 5000);

# around every border of the storage form: offsets every 32 entries, padding
add('jsonb', 1, map { '[' . join(',', (1) x $_) . ']', '[' . join(',', ('"a"') x $_) . ']' } 0 .. 5, 30 .. 35, 62 .. 66, 95 .. 98, 1000);
add('jsonb', 1, map { my $n = $_; '{' . join(',', map { qq("k$_":$_) } 1 .. $n) . '}', '{' . join(',', map { '"' . 'x' x ($n - $_) . qq(":"$_") } 1 .. $n) . '}' } 0 .. 5, 14 .. 18, 30 .. 35, 62 .. 66, 300);
add('jsonb', 1, map { my $n = $_; '{' . join(',', map { '"k' . ($_ * 7919 % $n) . qq(":[$_,"$_"]) } 1 .. 2 * $n) . '}' } 5, 16, 17, 33, 500);
add('jsonb', 1, map { my $pad = 'x' x $_; (qq(["$pad",1]), qq(["$pad",[]]), qq(["$pad",{"$pad":1.5}]), qq({"$pad":{"a":-2}})) } 0 .. 9);
add('jsonb', 1, map { "[$_]" } @numerics);
add('jsonb', 1, @numerics, qw(true false null "" "a" [] {}), '"' . 'x' x 70_000 . '"', '["' . '漢' x 30_000 . '", {"' . 'k' x 65_536 . '": "' . '\n' x 40_000 . '"}]');
add('jsonb', 1, '[' x 100 . ']' x 100, '{"a":' x 99 . '[]' . '}' x 99);
add('jsonb', 0, '[' x 101 . ']' x 101, '{"a":' x 101 . '1' . '}' x 101);
my $large = '[' . join(', ', map { qq({"number": $_, "text": "some text \\u00e4", "list": [true, null, $_.50]}) } 1 .. 12_000) . ']';
add('jsonb', 1, $large, '"' . 'x' x (1024 * 1024 - 2) . '"');
add('jsonb', 0, "[$large, $large]", '"' . 'x' x (1024 * 1024 - 1) . '"');
# numbers that the input function is to see, also where a later field hides them
add('jsonb', 0, '1e1000', '[1, 1e-1001]', '1e200000', '[1e200000]', '{"a": 1e200000, "a": 1}', '{"a": {"b": [2, 1e-20000]}, "b": 3, "a": 1}', '{"a": 1e5000, "a": 1}', '0e99999999999');
# a document by document that needs little room after one that needed much
add('jsonb', 1, $large, '{"a": "\n"}', '[1]');
run_cases('jsonb');

# ---- jsonb of documents that look alike, as those of a topic do, or nearly so ---------------------

# An object with these fields; every other one's value is an object, too.
sub object_of
{
	my ($spaced, $depth, @names) = @_;
	my ($between, $number) = ($spaced ? ' ' : '', 0);
	return '{' . join(",$between", map {
		my $value = $depth > 0 && $number++ % 2 ? object_of($spaced, $depth - 1, map { "$_$depth" } @names) : json_value(1, 3);
		qq("$_":$between$value)
	} @names) . '}';
}

# Something is another way than in the others: one name longer, shorter, with an
# escape or there twice, one field more, or less, two of them exchanged.
sub nearly
{
	my (@names) = @_;
	my $at = int rand @names;
	my $how = int rand 8;
	return @names if $how == 0;
	$names[$at] .= pick('x', ' ', 'ä') if $how == 1;
	$names[$at] = substr($names[$at], 0, -1) if $how == 2 && $names[$at] =~ /[a-z]$/;
	$names[$at] =~ s/^([a-z])/sprintf '\\u%04x', ord $1/e if $how == 3;
	splice @names, $at, 0, pick(@names, 'new') if $how == 4;
	splice @names, $at, 1 if $how == 5;
	@names[ $at, -1 ] = @names[ -1, $at ] if $how == 6;
	@names = reverse @names if $how == 7;
	return @names;
}

foreach my $family (1 .. 60)
{
	my %names = map { join('', map { pick('a' .. 'e') } 0 .. rand 4) => 1 } 1 .. 1 + rand pick(3, 8, 80);
	my @names = sort { length $a <=> length $b || rand() <=> 0.5 } keys %names;
	my ($spaced, $depth) = ($family % 2, @names > 8 ? 0 : int rand 3);
	my @documents = map { object_of($spaced, $depth, rand() < 0.6 ? @names : nearly(@names)) } 1 .. 20;
	add('jsonb', 1, @documents);
	# as many objects as are remembered, and more
	add('jsonb', 1, map { '[' . join(',', map { object_of($spaced, 0, rand() < 0.9 ? @names : nearly(@names)) } 1 .. $_) . ']' } 5, 15, 16, 17, 40);
}
add('jsonb', 1, map { my $n = $_; map { object_of(0, 0, map { "name$_" } 1 .. $n) } 1 .. 4 } 63 .. 66);
add('jsonb', 1, map { my $len = $_; map { qq({"@{['k' x $len]}": $_, "a": {"b": $_}}) } 1 .. 4 } 4090 .. 4100, 70_000);
# cut short where the next name is expected
add('jsonb', 1, map { ($_, substr($_, 0, 8) . '}') } ('{"abc":1,"abcdef":2}') x 3);
run_cases('jsonb of documents that look alike');

# what large documents needed is given back
my $kept = query(<<'END');
SELECT count(*) FROM test_convert('{"a": 1}', 'jsonb'::regtype, -1);
CREATE TEMP TABLE used AS SELECT sum(total_bytes) AS bytes FROM pg_backend_memory_contexts WHERE name = 'TopMemoryContext';
SELECT is_fast FROM test_convert((SELECT '["\n"' || repeat(', "\t", {"a": 1}', 50000) || ']'), 'jsonb'::regtype, -1);
SELECT sum(total_bytes) - (SELECT bytes FROM used) < 300000 FROM pg_backend_memory_contexts WHERE name = 'TopMemoryContext';
END
is($kept, "1\nt\nt", 'memory of large documents is given back');

# ---- another encoding ----------------------------------------------------------------------------

query(q{CREATE DATABASE latin1 ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0});
query($functions, 'latin1');
is(query(<<'END', 'latin1'), "t|t|f\nt|t|t\nt|t|t", 'in a LATIN1 database jsonb is left to its input function');
SET client_encoding = 'UTF8';
SELECT e.image = a.image, e.state IS NOT DISTINCT FROM a.state, is_fast
FROM (VALUES (1, 'jsonb'::regtype, '{"\u00e4": "\u00f6", "b": [1.50]}'), (2, 'text', '"abc"'), (3, 'numeric', '1.50')) c(n, type, json),
	expected(json, type, -1) e, actual(json, type, -1) a ORDER BY n;
END

done_testing();
