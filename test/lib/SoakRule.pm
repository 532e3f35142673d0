
=pod

=head1 NAME

SoakRule - which message has which number, what is in it, and what must become of it

=head1 SYNOPSIS

  perl -I test/lib -MSoakRule -e 'SoakRule::print_lines(100_000)' | kafka_tool produce-stdin ...
  my $ends = SoakRule::ends(100_000);        # { partition => next_offset at the end }
  my $counts = SoakRule::counts(100_000);    # { kind => messages }
  $node->safe_psql('postgres', SoakRule::sql);    # the same rule as SQL functions

Numbers go 0, 1, 2 ... by sets to the partitions in turn, so that partition and
offset say the number. One message in a hundred is bad. The rule is here twice, in
Perl for what is produced and in SQL for what is checked, and neither is made of
the other. The program that writes the lines needs nothing but this file.

=cut

package SoakRule;

use strict;
use warnings;
use integer;

use constant PARTITIONS => 4;
use constant SET        => 500;

# The bad kinds by turns. Those with 1 are mended by a mapping that takes "total" for
# the column amount.
our @KINDS = (
	[ broken    => 0 ],    # ends in a byte that is not UTF-8
	[ mistyped  => 1 ],    # amount is no number
	[ oversized => 1 ],    # amount is out of range
	[ empty     => 0 ],    # null for a NOT NULL column
	[ twin      => 0 ],    # the id of the message before it
	[ unknown   => 0 ],    # an enum has no such label
	[ negative  => 0 ]);   # violates a CHECK

# And a rare one: violates a foreign key, which is found at the end of the statement
# and tells of no row, so that it is looked for by halves.
our $STRAY = 'stray';

sub kind
{
	my ($number) = @_;
	return 'good' if $number % 100 != 37;
	return $STRAY if $number % 20_000 == 10_037;
	return $KINDS[ $number / 100 % @KINDS ][0];
}

sub mended_kinds
{
	return map { $_->[0] } grep { $_->[1] } @KINDS;
}

sub value
{
	my ($number) = @_;
	my $kind = kind($number);
	my $total = $kind eq 'negative' ? -1 : $number % 1000;
	my $amount = $kind eq 'mistyped' ? '"n/a"' : $kind eq 'oversized' ? 3_000_000_000 : $total;
	my $value = sprintf '{"id": %d, "amount": %s, "total": %d, "status": "%s", "region": %d, "note": %s}',
	  $kind eq 'twin' ? $number - 1 : $number, $amount, $total,
	  $kind eq 'unknown' ? 'lost' : 'paid', $kind eq $STRAY ? 99 : $number % 10,
	  $kind eq 'empty' ? 'null' : qq("number $number");
	return $kind eq 'broken' ? substr($value, 0, -1) . "\xff" : $value;
}

# All messages as lines for kafka_tool produce-stdin: partition, no key, value.
sub print_lines
{
	my ($messages) = @_;
	foreach my $number (0 .. $messages - 1)
	{
		print $number / SET % PARTITIONS, "\t\\N\t", value($number), "\n"
		  or die "cannot write: $!";
	}
	close STDOUT or die "cannot write: $!";
	return;
}

sub ends
{
	my ($messages) = @_;
	my %ends;
	for (my $number = 0; $number < $messages; $number += SET)
	{
		my $left = $messages - $number;
		$ends{ $number / SET % PARTITIONS } += $left < SET ? $left : SET;
	}
	return \%ends;
}

sub counts
{
	my ($messages) = @_;
	my %counts = (good => $messages);
	for (my $number = 37; $number < $messages; $number += 100)
	{
		$counts{ kind($number) }++;
		$counts{good}--;
	}
	return \%counts;
}

# What must be in the table of a number, and in a letter.
sub sql
{
	return <<'END';
CREATE FUNCTION number_of(partition int, message_offset bigint) RETURNS bigint IMMUTABLE LANGUAGE sql AS
	$$ SELECT message_offset / 500 * 2000 + partition * 500 + message_offset % 500 $$;
CREATE FUNCTION kind_of(number bigint) RETURNS text IMMUTABLE LANGUAGE sql AS
	$$ SELECT CASE WHEN number % 100 <> 37 THEN 'good' WHEN number % 20000 = 10037 THEN 'stray'
		ELSE ('{broken,mistyped,oversized,empty,twin,unknown,negative}'::text[])[number / 100 % 7 + 1] END $$;
CREATE FUNCTION value_of(number bigint) RETURNS bytea IMMUTABLE LANGUAGE sql AS $$
	SELECT CASE kind_of(number)
		WHEN 'broken' THEN substr(v.value, 1, length(v.value) - 1) || '\xff'
		ELSE v.value END
	FROM convert_to(format('{"id": %s, "amount": %s, "total": %s, "status": "%s", "region": %s, "note": %s}',
		number - (kind_of(number) = 'twin')::int,
		CASE kind_of(number) WHEN 'mistyped' THEN '"n/a"' WHEN 'oversized' THEN '3000000000' WHEN 'negative' THEN '-1'
			ELSE (number % 1000)::text END,
		CASE kind_of(number) WHEN 'negative' THEN -1 ELSE number % 1000 END,
		CASE kind_of(number) WHEN 'unknown' THEN 'lost' ELSE 'paid' END,
		CASE kind_of(number) WHEN 'stray' THEN 99 ELSE number % 10 END,
		CASE kind_of(number) WHEN 'empty' THEN 'null' ELSE '"number ' || number || '"' END), 'UTF8') v(value) $$;
END
}

1;
