/*
 * enum_label.h
 *	  From the text of a label to the value of an enum, without enum_in, which
 *	  raises before PostgreSQL 16 (floor 1).
 */
#ifndef KI_ENUM_LABEL_H
#define KI_ENUM_LABEL_H

#include "convert.h"

/*
 * As a converter of this enum type would: refused is what has no label there.
 * One that was added by a transaction which may be still open is for enum_in
 * to decide.  Needs a transaction.
 */
extern KiConvertResult ki_enum_label_convert(Oid type, const char *string,
											 int len, Datum *value,
											 int *sqlerrcode);

#endif							/* KI_ENUM_LABEL_H */
