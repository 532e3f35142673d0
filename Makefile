# kafka_ingest: builds with PGXS against the server whose pg_config comes first
# in PATH (or PG_CONFIG=...).  STRICT=1 makes warnings errors; FAULTS=1 builds
# in the fault points that only tests may use.

EXTENSION    = kafka_ingest
MODULE_big   = kafka_ingest
EXTVERSION   = $(shell sed -n "s/^default_version *= *'\(.*\)'/\1/p" kafka_ingest.control)
OBJS         = $(patsubst %.c,%.o,$(wildcard src/*.c))
DATA         = $(wildcard sql/kafka_ingest--*.sql)
DOCS         =
PG_CPPFLAGS  = -Isrc -DKI_VERSION='"$(EXTVERSION)"'
SHLIB_LINK   = -lrdkafka -ljansson
REGRESS      = $(filter-out kafka_ingest--%,$(notdir $(basename $(wildcard sql/*.sql))))
REGRESS_OPTS = --temp-instance=tmp_check --temp-config=test/regress.conf

ifdef STRICT
PG_CFLAGS   += -Wextra -Werror -Wno-unused-parameter -Wno-sign-compare -Wshadow \
               -Wstrict-prototypes -Wold-style-definition -DUSE_ASSERT_CHECKING
endif
ifdef FAULTS
PG_CFLAGS   += -DKI_FAULTS
endif

PG_CONFIG   ?= pg_config
PGXS        := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

# PGXS tracks no headers.
$(OBJS): $(wildcard src/*.h)
