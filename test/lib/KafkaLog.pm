
=pod

=head1 NAME

KafkaLog - what is in the log of a partition, read from the broker's files

=head1 SYNOPSIS

  my $log = KafkaLog->new($kafka, $topic, $partition);
  my @offsets = $log->offsets;          # of the records that are there, in order
  my @sets = $log->record_sets;         # hashes: file, position, first, last, count

For record sets without compression. A file may be replaced by compaction while it
is read: what is returned was there at some moment.

=cut

package KafkaLog;

use strict;
use warnings;

use Carp;

sub new
{
	my ($class, $kafka, $topic, $partition) = @_;
	return bless { dir => "$kafka->{dir}/data/$topic-$partition" }, $class;
}

sub _content
{
	my ($file) = @_;
	# gone: compaction has put another one in its place
	open my $handle, '<:raw', $file or return '';
	local $/;
	my $content = <$handle>;
	close $handle;
	return $content // '';
}

# A number in zigzag, seven bits a byte: (number, position behind it).
sub _varint
{
	my ($content, $at) = @_;
	my ($value, $shift) = (0, 0);
	while (1)
	{
		my $byte = ord substr($$content, $at++, 1);
		$value |= ($byte & 0x7f) << $shift;
		last if !($byte & 0x80);
		$shift += 7;
	}
	return (($value >> 1) ^ -($value & 1), $at);
}

# The record sets of all segments, with the offsets of their records.
sub record_sets
{
	my ($self) = @_;
	my @sets;
	foreach my $file (sort glob("$self->{dir}/*.log"))
	{
		my $content = _content($file);
		my $at = 0;
		while ($at + 61 <= length $content)
		{
			my ($base, $length) = unpack 'q> N', substr($content, $at, 12);
			last if $length == 0 || $at + 12 + $length > length $content;
			push @sets, _record_set($file, \$content, $at, $base);
			$at += 12 + $length;
		}
	}
	return sort { $a->{first} <=> $b->{first} } @sets;
}

# baseOffset int64, batchLength int32, leader epoch int32, magic int8, crc int32,
# attributes int16, lastOffsetDelta int32, two timestamps int64, producer int64, its
# epoch int16, sequence int32, count int32, records
sub _record_set
{
	my ($file, $content, $start, $base) = @_;
	my ($attributes, $last) = unpack 'n N', substr($$content, $start + 21, 6);
	my $count = unpack 'N', substr($$content, $start + 57, 4);
	my $at = $start + 61;
	my @offsets;
	croak "$file: compressed" if $attributes & 7;
	foreach (1 .. $count)
	{
		my ($length, $body) = _varint($content, $at);
		my ($time, $delta);
		($time, $at) = _varint($content, $body + 1);
		($delta) = _varint($content, $at);
		push @offsets, $base + $delta;
		$at = $body + $length;
	}
	return {
		file       => $file,
		position   => $start,
		first      => $base,
		last       => $base + $last,
		count      => $count,
		offsets    => \@offsets,
		is_control => $attributes & 0x20 ? 1 : 0
	};
}

# Offsets of all records but control records.
sub offsets
{
	my ($self) = @_;
	my %offsets = map { $_ => 1 } map { @{ $_->{offsets} } }
	  grep { !$_->{is_control} } $self->record_sets;
	return sort { $a <=> $b } keys %offsets;
}

1;
