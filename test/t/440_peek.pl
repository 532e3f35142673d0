# peek: messages as they are, from every kind of start, without a trace.

use strict;
use warnings;

use IngestCluster;
use IPC::Run ();
use KafkaBroker;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $kafka = KafkaBroker->shared;
my $node = IngestCluster->new('peek');
my $topic = $kafka->create_topic('peek', partitions => 3, config => { 'retention.ms' => -1 });
my $ms = 1_700_000_000_000;

$node->connect_kafka($kafka);

# in partition 0 40 messages, in 1 5 and in 2 none; times by turns
$kafka->produce_messages($topic,
	map { { partition => $_ % 11 == 0 ? 1 : 0, key => "k$_", value => qq({"id": $_}), timestamp => $ms + 1000 * $_ } } 0 .. 44);

sub query
{
	return $node->safe_psql('postgres', $_[0]);
}

sub peek
{
	my ($arguments, $columns) = @_;
	$columns //= q{string_agg(partition || ':' || message_offset, ' ')};
	return query("SELECT $columns FROM kafka_ingest.peek('$topic' $arguments)");
}

sub fails
{
	my ($arguments, $state, $what) = @_;
	my (undef, undef, $err) = $node->psql('postgres',
		"\\set VERBOSITY verbose\nSELECT * FROM kafka_ingest.peek($arguments)", on_error_die => 0);
	like($err, qr/ERROR:  $state: .*$what/s, "peek($arguments) fails with $state");
	return;
}

# ---- which messages --------------------------------------------------------------------

is(peek(''), '0:0 0:1 0:2 0:3 0:4 1:0 1:1 1:2 1:3 1:4', 'ten messages: evenly, in order');
is(peek(', max_messages => 13'), '0:0 0:1 0:2 0:3 0:4 0:5 0:6 0:7 1:0 1:1 1:2 1:3 1:4',
	'what one partition cannot give another one does');
is(peek(', max_messages => 1'), '0:0', 'one message');
is(peek(', max_messages => 1000', 'count(*), count(DISTINCT (partition, message_offset))'), '45|45', 'all of them');
is(peek(q{, start_from => 'latest', max_messages => 6}), '0:35 0:36 0:37 0:38 0:39 1:4',
	'latest: the last six of all');
is(peek(q{, start_from => 'latest', max_messages => 1000}, 'count(*)'), '45', 'latest: no more than there are');
is(peek(q{, start_offsets => '{"0": 38, "1": -1}'}), '0:38 0:39 1:4', 'start_offsets, negative ones, too');
is(peek(qq{, start_offsets => '{"$topic": {"0": 39}}', max_messages => 100}), '0:39 1:0 1:1 1:2 1:3 1:4',
	'partitions not named: from their beginning');
is(peek(", start_timestamp => to_timestamp(($ms + 40000) / 1000)"), '0:36 0:37 0:38 0:39 1:4', 'start_timestamp');
is(peek(", start_timestamp => to_timestamp(($ms + 33000) / 1000)", "min(message_timestamp) = to_timestamp(($ms + 33000) / 1000)"),
	't', 'a message of that very time is shown');
is(peek(", start_timestamp => '2100-01-01'", 'count(*)'), '0', 'a time to come: nothing');

my $empty = $kafka->create_topic('peek_empty', partitions => 2);
is(query("SELECT count(*) FROM kafka_ingest.peek('$empty')"), '0', 'an empty topic');
is(query("SELECT count(*) FROM kafka_ingest.peek('$empty', start_from => 'latest')"), '0', 'and its end');

# ---- what is shown ----------------------------------------------------------------------

my $odd = $kafka->create_topic('peek_odd');
$kafka->produce_messages($odd,
	{ value => "\0\0\0\0\7{\"framed\": true}", key => "\xff\0" },
	{ value => undef, key => undef },
	{ value => "\xc3\xa9", key => '', headers => [ [ a => '1' ], [ a => '2' ], [ b => "\xfe" ], [ c => undef ] ] },
	{ value => "\0\0\0\0\7\x02\x80", key => 'avro' },
	{ value => 'no json', key => 'text' });
my $columns = q{topic, message_offset, coalesce(key, 'NULL'), coalesce(value, 'NULL'), headers};
is(query("SELECT $columns FROM kafka_ingest.peek('$odd')"), <<"END" =~ s/\n\z//r, 'format json');
$odd|0|\\xff00|{"framed": true}|{}
$odd|1|NULL|NULL|{}
$odd|2||\xc3\xa9|{"a": ["1", "2"], "b": "\\\\xfe", "c": null}
$odd|3|avro|\\x00000000070280|{}
$odd|4|text|no json|{}
END
is(query("SELECT string_agg(coalesce(value, 'NULL'), ' ') FROM kafka_ingest.peek('$odd', format => 'text')"),
	'\x00000000077b226672616d6564223a20747275657d NULL ' . "\xc3\xa9" . ' \x00000000070280 no json', 'format text');
is(query("SELECT string_agg(coalesce(value, 'NULL'), ' ') FROM kafka_ingest.peek('$odd', format => 'raw')"),
	'\x00000000077b226672616d6564223a20747275657d NULL \xc3a9 \x00000000070280 \x6e6f206a736f6e', 'format raw');

# ---- transactions: holes, and an end that is not the last message ---------------------------

my $holes = $kafka->create_topic('peek_holes');
$kafka->transactions($holes, 'commit:1,abort:300,commit:2,abort:20');
is(query("SELECT count(*) FROM kafka_ingest.peek('$holes')"), '3', 'what was aborted is not shown');
is(query("SELECT count(*) FROM kafka_ingest.peek('$holes', start_from => 'latest', max_messages => 2)"), '2',
	'the last two, behind many that were aborted');
is(query("SELECT count(*) FROM kafka_ingest.peek('$holes', start_from => 'latest', max_messages => 3)"), '3',
	'and the one before them');
my $open = $kafka->open_transaction($holes, 5);
is(query("SELECT count(*) FROM kafka_ingest.peek('$holes')"), '3', 'nor what is in an open transaction');
$open->commit;

# ---- who may, and what it leaves behind -----------------------------------------------------

query('CREATE ROLE anna LOGIN');
my (undef, undef, $err) = $node->psql('postgres',
	"SET ROLE anna; SELECT * FROM kafka_ingest.peek('$topic')", on_error_die => 0);
like($err, qr/permission denied for foreign server kafka/, 'without USAGE on the server');
query('GRANT USAGE ON FOREIGN SERVER kafka TO anna');
is(query("SET ROLE anna; SELECT count(*) FROM kafka_ingest.peek('$topic')"), '10', 'with it');
is(query('BEGIN READ ONLY; SELECT count(*) FROM kafka_ingest.peek(\'' . $topic . '\'); COMMIT'), '10', 'in a read-only transaction');
is(query('SELECT count(*) FROM kafka_ingest.events'), '0', 'no event');
is(query('SELECT count(*) FROM kafka_ingest.partition_status'), '0', 'no position');

# ---- what is wrong --------------------------------------------------------------------------

fails("'no_such_topic'", '42704', 'topic "no_such_topic" does not exist');
fails("'$topic', start_offsets => '{\"7\": 1}'", '22023', 'no partition 7');
fails("'$topic', start_offsets => '{\"0\": 41}'", '22023', 'ends before 40');
$kafka->delete_records($topic, 0, 5);
fails("'$topic', start_offsets => '{\"0\": 1}'", '22023', 'begins at offset 5');
is(peek(', max_messages => 1'), '0:5', 'earliest is where the log begins');

# a broker that does not answer, and one that is not there
my $own = KafkaBroker->new;
my $silent = $own->create_topic('silent');
$own->produce($silent, count => 3);
$node->connect_kafka($own, name => 'own');
is(query("SELECT count(*) FROM kafka_ingest.peek('$silent', 'own')"), '3', 'a broker of our own');
$own->sigstop;
my $began = time;
fails("'$silent', 'own'", '08001', 'broker_unreachable');
cmp_ok(time - $began, '<', 30, 'a silent broker: an error in bounded time');
$began = time;
(undef, undef, $err) = $node->psql('postgres',
	"SET statement_timeout = '1s'; SELECT * FROM kafka_ingest.peek('$silent', 'own')", on_error_die => 0);
like($err, qr/statement timeout/, 'it can be cancelled');
cmp_ok(time - $began, '<', 5, 'soon');
$own->sigcont;
is(query("SELECT count(*) FROM kafka_ingest.peek('$silent', 'own')"), '3', 'it answers again');
is_deeply([ grep { -s $_ } glob "$own->{dir}/data/__consumer_offsets-*/*.log" ], [],
	'no group and no offset was ever written at the broker');
$node->connect_kafka('127.0.0.1:1', name => 'nowhere');
fails("'t', 'nowhere'", '08001', 'broker_unreachable');

$node->stop;
done_testing();
