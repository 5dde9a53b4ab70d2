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
#:                           CLIPPY=1       check the Rust code with clippy, warnings are errors
.PHONY: setup module
setup:
	@scripts/setup

module:
	@scripts/module --kernel $(KERNEL) --variant $(VARIANT) $(kbuild-args)
