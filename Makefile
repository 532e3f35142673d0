# kafka_ingest: builds with PGXS against the server whose pg_config comes first
# in PATH (or PG_CONFIG=...).  STRICT=1 makes warnings errors; FAULTS=1 builds
# in the fault points that only tests may use.  RDKAFKA=private links a private
# copy of librdkafka with memory of its own for messages, RDKAFKA=shared the shared
# library; default: private, if what it takes is there.

EXTENSION    = kafka_ingest
MODULE_big   = kafka_ingest
EXTVERSION   = $(shell sed -n "s/^default_version *= *'\(.*\)'/\1/p" kafka_ingest.control)
OBJS         = $(patsubst %.c,%.o,$(wildcard src/*.c))
DATA         = $(wildcard sql/kafka_ingest--*.sql)
DOCS         =
PG_CPPFLAGS  = -Isrc -DKI_VERSION='"$(EXTVERSION)"'
SHLIB_LINK   = $(RDKAFKA_LINK) -Wl,-Bsymbolic-functions
REGRESS      = $(filter-out kafka_ingest--%,$(notdir $(basename $(wildcard sql/*.sql))))
REGRESS_OPTS = --temp-instance=tmp_check --temp-config=test/regress.conf
EXTRA_CLEAN  = .rdkafka

# Nobody is to replace a function of ours, so the compiler may count on it.
PG_CFLAGS   += -fno-semantic-interposition

ifdef STRICT
PG_CFLAGS   += -Wextra -Werror -Wno-unused-parameter -Wno-sign-compare -Wshadow \
               -Wstrict-prototypes -Wold-style-definition -DUSE_ASSERT_CHECKING
endif
ifdef FAULTS
PG_CFLAGS   += -DKI_FAULTS
endif

# The private copy: the distribution's static library, no symbol of which is
# seen from outside, with what it needs, and calls of these led to the __wrap_
# functions of src/rdkafka_alloc.c and _idle.c.  The forbidden ones could hand memory from
# there to libc: wrapped by nothing, they make the link fail.
comma       := ,
wrap         = $(addprefix -Wl$(comma)--wrap=,$(1))
WRAPPED      = calloc realloc free rd_kafka_timers_next \
               rd_hdr_histogram_quantile rd_hdr_histogram_mean rd_hdr_histogram_stddev
FORBIDDEN    = reallocarray malloc_usable_size getline getdelim
ARCHIVE     := $(shell pkg-config --variable=libdir rdkafka)/librdkafka.a
REQUIRED    := $(shell pkg-config --print-requires-private rdkafka)
NEEDS       := $(shell sed -n 's/^Libs.private://p' "$$(pkg-config --variable=pcfiledir rdkafka)/rdkafka.pc" 2> /dev/null) \
               $(if $(REQUIRED),$(shell pkg-config --libs $(REQUIRED)))
PRIVATE_LINK = $(ARCHIVE) $(NEEDS) -lc -Wl,--exclude-libs,ALL $(call wrap,$(WRAPPED))

# Prints nothing when all of the archive can be linked, else what is wrong.
TRY_PRIVATE  = $(CC) -shared -fPIC -DKI_RDKAFKA_PRIVATE -o /dev/null -x c src/rdkafka_alloc.c src/rdkafka_idle.c -x none \
               -Wl,--whole-archive $(ARCHIVE) -Wl,--no-whole-archive -Wl,-z,defs \
               $(PRIVATE_LINK) $(call wrap,$(FORBIDDEN)) 2>&1

ifneq ($(RDKAFKA),shared)
obstacle    := $(shell $(TRY_PRIVATE))
ifeq ($(obstacle),)
override RDKAFKA := private
else ifeq ($(RDKAFKA),private)
$(error no private copy of librdkafka can be linked: $(obstacle))
else
$(info kafka_ingest: uses the shared librdkafka, which is slower; "make RDKAFKA=private" tells why, and see README.md)
override RDKAFKA := shared
endif
endif

ifeq ($(RDKAFKA),private)
RDKAFKA_LINK = $(PRIVATE_LINK)
PG_CPPFLAGS += -DKI_RDKAFKA_PRIVATE
else
RDKAFKA_LINK = -lrdkafka
endif

PG_CONFIG   ?= pg_config
PGXS        := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

# PGXS tracks no headers, and not which librdkafka it was.
$(OBJS): $(wildcard src/*.h) .rdkafka

.rdkafka: FORCE
	@{ echo $(RDKAFKA); cat $(ARCHIVE) 2> /dev/null | cksum; } > $@.new
	@if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi

.PHONY: FORCE
