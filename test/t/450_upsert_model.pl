# Upsert against a model: random rows, deletes and keys that come again, by batches of
# 1 to 10,000 messages. Whatever is folded, the table must be as if the messages had been
# applied one by one in the order of their offsets. MODEL_SEED repeats a run.

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use Test::More;

use constant PARTITIONS => 3;
use constant KEYS       => 10;     # in each partition
use constant MESSAGES   => 900;    # of each case
my @batches = (1, 2, 7, 100, 10_000);

my $seed = $ENV{MODEL_SEED} // int(rand(2**31));
srand($seed);
my $kafka = KafkaBroker->shared;
my $node = IngestCluster->new('main');
$node->connect_kafka($kafka);

# Each has a table of these columns (without a default: NULL), and a model of it. u is
# not mapped, so it tells rows that were updated from those that are new. key: "whole" (a text)
# or "json"; many: spellings of a number.
my %types = (k => 'numeric', g => 'text', a => 'int', b => 'text', c => 'int DEFAULT 7', v => 'numeric', u => q{text DEFAULT 'new'});
my %defaults = (c => 7, u => 'new');
my @cases = (
	{ name => 'rows and deletes', columns => [qw(k a b c u)], keys => ['k'] },
	{ name => 'a key of two columns', columns => [qw(a k b g u)], keys => [ 'k', 'g' ], key => 'json' },
	{ name => 'a JSON key of one column', columns => [qw(k a u)], keys => ['k'], key => 'json' },
	{ name => 'nothing but the key', columns => [qw(k g)], keys => [ 'k', 'g' ], key => 'json' },
	{ name => 'absent columns are set to their default', columns => [qw(k a b c u)], keys => ['k'], absent => 0.4 },
	{ name => 'absent columns are kept', columns => [qw(k a b c u)], keys => ['k'], absent => 0.4, keep => 1 },
	{ name => 'newer_by', columns => [qw(k a b c v u)], keys => ['k'], newer => 1 },
	{ name => 'newer_by, absent columns are set to their default', columns => [qw(k a c v u)], keys => ['k'], newer => 1, absent => 0.2 },
	{ name => 'newer_by, absent columns are kept', columns => [qw(k a b c v u)], keys => ['k'], newer => 1, absent => 0.2, keep => 1 },
	{ name => 'delete_when', columns => [qw(k a c u)], keys => ['k'], gone => 1 },
	{ name => 'newer_by and delete_when', columns => [qw(k a c v u)], keys => ['k'], newer => 1, gone => 1, absent => 0.2 },
	{ name => 'newer_by and delete_when, absent columns are kept', columns => [qw(k a c v u)], keys => ['k'], newer => 1, gone => 1, absent => 0.2, keep => 1 });

# ---- the model -------------------------------------------------------------------

sub identity
{
	my ($case, $row) = @_;
	return join '|', map { $_ eq 'k' ? 0 + $row->{k} : $row->{$_} } @{ $case->{keys} };
}

# May the row change what is stored?
sub is_newer
{
	my ($case, $row, $stored) = @_;
	return 1 if !$case->{newer} || !defined $stored->{v} || ($case->{keep} && !exists $row->{v});
	return defined $row->{v} && $row->{v} >= $stored->{v};
}

sub put
{
	my ($case, $table, $row) = @_;
	my $key = identity($case, $row);
	my $stored = $table->{$key};
	return if $stored && !is_newer($case, $row, $stored);
	my %left = map { $_ => 1 } 'u', $stored ? @{ $case->{keys} } : ();
	my %new = $stored ? %$stored : (u => $defaults{u});
	foreach my $column (grep { !$left{$_} } @{ $case->{columns} })
	{
		next if $stored && $case->{keep} && !exists $row->{$column};
		$new{$column} = exists $row->{$column} ? $row->{$column} : $defaults{$column};
	}
	$table->{$key} = \%new;
	return;
}

# A row that says it is gone: with newer_by only from what is not newer.
sub remove
{
	my ($case, $table, $row) = @_;
	my $stored = $table->{ identity($case, $row) };
	return if !$stored;
	delete $table->{ identity($case, $row) } if !exists $row->{v} || is_newer($case, $row, $stored);
	return;
}

sub as_text
{
	my ($case, $table) = @_;
	my @lines;
	foreach my $row (values %$table)
	{
		push @lines, join '|', map { $row->{$_} // '~' } sort @{ $case->{columns} };
	}
	return join "\n", sort @lines;
}

# ---- messages --------------------------------------------------------------------

sub random_row
{
	my ($case, $partition) = @_;
	my %is_key = map { $_ => 1 } @{ $case->{keys} };
	# keys belong to a partition, as Kafka's do; a number has several spellings
	my %value = (
		k => ($partition * 100 + int(rand(KEYS))) . ('', '.0', '.00')[ rand 3 ],
		g => ('x', 'y')[ rand 2 ],
		a => int(rand(1000)),
		b => 'text ' . int(rand(1000)),
		c => int(rand(1000)),
		v => int(rand(30)));
	my %row = map { $_ => $value{$_} } grep { $_ ne 'u' } @{ $case->{columns} };
	foreach my $column (grep { !$is_key{$_} } keys %row)
	{
		if (rand() < ($case->{absent} // 0)) { delete $row{$column} }
		elsif (rand() < 0.1) { $row{$column} = undef }
	}
	return \%row;
}

sub json_of
{
	my ($row, @columns) = @_;
	my @fields;
	foreach my $column (grep { exists $row->{$_} } @columns)
	{
		my $value = $row->{$column} // 'null';
		$value = qq("$value") if $column =~ /[bg]/ && $value ne 'null';
		push @fields, qq("$column": $value);
	}
	return '{' . join(', ', @fields) . '}';
}

sub key_of
{
	my ($case, $row) = @_;
	return $row->{k} if !$case->{key};
	# one that is no object is the only column's value
	return $row->{k} if @{ $case->{keys} } == 1 && rand() < 0.5;
	return json_of($row, @{ $case->{keys} });
}

# Makes the topic and, message by message, the model.
sub produce
{
	my ($case) = @_;
	my @messages;
	$case->{topic} = $kafka->create_topic('upsert', partitions => PARTITIONS);
	$case->{table} = { map { my $row = $_; (identity($case, $row) => { %$row, u => 'old' }) } @{ $case->{before} } };
	foreach (1 .. MESSAGES)
	{
		my $partition = int(rand(PARTITIONS));
		my $row = random_row($case, $partition);
		my $deletes = rand() < 0.25;
		my $is_gone = $case->{gone} && !$deletes && rand() < 0.3;
		if ($is_gone) { remove($case, $case->{table}, $row) }
		elsif ($deletes) { delete $case->{table}{ identity($case, $row) } }
		else { put($case, $case->{table}, $row) }
		push @messages, { partition => $partition, key => key_of($case, $row),
			value => $deletes ? undef : json_of($row, sort keys %$row), headers => $is_gone ? [ [ 'gone', 'yes' ] ] : [] };
	}
	$kafka->produce_messages($case->{topic}, @messages);
	return;
}

# ---- one case --------------------------------------------------------------------

sub literal
{
	my ($value) = @_;
	return defined $value ? "'$value'" : 'NULL';
}

# Some keys are there before.
sub rows_before
{
	my ($case) = @_;
	my %rows = map { my $row = random_row($case, $_ % PARTITIONS); (identity($case, $row) => $row) } 1 .. 10;
	return values %rows;
}

sub create
{
	my ($case, $n, $batch) = @_;
	my ($table, @columns) = ("t_${n}_$batch", @{ $case->{columns} });
	my $has_u = grep { $_ eq 'u' } @columns;
	my $sql = sprintf "CREATE TABLE $table (%s, PRIMARY KEY (%s));\n", join(', ', map { "$_ $types{$_}" } @columns), join(', ', @{ $case->{keys} });
	foreach my $row (@{ $case->{before} })
	{
		my %row = (%$row, $has_u ? (u => 'old') : ());
		$sql .= sprintf "INSERT INTO $table (%s) VALUES (%s);\n", join(', ', sort keys %row), join(', ', map { literal($row{$_}) } sort keys %row);
	}
	my $mapping = $has_u ? q(, columns => '{"*": "$.*", "u": null}') : '';
	my $options = $mapping . ($case->{key} ? q(, key_format => 'json') : '') . ($case->{newer} ? q(, newer_by => 'v') : '')
	  . ($case->{keep} ? q(, on_missing => 'keep') : '') . ($case->{gone} ? q(, delete_when => '{"@headers.gone": "yes"}') : '');
	$node->safe_psql('postgres', $sql . qq{SELECT kafka_ingest.create_pipeline('$table', topic => '$case->{topic}', target => '$table',
		mode => 'upsert', on_error => 'stop', batch_max_messages => $batch, paused => true $options)});
	return $table;
}

sub rows_of
{
	my ($case, $table) = @_;
	my $columns = join ', ', map { "coalesce($_\::text, '~')" } sort @{ $case->{columns} };
	my $rows = $node->safe_psql('postgres', "SELECT concat_ws('|', $columns) FROM $table");
	return join "\n", sort split /\n/, $rows;
}

sub check
{
	my ($case, $n) = @_;
	# what is not given is a default there, too
	$case->{before} = [ map { { (map { exists $defaults{$_} ? ($_ => $defaults{$_}) : () } grep { $_ ne 'u' } @{ $case->{columns} }), %$_ } } rows_before($case) ];
	produce($case);
	my $expected = as_text($case, $case->{table});
	foreach my $batch (@batches)
	{
		my $table = create($case, $n, $batch);
		$node->safe_psql('postgres', "CALL kafka_ingest.run('$table')");
		is(rows_of($case, $table), $expected, "batches of $batch: the table is the model (seed $seed)");
		is($node->safe_psql('postgres', "SELECT messages, loaded, ignored FROM kafka_ingest.status WHERE pipeline = '$table'"),
			MESSAGES . '|' . MESSAGES . '|0', 'and all messages are counted');
	}
	return;
}

foreach my $n (0 .. $#cases)
{
	subtest $cases[$n]{name} => sub { check($cases[$n], $n) };
}
$node->stop;
done_testing();
