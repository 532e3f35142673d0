
=pod

=head1 NAME

ValueCases - messages of which it is known what becomes of each

=head1 SYNOPSIS

  my $cases = ValueCases->new($node, $kafka, 'typed', columns => 'i8 bigint, n numeric');
  $cases->good(17, i8 => '9223372036854775807', '9223372036854775807');   # line, column, JSON, the stored value as text
  $cases->bad(17, i8 => '9223372036854775808', '22003');                  # ... SQLSTATE
  $cases->add(4, 'null', { value => 'null' }, bad => [ '22035', 'map' ]); # a message of its own
  $cases->start;            # a topic with all of them, and the pipeline
  $cases->wait;             # until it is through
  $cases->check(17);        # tests, for the cases of this line

Before each case and behind the last one there is a good message, its neighbour.
What is good must be one row with exactly that value and no letter; what is bad
exactly one letter with stage, SQLSTATE, column, constraint, key, value and headers
to the byte, and no row; what is skipped neither. The neighbours must be rows, and
one of them of the transaction the letter is of.

=cut

package ValueCases;

use strict;
use warnings;

use Carp;
use Digest::MD5 qw(md5_hex);
use JSON::PP;
use Test::More;

# Longer values are compared by their checksums.
my $long = 2000;

# What is read is bytes, as the database has them.
my $json = JSON::PP->new->utf8(0);

# What values look like as text.
my $pinned = q{SET timezone = 'UTC'; SET datestyle = 'ISO, MDY'; SET intervalstyle = 'postgres'; SET extra_float_digits = 1;
	SET bytea_output = 'hex'; };

# Options:
#   columns      those of the table, beside id int and _offset bigint
#   create       SQL that makes the table instead, or a view, with the pipeline's name
#   owner        a role that is to own the pipeline, and may use the table
#   arguments    more of create_pipeline
#   neighbour    number => a good message (a hash); { "id": number } when not given
#   topic        a topic with the cases of another one, which is not filled again
#   topic_config, dbname ('postgres')
#   alone        neighbours are in transactions of their own
sub new
{
	my ($class, $node, $kafka, $name, %options) = @_;
	my $self = bless {
		node      => $node,
		kafka     => $kafka,
		name      => $name,
		dbname    => 'postgres',
		arguments => '',
		neighbour => sub { return { value => qq({"id": $_[0]}) } },
		cases     => [],
		%options
	}, $class;
	my $create = $self->{create} // "CREATE TABLE $name (id int, _offset bigint, $self->{columns})";
	$self->query($create);
	return $self;
}

sub query
{
	my ($self, $sql) = @_;
	return $self->{node}->safe_psql($self->{dbname}, $sql);
}

# ---- the cases ------------------------------------------------------------------

# kind: good => { column => text or undef }, bad => [ SQLSTATE, stage, column,
# constraint ], skipped => undef.
sub add
{
	my ($self, $line, $name, $message, $kind, $expected) = @_;
	croak "no such kind: $kind" if $kind !~ /^(good|bad|skipped)$/;
	push @{ $self->{cases} },
	  { line => $line, name => $name, message => $message, kind => $kind, expected => $expected };
	return;
}

sub _field
{
	my ($self, $column, $value) = @_;
	return { value => sprintf '{"id": %d, "%s": %s}', scalar @{ $self->{cases} }, $column, $value };
}

# "$column $value" of which a name is made.
sub _name
{
	my ($column, $value) = @_;
	$value = substr($value, 0, 50) . '...' if length $value > 53;
	$value =~ s/[^ -~]/?/g;
	return "$column $value";
}

sub good
{
	my ($self, $line, $column, $value, $expected) = @_;
	$self->add($line, _name($column, $value), $self->_field($column, $value), good => { $column => $expected });
	return;
}

sub bad
{
	my ($self, $line, $column, $value, $code, $stage, $constraint) = @_;
	$stage //= 'map';
	$self->add($line, _name($column, $value), $self->_field($column, $value),
		bad => [ $code, $stage, $stage eq 'map' ? $column : undef, $constraint ]);
	return;
}

# ---- loading --------------------------------------------------------------------

# Case n has offset 2n + 1.
sub start
{
	my ($self) = @_;
	my ($name, $kafka) = ($self->{name}, $self->{kafka});
	my @cases = @{ $self->{cases} };
	if (!defined $self->{topic})
	{
		my @messages = map { $self->{neighbour}->(2 * $_), $cases[$_]{message} } 0 .. $#cases;
		$self->{topic} = $kafka->create_topic("lines_$name", config => $self->{topic_config});
		$kafka->produce_messages($self->{topic}, @messages, $self->{neighbour}->(2 * @cases));
	}
	my $arguments = $self->{arguments} eq '' ? '' : ", $self->{arguments}";
	my $as = defined $self->{owner} ? "SET SESSION AUTHORIZATION $self->{owner}; " : '';
	$self->query("${as}SELECT kafka_ingest.create_pipeline('$name', topic => '$self->{topic}', target => '$name', max_error_ratio => 1$arguments)");
	return;
}

# The number of messages: neighbours and cases.
sub messages
{
	my ($self) = @_;
	return 2 * @{ $self->{cases} } + 1;
}

sub wait
{
	my ($self) = @_;
	$self->{node}->wait_for_position_sum($self->{name}, $self->messages, dbname => $self->{dbname}, timeout => 60);
	$self->_read_rows;
	$self->_read_letters;
	return;
}

# Values that are long, as what they are compared by.
sub _short
{
	my ($bytes) = @_;
	return $bytes if !defined $bytes || length $bytes <= $long;
	return sprintf '%d bytes, md5 %s', length $bytes, md5_hex($bytes);
}

sub _sql_short
{
	my ($text) = @_;
	return "CASE WHEN octet_length($text) <= $long THEN $text"
	  . " ELSE octet_length($text) || ' bytes, md5 ' || md5($text) END";
}

sub _read
{
	my ($self, $sql) = @_;
	return map { $json->decode($_) } split /\n/, $self->query("$pinned$sql");
}

sub _read_rows
{
	my ($self) = @_;
	my %wanted = map { $_ => 1 } map { $_->{kind} eq 'good' ? keys %{ $_->{expected} } : () } @{ $self->{cases} };
	my $columns = join ', ', map { "'$_', " . _sql_short("$_\::text") } sort keys %wanted;
	push @{ $self->{rows}[ $_->{o} ] }, $_
	  foreach $self->_read("SELECT json_build_object('o', _offset, 'at', pg_xact_commit_timestamp(xmin),"
		  . " 'columns', json_build_object($columns)) FROM $self->{name} WHERE _offset IS NOT NULL");
	return;
}

sub _read_letters
{
	my ($self) = @_;
	my $value = _sql_short(q{encode(l.value, 'hex')});
	push @{ $self->{letters}[ $_->{o} ] }, $_
	  foreach $self->_read("SELECT json_build_object('o', l.message_offset, 'at', pg_xact_commit_timestamp(d.xmin),"
		  . " 'fault', json_build_array(l.sqlstate, l.stage, l.column_name, l.constraint_name),"
		  . " 'place', json_build_array(l.topic, l.partition, l.attempts, l.superseded),"
		  . " 'key', encode(l.key, 'hex'), 'value', $value, 'ms', round(extract(epoch FROM l.message_timestamp) * 1000), 'error', left(l.error, 200),"
		  . q{ 'headers', (SELECT coalesce(jsonb_agg(jsonb_build_array(h.name, encode(h.value, 'hex')) ORDER BY n), '[]')}
		  . ' FROM unnest(l.headers) WITH ORDINALITY h(name, value, n)))'
		  . " FROM kafka_ingest.dead_letters l JOIN kafka_ingest.dead_letter d USING (id) WHERE l.pipeline = '$self->{name}'");
	return;
}

# ---- what became of them --------------------------------------------------------

sub _hex
{
	my ($bytes) = @_;
	return defined $bytes ? unpack('H*', $bytes) : undef;
}

sub _check_good
{
	my ($self, $case, $label, $rows) = @_;
	my %expected = map { $_ => _short($case->{expected}{$_}) } keys %{ $case->{expected} };
	my %found = map { $_ => @$rows == 1 ? $rows->[0]{columns}{$_} : scalar(@$rows) . ' rows' } keys %expected;
	is_deeply(\%found, \%expected, "$label: loaded");
	return;
}

sub _check_bad
{
	my ($self, $case, $label, $letters) = @_;
	my $message = $case->{message};
	my $letter = $letters->[0] // {};
	my %found = map { $_ => $letter->{$_} } qw(fault place key value headers);
	$found{ms} = $letter->{ms} if defined $message->{timestamp};
	my %expected = (
		fault   => [ @{ $case->{expected} }[ 0 .. 3 ] ],
		place   => [ $self->{topic}, 0, 1, JSON::PP::false ],
		key     => _hex($message->{key}),
		value   => _short(_hex($message->{value})),
		headers => [ map { [ $_->[0], _hex($_->[1]) ] } @{ $message->{headers} // [] } ],
		defined $message->{timestamp} ? (ms => $message->{timestamp}) : ());
	is_deeply(\%found, \%expected, "$label: a letter");
	like($letter->{error}, qr/\w/, "$label: which says why");
	return;
}

# Is any of the neighbours of the transaction the letter is of?
sub _check_transaction
{
	my ($self, $offset, $label) = @_;
	my $at = $self->{letters}[$offset][0]{at} // return;
	my @near = grep { $_->{at} eq $at } map { @{ $self->{rows}[$_] // [] } } $offset - 1, $offset + 1;
	cmp_ok(scalar @near, '>', 0, "$label: in the transaction of a neighbour") if !$self->{alone};
	return;
}

sub _check_case
{
	my ($self, $n) = @_;
	my $case = $self->{cases}[$n];
	my $offset = 2 * $n + 1;
	my $label = "$self->{name}: $case->{name}";
	my @rows = @{ $self->{rows}[$offset] // [] };
	my @letters = @{ $self->{letters}[$offset] // [] };
	my @near = map { scalar @{ $self->{rows}[$_] // [] } } $offset - 1, $offset + 1;
	is_deeply([ scalar @rows, scalar @letters ], [ $case->{kind} eq 'good' ? 1 : 0, $case->{kind} eq 'bad' ? 1 : 0 ],
		"$label: rows and letters")
	  or diag(explain(\@letters));
	is_deeply(\@near, [ 1, 1 ], "$label: both neighbours are loaded");
	$self->_check_good($case, $label, \@rows) if $case->{kind} eq 'good';
	$self->_check_bad($case, $label, \@letters) if $case->{kind} eq 'bad' && @letters;
	$self->_check_transaction($offset, $label) if $case->{kind} eq 'bad';
	return;
}

# The tests of a line's cases; returns how many cases there are.
sub check
{
	my ($self, $line) = @_;
	my @cases = grep { $self->{cases}[$_]{line} == $line } 0 .. $#{ $self->{cases} };
	$self->_check_case($_) foreach @cases;
	return scalar @cases;
}

# What status counts is what is there.
sub ok_counts
{
	my ($self) = @_;
	my %of = (good => 0, bad => 0, skipped => 0);
	$of{ $_->{kind} }++ foreach @{ $self->{cases} };
	is( $self->query('SELECT messages, loaded, ignored, dead_letters, dead_letters_total, gaps'
			  . " FROM kafka_ingest.status WHERE pipeline = '$self->{name}'"),
		join('|', $self->messages, $of{good} + @{ $self->{cases} } + 1, $of{skipped}, $of{bad}, $of{bad}, 0),
		"$self->{name}: counted");
	return;
}

1;
