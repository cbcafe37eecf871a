# SPDX-License-Identifier: ISC
# One graph, out of tree in build/$(PROFILE)/. `make help` lists the targets.
PROFILE ?= release
B := build/$(PROFILE)
CC ?= gcc
ifeq ($(origin CC),default)
CC := gcc
endif
MAKEFLAGS += -r
.SUFFIXES:
.DELETE_ON_ERROR:

WARN := -Wall -Wextra -Wshadow -Wimplicit-fallthrough -Wvla -Wmissing-prototypes -Wstrict-prototypes -Wno-unused-parameter
ifeq ($(CI),true)
WARN += -Werror
endif
DEPFLAGS := -MMD -MP

opt_release := -O2 -g
opt_debug := -O1 -g
opt_asan := -O1 -g -fsanitize=address -fno-sanitize-recover=all
opt_ubsan := -O1 -g -fsanitize=undefined -fno-sanitize-recover=all
OPT := $(opt_$(PROFILE))
ifeq ($(OPT),)
$(error PROFILE must be release, debug, asan or ubsan)
endif

# --- the guest: freestanding, position independent, no vector registers -------
GUEST_CFLAGS := -std=gnu11 -O2 -g -ffreestanding -nostdinc -fpie -fvisibility=hidden -mno-red-zone \
	-mgeneral-regs-only -fno-omit-frame-pointer -fno-asynchronous-unwind-tables -fno-strict-aliasing \
	-fstack-protector-strong -mstack-protector-guard=tls -mstack-protector-guard-reg=gs \
	-mstack-protector-guard-offset=40 -fcf-protection=none -ffunction-sections -fdata-sections -fno-builtin-memcpy \
	-I. -I$(B) -Iguest/include -isystem $(shell $(CC) -print-file-name=include) -isystem $(B)/uapi $(WARN)
GUEST_SRC := $(sort $(wildcard guest/*.c guest/*/*.c guest/arch/x86_64/*.c guest/arch/x86_64/*.S) $(wildcard lib/*.c))
GUEST_GEN := $(B)/gen/syscall_table.c
GUEST_OBJ := $(patsubst %,$(B)/guest-obj/%.o,$(GUEST_SRC)) $(patsubst $(B)/%,$(B)/guest-obj/%.o,$(GUEST_GEN))

# --- the host side --------------------------------------------------------------
HOST_PKGS := libseccomp zydis
HOST_CFLAGS := -std=gnu11 $(OPT) -D_GNU_SOURCE -I. -I$(B) -fPIE -fstack-protector-strong -D_FORTIFY_SOURCE=2 $(WARN)
HOST_LIBS := -lseccomp -lZydis -lZycore -ljansson -lpthread
HOST_SRC := $(sort $(wildcard lib/*.c lib/host/*.c monitor/*.c monitor/backend/*.c image/*.c cli/*.c))
HOST_OBJ := $(patsubst %,$(B)/host-obj/%.o,$(HOST_SRC))

all: $(B)/cowbell

$(B)/uapi/.done:
	mkdir -p $(B)/uapi
	ln -sfn /usr/include/linux $(B)/uapi/linux
	ln -sfn /usr/include/asm-generic $(B)/uapi/asm-generic
	ln -sfn /usr/include/$(shell $(CC) -print-multiarch)/asm $(B)/uapi/asm
	touch $@

$(B)/gen/syscall_table.c: guest/linux/syscalls.tbl tools/gen-syscalls
	mkdir -p $(@D)
	tools/gen-syscalls guest/linux/syscalls.tbl > $@

# Offsets of C structures for assembly.
$(B)/gen/asm-offsets.h: tools/asm-offsets.c $(B)/uapi/.done $(wildcard guest/*.h guest/*/*.h guest/arch/x86_64/regs.h)
	mkdir -p $(@D)
	$(CC) $(GUEST_CFLAGS) -S -o - $< | sed -n 's/^->\([A-Z0-9_]*\) \$$\([0-9]*\)/#define \1 \2/p' > $@
$(B)/guest-obj/guest/arch/x86_64/entry.S.o $(B)/guest-obj/guest/arch/x86_64/arch.c.o: $(B)/gen/asm-offsets.h

$(B)/guest-obj/%.c.o: %.c $(B)/uapi/.done
	mkdir -p $(@D)
	$(CC) $(GUEST_CFLAGS) $(DEPFLAGS) -c $< -o $@

$(B)/guest-obj/%.c.o: $(B)/%.c $(B)/uapi/.done
	mkdir -p $(@D)
	$(CC) $(GUEST_CFLAGS) $(DEPFLAGS) -c $< -o $@

$(B)/guest-obj/%.S.o: %.S $(B)/uapi/.done
	mkdir -p $(@D)
	$(CC) $(GUEST_CFLAGS) $(DEPFLAGS) -c $< -o $@

# The vDSO: a shared object of its own, embedded by guest/proc/vdso_image.S.
$(B)/vdso.so: guest/proc/vdso/vdso_time.c guest/proc/vdso/vdso.lds abi/boot.h
	mkdir -p $(@D)
	$(CC) -std=gnu11 -O2 -ffreestanding -fpic -fvisibility=default -fno-stack-protector -fcf-protection=none \
		-mgeneral-regs-only -fno-builtin -I. $(WARN) -shared -nostdlib -Wl,-soname,linux-vdso.so.1 -Wl,--hash-style=both \
		-Wl,-z,max-page-size=4096,-z,noexecstack,--build-id=none,-Bsymbolic,-T,guest/proc/vdso/vdso.lds -s -o $@ $<

$(B)/guest-obj/guest/proc/vdso_image.S.o: $(B)/vdso.so

$(B)/libos.elf: $(GUEST_OBJ) guest/libos.lds
	$(CC) -nostdlib -static-pie -Wl,--gc-sections,-z,text,-z,noexecstack,--build-id=none,-T,guest/libos.lds -o $@ $(GUEST_OBJ) -lgcc

$(B)/libos.stripped: $(B)/libos.elf
	objcopy --strip-debug $< $@

$(B)/host-obj/%.c.o: %.c
	mkdir -p $(@D)
	$(CC) $(HOST_CFLAGS) $(DEPFLAGS) -c $< -o $@

$(B)/host-obj/libos_blob.o: $(B)/libos.stripped monitor/libos_blob.S
	mkdir -p $(@D)
	$(CC) -DLIBOS_PATH='"$(B)/libos.stripped"' -c monitor/libos_blob.S -o $@

$(B)/cowbell: $(HOST_OBJ) $(B)/host-obj/libos_blob.o
	$(CC) $(OPT) -pie -Wl,-z,relro,-z,now -o $@ $^ $(HOST_LIBS)

# Compile everything that exists, link nothing: for work on one part.
objects: $(GUEST_OBJ) $(HOST_OBJ)

clean:
	rm -rf build

.PHONY: all objects clean
-include $(wildcard $(GUEST_OBJ:.o=.d) $(HOST_OBJ:.o=.d))
-include tests/unit/unit.mk
