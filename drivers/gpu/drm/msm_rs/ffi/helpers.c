// SPDX-License-Identifier: GPL-2.0-only
/*
 * Functions for what C offers as inline function or macro only: msm_rs_helper_foo() is
 * bindings::foo() in Rust. And the module parameters of the code that Rust replaces.
 */
#include "bindings_helper.h"
#include "../../gpuvm_rs/helpers.c"
#include <trace/events/gpu_mem.h>
#include <drm/drm_debugfs.h>
#include <linux/mm_inline.h>
#include <linux/rwsem.h>
#include "msm_gpu_trace.h"

#define HELPER(ret, name, ...) ret name(__VA_ARGS__); ret name(__VA_ARGS__)

/* One file a noun, as the files in Rust beside this one. */
#include "helpers/module.c"
#include "helpers/caller.c"
#include "helpers/queue.c"
#include "helpers/fences.c"
#include "helpers/submit.c"
#include "helpers/effort.c"
#include "helpers/bo.c"
#include "helpers/pages.c"
#include "helpers/kms.c"
#include "helpers/mmap.c"
#include "helpers/lrus.c"
#include "helpers/vm.c"
#include "helpers/smmu.c"
#include "helpers/seq.c"
#include "helpers/debugfs.c"
#include "helpers/trace.c"
#include "helpers/test_device.c"
