// SPDX-License-Identifier: GPL-2.0-only
/*
 * Functions for what C offers as inline function or macro only: msm_rs_helper_foo() is bindings::foo() in Rust.
 * And the module parameters of the code that Rust replaces.
 */
#include "bindings_helper.h"
#include "../../gpuvm_rs/helpers.c"

#define HELPER(ret, name, ...) ret name(__VA_ARGS__); ret name(__VA_ARGS__)

static uint vm_log_shift;
MODULE_PARM_DESC(vm_log_shift, "Number of VM log entries as a power of two, up to 8 (0: no log)");
module_param(vm_log_shift, uint, 0600);

HELPER(unsigned int, msm_rs_helper_msm_rs_vm_log_shift, void)
{
	return READ_ONCE(vm_log_shift);
}

/* A debug line for userspace's errors, see UERR(). @args is a core::fmt::Arguments. */
HELPER(void, msm_rs_helper_msm_rs_uerr, struct drm_device *dev, const void *args)
{
	DRM_DEV_DEBUG_DRIVER(dev->dev, "%pA\n", args);
}

HELPER(void, msm_rs_helper_msm_rs_printf, struct drm_printer *p, const void *args)
{
	drm_printf(p, "%pA", args);
}

HELPER(struct msm_drm_private *, msm_rs_helper_msm_rs_priv, struct drm_device *dev)
{
	return dev->dev_private;
}

HELPER(bool, msm_rs_helper_msm_context_is_vmbind, struct msm_context *ctx)
{
	return msm_context_is_vmbind(ctx);
}

HELPER(bool, msm_rs_helper_adreno_smmu_has_prr, struct msm_gpu *gpu)
{
	return adreno_smmu_has_prr(gpu);
}

HELPER(void, msm_rs_helper_msm_submitqueue_put, struct msm_gpu_submitqueue *queue)
{
	msm_submitqueue_put(queue);
}

HELPER(int, msm_rs_helper_msm_rs_queue_lock, struct msm_gpu_submitqueue *queue)
{
	return mutex_lock_interruptible(&queue->lock);
}

HELPER(void, msm_rs_helper_msm_rs_queue_unlock, struct msm_gpu_submitqueue *queue)
{
	mutex_unlock(&queue->lock);
}

/* Replaces the fence of a sync file that nobody else has seen yet. */
HELPER(void, msm_rs_helper_msm_rs_sync_file_set, struct sync_file *file, struct dma_fence *fence)
{
	struct dma_fence *old = file->fence;

	file->fence = dma_fence_get(fence);
	dma_fence_put(old);
}

HELPER(void, msm_rs_helper_fput, struct file *file)
{
	fput(file);
}

HELPER(void, msm_rs_helper_put_pid, struct pid *pid)
{
	put_pid(pid);
}

/* Fences may still point at the scheduler in the VM, under RCU. */
HELPER(void, msm_rs_helper_msm_rs_vm_free_rcu, struct msm_gem_vm *vm)
{
	kfree_rcu(vm, rcu);
}

HELPER(u64, msm_rs_helper_ktime_get_ns, void)
{
	return ktime_get_ns();
}

HELPER(int, msm_rs_helper_msm_rs_current_tgid, void)
{
	return current->flags & PF_KTHREAD ? 0 : task_tgid_nr(current);
}

HELPER(unsigned long, msm_rs_helper_totalram_pages, void)
{
	return totalram_pages();
}

HELPER(struct workqueue_struct *, msm_rs_helper_msm_rs_alloc_wq, void)
{
	return alloc_workqueue("msm_rs", WQ_UNBOUND, 0);
}

HELPER(void, msm_rs_helper_msm_rs_module_get, void)
{
	__module_get(THIS_MODULE);
}

HELPER(void, msm_rs_helper_msm_rs_module_put, void)
{
	module_put(THIS_MODULE);
}

HELPER(void, msm_rs_helper_msm_rs_queue_get, struct msm_gpu_submitqueue *queue)
{
	kref_get(&queue->ref);
}

/* The array of msm_syncobj_parse_deps(). */
HELPER(void, msm_rs_helper_msm_rs_syncobjs_free, struct drm_syncobj **syncobjs, u32 nr)
{
	for (u32 i = 0; i < nr; i++) {
		if (syncobjs[i])
			drm_syncobj_put(syncobjs[i]);
	}
	kfree(syncobjs);
}

/* The array of msm_syncobj_parse_post_deps(). */
HELPER(void, msm_rs_helper_msm_rs_post_deps_free, struct msm_syncobj_post_dep *deps, u32 nr)
{
	for (u32 i = 0; i < nr; i++) {
		dma_fence_chain_free(deps[i].chain);
		drm_syncobj_put(deps[i].syncobj);
	}
	kfree(deps);
}

HELPER(void, msm_rs_helper_msm_rs_mm_remove, struct drm_mm_node *node)
{
	if (drm_mm_node_allocated(node))
		drm_mm_remove_node(node);
}
