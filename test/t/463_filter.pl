# filter: which messages are let in, by value, key, headers and place; what is
# filtered is counted, what is broken is bad all the same.

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use Test::More;

my $kafka = KafkaBroker->shared();
my $node = IngestCluster->new('main');
my $pipelines = 0;

$node->connect_kafka($kafka);

sub sql { return $node->safe_psql('postgres', $_[0]) }

my $topic = $kafka->create_topic('filter');
my @messages = (
	{ value => '{"id": 0, "type": "order", "n": 1}', key => 'a' },
	{ value => '{"id": 1, "type": "refund", "n": 1.0, "flag": true}', key => 'b' },
	{ value => '{"id": 2, "type": "other", "n": "1", "flag": "true"}', key => '{"k": 1}' },
	{ value => '{"id": 3, "type": null, "deep": {"list": [{"x": "y"}]}}', headers => [ [ 'v', '2' ] ] },
	{ value => '{"id": 4, "deep": {"list": []}}', headers => [ [ 'v', '2' ], [ 'v', '3' ] ] },
	{ value => '{"id": 5, "type": {"a": 1}, "\u00e4 b": "\u00fc"}', headers => [ [ 'v', undef ] ] },
	{ value => '{"id": 6, "type": ["order"]}', key => "\xff" },
	{ value => undef, key => 'a', headers => [ [ 'v', '2' ] ] },
	{ value => undef, key => 'b' });
$kafka->produce_messages($topic, @messages);
my $total = @messages;

# With a target and without: the same messages go through. The one with a target
# is left when it is to be kept.
sub filters
{
	my ($filter, $expected, $is_kept) = @_;
	(my $literal = $filter) =~ s/'/''/g;
	my $p = 'p' . ++$pipelines;
	sql(qq{
		CREATE TABLE $p (id int, _offset bigint);
		CREATE TABLE s$p (message_offset bigint);
		SELECT kafka_ingest.create_pipeline('$p', topic => '$topic', target => '$p', filter => '$literal');
		SELECT kafka_ingest.create_pipeline('s$p', topic => '$topic', filter => '$literal',
			statement => 'INSERT INTO s$p SELECT message_offset FROM messages')});
	$node->wait_for_position_sum($_, $total) foreach $p, "s$p";
	my @loaded = split / /, $expected;
	my @values = grep { $_ < 7 } @loaded;
	is(sql("SELECT coalesce(string_agg(id::text, ' ' ORDER BY id), '') FROM $p WHERE id = _offset"), "@values", "$filter, with a target");
	is(sql("SELECT coalesce(string_agg(message_offset::text, ' ' ORDER BY message_offset), '') FROM s$p"), "@loaded", "$filter, with a statement");
	is(sql("SELECT messages, loaded, filtered, ignored, dead_letters_total, gaps FROM kafka_ingest.status WHERE pipeline IN ('$p', 's$p') ORDER BY pipeline"),
		join('|', $total, scalar(@values), $total - @loaded, @loaded - @values, 0, 0) . "\n"
		. join('|', $total, scalar(@loaded), $total - @loaded, 0, 0, 0),
		'the counts');
	# there are not processes for all of them
	sql("SELECT kafka_ingest.drop_pipeline(p) FROM unnest(ARRAY['s$p'" . ($is_kept ? '' : ", '$p'") . "]) p");
	return $p;
}

filters('{"$.type": "order"}', '0 7 8');
filters('{"$.type": ["order", "refund"]}', '0 1 7 8');
filters('{"$.type": ["order", "refund"], "@key": "b"}', '1 8');
filters('{"$.type": null}', '3 4 7 8');
filters('{"$.type": [null, "other"], "@headers.v": null}', '2 8');
filters('{"$.n": 1}', '0 2 7 8');
filters('{"$.n": 1.0}', '1 7 8');
filters('{"$.flag": true}', '1 2 7 8');
filters('{"$.flag": "false"}', '7 8');
filters('{"$.deep.list[0].x": "y"}', '3 7 8');
filters('{"$[\"ä b\"]": "ü"}', '5 7 8');
filters('{"$.type": ["object", "{\"a\": 1}"]}', '7 8');
filters('{"@headers.v": "2"}', '3 7');
filters('{"@headers.v": "3"}', '4');
filters('{"@headers.v": [null, ""]}', '0 1 2 5 6 8');
filters('{"@key": null}', '3 4 5');
filters('{"@key": "a"}', '0 7');
filters('{"@offset": [1, 8], "@partition": 0}', '1 8');
filters(qq({"\@topic": "$topic"}), '0 1 2 3 4 5 6 7 8');
filters('{"@topic": "another"}', '');
filters('{"@raw": "{\"id\": 4, \"deep\": {\"list\": []}}"}', '4');

# ---- keys that are documents ---------------------------------------------------------

my $keyed = $kafka->create_topic('keyed');
$kafka->produce_messages($keyed,
	{ key => '{"k": 1}', value => '{"id": 0}' },
	{ key => '{"k": 2}', value => '{"id": 1}' },
	{ key => '{"k": 1}', value => undef },
	{ key => '{"k": 2}', value => undef },
	{ value => '{"id": 4}' });
sql(qq{CREATE TABLE by_key (o bigint);
	SELECT kafka_ingest.create_pipeline('by_key', topic => '$keyed', key_format => 'json', filter => '{"\@key.k": [1, null]}',
		statement => 'INSERT INTO by_key SELECT message_offset FROM messages')});
$node->wait_for_position_sum('by_key', 5);
is(sql(q{SELECT string_agg(o::text, ' ' ORDER BY o) FROM by_key}), '0 2 4', 'parts of keys, of tombstones, too');

# ---- what conditions look at is not mapped ---------------------------------------------

sql(qq{CREATE TABLE rest (id int, _rest jsonb, _offset bigint);
	SELECT kafka_ingest.create_pipeline('rest', topic => '$topic', target => 'rest', filter => '{"\$.type": "order", "\$.id": 0}')});
$node->wait_for_position_sum('rest', $total);
is(sql('SELECT * FROM rest'), '0|{"n": 1, "type": "order"}|0', '@rest has what only the filter looks at');
sql(qq{CREATE TABLE nothing (nope int, _offset bigint);
	SELECT kafka_ingest.create_pipeline('nothing', topic => '$topic', target => 'nothing', filter => '{"\$.type": "order"}', on_error => 'stop')});
$node->wait_for_state('nothing', 'stopped/bad_message');
like(sql(q{SELECT detail FROM kafka_ingest.status WHERE pipeline = 'nothing'}), qr/offset 0 cannot.*no mapped field is present; mapped are \$\.nope\b/,
	'a field that only the filter looks at is no mapped field');

sql(qq{CREATE TABLE many (a int, b int, c timestamptz, d bigint, e int, f int);
	SELECT kafka_ingest.create_pipeline('many', topic => '$topic', target => 'many', filter => '{"\$.type": "order"}', on_error => 'stop',
		columns => '{"a": "\$[0].x", "b": "\$[\\"odd name\\"]", "c": "\$.c.d::epoch_s", "d": "\@offset", "e": "\$.e", "f": "\$.f"}')});
$node->wait_for_state('many', 'stopped/bad_message');
like(sql(q{SELECT detail FROM kafka_ingest.status WHERE pipeline = 'many'}), qr/mapped are \$\[0\]\.x, \$\["odd name"\], \$\.c\.d, \$\.e, \$\.f(?!, )/, 'paths are named as they are written');

# ---- what is broken is bad -----------------------------------------------------------------

my $broken = $kafka->create_topic('broken');
$kafka->produce_messages($broken, { value => '{"id": 0, "type": "order"}' }, { value => '{"id": 1, "type": "other"' },
	{ value => '{"id": "x", "type": "other"}' }, { value => '{"id": 3, "type": "order"}' });
foreach my $options ("target => 'good'", q{statement => 'INSERT INTO good SELECT (value->>''id'')::int FROM messages'})
{
	sql(qq{CREATE TABLE good (id int);
		SELECT kafka_ingest.create_pipeline('good', topic => '$broken', filter => '{"\$.type": "order"}', $options)});
	$node->wait_for_position_sum('good', 4);
	is(sql(q{SELECT string_agg(id::text, ' ' ORDER BY id) FROM good}), '0 3', 'the good ones');
	is(sql(q{SELECT message_offset, stage FROM kafka_ingest.dead_letters WHERE pipeline = 'good'}), '1|decode',
		'one that is no JSON is bad, filtered or not; one that is not let in need not fit');
	is(sql(q{SELECT messages, loaded, filtered, dead_letters_total FROM kafka_ingest.status WHERE pipeline = 'good'}), '4|2|1|1', 'the counts');
	sql(q{SELECT kafka_ingest.drop_pipeline('good', discard => true); DROP TABLE good});
}

# ---- changes -------------------------------------------------------------------------------

my $p = filters('{"$.type": "order"}', '0 7 8', 1);
sql(qq{SELECT kafka_ingest.alter_pipeline('$p', filter => '{"\@headers.v": "5"}')});
$kafka->produce_messages($topic, { value => '{"id": 9, "type": "order"}' }, { value => '{"id": 10}', headers => [ [ 'v', '5' ] ] });
$node->wait_for_position_sum($p, $total + 2);
is(sql("SELECT string_agg(id::text, ' ' ORDER BY id) FROM $p"), '0 10', 'another filter, which needs headers');
sql(qq{SELECT kafka_ingest.alter_pipeline('$p', reset => '{filter}')});
$kafka->produce_messages($topic, { value => '{"id": 11}' });
$node->wait_for_position_sum($p, $total + 3);
is(sql("SELECT string_agg(id::text, ' ' ORDER BY id) FROM $p"), '0 10 11', 'none any more');

$node->stop;
done_testing();
