# Several loaders on one pipeline at the same time, because a test build takes no
# locks: a worker in the background and two CALL run(). Whoever comes second to a
# position is fenced, drops what it read, and nothing is there twice.

use strict;
use warnings;

use IngestCluster;
use IPC::Run;
use KafkaBroker;
use Test::More;

my $rounds = 5;
my $per_round = 10_000;
my $kafka = KafkaBroker->shared();
my $topic = $kafka->create_topic('two_loaders', partitions => 2);
my $node = IngestCluster->new('main', faults => 1, conf => "kafka_ingest.fault = 'no_lock'");
my %produced = (0 => 0, 1 => 0);
my $fenced = 0;

$node->connect_kafka($kafka);
# slow to write, so that each is still at work when the others come
$node->safe_psql('postgres', qq{
	CREATE TABLE target (id bigint, _partition int, _offset bigint, loader int DEFAULT pg_backend_pid());
	CREATE FUNCTION be_slow() RETURNS trigger LANGUAGE plpgsql
		AS \$\$ BEGIN PERFORM pg_sleep(0.02); RETURN NULL; END \$\$;
	CREATE TRIGGER slow AFTER INSERT ON target
		FOR EACH STATEMENT EXECUTE FUNCTION be_slow();
	SELECT kafka_ingest.create_pipeline('p', topic => '$topic', target => 'target',
		batch_max_messages => 100, paused => true,
		columns => '{"id": "\$.id", "_partition": "\@partition", "_offset": "\@offset"}');
});

# A session that loads to the end of the topic; a hash with run and output.
sub start_run
{
	my %run = (output => '');
	$run{run} = IPC::Run::start([ $node->installed_command('psql'), '-XAtq', '-d',
			$node->connstr('postgres'), '-c', "CALL kafka_ingest.run('p', timeout => '120s')" ],
		'<', '/dev/null', '>&', \$run{output}, IPC::Run::timeout(180));
	return \%run;
}

foreach my $round (1 .. $rounds)
{
	$node->safe_psql('postgres', "SELECT kafka_ingest.pause('p')");
	my $counts = $kafka->produce($topic, count => $per_round, from => ($round - 1) * $per_round);
	$produced{$_} += $counts->{$_} foreach keys %produced;

	# when the runs are at work, the worker comes, too
	my @runs = (start_run(), start_run());
	$node->wait_for_position_sum('p', ($round - 1) * $per_round + 200);
	$node->safe_psql('postgres', "SELECT kafka_ingest.resume('p')");
	$node->wait_for_position_sum('p', $round * $per_round);
	$_->{run}->finish foreach @runs;

	my $error = $node->safe_psql('postgres', 'SELECT last_error FROM kafka_ingest.status');
	$fenced++ if $error =~ /another process moved a position/;
	note("round $round: run(): " . join(', ', map { $_->{output} } @runs) . "; worker: $error");
}

$node->ledger_check('target', $topic, \%produced);
is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT id) FROM target'),
	join('|', ($rounds * $per_round) x 2), 'nothing is missing, nothing is there twice');
is($node->safe_psql('postgres', 'SELECT messages, loaded FROM kafka_ingest.status'),
	join('|', ($rounds * $per_round) x 2), 'the counts are those of the rows');
my $rows = $node->safe_psql('postgres', 'SELECT loader, count(*) FROM target GROUP BY 1 ORDER BY 2 DESC');
note("rows by process:\n$rows");
cmp_ok(scalar(split /\n/, $rows), '>', 1, 'more than one process loaded');
cmp_ok($fenced, '>', 0, "the worker was fenced, and says so, in $fenced of $rounds rounds")
  or diag('not exercised');

done_testing();
