# The soak of test/soak/run.sh, shorter: 100,000 messages with one bad in a hundred,
# blows, and a mapping that is mended half-way.

use strict;
use warnings;

use Soak;
use Test::More;

Soak->new(messages => 100_000, batch => 500, blows => 10, slow => 0.02)->run;

done_testing();
