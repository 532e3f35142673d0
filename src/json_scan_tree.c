/*
 * json_scan_tree.c
 *	  The tree of keys that the JSON scanner walks along.
 */
#include "postgres.h"

#include "json_scan_private.h"

/*
 * Order of a step among the children of a node.
 */
static inline int
compare_step(const char *name, int name_len, int index, const KiScanNode *node)
{
	if (name == NULL || node->name == NULL)
	{
		if (name != NULL || node->name != NULL)
			return name == NULL ? -1 : 1;
		return index < node->index ? -1 : index > node->index ? 1 : 0;
	}
	if (name_len != node->name_len)
		return name_len < node->name_len ? -1 : 1;
	return memcmp(name, node->name, name_len);
}

/*
 * Is a name, in quotes, its only spelling but for escapes, and free of bytes
 * that have to be noted?
 */
static bool
is_plain_name(const char *name, int len)
{
	for (int i = 0; i < len; i++)
	{
		if ((unsigned char) name[i] < 0x20 || IS_HIGHBIT_SET(name[i]) ||
			name[i] == '"' || name[i] == '\\')
			return false;
	}
	return true;
}

int
ki_scan_child_place(const KiScanNode *parent, const char *name, int name_len,
					int index, bool *is_there)
{
	int			low = 0;
	int			high = parent->nchildren;

	while (low < high)
	{
		int			middle = (low + high) / 2;
		int			order = compare_step(name, name_len, index,
										 parent->children[middle]);

		if (order == 0)
		{
			*is_there = true;
			return middle;
		}
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	*is_there = false;
	return low;
}

void
ki_scan_add_child(KiScanNode *parent, KiScanNode *child, int place)
{
	memmove(parent->children + place + 1, parent->children + place,
			sizeof(KiScanNode *) * (parent->nchildren - place));
	parent->children[place] = child;
	parent->nchildren++;
	if (child->name == NULL)
		parent->nindexes++;
	else
	{
		child->is_plain = is_plain_name(child->name, child->name_len);
		parent->wants_members = true;
		parent->filter |= filter_bit(child->name, child->name_len);
	}
}

KiScanNode *
ki_scan_child(const KiScanNode *node, const FieldName *name)
{
	bool		is_there;
	int			place;

	if (!name->has_escapes)
	{
		place = ki_scan_child_place(node, name->start, name->len, 0, &is_there);
		return is_there ? node->children[place] : NULL;
	}
	for (place = node->nindexes; place < node->nchildren; place++)
	{
		if (ki_scan_is_name(name, node->children[place]))
			return node->children[place];
	}
	return NULL;
}

void
ki_scan_clear_children(KiScan *scan, KiScanNode *node)
{
	for (int i = 0; i < node->nchildren; i++)
	{
		KiScanNode *child = node->children[i];

		if (child->seen != scan->document)
			continue;
		child->seen = 0;
		scan->npresent -= child->nfields;
		for (int f = child->first_field; f >= 0; f = scan->next_field[f])
			scan->fields[f].kind = KI_FIELD_ABSENT;
		ki_scan_clear_children(scan, child);
	}
}
