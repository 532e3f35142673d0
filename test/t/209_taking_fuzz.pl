# How messages are taken and delivered, with a model of the broker, failing
# allocations and errors at random: a program of its own calls the source's files
# as a loader does (test/tools/taking_test.c). TAKING_SEED repeats what it does.

use strict;
use warnings;

use IPC::Run ();
use Test::More;

my $seed = $ENV{TAKING_SEED} // int(rand(2**31));
diag("TAKING_SEED=$seed");

my ($output, $error) = ('', '');
ok(IPC::Run::run([ 'make', '-C', 'test/tools', 'taking_test' ], '<', \undef, '>', \$output, '2>', \$error),
	'it builds') or diag($error);

($output, $error) = ('', '');
my $status = IPC::Run::run([ 'test/tools/taking_test', $seed, 1000 ], '<', \undef, '>', \$output, '2>', \$error);
ok($status, 'no failure');
like($output, qr/^ok (\d+) - \d+ chunks left\n1\.\.\1$/m, 'to the end');
unlike($output, qr/^not ok/m, 'nothing failed');
diag($output, $error) unless Test::More->builder->is_passing;
note($output);

done_testing();
