/*
 * fault.c
 *	  Whose fault an error is.
 *
 * The one place that sorts SQLSTATEs.  An error raised while messages are
 * worked on does not show its text, since PostgreSQL's and users' texts quote
 * values ("invalid input syntax for type integer: …").
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/elog.h"

#include "fault.h"

#define CLASS(code) ERRCODE_TO_CATEGORY(code)

static bool
is_message_class(int category)
{
	return category == MAKE_SQLSTATE('2', '1', '0', '0', '0') ||
		category == MAKE_SQLSTATE('2', '2', '0', '0', '0') ||
		category == MAKE_SQLSTATE('2', '3', '0', '0', '0') ||
		category == MAKE_SQLSTATE('3', '8', '0', '0', '0') ||
		category == MAKE_SQLSTATE('3', '9', '0', '0', '0') ||
		category == MAKE_SQLSTATE('4', '4', '0', '0', '0') ||
		category == MAKE_SQLSTATE('5', '4', '0', '0', '0') ||
		category == MAKE_SQLSTATE('P', '0', '0', '0', '0');
}

static bool
is_passing_class(int category)
{
	return category == MAKE_SQLSTATE('0', '8', '0', '0', '0') ||
		category == MAKE_SQLSTATE('4', '0', '0', '0', '0') ||
		category == MAKE_SQLSTATE('5', '3', '0', '0', '0') ||
		category == MAKE_SQLSTATE('5', '7', '0', '0', '0') ||
		category == MAKE_SQLSTATE('5', '8', '0', '0', '0');
}

KiErrorClass
ki_error_class(int sqlerrcode)
{
	int			category = CLASS(sqlerrcode);

	if (sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE ||
		sqlerrcode == ERRCODE_READ_ONLY_SQL_TRANSACTION ||
		is_passing_class(category))
		return KI_ERROR_PASSING;
	return is_message_class(category) ? KI_ERROR_MESSAGE : KI_ERROR_SUSPECT;
}

static const char *
target_reason(int sqlerrcode)
{
	switch (sqlerrcode)
	{
		case ERRCODE_UNDEFINED_TABLE:
			return "target_missing";
		case ERRCODE_INSUFFICIENT_PRIVILEGE:
			return "permission_denied";
		default:
			return "target_changed";
	}
}

const char *
ki_error_reason(int sqlerrcode, bool is_target)
{
	if (sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE)
		return "lock_timeout";
	if (sqlerrcode == ERRCODE_READ_ONLY_SQL_TRANSACTION)
		return "read_only";
	if (sqlerrcode == ERRCODE_DISK_FULL)
		return "out_of_space";
	if (CLASS(sqlerrcode) == MAKE_SQLSTATE('4', '0', '0', '0', '0'))
		return "conflict";
	if (is_target && ki_error_class(sqlerrcode) != KI_ERROR_PASSING)
		return target_reason(sqlerrcode);
	if (sqlerrcode == ERRCODE_INSUFFICIENT_PRIVILEGE)
		return "permission_denied";
	return "database_error";
}

/* Names of the conditions that messages cause most; others by their class. */
static const struct
{
	int			code;
	const char *name;
}			conditions[] =

{
	{ERRCODE_NOT_NULL_VIOLATION, "not-null constraint violated"},
	{ERRCODE_FOREIGN_KEY_VIOLATION, "foreign key violated"},
	{ERRCODE_UNIQUE_VIOLATION, "unique constraint violated"},
	{ERRCODE_CHECK_VIOLATION, "check constraint violated"},
	{ERRCODE_EXCLUSION_VIOLATION, "exclusion constraint violated"},
	{ERRCODE_INVALID_TEXT_REPRESENTATION, "invalid input for the column's type"},
	{ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE, "number out of range"},
	{ERRCODE_STRING_DATA_RIGHT_TRUNCATION, "value too long for the column's type"},
	{ERRCODE_INVALID_DATETIME_FORMAT, "invalid date or time"},
	{ERRCODE_DATETIME_VALUE_OUT_OF_RANGE, "date or time out of range"},
	{ERRCODE_CHARACTER_NOT_IN_REPERTOIRE, "invalid characters"},
	{ERRCODE_UNTRANSLATABLE_CHARACTER, "characters the database encoding does not have"},
	{ERRCODE_STATEMENT_TOO_COMPLEX, "nested too deeply"},
	{ERRCODE_RAISE_EXCEPTION, "raised by user code"},
	{ERRCODE_UNDEFINED_TABLE, "a relation does not exist"},
	{ERRCODE_UNDEFINED_COLUMN, "a column does not exist"},
	{ERRCODE_UNDEFINED_FUNCTION, "a function does not exist"},
	{ERRCODE_UNDEFINED_OBJECT, "an object does not exist"},
	{ERRCODE_INSUFFICIENT_PRIVILEGE, "permission denied"},
	{ERRCODE_SYNTAX_ERROR, "syntax error"},
	{ERRCODE_DATATYPE_MISMATCH, "wrong type"},
	{ERRCODE_FEATURE_NOT_SUPPORTED, "feature not supported"},
	{ERRCODE_INTERNAL_ERROR, "internal error"},
	{ERRCODE_T_R_SERIALIZATION_FAILURE, "serialization failure"},
	{ERRCODE_T_R_DEADLOCK_DETECTED, "deadlock detected"},
	{ERRCODE_LOCK_NOT_AVAILABLE, "a lock was not available in time"},
	{ERRCODE_QUERY_CANCELED, "canceled"},
	{ERRCODE_DISK_FULL, "disk full"},
	{ERRCODE_OUT_OF_MEMORY, "out of memory"},
	{ERRCODE_READ_ONLY_SQL_TRANSACTION, "the transaction is read-only"},
	{MAKE_SQLSTATE('2', '1', '0', '0', '0'), "cardinality violation"},
	{MAKE_SQLSTATE('2', '2', '0', '0', '0'), "data exception"},
	{MAKE_SQLSTATE('2', '3', '0', '0', '0'), "integrity constraint violated"},
	{MAKE_SQLSTATE('3', '8', '0', '0', '0'), "external routine failed"},
	{MAKE_SQLSTATE('3', '9', '0', '0', '0'), "external routine failed"},
	{MAKE_SQLSTATE('4', '4', '0', '0', '0'), "check option of a view violated"},
	{MAKE_SQLSTATE('5', '4', '0', '0', '0'), "limit of the server exceeded"},
	{MAKE_SQLSTATE('P', '0', '0', '0', '0'), "raised by user code"},
};

static const char *
condition_name(int code)
{
	for (int i = 0; i < (int) lengthof(conditions); i++)
		if (conditions[i].code == code)
			return conditions[i].name;
	return NULL;
}

const char *
ki_error_condition(int sqlerrcode)
{
	const char *name = condition_name(sqlerrcode);

	if (!name)
		name = condition_name(CLASS(sqlerrcode));
	return name ? name : "error";
}

/* The PL/pgSQL function an error came from, which names no value. */
static void
append_function(StringInfo buf, const char *context)
{
	const char *line = context ? strstr(context, "PL/pgSQL function ") : NULL;

	if (line)
		appendStringInfo(buf, ", in %.*s", (int) strcspn(line, "\n"), line);
}

/* The server's own text says who canceled it; user code can raise the same. */
static bool
is_cancel_of_server(const ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_QUERY_CANCELED && error->funcname &&
		strcmp(error->funcname, "ProcessInterrupts") == 0;
}

char *
ki_error_whole(const char *message, const char *detail)
{
	return detail ? psprintf("%s\nDETAIL:  %s", message, detail) :
		pstrdup(message);
}

void
ki_error_rethrow(ErrorData *error)
{
	StringInfoData buf;

	if (is_cancel_of_server(error))
		ReThrowError(error);
	initStringInfo(&buf);
	appendStringInfoString(&buf, ki_error_condition(error->sqlerrcode));
	append_function(&buf, error->context);
	ereport(ERROR,
			(errcode(error->sqlerrcode),
			 errmsg("messages cannot be written: %s", buf.data),
			 error->column_name ? err_generic_string(PG_DIAG_COLUMN_NAME,
													 error->column_name) : 0,
			 error->constraint_name ? err_generic_string(PG_DIAG_CONSTRAINT_NAME,
														 error->constraint_name) : 0));
}

char *
ki_error_text(const ErrorData *error, bool with_detail)
{
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfo(&buf, "%s (SQLSTATE %s)", error->message,
					 unpack_sql_state(error->sqlerrcode));
	if (error->column_name)
		appendStringInfo(&buf, ", column \"%s\"", error->column_name);
	if (error->constraint_name)
		appendStringInfo(&buf, ", constraint \"%s\"", error->constraint_name);
	if (with_detail && error->detail)
		appendStringInfo(&buf, ". %s", error->detail);
	return buf.data;
}
