
=pod

=head1 NAME

WriterCases - the same rows by each writer, and by INSERT

=head1 SYNOPSIS

  my $cases = WriterCases->new($node, $kafka);
  $cases->add('not null', sql => 'CREATE TABLE t (id int, v int NOT NULL)',
      rows => [ { id => 1, v => 1 }, { id => 2, v => undef } ], bad => '23502');
  $cases->run;

Each case has a target t. It is made three times, in schemas of its own: where
INSERT itself writes the rows ("o"), where rows go straight into the table
("m"), and where something forces a statement without changing what it means
("s"). Both pipelines read the same partition of one topic; afterwards the
three must be equal.

=cut

package WriterCases;

use strict;
use warnings;

use Carp;
use Encode qw(encode_utf8);
use IPC::Run ();
use PostgreSQL::Test::Utils;
use Test::More;

# What makes a statement of it: a trigger that sees the rows afterwards, one
# that sees each row before, or a view.
my %forces = (
	transition => <<'END',
CREATE TRIGGER zz_force AFTER INSERT ON t REFERENCING NEW TABLE AS zz_rows
	FOR EACH STATEMENT EXECUTE FUNCTION public.do_nothing();
END
	before => <<'END',
CREATE TRIGGER zz_force BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION public.do_nothing();
END
	view => "CREATE VIEW forced AS SELECT * FROM t;\n");

sub new
{
	my ($class, $node, $kafka) = @_;
	my $self = bless { node => $node, kafka => $kafka, cases => [] }, $class;
	$node->safe_psql('postgres', <<'END');
CREATE FUNCTION public.do_nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';

-- a query's rows, as they are in a schema
CREATE FUNCTION public.result(schema text, query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text;
BEGIN
	PERFORM set_config('search_path', schema, true);
	EXECUTE format('SELECT coalesce(string_agg(q::text, chr(10)), '''') FROM (%s) q', query) INTO answer;
	RETURN CASE WHEN length(answer) > 5000 THEN md5(answer) || ' ' || length(answer) ELSE answer END;
END $$;

-- as a pipeline that stops at the first bad message: its number, and why it is bad
CREATE FUNCTION public.insert_until_error(schema text, statements text[]) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	col text;
	con text;
BEGIN
	PERFORM set_config('search_path', schema, true);
	FOR i IN 1 .. cardinality(statements) LOOP
		BEGIN
			EXECUTE statements[i];
			SET CONSTRAINTS ALL IMMEDIATE;
		EXCEPTION WHEN OTHERS THEN
			GET STACKED DIAGNOSTICS col = COLUMN_NAME, con = CONSTRAINT_NAME;
			RETURN format('%s|%s|%s|%s', i - 1, SQLSTATE, col, con);
		END;
	END LOOP;
	RETURN 'good';
END $$;
END
	return $self;
}

# Options:
#   sql       makes the table t, and what belongs to it
#   rows      messages in order: { column => value } (undef: null; no such key: absent), undef: a tombstone
#   bad       the SQLSTATE that the first bad message must be refused with; without it all must go through
#   column    that a pipeline names in addition, since its mapping found the fault
#   unmapped  [columns]: that no field is taken for
#   force     transition, before or view
#   multi_only  why the statement is known to do otherwise
#   check     the query that must give the same everywhere
sub add
{
	my ($self, $name, %case) = @_;
	$case{name} = $name;
	$case{number} = @{ $self->{cases} };
	$case{force} //= 'transition';
	$case{check} //= 'SELECT tableoid::regclass, * FROM t ORDER BY id';
	push @{ $self->{cases} }, \%case;
	return;
}

# ---- one case ------------------------------------------------------------------

sub quote
{
	my ($text) = @_;
	return 'NULL' if !defined $text;
	$text =~ s/'/''/g;
	return "'$text'";
}

# A message's value, or undef for a tombstone.
sub json_of
{
	my ($row) = @_;
	return undef if !defined $row;
	my @fields;
	foreach my $column (sort keys %$row)
	{
		my $value = $row->{$column};
		if (!defined $value) { $value = 'null' }
		elsif ($value !~ /^-?[1-9]\d{0,17}$/)
		{
			$value =~ s/(["\\])/\\$1/g;
			$value = qq("$value");
		}
		push @fields, qq("$column": $value);
	}
	return encode_utf8('{' . join(', ', @fields) . '}');
}

# INSERT of several rows: a column that one of them has is DEFAULT in those that have it not.
sub insert_of
{
	my ($case, @rows) = @_;
	my %unmapped = map { $_ => 1 } @{ $case->{unmapped} // [] };
	my %columns = map { map { $_ => 1 } keys %$_ } grep { defined } @{ $case->{rows} };
	my @columns = grep { !$unmapped{$_} } sort keys %columns;
	my @values;
	foreach my $row (@rows)
	{
		push @values, '(' . join(', ', map { exists $row->{$_} ? quote($row->{$_}) : 'DEFAULT' } @columns) . ')';
	}
	return sprintf 'INSERT INTO t (%s) VALUES %s', join(', ', @columns), join(', ', @values);
}

sub _mapping
{
	my ($case) = @_;
	my @items = map { qq("$_": null) } @{ $case->{unmapped} // [] };
	return @items ? quote('{' . join(', ', @items, '"*": "$.*"') . '}') : 'NULL';
}

sub _setup
{
	my ($self, $case, $kind) = @_;
	my $schema = "${kind}_$case->{number}";
	my $sql = "CREATE SCHEMA $schema;\nSET search_path = $schema;\n$case->{sql};\n";
	return $sql if $kind eq 'o';
	my $target = 't';
	if ($kind eq 's')
	{
		$sql .= $forces{ $case->{force} };
		$target = 'forced' if $case->{force} eq 'view';
	}
	return $sql . sprintf(<<'END', $schema, $self->{topic}, $target, $case->{number}, _mapping($case), $schema);
SELECT kafka_ingest.create_pipeline('%s', topic => '%s', target => '%s', partitions => '{%d}', columns => %s,
	search_path => '%s', on_error => 'stop', batch_max_messages => 1000000, batch_max_ms => 5000, paused => true);
END
}

# INSERT does it: all rows in one statement, or one by one up to the bad one.
sub _insert_all
{
	my ($self, $case) = @_;
	my @rows = grep { defined } @{ $case->{rows} };
	my $schema = "o_$case->{number}";
	return '' if !@rows;
	return "SET search_path = $schema;\n" . insert_of($case, @rows) . ";\n" if !$case->{bad};
	my $statements = join ', ', map { quote(insert_of($case, $_)) } @rows;
	return sprintf "UPDATE public.outcome SET o = public.insert_until_error('%s', ARRAY[%s]) WHERE n = %d;\n",
	  $schema, $statements, $case->{number};
}

# ---- all of them ---------------------------------------------------------------

sub _start_runs
{
	my ($self, $kind) = @_;
	my $script = join '', map { "CALL kafka_ingest.run('${kind}_$_->{number}');\n" } @{ $self->{cases} };
	my $run = { kind => $kind, output => '' };
	$run->{harness} = IPC::Run::start(
		[ 'psql', '-XAtq', '-v', 'VERBOSITY=verbose', '-d', $self->{node}->connstr('postgres') ],
		'<', \$script, '>', \$run->{output}, '2>&1', IPC::Run::timeout(300));
	return $run;
}

# What a stopped pipeline says, as insert_until_error says it.
sub outcome_of
{
	my ($detail) = @_;
	return 'good' if $detail eq '';
	my ($offset) = $detail =~ /offset (\d+) cannot/;
	my ($sqlstate) = $detail =~ /SQLSTATE (\w{5})/;
	my ($column) = $detail =~ /column "([^"]*)"/;
	my ($constraint) = $detail =~ /constraint "([^"]*)"/;
	return join '|', map { $_ // '' } $offset, $sqlstate, $column, $constraint;
}

sub _produce
{
	my ($self) = @_;
	my @messages;
	foreach my $case (@{ $self->{cases} })
	{
		push @messages, map { { partition => $case->{number}, key => 'k', value => json_of($_) } } @{ $case->{rows} };
	}
	$self->{kafka}->produce_messages($self->{topic}, @messages);
	return;
}

sub run
{
	my ($self) = @_;
	my $node = $self->{node};
	my @cases = @{ $self->{cases} };
	$self->{topic} = $self->{kafka}->create_topic('writers', partitions => scalar @cases);
	$self->_produce;
	$node->safe_psql('postgres', 'CREATE TABLE public.outcome AS SELECT n, text \'good\' AS o FROM generate_series(0, '
		  . $#cases . ') n');
	foreach my $kind (qw(o m s))
	{
		$node->safe_psql('postgres', encode_utf8(join '', "\\o /dev/null\n", map { $self->_setup($_, $kind) } @cases));
	}
	my @runs = map { $self->_start_runs($_) } qw(m s);
	$node->safe_psql('postgres', encode_utf8(join '', map { $self->_insert_all($_) } @cases));
	foreach my $run (@runs)
	{
		$run->{harness}->finish;
		note($run->{output});
	}
	$self->_compare($_) foreach @cases;
	return;
}

# One row a kind: its writer, what stopped it, what is there.
my $results = <<'END';
SELECT (SELECT write_method FROM kafka_ingest.pipelines WHERE pipeline = s),
	(SELECT detail FROM kafka_ingest.status WHERE pipeline = s AND state = 'stopped'),
	public.result(s, %s)
FROM unnest('{%s}'::text[]) AS u(s)
END

sub _compare
{
	my ($self, $case) = @_;
	my $n = $case->{number};
	my @output = split /\x1e/, $self->{node}->safe_psql('postgres',
		sprintf($results, quote($case->{check}), "o_$n,m_$n,s_$n")
		  . "UNION ALL SELECT o, NULL, NULL FROM public.outcome WHERE n = $n",
		extra_params => [ '-F', "\x1f", '-R', "\x1e" ]);
	my ($insert, $multi, $statement, $outcome) = map { [ split /\x1f/, $_, -1 ] } @output;
	$outcome->[0] =~ s/\|\|/|$case->{column}|/ if $case->{column};
	subtest $case->{name} => sub {
		is("$multi->[0] $statement->[0]", 'multi_insert insert', 'the writers');
		like($outcome->[0], $case->{bad} ? qr/^\d+\|$case->{bad}\|/ : qr/^good$/, "INSERT: $outcome->[0]");
		note("insert is not compared: $case->{multi_only}") if $case->{multi_only};
		foreach my $pipeline ($multi, $case->{multi_only} ? () : $statement)
		{
			is(outcome_of($pipeline->[1]), $outcome->[0], "$pipeline->[0] judges as INSERT");
			is($pipeline->[2], $insert->[2], "$pipeline->[0] does as INSERT");
		}
	};
	return;
}

1;
