# insert_ignore: the first row of a key stays, within a batch and across batches; the
# others are counted as ignored. Against a model, by batches of 1 to 10,000 messages.

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use Test::More;

my $seed = $ENV{MODEL_SEED} // int(rand(2**31));
srand($seed);
my $kafka = KafkaBroker->shared;
my $node = IngestCluster->new('main');
$node->connect_kafka($kafka);

sub query
{
	return $node->safe_psql('postgres', $_[0]);
}

# ---- against a model --------------------------------------------------------------

my $topic = $kafka->create_topic('ignore');
my (%model, @messages);
$model{$_} = "$_|old|7" foreach 1 .. 5;
my ($written, $tombstones) = (0, 0);
foreach my $n (1 .. 1000)
{
	my $k = int(rand(300));
	my $c = rand() < 0.3 ? undef : int(rand(100));
	my $is_tombstone = rand() < 0.05;
	push @messages, { key => $k, value => $is_tombstone ? undef
		  : sprintf('{"k": %d, "v": "row %d"%s}', $k, $n, defined $c ? qq(, "c": $c) : '') };
	if ($is_tombstone) { $tombstones++ }
	elsif (!exists $model{$k})
	{
		$model{$k} = "$k|row $n|" . ($c // 7);
		$written++;
	}
}
$kafka->produce_messages($topic, @messages);
foreach my $batch (1, 2, 7, 100, 10_000)
{
	my $name = "ignore_$batch";
	query(qq{CREATE TABLE $name (k int PRIMARY KEY, v text, c int DEFAULT 7);
		INSERT INTO $name SELECT k, 'old' FROM generate_series(1, 5) k;
		SELECT kafka_ingest.create_pipeline('$name', topic => '$topic', target => '$name', mode => 'insert_ignore',
			batch_max_messages => $batch, paused => true);
		CALL kafka_ingest.run('$name')});
	is(query("SELECT * FROM $name ORDER BY k"), join("\n", map { $model{$_} } sort { $a <=> $b } keys %model),
		"batches of $batch: the table is the model (seed $seed)");
	is(query("SELECT messages, loaded, ignored, dead_letters_total FROM kafka_ingest.status WHERE pipeline = '$name'"),
		join('|', 1000, $written, 1000 - $written, 0), 'messages, loaded and ignored');
}
is(query(q{SELECT write_method FROM kafka_ingest.pipelines WHERE pipeline = 'ignore_7'}), 'insert_ignore', 'how it writes');
cmp_ok($tombstones, '>', 0, 'tombstones were among them');

# ---- what else there is --------------------------------------------------------------

# rights: no UPDATE, no DELETE, of SELECT the key's
my $more = $kafka->create_topic('ignore_more');
$kafka->produce_messages($more, map { { value => $_ } } '{"k": 1, "v": "a"}', '{"k": 1, "v": "b"}', '{"k": null, "v": "c"}',
	'{"k": 2, "v": "too long"}', '{"k": 3, "v": "d"}');
query(q{
	CREATE ROLE loader LOGIN;
	GRANT USAGE ON FOREIGN SERVER kafka TO loader;
	CREATE TABLE rights (k int PRIMARY KEY, v varchar(3), seen bigint);
	CREATE FUNCTION count_rows() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN NEW.seen := (SELECT count(*) FROM rights); RETURN NEW; END $$;
	CREATE TRIGGER count_rows BEFORE INSERT ON rights FOR EACH ROW EXECUTE FUNCTION count_rows();
	GRANT INSERT, SELECT (k) ON rights TO loader;
	ALTER FUNCTION count_rows() SECURITY DEFINER});
query(qq{SET SESSION AUTHORIZATION loader;
	SELECT kafka_ingest.create_pipeline('rights', topic => '$more', target => 'rights', mode => 'insert_ignore', paused => true,
		columns => '{"k": "\$.k", "v": "\$.v"}');
	CALL kafka_ingest.run('rights')});
is(query('SELECT * FROM rights ORDER BY k'), "1|a|0\n3|d|1", 'rows of a role that may insert and read the key');
is(query(q{SELECT string_agg(message_offset || ' ' || sqlstate, ', ' ORDER BY message_offset) FROM kafka_ingest.dead_letters WHERE pipeline = 'rights'}),
	'2 23502, 3 22001', 'bad messages');
is(query(q{SELECT messages, loaded, ignored, dead_letters FROM kafka_ingest.status WHERE pipeline = 'rights'}), '5|2|1|2', 'and counts');

# a statement would count again what was ignored: it cannot know
my $refused;
$node->psql('postgres', qq{SELECT kafka_ingest.create_pipeline('both', topic => '$more', target => 'rights', mode => 'insert_ignore',
	statement => 'SELECT 1 FROM messages')}, stderr => \$refused);
like($refused, qr/option "statement" needs another mode than 'insert_ignore'/, 'no statement beside it');

$node->stop;
done_testing();
