
=pod

=head1 NAME

Lines - a numbered list of faults of which a test must have tried each one

=head1 SYNOPSIS

  my $lines = Lines->new('C', 1 .. 33);
  $lines->run(17, 'integers at their limits', sub { is(...) });    # a subtest "C 17: ..."
  $lines->ok_all;                                                  # each one ran, and had tests

=cut

package Lines;

use strict;
use warnings;

use Carp;
use Test::More;

sub new
{
	my ($class, $list, @numbers) = @_;
	return bless { list => $list, numbers => [@numbers], tests => {} }, $class;
}

# Runs one line as a subtest; a line may have several.
sub run
{
	my ($self, $number, $title, $code) = @_;
	my $tests = 0;
	croak "$self->{list} $number is none of this test's"
	  if !grep { $_ == $number } @{ $self->{numbers} };
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	subtest "$self->{list} $number: $title" => sub {
		$code->();
		$tests = Test::More->builder->current_test;
	};
	$self->{tests}{$number} += $tests;
	return;
}

# Every line was run, none without a test in it.
sub ok_all
{
	my ($self) = @_;
	my @numbers = @{ $self->{numbers} };
	my @missing = grep { !$self->{tests}{$_} } @numbers;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is_deeply(\@missing, [], "none of $self->{list} $numbers[0] to $numbers[-1] is left out");
	is(scalar keys %{ $self->{tests} }, scalar @numbers, 'that is ' . @numbers . ' lines');
	note("$self->{list} $_: $self->{tests}{$_} tests") foreach @numbers;
	return;
}

1;
