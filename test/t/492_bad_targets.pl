# Every fault a target may have: what is a row's fault becomes a letter, all else is
# waited for, shown with its reason, and after the repair nothing is lost or doubled.
# The numbers are those of a list of faults (C 37 to C 47); none may be left out.

use strict;
use warnings;

use File::Basename qw(dirname);
use IngestCluster;
use IPC::Run ();
use KafkaBroker;
use Lines;
use PostgreSQL::Test::Utils;
use Test::More;
use ValueCases;

my $kafka = KafkaBroker->shared;
my $lines = Lines->new('C', 37 .. 47);

# No small file system can be mounted without being root: test/tools/full_disk.c
# makes a tablespace full instead, for every process of this server.
my $disk = PostgreSQL::Test::Utils::tempdir;
my $full = "$disk.full";
my $node = do {
	local $ENV{FULL_DISK_DIR} = $disk;
	local $ENV{FULL_DISK_FLAG} = $full;
	local $ENV{LD_PRELOAD} = dirname($ENV{KAFKA_TOOL}) . '/full_disk.so';
	IngestCluster->new('main', conf => <<'END');
track_commit_timestamp = on
max_prepared_transactions = 10
wal_level = replica
max_wal_senders = 5
hot_standby = on
deadlock_timeout = '500ms'
kafka_ingest.lock_timeout = '3s'
END
};

$node->connect_kafka($kafka);

sub query { my ($sql) = @_; return $node->safe_psql('postgres', $sql) }

query(<<'END');
CREATE ROLE loader LOGIN;
CREATE ROLE alice LOGIN;
CREATE ROLE mate;
GRANT mate TO loader;
GRANT USAGE ON FOREIGN SERVER kafka TO loader, alice;
GRANT CREATE ON SCHEMA public TO loader;
END

# A pipeline that loads a table of its name, of the role loader, with a topic of its name.
my %topics;
my %produced;

sub load
{
	my ($name, %options) = @_;
	my $columns = $options{columns} // 'id int, _offset bigint';
	my $arguments = defined $options{arguments} ? ", $options{arguments}" : '';
	$topics{$name} = $kafka->create_topic("lines_$name");
	$produced{$name} = 0;
	query("SET SESSION AUTHORIZATION loader; CREATE TABLE $name ($columns)");
	query($options{before}) if defined $options{before};
	query("SET SESSION AUTHORIZATION loader;
		SELECT kafka_ingest.create_pipeline('$name', topic => '$topics{$name}', target => '$name'$arguments)");
	return;
}

sub produce
{
	my ($name, $count) = @_;
	$kafka->produce($topics{$name}, count => $count, from => $produced{$name});
	$produced{$name} += $count;
	return;
}

# All that was produced is in, once.
sub ok_loaded
{
	my ($name, $what, $rows) = @_;
	$node->wait_for_position_sum($name, $produced{$name}, timeout => 60);
	$node->ledger_check('(SELECT 0 AS _partition, _offset FROM ' . ($rows // $name) . ') t', $topics{$name},
		{ 0 => $produced{$name} }, name => "$name: $what, all is in, once");
	return;
}

sub ok_state
{
	my ($name, $state, $detail) = @_;
	is($node->wait_for_state($name, $state, timeout => 60), $state, "$name: $state");
	my ($found, $letters, $stands) = map { query("SELECT $_ FROM kafka_ingest.status WHERE pipeline = '$name'") } qw(detail dead_letters messages);
	like($found, $detail, "$name: detail");
	is($letters, 0, "$name: no letter");
	is($node->position_sum($name), $stands, "$name: no offset moved without its message");
	return;
}

# ---- constraints -----------------------------------------------------------------------

$lines->run(37, 'constraints', sub {
	my $cases = ValueCases->new($node, $kafka, 'constrained', create => q{
		CREATE TABLE parent (id int PRIMARY KEY);
		INSERT INTO parent VALUES (1);
		CREATE TABLE constrained (id int CONSTRAINT id_once PRIMARY KEY, u text CONSTRAINT u_once UNIQUE, parent int CONSTRAINT has_parent REFERENCES parent,
			checked int CONSTRAINT is_low CHECK (checked < 10), span int4range, _offset bigint,
			CONSTRAINT no_overlap EXCLUDE USING gist (span WITH &&));
		INSERT INTO constrained (id, u, span) VALUES (-1, 'there', '[100,200)')},
		neighbour => sub { return { value => sprintf '{"id": %d, "u": "u%d", "parent": 1}', $_[0], $_[0] } });
	my $n = 1000;
	foreach my $case (
		[ 'unique, with an existing row', '"u": "there"', '23505', 'u_once' ],
		[ 'primary key, with an existing row', '"id": -1', '23505', 'id_once' ],
		[ 'unique, inside the batch', '"u": "u0"', '23505', 'u_once' ],
		[ 'primary key, inside the batch', '"id": 0', '23505', 'id_once' ],
		[ 'foreign key', '"parent": 2', '23503', 'has_parent' ],
		[ 'check', '"checked": 10', '23514', 'is_low' ],
		[ 'exclusion, with an existing row', '"span": "[150,151)"', '23P01', 'no_overlap' ])
	{
		my ($name, $fields, $code, $constraint) = @$case;
		$cases->add(37, $name, { value => sprintf '{"id": %d, %s}', $n++, $fields }, bad => [ $code, 'write', undef, $constraint ]);
	}
	$cases->add(37, 'a span', { value => q|{"id": 2000, "span": "[1,5)"}| }, good => { span => '[1,5)' });
	$cases->add(37, 'exclusion, inside the batch', { value => q|{"id": 2001, "span": "[2,3)"}| }, bad => [ '23P01', 'write', undef, 'no_overlap' ]);
	$cases->add(37, 'nothing wrong', { value => '{"id": 2002, "checked": 9, "u": "mine", "parent": 1}' }, good => { u => 'mine' });
	$cases->start;
	$cases->wait;
	$cases->check(37);
	$cases->ok_counts;
});

$lines->run(37, 'ON CONFLICT as configured', sub {
	my @messages = map { { value => $_ } } '{"id": -1, "t": "new"}', '{"id": 1, "t": "first"}', '{"id": 1, "t": "second"}',
	  '{"id": 2, "t": "there"}', '{"id": 3, "t": "good"}';
	my %rows = (insert_ignore => "-2|there\n-1|old\n1|first\n3|good", upsert => "-2|there\n-1|new\n1|second\n3|good");
	# a row that conflicts elsewhere than in the key is bad in both
	my %counts = (insert_ignore => '5|2|2|1', upsert => '5|4|0|1');
	foreach my $mode (sort keys %rows)
	{
		my $topic = $kafka->create_topic("lines_$mode");
		$kafka->produce_messages($topic, @messages);
		query("CREATE TABLE by_$mode (id int PRIMARY KEY, t text CONSTRAINT ${mode}_once UNIQUE); INSERT INTO by_$mode VALUES (-1, 'old'), (-2, 'there');
			SELECT kafka_ingest.create_pipeline('by_$mode', topic => '$topic', target => 'by_$mode', mode => '$mode', max_error_ratio => 1)");
		$node->wait_for_position_sum("by_$mode", 5, timeout => 60);
		is(query("SELECT id, t FROM by_$mode ORDER BY 1"), $rows{$mode}, "$mode: the rows");
		is(query("SELECT messages, loaded, ignored, dead_letters FROM kafka_ingest.status WHERE pipeline = 'by_$mode'"), $counts{$mode}, "$mode: counted");
	}
});

$lines->run(38, 'what is deferred fails at commit', sub {
	load('deferred', columns => 'id int, _offset bigint, who text', before => q{
		CREATE TABLE known (id int PRIMARY KEY);
		INSERT INTO known SELECT g FROM generate_series(0, 999) g WHERE g NOT IN (0, 417, 999);
		CREATE TABLE seen_by (id int, who text);
		GRANT INSERT ON seen_by TO loader;
		ALTER TABLE deferred ADD CONSTRAINT is_known FOREIGN KEY (id) REFERENCES known DEFERRABLE INITIALLY DEFERRED;
		CREATE FUNCTION note_role() RETURNS trigger LANGUAGE plpgsql AS
			'BEGIN INSERT INTO seen_by VALUES (NEW.id, current_user || '' '' || session_user); RETURN NULL; END';
		CREATE CONSTRAINT TRIGGER note_role AFTER INSERT ON deferred DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION note_role()});
	produce('deferred', 1000);
	$node->wait_for_position_sum('deferred', 1000, timeout => 60);
	is(query(q{SELECT message_offset, sqlstate, stage, constraint_name FROM kafka_ingest.dead_letters WHERE pipeline = 'deferred' ORDER BY 1}),
		join("\n", map { "$_|23503|write|is_known" } 0, 417, 999), 'the three at fault are letters');
	is(query('SELECT count(*), count(DISTINCT id) FROM deferred'), '997|997', 'all others are in');
	is(query('SELECT count(*), count(DISTINCT id), min(who), max(who) FROM seen_by'), '997|997|loader loader|loader loader', 'triggers run as the owner');
});

$lines->run(39, 'no partition for a row', sub {
	my $cases = ValueCases->new($node, $kafka, 'parted', create => q{
		CREATE TABLE parted (id int, region text, _offset bigint) PARTITION BY LIST (region);
		CREATE TABLE parted_eu PARTITION OF parted FOR VALUES IN ('eu');
		CREATE TABLE parted_us PARTITION OF parted FOR VALUES IN ('us') PARTITION BY RANGE (id);
		CREATE TABLE parted_us_1 PARTITION OF parted_us FOR VALUES FROM (0) TO (100)},
		neighbour => sub { return { value => qq({"id": $_[0], "region": "eu"}) } });
	$cases->add(39, 'no partition', { value => '{"id": 1, "region": "mars"}' }, bad => [ '23514', 'write' ]);
	$cases->add(39, 'none a level below', { value => '{"id": 100, "region": "us"}' }, bad => [ '23514', 'write' ]);
	$cases->add(39, 'none for NULL', { value => '{"id": 1}' }, bad => [ '23514', 'write' ]);
	$cases->add(39, 'one a level below', { value => '{"id": 99, "region": "us"}' }, good => { region => 'us' });
	$cases->start;
	$cases->wait;
	$cases->check(39);
	$cases->ok_counts;
	is($node->state('parted'), 'running', 'it goes on');
});

# ---- triggers ------------------------------------------------------------------------

$lines->run(40, 'what triggers do', sub {
	load('others', columns => 'id int, _offset bigint');
	query(q{GRANT INSERT ON others TO alice; SELECT kafka_ingest.alter_pipeline('others', owner => 'alice')});
	my $cases = ValueCases->new($node, $kafka, 'acted', owner => 'loader', create => q{
		CREATE TABLE acted (id int, what text, who text, note text, _offset bigint);
		GRANT INSERT ON acted TO loader;
		CREATE FUNCTION act() RETURNS trigger LANGUAGE plpgsql AS $f$
		BEGIN
			CASE coalesce(NEW.what, 'nothing')
				WHEN 'return null' THEN RETURN NULL;
				WHEN 'raise' THEN RAISE 'no';
				WHEN 'status' THEN SELECT bool_or(pipeline = 'acted') || ' ' || bool_or(pipeline = 'others') INTO NEW.note FROM kafka_ingest.status;
				WHEN 'pause another' THEN PERFORM kafka_ingest.pause('others');
				WHEN 'role' THEN SET ROLE postgres;
				WHEN 'authorization' THEN SET SESSION AUTHORIZATION postgres;
				WHEN 'own role' THEN SET ROLE mate;
				WHEN 'commit' THEN COMMIT;
				WHEN 'position' THEN UPDATE kafka_ingest.position SET next_offset = 0;
				WHEN 'letter' THEN DELETE FROM kafka_ingest.dead_letter;
				ELSE NULL;
			END CASE;
			NEW.who := current_user || ' ' || session_user;
			RETURN NEW;
		END $f$;
		CREATE TRIGGER act BEFORE INSERT ON acted FOR EACH ROW EXECUTE FUNCTION act()});
	my $what = sub { my ($kind, $text, $expected) = @_; $cases->add(40, $text, { value => qq({"id": 1, "what": "$text"}) }, $kind => $expected) };
	$what->(skipped => 'return null');
	$what->(bad => 'raise', [ 'P0001', 'write' ]);
	$what->(good => 'status', { note => 'true false' });
	$what->(bad => 'pause another', [ '42501', 'write' ]);
	$what->(bad => 'role', [ '42501', 'write' ]);
	$what->(bad => 'authorization', [ '42501', 'write' ]);
	$what->(bad => 'commit', [ '2D000', 'write' ]);
	$what->(bad => 'position', [ '42501', 'write' ]);
	$what->(bad => 'letter', [ '42501', 'write' ]);
	$what->(good => 'nothing', { who => 'loader loader' });
	$cases->start;
	$cases->wait;
	$cases->check(40);
	is(query(q{SELECT messages - loaded - ignored - dead_letters_total FROM kafka_ingest.status WHERE pipeline = 'acted'}), 0, 'each message is counted, once');
	is(query(q{SELECT min(who), max(who) FROM acted}), 'loader loader|loader loader', 'none ran as another role');
	is(query(q{SELECT paused FROM kafka_ingest.pipelines WHERE pipeline = 'others'}), 'f', 'the other pipeline was not paused');
	# a role the owner is a member of: whatever comes of it, not beyond this batch
	$kafka->produce_messages($cases->{topic}, { value => '{"id": 9001, "what": "own role"}' });
	$node->wait_for_position_sum('acted', $cases->messages + 1, timeout => 60);
	$kafka->produce_messages($cases->{topic}, { value => '{"id": 9002}' });
	$node->wait_for_position_sum('acted', $cases->messages + 2, timeout => 60);
	is(query('SELECT who FROM acted WHERE id = 9002'), 'loader loader', 'SET ROLE ends with its batch');
	is(query(q{SELECT count(*) FROM acted WHERE id = 9001}) + query(q{SELECT count(*) FROM kafka_ingest.dead_letters WHERE pipeline = 'acted' AND message_offset = }
			. $cases->messages), 1, 'its message is a row or a letter');
});

$lines->run(40, 'a trigger that takes long', sub {
	load('slept', before => q{
		CREATE TABLE asleep (n int);
		INSERT INTO asleep VALUES (1);
		GRANT SELECT ON asleep TO loader;
		CREATE FUNCTION sleep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(600) FROM asleep; RETURN NULL; END';
		CREATE TRIGGER sleep AFTER INSERT ON slept FOR EACH STATEMENT EXECUTE FUNCTION sleep()});
	my $pid = $node->worker_pid('slept');
	produce('slept', 100);
	$node->poll_until("SELECT wait_event FROM pg_stat_activity WHERE pid = $pid", 'PgSleep');
	is($node->position_sum('slept'), 0, 'nothing is in');
	note('state: ' . $node->state('slept'));
	query("DELETE FROM asleep; SELECT pg_cancel_backend($pid)");
	ok_loaded('slept', 'canceled');
	like(query(q{SELECT last_error FROM kafka_ingest.status WHERE pipeline = 'slept'}), qr/57014/, 'the batch was canceled, and tried again');
	is(query(q{SELECT dead_letters FROM kafka_ingest.status WHERE pipeline = 'slept'}), 0, 'which is no message\'s fault');
});

$lines->run(40, 'a trigger that pauses its own pipeline', sub {
	load('pauser', before => q{
		CREATE FUNCTION pause_it() RETURNS trigger LANGUAGE plpgsql AS
			'BEGIN IF NEW.id = 50 THEN PERFORM kafka_ingest.pause(''pauser''); END IF; RETURN NULL; END';
		CREATE TRIGGER pause_it AFTER INSERT ON pauser FOR EACH ROW EXECUTE FUNCTION pause_it()});
	produce('pauser', 100);
	$node->wait_for_state('pauser', 'paused', timeout => 60);
	my $rows = query('SELECT count(*) FROM pauser');
	is($rows, $node->position_sum('pauser'), "paused with $rows rows, the position where they end");
	query(q{DROP TRIGGER pause_it ON pauser; SELECT kafka_ingest.resume('pauser')});
	ok_loaded('pauser', 'resumed');
});

# ---- changes of the target -----------------------------------------------------------

# name => [ the change, what is shown (undef: it follows), of what it speaks, the repair, where the rows are ]
my %changes = (
	dropped => [ 'CREATE TABLE dropped_kept AS TABLE dropped; DROP TABLE dropped', 'retrying/target_missing', qr/public\.dropped/,
		'SET SESSION AUTHORIZATION loader; CREATE TABLE dropped (id int, _offset bigint)',
		'(SELECT _offset FROM dropped UNION ALL SELECT _offset FROM dropped_kept) x' ],
	renamed => [ 'ALTER TABLE renamed RENAME TO renamed_now', undef, undef, undef, 'renamed_now' ],
	moved => [ 'CREATE SCHEMA elsewhere; GRANT USAGE ON SCHEMA elsewhere TO loader; ALTER TABLE moved SET SCHEMA elsewhere', undef, undef, undef, 'elsewhere.moved' ],
	less => [ 'ALTER TABLE less DROP COLUMN extra', 'retrying/target_changed', qr/extra/, 'ALTER TABLE less ADD COLUMN extra text', 'less' ],
	retyped => [ 'ALTER TABLE retyped ALTER id TYPE text', undef, undef, undef, 'retyped' ],
	generated => [ 'ALTER TABLE generated DROP COLUMN extra, ADD COLUMN extra text GENERATED ALWAYS AS (id::text) STORED', 'retrying/target_changed', qr/extra/,
		'ALTER TABLE generated ALTER extra DROP EXPRESSION', 'generated' ],
	unlogged => [ 'ALTER TABLE unlogged SET UNLOGGED', 'retrying/target_changed', qr/"unlogged" cannot be the target.*It is unlogged: a crash would empty it/, 'ALTER TABLE unlogged SET LOGGED', 'unlogged' ],
	secured => [ 'ALTER TABLE secured ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', 'retrying/permission_denied', qr/secured/,
		'ALTER TABLE secured DISABLE ROW LEVEL SECURITY', 'secured' ],
	owned => [ 'ALTER TABLE owned OWNER TO alice', 'retrying/permission_denied', qr/owned/, 'GRANT INSERT ON owned TO loader', 'owned' ],
	viewed => [ 'BEGIN; CREATE TABLE viewed_base AS TABLE viewed; ALTER TABLE viewed_base OWNER TO loader; DROP TABLE viewed;
		CREATE VIEW viewed AS TABLE viewed_base; ALTER VIEW viewed OWNER TO loader; COMMIT', undef, undef, undef, 'viewed_base' ],
	closed => [ 'BEGIN; CREATE TABLE closed_base AS TABLE closed; ALTER TABLE closed_base OWNER TO loader; DROP TABLE closed;
		CREATE VIEW closed AS SELECT DISTINCT * FROM closed_base; ALTER VIEW closed OWNER TO loader; COMMIT', 'retrying/target_changed', qr/"closed" cannot be the target/,
		'CREATE OR REPLACE VIEW closed AS SELECT * FROM closed_base', 'closed_base' ]);
# for these the mapping names a column that will be missing or unfit
my %mapped = map { $_ => 1 } qw(less generated);

$lines->run(41, 'the target is changed', sub {
	foreach my $name (sort keys %changes)
	{
		$mapped{$name}
		  ? load($name, columns => 'id int, _offset bigint, extra text',
			arguments => q{columns => '{"id": "$.id", "extra": "$.id", "_offset": "@offset"}'})
		  : load($name);
		produce($name, 100);
	}
	$node->wait_for_position_sum($_, 100, timeout => 60) foreach sort keys %changes;
	query($changes{$_}[0]) foreach sort keys %changes;
	produce($_, 100) foreach sort keys %changes;
	foreach my $name (sort keys %changes)
	{
		my ($change, $state, $detail, $repair, $rows) = @{ $changes{$name} };
		if (defined $state)
		{
			ok_state($name, $state, $detail);
			query($repair);
			query("SELECT kafka_ingest.resume('$name')");
		}
		ok_loaded($name, defined $state ? 'mended' : 'it follows', $rows);
		$node->wait_for_state($name, 'running', timeout => 60);
	}
});

$lines->run(41, 'a column that must not be NULL is added', sub {
	load('stricter');
	produce('stricter', 100);
	$node->wait_for_position_sum('stricter', 100, timeout => 60);
	query(q{ALTER TABLE stricter ADD COLUMN must text NOT NULL DEFAULT 'old'; ALTER TABLE stricter ALTER must DROP DEFAULT});
	produce('stricter', 100);
	$node->wait_for_position_sum('stricter', 200, timeout => 60);
	# each row is refused for what is in it: these are letters, and they are kept
	is(query(q{SELECT count(*), min(sqlstate), max(sqlstate), min(column_name) FROM kafka_ingest.dead_letters WHERE pipeline = 'stricter'}),
		'100|23502|23502|must', 'every message since is a letter');
	query(q{ALTER TABLE stricter ALTER must SET DEFAULT 'new'});
	is(query(q{SELECT loaded, failed FROM kafka_ingest.retry_dead_letters('stricter')}), '100|0', 'mended: all of them are loaded');
	ok_loaded('stricter', 'mended');
});

# ---- locks ---------------------------------------------------------------------------

# Prepared transactions hold the locks: no session need be kept for that.
my %locks = (
	alter    => 'ALTER TABLE T ADD COLUMN more int',
	truncate => 'TRUNCATE T',
	cluster  => 'CLUSTER T USING T_id',
	index    => 'CREATE INDEX T_more ON T (id)',
	lock     => 'LOCK TABLE T IN SHARE MODE');

$lines->run(42, 'locks of other sessions', sub {
	foreach my $lock (sort keys %locks)
	{
		my $name = "held_$lock";
		load($name, before => "CREATE INDEX ${name}_id ON $name (id)");
		(my $command = $locks{$lock}) =~ s/\bT(?=\b|_)/$name/g;
		query("BEGIN; $command; PREPARE TRANSACTION '$lock'");
		produce($name, 100);
	}
	foreach my $lock (sort keys %locks)
	{
		my $name = "held_$lock";
		# shown while it waits, and when the batch gave up and is tried again
		ok_state($name, 'retrying/lock_timeout', qr/lock/);
		$node->poll_until("SELECT last_error LIKE '%55P03%' FROM kafka_ingest.status WHERE pipeline = '$name'", 't', timeout => 60);
		ok_state($name, 'retrying/lock_timeout', qr/lock/);
	}
	foreach my $lock (sort keys %locks)
	{
		query("COMMIT PREPARED '$lock'");
		ok_loaded("held_$lock", 'the lock is gone');
		query("VACUUM FULL held_$lock");
		produce("held_$lock", 100);
		ok_loaded("held_$lock", 'after VACUUM FULL');
		is($node->wait_for_state("held_$lock", 'running', timeout => 60), 'running', "held_$lock: it runs");
	}
});

# ---- resources -----------------------------------------------------------------------

$lines->run(43, 'the disk is full', sub {
	load('filled', columns => 'id int, _offset bigint, filler text', arguments => q{columns => '{"id": "$.id", "_offset": "@offset", "filler": "@raw"}'});
	query("CREATE TABLESPACE small LOCATION '$disk'");
	query('ALTER TABLE filled SET TABLESPACE small');
	produce('filled', 100);
	ok_loaded('filled', 'there is space');
	append_to_file($full, '');
	produce('filled', 20_000);
	is($node->wait_for_state('filled', 'retrying/out_of_space', timeout => 60), 'retrying/out_of_space', 'no space is left: shown');
	like(query(q{SELECT last_error FROM kafka_ingest.status WHERE pipeline = 'filled'}), qr/53100/, 'with 53100');
	is(query('SELECT count(*) FROM filled'), $node->position_sum('filled'), 'no offset without its row');
	is(query(q{SELECT dead_letters FROM kafka_ingest.status WHERE pipeline = 'filled'}), 0, 'no letter');
	unlink $full or die "$full: $!";
	ok_loaded('filled', 'space again');
	is($node->wait_for_state('filled', 'running', timeout => 60), 'running', 'it goes on by itself');
	query('ALTER TABLE filled SET TABLESPACE pg_default');
	query('DROP TABLESPACE small');
});

$lines->run(44, 'read-only', sub {
	load('unwritten');
	produce('unwritten', 100);
	$node->wait_for_position_sum('unwritten', 100, timeout => 60);
	query('ALTER DATABASE postgres SET default_transaction_read_only = on');
	# what a session has is of its beginning: a new worker
	query('SELECT pg_terminate_backend(' . $node->worker_pid('unwritten') . ')');
	produce('unwritten', 100);
	ok_state('unwritten', 'retrying/read_only', qr/read-only/);
	query('BEGIN READ WRITE; ALTER DATABASE postgres RESET default_transaction_read_only; COMMIT');
	ok_loaded('unwritten', 'writable again');
});

$lines->run(44, 'a standby', sub {
	$node->backup('backup');
	my $standby = bless PostgreSQL::Test::Cluster->new('standby'), 'IngestCluster';
	$standby->init_from_backup($node, 'backup', has_streaming => 1);
	$standby->start;
	is($standby->state('unwritten'), 'waiting/standby', 'waits');
	is($standby->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'kafka_ingest%'}), 0, 'and runs no process');
	$standby->stop('immediate');
});

# ---- other transactions --------------------------------------------------------------

$lines->run(45, 'a deadlock over two targets', sub {
	load('first', before => q{
		CREATE TABLE second (id int);
		GRANT INSERT ON second TO loader;
		CREATE FUNCTION also_second() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO second VALUES (NEW.id); RETURN NULL; END';
		CREATE TRIGGER also_second AFTER INSERT ON first FOR EACH ROW EXECUTE FUNCTION also_second()});
	produce('first', 100);
	ok_loaded('first', 'to begin with');
	my $log = -s $node->logfile;
	# The user waits for long before he looks for a deadlock; so it is the worker that finds it.
	my $script = <<'END';
SET deadlock_timeout = '60s';
BEGIN;
LOCK TABLE second;
\echo locked
DO $$ BEGIN
	FOR i IN 1 .. 6000 LOOP
		EXIT WHEN EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 'second'::regclass);
		PERFORM pg_sleep(0.01);
	END LOOP;
END $$;
LOCK TABLE first;
INSERT INTO second VALUES (-1);
COMMIT;
END
	my $user = IPC::Run::start([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres') ],
		'<', \$script, '>', \my $out, '2>', \my $err, IPC::Run::timeout(120));
	$user->pump until $out =~ /locked/ || !$user->pumpable;
	produce('first', 100);
	$user->finish;
	is($err, '', 'the user is not the victim');
	ok_loaded('first', 'after it');
	like(slurp_file($node->logfile, $log), qr/deadlock detected/, 'there was a deadlock');
	like(query(q{SELECT last_error FROM kafka_ingest.status WHERE pipeline = 'first'}), qr/40P01/, 'the batch was its victim');
	is(query('SELECT count(*), count(DISTINCT id), min(id) FROM second'), '201|201|-1', 'the second table has each row once, too');
});

$lines->run(46, 'serializable transactions', sub {
	query(q{ALTER DATABASE postgres SET default_transaction_isolation = 'serializable'});
	load('serial', columns => q{id int, _offset bigint, level text DEFAULT current_setting('transaction_isolation')}, before => q{
		CREATE TABLE failures (n int);
		INSERT INTO failures VALUES (0);
		GRANT SELECT ON failures TO loader;
		CREATE SEQUENCE attempts;
		GRANT ALL ON SEQUENCE attempts TO loader;
		CREATE FUNCTION conflict() RETURNS trigger LANGUAGE plpgsql AS
			'BEGIN IF nextval(''attempts'') <= 3 THEN RAISE serialization_failure; END IF; RETURN NULL; END';
		CREATE TRIGGER conflict AFTER INSERT ON serial FOR EACH STATEMENT EXECUTE FUNCTION conflict()});
	produce('serial', 100);
	ok_loaded('serial', 'three serialization failures are tried again');
	like(query(q{SELECT last_error FROM kafka_ingest.status WHERE pipeline = 'serial'}), qr/40001/, 'as such');
	is(query('SELECT DISTINCT level FROM serial'), 'read committed', 'whatever the default of the database, a worker is read committed');
	# by hand: the session's own
	query(q{SELECT kafka_ingest.pause('serial')});
	$node->poll_until(q{SELECT pids FROM kafka_ingest.status WHERE pipeline = 'serial'}, qr/^(\{\})?$/);
	produce('serial', 100);
	is(query(q{SET SESSION AUTHORIZATION loader; CALL kafka_ingest.run('serial')}), '100|0|t', 'run() in a serializable session');
	produce('serial', 100);
	is(query(q{SET SESSION AUTHORIZATION loader; BEGIN ISOLATION LEVEL SERIALIZABLE; CALL kafka_ingest.run('serial', max_batches => 1); COMMIT}),
		'100|0|t', 'and in a serializable transaction');
	query('ALTER DATABASE postgres RESET default_transaction_isolation');
	ok_loaded('serial', 'by all ways together');
});

$lines->run(47, 'a prepared transaction holds the target', sub {
	load('prepared');
	query(q{BEGIN; INSERT INTO prepared VALUES (-1, -1); LOCK TABLE prepared IN ACCESS EXCLUSIVE MODE; PREPARE TRANSACTION 'holds'});
	produce('prepared', 100);
	ok_state('prepared', 'retrying/lock_timeout', qr/lock/);
	$node->poll_until(q{SELECT last_error LIKE '%55P03%' FROM kafka_ingest.status WHERE pipeline = 'prepared'}, 't', timeout => 60);
	is($node->state('prepared'), 'retrying/lock_timeout', 'prepared: shown before and after kafka_ingest.lock_timeout');
	query(q{ROLLBACK PREPARED 'holds'});
	ok_loaded('prepared', 'rolled back');
	# one that holds a row that a batch needs, and not the table
	load('counted', before => q{
		CREATE TABLE totals (n int);
		INSERT INTO totals VALUES (0);
		GRANT ALL ON totals TO loader;
		CREATE FUNCTION count_it() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN UPDATE totals SET n = n + 1; RETURN NULL; END';
		CREATE TRIGGER count_it AFTER INSERT ON counted FOR EACH ROW EXECUTE FUNCTION count_it();
		BEGIN; UPDATE totals SET n = n + 1000; PREPARE TRANSACTION 'holds'});
	produce('counted', 100);
	ok_state('counted', 'retrying/lock_timeout', qr/lock/);
	query(q{COMMIT PREPARED 'holds'});
	ok_loaded('counted', 'committed');
	is(query('SELECT n FROM totals'), 1100, 'counted: what the trigger did is done once for each row');
});

is(query(q{SELECT count(*) FROM kafka_ingest.status WHERE state = 'stopped'}), 0, 'none has stopped');
$lines->ok_all;

$node->stop;
done_testing();
