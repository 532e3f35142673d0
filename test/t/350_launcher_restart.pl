# The launcher ends while workers run: the next one takes them over. It leaks no place
# for a worker, starts none twice, and nothing is lost or doubled.

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use PostgreSQL::Test::Utils;
use Test::More;

my $kafka = KafkaBroker->shared;
my $node = IngestCluster->new('main', conf => "kafka_ingest.max_workers = 2\n");
my $find_launcher = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'kafka_ingest launcher'};
my $workers = q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'kafka_ingest worker'};
my $terminate = q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'kafka_ingest launcher'};
my $pipelines = 0;

sub sql { my ($sql) = @_; return $node->safe_psql('postgres', $sql) }

# A pipeline that gets messages all the time; the call that makes it is not made yet.
sub plan_pipeline
{
	my $name = 'p' . ++$pipelines;
	my $topic = $kafka->create_topic($name, partitions => 2);
	sql("CREATE TABLE $name (id bigint, _partition int, _offset bigint)");
	return {
		name     => $name,
		topic    => $topic,
		create   => "SELECT kafka_ingest.create_pipeline('$name', topic => '$topic', target => '$name', batch_max_messages => 500)",
		producer => $kafka->produce_background($topic, count => 1_000_000, rate => 2000, set => 100)
	};
}

sub ok_load
{
	my ($name, @loads) = @_;
	foreach my $load (@loads)
	{
		my $sum = $node->position_sum($load->{name});
		$node->wait_for_position_sum($load->{name}, $sum + 400);
		ok($node->wait_for_state($load->{name}, 'running'), "$name: $load->{name} loads");
	}
	# locks make a second one impossible, but nor must there be a process that waits for them
	is(sql($workers), scalar(@loads), "$name: one worker for each");
	return;
}

# Ends it; everything must be there once, whoever loaded it.
sub finish
{
	my ($load) = @_;
	$load->{producer}->kill9;
	my $offsets = $kafka->offsets($load->{topic});
	is(sql("SELECT kafka_ingest.wait_until_caught_up('$load->{name}', '60s')"), 't', "$load->{name}: caught up");
	$node->ledger_check($load->{name}, $load->{topic}, { map { $_ => $offsets->{$_}{high} } keys %$offsets });
	return;
}

# Waits for another launcher than that one.
sub wait_for_next_launcher
{
	my ($old) = @_;
	return $node->poll_until($find_launcher, qr/^(?!$old$)\d+$/);
}

$node->connect_kafka($kafka);
my @loads = (plan_pipeline(), plan_pipeline());
sql($_->{create}) foreach @loads;
ok_load('at first', @loads);
my $launcher = sql($find_launcher);

# ---- the workers stay ---------------------------------------------------------------------

my @pids = map { $node->worker_pid($_->{name}) } @loads;
sql($terminate);
$launcher = wait_for_next_launcher($launcher);
ok_load('with another launcher', @loads);
is_deeply([ map { $node->worker_pid($_->{name}) } @loads ], \@pids, 'by the same processes');

# ---- their places become free --------------------------------------------------------------

# dropped under the new launcher, which did not start these workers
finish($_) foreach @loads;
sql("SELECT kafka_ingest.drop_pipeline('$_->{name}')") foreach @loads;
@loads = (plan_pipeline(), plan_pipeline());
sql($_->{create}) foreach @loads;
ok_load('two others', @loads);

# dropped while there is none
finish($_) foreach @loads;
sql("$terminate; SELECT kafka_ingest.drop_pipeline('$_->{name}')") foreach @loads;
@loads = (plan_pipeline(), plan_pipeline());
sql($_->{create}) foreach @loads;
ok_load('dropped and made without a launcher', @loads);
$launcher = sql($find_launcher);

# workers that end while there is none
sql("$terminate; SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'kafka_ingest worker'");
$launcher = wait_for_next_launcher($launcher);
ok_load('ended together with the launcher', @loads);

# ---- at any moment of a start ------------------------------------------------------------------

# made and dropped again, with a launcher that ends at that very moment
foreach my $round (1 .. 3)
{
	my $name = "brief$round";
	sql(qq{
		SELECT kafka_ingest.pause('$loads[1]{name}');
		CREATE TABLE $name (id bigint);
		SELECT kafka_ingest.create_pipeline('$name', topic => '$loads[0]{topic}', target => '$name')});
	# once the launcher is at it, so to speak; then a little later each time
	$node->poll_until($workers, qr/^[12]$/) if $round > 1;
	$node->wait_for_state($name, qr/^(starting|running|waiting)/) if $round > 2;
	sql(qq{$terminate; SELECT kafka_ingest.drop_pipeline('$name'); SELECT kafka_ingest.resume('$loads[1]{name}')});
	$launcher = wait_for_next_launcher($launcher);
}
ok_load('after all that', @loads);

# more than there are places for: the third waits, and gets one when it is free
my $third = plan_pipeline();
sql($third->{create});
$node->wait_for_state($third->{name}, 'waiting/no_worker_slot');
sql($terminate);
$launcher = wait_for_next_launcher($launcher);
finish($loads[0]);
sql("SELECT kafka_ingest.drop_pipeline('$loads[0]{name}')");
my $freed = time;
ok_load('a third', $loads[1], $third);
cmp_ok(time - $freed, '<', 30, sprintf 'it had not to wait for the place (%d s)', time - $freed);

ok($_->{producer}->is_running, 'all of that while messages were coming') foreach $loads[1], $third;
finish($_) foreach $loads[1], $third;
is(sql($workers), 2, 'two workers to the end');

$node->stop;
done_testing();
