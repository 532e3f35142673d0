# infer_table: what it makes of messages, run by \gexec as a reader would, and
# that a pipeline then loads every message that was sampled.

use strict;
use warnings;
use utf8;

use Encode qw(encode_utf8);
use IngestCluster;
use IPC::Run ();
use KafkaBroker;
use PostgreSQL::Test::Utils;
use Test::More;

my $kafka = KafkaBroker->shared;
my $node = IngestCluster->new('infer');
my $tables = 0;

$node->connect_kafka($kafka);

# psql as a reader runs it: status, output, messages.
sub run_psql
{
	my ($sql) = @_;
	my ($out, $err) = ('', '');
	$sql = encode_utf8($sql);
	IPC::Run::run([ 'psql', '-X', '-q', '-A', '-t', '-v', 'ON_ERROR_STOP=1', '-v', 'VERBOSITY=verbose',
			'-d', $node->connstr('postgres'), '-f', '-' ],
		'<', \$sql, '>', \$out, '2>', \$err,
		IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	utf8::decode($out);
	utf8::decode($err);
	chomp $out;
	return ($? >> 8, $out, $err);
}

# Makes a topic of these documents; its name.
sub topic_of
{
	my (@documents) = @_;
	my $topic = $kafka->create_topic('infer', partitions => 2);
	my $i = 0;
	$kafka->produce_messages($topic, map { { value => $_, partition => $i++ % 2 } } @documents);
	return $topic;
}

# The columns that are inferred of some documents, as one line; then they are
# loaded, and all of them must be there.
sub inferred
{
	my ($what, $documents, %options) = @_;
	my $topic = topic_of(map { encode_utf8($_) } @$documents);
	my $table = 't' . ++$tables;
	my ($status, $statement, $notices) =
	  run_psql("SELECT kafka_ingest.infer_table('$topic', '$table', sample => 5000)");
	is($status, 0, "$what: inferred") or diag $notices;
	($status, undef, my $err) = run_psql("SELECT kafka_ingest.infer_table('$topic', '$table', sample => 5000) \\gexec");
	is($status, 0, "$what: run by \\gexec") or diag $err;
	($status, my $done, $err) = run_psql(<<"END");
SELECT FROM kafka_ingest.create_pipeline('$table', topic => '$topic', target => '$table');
SELECT kafka_ingest.wait_until_caught_up('$table', '60s');
SELECT loaded, dead_letters FROM kafka_ingest.status WHERE pipeline = '$table';
END
	my $count = @$documents - ($options{bad} // 0);
	is($done, "t\n$count|" . ($options{bad} // 0), "$what: loaded")
	  or diag $err, run_psql("SELECT sqlstate, error, column_name FROM kafka_ingest.dead_letters WHERE pipeline = '$table' LIMIT 3");
	$statement =~ s/^CREATE TABLE $table \(\n|\n\)\z//g;
	$statement =~ s/\s*\n\s*/ /g;
	$statement =~ s/^\s+//;
	return wantarray ? ($statement, $table, $notices) : $statement;
}

sub columns_are
{
	my ($what, $documents, $expected, %options) = @_;
	my ($columns, $table, $notices) = inferred($what, $documents, %options);
	is($columns, $expected, "$what: the columns");
	return ($table, $notices);
}

# ---- types ------------------------------------------------------------------------------

columns_are('the example', [ '{"category": "option1", "value": 1}', '{"category": "option2", "value": 2}' ],
	'category text, value bigint');
columns_are('numbers',
	[ '{"i": -9223372036854775808, "n": 9223372036854775808, "f": 1.5, "p": 1.0, "e": 1e3, "m": 1, "b": 1e130000}',
		'{"i": 9223372036854775807, "n": 1, "f": 2, "p": 2.0, "e": 1, "m": 0.123456789012345678901234567890, "b": 1}' ],
	'i bigint, n numeric, f numeric, p numeric, e numeric, m numeric, b numeric');
columns_are('numbers that only text can hold',
	[ '{"big": 1e131073, "small": 1e-16384, "in": {"x": [1e200000]}, "ok": 1}', '{"big": 1, "small": 2, "in": 1, "ok": 2}' ],
	'big text, small text, "in" text, ok bigint');
columns_are('booleans, nulls, nested ones',
	[ '{"b": true, "n": null, "o": {"a": 1}, "a": [1, "x", null], "late": null}', '{"b": false, "o": {}, "a": [], "late": {"x": 1e3}}' ],
	'b boolean, n text, o jsonb, a jsonb, late jsonb');
columns_are('mixed ones',
	[ '{"bn": true, "ns": 1, "sb": "x", "os": {"a": 1}, "an": [1], "bo": false, "all": 1}',
		'{"bn": 1, "ns": "x", "sb": false, "os": "text", "an": 1.5, "bo": {"x": 1}, "all": "a"}',
		'{"all": true}', '{"all": [1, {"x": "y"}]}', '{"all": null}' ],
	'bn text, ns text, sb text, os jsonb, an jsonb, bo jsonb, "all" jsonb');

columns_are('deeply nested ones', [ '{"a": ' . '[' x 5000 . ']' x 5000 . ', "b": 1}' ], 'a jsonb, b bigint');

# shapes of text want some evidence
my @shaped = map { sprintf '{"ts": "2024-02-%02dT%02d:00:00%s", "d": "2024-02-%02d", "u": "0188f0a0-0000-7000-8000-%012X", "local": "2024-02-01T00:00:00"}',
	$_, $_ % 24, (qw(Z +02:00 .123456Z -0530))[ $_ % 4 ], $_, $_ } 1 .. 20;
columns_are('few shaped strings', [ @shaped[ 0 .. 18 ] ], 'ts text, d text, u text, local text');
my ($table) = columns_are('shaped strings', \@shaped, 'ts timestamptz, d date, u uuid, local text');
is(($node->safe_psql('postgres', "SELECT count(DISTINCT ts), min(d), max(d) FROM $table")), '20|2024-02-01|2024-02-20',
	'and they are what they seem');
columns_are('one exception is enough',
	[ @shaped, '{"ts": "soon", "d": "2024-02-30", "u": "0188f0a0-0000-7000-8000", "local": ""}' ],
	'ts text, d text, u text, local text');
columns_are('times of two kinds', [ (map { qq({"t": "2024-02-01T00:00:$_"}) } map { ("${_}Z", $_) } 10 .. 40) ], 't text');

# ---- nullability ---------------------------------------------------------------------------

my @complete = map { qq({"id": $_, "name": "x", "opt": 1}) } 1 .. 99;
columns_are('99 messages', \@complete, 'id bigint, name text, opt bigint');
columns_are('100 messages', [ @complete, '{"id": 100, "name": "y"}' ],
	'id bigint NOT NULL, name text NOT NULL, opt bigint');
columns_are('a null', [ @complete, '{"id": 100, "name": null, "opt": 2}' ],
	'id bigint NOT NULL, name text, opt bigint NOT NULL');
columns_are('a field that comes twice: the last counts',
	[ @complete, '{"id": 1, "name": "x", "id": null, "opt": 1}' ],
	'id bigint, name text NOT NULL, opt bigint NOT NULL');

# ---- names ------------------------------------------------------------------------------------

my $longest = 'n' x 63;
my $long = 'm' x 64;
my ($odd, $notices) = columns_are('names',
	[ qq({"userId": 1, "user id": 2, "select": 3, "a\\"b": 4, "\\u00e9t\\u00e9": 5, "été2": 6, "a.b": 7, "\\n": 8, "$longest": 9, "1": 10, "oid": 11,)
		  . qq( "$long": 1, "": 2, "_key": 3, "_offset": 4, "ctid": 5, "_other": 12}) ],
	'"userId" bigint, "user id" bigint, "select" bigint, "a""b" bigint, "été" bigint, "été2" bigint, "a.b" bigint, '
	  . qq(" " bigint, $longest bigint, "1" bigint, oid bigint, _other bigint));
my @left_out = $notices =~ /NOTICE:  42602: field "(.*)" is left out/g;
is_deeply(\@left_out, [ $long, '', '_key', '_offset', 'ctid' ], 'what can be no column is left out, with a notice');
is($node->safe_psql('postgres', encode_utf8(qq{SELECT "été", "a.b", "$longest" FROM $odd})), '5|7|9', 'odd names are loaded');

my $some = topic_of('{"id": 1}');
my %spelled = ('demo' => 'demo', 'Demo' => 'demo', '"Demo"' => '"Demo"', 's.demo' => 's.demo',
	'"a b"."c d"' => '"a b"."c d"', 'select' => '"select"');
foreach my $name (sort keys %spelled)
{
	my ($status, $out) = run_psql("SELECT kafka_ingest.infer_table('$some', '$name')");
	is($out, "CREATE TABLE $spelled{$name} (\n    id bigint\n)", "table name $name");
}

# ---- samples -----------------------------------------------------------------------------------

my $ordered = $kafka->create_topic('infer_order');
$kafka->produce_messages($ordered, map { { value => $_ } } '{"c": 1}', '{"b": 1, "c": 2}', '{"a": 1}', ('{"c": 1.5}') x 10);
is((run_psql("SELECT kafka_ingest.infer_table('$ordered', 't', sample => 12)"))[1],
	"CREATE TABLE t (\n    c numeric,\n    b bigint,\n    a bigint\n)", 'in the order of appearance');
is((run_psql("SELECT kafka_ingest.infer_table('$ordered', 't', sample => 2)"))[1],
	"CREATE TABLE t (\n    c bigint,\n    b bigint\n)", 'of so many messages');

# Which partition's messages come first is chance, which the statement must not show.
my $spread = $kafka->create_topic('infer_spread', partitions => 12);
$kafka->produce_messages($spread, map { { value => qq({"everywhere": 1, "p$_": $_}), partition => $_ } } 0 .. 11);
$kafka->produce_messages($spread, map { { value => qq({"late$_": 1}), partition => $_ } } 0 .. 11);
my $columns = join ",\n", map { "    $_ bigint" } 'everywhere', map { ("p$_", "late$_") } 0 .. 11;
is((run_psql("SELECT kafka_ingest.infer_table('$spread', 't')"))[1],
	"CREATE TABLE t (\n$columns\n)", "partition by partition, time $_") foreach 1 .. 5;
my $broken = $kafka->create_topic('infer_broken', partitions => 12);
$kafka->produce_messages($broken, map { { value => '[]', partition => $_ } } 0 .. 11);
like((run_psql("SELECT kafka_ingest.infer_table('$broken', 't')"))[2], qr/The first is at partition 0, offset 0:/,
	"and the first bad one is of the first, time $_") foreach 1 .. 5;

my (undef, $bad_notices) = columns_are('some that are no objects',
	[ '{"id": 1}', '{"id": 2}', '[1, 2]', '{"id": ', "{\"id\": 3}" ], 'id bigint', bad => 2);
like($bad_notices, qr/WARNING:  22P02: 2 of 5 messages .* could not be read as JSON objects/, 'are passed over with a warning');
like($bad_notices, qr/DETAIL:  The first is at partition 0, offset 1: /, 'that says where');
my $framed = topic_of("\0\0\0\0\7{\"framed\": true}");
is((run_psql("SELECT kafka_ingest.infer_table('$framed', 't')"))[1], "CREATE TABLE t (\n    framed boolean\n)", 'framing is passed over');

sub fails
{
	my ($topic, $state, $pattern) = @_;
	my ($status, undef, $err) = run_psql("SELECT kafka_ingest.infer_table('$topic', 't')");
	like($err, qr/ERROR:  $state: .*$pattern/s, "fails: $pattern");
	return;
}

fails(topic_of('[1]', '"x"', '7'), '22P02', 'no message .* could be read as a JSON object\nDETAIL:  The first is at partition 0, offset 0: it is JSON, but not an object');
fails(topic_of('no json'), '22P02', 'partition 0, offset 0: invalid JSON in line 1');
fails(topic_of(), '55000', 'is empty\nHINT:');
fails(topic_of(undef, undef), '55000', 'has only tombstones');
fails(topic_of('{}', '{"_key": 1}'), '55000', 'no field .* could be a column');
fails('no_such_topic', '42704', 'does not exist');
fails(topic_of(map { my $n = $_; '{' . join(', ', map { qq("f${n}_$_": 1) } 1 .. 100) . '}' } 1 .. 17), '54011', 'more than 1600 different fields');
is((run_psql("SELECT length(kafka_ingest.infer_table('"
		  . topic_of('{' . join(', ', map { qq("f$_": 1) } 1 .. 1600) . '}')
		  . "', 't')) > 0"))[1], 't', '1600 fields are not too many');

$node->stop;
done_testing();
