/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the C that stays calls in Rust, besides the functions that its own headers declare.
 */
#ifndef __MSM_RS_H__
#define __MSM_RS_H__

#include <linux/types.h>

struct drm_device;
struct drm_gpuvm;
struct drm_printer;
struct msm_gem_submit;
struct msm_gpu;
struct msm_mmu;
struct msm_rd_state;
struct msm_rs_vm_log;
struct seq_file;

#ifdef CONFIG_DRM_MSM_RS

/* Module load and unload. Unloading waits until everything that was freed late is gone. */
int msm_rs_init(void);
void msm_rs_exit(void);

/* debugfs' gpuvas: a show() of struct drm_info_list. */
int msm_rs_gpuvas_show(struct seq_file *m, void *arg);

/* Whether somebody reads the debugfs file: submits are recorded. Defined by msm_rd.c. */
bool msm_rd_is_read(const struct msm_rd_state *rd);

/* Before the device has BOs: those of 2 MiB and more may have large pages. */
void msm_rs_use_large_pages(struct drm_device *dev);

/*
 * The GPU is about to be taken away, and all files are closed: waits until no submit is left,
 * and nothing of the closed VMs uses it any more. What is left of VMs whose bind jobs wait for
 * fences has no mappings, and doesn't touch it.
 */
void msm_rs_flush(void);

/*
 * The GPU's domain is about to be detached: nobody translates by its per-process page tables any
 * more.
 */
void msm_rs_domain_gone(struct msm_mmu *domain);

/* What msm_submit_retire() has left of a submit's BOs. Called by a work item of helpers.c. */
void msm_rs_retire_rest(struct msm_gem_submit *submit);

/* The file of a VM_BIND context is being closed: bind jobs that wait for a fence never run. */
void msm_rs_vm_cancel(struct drm_gpuvm *vm);

/*
 * The GPU sleeps with the system, or until it is bound again: it has no power, but its SMMU still
 * has its clocks. And before it has power again.
 */
void msm_rs_gpu_asleep(struct msm_gpu *gpu);
void msm_rs_gpu_awake(void);

/* The GPU resumes, be it for the first time. Its SMMU is active, and its CP isn't started yet. */
void msm_rs_gpu_resumes(struct msm_gpu *gpu);

/*
 * The VM log for a devcoredump, and what is to be known of the submit that is blamed: copied when
 * the GPU faults, printed when it is read. NULL if there is no log. fault: when the fault was
 * noticed, CLOCK_MONOTONIC in ns; 0 for a hang.
 */
struct msm_rs_vm_log *msm_rs_vm_log_capture(struct msm_gem_submit *submit, u64 fault);
void msm_rs_vm_log_print(const struct msm_rs_vm_log *log, struct drm_printer *p);
void msm_rs_vm_log_free(struct msm_rs_vm_log *log);

#else

static inline int msm_rs_init(void)
{
	return 0;
}

static inline void msm_rs_use_large_pages(struct drm_device *dev)
{
}

static inline void msm_rs_exit(void)
{
}

static inline void msm_rs_flush(void)
{
}

static inline void msm_rs_domain_gone(struct msm_mmu *domain)
{
}

static inline void msm_rs_vm_cancel(struct drm_gpuvm *vm)
{
}

static inline void msm_rs_gpu_asleep(struct msm_gpu *gpu)
{
}

static inline void msm_rs_gpu_awake(void)
{
}

static inline void msm_rs_gpu_resumes(struct msm_gpu *gpu)
{
}

static inline struct msm_rs_vm_log *msm_rs_vm_log_capture(struct msm_gem_submit *submit, u64 fault)
{
	return NULL;
}

static inline void msm_rs_vm_log_print(const struct msm_rs_vm_log *log, struct drm_printer *p)
{
}

static inline void msm_rs_vm_log_free(struct msm_rs_vm_log *log)
{
}

#endif
#endif
