// SPDX-License-Identifier: GPL-2.0-only
/*
 * What C offers to gpuvm_rs as inline function or macro only: gpuvm_rs_helper_foo() is
 * bindings::foo() in Rust. Included by the C file of the crate that gpuvm_rs is a module of.
 */
#include <drm/drm_exec.h>
#include <drm/drm_gpuvm.h>
#include <drm/gpu_scheduler.h>
#include <linux/dma-fence.h>
#include <linux/dma-resv.h>
#include <linux/freezer.h>
#include <linux/sched/mm.h>
#include <linux/shrinker.h>
#include <linux/swap.h>
#include <linux/workqueue.h>

/* Defines a function that nothing in C calls. */
#define GPUVM_RS_HELPER(ret, name, ...) ret name(__VA_ARGS__); ret name(__VA_ARGS__)

enum {
	DRM_EXEC_FLAG_INTERRUPTIBLE_WAIT = DRM_EXEC_INTERRUPTIBLE_WAIT,
	DRM_EXEC_FLAG_IGNORE_DUPLICATES = DRM_EXEC_IGNORE_DUPLICATES,
};

GPUVM_RS_HELPER(void, gpuvm_rs_helper_drm_gem_object_get, struct drm_gem_object *obj)
{
	drm_gem_object_get(obj);
}

GPUVM_RS_HELPER(void, gpuvm_rs_helper_drm_gem_object_put, struct drm_gem_object *obj)
{
	drm_gem_object_put(obj);
}

GPUVM_RS_HELPER(void, gpuvm_rs_helper_drm_gpuvm_get, struct drm_gpuvm *vm)
{
	drm_gpuvm_get(vm);
}

GPUVM_RS_HELPER(void, gpuvm_rs_helper_drm_gpuvm_bo_get, struct drm_gpuvm_bo *vm_bo)
{
	drm_gpuvm_bo_get(vm_bo);
}

GPUVM_RS_HELPER(void, gpuvm_rs_helper_dma_fence_get, struct dma_fence *fence)
{
	dma_fence_get(fence);
}

GPUVM_RS_HELPER(void, gpuvm_rs_helper_dma_fence_put, struct dma_fence *fence)
{
	dma_fence_put(fence);
}

GPUVM_RS_HELPER(bool, gpuvm_rs_helper_dma_fence_is_signaled, struct dma_fence *fence)
{
	return dma_fence_is_signaled(fence);
}

GPUVM_RS_HELPER(long, gpuvm_rs_helper_dma_fence_wait, struct dma_fence *fence, bool interruptible)
{
	return dma_fence_wait(fence, interruptible);
}

/* Takes a VMA off its vm_bo's list. The object is locked. */
GPUVM_RS_HELPER(void, gpuvm_rs_helper_gpuvm_rs_unlink, struct drm_gpuva *va)
{
	list_del_init(&va->gem.entry);
}

GPUVM_RS_HELPER(void *, gpuvm_rs_helper_gpuvm_rs_kmalloc, size_t size)
{
	return kmalloc(size, GFP_KERNEL);
}

/* The lock is held, or nobody can reach the object any more. */
GPUVM_RS_HELPER(void, gpuvm_rs_helper_gpuvm_rs_assert_obj_locked, struct drm_gem_object *obj)
{
	lockdep_assert_once(!kref_read(&obj->refcount) || dma_resv_is_locked(obj->resv));
}

GPUVM_RS_HELPER(struct drm_gpuva *, gpuvm_rs_helper_gpuvm_rs_first_va, struct drm_gpuvm *vm)
{
	return list_first_entry_or_null(&vm->rb.list, struct drm_gpuva, rb.entry);
}

GPUVM_RS_HELPER(void, gpuvm_rs_helper_gpuvm_rs_obj_lock, struct drm_gem_object *obj)
{
	dma_resv_lock(obj->resv, NULL);
}

GPUVM_RS_HELPER(int, gpuvm_rs_helper_gpuvm_rs_obj_lock_interruptible, struct drm_gem_object *obj)
{
	return dma_resv_lock_interruptible(obj->resv, NULL);
}

GPUVM_RS_HELPER(bool, gpuvm_rs_helper_gpuvm_rs_obj_trylock, struct drm_gem_object *obj)
{
	return dma_resv_trylock(obj->resv);
}

GPUVM_RS_HELPER(void, gpuvm_rs_helper_gpuvm_rs_obj_unlock, struct drm_gem_object *obj)
{
	dma_resv_unlock(obj->resv);
}

GPUVM_RS_HELPER(bool, gpuvm_rs_helper_dma_resv_trylock, struct dma_resv *resv)
{
	return dma_resv_trylock(resv);
}

GPUVM_RS_HELPER(void, gpuvm_rs_helper_dma_resv_unlock, struct dma_resv *resv)
{
	dma_resv_unlock(resv);
}

GPUVM_RS_HELPER(bool, gpuvm_rs_helper_gpuvm_rs_obj_get_unless_zero, struct drm_gem_object *obj)
{
	return kref_get_unless_zero(&obj->refcount);
}

/* Drops a reference unless it is the last one. */
GPUVM_RS_HELPER(bool, gpuvm_rs_helper_gpuvm_rs_obj_put_not_last, struct drm_gem_object *obj)
{
	return refcount_dec_not_one(&obj->refcount.refcount);
}

GPUVM_RS_HELPER(void, gpuvm_rs_helper_gpuvm_rs_lru_lock, struct drm_device *dev)
{
	mutex_lock(&dev->gem_lru_mutex);
}

GPUVM_RS_HELPER(void, gpuvm_rs_helper_gpuvm_rs_lru_unlock, struct drm_device *dev)
{
	mutex_unlock(&dev->gem_lru_mutex);
}

/* Moves all objects to the end of another LRU. The lock is held. */
GPUVM_RS_HELPER(void, gpuvm_rs_helper_gpuvm_rs_lru_splice_tail, struct drm_gem_lru *from,
		struct drm_gem_lru *to)
{
	struct drm_gem_object *obj;

	list_for_each_entry(obj, &from->list, lru_node)
		obj->lru = to;
	list_splice_tail_init(&from->list, &to->list);
	to->count += from->count;
	from->count = 0;
}

GPUVM_RS_HELPER(void, gpuvm_rs_helper_gpuvm_rs_work_init, struct work_struct *work,
		work_func_t func)
{
	INIT_WORK(work, func);
}

GPUVM_RS_HELPER(void, gpuvm_rs_helper_gpuvm_rs_work_queue, struct work_struct *work)
{
	queue_work(system_dfl_wq, work);
}

GPUVM_RS_HELPER(unsigned long, gpuvm_rs_helper_gpuvm_rs_msecs_to_jiffies, unsigned int ms)
{
	return msecs_to_jiffies(ms);
}

GPUVM_RS_HELPER(void, gpuvm_rs_helper_mm_account_reclaimed_pages, unsigned long pages)
{
	mm_account_reclaimed_pages(pages);
}

/*
 * What an allocation with these flags lets a shrinker do for it: wait, and have pages written to
 * swap.
 */
GPUVM_RS_HELPER(bool, gpuvm_rs_helper_gpuvm_rs_gfp_may_wait, gfp_t gfp)
{
	return (gfp & __GFP_DIRECT_RECLAIM) ||
		(current_is_kswapd() && (gfp & __GFP_KSWAPD_RECLAIM));
}

GPUVM_RS_HELPER(bool, gpuvm_rs_helper_gpuvm_rs_gfp_may_swap, gfp_t gfp)
{
	return gfp & __GFP_IO;
}

/* Around a scan that no reclaim has asked for: lockdep checks it as if one had. */
GPUVM_RS_HELPER(void, gpuvm_rs_helper_gpuvm_rs_reclaim_begin, void)
{
	fs_reclaim_acquire(GFP_KERNEL);
}

GPUVM_RS_HELPER(void, gpuvm_rs_helper_gpuvm_rs_reclaim_end, void)
{
	fs_reclaim_release(GFP_KERNEL);
}

/*
 * Locks two resvs, or the one that both are. Unlike drm_exec it needs no memory and so can't fail.
 */
GPUVM_RS_HELPER(void, gpuvm_rs_helper_gpuvm_rs_lock_pair, struct ww_acquire_ctx *ctx,
		struct dma_resv *a,
		struct dma_resv *b)
{
	ww_acquire_init(ctx, &reservation_ww_class);
	/* The first lock of a context never makes it back off. */
	WARN_ON(dma_resv_lock(a, ctx));
	while (a != b && dma_resv_lock(b, ctx) == -EDEADLK) {
		dma_resv_unlock(a);
		dma_resv_lock_slow(b, ctx);
		swap(a, b);
	}
	ww_acquire_done(ctx);
}

GPUVM_RS_HELPER(void, gpuvm_rs_helper_gpuvm_rs_unlock_pair, struct ww_acquire_ctx *ctx,
		struct dma_resv *a,
		struct dma_resv *b)
{
	if (a != b)
		dma_resv_unlock(b);
	dma_resv_unlock(a);
	ww_acquire_fini(ctx);
}

GPUVM_RS_HELPER(unsigned int, gpuvm_rs_helper_gpuvm_rs_usage_rw, bool write)
{
	return dma_resv_usage_rw(write);
}

/* A reference to one of its fences that isn't signalled, or NULL. */
GPUVM_RS_HELPER(struct dma_fence *, gpuvm_rs_helper_gpuvm_rs_resv_busy, struct dma_resv *resv)
{
	struct dma_resv_iter cursor;
	struct dma_fence *fence;

	dma_resv_iter_begin(&cursor, resv, DMA_RESV_USAGE_BOOKKEEP);
	fence = dma_fence_get(dma_resv_iter_first_unlocked(&cursor));
	dma_resv_iter_end(&cursor);
	return fence;
}

/* As above, of those that don't belong to jobs of a scheduler. */
GPUVM_RS_HELPER(struct dma_fence *, gpuvm_rs_helper_gpuvm_rs_resv_busy_but, struct dma_resv *resv,
		const struct drm_gpu_scheduler *sched)
{
	struct dma_resv_iter cursor;
	struct dma_fence *fence;

	dma_resv_iter_begin(&cursor, resv, DMA_RESV_USAGE_BOOKKEEP);
	dma_resv_for_each_fence_unlocked(&cursor, fence) {
		struct drm_sched_fence *job = to_drm_sched_fence(fence);

		if (!job || job->sched != sched) {
			dma_fence_get(fence);
			break;
		}
	}
	dma_resv_iter_end(&cursor);
	return fence;
}

/* As above, of those that belong to jobs of a DRM client. */
GPUVM_RS_HELPER(struct dma_fence *, gpuvm_rs_helper_gpuvm_rs_resv_busy_of, struct dma_resv *resv,
		u64 client)
{
	struct dma_resv_iter cursor;
	struct dma_fence *fence;

	dma_resv_iter_begin(&cursor, resv, DMA_RESV_USAGE_BOOKKEEP);
	dma_resv_for_each_fence_unlocked(&cursor, fence) {
		struct drm_sched_fence *job = to_drm_sched_fence(fence);

		if (job && job->drm_client_id == client) {
			dma_fence_get(fence);
			break;
		}
	}
	dma_resv_iter_end(&cursor);
	return fence;
}

/*
 * Waits for its fences, but for those that belong to jobs of a scheduler. Looks every 50 ms whether
 * it was killed, or is to be frozen.
 */
GPUVM_RS_HELPER(int, gpuvm_rs_helper_gpuvm_rs_resv_wait_for_all_but, struct dma_resv *resv,
		const struct drm_gpu_scheduler *sched)
{
	struct dma_fence **fences;
	unsigned int nr, i;
	int ret;

	ret = dma_resv_get_fences(resv, DMA_RESV_USAGE_BOOKKEEP, &nr, &fences);
	if (ret)
		return ret;
	for (i = 0; i < nr; i++) {
		struct drm_sched_fence *job = to_drm_sched_fence(fences[i]);

		while (!ret && (!job || job->sched != sched)) {
			long left = dma_fence_wait_timeout(fences[i], false, HZ / 20);

			if (left > 0)
				break;
			/* The error is for who has a signal: the freezer's comes a little later. */
			if (left < 0)
				ret = left;
			else if (fatal_signal_pending(current) ||
				 (freezing(current) && signal_pending(current)))
				ret = -ERESTARTSYS;
		}
		dma_fence_put(fences[i]);
	}
	kfree(fences);
	return ret;
}

/*
 * Says that the pages are gone. The VM is locked, so that an external object can go on the list of
 * what is to be validated where drm_gpuvm_bo_evict() leaves that to who walks along all of them.
 */
GPUVM_RS_HELPER(void, gpuvm_rs_helper_gpuvm_rs_bo_evict, struct drm_gpuvm_bo *vm_bo)
{
	struct drm_gpuvm *vm = vm_bo->vm;

	drm_gpuvm_resv_assert_held(vm);
	drm_gpuvm_bo_evict(vm_bo, true);
	if (drm_gpuvm_resv_protected(vm) && list_empty(&vm_bo->list.entry.evict))
		list_add_tail(&vm_bo->list.entry.evict, &vm->evict.list);
}

GPUVM_RS_HELPER(bool, gpuvm_rs_helper_drm_gem_is_imported, struct drm_gem_object *obj)
{
	return drm_gem_is_imported(obj);
}

#if IS_ENABLED(CONFIG_KUNIT)
#include "test_helpers.c"
#endif
