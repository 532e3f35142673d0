# What stands between the private copy of librdkafka and its allocator: a program
# of its own calls it as the library does (test/tools/alloc_test.c).

use strict;
use warnings;

use IPC::Run ();
use Test::More;

my ($output, $error) = ('', '');
ok(IPC::Run::run([ 'make', '-C', 'test/tools', 'alloc_test' ], '<', \undef, '>', \$output, '2>', \$error),
	'it builds') or diag($error);

foreach my $place (qw(low high))
{
	($output, $error) = ('', '');
	my $status = IPC::Run::run([ 'test/tools/alloc_test', $place ], '<', \undef, '>', \$output, '2>', \$error);
	ok($status, "$place addresses: no failure");
	like($output, qr/^ok \d+ - another thread frees\n1\.\.(\d+)$/m, "$place addresses: to the end");
	unlike($output, qr/^not ok/m, "$place addresses: nothing failed") or diag($output, $error);
}

done_testing();
