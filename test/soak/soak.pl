# The soak that run.sh makes: soak.pl MESSAGES

use strict;
use warnings;

use Soak;
use Test::More;

my ($messages) = @ARGV;
my $blows = int($messages / 100_000);

Soak->new(messages => $messages, batch => 5000, blows => $blows < 20 ? 20 : $blows)->run;

done_testing();
