# A standby loads nothing before it is promoted; after that it goes on where the
# data are, exactly once.

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use PostgreSQL::Test::Utils;
use Test::More;

my $kafka = KafkaBroker->shared;
my $primary = IngestCluster->new('primary', conf => <<'END');
wal_level = replica
max_wal_senders = 5
hot_standby = on
END
my $topic = $kafka->create_topic('standby', partitions => 2);
my $processes = q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'kafka_ingest%'};

$primary->connect_kafka($kafka);
$primary->safe_psql('postgres', qq{
	CREATE TABLE target (id bigint, _partition int, _offset bigint);
	SELECT kafka_ingest.create_pipeline('p', topic => '$topic', target => 'target', batch_max_messages => 500)});
$primary->backup('backup');
my $standby = bless PostgreSQL::Test::Cluster->new('standby'), 'IngestCluster';
$standby->init_from_backup($primary, 'backup', has_streaming => 1);
$standby->start;

my $producer = $kafka->produce_background($topic, count => 1_000_000, rate => 5000, set => 100);
$standby->wait_for_position_sum('p', 5000);
pass('what the primary loads reaches the standby');
is($standby->state('p'), 'waiting/standby', 'which says that it waits');
is($standby->safe_psql('postgres', $processes), 0, 'and runs no process of ours');
foreach my $call (q{SELECT kafka_ingest.pause('p')}, q{SELECT kafka_ingest.resume('p')},
	q{SELECT kafka_ingest.drop_pipeline('p')}, q{CALL kafka_ingest.run('p')},
	q{SELECT kafka_ingest.seek('p', start_offsets => '{"0": 1}')},
	q{SELECT kafka_ingest.alter_pipeline('p', workers => 2)}, q{SELECT kafka_ingest.adopt('p')},
	qq{SELECT kafka_ingest.create_pipeline('q', topic => '$topic', target => 'target')})
{
	my $err;
	$standby->psql('postgres', "\\set VERBOSITY verbose\n$call", stderr => \$err);
	like($err, qr/25006/, "on a standby refused: $call");
}
my $err;
$standby->psql('postgres', "\\set VERBOSITY verbose\nSELECT kafka_ingest.wait_until_caught_up('p')", stderr => \$err);
like($err, qr/55000.*standby/s, 'waiting there is an error at once');

# What the primary commits in its last moments may or may not reach the standby.
$primary->stop('immediate');
my $sum = $standby->position_sum('p');
is($standby->state('p'), 'waiting/standby', 'the primary is gone: the standby waits still');
$standby->promote;
$standby->wait_for_position_sum('p', $sum + 5000);
pass('promoted: it loads');
is($standby->state('p'), 'running', 'and says so');
ok($producer->is_running, 'while messages were coming');

$producer->kill9;
my $offsets = $kafka->offsets($topic);
my $produced = { map { $_ => $offsets->{$_}{high} } keys %$offsets };
is( $standby->safe_psql('postgres', q{SELECT kafka_ingest.wait_until_caught_up('p', '60s')}),
	't', 'caught up');
$standby->ledger_check('target', $topic, $produced);

$standby->stop;
done_testing();
