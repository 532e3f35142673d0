# A broker that is stopped with SIGSTOP keeps its connections and answers nothing:
# status says reconnecting within some 3 seconds, running never while nothing moves, and
# running again when it goes on.

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use Test::More;
use Time::HiRes qw(time);

my $lag_was_checked = 0;
my $limit = 5;    # 3 s are promised; the machine may be busy
my $kafka = KafkaBroker->new();
my $topic = $kafka->create_topic('silent', partitions => 2);
my $node = IngestCluster->new('main');
my %produced = (0 => 0, 1 => 0);

$node->connect_kafka($kafka);
$node->safe_psql('postgres', qq{
	CREATE TABLE target (id bigint, _partition int, _offset bigint);
	SELECT kafka_ingest.create_pipeline('p', topic => '$topic', target => 'target');
});

sub load_more
{
	my $counts = $kafka->produce($topic, count => 1000, from => $produced{0} + $produced{1});
	$produced{$_} += $counts->{$_} foreach keys %produced;
	$node->wait_for_position_sum('p', $produced{0} + $produced{1});
	$node->wait_for_state('p', 'running');
	return;
}

load_more();
foreach my $round (1 .. 2)
{
	my $began = time;
	$kafka->sigstop;
	$node->wait_for_state('p', 'reconnecting/broker_unreachable', timeout => 30);
	my $took = time - $began;
	cmp_ok($took, '<', $limit, sprintf('round %d: reconnecting after %.1f s', $round, $took));
	ok($node->safe_psql('postgres', 'SELECT detail FROM kafka_ingest.status') ne '', 'and the detail says why');

	$began = time;
	if (!$lag_was_checked++)
	{
		# what was heard before it fell silent counts for ten seconds only
		my $heard = $node->safe_psql('postgres', 'SELECT lag_at FROM kafka_ingest.status');
		$node->poll_until('SELECT lag IS NULL AND time_lag IS NULL FROM kafka_ingest.status', 't', timeout => 60);
		is($node->safe_psql('postgres', 'SELECT state, lag_at FROM kafka_ingest.status'),
			"reconnecting|$heard", 'the lag is unknown after ten seconds of silence, and lag_at does not move');
	}
	$kafka->sigcont;
	$node->wait_for_state('p', 'running', timeout => 60);
	$took = time - $began;
	cmp_ok($took, '<', 15, sprintf('round %d: running again after %.1f s', $round, $took));
	load_more();
}

# the same with a broker that is killed
my $began = time;
$kafka->kill9;
$node->wait_for_state('p', 'reconnecting/broker_unreachable', timeout => 30);
my $took = time - $began;
cmp_ok($took, '<', $limit, sprintf('kill -9: reconnecting after %.1f s', $took));
$kafka->start;
load_more();
$node->ledger_check('target', $topic, \%produced);
is($node->safe_psql('postgres', 'SELECT count(*) = count(DISTINCT id), min(gaps) FROM target, kafka_ingest.status'),
	't|0', 'nothing is there twice, there is no gap');

done_testing();
