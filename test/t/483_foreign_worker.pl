# A background worker of another library, such as a scheduler's, that is terminated
# while it runs run(): it leaves like any session, and takes nobody with it.

use strict;
use warnings;

use File::Basename qw(dirname);
use IngestCluster;
use KafkaBroker;
use PostgreSQL::Test::Utils;
use Test::More;

# what was freed is overwritten, so that using it does not go well by chance
$ENV{MALLOC_PERTURB_} = 165;

my $kafka = KafkaBroker->shared;
my $node = IngestCluster->new('main');
my $topic = $kafka->create_topic('foreign_worker');
my $library = dirname($ENV{KAFKA_TOOL}) . '/foreign_worker.so';

$kafka->produce($topic, count => 200_000);
$node->connect_kafka($kafka);
# the trigger makes time within the batch, whose messages are held then
$node->safe_psql('postgres', qq{
	CREATE FUNCTION foreign_worker(command text, library text) RETURNS int LANGUAGE C STRICT AS '$library';
	CREATE TABLE target (id bigint, _partition int, _offset bigint);
	CREATE FUNCTION be_slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.02); RETURN NULL; END';
	CREATE TRIGGER slow AFTER INSERT ON target FOR EACH STATEMENT EXECUTE FUNCTION be_slow();
	SELECT kafka_ingest.create_pipeline('p', topic => '$topic', target => 'target', batch_max_messages => 5000, paused => true)});

my $at = 0;
foreach my $round (1 .. 5)
{
	my $pid = $node->safe_psql('postgres', "SELECT foreign_worker('CALL kafka_ingest.run(''p'')', '$library')");
	$node->wait_for_position_sum('p', $at + 5000);
	is($node->safe_psql('postgres', "SELECT pg_terminate_backend($pid, 30000)"), 't', "round $round: it ends");
	$at = $node->position_sum('p');
}
cmp_ok($at, '<', 200_000, 'it was not at the end');
is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT (_partition, _offset)) FROM target'), "$at|$at", 'what it loaded is there, once');
unlike(slurp_file($node->logfile), qr/was terminated by signal|PANIC/, 'no process ended by a signal');

$node->safe_psql('postgres', q{DROP TRIGGER slow ON target});
$node->safe_psql('postgres', "SELECT foreign_worker('CALL kafka_ingest.run(''p'')', '$library')");
$node->wait_for_position_sum('p', 200_000);
is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT (_partition, _offset)) FROM target'), '200000|200000', 'the next one goes on to the end');

$node->stop;
done_testing();
