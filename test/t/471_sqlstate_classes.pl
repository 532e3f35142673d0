# Whose fault an error is, by its SQLSTATE: a message's makes one letter of it, a
# passing one is tried again until its cause ends, one that could be anybody's
# is a message's only if that fails alone while another goes through. What fails
# in our own tables is never a message's.

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use Test::More;

my $kafka = KafkaBroker->shared;
# what stands is tried again sooner, which the test waits for
my $node = IngestCluster->new('main', conf => "kafka_ingest.lock_timeout = '500ms'\nkafka_ingest.retry_backoff_max = '300ms'\nmax_worker_processes = 80\nkafka_ingest.max_workers = 70\n");

$node->connect_kafka($kafka);

sub query
{
	return $node->safe_psql('postgres', $_[0]);
}

my @of_message = qw(21000 22012 22P02 23000 23505 38001 39004 44000 54000 P0001 P0004);
my %passing = (
	'08006' => 'database_error', '40001' => 'conflict', '40P01' => 'conflict', '53100' => 'out_of_space', '53200' => 'database_error',
	'55P03' => 'lock_timeout', '57014' => 'database_error', '58030' => 'database_error', '25006' => 'read_only');
my %suspect = map { $_ => 'database_error' } qw(0A000 2F002 3D000 3F000 42P01 42883 55000 XX000 F0000);
$suspect{42501} = 'permission_denied';

# ---- our own tables ------------------------------------------------------------------------

# Message n raises what "raise" says, unless its cause has ended; a sequence counts, which no
# rollback undoes.
query(q{
	CREATE TABLE ended (code text);
	CREATE SEQUENCE attempts;
	CREATE FUNCTION raise_it() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM nextval('attempts');
		IF NEW.raise IS NOT NULL AND NOT EXISTS (SELECT FROM ended WHERE code = NEW.raise) THEN
			RAISE 'value %', NEW.id USING ERRCODE = NEW.raise;
		END IF;
		RETURN NEW;
	END $$});

# A pipeline of its own partition; a message is its number, a comma, and what it raises.
my $topic = $kafka->create_topic('classes', partitions => 100);
my $pipelines = 0;

sub json_of
{
	my ($message) = @_;
	my ($id, $raise) = split /,/, $message;
	return $raise ? qq({"id": $id, "raise": "$raise"}) : qq({"id": $id});
}

sub create
{
	my ($when, @messages) = @_;
	my $n = $pipelines++;
	$kafka->produce_messages($topic, map { { partition => $n, value => /^\d/ ? json_of($_) : $_, headers => [ [ h => "header of $_" ] ] } } @messages);
	query(qq{CREATE TABLE p$n (id int, raise text);
		CREATE TRIGGER t $when INSERT ON p$n FOR EACH ROW EXECUTE FUNCTION raise_it();
		SELECT kafka_ingest.create_pipeline('p$n', topic => '$topic', target => 'p$n', partitions => '{$n}', max_error_ratio => 1)});
	return "p$n";
}

sub outcome
{
	my ($p) = @_;
	return query(qq{SELECT (SELECT coalesce(string_agg(id::text, ' ' ORDER BY id), '') FROM $p),
		(SELECT coalesce(string_agg(message_offset || ' ' || stage || ' ' || sqlstate, ', ' ORDER BY message_offset), '') FROM kafka_ingest.dead_letters WHERE pipeline = '$p'),
		(SELECT next_offset FROM kafka_ingest.partition_status WHERE pipeline = '$p')});
}

sub is_retrying
{
	my ($p, $reason, $name) = @_;
	$node->wait_for_state($p, "retrying/$reason");
	# it is tried again, and again
	foreach (1, 2)
	{
		my $last = query("SELECT last_error_at FROM kafka_ingest.status WHERE pipeline = '$p'");
		$node->poll_until("SELECT last_error_at > '$last' FROM kafka_ingest.status WHERE pipeline = '$p'", 't');
	}
	is(outcome($p), '||0', "$name: no letter, no row, no offset");
	unlike(query("SELECT concat_ws(' ', detail, last_error) FROM kafka_ingest.status WHERE pipeline = '$p'"), qr/value \d/, '... and no text of the error');
	return;
}

# A constraint of the table of letters, and a lock on it.
query('CREATE UNIQUE INDEX forbidden ON kafka_ingest.dead_letter (pipeline, sqlstate)');
my $own = create('AFTER', '1', 'no JSON', '2', 'no JSON', '3');
is_retrying($own, 'database_error', 'a constraint of our table');
like(query("SELECT last_error FROM kafka_ingest.status WHERE pipeline = '$own'"), qr/SQLSTATE 23505/, '... but its SQLSTATE');
query('DROP INDEX kafka_ingest.forbidden');
$node->wait_for_position_sum($own, 5);
is(outcome($own), '1 2 3|1 decode 22P02, 3 decode 22P02|5', 'without it, it goes on');
is( query("SELECT message_offset, convert_from((headers[1]).value, 'UTF8'), cardinality(headers) FROM kafka_ingest.dead_letters WHERE pipeline = '$own' ORDER BY 1"),
	"1|header of no JSON|1\n3|header of no JSON|1", 'with letters as whole as at the first attempt');

my $holder = $node->background_psql('postgres');
$holder->query_safe('BEGIN; LOCK TABLE kafka_ingest.dead_letter IN SHARE MODE');
my $locked = create('AFTER', '1', 'no JSON', '2');
is_retrying($locked, 'lock_timeout', 'a lock on our table');
$holder->query_safe('COMMIT');
$holder->quit;
$node->wait_for_position_sum($locked, 3);
is(outcome($locked), '1 2|1 decode 22P02|3', 'without it, it goes on');

# ---- a message's ------------------------------------------------------------------------------

foreach my $when (qw(AFTER BEFORE))
{
	my $id = 0;
	my $p = create($when, map { $id += 2; ($id - 1, "$id,$_") } @of_message);
	my $offset = -1;
	$node->wait_for_position_sum($p, $id);
	is( outcome($p), join('|', join(' ', map { 2 * $_ - 1 } 1 .. @of_message), join(', ', map { $offset += 2; "$offset write $_" } @of_message), $id),
		"raised $when the row: each of the message classes makes a letter");
	# alone in its batch it is a message's, too
	$p = create($when, '1,P0001');
	$node->wait_for_position_sum($p, 1);
	is(outcome($p), '|0 write P0001|1', '... and of a message that is alone');
}

# ---- passing ----------------------------------------------------------------------------------

# all at once: they wait for each other's sake
my %p = map { $_ => create('AFTER', '1', "2,$_", '3') } sort keys %passing;
foreach my $code (sort keys %passing)
{
	is_retrying($p{$code}, $passing{$code}, "$code");
}
query("INSERT INTO ended SELECT unnest(ARRAY['" . join("','", keys %passing) . "'])");
foreach my $code (sort keys %passing)
{
	$node->wait_for_position_sum($p{$code}, 3);
	is(outcome($p{$code}), '1 2 3||3', "$code: when the cause ends it goes on");
	query("SELECT kafka_ingest.pause('$p{$code}')");
}
is(query("SELECT count(*) FROM kafka_ingest.events WHERE event = 'stop'"), 0, 'nothing has stopped');

# ---- anybody's ---------------------------------------------------------------------------------

# no other message; all of them; the only other one is bad itself
foreach my $kind ([ 'alone', '1' ], [ 'all', '1', '2', '3' ], [ 'beside a bad one', '1', 'no JSON' ])
{
	my ($name, @messages) = @$kind;
	%p = map { my $code = $_; $code => create('AFTER', map { /^\d/ ? "$_,$code" : $_ } @messages) } sort keys %suspect;
	foreach my $code (sort keys %suspect)
	{
		is_retrying($p{$code}, $suspect{$code}, "$code, $name");
	}
	query("INSERT INTO ended SELECT unnest(ARRAY['" . join("','", keys %suspect) . "'])");
	foreach my $code (sort keys %suspect)
	{
		my $count = @messages;
		my @good = grep { /^\d/ } @messages;
		$node->wait_for_position_sum($p{$code}, $count);
		is(outcome($p{$code}), join('|', "@good", @good == @messages ? '' : '1 decode 22P02', $count), "$code, $name: when the cause ends it goes on");
		query("SELECT kafka_ingest.pause('$p{$code}')");
	}
	query('DELETE FROM ended');
}

# another goes through: before it, or behind it
foreach my $messages ([ '1', '2,CODE' ], [ '1,CODE', '2' ], [ '1', '2,CODE', '3', 'no JSON', '5,CODE', '6' ])
{
	my @codes = @$messages == 6 ? sort keys %suspect : qw(0A000 XX000);
	foreach my $code (@codes)
	{
		my @of_code = map { s/CODE/$code/r } @$messages;
		my $p = create('AFTER', @of_code);
		my @letters = map { $of_code[$_] =~ /,/ ? "$_ write $code" : $of_code[$_] =~ /^no/ ? "$_ decode 22P02" : () } 0 .. $#of_code;
		$node->wait_for_position_sum($p, scalar @of_code);
		is( outcome($p), join('|', join(' ', grep { /^\d+$/ } @of_code), join(', ', @letters), scalar @of_code),
			"$code among " . @of_code . ': those that fail alone are letters');
		query("SELECT kafka_ingest.pause('$p')");
	}
}

$node->stop;
done_testing();
