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
#include "utils/catcache.h"
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

/*
 * Find a label among all of its type, which are in the order of an index over
 * (type, label).  Asking the cache for one that is not there would leave an
 * entry for it, for each other one that comes.
 */
static HeapTuple
find_label(const CatCList *labels, const char *label)
{
	int			low = 0;
	int			high = labels->n_members;

	while (low < high)
	{
		int			middle = (low + high) / 2;
		HeapTuple	tuple = &labels->members[middle]->tuple;
		int			order = strcmp(label, NameStr(((Form_pg_enum) GETSTRUCT(tuple))->enumlabel));

		if (order == 0)
			return tuple;
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return NULL;
}

KiConvertResult
ki_enum_label_convert(Oid type, const char *string, int len, Datum *value,
					  int *sqlerrcode)
{
	char		label[NAMEDATALEN];
	KiConvertResult result = KI_CONVERT_UNSURE;
	CatCList   *labels;
	HeapTuple	tuple;

	if (len >= NAMEDATALEN)
	{
		*sqlerrcode = ERRCODE_INVALID_TEXT_REPRESENTATION;
		return KI_CONVERT_REFUSED;
	}
	memcpy(label, string, len);
	label[len] = '\0';
	labels = SearchSysCacheList1(ENUMTYPOIDNAME, ObjectIdGetDatum(type));
	tuple = labels->ordered ? find_label(labels, label) : NULL;
	if (tuple && is_committed(tuple))
	{
		*value = ObjectIdGetDatum(((Form_pg_enum) GETSTRUCT(tuple))->oid);
		result = KI_CONVERT_TAKEN;
	}
	else if (!tuple && labels->ordered)
	{
		*sqlerrcode = ERRCODE_INVALID_TEXT_REPRESENTATION;
		result = KI_CONVERT_REFUSED;
	}
	ReleaseCatCacheList(labels);
	return result;
}
