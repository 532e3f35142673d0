# A copy does not consume: a TEMPLATE clone, and a server of another site, wait
# until adopt().

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use PostgreSQL::Test::Utils;
use Test::More;

my $kafka = KafkaBroker->shared;
my $node = IngestCluster->new('main', extension => 0);
my $topic = $kafka->create_topic('copied', partitions => 2);

$node->safe_psql('postgres', 'CREATE ROLE loader LOGIN; CREATE DATABASE original');
$node->safe_psql('original', 'CREATE EXTENSION kafka_ingest');
$node->connect_kafka($kafka, dbname => 'original');
$node->safe_psql('original', qq{
	GRANT USAGE ON FOREIGN SERVER kafka TO loader;
	CREATE TABLE target (id bigint, _partition int, _offset bigint);
	ALTER TABLE target OWNER TO loader;
	SET SESSION AUTHORIZATION loader;
	SELECT kafka_ingest.create_pipeline('p', topic => '$topic', target => 'target');
});
my $produced = $kafka->produce($topic, count => 1000);
is( $node->safe_psql('original', q{SELECT kafka_ingest.wait_until_caught_up('p', '60s')}),
	't', 'the original has loaded');

# ---- a clone -------------------------------------------------------------------------

$node->safe_psql('original', q{SELECT kafka_ingest.pause('p')});
$node->safe_psql('postgres', 'CREATE DATABASE clone TEMPLATE original');
$node->safe_psql('original', q{SELECT kafka_ingest.resume('p')});
$node->wait_for_state('p', 'waiting/copied_database', dbname => 'clone');
like( $node->safe_psql('clone', 'SELECT detail FROM kafka_ingest.status'),
	qr/adopt\(\)/, 'detail says what to do');

# resume() is not enough, nor is run(); waiting for it is an error at once
$node->safe_psql('clone', q{SELECT kafka_ingest.resume('p')});
is($node->state('p', dbname => 'clone'), 'waiting/copied_database', 'resume() does not let it load');
my $err;
$node->psql('clone', q{\set VERBOSITY verbose
	CALL kafka_ingest.run('p')}, stderr => \$err);
like($err, qr/55000.*HINT:.*adopt/s, 'nor does run()');
$node->psql('clone', q{\set VERBOSITY verbose
	SELECT kafka_ingest.wait_until_caught_up('p')}, stderr => \$err);
like($err, qr/55000.*copied_database/s, 'wait_until_caught_up() says so at once');

$kafka->produce($topic, count => 1000, from => 1000);
is( $node->safe_psql('original', q{SELECT kafka_ingest.wait_until_caught_up('p', '60s')}),
	't', 'the original loads on');
$node->ledger_check('target', $topic, { 0 => 1000, 1 => 1000 }, dbname => 'original');
$node->ledger_check('target', $topic, { 0 => 500, 1 => 500 }, dbname => 'clone',
	name => 'the clone loaded nothing');

# adopt() is the owner's to call
$node->safe_psql('postgres', 'CREATE ROLE other LOGIN');
$node->psql('clone', q{SET SESSION AUTHORIZATION other; SELECT kafka_ingest.adopt('p')}, stderr => \$err);
like($err, qr/must be owner/, 'adopt() is refused to another role');
$node->safe_psql('clone', q{SET SESSION AUTHORIZATION loader; SELECT kafka_ingest.adopt('p')});
is( $node->safe_psql('clone', q{SELECT kafka_ingest.wait_until_caught_up('p', '60s')}),
	't', 'after adopt() the clone loads');
$node->ledger_check('target', $topic, { 0 => 1000, 1 => 1000 }, dbname => 'clone',
	name => 'from where it stood when it was copied, exactly once');
is( $node->safe_psql('clone', q{SELECT by FROM kafka_ingest.events WHERE event = 'adopt'}),
	'loader', 'an event tells who adopted it');
is($node->state('p', dbname => 'original'), 'running', 'the original goes on, too');
$node->ledger_check('target', $topic, { 0 => 1000, 1 => 1000 }, dbname => 'original');

# ---- another site --------------------------------------------------------------------

$node->append_conf('postgresql.conf', "kafka_ingest.site = 'elsewhere'");
$node->restart;
$node->wait_for_state('p', 'waiting/copied_database', dbname => 'original');
$kafka->produce($topic, count => 1000, from => 2000);
is( $node->safe_psql('clone', q{SELECT state, reason FROM kafka_ingest.status}),
	'waiting|copied_database', 'of another site: all wait');
$node->safe_psql('clone', q{SELECT kafka_ingest.adopt()});
is( $node->safe_psql('clone', q{SELECT kafka_ingest.wait_until_caught_up('p', '60s')}),
	't', 'adopt() of all lets this database load');
$node->ledger_check('target', $topic, { 0 => 1500, 1 => 1500 }, dbname => 'clone');
$node->ledger_check('target', $topic, { 0 => 1000, 1 => 1000 }, dbname => 'original',
	name => 'the other one waits');

# Back at the first site, the one that was not adopted is at home.
$node->append_conf('postgresql.conf', "kafka_ingest.site = ''");
$node->restart;
is( $node->safe_psql('original', q{SELECT kafka_ingest.wait_until_caught_up('p', '60s')}),
	't', 'back at its site the original loads');
$node->ledger_check('target', $topic, { 0 => 1500, 1 => 1500 }, dbname => 'original');
is($node->state('p', dbname => 'clone'), 'waiting/copied_database', 'and what was adopted elsewhere waits');

$node->stop;
done_testing();
