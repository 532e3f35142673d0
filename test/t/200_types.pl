# Every type takes JSON values as PostgreSQL's own input function takes their
# text, whatever the server's TimeZone and DateStyle; and every kind of source
# (paths, conversions, metadata, key) and target (partitions, views, triggers).

use strict;
use warnings;
use utf8;

use Encode qw(encode_utf8);
use IngestCluster;
use KafkaBroker;
use Test::More;

my $kafka = KafkaBroker->shared();
my $node = IngestCluster->new('types', conf => <<'END');
timezone = 'Asia/Kathmandu'
datestyle = 'SQL, DMY'
intervalstyle = 'sql_standard'
extra_float_digits = -15
bytea_output = 'escape'
xmloption = 'document'
array_nulls = off
lc_monetary = 'C'
END
$node->connect_kafka($kafka);

# These would change the meaning of a message, too, if they counted.
$node->safe_psql('postgres', <<'END');
ALTER DATABASE postgres SET timezone = 'America/St_Johns';
ALTER ROLE CURRENT_USER SET datestyle = 'German, YMD';
END

# What is expected is computed with the settings that are promised.
my $promised = <<'END';
SET timezone = 'UTC'; SET datestyle = 'ISO, MDY'; SET intervalstyle = 'postgres'; SET extra_float_digits = 1;
SET bytea_output = 'hex'; SET xmloption = 'content'; SET array_nulls = on;
END

sub query
{
	my ($sql) = @_;
	my $result = $node->safe_psql('postgres', encode_utf8("$promised $sql"));
	utf8::decode($result);
	return $result;
}

# Loads all of a topic; a bad message is a failure, and is passed by.
sub load
{
	my ($pipeline, $topic) = @_;
	my @stops;
	while (1)
	{
		my $end = $kafka->offsets($topic);
		my $goal = join ' AND ', map {
			"EXISTS (SELECT FROM kafka_ingest.partition_status WHERE pipeline = '$pipeline'"
			  . " AND partition = $_ AND next_offset >= $end->{$_}{stable})"
		} sort keys %$end;
		my $state = $node->poll_until(
			"SELECT CASE WHEN $goal THEN 'loaded' ELSE state END FROM kafka_ingest.status WHERE pipeline = '$pipeline'",
			qr/^(loaded|stopped)$/);
		last if $state eq 'loaded';
		my $detail = query("SELECT detail FROM kafka_ingest.status WHERE pipeline = '$pipeline'");
		push @stops, $detail;
		my ($partition, $offset) = $detail =~ /partition (\d+), offset (\d+) /
		  or BAIL_OUT("pipeline $pipeline stopped: $detail");
		query(sprintf q{SELECT kafka_ingest.seek('%s', start_offsets => '{"%d": %d}')},
			$pipeline, $partition, $offset + 1);
	}
	return @stops;
}

sub create_pipeline
{
	my ($name, $arguments) = @_;
	my $topic = $kafka->create_topic("types_$name");
	query("SELECT kafka_ingest.create_pipeline('$name', topic => '$topic', on_error => 'stop', $arguments)");
	return $topic;
}

# ---- every type ---------------------------------------------------------------------

query(<<'END');
CREATE TYPE mood AS ENUM ('sad', 'ok', 'very happy');
CREATE TYPE pair AS (number int, text text);
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE DOMAIN small AS positive CHECK (VALUE < 100);
CREATE DOMAIN short AS varchar(5) NOT NULL DEFAULT 'none';
CREATE DOMAIN document AS jsonb CHECK (VALUE ? 'id');
CREATE DOMAIN bytes AS bytea CHECK (length(VALUE) < 10);
CREATE DOMAIN list AS int[] CHECK (cardinality(VALUE) < 5);
CREATE DOMAIN instant AS timestamptz CHECK (VALUE > '2000-01-01');
CREATE DOMAIN flag AS boolean;
CREATE DOMAIN big AS bigint;
CREATE TYPE floatrange AS RANGE (subtype = float8);
END

# A case is a type, the value as it stands in the JSON, and what it must be:
# an SQL expression. Without one it is the string as the type's own literal.
my @cases = (
	# booleans
	(map { [ 'boolean', $_, "boolean '$_'" ] } qw(true false)),
	(map { [ 'boolean', qq("$_") ] } qw(true f yes off 1)),
	[ 'boolean', '1', 'true' ],
	[ 'boolean', '0', 'false' ],
	# integers to their limits, in every spelling
	[ 'int2', '32767', '32767' ],
	[ 'int2', '-32768', '-32768' ],
	[ 'int2', '-0', '0' ],
	[ 'int4', '2147483647', '2147483647' ],
	[ 'int4', '-2147483648', '-2147483648' ],
	[ 'int4', '1.0', '1' ],
	[ 'int4', '1e3', '1000' ],
	[ 'int4', '12.5E1', '125' ],
	[ 'int4', '-1200e-2', '-12' ],
	[ 'int4', '0.0000e999999999999', '0' ],
	[ 'int4', '"42"', '42' ],
	[ 'int4', '" -42 "', '-42' ],
	[ 'int8', '9223372036854775807', '9223372036854775807' ],
	[ 'int8', '-9223372036854775808', '-9223372036854775808' ],
	[ 'int8', '9007199254740993', '9007199254740993' ],
	[ 'int8', '9223372036854775807.0', '9223372036854775807' ],
	[ 'int8', '9.223372036854775807e18', '9223372036854775807' ],
	[ 'int8', '"9223372036854775807"', '9223372036854775807' ],
	# numbers beyond double, digit for digit
	[ 'numeric', '123456789012345678901234567890.123456789012345678901234567890' ],
	[ 'numeric', '0.1' ],
	[ 'numeric', '1.10' ],
	[ 'numeric', '100' ],
	[ 'numeric', '-0.000', "numeric '-0.000'" ],
	[ 'numeric', '1e131071', "numeric '1e131071'" ],
	[ 'numeric', '1E-100', "numeric '1E-100'" ],
	[ 'numeric', '18446744073709551616' ],
	[ 'numeric', '"NaN"' ],
	[ 'numeric', '"-Infinity"' ],
	[ 'numeric(10,2)', '1.005' ],
	[ 'numeric(10,2)', '12345678.994' ],
	[ 'numeric(3,-2)', '12345' ],
	[ 'float8', '0.1' ],
	[ 'float8', '1.7976931348623157e308' ],
	[ 'float8', '4.9406564584124654e-324' ],
	[ 'float8', '123456789.123456789' ],
	[ 'float8', '-0.0' ],
	[ 'float8', '"NaN"' ],
	[ 'float8', '"-Infinity"' ],
	[ 'float4', '0.1' ],
	[ 'float4', '16777217' ],
	[ 'money', '"$1,234.56"' ],
	[ 'money', '12.3' ],
	# text
	[ 'text', '"a"' ],
	[ 'text', '""' ],
	[ 'text', '1.50', "'1.50'" ],
	[ 'text', '1e3', "'1e3'" ],
	[ 'text', 'true', "'true'" ],
	[ 'text', '{"a" : [1, 2 ], "b":"\u00e4" }', q('{"a" : [1, 2 ], "b":"\u00e4" }') ],
	[ 'text', '[ ]', "'[ ]'" ],
	[ 'text', '"it\'s \"quoted\" \\\\ \/ \b\f\n\r\t"', q(E'it''s "quoted" \\\\ / \b\f\n\r\t') ],
	[ 'text', '"\u00e4\u20ac"', "'ä€'" ],
	[ 'text', '"\ud83d\ude00"', "'😀'" ],
	[ 'text', '"\uD834\udd1E!"', "'𝄞!'" ],
	[ 'text', '"\udbff\udfff"', "U&'\\+10FFFF'" ],
	[ 'text', '"äöü €😀"', "'äöü €😀'" ],
	[ 'text', '"\\\\u00e4"', "'\\u00e4'" ],
	[ 'text', '"\u0001\u001f\u007f"', "U&'\\0001\\001f\\007f'" ],
	[ 'text', '"\ufeffbom"', "U&'\\FEFFbom'" ],
	[ 'text', '"' . ('x' x 100_000) . '"', "repeat('x', 100000)" ],
	[ 'text', '"NULL"' ],
	[ 'text', '"\\\\N"', "'\\N'" ],
	[ 'varchar', '"abc"' ],
	[ 'varchar(5)', '"abcde"' ],
	[ 'varchar(5)', '"abcde   "' ],
	[ 'varchar(5)', '"äöü€😀"' ],
	[ 'char(3)', '"a"' ],
	[ 'char(3)', '12', "char(3) '12'" ],
	[ '"char"', '"x"' ],
	[ 'name', '"' . ('n' x 70) . '"' ],
	[ 'bytea', '"\\\\x00ff10"', "'\\x00ff10'::bytea" ],
	[ 'bytea', '"plain"' ],
	[ 'bytea', '"\\\\000\\\\\\\\"', "'\\x005c'::bytea" ],
	[ 'bit(3)', '"101"' ],
	[ 'bit varying(5)', '"10"' ],
	[ 'bit varying', '"x1F"' ],
	[ 'uuid', '"A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"' ],
	[ 'uuid', '"{a0eebc999c0b4ef8bb6d6bb9bd380a11}"' ],
	[ 'xml', '"<a>x</a> and text"' ],
	# dates and times: naive ones are UTC, month before day
	[ 'date', '"2024-02-29"' ],
	[ 'date', '"01/02/2024"', "date '2024-01-02'" ],
	[ 'date', '"infinity"' ],
	[ 'date', '"4713-01-01 BC"' ],
	[ 'time', '"03:04:05.123456"' ],
	[ 'time(0)', '"03:04:05.6"' ],
	[ 'timetz', '"03:04:05"', "timetz '03:04:05+00'" ],
	[ 'timetz', '"03:04:05+05:45"' ],
	[ 'timestamp', '"2024-01-02T03:04:05"' ],
	[ 'timestamp', '"2024-01-02T03:04:05+02:00"' ],
	[ 'timestamp', '"01/02/2024 03:04"', "timestamp '2024-01-02 03:04'" ],
	[ 'timestamp(3)', '"2024-01-02T03:04:05.6789"' ],
	[ 'timestamptz', '"2024-01-02T03:04:05"', "timestamptz '2024-01-02 03:04:05+00'" ],
	[ 'timestamptz', '"2024-07-02T03:04:05Z"', "timestamptz '2024-07-02 03:04:05+00'" ],
	[ 'timestamptz', '"2024-01-02T03:04:05.123456+05:45"', "timestamptz '2024-01-01 21:19:05.123456+00'" ],
	[ 'timestamptz', '"2024-01-02T03:04:05.1234567Z"' ],
	[ 'timestamptz', '"01/02/2024 03:04:05"', "timestamptz '2024-01-02 03:04:05+00'" ],
	[ 'timestamptz', '"2024-07-02 03:04:05 Europe/Berlin"', "timestamptz '2024-07-02 01:04:05+00'" ],
	[ 'timestamptz', '"-infinity"' ],
	[ 'timestamptz', '"294276-12-31 23:59:59.999999+00"' ],
	[ 'timestamptz(0)', '"2024-01-02T03:04:05.6Z"' ],
	[ 'interval', '"1 day 02:03:04.5"' ],
	[ 'interval', '"P1Y2M3DT4H5M6.789S"' ],
	[ 'interval', '"-1-2 3 -4:05:06"' ],
	[ 'interval', '"-1 2:03:04"', "interval '-1 days +02:03:04'" ],
	[ 'interval hour to minute', '"1:02:03"' ],
	# networks, shapes, text search
	[ 'inet', '"192.168.0.1/24"' ],
	[ 'inet', '"::ffff:1.2.3.4"' ],
	[ 'cidr', '"10.0.0.0/8"' ],
	[ 'macaddr', '"08-00-2b-01-02-03"' ],
	[ 'macaddr8', '"08:00:2b:01:02:03:04:05"' ],
	[ 'point', '"(1.5,-2)"' ],
	[ 'line', '"{1,2,3}"' ],
	[ 'lseg', '"[(0,0),(1,1)]"' ],
	[ 'box', '"(1,1),(0,0)"' ],
	[ 'path', '"[(0,0),(1,1),(2,0)]"' ],
	[ 'polygon', '"((0,0),(1,1),(2,0))"' ],
	[ 'circle', '"<(1,2),3>"' ],
	[ 'tsvector', q("a:1A fat:2 'it''s'"), q(tsvector 'a:1A fat:2 ''it''''s''') ],
	[ 'tsquery', '"fat & (rat | cat:A)"' ],
	# JSON
	[ 'json', '{"b" :1.50, "a":[ ], "a": "\u00e4"}', q(json '{"b" :1.50, "a":[ ], "a": "\u00e4"}') ],
	[ 'json', '"text"', q(json '"text"') ],
	[ 'json', '12345678901234567890.10' ],
	[ 'jsonb', '{"b" :1.50, "a":[ ], "a": "\u00e4"}', q(jsonb '{"a": "ä", "b": 1.50}') ],
	[ 'jsonb', '[1, null, "x", {"y": false}]' ],
	[ 'jsonb', '"text"', q(jsonb '"text"') ],
	[ 'jsonb', '"\ud83d\ude00"', q(jsonb '"😀"') ],
	[ 'jsonb', 'true' ],
	[ 'jsonb', '1e2', q(jsonb '1e2') ],
	[ 'jsonb', '123456789012345678901234567890.123456789' ],
	[ 'jsonpath', '"$.a[*] ? (@ > 1)"' ],
	# of the server
	[ 'oid', '4294967295', "oid '4294967295'" ],
	[ 'oid', '"1"' ],
	[ 'xid', '"5"' ],
	[ 'xid8', '"18446744073709551615"' ],
	[ 'cid', '7', "cid '7'" ],
	[ 'tid', '"(1,2)"' ],
	[ 'pg_lsn', '"16/B374D848"' ],
	[ 'pg_snapshot', '"10:20:10,14,15"' ],
	[ 'txid_snapshot', '"10:20:10,14,15"' ],
	[ 'regclass', '"pg_catalog.pg_class"' ],
	[ 'regtype', '"timestamp with time zone"' ],
	[ 'regproc', '"now"' ],
	[ 'regprocedure', '"abs(numeric)"' ],
	[ 'regoper', '"pg_catalog.||/"' ],
	[ 'regoperator', '"+(integer,integer)"' ],
	[ 'regrole', '"pg_monitor"' ],
	[ 'regnamespace', '"public"' ],
	[ 'regcollation', '"\"C\""', q(regcollation '"C"') ],
	[ 'regconfig', '"english"' ],
	[ 'regdictionary', '"simple"' ],
	[ 'refcursor', '"c1"' ],
	[ 'int2vector', '"1 2 3"' ],
	[ 'oidvector', '"1 2 3"' ],
	[ 'aclitem', '"=r/pg_monitor"' ],
	# ranges
	[ 'int4range', '"[1,5)"' ],
	[ 'int4range', '"empty"' ],
	[ 'int8range', '"[1,9223372036854775806]"' ],
	[ 'numrange', '"[1.5,2.50)"' ],
	[ 'daterange', '"[01/02/2024,2024-02-01]"', "daterange('2024-01-02', '2024-02-01', '[]')" ],
	[ 'tsrange', '"[2024-01-01,2024-01-02)"' ],
	[ 'tstzrange', '"[2024-01-01,2024-01-02)"', "tstzrange('2024-01-01 00:00+00', '2024-01-02 00:00+00')" ],
	[ 'int4multirange', '"{[1,5),[7,9)}"' ],
	[ 'tstzmultirange', '"{[2024-01-01,2024-01-02)}"', "tstzmultirange(tstzrange('2024-01-01 00:00+00', '2024-01-02 00:00+00'))" ],
	[ 'floatrange', '"[0.1,0.2)"' ],
	# of users
	[ 'mood', '"very happy"' ],
	[ 'pair', '"(1,\"a b\")"', q(pair '(1,"a b")') ],
	[ 'positive', '5' ],
	[ 'positive', '"5"', '5' ],
	[ 'small', '99.0', '99' ],
	[ 'short', '"abc"' ],
	[ 'document', '{"id": 1}' ],
	[ 'bytes', '"\\\\xff"', "'\\xff'::bytea" ],
	[ 'list', '[1, 2.0, 3]', "'{1,2,3}'::int[]" ],
	[ 'instant', '"2024-01-02T03:04:05"', "timestamptz '2024-01-02 03:04:05+00'" ],
	[ 'flag', 'true', 'true' ],
	[ 'big', '9223372036854775807', '9223372036854775807' ],
	# arrays
	[ 'int4[]', '[1, -2, null, 3.0, 1e2]', "'{1,-2,NULL,3,100}'::int4[]" ],
	[ 'int4[]', '[]', "'{}'::int4[]" ],
	[ 'int4[]', '[[1,2],[3,4]]', "'{{1,2},{3,4}}'::int4[]" ],
	[ 'int4[]', '"{1,2}"' ],
	[ 'int4[]', '"[0:1]={1,2}"' ],
	[ 'int8[]', '[9223372036854775807, "-9223372036854775808"]', "'{9223372036854775807,-9223372036854775808}'::int8[]" ],
	[ 'text[]', '["a", "", null, "NULL", "a,b", "{x}", "\"", "\\\\", " ", "ä\ud83d\ude00", 1.50, true]',
		q(ARRAY['a', '', NULL, 'NULL', 'a,b', '{x}', '"', '\\', ' ', 'ä😀', '1.50', 'true']) ],
	[ 'text[]', '[{"a": [1, 2]}]', q(ARRAY['{"a": [1, 2]}']) ],
	[ 'varchar(3)[]', '["abc"]', "ARRAY['abc']::varchar(3)[]" ],
	[ 'boolean[]', '[true, false, null, "t"]', 'ARRAY[true, false, NULL, true]' ],
	[ 'numeric[]', '[1.10, 123456789012345678901234567890.5]', "'{1.10,123456789012345678901234567890.5}'::numeric[]" ],
	[ 'numeric(5,1)[]', '[1.25]', "'{1.3}'::numeric(5,1)[]" ],
	[ 'float8[]', '[0.1, "NaN"]', "'{0.1,NaN}'::float8[]" ],
	[ 'timestamptz[]', '["2024-01-02T03:04:05", "2024-01-02T03:04:05+01"]', "'{2024-01-02 03:04:05+00,2024-01-02 02:04:05+00}'::timestamptz[]" ],
	[ 'uuid[]', '["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]', "'{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}'::uuid[]" ],
	[ 'jsonb[]', '["a", 1.50, null, true, {"b": [1, "\u00e4"]}, [2]]', q(ARRAY['"a"', '1.50', NULL, 'true', '{"b": [1, "ä"]}', '[2]']::jsonb[]) ],
	[ 'json[]', '[{"b" :1}, "x\\\\y"]', q(ARRAY['{"b" :1}', '"x\\\\y"']::json[]) ],
	[ 'bytea[]', '["\\\\x00ff"]', q(ARRAY['\x00ff'::bytea]) ],
	[ 'box[]', '["(1,1),(0,0)", "(3,3),(2,2)"]', "'{(1,1),(0,0);(3,3),(2,2)}'::box[]" ],
	[ 'mood[]', '["sad", "very happy"]', "ARRAY['sad', 'very happy']::mood[]" ],
	[ 'positive[]', '[1, 2.0]', "'{1,2}'::int[]" ],
	[ 'document[]', '[{"id": 1}]', q(ARRAY['{"id": 1}'::jsonb]) ],
	[ 'pair[]', '["(1,a)", "(2,\"b c\")"]', q(ARRAY['(1,a)', '(2,"b c")']::pair[]) ],
	[ 'int4range[]', '["[1,5)"]', q{ARRAY['[1,5)']::int4range[]} ],
	[ 'date[]', '["01/02/2024"]', "ARRAY['2024-01-02']::date[]" ],
);

# One table with a column for each type, and a message for each case.
my (@types, %column);
foreach my $case (@cases)
{
	my $type = $case->[0];
	next if exists $column{$type};
	$column{$type} = 'c' . @types;
	push @types, $type;
}
query('CREATE TABLE every (id int, ' . join(', ', map { "$column{$_} $_" } @types) . ')');
my $topic = create_pipeline('every', "target => 'every'");
$kafka->produce_messages($topic,
	map { { value => encode_utf8(qq({"id": $_, "$column{$cases[$_][0]}": $cases[$_][1]})) } } 0 .. $#cases);
is_deeply([ load('every', $topic) ], [], 'every value of every type is taken');

# The type's own input of the same text.
sub expected_of
{
	my ($type, $json, $expression) = @_;
	return $expression if defined $expression;
	my ($text) = $json =~ /^"(.*)"$/s;
	$text //= $json;
	$text =~ s/'/''/g;
	return "'$text'";
}

my %found = map { my @row = split /\t/, $_, -1; ($row[0] => [ @row[ 1 .. 3 ] ]) } split /\n/, query(
	"\\pset format unaligned\n\\pset fieldsep '\\t'\n\\pset null '(null)'\n" . join ' UNION ALL ',
	map {
		my ($type, $json, $expression) = @{ $cases[$_] };
		my $expected = sprintf 'CAST(%s AS %s)::text', expected_of($type, $json, $expression), $type;
		"SELECT $_, count(*) || ' row(s)', left(translate(min($column{$type}::text), E'\\n\\t', '  '), 60), "
		  . "bool_and($column{$type}::text = $expected) FROM every WHERE id = $_";
	} 0 .. $#cases);
foreach my $n (0 .. $#cases)
{
	my ($type, $json) = @{ $cases[$n] };
	my $label = encode_utf8("$type from " . (length $json > 60 ? substr($json, 0, 60) . '...' : $json));
	is_deeply($found{$n}, [ '1 row(s)', $found{$n}[1], 't' ], $label);
}
is(query('SELECT count(*) FROM every'), scalar @cases, 'there is nothing else');

# A JSON null is NULL in all of them; what is absent is the default.
my @nullable = grep { $_ ne 'short' } @types;
$kafka->produce_messages($topic,
	{ value => '{"id": -1, ' . join(', ', map { qq("$column{$_}": null) } @nullable) . '}' },
	{ value => '{"id": -2}' });
is_deeply([ load('every', $topic) ], [], 'null is taken by every type');
is(query('SELECT num_nonnulls(VARIADIC ARRAY[' . join(', ', map { "$column{$_}\::text" } @nullable) . ']) FROM every WHERE id = -1'),
	0, 'JSON null is NULL');

# ---- sources ------------------------------------------------------------------------

query(<<'END');
CREATE TABLE sources (n serial, whole jsonb, whole_text text, whole_json json, deep int, odd text, item text, second text, empty_name text, last text,
	at_ms timestamptz, at_s timestamptz, at_us timestamp, day date, day_from_string date, raw64 bytea, text64 text, rawhex bytea, inner_json jsonb, inner_number int,
	inner_text text, key_text text, key_bytes bytea, topic text, part int2, off bigint, at timestamptz, at_local timestamp, at_day date, at_text text, headers jsonb,
	header text, header_odd text, header_bytes bytea, header_number int, header_ms timestamptz, raw bytea, raw_text text, rest jsonb, rest_text text);
END
my $sources = create_pipeline('sources', q{target => 'sources', columns => $${
	"whole": "$", "whole_text": "$", "whole_json": "$", "deep": "$.a.b.c", "odd": "$[\"odd \\\\\"name\\\\\" \\u00e4\"]", "item": "$.items[0].sku", "second": "$.items[1][2]",
	"empty_name": "$[\"\"]", "last": "$.twice", "at_ms": "$.ts::epoch_ms", "at_s": "$.ts_s::epoch_s", "at_us": "$.ts_us::epoch_us", "day": "$.day::epoch_days",
	"day_from_string": "$.day_s::epoch_days", "raw64": "$.b64::base64", "text64": "$.b64t::base64", "rawhex": "$.hex::hex", "inner_json": "$.inner::json",
	"inner_number": "$.inner_n::json", "inner_text": "$.inner_t::json", "key_text": "@key", "key_bytes": "@key", "topic": "@topic", "part": "@partition", "off": "@offset",
	"at": "@timestamp", "at_local": "@timestamp", "at_day": "@timestamp", "at_text": "@timestamp", "headers": "@headers", "header": "@headers.name",
	"header_odd": "@headers[\"odd.name\"]", "header_bytes": "@headers.binary", "header_number": "@headers.number", "header_ms": "@headers.ms::epoch_ms",
	"raw": "@raw", "raw_text": "@raw", "rest": "@rest", "rest_text": "@rest"}$$});
my $value = '{"a": {"b": {"c": 7}}, "odd \"name\" \u00e4": "o", "items": [{"sku": "first"}, [1, 2, "third"]], "": "e", "twice": 1, "twice": 2,'
  . ' "ts": 1700000000123, "ts_s": 1700000000.1234567, "ts_us": -1, "day": 19723, "day_s": "-1", "b64": "AP8Q", "b64t": "w6Q=", "hex": "\\\\x00FF10",'
  . ' "inner": "{\"x\": [1, \"\\\\u00e4\"]}", "inner_n": "42.0", "inner_t": "\"quo\\\\\"ted\"", "other": {"y" : 1.50}, "more": [null], "\u0061nd": "\u00e4"}';
$kafka->produce_messages($sources,
	{ key => 'k1', value => encode_utf8("  $value\n"), timestamp => 1700000000123,
		headers => [ [ name => 'first' ], [ name => 'second' ], [ 'odd.name' => encode_utf8('ä') ], [ binary => "\x00\xff" ], [ number => '42' ], [ ms => '1700000000123' ], [ none => undef ] ] },
	{ value => '{"a": {"b": 1}, "items": [], "twice": null}', headers => [ [ name => undef ], [ binary => '' ] ] },
	{ key => '', value => '{"a": {"b": {"c": 3}}}' },
	{ value => '{"a": {"b": {"c": 1}}, "a": {"x": 1}, "items": [{"sku": "x"}], "items": 5, "twice": {"z": 1}, "twice": [1]}' });
is_deeply([ load('sources', $sources) ], [], 'every source is read');

sub column_is
{
	my ($where, $column, $expected, $name) = @_;
	my $result = query("SELECT ${column}::text IS NOT DISTINCT FROM ($expected)::text FROM sources WHERE $where");
	ok($result eq 't', $name // "$column ($where)")
	  or diag(query("SELECT ${column}::text, '!=', ($expected)::text FROM sources WHERE $where"));
	return;
}

my $literal = "\$json\$$value\$json\$";
column_is('n = 1', 'whole', "$literal\::jsonb");
column_is('n = 1', 'whole_text', $literal);
column_is('n = 1', 'whole_json', $literal);
column_is('n = 1', 'deep', '7');
column_is('n = 1', 'odd', "'o'");
column_is('n = 1', 'item', "'first'");
column_is('n = 1', 'second', "'third'");
column_is('n = 1', 'empty_name', "'e'");
column_is('n = 1', 'last', "'2'", 'of repeated fields the last counts');
column_is('n = 1', 'at_ms', "timestamptz '2023-11-14 22:13:20.123+00'");
column_is('n = 1', 'at_s', "timestamptz '2023-11-14 22:13:20.123457+00'");
column_is('n = 1', 'at_us', "timestamp '1969-12-31 23:59:59.999999'");
column_is('n = 1', 'day', "date '2024-01-01'");
column_is('n = 1', 'day_from_string', "date '1969-12-31'");
column_is('n = 1', 'raw64', q('\x00ff10'::bytea));
column_is('n = 1', 'text64', "'ä'");
column_is('n = 1', 'rawhex', q('\x00ff10'::bytea));
column_is('n = 1', 'inner_json', q('{"x": [1, "ä"]}'::jsonb));
column_is('n = 1', 'inner_number', '42');
column_is('n = 1', 'inner_text', q('quo"ted'));
column_is('n = 1', 'key_text', "'k1'");
column_is('n = 1', 'key_bytes', q('\x6b31'::bytea));
column_is('n = 1', 'topic', "'$sources'");
column_is('n = 1', 'part', '0');
column_is("n = $_", 'off', $_ - 1) foreach 1 .. 4;
column_is('n = 1', 'at', "timestamptz '2023-11-14 22:13:20.123+00'");
column_is('n = 1', 'at_local', "timestamp '2023-11-14 22:13:20.123'");
column_is('n = 1', 'at_day', "date '2023-11-14'");
column_is('n = 1', 'at_text', "'2023-11-14 22:13:20.123+00'");
column_is('n = 1', 'headers', q('{"name": ["first", "second"], "odd.name": "ä", "binary": "\\\\x00ff", "number": "42", "ms": "1700000000123", "none": null}'::jsonb));
column_is('n = 1', 'header', "'second'", 'of repeated headers the last counts');
column_is('n = 1', 'header_odd', "'ä'");
column_is('n = 1', 'header_bytes', q('\x00ff'::bytea));
column_is('n = 1', 'header_number', '42');
column_is('n = 1', 'header_ms', "timestamptz '2023-11-14 22:13:20.123+00'");
column_is('n = 1', 'raw', "convert_to('  ' || $literal || E'\\n', 'UTF8')");
column_is('n = 1', 'raw_text', "'  ' || $literal || E'\\n'");
# what no column takes of the value: $ takes the whole, so only paths count
column_is('n = 1', 'rest', q('{"other": {"y": 1.50}, "more": [null], "and": "ä"}'::jsonb));
column_is('n = 1', 'rest_text', q('{"other": {"y": 1.50}, "more": [null], "and": "ä"}'::jsonb));
column_is('n = 2', $_, 'NULL', "$_ of a message without it is NULL")
  foreach qw(deep odd item second last at_ms raw64 inner_json key_text key_bytes header header_odd header_number);
column_is('n = 2', 'headers', q('{"name": null, "binary": ""}'::jsonb));
column_is('n = 2', 'header_bytes', q(''::bytea));
column_is('n = 2', 'rest', q('{}'::jsonb));
column_is('n = 3', 'key_text', "''", 'an empty key is no missing key');
column_is('n = 3', 'headers', "'{}'::jsonb", 'no headers are {}');
column_is('n = 4', 'deep', 'NULL', 'a repeated object replaces the earlier one whole');
column_is('n = 4', 'item', 'NULL', 'a scalar in place of an array, too');
column_is('n = 4', 'last', "'[1]'");

# columns that are named so take the metadata
query('CREATE TABLE by_name (id int, _topic text, _partition int, _offset bigint, _timestamp timestamptz, _key int, _headers jsonb, _rest jsonb, "Id" int, _raw text)');
my $by_name = create_pipeline('by_name', "target => 'by_name'");
$kafka->produce_messages($by_name, { key => '17', value => '{"id": 1, "Id": 2, "ID": 3, "_topic": "x", "_raw": "r", "z": [1]}', timestamp => 1000, headers => [ [ h => 'v' ] ] });
is_deeply([ load('by_name', $by_name) ], [], 'mapped by name');
is(query('SELECT id, _topic, _partition, _offset, _timestamp, _key, _headers, _rest, "Id", _raw FROM by_name'),
	"1|$by_name|0|0|1970-01-01 00:00:01+00|17|{\"h\": \"v\"}|{\"z\": [1], \"ID\": 3, \"_topic\": \"x\"}|2|r", 'names are exact, and _topic to _rest are metadata');

# a JSON key
query('CREATE TABLE json_key (key_whole jsonb, key_id int, key_text text, key_hex bytea, value int, raw bytea)');
my $json_key = create_pipeline('json_key', q{target => 'json_key', key_format => 'json',
	columns => '{"key_whole": "@key", "key_id": "@key.id", "key_text": "@key.list[1]", "key_hex": "@key.hex::hex", "value": "$.v", "raw": "@raw"}'});
$kafka->produce_messages($json_key,
	{ key => '{"id": 5, "list": ["a", "b"], "hex": "ff"}', value => '{"v": 1}' },
	{ value => '{"v": 2}' },
	{ key => '"scalar"', value => '{"v": 3}' },
	{ key => "\0\0\0\0\2" . '{"id": 6}', value => "\0\0\0\0\1" . '{"v": 4}' });
is_deeply([ load('json_key', $json_key) ], [], 'keys that are JSON');
is(query('SELECT key_whole, key_id, key_text, key_hex, value FROM json_key ORDER BY value'),
	qq({"id": 5, "hex": "ff", "list": ["a", "b"]}|5|b|\\xff|1\n||||2\n"scalar"||||3\n{"id": 6}|6|||4), 'and paths into them');
is(query('SELECT raw FROM json_key WHERE value = 4'), '\x00000000017b2276223a20347d', 'framing of a schema registry is passed over, but is in @raw');

# "*", null and defaults
query('CREATE TABLE star (a int, b int DEFAULT 7, created_by text DEFAULT current_user, _offset bigint, zone text DEFAULT current_setting(\'timezone\'), "*" int)');
my $star = create_pipeline('star', q{target => 'star', columns => '{"b": "$.other.b", "created_by": null, "*": "$.payload.*"}'});
$kafka->produce_messages($star,
	{ value => '{"payload": {"a": 1, "created_by": "x", "*": 5}, "other": {"b": 2}, "a": 9}' },
	{ value => '{"payload": {"a": 2, "b": 8}}' },
	{ value => '{"payload": {"a": null}, "other": {"b": null}}' });
is_deeply([ load('star', $star) ], [], 'mapped by a star');
my $me = query('SELECT current_user');
is(query('SELECT * FROM star ORDER BY _offset'), "1|2|$me|0|UTC|5\n2|7|$me|1|UTC|\n||$me|2|UTC|",
	'"*" maps the others, null leaves a default, absent is the default, null is NULL');

# ---- what is absent, tombstones --------------------------------------------------------

query('CREATE TABLE absent (a int, b int DEFAULT 5)');
my $absent = create_pipeline('absent', q{target => 'absent', on_missing => 'error'});
$kafka->produce_messages($absent, { value => '{"a": 1, "b": 2}' }, { value => '{"a": 2}' }, { value => '{"a": 3, "b": null}' }, { value => undef, key => 'k' });
like((load('absent', $absent))[0], qr/offset 1 .*the mapped field is not present .*column "b"/, 'on_missing error: an absent field is a bad message');
is(query('SELECT * FROM absent ORDER BY a'), "1|2\n3|", 'and null is not absent');
is(query("SELECT messages, loaded, ignored FROM kafka_ingest.status WHERE pipeline = 'absent'"), '3|2|1', 'a tombstone is skipped and counted as ignored');

query('CREATE TABLE tombstones (a int)');
my $tombstones = create_pipeline('tombstones', q{target => 'tombstones', on_tombstone => 'error'});
$kafka->produce_messages($tombstones, { value => '{"a": 1}' }, { value => undef, key => 'k' }, { value => '{"a": 2}' });
like((load('tombstones', $tombstones))[0], qr/offset 1 .*the message is a tombstone/, 'on_tombstone error');
is(query('SELECT * FROM tombstones ORDER BY a'), "1\n2", 'what is around it is loaded');

# ---- targets ----------------------------------------------------------------------------

query(<<'END');
CREATE TABLE identity (id int GENERATED BY DEFAULT AS IDENTITY (START 100), always int GENERATED ALWAYS AS IDENTITY, a int, twice int GENERATED ALWAYS AS (a * 2) STORED);
CREATE TABLE partitioned (region text, day date, id bigint GENERATED BY DEFAULT AS IDENTITY) PARTITION BY LIST (region);
CREATE TABLE partitioned_eu PARTITION OF partitioned FOR VALUES IN ('eu') PARTITION BY RANGE (day);
CREATE TABLE partitioned_eu_2024 PARTITION OF partitioned_eu FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE partitioned_rest (id bigint NOT NULL, extra text, day date, region text);
ALTER TABLE partitioned_rest DROP COLUMN extra;
ALTER TABLE partitioned ATTACH PARTITION partitioned_rest DEFAULT;
CREATE TABLE base (a int, note text DEFAULT 'base default', hidden text DEFAULT 'hidden');
CREATE VIEW updatable AS SELECT note, a FROM base WHERE a < 100 WITH CHECK OPTION;
ALTER VIEW updatable ALTER note SET DEFAULT 'view default';
CREATE TABLE left_side (a int);
CREATE TABLE right_side (b text);
CREATE VIEW both_sides AS SELECT a, b FROM left_side, right_side;
CREATE FUNCTION split() RETURNS trigger LANGUAGE plpgsql AS
'BEGIN INSERT INTO left_side VALUES (NEW.a); INSERT INTO right_side VALUES (NEW.b); RETURN NEW; END';
CREATE TRIGGER split INSTEAD OF INSERT ON both_sides FOR EACH ROW EXECUTE FUNCTION split();
CREATE TABLE triggered (a int, seen text);
CREATE TABLE statements (n bigint);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $f$
BEGIN
	IF NEW.a = 3 THEN RETURN NULL; END IF;
	NEW.seen := format('%s %s', current_setting('timezone'), NEW.a);
	RETURN NEW;
END $f$;
CREATE FUNCTION counted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO statements SELECT count(*) FROM added; RETURN NULL; END';
CREATE TRIGGER note BEFORE INSERT ON triggered FOR EACH ROW EXECUTE FUNCTION note();
CREATE TRIGGER counted AFTER INSERT ON triggered REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION counted();
CREATE TABLE parent (id int PRIMARY KEY);
INSERT INTO parent VALUES (1), (2);
CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent, self int REFERENCES child DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE ruled (a int);
CREATE TABLE ruled_log (a int);
CREATE RULE also AS ON INSERT TO ruled DO ALSO INSERT INTO ruled_log VALUES (NEW.a);
CREATE TABLE "Odd ""target""" ("Odd ""column""" int, "select" text);
CREATE TABLE dropped (gone int, a int, gone_too text, b text);
ALTER TABLE dropped DROP COLUMN gone, DROP COLUMN gone_too;
END
my %targets = (
	identity    => [ '{"a": 1}', '{"a": 2, "id": 7, "always": 9, "twice": 9}', '{"a": 3}' ],
	partitioned => [ '{"region": "eu", "day": "2024-05-06"}', '{"region": "us", "day": "2024-05-06"}', '{"region": null, "day": "01/02/2020", "id": 50}' ],
	updatable   => [ '{"a": 1, "hidden": "no"}', '{"a": 2, "note": "mine"}' ],
	both_sides  => [ '{"a": 1, "b": "x"}', '{"a": 2, "b": "y"}' ],
	triggered   => [ map { qq({"a": $_}) } 1 .. 4 ],
	# one that refers to a later one of the same batch
	child       => [ '{"id": 1, "parent": 1, "self": 2}', '{"id": 2, "parent": 2, "self": 1}' ],
	ruled       => [ '{"a": 1}', '{"a": 2}' ],
	dropped     => [ '{"a": 1, "b": "x", "gone": 2, "........pg.dropped.1........": 3}' ],
	'"Odd ""target"""' => [ '{"Odd \"column\"": 1, "select": "s"}' ],
);
foreach my $target (sort keys %targets)
{
	(my $name = $target) =~ s/\W+/_/g;
	my $topic_of = create_pipeline($name, "target => '$target', paused => true");
	$kafka->produce_messages($topic_of, map { { value => $_ } } @{ $targets{$target} });
	query("SELECT kafka_ingest.resume('$name')");
	is_deeply([ load($name, $topic_of) ], [], "target $target");
}
is(query('SELECT a, id, always, twice FROM identity ORDER BY a'), "1|100|1|2\n2|7|2|4\n3|101|3|6", 'identity and generated columns');
is(query('SELECT tableoid::regclass, region, day, id FROM partitioned ORDER BY 1, 2'),
	"partitioned_eu_2024|eu|2024-05-06|1\npartitioned_rest|us|2024-05-06|2\npartitioned_rest||2020-01-02|50", 'rows find their partitions');
is(query('SELECT a, note, hidden FROM base ORDER BY a'), "1|view default|hidden\n2|mine|hidden", "an updatable view, its default before the table's");
is(query('SELECT a, b FROM left_side JOIN right_side ON (a = 1) = (b = \'x\') ORDER BY a'), "1|x\n2|y", 'a view with an INSTEAD OF trigger');
is(query('SELECT a, seen FROM triggered ORDER BY a'), "1|UTC 1\n2|UTC 2\n4|UTC 4", 'BEFORE triggers may change a row or take it away');
is(query('SELECT sum(n) FROM statements'), 3, 'a transition table has the rows');
is(query("SELECT loaded, ignored FROM kafka_ingest.status WHERE pipeline = 'triggered'"), '4|0', 'what a trigger takes away was loaded all the same');
is(query('SELECT id, parent, self FROM child ORDER BY id'), "1|1|2\n2|2|1", 'foreign keys, deferred ones too');
is(query('SELECT (SELECT count(*) FROM ruled), (SELECT count(*) FROM ruled_log)'), '2|2', 'a rule');
is(query('SELECT a, b FROM dropped'), '1|x', 'a table with dropped columns');
is(query('TABLE "Odd ""target"""'), '1|s', 'odd names');

done_testing();
