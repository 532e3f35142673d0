# Ways to a broker that bring other libraries in: TLS, client certificates, SASL,
# compression. Messages come through each, and each says what is wrong; with the
# private copy of librdkafka, whose memory is its own, and with the shared library.

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my @codecs = qw(none gzip snappy lz4 zstd);
my $per_codec = 100;
my $dir = PostgreSQL::Test::Utils::tempdir;

# ---- certificates ----------------------------------------------------------------------

sub openssl
{
	my (@arguments) = @_;
	my ($output, $error) = ('', '');
	IPC::Run::run([ 'openssl', @arguments ], '<', \undef, '>', \$output, '2>', \$error)
	  or die "openssl @arguments: $error";
	return;
}

sub make_authority
{
	my ($name) = @_;
	openssl('req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', "/CN=$name",
		'-keyout', "$dir/$name.key", '-out', "$dir/$name.pem");
	return;
}

# A key, encrypted if there is a password, and its certificate by an authority.
sub make_certificate
{
	my ($name, $authority, $password) = @_;
	append_to_file("$dir/san", 'subjectAltName=IP:127.0.0.1') if !-e "$dir/san";
	openssl('req', '-newkey', 'rsa:2048', '-subj', "/CN=$name",
		'-keyout', "$dir/$name.key", '-out', "$dir/$name.csr",
		defined $password ? ('-passout', "pass:$password") : '-nodes');
	openssl('x509', '-req', '-in', "$dir/$name.csr", '-days', '2', '-extfile', "$dir/san",
		'-CA', "$dir/$authority.pem", '-CAkey', "$dir/$authority.key",
		'-CAcreateserial', '-out', "$dir/$name.pem");
	return;
}

make_authority($_) foreach qw(authority stranger);
make_certificate('broker', 'authority');
make_certificate('client', 'authority', 'key password');
append_to_file("$dir/keystore.pem", slurp_file("$dir/broker.key") . slurp_file("$dir/broker.pem"));

# ---- a broker with a listener of each kind ----------------------------------------------

my %port = map { $_ => PostgreSQL::Test::Cluster::get_free_port() } qw(SASL_SSL SSL SASL_PLAINTEXT);
my $listeners = join ',', map { "$_://127.0.0.1:$port{$_}" } sort keys %port;
my $plain = 'org.apache.kafka.common.security.plain.PlainLoginModule required user_alice="secret word";';
my $kafka = KafkaBroker->new(
	"listeners+=$listeners",
	"advertised.listeners+=$listeners",
	'listener.security.protocol.map+=' . join(',', map { "$_:$_" } sort keys %port),
	'ssl.keystore.type=PEM',
	"ssl.keystore.location=$dir/keystore.pem",
	'ssl.truststore.type=PEM',
	"ssl.truststore.location=$dir/authority.pem",
	'listener.name.ssl.ssl.client.auth=required',
	'listener.name.sasl_ssl.sasl.enabled.mechanisms=PLAIN',
	'listener.name.sasl_plaintext.sasl.enabled.mechanisms=PLAIN,OAUTHBEARER',
	"listener.name.sasl_ssl.plain.sasl.jaas.config=$plain",
	"listener.name.sasl_plaintext.plain.sasl.jaas.config=$plain",
	'listener.name.sasl_plaintext.oauthbearer.sasl.jaas.config='
	  . 'org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;');
my $topic = $kafka->create_topic('secured');
foreach my $i (0 .. $#codecs)
{
	$kafka->produce($topic, count => $per_codec, from => $i * $per_codec, codec => $codecs[$i]);
}

# ---- ways in, and ways that lead nowhere ------------------------------------------------

my %pem = map { $_ => slurp_file("$dir/$_") } qw(authority.pem stranger.pem client.pem client.key);
my %alice = ('sasl.username' => 'alice', 'sasl.password' => 'secret word');
my %certificate = (
	'ssl.certificate.pem' => $pem{'client.pem'},
	'ssl.key.pem'         => $pem{'client.key'},
	'ssl.key.password'    => 'key password');
my %sasl_ssl = (
	'security.protocol' => 'sasl_ssl',
	'sasl.mechanisms'   => 'PLAIN',
	'ssl.ca.pem'        => $pem{'authority.pem'});
my %ssl = ('security.protocol' => 'ssl', 'ssl.ca.pem' => $pem{'authority.pem'});
my %sasl_plaintext = ('security.protocol' => 'sasl_plaintext', 'sasl.mechanisms' => 'PLAIN');

# name: listener, properties, secrets
my %ways = (
	password_over_tls => [ 'SASL_SSL',       {%sasl_ssl},       {%alice} ],
	certificate       => [ 'SSL',            {%ssl},            {%certificate} ],
	password          => [ 'SASL_PLAINTEXT', {%sasl_plaintext}, {%alice} ],
	token             => [
		'SASL_PLAINTEXT',
		{
			'security.protocol'                   => 'sasl_plaintext',
			'sasl.mechanisms'                     => 'OAUTHBEARER',
			'enable.sasl.oauthbearer.unsecure.jwt' => 'true'
		},
		{ 'sasl.oauthbearer.config' => 'principal=alice' } ]);

# name: reason, text of the detail, and the same
my %failures = (
	wrong_password => [
		'authentication_failed', qr/Invalid username or password/,
		'SASL_PLAINTEXT', {%sasl_plaintext}, { %alice, 'sasl.password' => 'guess' } ],
	wrong_password_over_tls => [
		'authentication_failed', qr/Invalid username or password/,
		'SASL_SSL', {%sasl_ssl}, { %alice, 'sasl.password' => 'guess' } ],
	wrong_authority => [
		'tls_failed', qr/certificate/,
		'SASL_SSL', { %sasl_ssl, 'ssl.ca.pem' => $pem{'stranger.pem'} }, {%alice} ],
	no_certificate => [ 'tls_failed', qr/certificate/, 'SSL', {%ssl}, {} ]);

sub json
{
	my ($hash) = @_;
	my $list = join ', ', map { (my $v = $hash->{$_}) =~ s/\n/\\n/g; qq("$_": "$v") } sort keys %$hash;
	return "{$list}";
}

sub create
{
	my ($node, $name, $listener, $properties, $secrets) = @_;
	my $secrets_argument = %$secrets ? ", secrets => '" . json($secrets) . "'" : '';
	$node->safe_psql('postgres',
		"SELECT kafka_ingest.create_connection('$name', brokers => '127.0.0.1:$port{$listener}',
			properties => '" . json($properties) . "'$secrets_argument);
		CREATE TABLE $name (id bigint, _partition int, _offset bigint);
		SELECT kafka_ingest.create_pipeline('$name', topic => '$topic', connection => '$name', target => '$name')");
	return;
}

# ---- both kinds of librdkafka -----------------------------------------------------------

foreach my $kind (qw(private shared))
{
	my $node = IngestCluster->new($kind, shared => $kind eq 'shared');
	my $count = @codecs * $per_codec;

	like($node->safe_psql('postgres', 'SELECT features FROM kafka_ingest.version()'),
		qr/\blibrdkafka=$kind\b/, "$kind: version() says what it is");
	create($node, $_, @{ $ways{$_} }) foreach sort keys %ways;
	create($node, $_, @{ $failures{$_} }[ 2 .. 4 ]) foreach sort keys %failures;

	foreach my $name (sort keys %ways)
	{
		$node->wait_for_position_sum($name, $count);
		$node->ledger_check($name, $topic, { 0 => $count }, name => "$kind: all messages by $name");
	}
	foreach my $name (sort keys %failures)
	{
		my ($reason, $detail) = @{ $failures{$name} };
		$node->wait_for_state($name, "reconnecting/$reason");
		like($node->safe_psql('postgres', "SELECT detail FROM kafka_ingest.status WHERE pipeline = '$name'"),
			$detail, "$kind: $name is $reason, in the library's words");
	}

	my $maps = slurp_file('/proc/' . $node->worker_pid('certificate') . '/maps');
	is($maps =~ /librdkafka\.so/ ? 'shared' : 'private', $kind, "$kind: and what a worker has loaded");

	# everything that was allocated is freed again
	$node->safe_psql('postgres', "SELECT kafka_ingest.drop_pipeline('$_')") foreach sort(keys %ways, keys %failures);
	$node->poll_until(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'kafka_ingest worker'}, '0');
	is( $node->safe_psql('postgres', q{SELECT count(*) FROM kafka_ingest.check_connection('password_over_tls')}),
		1, "$kind: and in a session");
	$node->stop;
	unlike(slurp_file($node->logfile), qr/terminated by signal|PANIC/, "$kind: no process died");
}

done_testing();
