/*
 * property.c
 *	  The allow-list of client properties: what may be set, where, by whom,
 *	  and to which values (floor 1).
 *
 * The names and their verdicts stand in property_table.c; here they are applied.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "property.h"
#include "property_table.h"
#include "utils/builtins.h"

#define SECRET_FILE_PREFIX "file:"

/* Lengths in bytes.  A PEM is a chain of certificates at most. */
#define TEXT_MAX 1024
#define PEM_MAX (64 * 1024)
#define SHOWN_MAX 64

/* What the user gave, cut to what an error can hold. */
static char *
shown(const char *given)
{
	int			len = strlen(given);

	if (len <= SHOWN_MAX)
		return pstrdup(given);
	return psprintf("%s...",
					pnstrdup(given, pg_mbcliplen(given, len, SHOWN_MAX)));
}

static void
raise_unknown(const char *name)
{
	char	   *names = ki_property_nearest(name);

	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("unrecognized Kafka property \"%s\"", shown(name)),
			 names ? errhint("Perhaps you meant %s.", names) :
			 errhint("Properties are those of librdkafka consumers, by their exact, lower-case names."),
			 errhidestmt(true)));
}

static void
raise_alias(const KiPropertyRule *rule)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("property \"%s\" is not accepted, as it is another name of \"%s\"",
					rule->name, rule->text),
			 errhint("Use \"%s\".", rule->text),
			 errhidestmt(rule->is_secret)));
}

/* A legal property at a place where it does not belong? */
static void
check_place(const KiPropertyRule *rule, KiPropertyPlace place)
{
	if (rule->verdict == VERDICT_SECRET && place != KI_PLACE_MAPPING)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("secret \"%s\" must be given in a user mapping",
						rule->name),
				 errdetail("Options of a server and of a pipeline can be read by others."),
				 errhint("Use CREATE USER MAPPING, or the argument secrets of create_connection()."),
				 errhidestmt(true)));
	if (rule->verdict != VERDICT_SECRET && place == KI_PLACE_MAPPING)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("property \"%s\" is no secret and cannot be given in a user mapping",
						rule->name),
				 errhint("Give it as an option of the server, or in the argument properties of create_connection()."),
				 errhidestmt(true)));
	if (place == KI_PLACE_PIPELINE && !rule->per_pipeline)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("property \"%s\" belongs to the connection and cannot be set for a pipeline",
						rule->name),
				 errhint("Set it with alter_connection(), or use another connection.")));
}

static const KiPropertyRule *
check_name(const char *name, KiPropertyPlace place)
{
	const KiPropertyRule *rule = ki_property_find(name);

	if (rule == NULL)
	{
		raise_unknown(name);
		return NULL;			/* not reached */
	}
	switch (rule->verdict)
	{
		case VERDICT_ALIAS:
			raise_alias(rule);
			break;
		case VERDICT_FIXED:
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("property \"%s\" is set by kafka_ingest and cannot be changed",
							name),
					 errdetail("%s", rule->text),
					 strcmp(name, "group.id") == 0 ?
					 errhint("Use the argument group_id.") : 0));
			break;
		case VERDICT_REFUSED:
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("property \"%s\" is not allowed", name),
					 errdetail("%s", rule->text)));
			break;
		case VERDICT_ARGUMENT:
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("\"%s\" is not a property", name),
					 errhint("It is an option of the server, and an argument of create_connection().")));
			break;
		case VERDICT_OPEN:
		case VERDICT_SUPERUSER:
		case VERDICT_SECRET:
			check_place(rule, place);
			break;
	}
	return rule;
}

static void
raise_value(const KiPropertyRule *rule, const char *value, const char *expected)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 rule->is_secret || rule->kind == VALUE_URL ?
			 errmsg("invalid value for property \"%s\"", rule->name) :
			 errmsg("invalid value for property \"%s\": \"%s\"",
					rule->name, shown(value)),
			 errdetail("%s", expected),
			 errhidestmt(rule->is_secret)));
}

static void
raise_superuser(const KiPropertyRule *rule, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied to set property \"%s\"", rule->name),
			 errdetail("%s", detail),
			 errhidestmt(rule->is_secret)));
}

/*
 * Plain decimal only: the library would read "010" as octal, and something
 * else than what was checked here.
 */
static void
check_integer(const KiPropertyRule *rule, const char *value)
{
	int			number = 0;
	size_t		len = strlen(value);
	bool		ok;

	ok = len > 0 && len <= 10 && strspn(value, "0123456789") == len &&
		(value[0] != '0' || len == 1);
	for (const char *c = value; ok && *c; c++)
	{
		int64		next = (int64) number * 10 + (*c - '0');

		ok = next <= rule->high;
		number = ok ? (int) next : 0;
	}
	if (!ok || number < rule->low)
		raise_value(rule, value,
					psprintf("It must be a whole number from %d to %d.",
							 rule->low, rule->high));
}

static void
check_word(const KiPropertyRule *rule, const char *value, bool superuser)
{
	bool		exact = (rule->kind == VALUE_EXACT);
	char	   *words = pstrdup(rule->text);
	char	   *rest;
	StringInfoData legal;

	initStringInfo(&legal);
	for (char *word = strtok_r(words, ",", &rest); word != NULL;
		 word = strtok_r(NULL, ",", &rest))
	{
		bool		restricted = (*word == '!');

		if (restricted)
			word++;
		if (exact ? strcmp(word, value) == 0 : pg_strcasecmp(word, value) == 0)
		{
			if (restricted && !superuser)
				raise_superuser(rule,
								psprintf("Only superusers may set it to %s.",
										 word));
			return;
		}
		appendStringInfo(&legal, "%s%s", legal.len ? ", " : "", word);
	}
	raise_value(rule, value, psprintf("It must be one of %s.", legal.data));
}

static bool
has_control_character(const char *value, const char *allowed)
{
	for (const char *c = value; *c; c++)
	{
		unsigned char byte = (unsigned char) *c;

		if ((byte < 0x20 || byte == 0x7f) && strchr(allowed, byte) == NULL)
			return true;
	}
	return false;
}

static void
check_text(const KiPropertyRule *rule, const char *value)
{
	bool		is_long = (rule->kind == VALUE_PEM ||
						   rule->verdict == VERDICT_SECRET);
	size_t		longest = is_long ? PEM_MAX : TEXT_MAX;

	if (rule->kind == VALUE_ASCII)
		longest = rule->high;
	if (*value == '\0' || strlen(value) > longest)
		raise_value(rule, value,
					psprintf("It must have 1 to %zu bytes.", longest));

	if (rule->kind == VALUE_PEM &&
		(strstr(value, "-----BEGIN ") == NULL ||
		 has_control_character(value, "\r\n\t")))
		raise_value(rule, value,
					"It must be PEM text, beginning with -----BEGIN.");
	if ((rule->kind == VALUE_TEXT || rule->kind == VALUE_ASCII) &&
		has_control_character(value, ""))
		raise_value(rule, value, "It must not hold control characters.");
	for (const char *c = value; rule->kind == VALUE_ASCII && *c; c++)
	{
		if (IS_HIGHBIT_SET(*c))
			raise_value(rule, value, "It must be printable ASCII.");
	}
	if (rule->kind == VALUE_KERBEROS &&
		strspn(value, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
			   "0123456789@._/-") != strlen(value))
		raise_value(rule, value,
					"It may only hold letters, digits and @ . _ / -.");
}

static void
check_value(const KiPropertyRule *rule, const char *value, bool superuser)
{
	if (rule->verdict == VERDICT_SECRET &&
		strncmp(value, SECRET_FILE_PREFIX, strlen(SECRET_FILE_PREFIX)) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("secret \"%s\" cannot be read from a file yet",
						rule->name),
				 errhint("Give the secret itself."),
				 errhidestmt(true)));

	switch (rule->kind)
	{
		case VALUE_INTEGER:
			check_integer(rule, value);
			break;
		case VALUE_WORD:
		case VALUE_EXACT:
			check_word(rule, value, superuser);
			break;
		case VALUE_URL:
			check_text(rule, value);
			ki_property_check_url(rule->name, value, true);
			break;
		case VALUE_ANY:
		case VALUE_TEXT:
		case VALUE_ASCII:
		case VALUE_KERBEROS:
		case VALUE_PEM:
			check_text(rule, value);
			break;
	}

	/* The library can put one property's value into another's. */
	if (!superuser && strstr(value, "%{") != NULL)
		raise_superuser(rule, "Only superusers may use %{ in a value.");
}

bool
ki_property_is_secret(const char *name)
{
	const KiPropertyRule *rule = ki_property_find(name);

	return rule == NULL || rule->is_secret;
}

bool
ki_property_is_ours(const char *name)
{
	return strcmp(name, "brokers") == 0 ||
		strncmp(name, "schema_registry_", strlen("schema_registry_")) == 0;
}

void
ki_property_check_name(const char *name, KiPropertyPlace place)
{
	(void) check_name(name, place);
}

void
ki_property_check_as(const char *name, const char *value,
					 KiPropertyPlace place, bool superuser)
{
	const KiPropertyRule *rule = check_name(name, place);

	if (rule->verdict == VERDICT_SUPERUSER && !superuser)
		raise_superuser(rule, "Only superusers may set it.");
	check_value(rule, value, superuser);
}

void
ki_property_check(const char *name, const char *value, KiPropertyPlace place)
{
	ki_property_check_as(name, value, place, superuser());
}

/* Is this host, host:port or [IPv6]:port? */
static bool
is_address(const char *given, size_t len)
{
	char	   *address = pnstrdup(given, len);
	char	   *port;

	if (*address == '[')
	{
		size_t		inside = strspn(address + 1, "0123456789abcdefABCDEF:.");

		if (inside < 2 || address[inside + 1] != ']')
			return false;
		port = address + inside + 2;
	}
	else
	{
		size_t		host = strspn(address, "0123456789-._"
								  "abcdefghijklmnopqrstuvwxyz"
								  "ABCDEFGHIJKLMNOPQRSTUVWXYZ");

		if (host == 0 || host > 255)
			return false;
		port = address + host;
	}
	if (*port == '\0')
		return true;
	if (*port++ != ':')
		return false;
	return strlen(port) >= 1 && strlen(port) <= 5 && port[0] != '0' &&
		strspn(port, "0123456789") == strlen(port) && atoi(port) <= 65535;
}

void
ki_property_check_brokers(const char *value)
{
	const char *start = value;

	if (strlen(value) > PEM_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("brokers is too long"),
				 errdetail("It may have up to %d bytes.", PEM_MAX)));
	for (;;)
	{
		size_t		len;
		size_t		all;

		start += strspn(start, " ");
		all = len = strcspn(start, ",");
		while (len > 0 && start[len - 1] == ' ')
			len--;
		if (!is_address(start, len))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 memchr(start, '@', len) ?
					 errmsg("invalid address in brokers") :
					 errmsg("invalid address in brokers: \"%s\"",
							shown(pnstrdup(start, len))),
					 errhint("Give host, host:port or [IPv6 address]:port, separated by commas; the protocol is the property security.protocol.")));
		if (start[all] == '\0')
			break;
		start += all + 1;
	}
}

void
ki_property_check_url(const char *name, const char *value, bool https_only)
{
	const char *host = NULL;

	if (strncmp(value, "https://", 8) == 0)
		host = value + 8;
	else if (strncmp(value, "http://", 7) == 0 && !https_only)
		host = value + 7;

	/* No user@ either: everybody can read the options of a server. */
	if (host == NULL || strlen(value) > TEXT_MAX ||
		!is_address(host, strcspn(host, "/?#")) ||
		strpbrk(value, " \"<>\\") != NULL || has_control_character(value, ""))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid URL for \"%s\"", name),
				 errdetail("It must be %s://host[:port][/path], without user and password.",
						   https_only ? "https" : "http or https"),
				 errhidestmt(true)));
}

static void
raise_json(const char *argument, const char *problem)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid %s: %s", argument, problem),
			 errhint("Give a JSON object of names and values: {\"name\": \"value\", ...}."),
			 errhidestmt(true)));
}

/* The value of one key; NULL for JSON null. */
static Node *
json_text(const JsonbValue *value, const char *argument, const char *key)
{
	switch (value->type)
	{
		case jbvNull:
			return NULL;
		case jbvString:
			return (Node *) makeString(pnstrdup(value->val.string.val,
												value->val.string.len));
		case jbvNumeric:
			return (Node *) makeString(DatumGetCString(DirectFunctionCall1(numeric_out,
																		   NumericGetDatum(value->val.numeric))));
		case jbvBool:
			return (Node *) makeString(value->val.boolean ? "true" : "false");
		default:
			raise_json(argument,
					   psprintf("\"%s\" is neither text, number nor boolean",
								shown(key)));
			return NULL;		/* not reached */
	}
}

List *
ki_property_list(Jsonb *object, const char *argument, bool null_removes)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	value;
	List	   *list = NIL;
	char	   *key = NULL;

	if (object == NULL)
		return NIL;
	if (!JB_ROOT_IS_OBJECT(object))
		raise_json(argument, "not a JSON object");

	it = JsonbIteratorInit(&object->root);
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		Node	   *arg;

		if (token == WJB_KEY)
			key = pnstrdup(value.val.string.val, value.val.string.len);
		if (token != WJB_VALUE)
			continue;
		arg = json_text(&value, argument, key);
		if (arg == NULL && !null_removes)
			raise_json(argument, psprintf("\"%s\" is null", shown(key)));
		list = lappend(list, makeDefElem(key, arg, -1));
	}
	return list;
}
