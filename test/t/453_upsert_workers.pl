# Upsert by four workers: rows and deletes of the same keys from all partitions, without
# one deadlock; and kill -9 of workers over and over, after which the table is the model
# of each partition. MODEL_SEED repeats the messages.

use strict;
use warnings;

use Chaos;
use IngestCluster;
use KafkaBroker;
use PostgreSQL::Test::Utils;
use Test::More;

use constant PARTITIONS => 4;

my $seed = $ENV{MODEL_SEED} // int(rand(2**31));
srand($seed);
note("seed $seed");
my $kafka = KafkaBroker->shared;
my $node = IngestCluster->new('main', conf => "deadlock_timeout = 10ms\nlog_lock_waits = on\n");
$node->connect_kafka($kafka);

sub query
{
	return $node->safe_psql('postgres', $_[0]);
}

# ---- the same keys in all partitions --------------------------------------------------

# The keys up to 99 are deleted, too. Nothing tells whose delete comes last, but of the
# others the newest row stays, wherever it came from.
sub produce_overlapping
{
	my ($count) = @_;
	my $topic = $kafka->create_topic('overlap', partitions => PARTITIONS);
	my (%newest, @messages);
	foreach my $n (1 .. $count)
	{
		my $k = int(rand(200));
		my $deletes = $k < 100 && rand() < 0.4;
		push @messages, { partition => int(rand(PARTITIONS)), key => $k, value => $deletes ? undef : qq({"k": $k, "v": $n}) };
		$newest{$k} = $n if $k >= 100;
	}
	$kafka->produce_messages($topic, @messages);
	return ($topic, join "\n", map { "$_|$newest{$_}" } sort { $a <=> $b } keys %newest);
}

sub check_overlapping
{
	my ($name, $options) = @_;
	my $count = 20_000;
	my ($topic, $newest) = produce_overlapping($count);
	# the trigger makes time between the first and the last row of a batch
	query(qq{CREATE TABLE $name (k int PRIMARY KEY, v int, w int DEFAULT 1);
		CREATE TRIGGER slow AFTER INSERT OR UPDATE ON $name FOR EACH STATEMENT EXECUTE FUNCTION be_slow(3);
		SELECT kafka_ingest.create_pipeline('$name', topic => '$topic', target => '$name', mode => 'upsert', newer_by => 'v',
			workers => 4, batch_max_messages => 100 $options)});
	$node->wait_for_position_sum($name, $count);
	is(query("SELECT k, v FROM $name WHERE k >= 100 ORDER BY k"), $newest, "$name: the newest rows");
	is(query("SELECT messages, loaded, dead_letters_total FROM kafka_ingest.status WHERE pipeline = '$name'"), "$count|$count|0",
		'all messages are counted');
	query("SELECT kafka_ingest.drop_pipeline('$name')");
	return;
}

query(q{CREATE FUNCTION be_slow() RETURNS trigger LANGUAGE plpgsql
	AS $$ BEGIN PERFORM pg_sleep(TG_ARGV[0]::float / 1000); RETURN NULL; END $$});
check_overlapping('overlapping', q(, columns => '{"k": "$.k", "v": "$.v"}'));
my $log = slurp_file($node->logfile);
cmp_ok(scalar(() = $log =~ /still waiting for/g), '>', 10, 'workers did wait for each other');
unlike($log, qr/deadlock detected/, 'but not in a circle');

# ---- kill -9 ---------------------------------------------------------------------------

my $topic = $kafka->create_topic('kill', partitions => PARTITIONS);
my %model;

# Produces changes, and makes them in the model.
sub produce_changes
{
	my ($from, $count) = @_;
	my @messages;
	foreach my $n ($from + 1 .. $from + $count)
	{
		my ($partition, $k) = (int(rand(PARTITIONS)), int(rand(2000)));
		my $id = "$partition|$k";
		my $deletes = rand() < 0.1;
		push @messages, { partition => $partition, key => $k, value => $deletes ? undef : qq({"v": $n}) };
		if ($deletes) { delete $model{$id} }
		else { $model{$id} = $n }
	}
	return $kafka->produce_messages($topic, @messages);
}

my $chaos = Chaos->new(node => $node, pipeline => 'p', ends => produce_changes(0, 60_000), blows => 8,
	more => sub { produce_changes($_[0], 20_000) });
query(qq{CREATE TABLE target (p int, k int, v int, PRIMARY KEY (p, k));
	CREATE TRIGGER slow AFTER INSERT ON target FOR EACH STATEMENT EXECUTE FUNCTION be_slow(30);
	SELECT kafka_ingest.create_pipeline('p', topic => '$topic', target => 'target', mode => 'upsert',
		columns => '{"p": "\@partition", "k": "\@key", "v": "\$.v"}', workers => 4, batch_max_messages => 100)});
$chaos->kill9($chaos->freeze_worker) while $chaos->await_next_moment;
$chaos->check_blows(in_flight => 6);
my $all = $chaos->total;
$node->wait_for_position_sum('p', $all);
is(query('SELECT p, k, v FROM target ORDER BY p, k'),
	join("\n", map { "$_->[0]|$_->[1]|$_->[2]" } sort { $a->[0] <=> $b->[0] || $a->[1] <=> $b->[1] }
		  map { [ split(/\|/, $_), $model{$_} ] } keys %model),
	"the table is the model (seed $seed)");
is(query(q{SELECT messages, loaded, ignored, dead_letters_total, gaps FROM kafka_ingest.status WHERE pipeline = 'p'}),
	"$all|$all|0|0|0", 'each message counts once');

$node->stop;
done_testing();
