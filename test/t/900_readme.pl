# Every SQL example of README.md and doc/*.md, run as it stands against a real
# Kafka, and the reference compared with what there is.
#
# Each document has a database of its own, in which its examples run in order.
# Those of doc/ begin where the README's quick start ends: with the connection
# "kafka" and the pipeline "demo". Only the address localhost:9092 is replaced.
# What the documents say beside the text, in comments before a block:
#   <!-- produce topic=T [partitions=N] [key=F] [key-json=F] [header=N:V] -->
#       the lines of the block are messages, put into the partitions by turns;
#       their key is the value of the field F, or the object {"F": "p-77"}; a
#       line that ends in null is a tombstone
#   <!-- fails SQLSTATE -->      the last statement of the block must fail so
#   <!-- not run: why -->        cannot be run as it stands
# A block of text right behind one of SQL is the end of its output.

use strict;
use warnings;

use FindBin;
use IPC::Run ();
use PostgreSQL::Test::Utils;
use Test::More;

use IngestCluster;
use KafkaBroker;

my $root = "$FindBin::RealBin/../..";

# What is not run, and what must fail: named here, so that nothing slips away.
my @not_run = (
	'doc/recipes.md: needs pg_cron',
	'doc/troubleshooting.md: the recipe below takes the other way');
my @fails = (
	'doc/mapping.md: 42703', 'doc/troubleshooting.md: 22023', 'doc/troubleshooting.md: 55000');
my $least_examples = 40;

# Fences without a language, or with a new one, could hide SQL.
my %languages = map { $_ => 1 } qw(sql text json sh ini);

# ---- reading the documents --------------------------------------------------

sub slurp
{
	my ($file) = @_;
	open my $in, '<', "$root/$file" or die "$file: $!";
	local $/;
	return scalar <$in>;
}

# The blocks of a document: language, lines, marker, line, follows (a block
# directly before, with nothing but blank lines in between). Code that is written
# in another way than between ``` would not be seen, so it is noted.
my @strange;

sub blocks_of
{
	my ($file) = @_;
	my (@blocks, $block, $marker, $text_between, $number);
	$text_between = 1;
	foreach my $line (split /\n/, slurp($file))
	{
		$number++;
		if ($block && $line =~ /^```\s*$/)
		{
			push @blocks, $block;
			($block, $marker, $text_between) = (undef, undef, 0);
		}
		elsif ($block) { push @{ $block->{lines} }, $line }
		elsif ($line =~ /^\s*```(.*)$/)
		{
			$block = {
				language => $1, lines => [], marker => $marker, line => $number,
				follows => !$text_between };
		}
		elsif ($line =~ /^<!--\s*(.*?)\s*-->$/) { $marker = $1; $text_between = 1 }
		elsif ($line =~ /\S/)
		{
			($marker, $text_between) = (undef, 1);
			push @strange, "$file:$number: code without ```" if $line =~ /^(?:~~~|\t| {4})/;
		}
	}
	die "$file: a block has no end" if $block;
	return @blocks;
}

my @documents = ('README.md', map { s{^\Q$root\E/}{}r } sort glob "$root/doc/*.md");
my %blocks = map { $_ => [ blocks_of($_) ] } @documents;
my (@found_not_run, @found_fails);

foreach my $document (@documents)
{
	foreach my $block (@{ $blocks{$document} })
	{
		my $place = "$document:$block->{line}";
		my $marker = $block->{marker} // '';
		push @strange, "$place: language \"$block->{language}\""
		  if !$languages{ $block->{language} };
		push @strange, "$place: marker \"$marker\""
		  if $marker ne '' && $marker !~ /^(produce topic=|fails \w{5}$|not run: )/;
		push @strange, "$place: a marker on a block of $block->{language}"
		  if $marker =~ /^(fails|not run)/ && $block->{language} ne 'sql'
		  || $marker =~ /^produce/ && $block->{language} ne 'json';
		push @found_not_run, "$document: $1" if $marker =~ /^not run: (.*)/;
		push @found_fails, "$document: $1" if $marker =~ /^fails (.*)/;
	}
}
is_deeply(\@strange, [], 'all blocks and markers are of known kinds');
is_deeply(\@found_not_run, \@not_run, 'the examples that are not run are the ones expected');
is_deeply(\@found_fails, \@fails, 'the examples that fail are the ones expected');

my $examples = grep { $_->{language} eq 'sql' } map { @$_ } values %blocks;
cmp_ok($examples, '>=', $least_examples, "there are $examples examples");

# ---- running them -----------------------------------------------------------

my $kafka = KafkaBroker->new;    # of our own: topics have the documents' names
my $node = IngestCluster->new('main',
	extension => 0, conf => "max_worker_processes = 80\nkafka_ingest.max_workers = 64\n");
my %has_topic;

# Runs SQL through psql as a reader would; (exit status, output, messages).
sub run_sql
{
	my ($database, $sql) = @_;
	my ($out, $err) = ('', '');
	$sql =~ s/\blocalhost:9092\b/$kafka->brokers/ge;
	IPC::Run::run([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-v', 'VERBOSITY=verbose',
			'-P', 'pager=off', '-d', $node->connstr($database), '-f', '-' ],
		'<', \$sql, '>', \$out, '2>', \$err,
		IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	return ($? >> 8, $out, $err);
}

# The messages of a block, as KafkaBroker::produce_messages takes them.
sub messages_of
{
	my ($block, $options) = @_;
	my @messages;
	foreach my $line (@{ $block->{lines} })
	{
		my %message = (value => $line,
			partition => scalar(@messages) % ($options->{partitions} // 1));
		if (my $field = $options->{key})
		{
			$line =~ /"\Q$field\E": "?([^",}]*)/ or die "no key in $line";
			$message{key} = $1;
		}
		$message{value} = undef if $line =~ /\} null$/;
		$message{key} = "{\"$options->{'key-json'}\": \"p-77\"}" if $options->{'key-json'};
		$message{headers} = [ [ split /:/, $options->{header} ] ] if $options->{header};
		push @messages, \%message;
	}
	return @messages;
}

sub produce
{
	my ($block) = @_;
	my %options = $block->{marker} =~ /(\S+)=(\S+)/g;
	my $topic = $options{topic};
	die "two blocks produce to $topic" if $has_topic{$topic}++;
	$kafka->create_topic($topic, name => $topic, partitions => $options{partitions} // 1);
	$kafka->produce_messages($topic, messages_of($block, \%options));
	return;
}

# Without what psql puts at the ends of lines, and empty lines.
sub lines_of
{
	return grep { /\S/ } map { s/\s+$//r } split /\n/, $_[0];
}

sub run_example
{
	my ($place, $database, $block, $expected) = @_;
	my ($status, $out, $err) = run_sql($database, join("\n", @{ $block->{lines} }, ''));
	my $marker = $block->{marker} // '';
	if ($marker =~ /^fails (.*)/)
	{
		my $state = $1;
		ok($status != 0 && $err =~ /ERROR:  \Q$state\E:/, "$place fails with $state")
		  or diag $err;
		return;
	}
	is($status, 0, "$place runs") or diag $err, $node->status_text;
	return if !$expected;
	my @expected = lines_of(join "\n", @{ $expected->{lines} });
	my @got = lines_of($out);
	splice @got, 0, @got - @expected if @got > @expected;
	is_deeply(\@got, \@expected, "$place shows what the document says") or diag $out;
	return;
}

sub run_document
{
	my ($document, $database) = @_;
	my @list = @{ $blocks{$document} };
	foreach my $i (0 .. $#list)
	{
		my $block = $list[$i];
		my $marker = $block->{marker} // '';
		my $next = $list[ $i + 1 ];
		produce($block) if $marker =~ /^produce/;
		next if $block->{language} ne 'sql' || $marker =~ /^not run/;
		run_example("$document:$block->{line}", $database, $block,
			$next && $next->{language} eq 'text' && $next->{follows} ? $next : undef);
	}
	return;
}

# The quick start ends so; the other documents begin there.
sub prepare
{
	my ($database) = @_;
	my ($status, undef, $err) = run_sql($database, <<'SQL');
CREATE EXTENSION kafka_ingest;
SELECT kafka_ingest.create_connection('kafka', brokers => 'localhost:9092');
CREATE TABLE demo (category text, value bigint);
SELECT kafka_ingest.create_pipeline('demo', topic => 'demo_topic_1', target => 'demo');
SELECT kafka_ingest.wait_until_caught_up('demo');
SQL
	is($status, 0, "$database is prepared") or diag $err;
	return;
}

foreach my $document (@documents)
{
	my $database = lc($document =~ s/\W/_/gr);
	$node->safe_psql('postgres', "CREATE DATABASE $database");
	prepare($database) if $document ne 'README.md';
	run_document($document, $database);
}

# ---- the reference ----------------------------------------------------------

my $reference = slurp('doc/reference.md');
my $database = 'doc_reference_md';

# The text below a heading, up to the next one of its level or above.
sub section
{
	my ($heading) = @_;
	my ($level, $text) = $reference =~ /^(#+) \Q$heading\E\n(.*)\z/ms or return '';
	my $depth = length $level;
	$text =~ s/^#{1,$depth} .*//ms;
	return $text;
}

# Those of the names that do not stand in the text as `name`.
sub not_in
{
	my ($text, @names) = @_;
	my %there = map { $_ => 1 } map { split /[^\w.]+/ } $text =~ /`([^`\n]+)`/g;
	return [ grep { !$there{$_} } @names ];
}

sub query_rows
{
	return split /\n/, $node->safe_psql($database, $_[0]);
}

foreach my $row (query_rows(<<'SQL'))
SELECT p.proname, array_to_string(p.proargnames, ' ')
FROM pg_proc p
WHERE p.pronamespace = 'kafka_ingest'::regnamespace
  AND p.proname !~ '_rows$' AND p.proname NOT IN ('fdw_validator', 'is_mine', 'write_method')
SQL
{
	my ($function, $arguments) = split /\|/, $row;
	is_deeply(not_in(section("`$function()`"), split / /, $arguments),
		[], "the reference has all arguments and columns of $function()");
}

foreach my $row (query_rows(<<'SQL'))
SELECT c.relname, string_agg(a.attname, ' ')
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
WHERE c.relnamespace = 'kafka_ingest'::regnamespace AND c.relkind = 'v'
GROUP BY 1
SQL
{
	my ($view, $columns) = split /\|/, $row;
	is_deeply(not_in(section("`$view`"), split / /, $columns),
		[], "the reference has all columns of $view");
}

# The defaults as SHOW writes them: set explicitly, since this server has others.
my $settings = section('Settings');
foreach my $setting (query_rows(
		"SELECT name FROM pg_settings WHERE name LIKE 'kafka_ingest.%' AND name <> 'kafka_ingest.fault'"))
{
	my $fresh = $node->safe_psql($database,
		"SELECT CASE WHEN unit IS NULL THEN boot_val ELSE boot_val || unit END FROM pg_settings WHERE name = '$setting'");
	my ($told) = $settings =~ /^\| `\Q$setting\E` \| `?([^`|]+?)`? \|/m;
	$told = '' if defined $told && $told eq 'empty';
	my %spelled = ('65536kB' => '64MB', '1048576kB' => '1GB', '60000ms' => '1min', '10000ms' => '10s');
	is($told, $spelled{$fresh} // $fresh, "the reference has $setting and its default");
}

my @properties = slurp('src/property_table.c') =~
  /(?:OPEN|TRUST|SUPER|SECRET)\("([^"]+)"|\{"([^"]+)", VERDICT_SUPERUSER/g;
@properties = grep { defined } @properties;
cmp_ok(scalar @properties, '>', 70, 'there are properties');
is_deeply(not_in(section('Properties'), @properties), [], 'the reference has all properties');

# Reasons: every one that the code can give, and no other.
my @reasons = qw(broker_unreachable authentication_failed not_authorized tls_failed topic_missing
  connection_missing registry_unreachable offset_lost topic_recreated corrupt bad_message error_ratio
  dead_letters_full target_missing target_changed permission_denied owner_missing owner_cannot_login
  lock_timeout out_of_space read_only conflict database_error not_preloaded no_worker_slot
  copied_database standby disabled fenced);
my $code = join '', map { slurp($_) } map { s{^\Q$root\E/}{}r } glob "$root/src/*.c";
my @given = sort grep { $code =~ /"$_"/ } @reasons;
my @told = sort(section('Reasons') =~ /^\| `(\w+)` \|/mg);
is_deeply(\@told, \@given, 'the reference has exactly the reasons that there are');
is_deeply(not_in(slurp('doc/troubleshooting.md'), grep { !/^(bad_message|error_ratio|dead_letters_full|offset_lost|topic_recreated|corrupt)$/ } @given),
	[], 'troubleshooting has them, too');

# ---- what is refused --------------------------------------------------------

my @refused = section('Refused in this version') =~ /`(\w+ => [^`]+)`/g;
cmp_ok(scalar @refused, '>=', 9, 'there are options that are refused');
foreach my $option (@refused)
{
	my $topic = $option =~ /^topic/ ? '' : "topic => 'demo_topic_1', ";
	my (undef, undef, $err) = run_sql($database,
		"SELECT kafka_ingest.create_pipeline('refused', $topic target => 'demo', $option);");
	like($err, qr/ERROR:  0A000:/, "create_pipeline($option) is refused");
	next if $option =~ /^topic/;
	(undef, undef, $err) = run_sql($database,
		"SELECT kafka_ingest.alter_pipeline('demo', $option);");
	like($err, qr/ERROR:  0A000:/, "alter_pipeline($option) is refused");
}
foreach my $call (
	q{create_connection('f', brokers => 'localhost:1', secrets => '{"sasl.password": "file:/tmp/p"}')})
{
	my (undef, undef, $err) = run_sql($database, "SELECT kafka_ingest.$call;");
	like($err, qr/ERROR:  0A000:/, "$call is refused");
}

# ---- links ------------------------------------------------------------------

# As the well-known sites make anchors of headings.
sub anchors_of
{
	my ($document) = @_;
	my @anchors;
	foreach my $heading (slurp($document) =~ /^#+ (.*)$/mg)
	{
		my $anchor = lc $heading;
		$anchor =~ s/[^\w\- ]//g;
		push @anchors, $anchor =~ s/ /-/gr;
	}
	return @anchors;
}

my @broken;
foreach my $document (@documents)
{
	foreach my $link (slurp($document) =~ /\]\(([^)]+)\)/g)
	{
		next if $link =~ m{^https?://};
		my ($file, $anchor) = split /#/, $link;
		my $target = $file eq '' ? $document : $document =~ m{^doc/} ? "doc/$file" : $file;
		push @broken, "$document: $link"
		  if !-f "$root/$target"
		  || defined $anchor && !grep { $_ eq $anchor } anchors_of($target);
	}
}
is_deeply(\@broken, [], 'no link is broken');

$node->stop;
done_testing();
