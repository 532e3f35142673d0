/*
 * convert_time.c
 *	  The converters of date, timestamp and timestamptz.
 *
 * What they know is ISO 8601 with four digits of the year, to the microsecond:
 * the one form whose meaning depends on no setting but TimeZone, and that is
 * UTC while rows are worked on.
 */
#include "postgres.h"

#include "datatype/timestamp.h"
#include "utils/date.h"
#include "utils/datetime.h"
#include "utils/timestamp.h"

#include "convert.h"

#define DATE_CHARACTERS 10
#define FRACTION_DIGITS 6

/* Beyond this the input function has its own opinion. */
#define MAX_ZONE_HOUR 15

/* The place in a text that is read from its beginning. */
typedef struct Reader
{
	const char *at;
	const char *end;
} Reader;

/*
 * Read digits, exactly so many.
 */
static inline bool
read_digits(Reader *reader, int digits, int *value)
{
	const char *end = reader->at + digits;

	if (reader->end - reader->at < digits)
		return false;
	for (*value = 0; reader->at < end; reader->at++)
	{
		if (*reader->at < '0' || *reader->at > '9')
			return false;
		*value = *value * 10 + (*reader->at - '0');
	}
	return true;
}

/*
 * Read one certain character.
 */
static inline bool
read_character(Reader *reader, char c)
{
	if (reader->at == reader->end || *reader->at != c)
		return false;
	reader->at++;
	return true;
}

/*
 * Read YYYY-MM-DD as days since 2000-01-01; *in_calendar tells whether there
 * is such a day, and returns false when it is written otherwise.
 */
static bool
read_date(Reader *reader, int *date, bool *in_calendar)
{
	int			year;
	int			month;
	int			day;

	if (!read_digits(reader, 4, &year) || !read_character(reader, '-') ||
		!read_digits(reader, 2, &month) || !read_character(reader, '-') ||
		!read_digits(reader, 2, &day))
		return false;
	if (year == 0)
		return false;
	*in_calendar = month >= 1 && month <= MONTHS_PER_YEAR && day >= 1 &&
		day <= day_tab[isleap(year)][month - 1];
	if (*in_calendar)
		*date = date2j(year, month, day) - POSTGRES_EPOCH_JDATE;
	return true;
}

/*
 * Read a fraction's digits as microseconds; *digits is their number.
 */
static bool
read_fraction(Reader *reader, int *digits, int *microseconds)
{
	const char *start = reader->at;
	int			value = 0;

	while (reader->at < reader->end && *reader->at >= '0' && *reader->at <= '9')
	{
		if (reader->at - start == FRACTION_DIGITS)
			return false;
		value = value * 10 + (*reader->at++ - '0');
	}
	*digits = reader->at - start;
	for (int i = *digits; i < FRACTION_DIGITS; i++)
		value *= 10;
	*microseconds = value;
	return *digits > 0;
}

/*
 * Read HH:MM[:SS[.f]] as microseconds; *digits is how many follow the point.
 */
static bool
read_time(Reader *reader, int64 *time, int *digits)
{
	int			hour;
	int			minute;
	int			second = 0;
	int			microseconds = 0;

	*digits = 0;
	if (!read_digits(reader, 2, &hour) || !read_character(reader, ':') ||
		!read_digits(reader, 2, &minute))
		return false;
	if (read_character(reader, ':'))
	{
		if (!read_digits(reader, 2, &second) ||
			(read_character(reader, '.') &&
			 !read_fraction(reader, digits, &microseconds)))
			return false;
	}
	if (hour >= HOURS_PER_DAY || minute >= MINS_PER_HOUR ||
		second >= SECS_PER_MINUTE)
		return false;
	*time = ((hour * MINS_PER_HOUR + minute) * SECS_PER_MINUTE + second) *
		USECS_PER_SEC + microseconds;
	return true;
}

/*
 * Read nothing, Z, or ±HH[[:]MM] as seconds east of UTC.
 */
static bool
read_zone(Reader *reader, int *seconds)
{
	bool		is_west;
	int			hours;
	int			minutes = 0;

	*seconds = 0;
	if (reader->at == reader->end || read_character(reader, 'Z'))
		return true;
	is_west = *reader->at == '-';
	if (!is_west && *reader->at != '+')
		return false;
	reader->at++;
	if (!read_digits(reader, 2, &hours))
		return false;
	if (reader->at < reader->end)
	{
		(void) read_character(reader, ':');
		if (!read_digits(reader, 2, &minutes))
			return false;
	}
	if (hours > MAX_ZONE_HOUR || minutes >= MINS_PER_HOUR)
		return false;
	*seconds = (hours * MINS_PER_HOUR + minutes) * SECS_PER_MINUTE;
	if (is_west)
		*seconds = -*seconds;
	return true;
}

static KiConvertResult
refuse_day(int *sqlerrcode)
{
	*sqlerrcode = ERRCODE_DATETIME_FIELD_OVERFLOW;
	return KI_CONVERT_REFUSED;
}

/*
 * Read a date, alone or with a time and a zone; *time is microseconds since
 * 2000-01-01 by the clock that is shown.
 */
static KiConvertResult
read_timestamp(const char *string, int len, int32 typmod, Timestamp *timestamp,
			   int *zone, int *sqlerrcode)
{
	Reader		reader = {string, string + len};
	bool		in_calendar;
	int			date = 0;
	int64		time = 0;
	int			digits = 0;

	*zone = 0;
	if (!read_date(&reader, &date, &in_calendar))
		return KI_CONVERT_UNSURE;
	if (reader.at < reader.end &&
		((!read_character(&reader, 'T') && !read_character(&reader, ' ')) ||
		 !read_time(&reader, &time, &digits) ||
		 !read_zone(&reader, zone) || reader.at < reader.end))
		return KI_CONVERT_UNSURE;
	if (!in_calendar)
		return refuse_day(sqlerrcode);
	if (typmod >= 0 && digits > typmod)
		return KI_CONVERT_UNSURE;	/* it is to be rounded */
	*timestamp = date * USECS_PER_DAY + time;
	return KI_CONVERT_TAKEN;
}

KiConvertResult
ki_convert_date(const char *string, int len, int32 typmod, Datum *value,
				int *sqlerrcode)
{
	Reader		reader = {string, string + len};
	bool		in_calendar;
	int			date = 0;

	if (len != DATE_CHARACTERS || !read_date(&reader, &date, &in_calendar))
		return KI_CONVERT_UNSURE;
	if (!in_calendar)
		return refuse_day(sqlerrcode);
	*value = DateADTGetDatum(date);
	return KI_CONVERT_TAKEN;
}

/*
 * timestamp without time zone: a zone is read, and means nothing.
 */
KiConvertResult
ki_convert_timestamp(const char *string, int len, int32 typmod, Datum *value,
					 int *sqlerrcode)
{
	Timestamp	timestamp = 0;
	int			zone;
	KiConvertResult result = read_timestamp(string, len, typmod, &timestamp,
											&zone, sqlerrcode);

	*value = TimestampGetDatum(timestamp);
	return result;
}

KiConvertResult
ki_convert_timestamptz(const char *string, int len, int32 typmod, Datum *value,
					   int *sqlerrcode)
{
	TimestampTz timestamp = 0;
	int			zone;
	KiConvertResult result = read_timestamp(string, len, typmod, &timestamp,
											&zone, sqlerrcode);

	*value = TimestampTzGetDatum(timestamp - zone * USECS_PER_SEC);
	return result;
}
