# The memory that the private copy of librdkafka has for messages: a program of
# its own calls it as the library does (test/tools/alloc_test.c).

use strict;
use warnings;

use IPC::Run ();
use Test::More;

my ($output, $error) = ('', '');
ok(IPC::Run::run([ 'make', '-C', 'test/tools', 'alloc_test' ], '<', \undef, '>', \$output, '2>', \$error),
	'it builds') or diag($error);

($output, $error) = ('', '');
my $status = IPC::Run::run(['test/tools/alloc_test'], '<', \undef, '>', \$output, '2>', \$error);
ok($status, 'no failure');
like($output, qr/^ok \d+ - another thread frees while one allocates\n1\.\.(\d+)$/m, 'to the end');
unlike($output, qr/^not ok/m, 'nothing failed') or diag($output, $error);

done_testing();
