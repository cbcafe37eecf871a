# SPDX-License-Identifier: ISC
# One graph, out of tree in build/$(PROFILE)/. `make help` lists the targets.
# `make demo` and `make check` install what they need (tools/deps) and do the rest.
PROFILE ?= release
B := build/$(PROFILE)
CC ?= gcc
ifeq ($(origin CC),default)
CC := gcc
endif
MAKEFLAGS += -r --no-print-directory
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
GUEST_SRC := $(sort $(wildcard guest/*.c guest/*/*.c guest/*/*.S guest/arch/x86_64/*.c guest/arch/x86_64/*.S) $(wildcard lib/*.c))
GUEST_GEN := $(B)/gen/syscall_table.c
GUEST_OBJ := $(patsubst %,$(B)/guest-obj/%.o,$(GUEST_SRC)) $(patsubst $(B)/%,$(B)/guest-obj/%.o,$(GUEST_GEN))

# --- the host side --------------------------------------------------------------
# -Wno-format-truncation: snprintf into a path buffer is how a path is bounded; a cut one is then not found.
HOST_CFLAGS := -Wno-format-truncation -std=gnu11 $(OPT) -ffunction-sections -fdata-sections -D_GNU_SOURCE -I. -I$(B) -fPIE -fstack-protector-strong -D_FORTIFY_SOURCE=2 $(WARN)
# Static where a start of `cowbell run` would pay for loading it; libcurl is loaded when a registry is talked to, Zydis when a
# program is made ready.
HOST_LIBS := -l:libarchive.a -l:libz.a -l:libzstd.a -l:libjansson.a -l:libsodium.a -l:libnettle.a -lpthread -ldl
HOST_SRC := $(sort $(wildcard lib/*.c lib/host/*.c monitor/*.c monitor/backend/*.c image/*.c image/*/*.c cli/*.c))
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
$(B)/gen/asm-offsets.h: tools/asm-offsets.c $(B)/uapi/.done $(wildcard abi/*.h lib/*.h guest/*.h guest/*/*.h guest/arch/x86_64/*.h)
	mkdir -p $(@D)
	$(CC) $(GUEST_CFLAGS) -S -o - $< | sed -n 's/^->\([A-Z0-9_]*\) \$$\([0-9]*\)/#define \1 \2/p' > $@
$(B)/guest-obj/guest/arch/x86_64/entry.S.o $(B)/guest-obj/guest/arch/x86_64/switch.S.o: $(B)/gen/asm-offsets.h

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

$(B)/cowbell: $(HOST_OBJ) $(B)/host-obj/libos_blob.o $(B)/host-obj/platform_blob.o
	$(CC) $(OPT) -pie -Wl,--gc-sections,-z,relro,-z,now -o $@ $^ $(HOST_LIBS)

# --- the platform: a program of its own, inside the command as a blob ----------------------
# Its libraries are those of the system, so that their security updates count; a `cowbell run` does not load them.
PLATFORM_LIBS := -luv -lssl -lcrypto -lsqlite3 -lnghttp2 -ljansson -lz -lpthread
PLATFORM_SRC := $(sort $(wildcard platform/*.c platform/*/*.c))
PLATFORM_OBJ := $(patsubst %,$(B)/platform-obj/%.o,$(PLATFORM_SRC))
LLHTTP_OBJ := $(patsubst %,$(B)/platform-obj/llhttp/%.o,api http llhttp)
PLATFORM_LIB_OBJ := $(patsubst %,$(B)/host-obj/%.o,$(sort $(wildcard lib/*.c lib/host/*.c)))

$(B)/platform-obj/%.c.o: %.c
	mkdir -p $(@D)
	$(CC) $(HOST_CFLAGS) -isystem /usr/share/include/llhttp $(DEPFLAGS) -c $< -o $@

# Strict: no leniency of the parser that a macro could give.
$(B)/platform-obj/llhttp/%.o: /usr/share/llhttp/%.c
	mkdir -p $(@D)
	$(CC) -std=gnu11 $(OPT) -w -fPIE -fstack-protector-strong -DLLHTTP_STRICT_MODE=1 -isystem /usr/share/include/llhttp -c $< -o $@

# Files of the dashboard, as they are.
$(B)/platform-obj/assets.o: platform/assets.S $(wildcard platform/dashboard/*)
	mkdir -p $(@D)
	$(CC) -I. -c $< -o $@

$(B)/cowbell-platform: $(PLATFORM_OBJ) $(LLHTTP_OBJ) $(PLATFORM_LIB_OBJ) $(if $(wildcard platform/assets.S),$(B)/platform-obj/assets.o)
	$(CC) $(OPT) -pie -Wl,--gc-sections,-z,relro,-z,now -o $@ $^ $(PLATFORM_LIBS)

$(B)/cowbell-platform.stripped: $(B)/cowbell-platform
	objcopy --strip-all $< $@

$(B)/host-obj/platform_blob.o: $(B)/cowbell-platform.stripped cli/platform_blob.S
	$(CC) -DPLATFORM_PATH='"$(B)/cowbell-platform.stripped"' -c cli/platform_blob.S -o $@

platform: $(B)/cowbell-platform

# Compile everything that exists, link nothing: for work on one part.
objects: $(GUEST_OBJ) $(HOST_OBJ) $(PLATFORM_OBJ)

# --- what people call ------------------------------------------------------------------
help:
	@echo 'make            build build/$(PROFILE)/cowbell'
	@echo 'make demo       install what is missing, build, boot a Python web app as a VM and fetch it'
	@echo 'make check      install what is missing, build, run every test'
	@echo 'make check-unit PROFILE=release|asan|ubsan: the unit tests only'
	@echo 'make run-tests  everything as make check, but installs nothing (TESTS=tests/integration/serve.t)'
	@echo 'make check-svm  the kvm monitor on emulated AMD hardware virtualisation (QEMU)'
	@echo 'make conformance  foreign test suites natively and here (SUITE=cpython,libuv MONITOR=process ONLY=pattern JOBS=2 PART=ci|full)'
	@echo 'make conformance-docs   docs/conformance.md from what is known;  conformance-fetch: get the suites'
	@echo 'make bench      measure native, bubblewrap, kvm and process side by side'
	@echo 'make bench-fork     new processes: fork with 100 MB, posix_spawn, beside native ones'
	@echo 'make bench-cpus     what a second CPU brings: C, Go, Java, Node, faults, system calls'
	@echo 'make bench-images   build and import of images, beside other tools'
	@echo 'make bench-snapshots   starts from snapshots, beside every other way to start an app'
	@echo 'make bench-router   the platform'"'"'s router beside HAProxy and nginx'
	@echo 'make bench-34000 APPS=34000   so many different apps delivered to a platform here'
	@echo 'make fuzz       feed mutated files to the parsers (FUZZ_SECONDS=30);  make fuzz-ring: a hostile guest to the monitor'
	@echo 'make stress     several CPUs with injected scheduling (STRESS_SECONDS=3600, STRESS_SEED=n repeats a round)'
	@echo 'make format     clang-format all sources;  make lint: clang-format, clang-tidy, cppcheck'
	@echo 'make platform   only the program of cowbell serve;  make objects: compile all, link nothing'
	@echo 'make install    into $$(DESTDIR)$$(PREFIX), PREFIX=/usr/local;  make uninstall'
	@echo 'make clean      remove build/'

# Sub-makes, so that headers and libraries that were just installed are seen.
demo:
	tools/deps build demo
	$(MAKE) all
	examples/demo

check:
	tools/deps build check conformance
	$(MAKE) all unit-tests
	-$(MAKE) conformance-fetch
	$(MAKE) run-tests

# One run of prove over unit tests (C) and all others (.t), so that its closing lines count everything.
TESTS ?= $(sort $(wildcard tests/*.t tests/*/*.t))
run-tests: all unit-tests
	prove --exec '' $(PROVEFLAGS) $(sort $(patsubst tests/unit/%.c,$(B)/unit/%,$(wildcard tests/unit/*_test.c))) $(TESTS)

STRESS_SECONDS ?= 3600
stress: all
	STRESS_SECONDS=$(STRESS_SECONDS) prove -v tests/stress/smp.t

check-svm: all
	prove --exec '' tests/svm/run.t

# Foreign test suites (tests/foreign/): natively, then here; goes on where it was ended. MORE=--failed and the like: tests/foreign/run --help
PART ?= full
JOBS ?= $(shell nproc)
FOREIGN = COWBELL=$(abspath $(B)/cowbell) tests/foreign/run
conformance:
	tools/deps build conformance
	$(MAKE) all
	$(FOREIGN) run --suite '$(SUITE)' --monitor '$(MONITOR)' --only '$(ONLY)' --jobs $(JOBS) --part $(PART) $(MORE)

conformance-fetch:
	tools/deps conformance
	$(FOREIGN) fetch --suite '$(SUITE)'

conformance-docs:
	$(FOREIGN) docs --suite '$(SUITE)'

bench:
	tools/deps build bench
	$(MAKE) all
	bench/run $(BENCHFLAGS)

bench-fork:
	tools/deps build bench
	$(MAKE) all
	bench/forks.py $(BENCHFLAGS)

bench-cpus:
	tools/deps build bench
	$(MAKE) all
	bench/cpus.py $(BENCHFLAGS)

bench-images:
	tools/deps build bench
	$(MAKE) all
	bench/images.py $(BENCHFLAGS)

bench-snapshots:
	tools/deps build bench
	$(MAKE) all
	bench/snapshots.py $(BENCHFLAGS)

bench-router:
	tools/deps build bench
	$(MAKE) all
	bench/router.py $(BENCHFLAGS)

# APPS=34000 takes minutes and some GB of disk; fewer apps, less of both.
APPS ?= 34000
bench-34000:
	tools/deps build bench
	$(MAKE) all
	bench/34000 --apps $(APPS) $(BENCHFLAGS)

PREFIX ?= /usr/local
# Command, manual, completion, an example of the platform's settings, units for systemd (not enabled).
UNITS := $(notdir $(wildcard examples/systemd/*))
COMPLETIONS := share/bash-completion/completions/cowbell share/zsh/site-functions/_cowbell
install: all
	install -D -m 755 $(B)/cowbell $(DESTDIR)$(PREFIX)/bin/cowbell
	install -d $(DESTDIR)$(PREFIX)/share/man/man1
	install -m 644 $(wildcard man/*.1) $(DESTDIR)$(PREFIX)/share/man/man1
	install -d $(addprefix $(DESTDIR)$(PREFIX)/,$(dir $(COMPLETIONS)))
	$(B)/cowbell completion bash > $(DESTDIR)$(PREFIX)/$(word 1,$(COMPLETIONS))
	$(B)/cowbell completion zsh > $(DESTDIR)$(PREFIX)/$(word 2,$(COMPLETIONS))
	install -D -m 644 examples/serve.toml $(DESTDIR)$(PREFIX)/share/doc/cowbell/serve.toml
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/system
	for u in $(UNITS); do \
		sed 's,/usr/local/,$(PREFIX)/,' examples/systemd/$$u > $(DESTDIR)$(PREFIX)/lib/systemd/system/$$u || exit 1; \
	done

uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/cowbell $(patsubst man/%,$(DESTDIR)$(PREFIX)/share/man/man1/%,$(wildcard man/*.1)) \
		$(addprefix $(DESTDIR)$(PREFIX)/,$(COMPLETIONS) $(addprefix lib/systemd/system/,$(UNITS)) share/doc/cowbell/serve.toml)

# --- care of the sources ------------------------------------------------------------------
C_FILES := $(sort $(wildcard abi/*.h lib/*.[ch] lib/host/*.[ch] guest/*.[ch] guest/*/*.[ch] guest/*/*/*.[ch] monitor/*.[ch] \
	monitor/backend/*.[ch] image/*.[ch] image/*/*.[ch] platform/*.[ch] cli/*.[ch] tests/*/*.[ch] bench/*.[ch] bench/*/*.[ch] tests/unit/libc/*.h tools/*.c))
LINT_FILES := $(filter cli/%.c image/%.c lib/host/%.c monitor/%.c platform/%.c,$(C_FILES))

format:
	clang-format -i $(C_FILES)

lint:
	tools/deps lint
	clang-format --dry-run -Werror $(C_FILES)
	clang-tidy --quiet $(LINT_FILES) -- -std=gnu11 -D_GNU_SOURCE -I. -I$(B) -isystem /usr/share/include/llhttp
	cppcheck --quiet --std=c11 --enable=warning,portability,performance --error-exitcode=1 --inline-suppr \
		--suppressions-list=tools/cppcheck.suppressions -D_GNU_SOURCE -D__x86_64__ -I. $(LINT_FILES)

# Mutated input for the parsers of what strangers bring, under ASan and UBSan (libFuzzer, so clang). A crash leaves its
# input in build/fuzz/; the program itself run with that file replays it.
FUZZ_SECONDS ?= 30
FUZZ_SRC_appfiles := $(addprefix image/build/,procfile.c zip.c) $(addprefix lib/host/,toml.c ignore.c say.c strings.c)
FUZZ_LIBS_appfiles := -lz
FUZZ_SRC_control := image/control.c
FUZZ_SRC_elf := image/elf.c
FUZZ_SRC_erofs := image/erofs_path.c image/overlay.c lib/erofs.c
FUZZ_SRC_cli := cli/parse.c cli/options.c lib/host/say.c
FUZZ_SRC_oci := image/dirs.c image/oci/oci.c image/oci/reference.c image/store/blob.c image/store/pending.c image/store/store.c lib/host/say.c lib/host/strings.c
FUZZ_SRC_layer := $(addprefix image/oci/,layer.c layer_tree.c inflate.c) $(addprefix image/,dirs.c erofs_stream.c erofs_meta.c tree.c sites.c sites_scan.c) \
	lib/erofs.c lib/host/say.c lib/host/progress.c
FUZZ_LIBS_layer := -larchive -lz -lzstd -lnettle -lpthread
FUZZ_LIBS_oci := -ljansson -lnettle
FUZZ_SRC_registry := image/dirs.c $(addprefix image/oci/,challenge.c credentials.c key.c payload.c) $(addprefix image/store/,blob.c pending.c store.c) lib/host/say.c lib/host/strings.c
FUZZ_LIBS_registry := -ljansson -lsodium -lnettle
FUZZ_SRC_archive := $(FUZZ_SRC_oci) image/oci/tarfile.c image/oci/layout.c image/oci/docker.c image/oci/inflate.c lib/host/copy.c lib/host/progress.c
FUZZ_LIBS_archive := -larchive -lz -lzstd -ljansson -lnettle -lpthread
FUZZ_SRC_source := image/build/unpack.c image/build/out.c lib/host/say.c
FUZZ_LIBS_source := -larchive -ljansson
FUZZ_SRC_command := image/command.c lib/host/say.c lib/host/strings.c
FUZZ_SRC_snapshot := monitor/snapfile.c monitor/snappatch.c
FUZZ_LIBS_snapshot := -lnettle
FUZZ_SRC_http := platform/guard.c platform/proxy_protocol.c $(addprefix /usr/share/llhttp/,api.c http.c llhttp.c)
FUZZ_LIBS_http := -w -DLLHTTP_STRICT_MODE=1 -isystem /usr/share/include/llhttp
FUZZ_TARGETS := command elf erofs cli oci archive control appfiles layer registry snapshot source http
define fuzz_rule
build/fuzz/$(1): tests/fuzz/$(1)_fuzz.c $$(FUZZ_SRC_$(1)) $$(wildcard image/*.h image/*/*.h cli/*.h lib/*.h)
	mkdir -p $$(@D)
	clang -std=gnu11 -O1 -g -D_GNU_SOURCE -I. -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -o $$@ $$(filter %.c,$$^) $$(FUZZ_LIBS_$(1))
endef
$(foreach f,$(FUZZ_TARGETS),$(eval $(call fuzz_rule,$(f))))

# Seeds: a program of this machine, and an image with it.
build/fuzz/seeds: build/fuzz/elf
	mkdir -p build/fuzz/seeds.elf build/fuzz/seeds.erofs build/fuzz/seeds.cli build/fuzz/root/bin
	printf 'int main(void) { return 0; }' | $(CC) -s -x c - -o build/fuzz/seeds.elf/small
	cp build/fuzz/seeds.elf/small build/fuzz/root/bin/hello
	ln -sfn bin/hello build/fuzz/root/link
	! command -v mkfs.erofs >/dev/null || mkfs.erofs build/fuzz/seeds.erofs/image build/fuzz/root >/dev/null 2>&1
	for s in 512M 1.5h 127.0.0.1:8080:80 '[::1]:1:2' 10.0.0.0/8:443,1.1.1.1 ./a:/b:ro --memory=1; do \
		echo "$$s" > build/fuzz/seeds.cli/$$(echo "$$s" | tr -c 'a-z0-9\n' _); done
	mkdir -p build/fuzz/seeds.command
	printf '\001xA=1 exec run --port $$A "$${B:-x $$A}" \\a '"'"'q'"'"' # c' > build/fuzz/seeds.command/line
	mkdir -p build/fuzz/seeds.registry
	printf 'hBearer realm="https://a.example/t",service="s",scope="repository:a/b:pull,push", Basic realm="x\\"y"' > build/fuzz/seeds.registry/header
	printf 'a{"auths":{"https://r.example:5000/v2/":{"auth":"dTpw"},"r.example:5000/a":{"username":"u","password":"p"}},"credHelpers":{"r.example":"x"}}' > build/fuzz/seeds.registry/auth
	printf 'k-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n-----END PUBLIC KEY-----\n' > build/fuzz/seeds.registry/key
	printf 'p{"critical":{"identity":{"docker-reference":"a"},"image":{"docker-manifest-digest":"sha256:%s"},"type":"cosign container image signature"},"optional":null}' \
		0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef > build/fuzz/seeds.registry/payload
	mkdir -p build/fuzz/seeds.oci build/fuzz/seeds.archive
	tests/fuzz/oci_seeds build/fuzz/seeds.oci build/fuzz/seeds.archive
	mkdir -p build/fuzz/seeds.layer
	tests/fuzz/layer_seeds build/fuzz/seeds.layer
	mkdir -p build/fuzz/seeds.source
	tests/fuzz/source_seeds build/fuzz/seeds.source
	mkdir -p build/fuzz/seeds.snapshot
	cp tests/fuzz/snapshot_seeds/* build/fuzz/seeds.snapshot/
	mkdir -p build/fuzz/seeds.control
	printf 'Package: own\nVersion: 1\nProvides: own (= 5)\nDepends: own (>= 4)\n\nPackage: a1\nVersion: 1:2-3\nStatus: install ok installed\nDepends: b2 (>= 1) | c3:any, d4\nProvides: b2 (= 2)\n\nPackage: d4\nVersion: 1~x\n' > build/fuzz/seeds.control/two
	mkdir -p build/fuzz/seeds.http
	printf 'rPOST /a?b HTTP/1.1\r\nHost: a.example:80\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nA: b\r\n\r\n' > build/fuzz/seeds.http/chunked
	printf 'rPUT http://a/ HTTP/1.0\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET' > build/fuzz/seeds.http/length
	printf 'aHTTP/1.1 200 OK\r\nContent-Length: 2\r\nSet-Cookie: a=b\r\n\r\nok' > build/fuzz/seeds.http/answer
	printf 'pPROXY TCP4 192.0.2.1 198.51.100.2 50000 443\r\nGET' > build/fuzz/seeds.http/proxy1
	printf 'p\r\n\r\n\0\r\nQUIT\n\041\021\0\020\300\0\002\001\306\063\144\002\303\120\001\273\004\0\001x' > build/fuzz/seeds.http/proxy2
	mkdir -p build/fuzz/seeds.appfiles
	printf '0a = "b"\n[t.u]\nc = [1, {d = true}]\n[[v]]\n' > build/fuzz/seeds.appfiles/toml
	printf '1*.psd\n/a/**/b\n!c[a-z]?\n\nx/y.psd\na/q/b\n' > build/fuzz/seeds.appfiles/ignore
	printf '2web: python3 app.py\n# x\nw-1: y\n' > build/fuzz/seeds.appfiles/procfile
	touch $@

fuzz: $(FUZZ_TARGETS:%=build/fuzz/%) build/fuzz/seeds
	for f in $(FUZZ_TARGETS); do \
		mkdir -p build/fuzz/corpus.$$f build/fuzz/seeds.$$f; \
		timeout $$(( $(FUZZ_SECONDS) + 60 )) build/fuzz/$$f -max_total_time=$(FUZZ_SECONDS) -max_len=32768 -close_fd_mask=2 \
			-artifact_prefix=build/fuzz/$$f- build/fuzz/corpus.$$f build/fuzz/seeds.$$f || exit 1; \
	done

# A hostile guest against the ring server: libFuzzer, so clang. FUZZ_SECONDS as above.
FUZZ_RING_SRC := $(addprefix monitor/,ring_server.c ready.c handles.c net.c net_addr.c net_option.c net_policy.c net_port.c net_unix.c notify.c console.c volume.c gpa.c) lib/host/say.c tests/unit/fake_restore.c
build/fuzz-ring/ring_fuzz: tests/fuzz/ring_fuzz.c $(FUZZ_RING_SRC) $(wildcard monitor/*.h abi/*.h)
	mkdir -p $(@D)/corpus
	clang -std=gnu11 -O1 -g -D_GNU_SOURCE -I. -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -o $@ $(filter %.c,$^)

fuzz-ring: build/fuzz-ring/ring_fuzz
	timeout $$(( $(FUZZ_SECONDS) + 60 )) $< -max_total_time=$(FUZZ_SECONDS) -max_len=2048 -len_control=0 -close_fd_mask=3 -artifact_prefix=build/fuzz-ring/ build/fuzz-ring/corpus

clean:
	rm -rf build


.PHONY: conformance conformance-fetch conformance-docs
.PHONY: stress all platform objects clean help demo check run-tests check-svm bench bench-fork bench-cpus bench-images bench-snapshots bench-34000 bench-router install uninstall format lint fuzz fuzz-ring
-include $(wildcard $(GUEST_OBJ:.o=.d) $(HOST_OBJ:.o=.d) $(PLATFORM_OBJ:.o=.d))
-include tests/unit/unit.mk
