# SPDX-License-Identifier: ISC
# Unit tests: guest logic and host logic as ordinary programs, TAP output.
#   make check-unit, make PROFILE=asan check-unit, make PROFILE=ubsan check-unit
# A test is tests/unit/NAME_test.c; what else it is linked with is named in it:
#   /* unit-sources: guest/mm/frame.c tests/unit/fake_guest.c */
# Guest sources are built as hosted code; tests/unit/hosted.h says what differs.
UNIT_SRC := $(sort $(wildcard tests/unit/*_test.c))
UNIT_BIN := $(patsubst tests/unit/%.c,$(B)/unit/%,$(UNIT_SRC))
UNIT_CFLAGS = -std=gnu11 $(OPT) -O1 -g -D_GNU_SOURCE -I. -I$(B) -fno-strict-aliasing -fno-builtin-memset $(WARN) \
	-Wno-missing-prototypes
unit_extra = $(shell sed -n 's,.*unit-sources: *\(.*[^ ]\) *\*/.*,\1,p' $(1))
unit_libs = $(shell sed -n 's,.*unit-libs: *\(.*[^ ]\) *\*/.*,\1,p' $(1))

$(B)/unit/%: tests/unit/%.c tests/unit/unit.mk $(wildcard tests/unit/*.h)
	mkdir -p $(@D)
	$(CC) $(UNIT_CFLAGS) -MMD -MP -MF $@.d -o $@ $< $(call unit_extra,$<) $(call unit_libs,$<)

$(foreach t,$(UNIT_SRC),$(eval $(patsubst tests/unit/%.c,$(B)/unit/%,$(t)): $(call unit_extra,$(t))))

unit-tests: $(UNIT_BIN)

check-unit: $(UNIT_BIN)
	prove -e '' $(UNIT_BIN)

.PHONY: unit-tests check-unit
-include $(wildcard $(UNIT_BIN:=.d))
