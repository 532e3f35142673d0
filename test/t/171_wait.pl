# wait_until_caught_up and wait_for: true when it is visible, false on timeout,
# an error at once when nothing will come.

use strict;
use warnings;

use IPC::Run ();
use IngestCluster;
use KafkaBroker;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $kafka = KafkaBroker->shared;
my $node = IngestCluster->new('main', conf => "max_prepared_transactions = 5\n");
my $topic = $kafka->create_topic('wait', partitions => 2);

$node->connect_kafka($kafka);
$node->safe_psql('postgres', qq{
	CREATE TABLE target (id bigint, _partition int, _offset bigint);
	SELECT kafka_ingest.create_pipeline('p', topic => '$topic', target => 'target', on_error => 'stop')});

sub value
{
	my ($call) = @_;
	return $node->safe_psql('postgres', "SELECT kafka_ingest.$call");
}

sub fails_at_once
{
	my ($call, $pattern) = @_;
	my $started = time;
	my $err;
	$node->psql('postgres', "\\set VERBOSITY verbose\nSELECT kafka_ingest.$call", stderr => \$err);
	my $seconds = time - $started;
	like($err, $pattern, "$call is an error");
	return cmp_ok($seconds, '<', 20, sprintf('at once (%.1f s)', $seconds));
}

# Starts the call in a session of its own; returns when it waits there.
sub start_waiting
{
	my ($call) = @_;
	my %waiting = (out => '', err => '');
	$waiting{run} = IPC::Run::start(
		[ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', "SELECT kafka_ingest.$call" ],
		'<', \undef, '>', \$waiting{out}, '2>', \$waiting{err}, IPC::Run::timeout(120));
	my $literal = $call =~ s/'/''/gr;
	$node->poll_until("SELECT wait_event_type FROM pg_stat_activity
		WHERE backend_type = 'client backend' AND query = 'SELECT kafka_ingest.$literal'", 'Extension');
	return \%waiting;
}

sub finish_waiting
{
	my ($waiting) = @_;
	$waiting->{run}->finish;
	return $waiting->{out} . $waiting->{err};
}

# ---- true ------------------------------------------------------------------------------

is(value(q{wait_until_caught_up('p', '60s')}), 't', 'an empty topic is caught up');
$kafka->produce($topic, count => 1000);
is( $node->safe_psql('postgres', q{SELECT kafka_ingest.wait_until_caught_up('p', '60s');
		SELECT count(*) FROM target}),
	"t\n1000", 'all that was in the topic at the call is visible');
is(value(q{wait_for('p', 1, 499)}), 't', 'a message that is there');

my $waiting = start_waiting(q{wait_for('p', 0, 549, '100s')});
$kafka->produce($topic, count => 100, from => 1000, partition => 0);
is(finish_waiting($waiting), "t\n", 'wait_for() wakes when its message is loaded');
is( $node->safe_psql('postgres', 'SELECT count(*) FROM target WHERE _partition = 0 AND _offset = 549'),
	1, 'which is visible then');

# ---- false -----------------------------------------------------------------------------

my $started = time;
is(value(q{wait_for('p', 0, 600, '300ms')}), 'f', 'a message that does not come');
cmp_ok(time - $started, '>=', 0.3, 'not before the timeout');
cmp_ok(time - $started, '<', 20, 'nor much later');
is(value(q{wait_for('p', 7, 0, '100ms')}), 'f', 'nor does one of a partition that is not there');
is(value(q{wait_for('p', 0, 600, '0s')}), 'f', 'no timeout at all: just a look');
is(value(q{wait_for('p', 0, 599, '0s')}), 't', 'the same');

$node->safe_psql('postgres', q{BEGIN; LOCK TABLE target; PREPARE TRANSACTION 'lock'});
$kafka->produce($topic, count => 200, from => 1100);
is(value(q{wait_until_caught_up('p', '500ms')}), 'f', 'a target that is locked: false on timeout, since it may go on');
$waiting = start_waiting(q{wait_until_caught_up('p', '100s')});
$node->safe_psql('postgres', q{ROLLBACK PREPARED 'lock'});
is(finish_waiting($waiting), "t\n", 'and true when the lock is gone');

# ---- an error at once --------------------------------------------------------------------

$node->safe_psql('postgres', q{SELECT kafka_ingest.pause('p')});
$kafka->produce($topic, count => 200, from => 1300);
fails_at_once(q{wait_until_caught_up('p', '100s')}, qr/55000.*paused.*HINT:.*resume/s);
fails_at_once(q{wait_for('p', 0, 100000, '100s')}, qr/55000.*paused/s);
is(value(q{wait_for('p', 0, 600)}), 't', 'but a message that is there is there');
$node->safe_psql('postgres', q{SELECT kafka_ingest.resume('p')});
is(value(q{wait_until_caught_up('p', '60s')}), 't', 'resumed');

# paused while somebody waits
$waiting = start_waiting(q{wait_for('p', 0, 100000, '100s')});
$node->safe_psql('postgres', q{SELECT kafka_ingest.pause('p')});
like(finish_waiting($waiting), qr/is paused/, 'paused while somebody waits');
$node->safe_psql('postgres', q{SELECT kafka_ingest.resume('p')});
is(value(q{wait_until_caught_up('p', '60s')}), 't', 'resumed');

# stopped while somebody waits
$waiting = start_waiting(q{wait_for('p', 0, 100000, '100s')});
$kafka->produce_messages($topic, { value => 'no JSON' });
like(finish_waiting($waiting), qr/is stopped: bad_message/, 'stopped while somebody waits');
fails_at_once(q{wait_until_caught_up('p', '100s')}, qr/55000.*stopped: bad_message.*partition 0/s);
my $end = $kafka->offsets($topic)->{0}{high};
$node->safe_psql('postgres', "SELECT kafka_ingest.seek('p', start_offsets => '{\"0\": $end}')");
is(value(q{wait_until_caught_up('p', '60s')}), 't', 'behind the bad message');

# waiting, dropped, not there
$node->append_conf('postgresql.conf', 'kafka_ingest.enabled = off');
$node->reload;
$node->wait_for_state('p', 'waiting/disabled');
fails_at_once(q{wait_until_caught_up('p', '100s')}, qr/55000.*waiting: disabled/s);
fails_at_once(q{wait_for('p', 0, 100000, '100s')}, qr/55000.*waiting: disabled/s);
$node->append_conf('postgresql.conf', 'kafka_ingest.enabled = on');
$node->reload;
$node->wait_for_state('p', 'running');
$waiting = start_waiting(q{wait_for('p', 0, 100000, '100s')});
$node->safe_psql('postgres', q{SELECT kafka_ingest.drop_pipeline('p')});
like(finish_waiting($waiting), qr/does not exist/, 'dropped while somebody waits');
fails_at_once(q{wait_for('p', 0, 0)}, qr/42704/);
fails_at_once(q{wait_until_caught_up(NULL)}, qr/22004/);

# ---- without a broker ------------------------------------------------------------------------

$node->safe_psql('postgres', qq{
	SELECT kafka_ingest.create_pipeline('p', topic => '$topic', target => 'target', start_offsets => '{"0": $end}')});
is(value(q{wait_until_caught_up('p', '60s')}), 't', 'a new pipeline');
$node->safe_psql('postgres', q{ALTER SERVER kafka OPTIONS (SET brokers '127.0.0.1:1')});
# it counts from the next batch on
$kafka->produce($topic, count => 100, from => 1500, partition => 1);
$node->wait_for_state('p', 'reconnecting/broker_unreachable');
is(value("wait_for('p', 0, $end - 1)"), 't', 'wait_for() needs no broker');
is(value("wait_for('p', 0, $end, '200ms')"), 'f', 'nor to say no');
is(value(q{wait_until_caught_up('p', '500ms')}), 'f', 'wait_until_caught_up() does: false on timeout');

$node->stop;
done_testing();
