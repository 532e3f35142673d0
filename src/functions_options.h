/*
 * functions_options.h
 *	  The options of create_pipeline and alter_pipeline, from arguments into a
 *	  pipeline (floor 6).
 */
#ifndef KI_FUNCTIONS_OPTIONS_H
#define KI_FUNCTIONS_OPTIONS_H

#include "fmgr.h"
#include "pipeline.h"

/* Arguments of both, in order. */
enum
{
	ARG_NAME, ARG_TOPIC, ARG_TARGET, ARG_STATEMENT, ARG_CONNECTION,
	ARG_FORMAT, ARG_FORMAT_OPTIONS, ARG_ENVELOPE, ARG_KEY_FORMAT, ARG_COLUMNS,
	ARG_FILTER, ARG_MODE, ARG_KEY_COLUMNS, ARG_NEWER_BY, ARG_ON_TOMBSTONE,
	ARG_DELETE_WHEN, ARG_ON_MISSING, ARG_ON_ERROR, ARG_MAX_ERROR_RATIO,
	ARG_START_FROM, ARG_START_TIMESTAMP, ARG_START_OFFSETS, ARG_START_GROUP,
	ARG_ON_OFFSET_LOST, ARG_PARTITIONS, ARG_WORKERS, ARG_BATCH_MAX_MESSAGES,
	ARG_BATCH_MAX_MS, ARG_MAX_MESSAGES_PER_SECOND, ARG_SEARCH_PATH,
	ARG_GROUP_ID, ARG_PROPERTIES, ARG_PAUSED,
	ARG_OR_ALTER,				/* create_pipeline */
	ARG_OWNER = ARG_OR_ALTER,	/* alter_pipeline */
	ARG_RESET
};

/* Raise 22023 for words that are no values of their options, 0A000 for later ones. */
extern void ki_options_check(FunctionCallInfo fcinfo);

/* create_pipeline: raise 22004 for NULL where it means nothing. */
extern void ki_options_refuse_nulls(FunctionCallInfo fcinfo);

/* What an option has when it is not given; name and owner must be set. */
extern void ki_options_set_defaults(KiPipeline *pipeline);

/* Whatever is given is taken; properties, start and owner aside. */
extern void ki_options_take(FunctionCallInfo fcinfo, KiPipeline *pipeline);

/* The start, and with it no first contact yet. */
extern void ki_options_take_start(FunctionCallInfo fcinfo, KiPipeline *pipeline);
extern bool ki_options_has_start(FunctionCallInfo fcinfo);

/* alter_pipeline: options back to their defaults; properties key by key. */
extern void ki_options_reset(FunctionCallInfo fcinfo, KiPipeline *pipeline);
extern void ki_options_merge_properties(FunctionCallInfo fcinfo,
										KiPipeline *pipeline);

#endif							/* KI_FUNCTIONS_OPTIONS_H */
