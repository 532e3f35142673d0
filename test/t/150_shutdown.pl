# A fast shutdown takes less than 5 s, with the broker up, stopped (SIGSTOP) or
# dead; and loading begins by itself when the server and the broker are there.

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $kafka = KafkaBroker->new;
my $node = IngestCluster->new('main');
my $topic = $kafka->create_topic('shutdown', partitions => 2);

$node->connect_kafka($kafka);
$node->safe_psql('postgres', qq{
	CREATE TABLE target (id bigint, _partition int, _offset bigint);
	CREATE TABLE waiting (id bigint);
	SELECT kafka_ingest.create_pipeline('waiting', topic => 'not_there', target => 'waiting');
	SELECT kafka_ingest.create_pipeline('p', topic => '$topic', target => 'target', workers => 2, batch_max_messages => 500)});

sub stops_fast
{
	my ($how) = @_;
	my $started = time;
	$node->stop('fast');
	my $seconds = time - $started;
	return cmp_ok($seconds, '<', 5, sprintf('fast shutdown, %s: %.2f s', $how, $seconds));
}

# ---- up ------------------------------------------------------------------------------

my $producer = $kafka->produce_background($topic, count => 40_000, rate => 5000, set => 100);
$node->wait_for_position_sum('p', 1000);
stops_fast('the broker up, loading');
ok($producer->is_running, 'while messages were coming');
my $produced = $producer->finish;
$node->start;
$node->wait_for_position_sum('p', 40_000);
pass('the server starts: loading begins by itself');
$node->ledger_check('target', $topic, $produced);
$node->wait_for_state('p', 'running');
stops_fast('the broker up, idle');

# ---- stopped -------------------------------------------------------------------------

$node->start;
$node->wait_for_state('p', 'running');
$kafka->sigstop;
stops_fast('the broker stopped meanwhile');
$node->start;
$node->wait_for_state('p', qr/^(starting|reconnecting)/);
stops_fast('the broker stopped, just started');
$node->start;
$node->wait_for_state('p', qr/^reconnecting/);
like($node->state('p'), qr{^reconnecting/broker_unreachable$}, 'a broker that does not answer shows');
stops_fast('the broker stopped, in the middle of it');
$kafka->sigcont;

# ---- dead ----------------------------------------------------------------------------

$node->start;
$node->wait_for_state('p', 'running');
$kafka->kill9;
$node->wait_for_state('p', 'reconnecting/broker_unreachable');
stops_fast('the broker dead meanwhile');
$node->start;
$node->wait_for_state('p', 'reconnecting/broker_unreachable');
stops_fast('the broker dead from the start');

# the server first, the broker later
$node->start;
$node->wait_for_state('p', 'reconnecting/broker_unreachable');
$kafka->start;
$kafka->produce($topic, count => 1000, from => 40_000);
$node->wait_for_position_sum('p', 41_000);
pass('the broker is there again: loading goes on by itself');
$node->ledger_check('target', $topic, { map { $_ => $produced->{$_} + 500 } keys %$produced });
$node->wait_for_state('p', 'running');
$node->wait_for_state('waiting', 'reconnecting/topic_missing');
stops_fast('a topic that is not there');
unlike(slurp_file($node->logfile), qr/PANIC|terminated by signal|received immediate shutdown/, 'nothing crashed');

done_testing();
