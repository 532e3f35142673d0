/*
 * record.h
 *	  A decoded message: one field per mapped path; plain structs of floor 0.
 */
#ifndef KI_RECORD_H
#define KI_RECORD_H

#include "postgres.h"

typedef enum KiFieldKind
{
	KI_FIELD_ABSENT = 0,
	KI_FIELD_NULL,				/* JSON null */
	KI_FIELD_STRING,
	KI_FIELD_NUMBER,			/* data is the number's source text */
	KI_FIELD_BOOL,				/* data is "true" or "false" */
	KI_FIELD_OBJECT,
	KI_FIELD_ARRAY
} KiFieldKind;

typedef struct KiField
{
	KiFieldKind kind;
	const char *data;			/* server encoding, unescaped; NOT terminated */
	int			len;			/* bytes */
	const char *json;			/* the JSON source text of the value */
	int			json_len;		/* bytes */
	const struct KiJsonToken *tokens;	/* the value as a list
										 * (json_tokens.h); NULL: it was not
										 * listed */
} KiField;

typedef struct KiRecord
{
	KiField    *fields;			/* one per path given to the decoder */
	int			nfields;
	int			npresent;		/* fields that are present, those aside whose
								 * path is the whole document */
	KiField		rest;			/* object of the untaken top-level fields, if
								 * asked for */
} KiRecord;

/*
 * Why one message could not become a row: a soft error, found without
 * raising.  Texts are allocated in the current (batch) context and never
 * contain a value of the message.
 */
typedef struct KiFault
{
	int			sqlerrcode;		/* 0: no fault */
	const char *stage;			/* "decode", "map" or "write" */
	const char *message;
	const char *column_name;	/* NULL: not known */
	const char *constraint_name;	/* NULL: none */
	bool		is_unsure;		/* no fault yet: only an input function that
								 * raised before can tell */
} KiFault;

#endif							/* KI_RECORD_H */
