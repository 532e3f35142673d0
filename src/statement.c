/*
 * statement.c
 *	  A pipeline's own statements, run over its messages.
 */
#include "postgres.h"

#include "statement.h"

KiStatement *
ki_statement_create(const KiPipeline *pipeline)
{
	return NULL;
}

void
ki_statement_free(KiStatement *statement)
{
}

bool
ki_statement_wants_headers(const KiStatement *statement)
{
	return false;
}

void
ki_statement_begin(KiStatement *statement, int memory_kb)
{
}

bool
ki_statement_take(KiStatement *statement, const KiMessage *message, KiFault *fault)
{
	return true;
}

void
ki_statement_add(KiStatement *statement)
{
}

void
ki_statement_end(KiStatement *statement)
{
}
