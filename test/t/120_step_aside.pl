# Workers stand in the way of no DROP, RENAME or TEMPLATE of their database:
# they step aside, and come back when the command failed or left it there.

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use PostgreSQL::Test::Utils;
use Test::More;

my $kafka = KafkaBroker->shared;
my $node = IngestCluster->new('main', extension => 0,
	conf => "max_prepared_transactions = 5\n");
my $topic = $kafka->create_topic('aside', partitions => 2);

sub make_database
{
	my ($dbname) = @_;
	$node->safe_psql('postgres', "CREATE DATABASE $dbname");
	$node->safe_psql($dbname, 'CREATE EXTENSION kafka_ingest');
	$node->connect_kafka($kafka, dbname => $dbname);
	$node->safe_psql($dbname, qq{
		CREATE TABLE target (id bigint, _partition int, _offset bigint);
		SELECT kafka_ingest.create_pipeline('p', topic => '$topic', target => 'target')});
	return;
}

# The position grows from what it is now: somebody loads, while messages come.
sub ok_loads
{
	my ($dbname, $name) = @_;
	my $sum = $node->position_sum('p', dbname => $dbname);
	$node->wait_for_position_sum('p', $sum + 200, dbname => $dbname);
	return pass($name);
}

sub worker_count
{
	my ($dbname) = @_;
	return "SELECT count(*) FROM pg_stat_activity WHERE datname = '$dbname' AND backend_type = 'kafka_ingest worker'";
}

make_database($_) foreach qw(one two three);
my $producer = $kafka->produce_background($topic, count => 1_000_000, rate => 2000, set => 100);
ok_loads('one', 'it loads');

# ---- a command that fails ----------------------------------------------------------

my $pid = $node->worker_pid('p', dbname => 'one');
$node->safe_psql('one', q{BEGIN; CREATE TABLE in_the_way (); PREPARE TRANSACTION 'busy'});
my ($out, $err) = ('', '');
$node->psql('postgres', 'DROP DATABASE one', stdout => \$out, stderr => \$err);
like($err, qr/being accessed by other users/, 'DROP DATABASE fails for another reason');
ok_loads('one', 'and the pipeline loads again');
isnt($node->worker_pid('p', dbname => 'one'), $pid, 'by a new worker: the old one had left');
$node->psql('postgres', 'ALTER DATABASE one RENAME TO two', stderr => \$err);
like($err, qr/already exists/, 'RENAME to a name that is taken fails');
ok_loads('one', 'and the pipeline loads again');
$node->safe_psql('one', q{ROLLBACK PREPARED 'busy'});

# Nobody can end workers by a command that is refused to them.
$node->safe_psql('postgres', 'CREATE ROLE nobody LOGIN');
$pid = $node->worker_pid('p', dbname => 'one');
foreach my $command ('DROP DATABASE one', 'DROP DATABASE one WITH (FORCE)',
	'ALTER DATABASE one RENAME TO mine', 'CREATE DATABASE mine TEMPLATE one')
{
	$node->psql('postgres', $command, stderr => \$err, extra_params => [ '-U', 'nobody' ]);
	like($err, qr/must be owner|permission denied/, "refused to another role: $command");
}
is($node->worker_pid('p', dbname => 'one'), $pid, 'and the worker stayed');

# ---- commands that succeed ---------------------------------------------------------

sub takes_no_time
{
	my ($command, $dbname) = @_;
	my $started = time;
	$node->safe_psql('postgres', $command);
	my $seconds = time - $started;
	# PostgreSQL itself waits 5 s and then gives up
	return ok($seconds < 20, "$command while loading ($seconds s)");
}

ok_loads($_, "$_ loads") foreach qw(two three);
takes_no_time('ALTER DATABASE one RENAME TO uno');
ok_loads('uno', 'the renamed database loads');
takes_no_time('CREATE DATABASE copy TEMPLATE uno');
ok_loads('uno', 'the database that was copied loads');
takes_no_time('DROP DATABASE two');
takes_no_time('DROP DATABASE three WITH (FORCE)');
ok_loads('uno', 'a pipeline elsewhere goes on');
is($node->safe_psql('postgres', worker_count('three')), 0, 'no worker of a dropped database is left');
takes_no_time('DROP DATABASE copy');
ok($producer->is_running, 'all of that while messages were coming');

$producer->kill9;
my $offsets = $kafka->offsets($topic);
my $produced = { map { $_ => $offsets->{$_}{high} } keys %$offsets };
is( $node->safe_psql('uno', q{SELECT kafka_ingest.wait_until_caught_up('p', '60s')}),
	't', 'caught up');
$node->ledger_check('target', $topic, $produced, dbname => 'uno');

# What CREATE DATABASE copies by itself: no worker of template1, but the command must work.
$node->safe_psql('postgres', 'CREATE DATABASE plain');
is( $node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity
		WHERE backend_type = 'kafka_ingest worker'}),
	1, 'one worker is left');

$node->stop;
done_testing();
