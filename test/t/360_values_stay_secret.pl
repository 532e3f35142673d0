# What is wrong with a message that stops its pipeline is said without any of its values: not in status, not
# in events, not in pg_stat_activity, not in the server log.

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use PostgreSQL::Test::Utils;
use Test::More;

my $marker = 'geheim4711';
my $kafka = KafkaBroker->shared;
my $node = IngestCluster->new('main', conf => <<'END');
log_error_verbosity = verbose
log_min_messages = info
END
my %topic;

sub sql { my ($sql) = @_; return $node->safe_psql('postgres', $sql) }

# No statement of this test has the marker in it: the log has all statements.
sub ok_secret
{
	my ($name, $text) = @_;
	ok($text ne '', "$name: there is something to look at");
	my @lines = grep { /\Q$marker/i } split /\n/, $text;
	is_deeply(\@lines, [], "$name: the value is nowhere");
	return;
}

# Column type => a value that is good for it. The bad one is the marker, somehow.
my %good = (
	int      => 1,
	mood     => 'sad',
	short    => 'b',
	even     => 2,
	regclass => 'pg_class',
	regrole  => 'postgres',
	tsquery  => 'a & b',
	jsonpath => '$.a',
	uuid     => '11111111-2222-3333-4444-555555555555',
	xml      => '<a/>',
	'int[]'  => '{1}',
	timestamptz => '2026-01-02 03:04:05Z');
my %bad = (
	even     => 4711,
	tsquery  => "$marker &",
	jsonpath => "\$.$marker ??",
	xml      => "<$marker",
	'int[]'  => "{$marker}");
my @types = sort keys %good;

sub message
{
	my ($values) = @_;
	my @fields = map { my $t = $types[$_]; qq{"f$_": "} . ($values->{$t} // $marker) . '"' } 0 .. $#types;
	return { value => '{' . join(', ', @fields, '"text": "' . ($values->{int} // $marker) . '"') . '}' };
}

# One in which only the bad messages are, and one with good ones around them.
$topic{alone} = $kafka->create_topic('alone');
$kafka->produce_messages($topic{alone}, map { message(\%bad) } 1, 2);
$topic{mixed} = $kafka->create_topic('mixed');
$kafka->produce_messages($topic{mixed}, message(\%good), message(\%bad), message(\%good));
# and one that is no JSON, in three ways
$topic{broken} = $kafka->create_topic('broken');
$kafka->produce_messages($topic{broken}, { value => qq({"text": "$marker) });
$topic{latin} = $kafka->create_topic('latin');
$kafka->produce_messages($topic{latin}, { value => qq({"text": "$marker\xe4"}) });
$topic{nul} = $kafka->create_topic('nul');
$kafka->produce_messages($topic{nul}, { value => qq({"text": "$marker\\u0000"}) });

$node->connect_kafka($kafka);
sql(q{
	CREATE TYPE mood AS ENUM ('sad', 'happy');
	CREATE DOMAIN short AS varchar(4);
	CREATE DOMAIN even AS int CHECK (VALUE % 2 = 0 AND VALUE < 4000);
	CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		IF NEW.text <> '1' THEN
			RAISE EXCEPTION USING ERRCODE = TG_ARGV[0], MESSAGE = 'no ' || NEW.text,
				DETAIL = 'detail ' || NEW.text, HINT = 'hint ' || NEW.text;
		END IF;
		RETURN NEW;
	END $$;
	CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN EXECUTE 'SELECT 1 FROM ' || CASE NEW.text WHEN '1' THEN 'pg_class' ELSE NEW.text END; RETURN NEW; END $$});
my @pipelines;

sub pipeline
{
	my ($name, $topic, $column, $more, $mapping) = @_;
	my $columns = $mapping ? qq{, columns => '{"x": "$mapping"}'} : '';
	sql(qq{CREATE TABLE $name ($column); $more;
		SELECT kafka_ingest.create_pipeline('$name', topic => '$topic{$topic}', target => '$name', on_error => 'stop'$columns)});
	push @pipelines, $name;
	return;
}

foreach my $i (0 .. $#types)
{
	pipeline("mixed_$i", 'mixed', "x $types[$i]", '', "\$.f$i");
	pipeline("alone_$i", 'alone', "x $types[$i]", '', "\$.f$i") if $types[$i] =~ /^(int|reg|tsquery|jsonpath)/;
}
pipeline($_, $_, 'text text', '') foreach qw(broken latin nul);
foreach my $t (qw(mixed alone))
{
	pipeline("p0001_$t", $t, 'text text', qq{CREATE TRIGGER t BEFORE INSERT ON p0001_$t FOR EACH ROW EXECUTE FUNCTION tell('P0001')});
	pipeline("xx000_$t", $t, 'text text', qq{CREATE TRIGGER t BEFORE INSERT ON xx000_$t FOR EACH ROW EXECUTE FUNCTION tell('XX000')});
	pipeline("look_$t", $t, 'text text', qq{CREATE TRIGGER t BEFORE INSERT ON look_$t FOR EACH ROW EXECUTE FUNCTION look()});
}
# an error that passes: all that is known of it is what user code says
pipeline('p40001', 'mixed', 'text text', q{CREATE TRIGGER t BEFORE INSERT ON p40001 FOR EACH ROW EXECUTE FUNCTION tell('40001')});
# constraints, whose DETAIL has the whole row
pipeline('checked', 'mixed', q{text text CHECK (text = '1')}, '');
pipeline('single', 'alone', 'text text UNIQUE', '');
pipeline('missing', 'mixed', 'text text REFERENCES single (text)', '');

# ---- each is told, and none says too much --------------------------------------------------

foreach my $name (@pipelines)
{
	$node->poll_until(qq{SELECT state || '/' || reason FROM kafka_ingest.status WHERE pipeline = '$name'},
		$name =~ /^(alone_.*|xx000_alone|look_alone|p40001)$/ ? qr{^(stopped/bad_message|retrying/.*)$} : 'stopped/bad_message');
}
pass(scalar(@pipelines) . ' pipelines met it');
my $status = sql('SELECT s::text FROM kafka_ingest.status s ORDER BY 1');
note($status);
unlike($status, qr/,bad_message,(?!"Message at topic)/, 'each says where it is');
foreach my $view (qw(status events recent_batches partition_status gaps dead_letters))
{
	my $text = sql("SELECT v::text FROM kafka_ingest.$view v");
	ok_secret($view, $text) if $view !~ /gaps|dead_letters/;
	unlike($text, qr/\Q$marker/i, "$view, too") if $view =~ /gaps|dead_letters/;
}
# those that try again are at it again and again
foreach my $name (grep { sql("SELECT state FROM kafka_ingest.status WHERE pipeline = '$_'") eq 'retrying' } @pipelines)
{
	my $last = sql("SELECT last_error_at FROM kafka_ingest.status WHERE pipeline = '$name'");
	$node->poll_until("SELECT last_error_at > '$last' FROM kafka_ingest.status WHERE pipeline = '$name'", 't');
}
ok_secret('pg_stat_activity', sql(q{SELECT a::text FROM pg_stat_activity a WHERE backend_type LIKE 'kafka_ingest%'}));

# ---- by hand --------------------------------------------------------------------------------

sql('SELECT kafka_ingest.pause()');
$node->poll_until(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'kafka_ingest worker'}, '0');
ok_secret('server log', slurp_file($node->logfile));
my $before = -s $node->logfile;
foreach my $name (@pipelines)
{
	my $err;
	isnt($node->psql('postgres', "\\set VERBOSITY verbose\nCALL kafka_ingest.run('$name')", stderr => \$err), 0, "run('$name') fails");
	unlike($err, qr/\Q$marker/i, "run('$name') shows no value");
}
ok_secret('server log after run()', slurp_file($node->logfile, $before));

$node->stop;
done_testing();
