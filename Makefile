# SPDX-License-Identifier: GPL-2.0-only
#
# Every target prepares what it needs; `make help` lists them.

# Which kernel a module is built for and tested on (stock, debug), and whose memory manager it has (rust, stock).
KERNEL ?= stock
VARIANT ?= rust

.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# The kernel's own switches go through to its build.
kbuild-args := $(foreach name,V W C CF CLIPPY KCFLAGS KRUSTFLAGS KBUILD_MODPOST_WARN,$(if $($(name)),$(name)=$($(name))))
unexport $(foreach name,V W C CF CLIPPY KCFLAGS KRUSTFLAGS,$(name))
# Without it what is built says what it does and how long it takes; the compilers' lines are in logs.
export MSM_RS_VERBOSE := $(filter-out 0,$(V))

.PHONY: help
help:
	@sed -n 's/^#: \?//p' $(MAKEFILE_LIST)

#: msm_rs: a GPU memory manager in Rust for Linux's msm driver
#:
#: Building
#:   make setup            prepare the toolchain and the kernel's source (every target does that by itself)
#:   make module           msm.ko for Debian's arm64 kernel: build/module/msm.ko
#:                           KERNEL=debug   for the debugging kernel instead
#:                           VARIANT=stock  with the C memory manager, for comparing
#:                           KVER=RELEASE   for another of Debian's kernels, as `uname -r` says on the device: build/module-RELEASE/msm.ko;
#:                                          make kernels lists them
#:                           KDIR=DIR       for the kernel of that prepared object tree, which needs Rust and pages of 4 KiB: build/module-own/msm.ko
#:                           CLIPPY=1       check the Rust code with clippy, warnings are errors
#:                         V=1 shows what the compilers say, here and wherever something is built; otherwise it is in build/log
.PHONY: setup module kernels
setup:
	@scripts/setup

kernels:
	@scripts/kernels

module:
	@KDIR='$(KDIR)' scripts/module --kernel '$(or $(KVER),$(KERNEL))' --variant $(VARIANT) $(kbuild-args)

#:   make lint             rustfmt, clippy, sparse, modpost, shellcheck; fmt-check for rustfmt alone
#:   make fmt              format all Rust code
#:   make docs             Documentation/ as HTML, with search: build/docs/index.html
.PHONY: lint fmt-check fmt docs
lint:
	@scripts/lint

fmt-check:
	@scripts/lint fmt

fmt:
	@scripts/setup packages
	@find drivers tools tests -name target -prune -o -name '*.rs' -print0 | xargs -0 scripts/in-root rustfmt --edition 2021

docs:
	@scripts/docs

#:
#: Installing
#:   make install          msm.ko into DESTDIR/lib/modules/KVER/updates, and depmod
#:                           DESTDIR=DIR    another system's root directory than this one's
#:                           KVER=RELEASE   the kernel there (default: the one the module is for)
#:   make uninstall        takes it out again: the distribution's msm.ko is back. DESTDIR and KVER as above (default: the one kernel that has it)
#:   make overlay KDIR=DIR         adds CONFIG_DRM_MSM_RS to a kernel source tree
#:   make overlay-remove KDIR=DIR  takes it out again
#:   make install-tool     tools/devcoredump, with manual pages, completions, the collector's unit and its udev rule; DESTDIR=DIR as above,
#:                         ARCH=arm64 builds it for a device
#:   make triage-page      the page that explains a dump dropped on it in the browser, for any server of static files: build/triage-page
#:   make deb              Debian packages of all of it, in build/deb, with a way back: Documentation/install.rst
#:   make series OUT=DIR   a patch series for maintainers, with a cover letter: for `git am` on a vanilla tree of the line
.PHONY: install uninstall install-tool triage-page overlay overlay-remove deb series
install: module
	@DESTDIR='$(DESTDIR)' KVER='$(KVER)' scripts/install

uninstall:
	@DESTDIR='$(DESTDIR)' KVER='$(KVER)' scripts/install --remove

install-tool:
	@DESTDIR='$(DESTDIR)' ARCH='$(ARCH)' tools/devcoredump/install

triage-page:
	@tools/devcoredump/page/build

overlay:
	@scripts/overlay '$(KDIR)'

overlay-remove:
	@scripts/overlay --remove '$(KDIR)'

deb:
	@scripts/deb

series:
	@scripts/series '$(OUT)'

#:
#: Trying and testing, on a virtual Adreno in QEMU
#:   make run              the demonstration: a VM_BIND workload, a GPU fault, what its crash dump says
#:   make test             the test suite; TESTS="alias hostile" for some of them, tests/run-tests --help for more. What takes long and finds
#:                           little comes each second or third time: TURN=N says when
#:   make test-all         all of it
#:   make host-test        those that need no guest
#:   make defects          what the kernel's own msm.ko does in the tests of its known defects
#:   make fuzz             mutated crash dumps, command streams and kernel logs for tools/devcoredump, ten minutes of each
#:   make golden           new dumps for the tests of tools/devcoredump, from runs with both modules
#:   make public-dumps     compares tools/devcoredump with crashdec on the dumps in Mesa's source, which is fetched (some 50 MB)
#:   tests/vm -- CMD       a command of your own in a guest, see tests/vm --help
#:   make differential     random programs of ioctls, on both modules; SEED=N for others than in make test, COUNT=N
#:   make orders           all orders of up to six events around a bind that waits, on both kernels; make test plays a share
#:                           of them, which SEED=N chooses. tests/orders/run --help for more
#:   make matrix           msm.ko for each of Debian's kernels that make kernels lists, and on each what make test runs on the stock kernel,
#:                         with both modules: a table, for README.md. KVER=RELEASE for one of them, GO_ON=1 after a run that was interrupted
#:   make test-gpus        what make test runs on the stock kernel, on other virtual GPUs: one with a GMU, one without page tables for each
#:                         process; both modules. GPUS="a618" for some of them
#:   make boot             the packages' way back with Debian's kmod, in a guest for each case
#:   make dkms             the packages, and what DKMS builds, on this machine
#:   make installed        the packages on a device, from boot to boot: a Debian with systemd and initramfs-tools, an upgrade of its kernel, what is
#:                         damaged, removal; build/installed/transcript.txt. FROM=N goes on with the Nth boot
#:   make soak             random programs on and on, with signals, failing allocations, sleep, kills, faults and hangs of others,
#:                           on the debug kernel (KERNEL=stock for Debian's) from SEED=N on; MINUTES=N or PROGRAMS=N for an end.
#:                           Before that what takes long of reclaim, on Debian's: 256 MiB from a slow swap, BOs twice as large as memory
#:   make properties       the pure modules' properties, each in a million cases, and the planner's with a million ops; CASES=N
#:   make coverage         which lines of the pure modules the host tests run, and whether it has become less
#:   make mutants          breaks the module on purpose, in one way after another, and says which test notices
.PHONY: run test test-all host-test defects fuzz golden public-dumps differential orders soak properties coverage mutants matrix test-gpus boot dkms installed
run:
	@tests/run

test:
	@tests/run-tests $(TESTS)

test-all:
	@tests/run-tests --all

host-test:
	@tests/run-tests --host

defects:
	@tests/run-tests --defects $(TESTS)

fuzz:
	@tools/devcoredump/fuzz/run

golden:
	@tools/devcoredump/tests/golden/update

public-dumps:
	@tools/devcoredump/tests/public/run

differential:
	@tests/differential/run $(if $(SEED),--from $(SEED)) $(if $(COUNT),--count $(COUNT))

orders:
	@tests/orders/run

matrix:
	@tests/matrix/run $(if $(GO_ON),--go-on) $(KVER)

test-gpus:
	@tests/gpus/run $(GPUS)

boot:
	@tests/boot/run

dkms:
	@tests/dkms/run

installed:
	@tests/installed/run $(if $(FROM),--from $(FROM))

soak: KERNEL = debug
soak:
	@tests/vm --kernel stock --slow-disk=640:200 --timeout 1200 -- env MIB=256 slow-swap --timeout 600
	@tests/vm --kernel stock --mem=640M --timeout 1200 -- env PERCENT=200 pressure --timeout 1100
	@tests/differential/run --soak --kernel $(KERNEL) --from $(or $(SEED),$(shell date +%s)) --cpus 1 --jobs $(or $(MSM_RS_JOBS),$(shell nproc)) \
		$(if $(MINUTES),--minutes $(MINUTES)) $(if $(PROGRAMS),--programs $(PROGRAMS))

properties:
	@scripts/setup packages
	@scripts/in-root env CARGO_TARGET_DIR=$(CURDIR)/build/cargo-host PROPTEST_CASES=$(or $(CASES),1000000) \
		cargo test --locked --release --manifest-path tests/pure/Cargo.toml --test '*'
	@tests/planner $(or $(CASES),1000000)

coverage:
	@tests/coverage/run

mutants:
	@tests/mutants/run

#:
#: Measuring, in instructions, beside the stock module
#:   make bench            all scenarios, or SCENARIO="map close" for those whose names begin so; two runs of each module.
#:                         A table; build/bench/bench.json, and bench.svg: cost against size
#:   make bench-check      as bench; fails when a ratio is worse than in tests/bench/baseline.json by more than 5 %
.PHONY: bench bench-check
bench:
	@tests/bench/run $(SCENARIO)

bench-check:
	@tests/bench/run --check $(SCENARIO)

#:
#: Cleaning
#:   make clean            removes what was built here
#:   make distclean        removes the cache as well (toolchain, kernel's source)
#:
#: The cache is $MSM_RS_CACHE (~/.cache/msm_rs). MSM_RS_MIRROR=URL chooses a Debian mirror other than this machine's apt
#: does, MSM_RS_JOBS=N the number of parallel jobs.
.PHONY: clean distclean
clean:
	rm -rf build

distclean: clean
	@scripts/distclean
