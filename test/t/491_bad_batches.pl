# Bad messages among very many, at the ends of batches, and where all are bad; and
# what looks like SQL, which is never more than a value or a name. The numbers are
# those of a list of faults (C 34 to C 36); none may be left out.

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use Lines;
use Test::More;
use ValueCases;

my $kafka = KafkaBroker->shared;
my $node = IngestCluster->new('main', conf => "track_commit_timestamp = on\n");
my $lines = Lines->new('C', 34 .. 36);

$node->connect_kafka($kafka);

sub query { my ($sql) = @_; return $node->safe_psql('postgres', $sql) }

# All offsets of a topic but the bad ones are rows, once; the bad ones are letters.
sub ok_divided
{
	my ($name, $count, @bad) = @_;
	is(query("SELECT count(*), count(DISTINCT _offset), count(*) FILTER (WHERE id <> _offset) FROM $name"),
		join('|', ($count - @bad) x 2, 0), "$name: all others are loaded, once");
	is(query("SELECT count(*) FROM $name WHERE _offset IN (" . join(', ', @bad) . ')'), 0, "$name: none of the bad ones");
	is( query("SELECT message_offset, sqlstate, stage, column_name, convert_from(value, 'UTF8') FROM kafka_ingest.dead_letters WHERE pipeline = '$name' ORDER BY 1"),
		join("\n", map { qq($_|22P02|map|id|{"id": "bad $_"}) } sort { $a <=> $b } @bad), "$name: " . @bad . ' letters');
	is(query("SELECT messages, loaded, dead_letters, gaps FROM kafka_ingest.status WHERE pipeline = '$name'"),
		join('|', $count, $count - @bad, scalar @bad, 0), "$name: counted");
	return;
}

# So many messages {"id": offset}, those at the offsets given bad.
sub produce_with_bad
{
	my ($topic, $count, @bad) = @_;
	my $at = 0;
	foreach my $bad (@bad)
	{
		$kafka->produce($topic, from => $at, count => $bad - $at) if $bad > $at;
		$kafka->produce_messages($topic, { value => qq({"id": "bad $bad"}) });
		$at = $bad + 1;
	}
	$kafka->produce($topic, from => $at, count => $count - $at) if $at < $count;
	return;
}

$lines->run(34, 'one bad message at the first, the middle and the last of 1,000,000', sub {
	my $count = 1_000_000;
	# the ends of batches of 10,000, as far as they are full, are among them
	my @bad = (0, 9_999, 10_000, 499_999, 500_000, 989_999, $count - 1);
	my $topic = $kafka->create_topic('lines_million');
	produce_with_bad($topic, $count, @bad);
	query("CREATE TABLE million (id int, _offset bigint);
		SELECT kafka_ingest.create_pipeline('million', topic => '$topic', target => 'million')");
	$node->wait_for_position_sum('million', $count);
	ok_divided('million', $count, @bad);
});

$lines->run(34, 'at both ends of a batch', sub {
	my @bad = map { 100 * $_, 100 * $_ + 99 } 0 .. 9;
	my %is_bad = map { $_ => 1 } @bad;
	my $topic = $kafka->create_topic('lines_ends');
	$kafka->produce_messages($topic, map { { value => $is_bad{$_} ? qq({"id": "bad $_"}) : qq({"id": $_}) } } 0 .. 999);
	query("CREATE TABLE ends (id int, _offset bigint);
		SELECT kafka_ingest.create_pipeline('ends', topic => '$topic', target => 'ends', batch_max_messages => 100)");
	$node->wait_for_position_sum('ends', 1000);
	ok_divided('ends', 1000, @bad);
	# which of them were first and last in their batch is known by their transactions
	my $ends = query(q{WITH all_of_it AS (
			SELECT _offset AS o, pg_xact_commit_timestamp(xmin) AS at FROM ends
			UNION ALL SELECT message_offset, pg_xact_commit_timestamp(xmin) FROM kafka_ingest.dead_letter),
		batches AS (SELECT min(o) AS first, max(o) AS last FROM all_of_it GROUP BY at)
		SELECT count(*) FROM batches WHERE first % 100 = 0 AND last % 100 = 99 AND last > first});
	cmp_ok($ends, '>', 0, "$ends batches began and ended with a bad one");
});

# Stopped with half a window of letters more, right behind the last of them.
sub ok_tripped
{
	my ($name, $letters) = @_;
	$node->poll_until("SELECT state = 'stopped' AND dead_letters_total >= $letters FROM kafka_ingest.status WHERE pipeline = '$name'", 't');
	is( query("SELECT state, reason, messages, loaded, dead_letters FROM kafka_ingest.status WHERE pipeline = '$name'"),
		"stopped|error_ratio|$letters|0|$letters", "$name: stopped after $letters letters");
	is(query("SELECT next_offset FROM kafka_ingest.partition_status WHERE pipeline = '$name'"), $letters, "$name: at the message that was one too many");
	is(query("SELECT count(DISTINCT message_offset), min(message_offset), max(message_offset) FROM kafka_ingest.dead_letters WHERE pipeline = '$name'"),
		"$letters|0|" . ($letters - 1), "$name: each is there once");
	return;
}

$lines->run(35, 'all are bad', sub {
	my $topic = $kafka->create_topic('lines_all_bad');
	$kafka->produce($topic, count => 3000, template => '{"id": "bad %d"}');
	query("CREATE TABLE all_bad (id int); CREATE TABLE no_breaker (id int);
		SELECT kafka_ingest.create_pipeline('all_bad', topic => '$topic', target => 'all_bad');
		SELECT kafka_ingest.create_pipeline('no_breaker', topic => '$topic', target => 'no_breaker', max_error_ratio => 1)");
	ok_tripped('all_bad', 500);
	query(q{SELECT kafka_ingest.resume('all_bad')});
	ok_tripped('all_bad', 1000);
	# without the breaker all of it goes by
	$node->wait_for_position_sum('no_breaker', 3000);
	is(query(q{SELECT state, dead_letters FROM kafka_ingest.status WHERE pipeline = 'no_breaker'}), 'running|3000', 'max_error_ratio => 1: never');
	# the column takes them now: nothing is lost
	query(q{ALTER TABLE all_bad ALTER id TYPE text; SELECT kafka_ingest.resume('all_bad')});
	$node->wait_for_position_sum('all_bad', 3000);
	is(query(q{SELECT loaded, failed FROM kafka_ingest.retry_dead_letters('all_bad')}), '1000|0', 'mended: the letters are loaded');
	is(query('SELECT count(*), count(DISTINCT id) FROM all_bad'), '3000|3000', 'and all is in, once');
});

$lines->run(35, 'half of them are bad', sub {
	my $topic = $kafka->create_topic('lines_half_bad');
	$kafka->produce_messages($topic, map { { value => $_ % 2 ? '{"id": "bad"}' : qq({"id": $_}) } } 0 .. 2999);
	query("CREATE TABLE half_bad (id int);
		SELECT kafka_ingest.create_pipeline('half_bad', topic => '$topic', target => 'half_bad')");
	$node->wait_for_position_sum('half_bad', 3000);
	is(query(q{SELECT state, loaded, dead_letters FROM kafka_ingest.status WHERE pipeline = 'half_bad'}), 'running|1500|1500', 'not more than half: it goes on');
});

# Names and values that would do harm wherever they were taken for SQL.
my $harm = q{x'); DROP TABLE victim; --};
my $quoted = q{x"; DROP TABLE victim; --};

$lines->run(36, 'SQL in values, keys and headers', sub {
	my $cases = ValueCases->new($node, $kafka, 'sql_values', columns => 't text, b jsonb, _key text, _headers jsonb');
	query('CREATE TABLE victim ()');
	foreach my $text ($harm, q{'; DROP TABLE victim; --}, q{$$; DROP TABLE victim; --}, q{%s %n}, q{\'; DROP TABLE victim; --})
	{
		(my $json = $text) =~ s/\\/\\\\/g;
		$cases->add(36, $text, { value => qq({"t": "$json", "b": {"$json": "$json"}}), key => $text, headers => [ [ $text => $text ] ] },
			good => { t => $text, b => qq({"$json": "$json"}), _key => $text, _headers => qq({"$json": "$json"}) });
		# in a letter, too
		$cases->add(36, "$text in a letter", { value => qq({"id": "$json"}), key => $text, headers => [ [ $text => $text ] ] }, bad => [ '22P02', 'map', 'id' ]);
	}
	$cases->start;
	$cases->wait;
	$cases->check(36);
	$cases->ok_counts;
});

$lines->run(36, 'SQL in names', sub {
	(my $name = $quoted) =~ s/"/""/g;
	my $topic = $kafka->create_topic('lines_names');
	my $literal = qq($quoted'');
	$kafka->produce_messages($topic, { value => '{"x\"; DROP TABLE victim; --": 1}' }, { value => '{"x\"; DROP TABLE victim; --": "bad"}' });
	query(qq{CREATE SCHEMA "$name"; CREATE TABLE "$name"."$name" ("$name" int);
		SELECT kafka_ingest.create_pipeline('$literal', topic => '$topic', target => '"$name"."$name"')});
	$node->poll_until(q{SELECT count(*) FROM kafka_ingest.status WHERE pipeline LIKE 'x"%' AND messages = 2}, 1);
	is(query(qq{SELECT "$name" FROM "$name"."$name"}), 1, 'schema, table and column of such a name are loaded');
	is(query("SELECT column_name FROM kafka_ingest.dead_letters WHERE pipeline = '$literal'"), $quoted, 'a letter names the column');
	is(query("SELECT target FROM kafka_ingest.pipelines WHERE pipeline = '$literal'"), qq("$name"."$name"), 'and a view the table');
	query("SELECT kafka_ingest.drop_pipeline('$literal', discard => true)");
	is(query(q{SELECT count(*) FROM kafka_ingest.pipelines WHERE pipeline LIKE 'x"%'}), 0, 'it can be dropped');
});

$lines->run(36, 'names of topics', sub {
	foreach my $bad ('a"; drop', q{a''; DROP TABLE victim; --}, "\xc3\xa4", '', ' ', 'a b', 'a/b', '.', '..', 'a' x 250, "a\nb")
	{
		my $err;
		$node->psql('postgres', "\\set VERBOSITY verbose\nSELECT kafka_ingest.create_pipeline('refused', topic => '$bad', target => 'victim')", stderr => \$err);
		like($err, qr/ERROR:  22023: illegal topic name/, 'refused: ' . substr($bad, 0, 30) =~ s/\n/?/r);
	}
	my $topic = $kafka->create_topic('', name => $kafka->unique_name('Az09._-') . '_' . 'x' x 150);
	$kafka->produce($topic, count => 10);
	query("CREATE TABLE named (id int, _topic text);
		SELECT kafka_ingest.create_pipeline('named', topic => '$topic', target => 'named')");
	$node->wait_for_position_sum('named', 10);
	is(query('SELECT count(*), min(_topic) FROM named'), "10|$topic", 'letters, digits, dots, underscores and hyphens are legal');
	# the longest: legal, though this broker has none
	query("SELECT kafka_ingest.create_pipeline('longest', topic => '@{[ 'a' x 249 ]}', target => 'named')");
	is(query(q{SELECT count(*) FROM kafka_ingest.pipelines WHERE pipeline = 'longest'}), 1, 'and 249 of them');
	is(query(q{SELECT count(*) FROM pg_class WHERE relname = 'victim'}), 1, 'after all that the table is still there');
});

$lines->ok_all;

$node->stop;
done_testing();
