/*
 * enum_label.c
 *	  Labels of enums, looked up where enum_in does, too: in the server's cache
 *	  of them, which ALTER TYPE invalidates.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "catalog/pg_enum.h"
#include "storage/procarray.h"
#include "utils/syscache.h"

#include "enum_label.h"

/* May its value be stored?  An uncommitted one's might outlive it in an index. */
static bool
is_committed(HeapTuple tuple)
{
	TransactionId xmin = HeapTupleHeaderGetXmin(tuple->t_data);

	return HeapTupleHeaderXminCommitted(tuple->t_data) ||
		(!TransactionIdIsInProgress(xmin) && TransactionIdDidCommit(xmin));
}

KiConvertResult
ki_enum_label_convert(Oid type, const char *string, int len, Datum *value,
					  int *sqlerrcode)
{
	char		label[NAMEDATALEN];
	HeapTuple	tuple = NULL;
	bool		is_safe;

	if (len < NAMEDATALEN)
	{
		memcpy(label, string, len);
		label[len] = '\0';
		tuple = SearchSysCache2(ENUMTYPOIDNAME, ObjectIdGetDatum(type),
								CStringGetDatum(label));
	}
	if (!HeapTupleIsValid(tuple))
	{
		*sqlerrcode = ERRCODE_INVALID_TEXT_REPRESENTATION;
		return KI_CONVERT_REFUSED;
	}
	is_safe = is_committed(tuple);
	*value = ObjectIdGetDatum(((Form_pg_enum) GETSTRUCT(tuple))->oid);
	ReleaseSysCache(tuple);
	return is_safe ? KI_CONVERT_TAKEN : KI_CONVERT_UNSURE;
}
