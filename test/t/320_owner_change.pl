# alter_pipeline(owner => ...): from then on another process loads, as the new
# owner, exactly once; and who may give a pipeline to whom.

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use PostgreSQL::Test::Utils;
use Test::More;

my $kafka = KafkaBroker->shared;
my $node = IngestCluster->new('main');
my $topic = $kafka->create_topic('owner', partitions => 2);

sub sql { my ($sql) = @_; return $node->safe_psql('postgres', $sql) }

$node->connect_kafka($kafka);
sql(q{
	CREATE ROLE alice LOGIN;
	CREATE ROLE bob LOGIN;
	CREATE ROLE carol LOGIN;
	CREATE ROLE dave LOGIN;
	GRANT USAGE ON FOREIGN SERVER kafka TO alice, bob, carol;
	CREATE TABLE target (id bigint, _partition int, _offset bigint, pid int DEFAULT pg_backend_pid(),
		who text DEFAULT current_user, session text DEFAULT session_user, by_trigger text);
	CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.by_trigger := current_user; RETURN NEW; END';
	CREATE TRIGGER note BEFORE INSERT ON target FOR EACH ROW EXECUTE FUNCTION note();
	GRANT INSERT ON target TO alice, bob});
sql(qq{
	SET SESSION AUTHORIZATION alice;
	SELECT kafka_ingest.create_pipeline('p', topic => '$topic', target => 'target', workers => 2, batch_max_messages => 500)});
my $producer = $kafka->produce_background($topic, count => 1_000_000, rate => 4000, set => 100);

# As a role; what it says, or the error.
sub as_role
{
	my ($role, $call) = @_;
	my ($out, $err);
	$node->psql('postgres', "\\set VERBOSITY verbose\nSET SESSION AUTHORIZATION $role;\nSELECT kafka_ingest.$call",
		stdout => \$out, stderr => \$err);
	return $out . $err;
}

sub ok_loads
{
	my ($name) = @_;
	my $sum = $node->position_sum('p');
	$node->wait_for_position_sum('p', $sum + 1000);
	return pass($name);
}

my $workers = q{SELECT string_agg(DISTINCT usename, ' ') || ' ' || count(*) FROM pg_stat_activity WHERE backend_type = 'kafka_ingest worker'};
my $owner = q{SELECT owner FROM kafka_ingest.pipelines};

# ---- a superuser gives it ------------------------------------------------------------------

ok_loads('it loads');
is(sql($workers), 'alice 2', "the processes are alice's");
my @old = $node->worker_pids('p');
sql(q{BEGIN; SELECT kafka_ingest.alter_pipeline('p', owner => 'bob'); ROLLBACK});
ok_loads('given away, but rolled back, it loads');
is_deeply([ $node->worker_pids('p') ], \@old, 'by the same processes');

sql(q{SELECT kafka_ingest.alter_pipeline('p', owner => 'bob')});
$node->poll_until($workers, 'bob 2');
pass('the processes are of the new owner');
ok_loads('and load');
my @new = $node->worker_pids('p');
is(scalar(grep { my $pid = $_; grep { $_ == $pid } @old } @new), 0, 'other processes');
is($node->state('p'), 'running', 'running');
is( sql('SELECT count(*) FROM target WHERE who <> session OR who <> by_trigger'),
	0, 'defaults and triggers agree who it was');
is( sql(q{SELECT _partition, max(_offset) FILTER (WHERE who = 'alice') + 1 = min(_offset) FILTER (WHERE who = 'bob'),
			count(*) FILTER (WHERE who NOT IN ('alice', 'bob'))
		FROM target GROUP BY 1 ORDER BY 1}),
	"0|t|0\n1|t|0", 'up to one message it was alice, from the next one on bob');
is(sql(q{SELECT count(DISTINCT who || pid) FROM target}), 4, 'no process loaded as both');
like(as_role('alice', q{pause('p')}), qr/ERROR:  42/, 'it is no longer hers');
is(sql(q{SET SESSION AUTHORIZATION alice; SELECT count(*) FROM kafka_ingest.pipelines}), 0, 'nor does she see it');
like(sql(q{SELECT string_agg(event || ' ' || detail || ' ' || by, ',') FROM kafka_ingest.events WHERE event = 'alter'}),
	qr/^alter owner postgres$/, 'the event says so');

# ---- who may give to whom -------------------------------------------------------------------

sub ok_refused
{
	my ($role, $to, $pattern, $name) = @_;
	like(as_role($role, "alter_pipeline('p', owner => '$to')"), $pattern, $name);
	is(sql($owner), 'bob', 'it stays with its owner');
	return;
}

ok_refused('bob', 'alice', qr/ERROR:  42501/, 'not to a role one is no member of');
ok_refused('bob', 'postgres', qr/ERROR:  42501/, 'not to a superuser');
ok_refused('alice', 'alice', qr/ERROR:  42/, "nobody takes what is another's");
ok_refused('postgres', 'dave', qr/ERROR:  42501.*"?kafka"?/s, 'not to one who may not use the connection');
ok_refused('postgres', 'carol', qr/ERROR:  42501.*"target"/s, 'nor to one who may not write the target');
ok_refused('postgres', 'nobody', qr/ERROR:  42704/, 'nor to one that does not exist');
if (sql('SHOW server_version_num') >= 160000)
{
	sql('GRANT alice TO bob WITH SET FALSE, INHERIT TRUE');
	ok_refused('bob', 'alice', qr/ERROR:  42501/, 'not with a membership that allows no SET ROLE');
	# another GRANT would keep the options
	sql('REVOKE alice FROM bob');
	sql('GRANT bob TO carol WITH INHERIT FALSE, SET TRUE; GRANT alice TO carol');
}
else
{
	# a member that does not inherit acts for the owner only after SET ROLE
	sql('ALTER ROLE carol NOINHERIT; GRANT bob TO carol; GRANT alice TO carol');
}
ok_refused('carol', 'alice', qr/ERROR:  42/, 'a member of the owner that does not inherit gives nothing away');
like(as_role('carol', q{pause('p')}), qr/ERROR:  42/, 'nor does anything else with it');
sql('REVOKE bob, alice FROM carol');

# to a role one is a member of
sql('GRANT alice TO bob');
unlike(as_role('bob', q{alter_pipeline('p', owner => 'alice')}), qr/ERROR/, 'a member of the new owner gives it');
$node->poll_until($workers, 'alice 2');
ok_loads('and its processes load');

ok($producer->is_running, 'all of that while messages were coming');
$producer->kill9;
my $offsets = $kafka->offsets($topic);
is(sql(q{SELECT kafka_ingest.wait_until_caught_up('p', '60s')}), 't', 'caught up');
$node->ledger_check('target', $topic, { map { $_ => $offsets->{$_}{high} } keys %$offsets });
is(sql(q{SELECT state, gaps FROM kafka_ingest.status}), 'running|0', 'running, without a gap');

$node->stop;
done_testing();
