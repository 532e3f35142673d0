/*
 * topics.c
 *	  Which topics a pipeline reads.
 */
#include "postgres.h"

#include "common/hashfn.h"

#include "pipeline.h"
#include "topics.h"

#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"

/* The next entry of a comma list, by its length; NULL: there is none left. */
static const char *
next_entry(const char *entry, size_t *len)
{
	if (entry[*len] == '\0')
		return NULL;
	entry += *len + 1;
	*len = strcspn(entry, ",");
	return entry;
}

static const char *
first_entry(const char *topics, size_t *len)
{
	*len = strcspn(topics, ",");
	return topics;
}

static void
check_entry(const char *topics, const char *entry, size_t len)
{
	char	   *name = pnstrdup(entry, len);

	if (len == 0 || len > KI_TOPIC_MAX || strspn(name, LETTERS "*") != len ||
		strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 len == 0 && topics[0] != '\0' ?
				 errmsg("topic list \"%s\" has an empty entry", topics) :
				 errmsg("illegal topic name \"%s\"", name),
				 errdetail("A topic name has 1 to %d letters, digits, dots, underscores and hyphens.",
						   KI_TOPIC_MAX),
				 strchr(name, ' ') ? errhint("Write the list without blanks.") : 0));
	pfree(name);
}

static void
check_once(const char *topics, const char *entry, size_t len)
{
	size_t		other_len;

	for (const char *other = first_entry(topics, &other_len); other < entry;
		 other = next_entry(other, &other_len))
		if (other_len == len && memcmp(other, entry, len) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("topic list \"%s\" names \"%.*s\" twice", topics,
							(int) len, entry)));
}

void
ki_topics_check(const char *topics)
{
	size_t		len;

	for (const char *entry = first_entry(topics, &len); entry;
		 entry = next_entry(entry, &len))
	{
		check_entry(topics, entry, len);
		check_once(topics, entry, len);
	}
}

/*
 * Does a pattern mean this name?  What follows the last star passed is tried
 * one character further on whenever it does not fit.
 */
static bool
pattern_matches(const char *pattern, size_t len, const char *name)
{
	const char *end = pattern + len;
	const char *star = NULL;
	const char *retry = NULL;

	while (*name != '\0')
	{
		if (pattern < end && *pattern == '*')
		{
			star = ++pattern;
			retry = name;
		}
		else if (pattern < end && *pattern == *name)
		{
			pattern++;
			name++;
		}
		else if (star)
		{
			pattern = star;
			name = ++retry;
		}
		else
			return false;
	}
	while (pattern < end && *pattern == '*')
		pattern++;
	return pattern == end;
}

/* A name is a pattern without a star. */
static bool
entry_matches(const char *entry, size_t len, const char *topic)
{
	if (strncmp(topic, "__", 2) == 0 && (len < 2 || memcmp(entry, "__", 2) != 0))
		return false;
	return pattern_matches(entry, len, topic);
}

bool
ki_topics_match(const char *topics, const char *topic)
{
	size_t		len;

	for (const char *entry = first_entry(topics, &len); entry;
		 entry = next_entry(entry, &len))
		if (entry_matches(entry, len, topic))
			return true;
	return false;
}

bool
ki_topics_is_one(const char *topics)
{
	return strpbrk(topics, ",*") == NULL;
}

bool
ki_topics_has_pattern(const char *topics)
{
	return strchr(topics, '*') != NULL;
}

List *
ki_topics_names(const char *topics)
{
	List	   *names = NIL;
	size_t		len;

	for (const char *entry = first_entry(topics, &len); entry;
		 entry = next_entry(entry, &len))
		if (memchr(entry, '*', len) == NULL)
			names = lappend(names, pnstrdup(entry, len));
	return names;
}

int
ki_topics_worker(const char *topics, const char *topic, int32 partition,
				 int workers)
{
	uint32		first = 0;

	if (!ki_topics_is_one(topics))
		first = hash_bytes((const unsigned char *) topic, strlen(topic));
	return (int) ((first % workers + (uint32) partition) % workers);
}
