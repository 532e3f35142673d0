/*
 * scan_tree.h
 *		A scanner for some paths, outside of the server: for the fuzz target and
 *		the benchmark.
 */
#ifndef SCAN_TREE_H
#define SCAN_TREE_H

#include "postgres.h"

#include <stdlib.h>

#include "json_scan.h"

#define SCAN_TREE_STEPS 4

/* A path: names, or indices where the name is NULL; ends before the first
 * step that is neither (an index of -1). */
typedef struct TreeStep
{
	const char *name;
	int			index;
} TreeStep;

typedef struct TreePath
{
	TreeStep	steps[SCAN_TREE_STEPS];
	int			nsteps;
} TreePath;

static KiScanNode *
tree_node(const TreeStep *step)
{
	KiScanNode *node = calloc(1, sizeof(KiScanNode));

	if (step != NULL && step->name != NULL)
	{
		node->name = step->name;
		node->name_len = strlen(step->name);
	}
	else if (step != NULL)
		node->index = step->index;
	node->first_field = -1;
	return node;
}

static KiScanNode *
tree_child(KiScanNode *parent, const TreeStep *step)
{
	KiScanNode *child;
	bool		is_there;
	int			place = ki_scan_child_place(parent, step->name,
											step->name ? strlen(step->name) : 0,
											step->index, &is_there);

	if (is_there)
		return parent->children[place];
	child = tree_node(step);
	parent->children = realloc(parent->children,
							   sizeof(KiScanNode *) * (parent->nchildren + 1));
	ki_scan_add_child(parent, child, place);
	return child;
}

/*
 * A scanner for these paths; it is never freed.
 */
static KiScan *
tree_scan(const TreePath *paths, int npaths)
{
	KiScan	   *scan = calloc(1, sizeof(KiScan));
	int		   *next_field = calloc(npaths, sizeof(int));

	scan->root = tree_node(NULL);
	scan->fields = calloc(npaths, sizeof(KiField));
	scan->next_field = next_field;
	scan->nfields = npaths;
	scan->frames = calloc(SCAN_TREE_STEPS + 1, sizeof(KiScanFrame));
	for (int i = 0; i < npaths; i++)
	{
		KiScanNode *node = scan->root;

		for (int step = 0; step < paths[i].nsteps; step++)
			node = tree_child(node, &paths[i].steps[step]);
		next_field[i] = node->first_field;
		node->first_field = i;
		node->nfields++;
	}
	return scan;
}

#endif							/* SCAN_TREE_H */
