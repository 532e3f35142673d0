# What is in the way of the target, a lock or a missing privilege, shows in
# status and is waited for; BEGIN; pause; ALTER TABLE; resume; COMMIT works.

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use PostgreSQL::Test::Utils;
use Test::More;

my $kafka = KafkaBroker->shared;
my $node = IngestCluster->new('main', conf => <<'END');
max_prepared_transactions = 5
kafka_ingest.lock_timeout = '1s'
END
my $topic = $kafka->create_topic('trouble', partitions => 2);

$node->connect_kafka($kafka);
$node->safe_psql('postgres', qq{
	CREATE ROLE loader LOGIN;
	GRANT USAGE ON FOREIGN SERVER kafka TO loader;
	CREATE TABLE target (id bigint, _partition int, _offset bigint);
	GRANT INSERT ON target TO loader;
	SET SESSION AUTHORIZATION loader;
	SELECT kafka_ingest.create_pipeline('p', topic => '$topic', target => 'target', batch_max_messages => 500)});
my $producer = $kafka->produce_background($topic, count => 1_000_000, rate => 3000, set => 100);

sub ok_loads
{
	my ($name) = @_;
	my $sum = $node->position_sum('p');
	$node->wait_for_position_sum('p', $sum + 500);
	return pass($name);
}

# Shown within 3 s of the change is promised; others use this machine, too.
sub ok_shown
{
	my ($state) = @_;
	my $started = time;
	$node->wait_for_state('p', $state);
	my $seconds = time - $started;
	return cmp_ok($seconds, '<=', 10, "$state is shown after $seconds s");
}

ok_loads('it loads');

# ---- a lock --------------------------------------------------------------------------

$node->safe_psql('postgres', q{BEGIN; LOCK TABLE target IN ACCESS EXCLUSIVE MODE; PREPARE TRANSACTION 'lock'});
ok_shown('retrying/lock_timeout');
# longer than kafka_ingest.lock_timeout: the batch itself gave up and is tried again
$node->poll_until(q{SELECT last_error LIKE '%55P03%' FROM kafka_ingest.status}, 't');
is($node->state('p'), 'retrying/lock_timeout', 'and still shown when the batch was tried again');
my $stands = $node->position_sum('p');
is($node->safe_psql('postgres', q{SELECT kafka_ingest.wait_until_caught_up('p', '1s')}),
	'f', 'waiting for it ends with its timeout');
is($node->position_sum('p'), $stands, 'no offset moved');
$node->safe_psql('postgres', q{COMMIT PREPARED 'lock'});
ok_loads('the lock is gone: it loads');
is($node->state('p'), 'running', 'and runs');

# a lock of a row does nothing to it, nor does one that does not conflict
$node->safe_psql('postgres', q{BEGIN; LOCK TABLE target IN ROW EXCLUSIVE MODE; PREPARE TRANSACTION 'lock'});
ok_loads('a lock that conflicts with nothing');
$node->safe_psql('postgres', q{ROLLBACK PREPARED 'lock'});

# ---- privileges --------------------------------------------------------------------

$node->safe_psql('postgres', 'REVOKE INSERT ON target FROM loader');
ok_shown('retrying/permission_denied');
like($node->safe_psql('postgres', 'SELECT detail FROM kafka_ingest.status'),
	qr/permission denied.*target/, 'detail says for what');
$stands = $node->position_sum('p');
is($node->safe_psql('postgres', 'SELECT count(*) FROM target'), $stands, 'no offset without its row');
$node->safe_psql('postgres', 'GRANT INSERT ON target TO loader');
ok_loads('granted again: it loads');

$node->safe_psql('postgres', q{
	CREATE TABLE seen (n bigint);
	CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
		'BEGIN INSERT INTO seen VALUES (1); RETURN NULL; END';
	CREATE TRIGGER note AFTER INSERT ON target FOR EACH STATEMENT EXECUTE FUNCTION note()});
ok_shown('retrying/permission_denied');
is($node->position_sum('p'), $node->safe_psql('postgres', 'SELECT count(*) FROM target'),
	"a trigger that may not write elsewhere: no message's fault");
$node->safe_psql('postgres', 'GRANT INSERT ON seen TO loader');
ok_loads('granted: it loads');
$node->safe_psql('postgres', 'DROP TRIGGER note ON target');

$node->safe_psql('postgres', 'ALTER TABLE target ENABLE ROW LEVEL SECURITY');
ok_shown('retrying/permission_denied');
$node->safe_psql('postgres', 'ALTER TABLE target DISABLE ROW LEVEL SECURITY');
ok_loads('row security off again: it loads');

$node->safe_psql('postgres', 'ALTER ROLE loader NOLOGIN');
my $needs_login = $node->safe_psql('postgres', 'SHOW server_version_num') < 170000;
$node->wait_for_state('p', 'retrying/owner_cannot_login') if $needs_login;
$node->safe_psql('postgres', 'ALTER ROLE loader LOGIN');
ok_loads('the owner may log in again: it loads');

# ---- BEGIN; pause; ALTER TABLE; resume; COMMIT -------------------------------------

ok($producer->is_running, 'messages are coming');
my ($before, $after) = split /\n/, $node->safe_psql('postgres', q{
	\o /dev/null
	BEGIN;
	SELECT kafka_ingest.pause('p');
	\o
	SELECT sum(next_offset) || '|' || (SELECT count(*) FROM target) FROM kafka_ingest.partition_status;
	\o /dev/null
	ALTER TABLE target ALTER COLUMN id TYPE numeric, ADD COLUMN note text;
	UPDATE target SET note = 'before';
	CREATE INDEX ON target (_offset);
	\o
	SELECT sum(next_offset) || '|' || (SELECT count(*) FROM target) FROM kafka_ingest.partition_status;
	\o /dev/null
	SELECT kafka_ingest.resume('p');
	COMMIT});
is($after, $before, "nothing loads between pause and commit ($before)");
like($before, qr/^(\d+)\|\1$/, 'pause waited for the batch in flight');
ok_loads('after resume and commit it loads');
is($node->state('p'), 'running', 'and runs');
isnt($node->safe_psql('postgres', 'SELECT count(*) FROM target WHERE note IS NULL'), 0, 'into the altered table');

$node->safe_psql('postgres', q{BEGIN; SELECT kafka_ingest.pause('p'); TRUNCATE target; ROLLBACK});
ok_loads('and when all of it is rolled back');
ok($producer->is_running, 'all of that while messages were coming');

$producer->kill9;
my $offsets = $kafka->offsets($topic);
my $produced = { map { $_ => $offsets->{$_}{high} } keys %$offsets };
is( $node->safe_psql('postgres', q{SELECT kafka_ingest.wait_until_caught_up('p', '60s')}),
	't', 'caught up');
$node->ledger_check('target', $topic, $produced);

$node->stop;
done_testing();
