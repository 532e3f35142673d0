/*
 * map_filter.c
 *	  Conditions on a message that is being mapped.
 */
#include "postgres.h"

#include "header.h"
#include "map_filter.h"

void
ki_conditions_init(KiConditions *conditions, const KiFilter *filter,
				   KiDocument *value, KiDocument *key)
{
	conditions->items = palloc(sizeof(KiCondition) * filter->nitems);
	conditions->nitems = filter->nitems;
	for (int i = 0; i < filter->nitems; i++)
	{
		KiCondition *condition = &conditions->items[i];
		const KiOrigin *origin = filter->items[i].origin;

		condition->item = &filter->items[i];
		condition->field = -1;
		if (origin->kind == KI_ORIGIN_VALUE)
			condition->field = ki_document_add(value, origin, false);
		else if (origin->kind == KI_ORIGIN_KEY && key)
			condition->field = ki_document_add(key, origin, false);
	}
}

/*
 * A place in a document: scalars by their text, null as what is absent.
 */
static bool
field_matches(const KiCondition *condition, const KiRecord *record)
{
	const KiField *field = record ? &record->fields[condition->field] : NULL;

	if (!field || field->kind <= KI_FIELD_NULL)
		return ki_filter_has(condition->item, NULL, 0);
	if (field->kind == KI_FIELD_OBJECT || field->kind == KI_FIELD_ARRAY)
		return false;
	return ki_filter_has(condition->item, field->data, field->len);
}

static bool
number_matches(const KiCondition *condition, int64 number)
{
	char		digits[32];

	return ki_filter_has(condition->item, digits,
						 snprintf(digits, sizeof(digits), INT64_FORMAT, number));
}

static bool
header_matches(const KiCondition *condition, const KiMessage *message)
{
	const KiHeader *header = ki_header_find(message,
											condition->item->origin->header);

	return ki_filter_has_bytes(condition->item, header ? header->value : NULL,
							   header ? header->value_len : 0);
}

static bool
matches(const KiCondition *condition, const KiJudged *judged)
{
	const KiMessage *message = judged->message;
	const KiFilterItem *item = condition->item;

	switch (item->origin->kind)
	{
		case KI_ORIGIN_VALUE:
			return judged->value == NULL ||
				field_matches(condition, judged->value);
		case KI_ORIGIN_KEY:
			return condition->field >= 0 ?
				field_matches(condition, judged->key) :
				ki_filter_has_bytes(item, message->key, message->key_len);
		case KI_ORIGIN_RAW:
			return ki_filter_has_bytes(item, message->value,
									   message->value_len);
		case KI_ORIGIN_HEADER:
			return header_matches(condition, message);
		case KI_ORIGIN_TOPIC:
			return ki_filter_has(item, message->topic, strlen(message->topic));
		case KI_ORIGIN_PARTITION:
			return number_matches(condition, message->partition);
		case KI_ORIGIN_OFFSET:
			return number_matches(condition, message->offset);
		default:
			break;				/* refused when it was parsed */
	}
	Assert(false);
	return false;
}

bool
ki_conditions_match(const KiConditions *conditions, const KiJudged *judged)
{
	for (int i = 0; i < conditions->nitems; i++)
		if (!matches(&conditions->items[i], judged))
			return false;
	return true;
}
