/*
 * text.c
 *	  Bytes that claim to be UTF-8, and the server's encoding.
 *
 * Owns one process-wide conversion function, in TopMemoryContext: a process
 * serves one database, whose encoding never changes.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "mb/pg_wchar.h"
#include "utils/memutils.h"

#include "hex.h"
#include "stage.h"
#include "text.h"

#define FRAMING_BYTES 5

/* From UTF-8 to the server's encoding; NULL: nothing to convert. */
static FmgrInfo *to_server = NULL;

/*
 * Does text of messages have to be converted in this database?  SQL_ASCII has
 * no conversions; it stores the UTF-8 as it is.
 */
static bool
needs_conversion(void)
{
	int			encoding = GetDatabaseEncoding();

	return encoding != PG_UTF8 && encoding != PG_SQL_ASCII;
}

bool
ki_text_server_is_utf8(void)
{
	return GetDatabaseEncoding() == PG_UTF8;
}

void
ki_text_prepare(void)
{
	FmgrInfo   *conversion;
	Oid			proc;

	if (to_server != NULL || !needs_conversion())
		return;

	proc = FindDefaultConversionProc(PG_UTF8, GetDatabaseEncoding());
	if (!OidIsValid(proc))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("there is no conversion from UTF8 to the database encoding \"%s\"",
						GetDatabaseEncodingName()),
				 errdetail("Messages are UTF-8 and must be converted for this database."),
				 errhint("Create a default conversion with CREATE DEFAULT CONVERSION, or use a UTF8 database.")));

	conversion = MemoryContextAlloc(TopMemoryContext, sizeof(FmgrInfo));
	fmgr_info_cxt(proc, conversion, TopMemoryContext);
	to_server = conversion;
}

bool
ki_text_is_utf8(const char *bytes, size_t len)
{
	return len <= MaxAllocSize &&
		pg_verify_mbstr(PG_UTF8, bytes, (int) len, true);
}

bool
ki_text_from_utf8(const char **string, int *len)
{
	char	   *converted;
	Size		size;
	int			done;

	if (!needs_conversion() || *len == 0)
		return true;
	Assert(to_server != NULL);

	size = (Size) *len * MAX_CONVERSION_GROWTH + 1;
	converted = MemoryContextAllocHuge(CurrentMemoryContext, size);
	done = DatumGetInt32(FunctionCall6(to_server,
									   Int32GetDatum(PG_UTF8),
									   Int32GetDatum(GetDatabaseEncoding()),
									   CStringGetDatum(*string),
									   CStringGetDatum(converted),
									   Int32GetDatum(*len),
									   BoolGetDatum(true)));
	if (done < *len)
	{
		pfree(converted);
		return false;
	}
	*len = strlen(converted);
	*string = repalloc_huge(converted, *len + 1);
	return true;
}

bool
ki_text_read(const char *bytes, size_t len, const char **string, int *string_len,
			 KiFault *fault)
{
	if (!ki_text_is_utf8(bytes, len))
		return ki_fault_set(fault, ERRCODE_CHARACTER_NOT_IN_REPERTOIRE,
							KI_STAGE_MAP, "the bytes are not valid UTF-8");
	*string = bytes;
	*string_len = (int) len;
	if (!ki_text_from_utf8(string, string_len))
		return ki_fault_set(fault, ERRCODE_UNTRANSLATABLE_CHARACTER,
							KI_STAGE_MAP,
							"a character has no equivalent in the database encoding");
	return true;
}

const char *
ki_text_to_utf8(const char *string)
{
	if (!needs_conversion())
		return string;
	return pg_server_to_any(string, strlen(string), PG_UTF8);
}

/*
 * The code unit of a \uXXXX escape at this place; -1 when there is none.
 */
static int
read_escape(const char *at, const char *end)
{
	if (end - at < 6 || at[0] != '\\' || at[1] != 'u')
		return -1;
	return ki_hex_unit(at + 2);
}

/*
 * Read the character an escape (or a pair of them) stands for, and how many
 * bytes of the document it takes; 0 when it is to stay as it is.
 */
static pg_wchar
read_escaped_character(const char *at, const char *end, int *taken)
{
	int			unit = read_escape(at, end);

	*taken = 6;
	if (unit < 0x80)
		return 0;
	if (unit >= 0xD800 && unit <= 0xDFFF)
	{
		int			low = read_escape(at + 6, end);

		if (unit >= 0xDC00 || low < 0xDC00 || low > 0xDFFF)
			return 0;
		*taken = 12;
		return surrogate_pair_to_codepoint(unit, low);
	}
	return unit;
}

char *
ki_text_expand_escapes(const char *json, int *len)
{
	const char *end = json + *len;
	char	   *expanded;
	char	   *to;

	if (memchr(json, '\\', *len) == NULL)
		return NULL;

	/* A character is never longer than its escape. */
	expanded = to = MemoryContextAllocHuge(CurrentMemoryContext, (Size) *len + 1);
	while (json < end)
	{
		pg_wchar	character;
		int			taken;

		if (*json != '\\' || end - json < 2)
		{
			*to++ = *json++;
			continue;
		}
		character = read_escaped_character(json, end, &taken);
		if (character == 0)
		{
			/* The escaped byte goes along: it may be a backslash. */
			*to++ = *json++;
			*to++ = *json++;
			continue;
		}
		unicode_to_utf8(character, (unsigned char *) to);
		to += pg_utf_mblen((unsigned char *) to);
		json += taken;
	}
	*to = '\0';
	*len = to - expanded;
	return expanded;
}

size_t
ki_text_framing_len(const char *bytes, size_t len)
{
	return len >= FRAMING_BYTES && bytes[0] == '\0' ? FRAMING_BYTES : 0;
}
