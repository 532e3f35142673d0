# The library works with its own SQL version and with the ones before;
# ALTER EXTENSION UPDATE while loading interrupts it for less than 5 s and loses
# nothing; what is upgraded is what a fresh installation makes.

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $kafka = KafkaBroker->shared;
my $node = IngestCluster->new('main', extension => 0);
my $topic = $kafka->create_topic('upgrade', partitions => 2);
my $by_hand = $kafka->create_topic('upgrade_by_hand', partitions => 2);
my $first = '0.2.0';

sub query
{
	my ($sql, $dbname) = @_;
	return $node->safe_psql($dbname // 'postgres', $sql);
}

# ---- the old SQL version, the new library --------------------------------------------

query("CREATE EXTENSION kafka_ingest VERSION '$first'");
my ($library, $sql) = split /\|/, query('SELECT library, sql FROM kafka_ingest.version()');
is($sql, $first, "version() shows the SQL version $sql");
my $newest = query(q{SELECT default_version FROM pg_available_extensions WHERE name = 'kafka_ingest'});
is($library, $newest, "and the library's, $library");
isnt($library, $sql, 'which is another');

$node->connect_kafka($kafka);
query(qq{
	CREATE TABLE target (id bigint, _partition int, _offset bigint, written_at timestamptz DEFAULT clock_timestamp());
	CREATE TABLE by_hand (id bigint, _partition int, _offset bigint);
	SELECT kafka_ingest.create_pipeline('p', topic => '$topic', target => 'target', columns => '{"written_at": null, "*": "\$.*", "_partition": "\@partition", "_offset": "\@offset"}');
	SELECT kafka_ingest.create_pipeline('q', topic => '$by_hand', target => 'by_hand', paused => true)});
my $produced = $kafka->produce($topic, count => 1000, set => 100);
my $produced_by_hand = $kafka->produce($by_hand, count => 1000, set => 100);
is(query(q{SELECT kafka_ingest.wait_until_caught_up('p', '60s')}), 't', 'a worker loads');
is(query(q{CALL kafka_ingest.run('q')}), '1000|0|t', 'run() loads');
$node->ledger_check('target', $topic, $produced);
$node->ledger_check('by_hand', $by_hand, $produced_by_hand);

# Everything there is to read and to call.
my @views = split /\n/, query(q{SELECT viewname FROM pg_views WHERE schemaname = 'kafka_ingest' ORDER BY 1});
is_deeply(\@views, [qw(dead_letters events gaps partition_status pipelines recent_batches status)], 'the views');
my %rows = map { $_ => query("SELECT count(*) FROM (SELECT v::text FROM kafka_ingest.$_ v) q") } @views;
is("$rows{pipelines} $rows{status} $rows{partition_status} $rows{events} $rows{gaps} $rows{dead_letters}", '2 2 4 2 0 0', 'their rows');
cmp_ok($rows{recent_batches}, '>', 0, "$rows{recent_batches} recent batches");
is(query(q{SELECT state, messages, loaded FROM kafka_ingest.status WHERE pipeline = 'p'}), 'running|1000|1000', 'status');
is(query(q{SELECT target, format, mode, paused FROM kafka_ingest.pipelines ORDER BY pipeline}),
	"public.target|json|append|f\npublic.by_hand|json|append|t", 'pipelines');
like(query(q{SELECT kafka_ingest.pipeline_definition('p')}), qr/create_pipeline\(/, 'pipeline_definition()');
is(query('SELECT count(*) FROM kafka_ingest.check_connection()'), 1, 'check_connection()');
is(query("SELECT sum(high_offset) FROM kafka_ingest.topics(pattern => '$topic')"), 1000, 'topics()');
is(query(q{SELECT count(*) FROM kafka_ingest.seek('q', start_offsets => '{"0": 0, "1": 0}', allow_duplicates => true)}), 2, 'seek()');
query(q{SELECT kafka_ingest.alter_pipeline('q', batch_max_messages => 77); SELECT kafka_ingest.drop_pipeline('q')});
$kafka->produce_messages($topic, { partition => 0, key => 'k', value => 'no JSON', headers => [ [ h => 'v' ] ] });
is(query(q{SELECT kafka_ingest.wait_until_caught_up('p', '60s')}), 't', 'a bad message does not stop it');
is(query(q{SELECT message_offset, convert_from(key, 'UTF8'), convert_from(value, 'UTF8'), stage FROM kafka_ingest.dead_letters}),
	"$produced->{0}|k|no JSON|decode", 'but is kept in the table of old');
is(query(q{SELECT messages, loaded, dead_letters_total FROM kafka_ingest.status}), '1001|1000|1', 'and counted');
is( $node->psql('postgres', q{SELECT kafka_ingest.alter_pipeline('p', max_messages_per_second => 10)}, stderr => \my $refused),
	3, 'an option that has no column there');
like($refused, qr/needs the SQL objects of kafka_ingest $newest.*ALTER EXTENSION kafka_ingest UPDATE/s, 'is refused');
$produced->{0}++;
query('BEGIN; ALTER EXTENSION kafka_ingest UPDATE; ROLLBACK');
is(query('SELECT sql FROM kafka_ingest.version()'), $first, 'an upgrade that is rolled back changes nothing');

# ---- the upgrade, while messages come ------------------------------------------------

my $pid = $node->worker_pid('p');
my $producer = $kafka->produce_background($topic, count => 12_000, from => 1000, rate => 4000, set => 100);
$node->wait_for_position_sum('p', 3000);
my $started = time;
query('ALTER EXTENSION kafka_ingest UPDATE');
my $seconds = time - $started;
cmp_ok($seconds, '<', 5, sprintf('ALTER EXTENSION UPDATE takes %.3f s', $seconds));
my $passed = $node->position_sum('p');
$node->wait_for_position_sum('p', $passed + 3000);
ok($producer->is_running, 'it loads on while messages come');
my $more = $producer->finish;
$produced->{$_} += $more->{$_} foreach keys %$more;
is(query(q{SELECT kafka_ingest.wait_until_caught_up('p', '60s')}), 't', 'to the end');
is_deeply([ split /\|/, query('SELECT count(*), count(DISTINCT id) FROM target') ], [ 13000, 13000 ], 'each of the good messages once');
my $gap = query(q{SELECT extract(epoch FROM max(gap)) FROM (
	SELECT written_at - lag(written_at) OVER (ORDER BY written_at) AS gap FROM target WHERE id >= 1000) q});
cmp_ok($gap, '<', 5, "the longest time without a row is $gap s");
is($node->worker_pid('p'), $pid, 'by the same worker');
is(query(q{SELECT messages, loaded, gaps FROM kafka_ingest.status}), '13001|13000|0', 'status counts on');
unlike(slurp_file($node->logfile), qr/PANIC|terminated by signal/, 'nothing crashed');

is(query('SELECT library, sql FROM kafka_ingest.version()'), "$newest|$newest", 'version() shows the new SQL version');
is(query(q{SELECT mode, on_tombstone FROM kafka_ingest.pipelines}), 'append|skip', 'and a view what is new in it');
is(query(q{SELECT loaded, failed FROM kafka_ingest.retry_dead_letters('p')}), '0|1', 'the dead letter is still there');

# ---- upgraded is as new --------------------------------------------------------------

# Each fact of the catalogs about the extension's objects, and what belongs to
# them, as a line of text: what, which, and the fact. Of a column's options only
# those that SQL can set: a server may keep notes of its own there.
my $facts = <<'END';
WITH RECURSIVE member AS (
	SELECT classid, objid FROM pg_depend
	WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
		AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'kafka_ingest')
	UNION
	SELECT d.classid, d.objid FROM pg_depend d JOIN member m ON d.refclassid = m.classid AND d.refobjid = m.objid
	WHERE d.deptype IN ('a', 'i')
), relation AS (
	SELECT c.* FROM pg_class c JOIN member ON classid = 'pg_class'::regclass AND objid = c.oid WHERE c.relkind NOT IN ('t', 'i')
), facts(what, which, fact) AS (
	SELECT 'member', pg_describe_object(classid, objid, 0), NULL FROM member
	WHERE NOT EXISTS (SELECT FROM pg_class WHERE oid = objid AND classid = 'pg_class'::regclass AND relkind = 't')
		AND pg_describe_object(classid, objid, 0) !~ 'pg_toast'
	UNION ALL
	SELECT 'function', p.oid::regprocedure::text, concat_ws(' ', pg_get_functiondef(p.oid), p.proacl, p.proowner::regrole)
	FROM pg_proc p JOIN member ON classid = 'pg_proc'::regclass AND objid = p.oid
	UNION ALL
	SELECT 'relation', oid::regclass::text, concat_ws(' ', relkind, relpersistence, relreplident, relrowsecurity, relhasrules, relhastriggers,
		relacl, reloptions, relowner::regrole, (SELECT amname FROM pg_am WHERE pg_am.oid = relam), (SELECT reloptions FROM pg_class t WHERE t.oid = relation.reltoastrelid))
	FROM relation
	UNION ALL
	SELECT 'view', oid::regclass::text, pg_get_viewdef(oid) FROM relation WHERE relkind = 'v'
	UNION ALL
	SELECT 'rule', ev_class::regclass::text, pg_get_ruledef(pg_rewrite.oid) FROM pg_rewrite JOIN relation ON ev_class = relation.oid
	UNION ALL
	SELECT 'column', attrelid::regclass || '.' || attnum, concat_ws(' ', attname, format_type(atttypid, atttypmod), attnotnull, attidentity, attgenerated,
		attstorage, attcompression, attcollation::regcollation, attstattarget, attacl,
		(SELECT string_agg(o, ' ' ORDER BY o) FROM unnest(attoptions) o WHERE o ~ '^n_distinct'), attisdropped, pg_get_expr(adbin, adrelid))
	FROM pg_attribute JOIN relation ON attrelid = relation.oid LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
	UNION ALL
	SELECT 'constraint', conrelid::regclass || '.' || conname, concat_ws(' ', pg_get_constraintdef(pg_constraint.oid), convalidated)
	FROM pg_constraint JOIN relation ON conrelid = relation.oid
	UNION ALL
	SELECT 'index', indexrelid::regclass::text, concat_ws(' ', pg_get_indexdef(indexrelid), indisvalid, indisclustered, indisreplident)
	FROM pg_index JOIN relation ON indrelid = relation.oid
	UNION ALL
	SELECT 'trigger', tgrelid::regclass || '.' || tgname, concat_ws(' ', pg_get_triggerdef(pg_trigger.oid), tgenabled) FROM pg_trigger JOIN relation ON tgrelid = relation.oid
	UNION ALL
	SELECT 'sequence', seqrelid::regclass::text, concat_ws(' ', seqtypid::regtype, seqstart, seqincrement, seqmax, seqmin, seqcache, seqcycle)
	FROM pg_sequence JOIN relation ON seqrelid = relation.oid
	UNION ALL
	SELECT 'type', t.oid::regtype::text, concat_ws(' ', typtype, typcategory, typlen, typbyval, typnotnull, typdefault, typrelid::regclass, typelem::regtype, typacl, typowner::regrole)
	FROM pg_type t JOIN member ON classid = 'pg_type'::regclass AND objid = t.oid WHERE t.typname !~ '^pg_toast'
	UNION ALL
	SELECT 'wrapper', fdwname, concat_ws(' ', fdwhandler::regproc, fdwvalidator::regproc, fdwoptions, fdwacl, fdwowner::regrole)
	FROM pg_foreign_data_wrapper w JOIN member ON classid = 'pg_foreign_data_wrapper'::regclass AND objid = w.oid
	UNION ALL
	SELECT 'schema', nspname, concat_ws(' ', nspacl, nspowner::regrole) FROM pg_namespace WHERE nspname = 'kafka_ingest'
	UNION ALL
	SELECT 'comment', pg_describe_object(d.classoid, d.objoid, d.objsubid), d.description
	FROM pg_description d JOIN member ON classid = d.classoid AND member.objid = d.objoid
	UNION ALL
	SELECT 'initial privileges', pg_describe_object(i.classoid, i.objoid, i.objsubid), concat_ws(' ', i.privtype, i.initprivs)
	FROM pg_init_privs i JOIN member ON classid = i.classoid AND member.objid = i.objoid
	UNION ALL
	SELECT 'extension', extname, concat_ws(' ', extversion, extrelocatable, extnamespace::regnamespace, extowner::regrole, obj_description(oid, 'pg_extension'))
	FROM pg_extension WHERE extname = 'kafka_ingest'
	UNION ALL
	SELECT 'dumped', config::regclass::text, concat_ws(' ', n, condition)
	FROM pg_extension, unnest(extconfig, extcondition) WITH ORDINALITY u(config, condition, n) WHERE extname = 'kafka_ingest'
)
SELECT string_agg(concat_ws(' | ', what, which, fact), E'\x1e' ORDER BY what, which, fact) FROM facts
END

sub facts
{
	my ($dbname) = @_;
	return [ split /\x1e/, query($facts, $dbname) ];
}

query('CREATE DATABASE fresh');
query('CREATE EXTENSION kafka_ingest', 'fresh');
my ($upgraded, $fresh) = (facts('postgres'), facts('fresh'));
my %kinds;
$kinds{ (split / \|/, $_)[0] }++ foreach @$fresh;
note(join ', ', map { "$_ $kinds{$_}" } sort keys %kinds);
cmp_ok(scalar(@$fresh), '>', 300, scalar(@$fresh) . ' facts about a fresh installation');
cmp_ok($kinds{$_} // 0, '>', 0, "there is a $_ among them")
  foreach ('member', 'function', 'view', 'column', 'constraint', 'index', 'sequence', 'type', 'wrapper', 'comment', 'initial privileges', 'extension', 'dumped');
is_deeply($upgraded, $fresh, 'upgraded, it is what a fresh installation makes');
query('CREATE DATABASE oldest');
query(q{CREATE EXTENSION kafka_ingest VERSION '0.1.0'; ALTER EXTENSION kafka_ingest UPDATE}, 'oldest');
is_deeply(facts('oldest'), $fresh, 'from the first version on, too');

# Were it not, the comparison would say so.
query(q{REVOKE SELECT ON kafka_ingest.gaps FROM PUBLIC; COMMENT ON FUNCTION kafka_ingest.pause(text) IS 'another'}, 'fresh');
my %same = map { $_ => 1 } @{ facts('fresh') };
is(scalar(grep { !$same{$_} } @$fresh), 2, 'a right and a comment less are found');

$node->stop;
done_testing();
