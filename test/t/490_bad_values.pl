# Every value that a message may hold and a column may not: one by one it becomes a
# dead letter with the right stage and SQLSTATE and its exact bytes, or a row with
# exactly the right value, and what is beside it in the batch is loaded. The numbers
# are those of a list of faults (C 1 to C 33); none may be left out.

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use Lines;
use Test::More;
use Time::HiRes ();
use ValueCases;

my $kafka = KafkaBroker->shared;
# settings that would change what values mean, if they counted
my $node = IngestCluster->new('main', conf => <<'END');
track_commit_timestamp = on
timezone = 'Asia/Kathmandu'
datestyle = 'SQL, DMY'
END
my $lines = Lines->new('C', 1 .. 33);
my @tables;
my $is_16 = $node->pg_version >= 16;

$node->connect_kafka($kafka);

sub query { my ($sql, %options) = @_; return $node->safe_psql($options{dbname} // 'postgres', $sql) }

sub cases
{
	my (@arguments) = @_;
	push @tables, ValueCases->new($node, $kafka, @arguments);
	return $tables[-1];
}

# Creation is refused with this SQLSTATE, and nothing is made.
sub refused
{
	my ($arguments, $code, $name) = @_;
	my $err;
	$node->psql('postgres', "\\set VERBOSITY verbose\nSELECT kafka_ingest.create_pipeline('refused', $arguments)", stderr => \$err);
	like($err, qr/ERROR:  $code: /, "$name: refused with $code");
	is(query(q{SELECT count(*) FROM kafka_ingest.pipelines WHERE pipeline = 'refused'}), 0, "$name: none is made");
	return;
}

# ---- documents: lines 1 to 15 ----------------------------------------------------------

my $docs = cases('docs', columns => 't text, b jsonb, j json, _key text, deep jsonb',
	neighbour => sub { return { value => qq({"id": $_[0]}), key => "k$_[0]" } });

# A document that is no document, or one that cannot be stored.
sub no_document
{
	my ($line, $name, $value, $code, $stage) = @_;
	$docs->add($line, $name, { value => $value, key => 'k' }, bad => [ $code, $stage // 'decode' ]);
	return;
}

$docs->add(1, 'a tombstone', { key => 'k', value => undef }, skipped => undef);
no_document(2, 'no bytes', '', '22P02');
$docs->add(3, 'no key', { value => '{"id": 3, "t": "null"}' }, good => { t => 'null', _key => undef });
$docs->add(3, 'an empty key', { value => '{"id": 3, "t": "empty"}', key => '' }, good => { t => 'empty', _key => '' });
no_document(4, 'blanks', " \t\r\n", '22P02');
no_document(4, "a whole document $_", $_, '22035', 'map') foreach 'null', '[]', '"x"', '42';
no_document(5, @$_, '22P02') foreach [ 'truncated' => '{"id": 1, "t": "a' ], [ 'a trailing comma' => '{"id": 1,}' ],
  [ 'a comma at an end' => '[1,]' ], [ 'two documents' => '{"id": 1} {"id": 2}' ], [ 'trailing junk' => '{"id": 1} x' ];
no_document(6, 'a BOM', "\xef\xbb\xbf" . '{"id": 1}', '22P02');
no_document(6, 'UTF-16, little end first', "\xff\xfe" . join('', map { "$_\0" } split //, '{"id": 1}'), '22P02');
no_document(6, 'UTF-16, big end first', "\xfe\xff" . join('', map { "\0$_" } split //, '{"id": 1}'), '22P02');
no_document(6, 'UTF-16 without a BOM', join('', map { "$_\0" } split //, '{"id": 1}'), '22021');
no_document(7, @$_, '22021') foreach [ '0xFF' => qq({"t": "\xff"}) ], [ 'overlong' => qq({"t": "\xc0\xaf"}) ],
  [ 'a CESU surrogate' => qq({"t": "\xed\xa0\x80"}) ], [ 'where nothing maps it' => qq({"id": 1, "x": "\xff"}) ];
$docs->bad(8, $_ => '"a\u0000b"', '22P05', 'decode') foreach qw(t b j);
$docs->bad(8, b => '{"a\u0000": 1}', '22P05', 'decode');
$docs->good(8, t => '"a\\\\u0000b"', 'a\u0000b');
no_document(9, 'a NUL byte in a string', qq({"t": "a\0b"}), '22021');
no_document(9, 'a NUL byte behind', qq({"t": "a"}\0), '22021');
$docs->add(9, 'a NUL byte in a key', { value => '{"id": 9}', key => "a\0b" }, bad => [ '22021', 'map', '_key' ]);
$docs->bad(10, t => "\"$_\"", '22P02', 'decode') foreach '\ud800', '\udc00\ud800', '\ud800x';
$docs->good(10, t => '"\ud83d\ude00"', "\xf0\x9f\x98\x80");
$docs->add(12, 'duplicate names', { value => '{"id": 0, "t": "first", "b": {"a": 1, "a": 2}, "t": "last", "j": {"a": 1, "a": 2}}' },
	good => { t => 'last', b => '{"a": 2}', j => '{"a": 1, "a": 2}' });
$docs->add(12, 'the last is null', { value => '{"id": 0, "t": "first", "t": null}' }, good => { t => undef });
$docs->add(12, 'the first is bad', { value => '{"id": "x", "t": "kept", "id": 7}' }, good => { t => 'kept', id => '7' });
$docs->add(13, 'another case', { value => '{"id": 5, "T": "no", "ID": 6, "t": "yes"}' }, good => { id => '5', t => 'yes' });
$docs->add(13, 'only another case', { value => '{"ID": 6, "T": "no"}' }, bad => [ '22035', 'map' ]);
$docs->add(13, 'an empty name', { value => '{"id": 5, "": {"": 1}}' }, good => { id => '5', t => undef });
$docs->add(13, 'a name with \u0000', { value => '{"id": 5, "t\u0000": 1}' }, bad => [ '22P05', 'decode' ]);
$docs->add(13, 'a name with a NUL byte', { value => qq({"id": 5, "t\0": 1}) }, bad => [ '22021', 'decode' ]);
$docs->add(14, '10,000 names', { value => '{' . join(', ', map { qq("name$_": $_) } 1 .. 10_000) . ', "t": "after"}' }, good => { t => 'after' });
foreach my $depth (64, 2048, 2049, 5000)
{
	my $deep = '[' x $depth . ']' x $depth;
	$docs->good(15, deep => $deep, $deep);
	$docs->good(15, t => $deep, $deep);
}
# what nothing maps is passed over, but not without end
$docs->add(15, '9,999 deep, unmapped', { value => '{"id": 15, "x": ' . '[' x 9999 . ']' x 9999 . '}' }, good => { id => '15' });
$docs->bad(15, t => '[' x 10_000 . ']' x 10_000, '54001', 'decode');
$docs->bad(15, x => '[' x 900_000, '54001', 'decode');

my $errors = cases('errors', columns => 't text', arguments => q{on_tombstone => 'error'});
$errors->add(1, 'a tombstone that is an error', { key => 'k', value => undef }, bad => [ '22004', 'decode' ]);

# without a path nothing is decoded
my $raws = cases('raws', columns => 'raw bytea, k bytea',
	arguments => q{columns => '{"raw": "@raw", "k": "@key", "_offset": "@offset"}'});
$raws->add(1, 'a tombstone', { value => undef }, skipped => undef);
$raws->add(2, 'no bytes', { value => '' }, good => { raw => '\x', k => undef });
$raws->add(3, 'no key', { value => 'a' }, good => { raw => '\x61', k => undef });
$raws->add(3, 'an empty key', { value => 'a', key => '' }, good => { raw => '\x61', k => '\x' });
$raws->add(7, 'bytes that are no UTF-8', { value => "\xff\xc0\xaf", key => "\xff" }, good => { raw => '\xffc0af', k => '\xff' });
$raws->add(9, 'a NUL byte', { value => "a\0b", key => "\0" }, good => { raw => '\x610062', k => '\x00' });

my $whole = cases('whole', columns => 'doc jsonb', arguments => q{columns => '{"doc": "$", "_offset": "@offset"}'});
$whole->add(4, 'blanks', { value => " \t\r\n" }, bad => [ '22P02', 'decode' ]);
$whole->add(4, "a whole document $_", { value => $_ }, good => { doc => $_ }) foreach '[]', '"x"', '42';
$whole->add(4, 'a whole document null', { value => 'null' }, good => { doc => undef });

# ---- other encodings: line 11 -----------------------------------------------------------

my @encodings = ([ 'latin1', 'LATIN1' ], [ 'ascii', 'SQL_ASCII' ]);
my %in_encoding;
foreach my $encoding (@encodings)
{
	my ($dbname, $name) = @$encoding;
	query("CREATE DATABASE $dbname TEMPLATE template0 ENCODING '$name' LC_COLLATE 'C' LC_CTYPE 'C'");
	query('CREATE EXTENSION kafka_ingest', dbname => $dbname);
	$node->connect_kafka($kafka, dbname => $dbname);
	my $cases = $in_encoding{$dbname} = cases("in_$dbname", dbname => $dbname, columns => 't text, b jsonb, j json');
	my $is_latin = $dbname eq 'latin1';
	# both spellings of an a with two dots, and of a character that Latin-1 does not have
	my $dots = $is_latin ? "\xe4" : "\xc3\xa4";
	foreach my $spelling ("\xc3\xa4", '\u00e4')
	{
		$cases->good(11, t => "\"$spelling\"", $dots);
		$cases->good(11, b => "\"$spelling\"", "\"$dots\"");
	}
	foreach my $spelling ("\xf0\x9f\x98\x80", '\ud83d\ude00')
	{
		if ($is_latin)
		{
			$cases->bad(11, $_ => "[\"$spelling\"]", '22P05', 'decode') foreach qw(t b j);
			# unmapped, it is of no consequence
			$cases->add(11, 'an emoji that nothing maps', { value => "{\"id\": 1, \"x\": \"$spelling\"}" }, good => { id => '1' });
			next;
		}
		$cases->good(11, t => "\"$spelling\"", "\xf0\x9f\x98\x80");
		$cases->good(11, b => "\"$spelling\"", "\"\xf0\x9f\x98\x80\"");
	}
	# even where the database would take any bytes
	$cases->add(11, 'bytes that are no UTF-8', { value => "{\"t\": \"\xe4\"}" }, bad => [ '22021', 'decode' ]);
}

# ---- values of types: lines 17 to 29 ------------------------------------------------------

query(<<'END');
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE TYPE pair AS (number int, text text);
CREATE DOMAIN positive AS int CONSTRAINT is_positive CHECK (VALUE > 0);
END
my $typed = cases('typed', columns => 'i2 int2, i4 int4, i8 bigint, n numeric, f8 float8, t text, j json, b jsonb, bo boolean, d date, tm time, ts timestamp, tz timestamptz,
	m mood, u uuid, ip inet, pos positive, v varchar(3), p pair, ai int[]');

$typed->good(17, i8 => $_, $_) foreach '9223372036854775807', '-9223372036854775808';
$typed->bad(17, i8 => $_, '22003') foreach '9223372036854775808', '18446744073709551615', '-9223372036854775809', '"9223372036854775808"';
foreach my $number ('9223372036854775807', '9223372036854775808', '18446744073709551615')
{
	$typed->good(17, $_ => $number, $number) foreach qw(n t b j);
}

$typed->good(18, $_ => '123456789012345678901234567890.123456789', '123456789012345678901234567890.123456789') foreach qw(n b j t);
$typed->good(18, n => '0.10', '0.10');

$typed->good(19, f8 => '0.1', '0.1');
$typed->good(19, n => '0.1', '0.1');
# as PostgreSQL says: float8in refuses what would become 0
$typed->bad(19, f8 => '1e-400', '22003');
$typed->good(19, n => '1e-400', '0.' . '0' x 399 . '1');
$typed->good(19, f8 => '-0', '-0');
$typed->good(19, n => '-0', '0');
$typed->bad(19, f8 => '1e400', '22003');
$typed->good(19, n => '1e400', '1' . '0' x 400);

foreach my $column (qw(n b))
{
	$typed->good(20, $column => '1e131071', '1' . '0' x 131071);
	$typed->bad(20, $column => $_, '22003') foreach '1e131072', '1e1000000000', '1e-1000000000', '1e99999999999999999999';
}
$typed->bad(20, b => '[1, {"a": 1e131072}]', '22003');
$typed->good(20, $_ => '1e1000000000', '1e1000000000') foreach qw(t j);
$typed->bad(20, $_ => '1e1000000000', '22003') foreach qw(i2 i4 i8 f8);

foreach my $column (qw(f8 n tz b))
{
	$typed->bad(21, $column => $_, '22P02', 'decode') foreach qw(NaN Infinity -Infinity);
	next if $column eq 'b';
	$typed->good(21, $column => '"Infinity"', $column eq 'tz' ? 'infinity' : 'Infinity');
	$typed->good(21, $column => '"-Infinity"', $column eq 'tz' ? '-infinity' : '-Infinity');
}
$typed->good(21, $_ => '"NaN"', 'NaN') foreach qw(f8 n);
$typed->bad(21, tz => '"NaN"', '22007');
$typed->good(21, b => qq("$_"), qq("$_")) foreach qw(NaN Infinity -Infinity);

$typed->good(22, i4 => '"01"', '1');
$typed->good(22, i4 => '" 1 "', '1');
# numbers of other bases and underscores came with PostgreSQL 16
foreach my $case ([ '"0x10"', '16' ], [ '"1_000"', '1000' ])
{
	$is_16 ? $typed->good(22, i4 => @$case) : $typed->bad(22, i4 => $case->[0], '22P02');
}
# JSON has no such numbers
$typed->bad(22, i4 => $_, '22P02', 'decode') foreach '01', '0x10', '1_000';

$typed->bad(23, i4 => $_, '22003') foreach '2147483648', '-2147483649', '"2147483648"';
$typed->bad(23, i2 => $_, '22003') foreach '40000', '-32769';
$typed->bad(23, $_ => '1.5', '22P02') foreach qw(i2 i4 i8);
$typed->good(23, i4 => '2147483647', '2147483647');
$typed->good(23, i4 => '1.0', '1');

$typed->good(24, bo => $_->[0], $_->[1]) foreach [ '"true"', 'true' ], [ '"t"', 'true' ], [ '1', 'true' ], [ '"yes"', 'true' ], [ 'null', undef ],
  [ 'true', 'true' ], [ '"f"', 'false' ], [ '0', 'false' ];
$typed->bad(24, bo => $_, '22P02') foreach '2', '"maybe"', '""', '1.5', '[true]';

$typed->bad(25, d => '"2023-02-30"', '22008');
$typed->bad(25, tz => '"2023-02-30T00:00:00Z"', '22008');
$typed->good(25, tm => '"24:00:00"', '24:00:00');
$typed->bad(25, tm => '"24:00:01"', '22008');
$typed->good(25, tz => '"2023-02-28T24:00:00Z"', '2023-03-01 00:00:00+00');
$typed->good(25, tz => '"2016-12-31T23:59:60Z"', '2017-01-01 00:00:00+00');
$typed->bad(25, tz => '"2016-12-31T23:59:61Z"', '22008');
$typed->good(25, tm => '"23:59:60"', '24:00:00');
$typed->good(25, d => '"10000-01-01"', '10000-01-01');
$typed->bad(25, d => '"5874898-01-01"', '22008');
$typed->good(25, d => '"0044-03-15 BC"', '0044-03-15 BC');
$typed->good(25, $_ => '"infinity"', 'infinity') foreach qw(d ts tz);
# an epoch is one only where the mapping says so, see line 27's table
$typed->bad(25, tz => '1700000000123', '22008');
$typed->good(25, d => '"epoch"', '1970-01-01');

$typed->good(26, tz => '"2024-07-02T03:04:05"', '2024-07-02 03:04:05+00');
$typed->good(26, tz => '"2024-07-02T03:04:05Z"', '2024-07-02 03:04:05+00');
$typed->good(26, tz => '"2024-07-02T03:04:05+05:45"', '2024-07-01 21:19:05+00');
$typed->good(26, ts => '"2024-07-02T03:04:05+05:45"', '2024-07-02 03:04:05');
$typed->good(26, tz => '"01/02/2024 03:04:05"', '2024-01-02 03:04:05+00');
$typed->good(26, d => '"01/02/2024"', '2024-01-02');

$typed->good(28, m => '"ok"', 'ok');
$typed->bad(28, m => '"great"', '22P02');
$typed->bad(28, u => '"a0eebc99-9c0b-4ef8-bb6d"', '22P02');
$typed->bad(28, ip => '"1.2.3.256"', '22P02');
$typed->bad(28, pos => '-1', '23514', 'map', 'is_positive');
$typed->good(28, pos => '1', '1');
$typed->bad(28, v => '"abcd"', '22001');
$typed->good(28, v => '"abc  "', 'abc');
$typed->bad(28, p => '"(1"', '22P02');
$typed->bad(28, p => '"(x,a)"', '22P02');
$typed->good(28, p => '"(1,a)"', '(1,a)');
$typed->good(28, ai => '[[1, 2], [3, 4]]', '{{1,2},{3,4}}');
$typed->bad(28, ai => $_, '22P02') foreach '[[1, 2], [3]]', '[[1], 2]', '["x"]';

$typed->bad(29, $_ => '{"a": 1}', '22P02') foreach qw(i4 n f8 bo u);
$typed->bad(29, tz => '{"a": 1}', '22007');
$typed->bad(29, $_ => '[1]', '22P02') foreach qw(i4 bo);
$typed->bad(29, ai => $_, '22P02') foreach '1', '{"a": 1}';
$typed->good(29, $_ => '{"a": [1]}', '{"a": [1]}') foreach qw(t j b);
$typed->good(29, $_ => '7', '7') foreach qw(t j b);
$typed->good(29, b => '"x"', '"x"');

my $converted = cases('converted', columns => 'b64 bytea, hex bytea, ms timestamptz, t64 text',
	arguments => q{columns => '{"id": "$.id", "b64": "$.b64::base64", "hex": "$.hex::hex", "ms": "$.ms::epoch_ms", "t64": "$.t64::base64", "_offset": "@offset"}'});
$converted->good(25, ms => '1700000000123', '2023-11-14 22:13:20.123+00');
$converted->good(25, ms => '-1', '1969-12-31 23:59:59.999+00');
$converted->bad(25, ms => '9223372036854775807', '22008');
$converted->good(27, b64 => '"AP8Q"', '\x00ff10');
$converted->good(27, b64 => '""', '\x');
$converted->bad(27, b64 => $_, '22P02') foreach '"A"', '"AP8Q!"', '1', '["AP8Q"]';
$converted->good(27, hex => '"00ff10"', '\x00ff10');
$converted->bad(27, hex => $_, '22P02') foreach '"0"', '"xy"', '12';
$converted->good(27, t64 => '"eA=="', 'x');
$converted->bad(27, t64 => '"/w=="', '22021');

# what depends on the moment is what the input function makes of it
my $moments = cases('moments', columns => 'tz timestamptz, d date');
my $moment_started = query('SELECT now()');
foreach my $column (qw(tz d))
{
	$moments->add(25, "$column $_", { value => qq({"id": 25, "$column": "$_"}) }, good => { id => '25' }) foreach qw(now today);
}

# ---- rows: line 30 --------------------------------------------------------------------

my $rows = cases('made', create => q{
	CREATE TABLE made (id int, _offset bigint, always int GENERATED ALWAYS AS IDENTITY, own int GENERATED BY DEFAULT AS IDENTITY (START 100),
		twice int GENERATED ALWAYS AS (id * 2) STORED, given text DEFAULT 'default', needed text NOT NULL, needed_given text NOT NULL DEFAULT 'default')},
	neighbour => sub { return { value => qq({"id": $_[0], "needed": "x"}) } });
$rows->add(30, 'all there', { value => '{"id": 1, "own": 7, "given": "g", "needed": "n", "needed_given": "ng"}' },
	good => { own => '7', twice => '2', given => 'g', needed => 'n', needed_given => 'ng' });
$rows->add(30, 'missing with a DEFAULT', { value => '{"id": 1, "needed": "n"}' }, good => { given => 'default', needed_given => 'default' });
$rows->add(30, 'null is no DEFAULT', { value => '{"id": 1, "needed": "n", "given": null}' }, good => { given => undef });
$rows->add(30, 'missing NOT NULL', { value => '{"id": 1}' }, bad => [ '23502', 'write', 'needed' ]);
$rows->add(30, 'null where NOT NULL', { value => '{"id": 1, "needed": null}' }, bad => [ '23502', 'write', 'needed' ]);
$rows->add(30, 'null where NOT NULL has a DEFAULT', { value => '{"id": 1, "needed": "n", "needed_given": null}' }, bad => [ '23502', 'write', 'needed_given' ]);
$rows->add(30, 'a value for a generated column', { value => '{"id": 4, "needed": "n", "twice": 99}' }, good => { twice => '8' });

# ---- headers: line 32 -----------------------------------------------------------------

my $headers = cases('headed', columns => 'h jsonb, b bytea, t text',
	arguments => q{columns => '{"id": "$.id", "h": "@headers", "b": "@headers.b", "t": "@headers.t", "_offset": "@offset"}'});

sub headed
{
	my ($name, $kind, $expected, @headers) = @_;
	$headers->add(32, $name, { value => '{"id": 32}', headers => [@headers] }, $kind => $expected);
	return;
}

headed('none', good => { h => '{}', b => undef, t => undef });
headed('1000', good => { h => '{' . join(', ', map { sprintf '"n%03d": "%d"', $_, $_ } 0 .. 999) . '}' }, map { [ sprintf('n%03d', $_), $_ ] } 0 .. 999);
headed('the same name', good => { h => '{"b": ["1", "2"], "t": ["x", null, "z"]}', b => '\x32', t => 'z' },
	[ b => '1' ], [ t => 'x' ], [ t => undef ], [ b => '2' ], [ t => 'z' ]);
headed('binary values', good => { h => '{"b": "\\\\x00ff"}', b => '\x00ff' }, [ b => "\0\xff" ]);
headed('a value that is no text', bad => [ '22021', 'map', 't' ], [ t => "\xff" ], [ b => "\xff" ]);
headed('a NUL byte for a text', bad => [ '22021', 'map', 't' ], [ t => "a\0" ]);
headed('an empty value and none', good => { h => '{"b": "", "t": null}', b => '\x', t => undef }, [ b => '' ], [ t => undef ]);
# a letter keeps such a name as hex digits, as jsonb does
headed('a name that is no UTF-8', good => { h => '{"b": "1", "\\\\x6eff": "2"}', b => '\x31' }, [ b => '1' ], [ "n\xff" => '2' ]);

# ---- timestamps: line 33 --------------------------------------------------------------

my $stamped = cases('stamped', columns => '_timestamp timestamptz', topic_config => { 'message.timestamp.after.max.ms' => '9223372036854775807' });
$stamped->add(33, 'of a producer', { value => '{"id": 33}', timestamp => 1_700_000_000_123 }, good => { _timestamp => '2023-11-14 22:13:20.123+00' });
$stamped->add(33, 'of the future', { value => '{"id": 33}', timestamp => 4_102_444_800_000 }, good => { _timestamp => '2100-01-01 00:00:00+00' });
$stamped->add(33, 'of a letter', { value => '{"id": "x"}', timestamp => 1_700_000_000_123 }, bad => [ '22P02', 'map', 'id' ]);

my @timestamps = (
	[ -1, undef ],
	[ 0, '1970-01-01 00:00:00+00' ],
	[ -5, '1969-12-31 23:59:59.995+00' ],
	[ 1, '1970-01-01 00:00:00.001+00' ],
	[ 9223372036854775807, 'bad' ]);
my $rewritten = cases('rewritten', columns => '_timestamp timestamptz', alone => 1);
$rewritten->add(33, "record timestamp $_->[0]", { value => '{"id": 33}' },
	($_->[1] // '') eq 'bad' ? (bad => [ '22008', 'map', '_timestamp' ]) : (good => { _timestamp => $_->[1] })) foreach @timestamps;
# a letter keeps it as well
my @of_letters = (0, -5);
$rewritten->add(33, "record timestamp $_ of a letter", { value => '{"id": "x"}', timestamp => $_ }, bad => [ '22P02', 'map', 'id' ]) foreach @of_letters;

my $appended = $kafka->create_topic('lines_appended', config => { 'message.timestamp.type' => 'LogAppendTime' });
query('CREATE TABLE appended (id int, _timestamp timestamptz, _offset bigint)');
my $append_started = query('SELECT clock_timestamp()');
$kafka->produce_messages($appended, { value => '{"id": 1}', timestamp => 1000 });
query("SELECT kafka_ingest.create_pipeline('appended', topic => '$appended', target => 'appended')");

# ---- loading --------------------------------------------------------------------------

# One record set for each message: their timestamps are set in the log.
$rewritten->{topic} = $kafka->create_topic('lines_rewritten');
my @ms = ((map { $_->[0] } @timestamps), @of_letters);
foreach my $n (0 .. 2 * @ms)
{
	my $is_letter = $n % 2 == 1 && $n > 2 * @timestamps;
	$kafka->produce_messages($rewritten->{topic}, { value => $is_letter ? '{"id": "x"}' : '{"id": 33}' });
}
$kafka->rewrite_timestamp($rewritten->{topic}, 0, 2 * $_ + 1, $ms[$_]) foreach 0 .. $#ms;

my $started = Time::HiRes::time();
$_->start foreach @tables;
$_->wait foreach @tables;
note(sprintf 'loaded after %.1f s', Time::HiRes::time() - $started);

# ---- the lines ------------------------------------------------------------------------

my %titles = (
	1 => 'a tombstone', 2 => 'an empty value', 3 => 'no key and an empty one', 4 => 'a document that is no object', 5 => 'broken documents',
	6 => 'a byte order mark, UTF-16', 7 => 'bytes that are no UTF-8', 8 => '\u0000', 9 => 'a NUL byte', 10 => 'halves of surrogate pairs',
	11 => 'databases of other encodings', 12 => 'duplicate names', 13 => 'names in another case, empty, with NUL', 15 => 'depth',
	17 => 'integers at the limits of bigint', 18 => 'numeric digit for digit', 19 => 'floating point at its limits', 21 => 'NaN and Infinity',
	22 => 'spellings of integers', 23 => 'integers out of range', 24 => 'booleans', 26 => 'time zones', 27 => 'base64 and hex',
	28 => 'types of users, and others', 29 => 'object for scalar, scalar for object', 32 => 'headers');
foreach my $line (sort { $a <=> $b } keys %titles)
{
	$lines->run($line, $titles{$line}, sub {
		my $cases = 0;
		$cases += $_->check($line) foreach @tables;
		cmp_ok($cases, '>', 0, "$cases cases");
	});
}

$lines->run(1, 'a tombstone that deletes', sub {
	my $topic = $kafka->create_topic('lines_keyed');
	$kafka->produce_messages($topic, { key => '1', value => '{"id": 1, "t": "a"}' }, { key => '2', value => '{"id": 2, "t": "b"}' },
		{ key => '1', value => undef }, { key => undef, value => undef }, { key => 'x', value => undef }, { key => '3', value => undef });
	query("CREATE TABLE keyed (id int PRIMARY KEY, t text);
		SELECT kafka_ingest.create_pipeline('keyed', topic => '$topic', target => 'keyed', mode => 'upsert', max_error_ratio => 1)");
	$node->wait_for_position_sum('keyed', 6, timeout => 60);
	is(query('SELECT id, t FROM keyed'), '2|b', 'its row is gone, the others are not');
	is(query(q{SELECT message_offset, sqlstate, stage, column_name, value IS NULL FROM kafka_ingest.dead_letters WHERE pipeline = 'keyed' ORDER BY 1}),
		"3|23502|map|id|t\n4|22P02|map|id|t", 'one without a key and one of a bad key are letters');
	is(query(q{SELECT messages, loaded, dead_letters FROM kafka_ingest.status WHERE pipeline = 'keyed'}), '6|4|2', 'one of a row that is not there is loaded');
});

# format => 'text', where an empty value and a NUL byte are values, is not offered yet
$lines->run($_, 'format text', sub { refused("topic => 'x', target => 'docs', format => 'text'", '0A000', 'text') }) foreach 2, 9;

$lines->run(14, 'many names and many columns', sub {
	$docs->check(14);
	# more columns than these a table cannot have
	my @columns = map { "c$_" } 1 .. 1597;
	query('CREATE TABLE wide (id int, _offset bigint, name text, ' . join(', ', map { "$_ int" } @columns) . ')');
	my $topic = $kafka->create_topic('lines_wide');
	my $names = join ', ', map { qq("name$_": $_) } 1 .. 3000;
	my $values = join ', ', map { qq("c$_": $_) } 1 .. 1597;
	$kafka->produce($topic, count => 50, template => '{"id": %d, ' . $values . '}');
	query("SELECT kafka_ingest.create_pipeline('wide', topic => '$topic', target => 'wide')");
	$node->wait_for_position_sum('wide', 50);
	is(query('SELECT count(*), sum(c1), sum(c1597), min(c800) FROM wide'), '50|50|79850|800', '1,600 columns are loaded');
	my $pid = $node->worker_pid('wide');
	my $sum = 50;
	my @memory;
	foreach my $round (1 .. 4)
	{
		$kafka->produce($topic, count => 200, template => qq({"id": %d, $names}));
		$node->wait_for_position_sum('wide', $sum += 200, timeout => 60);
		push @memory, memory_of($pid);
	}
	note("private memory of the worker, kB: @memory");
	is($node->worker_pid('wide'), $pid, 'by the same worker');
	cmp_ok($memory[-1] - $memory[0], '<', 16 * 1024, 'whose memory stays flat');
});

# Private memory of a process, in kB (Linux).
sub memory_of
{
	my ($pid) = @_;
	open my $file, '<', "/proc/$pid/status" or die "/proc/$pid/status: $!";
	my ($kb) = join('', <$file>) =~ /^RssAnon:\s+(\d+) kB/m;
	return $kb;
}

$lines->run(16, 'large messages', sub {
	# 300 MB are more than a broker takes; 20 MB are more than one answer is to have
	my $large = ValueCases->new($node, $kafka, 'large', columns => 'v varchar(1048576), b jsonb, t text', alone => 1,
		topic_config => { 'max.message.bytes' => 60_000_000 });
	my $string = '"' . 'x' x 20_000_000 . '"';
	$large->good(16, b => $string, $string);
	$large->bad(16, v => $string, '22001');
	$large->bad(16, nothing => "$string,", '22P02', 'decode');
	$large->good(16, v => '"' . 'y' x 1_048_576 . '"', 'y' x 1_048_576);
	$large->start;
	$large->wait;
	$large->check(16);
	$large->ok_counts;
	query(q{SELECT kafka_ingest.drop_pipeline('large', discard => true)});
});

$lines->run(20, 'numbers of many digits', sub {
	$_->check(20) foreach @tables;
	# what is refused is refused at once: a billion digits are never written down
	my $topic = $kafka->create_topic('lines_digits');
	my $count = 2000;
	$kafka->produce($topic, count => $count, template => '{"id": %d, "n": 1e1000000000}');
	$kafka->produce($topic, count => $count, template => '{"id": %d, "b": [1e1000000000]}');
	query('CREATE TABLE digits (id int, n numeric, b jsonb)');
	query("SELECT kafka_ingest.create_pipeline('digits', topic => '$topic', target => 'digits', max_error_ratio => 1, paused => true)");
	my $begun = Time::HiRes::time();
	is(query(q{CALL kafka_ingest.run('digits')}), join('|', 2 * $count, 2 * $count, 't'), 'each is a letter');
	my $ms = (Time::HiRes::time() - $begun) * 1000 / (2 * $count);
	cmp_ok($ms, '<', 5, sprintf 'in %.2f ms', $ms);
	is(query(q{SELECT count(*), min(sqlstate), max(sqlstate), count(DISTINCT column_name) FROM kafka_ingest.dead_letters WHERE pipeline = 'digits'}),
		join('|', 2 * $count, '22003', '22003', 2), 'with 22003');
});

$lines->run(25, 'dates and times', sub {
	$_->check(25) foreach @tables;
	my $ended = query('SELECT clock_timestamp()');
	is(query("SELECT count(*) FROM moments WHERE tz BETWEEN '$moment_started' AND '$ended'"), 1, 'now is the moment of the batch');
	is( query("SET timezone = 'UTC'; SELECT count(*) FROM moments WHERE tz IN (timestamptz '$moment_started'::date, timestamptz '$ended'::date)"),
		1, 'today begins at midnight, UTC');
	is( query("SET timezone = 'UTC'; SELECT count(*) FROM moments WHERE d IN (timestamptz '$moment_started'::date, timestamptz '$ended'::date)"),
		2, 'and so are dates');
});

$lines->run(30, 'generated columns, identity, defaults', sub {
	$rows->check(30);
	is(query('SELECT count(DISTINCT always) = count(*), min(own), count(*) FROM made'), sprintf('t|7|%d', $rows->messages - 3), 'identity columns are filled');
	refused(q{topic => 'x', target => 'made', columns => '{"id": "$.id", "twice": "$.twice"}'}, '428C9', 'a generated column that is mapped');
});

$lines->run(31, 'other formats', sub {
	# they come later: until then each is refused, so that nobody believes it works
	refused("topic => 'x', target => 'docs', format => '$_'", '0A000', $_) foreach qw(avro csv);
	# this one is in no plan
	refused(q{topic => 'x', target => 'docs', format => 'protobuf'}, '22023', 'protobuf');
});

$lines->run(33, 'record timestamps', sub {
	$_->check(33) foreach @tables;
	$node->wait_for_position_sum('appended', 1);
	is(query("SELECT count(*) FROM appended WHERE _timestamp >= timestamptz '$append_started' - interval '1 s'"), 1, 'LogAppendTime is the time it was appended');
});

# ---- together -------------------------------------------------------------------------

$_->ok_counts foreach @tables;
is(query(q{SELECT count(*) FROM kafka_ingest.status WHERE state NOT IN ('running', 'paused')}), 0, 'none has stopped');
$lines->ok_all;

$node->stop;
done_testing();
