# The JSON scanner reads what the server's jsonb and json read, and refuses what
# they refuse: all of JSONTestSuite, and mutations of it and of our own documents.

use strict;
use warnings;

use File::Basename qw(basename);
use IngestCluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $mutations = 5000;
my $compositions = 3000;
my $data = 'test/data/JSONTestSuite';
my $node = IngestCluster->new('oracle', faults => 1, preload => '');

sub query
{
	my ($sql, $database) = @_;
	return $node->safe_psql($database // 'postgres', $sql);
}

# ---- documents: [ name, bytes ] -------------------------------------------------------------

my @documents = map { [ basename($_), slurp_file($_) ] } sort glob "$data/test_parsing/*.json $data/test_transform/*.json";
is(scalar(grep { $_->[0] =~ /^[yni]_/ } @documents), 318, 'all parsing cases of JSONTestSuite are there');

# Ours have fields that the paths lead to, in every order and nesting.
my @own = map { [ basename($_), slurp_file($_) ] } sort glob 'test/fuzz/seeds/*.json';
cmp_ok(scalar @own, '>=', 18, 'and documents of our own');
push @documents, @own;

srand(4711);
my @seeds = grep { length $_ < 1000 } map { $_->[1] } @documents, (@own) x 7;
my @pieces = ('{', '}', '[', ']', ':', ',', '"', '\\', '""', '{}', '[]', '{"a":', '{"a":{"b":', '[1,', '"b":1,', '"x"', 'null', 'tru', ('\u0000') x 3, '\u0061', '\u00E4', '\ud83d', '\ude00',
	'\ud83d\ude00', '\n', '\x', '\u12', '0', '-', '1', '.', 'e', 'E+', '1e5', '-0.5', '00', ' ', "\t", "\n", "\r\n  ", "\f", "\0", "\x7f", "\x80", "\xff", "\xc3\xa4", "\xc3", "\xc0\x80", "\xed\xa0\x80",
	"\xf4\x90\x80\x80", "\xf0\x9f\x98\x80", "\xef\xbb\xbf", ' ' x 17, 'x' x 15, 'y' x 16, '\\\\' x 9, "\xe2\x82\xac" x 6);

sub mutate
{
	my ($bytes) = @_;
	my $at = int rand(1 + length $bytes);
	my $kind = int rand 8;
	return substr($bytes, 0, $at) if $kind == 0;
	return ('[' x (1 + int rand 20)) . $bytes . (rand() < 0.9 ? ']' x (1 + int rand 20) : '') if $kind == 1;
	return '{"a":' . $bytes . ',"b":' . $seeds[ rand @seeds ] . '}' if $kind == 2;
	if ($kind == 3 && $at < length $bytes)
	{
		substr($bytes, $at, 1) = chr(ord(substr $bytes, $at, 1) ^ 1 << int rand 8);
		return $bytes;
	}
	if ($kind == 4)
	{
		substr($bytes, $at, 1 + int rand 3) = '';
		return $bytes;
	}
	substr($bytes, $at, 0) = $pieces[ rand @pieces ];
	return $bytes;
}

foreach my $n (1 .. $mutations)
{
	my $bytes = $seeds[ rand @seeds ];
	$bytes = mutate($bytes) foreach 0 .. int rand 3;
	push @documents, [ "mutation $n", $bytes ];
}

# Valid documents, with names that the paths have, in all spellings.
my @names = (qw("a" "a" "a" "b" "b" "c" "asd" "x" "y" "" "\u0061" "as\u0064" "\u00e4" "\ud83d\ude00" "rest"), '"\"\\\\\n"', qq("\xc3\xa4"), qq("\xf0\x9f\x98\x80"), '"a name of more than sixteen bytes"', '"\u0061 name of more than sixteen bytes"');
my @scalars = (qw(null true false 0 -0 1.50 -12.5e-3 1E+10 12345678901234567890.0 "x" "\u20ac\n" ""), '"\\\\"', qq("\xe2\x82\xac \x7f"), '"longer than the sixteen bytes of a step"', '"' . 'x' x 15 . '"', '"' . 'x' x 31 . '\\\\"');
my @spaces = ('', '', '', ' ', "\n", "\n" . ' ' x 9, "\r\n\t", "\n" . ' ' x 33);

sub space { return $spaces[ rand @spaces ] }

sub compose
{
	my ($depth) = @_;
	my $kind = $depth > 4 ? 0 : int rand 3;
	return $scalars[ rand @scalars ] if $kind == 0;
	my @values = map { space() . compose($depth + 1) . space() } 1 .. int rand 5;
	return '[' . (join(',', @values) || space()) . ']' if $kind == 1;
	return '{' . (join(',', map { space() . $names[ rand @names ] . space() . ":$_" } @values) || space()) . '}';
}

foreach my $n (1 .. $compositions)
{
	push @documents, [ "composition $n", space() . compose($n % 3) . space() ];
}

sub load
{
	my ($database) = @_;
	query("CREATE TABLE documents (id int, name text, document bytea);\nCOPY documents FROM stdin;\n"
		  . join('', map { "$_\t$documents[$_][0]\t\\\\x" . unpack('H*', $documents[$_][1]) . "\n" } 0 .. $#documents)
		  . "\\.\nCREATE FUNCTION test_decode(bytea, text[]) RETURNS text[] LANGUAGE C STRICT AS 'kafka_ingest', 'kafka_ingest_test_decode'",
		$database);
	return;
}

# ---- paths: as a source of a mapping, and as steps of the operator -> ------------------------

my @paths = (
	[ '$' ],
	[ '$.a', q('a') ],
	[ '$.a.b', q('a'), q('b') ],
	[ '$.a.b.c', q('a'), q('b'), q('c') ],
	[ '$.a[0]', q('a'), 0 ],
	[ '$.a[2].b', q('a'), 2, q('b') ],
	[ '$.a[2]', q('a'), 2 ],
	[ '$.b', q('b') ],
	[ '$.b', q('b') ],
	[ '$[""]', q('') ],
	[ '$.asd', q('asd') ],
	[ '$["a name of more than sixteen bytes"]', q('a name of more than sixteen bytes') ],
	[ '$["\u00e4"]', q(U&'\00e4') ],
	[ '$["\ud83d\ude00"]', q(U&'\+01F600') ],
	[ '$["\"\\\\\n"]', q(E'"\\\\\n') ],
	[ '$[0]', 0 ],
	[ '$[1].a', 1, q('a') ],
	[ '$[0][1].a', 0, 1, q('a') ],
	[ '$[3]', 3 ],
);
my $sources = 'ARRAY[' . join(', ', map { "\$s\$$_->[0]\$s\$" } @paths) . ']';

# Of a scalar, jsonb's -> would give the element 0: that of json does not.
sub steps
{
	my ($value, undef, @steps) = @_;
	foreach my $step (@steps)
	{
		$value = $step =~ /^\d/ && $value !~ /json/ ? "element($value, $step)" : "($value -> $step)";
	}
	return $value;
}

# What the server says.  Of a number that jsonb cannot hold the digits of its
# exponent are cut: the grammar stays what it is.
load('postgres');
query(<<'END');
CREATE FUNCTION oracle(document bytea, OUT code text, OUT d jsonb) LANGUAGE plpgsql AS $$
BEGIN
	d := convert_from(document, 'UTF8')::jsonb;
	code := '00000';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE;
	IF code = '22003' THEN
		BEGIN
			d := regexp_replace(convert_from(document, 'UTF8'), '([eE][+-]?[0-9]{3})[0-9]+', '\1', 'g')::jsonb;
			code := 'range';
		EXCEPTION WHEN OTHERS THEN
			GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE;
		END;
		d := NULL;
	END IF;
END $$;
CREATE FUNCTION element(value jsonb, index int) RETURNS jsonb LANGUAGE sql IMMUTABLE AS
$$ SELECT CASE jsonb_typeof(value) WHEN 'array' THEN value -> index END $$;
CREATE FUNCTION unframed(document bytea) RETURNS bytea LANGUAGE sql IMMUTABLE AS
$$ SELECT CASE WHEN length(document) >= 5 AND get_byte(document, 0) = 0 THEN substr(document, 6) ELSE document END $$;
END
query("CREATE TABLE verdicts AS SELECT id, name, document, o.code, o.d, test_decode(document, $sources) AS found FROM documents, oracle(unframed(document)) o");

# The one difference: bytes that begin with a BOM are told to do so, where the
# server may say that they are not UTF-8.
my $expected = q(CASE WHEN code = 'range' THEN '00000' WHEN substr(unframed(document), 1, 2) IN ('\xfeff', '\xfffe') OR substr(unframed(document), 1, 3) = '\xefbbbf' THEN '22P02' ELSE code END);
is(query("SELECT name, $expected, found[1], found[2], encode(substr(document, 1, 200), 'escape') FROM verdicts WHERE found[1] IS DISTINCT FROM $expected ORDER BY id LIMIT 20"),
	'', 'every document is taken, or refused with the same SQLSTATE');
foreach my $case ([ '00000', 3000 ], [ 'range', 1 ], [ '22P02', 3000 ], [ '22P05', 30 ], [ '22021', 200 ], [ '54001', 2 ])
{
	my ($code, $least) = @$case;
	cmp_ok(query("SELECT count(*) FROM verdicts WHERE code = '$code'"), '>=', $least, "there are documents with $code");
}
is(query("SELECT name, code FROM verdicts WHERE name ~ '^composition' AND code <> '00000' ORDER BY id LIMIT 10"), '', 'what was composed is valid');
is(query("SELECT name, found[1] FROM verdicts WHERE name ~ '^y_' AND found[1] <> '00000' AND name !~ 'null' OR name ~ '^n_' AND found[1] = '00000' ORDER BY id"),
	'', 'JSONTestSuite is of the same opinion, but for \u0000');

# Values: json keeps the source text, jsonb tells what it means.
my @kinds;
foreach my $n (0 .. $#paths)
{
	my $value = steps('d', @{ $paths[$n] });
	my $source = steps("convert_from(unframed(document), 'UTF8')::json", @{ $paths[$n] });
	my ($json, $text) = map { "found[$_]" } 4 + 2 * $n, 5 + 2 * $n;
	is(query(<<"END"), '', "the values of $paths[$n][0]");
SELECT name, $json, $text, v, s, encode(substr(document, 1, 200), 'escape')
FROM verdicts, LATERAL (SELECT $value AS v, btrim(($source)::text, E' \\t\\r\\n') AS s) o
WHERE code = '00000' AND found[1] = code
	AND ($json IS DISTINCT FROM s OR $json\::jsonb IS DISTINCT FROM v
		OR $text IS DISTINCT FROM CASE jsonb_typeof(v) WHEN 'string' THEN v #>> '{}' ELSE s END)
ORDER BY id LIMIT 10
END
	push @kinds, "SELECT jsonb_typeof($value) AS kind FROM verdicts WHERE code = '00000'";
}
is(query('SELECT string_agg(DISTINCT kind, $$ $$ ORDER BY kind) FROM (' . join(' UNION ALL ', @kinds) . ') k'),
	'array boolean null number object string', 'among them every kind');

my @taken = map { $_->[1] } grep { @$_ > 1 && $_->[1] !~ /^\d/ } @paths;
is(query("SELECT name, found[3], d FROM verdicts WHERE code = '00000' AND found[3]::jsonb IS DISTINCT FROM"
	  . " (CASE jsonb_typeof(d) WHEN 'object' THEN d - ARRAY[" . join(', ', @taken) . "] END) ORDER BY id LIMIT 10"),
	'', 'the rest is the fields that no path enters');
my @present = map { 'CASE WHEN found[' . (4 + 2 * $_) . '] IS NULL THEN 0 ELSE 1 END' } 1 .. $#paths;
is(query("SELECT name, found FROM verdicts WHERE found[1] = '00000' AND found[2]::int <> " . join(' + ', @present) . ' ORDER BY id LIMIT 10'),
	'', 'the number of fields that are present');

# ---- depth ----------------------------------------------------------------------------------

# Not more than jsonb takes: what is decoded can be stored.
foreach my $case ([ '[', ']' ], [ '{"a":', '}' ], [ '{"x":', '}' ])
{
	my ($open, $close) = @$case;
	my $deep = sub { return "convert_to(repeat('$open', $_[0]) || '1' || repeat('$close', $_[0]), 'UTF8')" };
	is(query('SELECT (test_decode(' . $deep->(10_000) . ", '{\$.a.a.b}'))[1], code FROM oracle(" . $deep->(10_000) . ')'),
		'00000|00000', "10,000 of $open are taken, and by jsonb");
	is(query('SELECT test_decode(' . $deep->(10_001) . ", '{\$.a.a.b}')"),
		'{54001,"invalid JSON: more than 10000 arrays and objects are nested"}', 'and not one more');
}

# ---- places -----------------------------------------------------------------------------------

foreach my $case (
	[ '{"a": 1,\n "b" 2}', 'line 2, near byte 15: a colon is missing' ],
	[ '[1 2]', 'line 1, near byte 4: an array element, a comma or the array\'s end is missing' ],
	[ '{"a": 1 "b"}', 'line 1, near byte 9: a field, a comma or the object\'s end is missing' ],
	[ '{"a": 1, 2}', 'line 1, near byte 10: a field\'s name is missing' ],
	[ '{"a":\n\n}', 'line 3, near byte 8: a value is missing' ],
	[ '{"a": [1,', 'line 1, near byte 10: a value is missing' ],
	[ '{} {}', 'line 1, near byte 4: something follows the document' ],
	[ '{"a": 1, "x": 012}', 'line 1, near byte 15: there is no valid token' ],
	[ '{"a": 1, "x": "y\\\\q"}', 'line 1, near byte 15: an escape is invalid' ],
	[ '{"a": 1, "x": ["\\\\ud800"]}', 'line 1, near byte 16: half of a surrogate pair stands alone' ],
	[ '\n["a\n"]', 'line 2, near byte 3: a control character is not escaped' ])
{
	my ($document, $place) = @$case;
	is(query("SELECT (test_decode(convert_to(E'$document', 'UTF8'), '{\$.a}'))[2]"), "invalid JSON in $place", "where $document is wrong");
}

# ---- a database of another encoding -------------------------------------------------------------

query("CREATE DATABASE latin1 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0");
load('latin1');
(my $latin1_sources = $sources) =~ s/\$s\$\$\["\\ud83d\\ude00"\]\$s\$/'\$.x'/;
my @data = map { 'CASE WHEN found[' . (4 + 2 * $_) . "] LIKE '\"%' THEN found[" . (5 + 2 * $_) . '] END' } grep { $paths[$_][0] !~ /ud83d/ } 1 .. $#paths;
my $digest = 'id, found[1] AS code, md5(convert_to(ARRAY[' . join(', ', @data) . "]::text, 'UTF8')) AS digest";
query("CREATE TABLE latin1 (id int, code text, digest text);\nCOPY latin1 FROM stdin;\n"
	  . query("COPY (SELECT $digest FROM (SELECT id, test_decode(document, $latin1_sources) AS found FROM documents) f) TO stdout", 'latin1')
	  . "\n\\.\n");
is(query("SELECT name, found[1], l.code, found[2] FROM verdicts v JOIN latin1 l USING (id) WHERE found[1] <> l.code AND NOT (found[1] = '00000' AND l.code = '22P05') ORDER BY id LIMIT 10"),
	'', 'in LATIN1 the same is refused, and beside it only characters it does not have');
is(query("SELECT count(*) FROM latin1 l JOIN verdicts v USING (id) WHERE found[1] = '00000' AND l.code <> found[1]"
	  . " AND array_to_string(found, '') !~ '[^\\u0001-\\u00ff]' AND array_to_string(found, '') !~ '\\\\u'"), 0, 'and only where there are some');
is(query("SELECT u.id FROM (SELECT $digest FROM verdicts) u JOIN latin1 l USING (id) WHERE u.code = '00000' AND l.code = u.code AND u.digest <> l.digest ORDER BY u.id LIMIT 10"),
	'', 'strings have the same characters');
cmp_ok(query("SELECT count(found[4]::jsonb) FROM (SELECT test_decode(document, $latin1_sources) AS found FROM documents) f"
	  . q( WHERE found[1] = '00000' AND found[4] ~ '\\\\u' AND found[4] !~ '[eE][+-]?[0-9]{4}'), 'latin1'), '>=', 20, 'jsonb takes their escapes');
is(query("SELECT count(*) FROM latin1") + 0, scalar @documents, 'of all documents');

done_testing();
