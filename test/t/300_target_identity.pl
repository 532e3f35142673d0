# A pipeline writes into the relation that was checked and into no other: not into
# one that took its name, and not, through a view or a partition, into one that
# would be refused as a target itself.

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use PostgreSQL::Test::Utils;
use Test::More;

my $kafka = KafkaBroker->shared;
# what does not pass by itself is tried again after a minute, or at once after resume()
my $node = IngestCluster->new('main', conf => "kafka_ingest.retry_backoff_max = '60s'\n");
my $columns = '(id bigint, _partition int, _offset bigint)';

sub sql { my ($sql, %options) = @_; return $node->safe_psql('postgres', $sql, %options) }

# A topic that gets messages all the time; the table that all of it shall be in.
sub load
{
	my ($name, $target) = @_;
	my $topic = $kafka->create_topic($name, partitions => 2);
	sql("SELECT kafka_ingest.create_pipeline('$name', topic => '$topic', target => '$target', batch_max_messages => 500)");
	return {
		name     => $name,
		topic    => $topic,
		producer => $kafka->produce_background($topic, count => 1_000_000, rate => 3000, set => 100)
	};
}

sub ok_loads
{
	my ($load, $name) = @_;
	my $sum = $node->position_sum($load->{name});
	$node->wait_for_position_sum($load->{name}, $sum + 500);
	is($node->state($load->{name}), 'running', $name);
	return;
}

sub ok_retries
{
	my ($load, $reason, $detail, $rows) = @_;
	my $name = $load->{name};
	$node->wait_for_state($name, "retrying/$reason");
	like(sql("SELECT detail FROM kafka_ingest.status WHERE pipeline = '$name'"), $detail, "$name: retrying/$reason");
	is(sql("SELECT count(*) FROM $rows"), $node->position_sum($name), "$name: no offset without its row");
	return;
}

sub resume { my ($load) = @_; sql("SELECT kafka_ingest.resume('$load->{name}')"); return }

# The end: everything that was produced is there, once.
sub ok_complete
{
	my ($load, $rows) = @_;
	ok($load->{producer}->is_running, "$load->{name}: all of that while messages were coming");
	$load->{producer}->kill9;
	my $offsets = $kafka->offsets($load->{topic});
	is(sql("SELECT kafka_ingest.wait_until_caught_up('$load->{name}', '120s')"), 't', "$load->{name}: caught up");
	$node->ledger_check($rows, $load->{topic}, { map { $_ => $offsets->{$_}{high} } keys %$offsets });
	is($node->state($load->{name}), 'running', "$load->{name}: runs");
	sql("SELECT kafka_ingest.drop_pipeline('$load->{name}')");
	return;
}

sub refused
{
	my ($target, $pattern, $name) = @_;
	my $err;
	my $status = $node->psql('postgres',
		"\\set VERBOSITY verbose\nSELECT kafka_ingest.create_pipeline('refused', topic => 'x', target => '$target')",
		stderr => \$err);
	isnt($status, 0, "$name is refused");
	like($err, $pattern, "$name: with the reason");
	return;
}

$node->connect_kafka($kafka);

# ---- another relation takes the name -----------------------------------------------------

sql(qq{
	CREATE ROLE alice LOGIN;
	GRANT CREATE ON DATABASE postgres TO alice;
	CREATE SCHEMA app AUTHORIZATION alice;
	CREATE TABLE app.t $columns});
my $load = load('renamed', 'app.t');
ok_loads($load, 'it loads into the table');

sql(qq{
	SET SESSION AUTHORIZATION alice;
	BEGIN;
	ALTER SCHEMA app RENAME TO app_old;
	CREATE SCHEMA app;
	CREATE TABLE app.t $columns;
	CREATE TABLE app.noted (who text);
	GRANT ALL ON SCHEMA app TO PUBLIC;
	GRANT ALL ON app.t, app.noted TO PUBLIC;
	CREATE FUNCTION app.note() RETURNS trigger LANGUAGE plpgsql AS
		'BEGIN INSERT INTO app.noted VALUES (current_user); RETURN NEW; END';
	CREATE TRIGGER note BEFORE INSERT ON app.t FOR EACH ROW EXECUTE FUNCTION app.note();
	COMMIT});
ok_loads($load, 'with another table under its name it loads');
is(sql('SELECT count(*) FROM app.t'), 0, 'nothing goes into the other table');
is(sql('SELECT count(*) FROM app.noted'), 0, 'no code of the other table runs');
is(sql('SELECT target FROM kafka_ingest.pipelines'), 'app_old.t', 'the pipeline shows the name of the one it loads');
my ($messages, $loaded) = split /\|/, sql('SELECT messages, loaded FROM kafka_ingest.status');
is($messages, $loaded, 'status counts all messages as loaded');
cmp_ok(sql('SELECT count(*) FROM app_old.t'), '>=', $messages, 'and they are in the original');

# to and fro, at any moment of a batch
foreach (1 .. 40)
{
	my $sum = $node->position_sum('renamed');
	sql('BEGIN; ALTER SCHEMA app RENAME TO app_new; ALTER SCHEMA app_old RENAME TO app; COMMIT');
	$node->wait_for_position_sum('renamed', $sum + 1);
	sql('BEGIN; ALTER SCHEMA app RENAME TO app_old; ALTER SCHEMA app_new RENAME TO app; COMMIT');
}
# the table itself
sql('ALTER TABLE app_old.t RENAME TO u; ALTER TABLE app.t SET SCHEMA app_old');
ok_loads($load, 'moved and renamed it loads');
is(sql('SELECT count(*) FROM app_old.t'), 0, 'nothing goes into the other table');
is(sql('SELECT count(*) FROM app.noted'), 0, 'no code of it has run');
ok_complete($load, 'app_old.u');

# ---- views, when the pipeline is made -------------------------------------------------------

sql(qq{
	CREATE FOREIGN DATA WRAPPER nowhere;
	CREATE SERVER nowhere FOREIGN DATA WRAPPER nowhere;
	CREATE FOREIGN TABLE remote $columns SERVER nowhere;
	CREATE UNLOGGED TABLE unlogged $columns;
	CREATE TABLE of_alice $columns;
	ALTER TABLE of_alice OWNER TO alice;
	CREATE VIEW over_remote AS TABLE remote;
	CREATE VIEW over_unlogged AS TABLE unlogged;
	CREATE VIEW over_view AS TABLE over_unlogged;
	CREATE VIEW over_alices AS TABLE of_alice;
	CREATE VIEW alices_over_own AS TABLE of_alice;
	ALTER VIEW alices_over_own OWNER TO alice;
	CREATE VIEW counted AS SELECT count(*) AS id FROM of_alice;
	CREATE VIEW joined AS SELECT a.* FROM of_alice a JOIN of_alice b USING (id);
	CREATE TABLE parted $columns PARTITION BY LIST (_partition);
	CREATE UNLOGGED TABLE parted_0 PARTITION OF parted FOR VALUES IN (0);
	CREATE VIEW over_parted AS TABLE parted});
refused('over_unlogged', qr/42809.*"unlogged" cannot be the target.*DETAIL:  It is unlogged/s, 'a view over an unlogged table');
refused('over_view', qr/42809.*"unlogged" cannot be the target.*DETAIL:  It is unlogged/s, 'a view over such a view');
refused('over_remote', qr/42809.*"remote" cannot be the target.*DETAIL:  It is a foreign table/s, 'a view over a foreign table');
refused('over_parted', qr/42809.*"parted_0" cannot be the target/s, 'a view over a table with an unlogged partition');
refused('over_alices', qr/42501.*"of_alice" of role "alice"/s, "a superuser's view over another role's table");
refused('alices_over_own', qr/42501.*"alices_over_own" of role "alice"/s, "another role's view");
refused('counted', qr/42809.*"counted" cannot be the target.*takes no INSERT/s, 'a view that counts');
refused('joined', qr/42809.*"joined" cannot be the target.*takes no INSERT/s, 'a view that joins');
is(sql('SELECT count(*) FROM kafka_ingest.pipelines'), 0, 'none was made');

# ---- views, while it loads --------------------------------------------------------------------

sql("CREATE TABLE base $columns; CREATE VIEW inner_view AS TABLE base; CREATE VIEW outer_view AS TABLE inner_view");
$load = load('viewed', 'outer_view');
ok_loads($load, 'it loads through views');
sql('ALTER TABLE base SET UNLOGGED');
ok_retries($load, 'target_changed', qr/"base" cannot be the target/, 'base');
sql('ALTER TABLE base SET LOGGED');
resume($load);
ok_loads($load, 'logged again and resumed, it goes on');
sql('ALTER TABLE base OWNER TO alice');
ok_retries($load, 'permission_denied', qr/"base" of role "alice"/, 'base');
sql('ALTER TABLE base OWNER TO postgres');
resume($load);
ok_loads($load, 'with its owner again it goes on');
# another base, a foreign one
sql('CREATE OR REPLACE VIEW inner_view AS TABLE remote');
ok_retries($load, 'target_changed', qr/"remote" cannot be the target/, 'base');
sql('CREATE OR REPLACE VIEW inner_view AS SELECT DISTINCT * FROM base');
resume($load);
$node->poll_until(q{SELECT detail LIKE '"inner_view" cannot be%' FROM kafka_ingest.status}, 't');
pass('a view that takes no INSERT any more');
sql('CREATE OR REPLACE VIEW inner_view AS TABLE base');
resume($load);
ok_loads($load, 'as it was, it goes on');
ok_complete($load, 'base');

# ---- partitions that come later ---------------------------------------------------------------

sql(qq{
	CREATE TABLE many $columns PARTITION BY RANGE (id);
	CREATE TABLE many_low PARTITION OF many FOR VALUES FROM (0) TO (100000000);
	CREATE UNLOGGED TABLE many_unlogged $columns;
	CREATE FOREIGN TABLE many_remote $columns SERVER nowhere;
	CREATE TABLE many_alices $columns;
	ALTER TABLE many_alices OWNER TO alice;
	CREATE TABLE many_level $columns PARTITION BY RANGE (id)});
$load = load('parted', 'many');
ok_loads($load, 'it loads into partitions');
foreach my $case ([ 'many_unlogged', 'target_changed' ], [ 'many_remote', 'target_changed' ],
	[ 'many_alices', 'permission_denied' ])
{
	my ($partition, $reason) = @$case;
	sql("ALTER TABLE many ATTACH PARTITION $partition FOR VALUES FROM (100000000) TO (200000000)");
	ok_retries($load, $reason, qr/"$partition"/, 'many_low');
	sql("ALTER TABLE many DETACH PARTITION $partition");
	resume($load);
	ok_loads($load, "without $partition it goes on");
}
# a level below
sql(q{
	ALTER TABLE many ATTACH PARTITION many_level FOR VALUES FROM (100000000) TO (200000000);
	ALTER TABLE many_level ATTACH PARTITION many_unlogged FOR VALUES FROM (100000000) TO (200000000)});
ok_retries($load, 'target_changed', qr/"many_unlogged"/, 'many_low');
sql('ALTER TABLE many_unlogged SET LOGGED');
resume($load);
ok_loads($load, 'with a logged one it goes on');
ok_complete($load, 'many');

$node->stop;
done_testing();
