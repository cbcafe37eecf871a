# SPDX-License-Identifier: ISC
# Unit tests: guest logic and host logic as ordinary programs, TAP output.
#   make check-unit, make PROFILE=asan check-unit, make PROFILE=ubsan check-unit
# A test is tests/unit/NAME_test.c; what else it is linked with is named in it:
#   /* unit-sources: guest/mm/frame.c tests/unit/fake_guest.c */
# With guest sources among them everything is compiled as the guest is, with the kernel's headers and
# without libc's; tests/unit/libc/ declares what a test may use. tests/unit/hosted.h: see there.
UNIT_SRC := $(sort $(wildcard tests/unit/*_test.c))
UNIT_BIN := $(patsubst tests/unit/%.c,$(B)/unit/%,$(UNIT_SRC))
UNIT_CFLAGS = -std=gnu11 $(OPT) -O1 -g -D_GNU_SOURCE -I. -I$(B) -fno-strict-aliasing $(WARN) -Wno-missing-prototypes
UNIT_GUEST_CFLAGS = -ffreestanding -nostdinc -Itests/unit/libc -Iguest/include -isystem $(shell $(CC) -print-file-name=include) \
	-isystem $(B)/uapi -include tests/unit/hosted.h
unit_extra = $(shell sed -n 's,.*unit-sources: *\(.*[^ ]\) *\*/.*,\1,p' $(1))
unit_libs = $(shell sed -n 's,.*unit-libs: *\(.*[^ ]\) *\*/.*,\1,p' $(1))
unit_guest = $(if $(filter guest/%,$(call unit_extra,$(1))),$(UNIT_GUEST_CFLAGS))

$(B)/unit/%: tests/unit/%.c tests/unit/unit.mk $(wildcard tests/unit/*.h tests/unit/libc/*.h guest/*/*.h) $(B)/uapi/.done
	mkdir -p $(@D)
	$(CC) $(UNIT_CFLAGS) $(call unit_guest,$<) -o $@ $< $(call unit_extra,$<) $(call unit_libs,$<)

$(foreach t,$(UNIT_SRC),$(eval $(patsubst tests/unit/%.c,$(B)/unit/%,$(t)): $(call unit_extra,$(t))))

unit-tests: $(UNIT_BIN)

check-unit: $(UNIT_BIN)
	prove -e '' $(UNIT_BIN)

.PHONY: unit-tests check-unit
