/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The C headers that the crate needs, for bindgen and for helpers.c.
 */
#include <drm/drm_exec.h>
#include <drm/drm_gpuvm.h>
#include <drm/gpu_scheduler.h>

#include "msm_drv.h"
#include "msm_gem.h"
#include "msm_gpu.h"
#include "msm_mmu.h"
