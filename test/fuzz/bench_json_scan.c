/*
 * bench_json_scan.c
 *		How long the scanner takes for a message, alone: medians of rounds in
 *		ns of CPU time, for a tiny message and for an order.
 *
 * cc -O2 -I$(pg_config --includedir-server) -Isrc -Itest/fuzz src/json_scan*.c \
 *   test/fuzz/bench_json_scan.c -o bench && ./bench     (-DKI_SCAN_PORTABLE: without SSE2)
 */
#include "scan_tree.h"

/* those of the C library: there is no server to link with */
#undef fprintf
#undef printf
#undef qsort

#include <stdio.h>
#include <time.h>

#define ROUNDS 15

static const char tiny[] = "{\"category\": \"option3\", \"value\": 123456}";

static const TreePath tiny_paths[] = {
	{{{"category", 0}}, 1},
	{{{"value", 0}}, 1},
};

static const char order[] =
"{\"order_id\": 100000123456, \"customer\": {\"id\": 4711889, \"name\": \"Margarete Example\", "
"\"email\": \"margarete@example.com\", \"tier\": \"gold\"}, \"status\": \"shipped\", "
"\"created_at\": \"2024-05-17T12:34:56.789Z\", \"currency\": \"EUR\", \"total\": 1234.56, \"paid\": true, "
"\"items\": [{\"sku\": \"AB-1234\", \"qty\": 2, \"price\": 19.99}, {\"sku\": \"CD-9876\", \"qty\": 1, "
"\"price\": 1194.58}], \"address\": {\"street\": \"Hauptstrasse 1\", \"city\": \"Berlin\", \"zip\": \"10115\", "
"\"country\": \"DE\"}, \"note\": null, \"source\": \"web\", \"retries\": 0}";

static const TreePath order_paths[] = {
	{{{"order_id", 0}}, 1},
	{{{"customer", 0}, {"id", 0}}, 2},
	{{{"customer", 0}, {"email", 0}}, 2},
	{{{"status", 0}}, 1},
	{{{"created_at", 0}}, 1},
	{{{"currency", 0}}, 1},
	{{{"total", 0}}, 1},
	{{{"paid", 0}}, 1},
	{{{"address", 0}, {"city", 0}}, 2},
	{{{"address", 0}, {"country", 0}}, 2},
};

static double
now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
	return time.tv_sec * 1e9 + time.tv_nsec;
}

static int
compare(const void *a, const void *b)
{
	double		difference = *(const double *) a - *(const double *) b;

	return difference < 0 ? -1 : difference > 0;
}

static void
bench(const char *name, const char *json, int len, const TreePath *paths,
	  int npaths, int times)
{
	KiScan	   *scan = tree_scan(paths, npaths);
	double		ns[ROUNDS];

	for (int round = 0; round < ROUNDS; round++)
	{
		double		start = now();

		for (int i = 0; i < times; i++)
		{
			if (ki_json_scan(scan, json, len) != KI_SCAN_OK ||
				scan->npresent != npaths)
			{
				fprintf(stderr, "%s: not read\n", name);
				exit(1);
			}
		}
		ns[round] = (now() - start) / times;
	}
	qsort(ns, ROUNDS, sizeof(double), compare);
	printf("%-8s %4d bytes, %2d fields: %6.1f ns (%.1f to %.1f)\n",
		   name, len, npaths, ns[ROUNDS / 2], ns[0], ns[ROUNDS - 1]);
}

int
main(void)
{
	bench("tiny", tiny, sizeof(tiny) - 1, tiny_paths, lengthof(tiny_paths), 2000000);
	bench("order", order, sizeof(order) - 1, order_paths, lengthof(order_paths), 300000);
	return 0;
}
