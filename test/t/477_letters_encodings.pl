# Letters in databases of other encodings: names of headers become text of the
# database, or hex digits where they cannot, and what a retry makes of a letter
# is what loading the message would have made of it.

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use Test::More;

my $kafka = KafkaBroker->shared;
my $node = IngestCluster->new('main', extension => 0);
my $topic = $kafka->create_topic('encodings');
my $umlaut = "\xc3\xbc";	# UTF-8, and in LATIN1, too
my $euro = "\xe2\x82\xac";	# UTF-8, and in no LATIN1
my @headers = ([ $umlaut => $umlaut ], [ $euro => $euro ], [ "\xff" => "\xff" ], [ plain => undef ]);

$kafka->produce_messages($topic,
	{ value => qq({"id": 1, "t": "$umlaut"}), headers => \@headers },
	{ value => qq({"id": "x2", "t": "$umlaut"}), key => $euro, headers => \@headers },
	{ value => qq({"id": 3, "t": "$euro"}), headers => \@headers });

foreach my $encoding (qw(UTF8 LATIN1 SQL_ASCII))
{
	my $db = 'db_' . lc $encoding;
	my $query = sub { return $node->safe_psql($db, $_[0]) };
	$node->safe_psql('postgres', "CREATE DATABASE $db TEMPLATE template0 ENCODING '$encoding' LOCALE 'C'");
	$query->('CREATE EXTENSION kafka_ingest');
	$node->connect_kafka($kafka, dbname => $db);
	# the name's bytes in UTF-8; SQL_ASCII has no conversions, and keeps them
	my $name = $encoding eq 'SQL_ASCII' ? "convert_to(h.name, 'SQL_ASCII')" : "convert_to(h.name, 'UTF8')";
	$query->(qq{CREATE TABLE t (id int, t text, _headers jsonb);
		SELECT kafka_ingest.create_pipeline('p', topic => '$topic', target => 't', max_error_ratio => 1)});
	$node->wait_for_position_sum('p', 3, dbname => $db);
	is($query->(q{SELECT string_agg(message_offset || ' ' || sqlstate, ', ' ORDER BY message_offset) FROM kafka_ingest.dead_letters}),
		$encoding eq 'LATIN1' ? '1 22P02, 2 22P05' : '1 22P02', "$encoding: the letters");
	is( $query->(qq{SELECT string_agg(encode($name, 'hex') || '=' || coalesce(encode(h.value, 'hex'), 'NULL'), ' ' ORDER BY h.ordinality), encode(key, 'hex')
			FROM kafka_ingest.dead_letters, unnest(headers) WITH ORDINALITY h WHERE message_offset = 1 GROUP BY key}),
		'c3bc=c3bc ' . ($encoding eq 'LATIN1' ? unpack('H*', '\xe282ac') : 'e282ac') . '=e282ac ' . unpack('H*', '\xff') . '=ff ' . unpack('H*', 'plain') . '=NULL|e282ac',
		"$encoding: names of headers are text, or hex digits");
	$query->(q{ALTER TABLE t ALTER id TYPE text});
	is($query->(q{SELECT retried, loaded FROM kafka_ingest.retry_dead_letters('p', max_messages => 1)}), '1|1', "$encoding: tried again");
	is($query->(q{SELECT a._headers = b._headers AND a.t = b.t FROM t a, t b WHERE a.id = '1' AND b.id = 'x2'}), 't', "$encoding: as if loaded at once");
}

$node->stop;
done_testing();
