/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The C headers that the crate needs, for bindgen and for helpers.c.
 */
#include <drm/drm_drv.h>
#include <drm/drm_dumb_buffers.h>
#include <drm/drm_exec.h>
#include <drm/drm_file.h>
#include <drm/drm_fourcc.h>
#include <drm/drm_gpuvm.h>
#include <drm/drm_prime.h>
#include <drm/drm_print.h>
#include <drm/drm_syncobj.h>
#include <drm/gpu_scheduler.h>
#include <linux/dma-buf.h>
#include <linux/dma-fence.h>
#include <linux/dma-fence-chain.h>
#include <linux/dma-mapping.h>
#include <linux/adreno-smmu-priv.h>
#include <linux/dma-resv.h>
#include <linux/io-pgtable.h>
#include <linux/pagemap.h>
#include <linux/pm_runtime.h>
#include <linux/module.h>
#include <linux/notifier.h>
#include <linux/semaphore.h>
#include <linux/seq_file.h>
#include <linux/shmem_fs.h>
#include <linux/shrinker.h>
#include <linux/swap.h>
#include <linux/sync_file.h>
#include <linux/vmalloc.h>
#include <linux/workqueue.h>

#include "msm_drv.h"
#include "msm_gem.h"
#include "msm_fence.h"
#include "msm_gpu.h"
#include "msm_gpu_trace.h"
#include "msm_kms.h"
#include "msm_mmu.h"
#include "msm_syncobj.h"
#include "../msm_rs.h"
#include "msm_rs_trace.h"

/* What makes an object a BO of this driver; it is in Rust. */
extern const struct drm_gem_object_funcs msm_rs_gem_funcs;
