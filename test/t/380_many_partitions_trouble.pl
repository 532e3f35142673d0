# A topic that comes back with fewer partitions than a pipeline has positions of: it is
# trouble for as long as it lasts, and costs neither memory nor transactions.

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use PostgreSQL::Test::Utils;
use Test::More;

my $kafka = KafkaBroker->shared;
my $node = IngestCluster->new('main', conf => "autovacuum = off\n");
my $topic = $kafka->create_topic('many', partitions => 50);
my $seconds = 15;

sub sql { my ($sql) = @_; return $node->safe_psql('postgres', $sql) }

# Memory of a process of its own, in kB.
sub memory_of
{
	my ($pid) = @_;
	my ($kb) = slurp_file("/proc/$pid/status") =~ /^RssAnon:\s+(\d+) kB$/m;
	return $kb;
}

$node->connect_kafka($kafka);
sql(qq{
	CREATE TABLE target (id bigint, _partition int, _offset bigint);
	SELECT kafka_ingest.create_pipeline('p', topic => '$topic', target => 'target', workers => 2)});
$kafka->produce($topic, count => 100, partition => $_) foreach 20, 21;
$node->wait_for_position_sum('p', 200);
is(sql('SELECT partitions FROM kafka_ingest.status'), 50, 'all partitions have positions');
my @pids = $node->worker_pids('p');

$kafka->delete_topic($topic);
$node->wait_for_state('p', 'reconnecting/topic_missing');
is_deeply([ $node->worker_pids('p') ], \@pids, 'deleted: reconnecting/topic_missing, in the same processes');
$kafka->create_topic('', name => $topic, partitions => 10);
# it knows the new one: a question about a partition that is not there is answered
$node->poll_until(qq{SELECT count(*) FROM kafka_ingest.topics(pattern => '$topic')}, '10');
$node->wait_for_state('p', 'reconnecting/topic_missing');

# the first rounds are not counted: caches are filled then
my $commits = q{SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = 'postgres'};
my $sample = sub {
	return { commits => sql($commits), map { $_ => memory_of($_) } @pids };
};
sql('SELECT pg_sleep(1)');
my $before = $sample->();
sql("SELECT pg_sleep($seconds)");
my $after = $sample->();

is($node->state('p'), 'reconnecting/topic_missing', 'made again with fewer partitions: still reconnecting/topic_missing');
is_deeply([ $node->worker_pids('p') ], \@pids, 'in the same processes');
foreach my $pid (@pids)
{
	my $growth = $after->{$pid} - $before->{$pid};
	cmp_ok($growth, '<', 4096, "process $pid grew by $growth kB in $seconds s (from $before->{$pid} kB)");
}
my $count = $after->{commits} - $before->{commits};
cmp_ok($count, '<', 2 * 5 * $seconds, "$count transactions of two workers in $seconds s");
is($node->position_sum('p'), 200, 'no position moved');
my $lines = () = slurp_file($node->logfile) =~ /kafka client:/g;
cmp_ok($lines, '<', 300, "$lines lines of the client in the log");

# with all its partitions again, the messages there are others
$kafka->create_partitions($topic, 50);
$node->wait_for_state('p', 'stopped/topic_recreated');
pass('made again with all partitions: stopped/topic_recreated');
is(sql('SELECT count(*) FROM target'), 200, 'nothing was loaded');

$node->stop;
done_testing();
