// SPDX-License-Identifier: GPL-2.0-only
/*
 * What C offers to gpuvm_rs as inline function or macro only: gpuvm_rs_helper_foo() is bindings::foo() in Rust.
 * Included by the C file of the crate that gpuvm_rs is a module of.
 */
#include <drm/drm_exec.h>
#include <drm/drm_gpuvm.h>
#include <drm/gpu_scheduler.h>
#include <linux/dma-fence.h>
#include <linux/dma-resv.h>

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

/* The lock is held, or nobody can reach the object any more. */
GPUVM_RS_HELPER(void, gpuvm_rs_helper_gpuvm_rs_assert_obj_locked, struct drm_gem_object *obj)
{
	lockdep_assert_once(!kref_read(&obj->refcount) || dma_resv_is_locked(obj->resv));
}

/* A ww mutex's context is compared only: another owner's may change meanwhile, but never into ours. */
GPUVM_RS_HELPER(bool, gpuvm_rs_helper_gpuvm_rs_exec_holds, struct drm_exec *exec, struct drm_gem_object *obj)
{
	return READ_ONCE(obj->resv->lock.ctx) == &exec->ticket;
}

GPUVM_RS_HELPER(struct drm_gpuva *, gpuvm_rs_helper_gpuvm_rs_first_va, struct drm_gpuvm *vm)
{
	return list_first_entry_or_null(&vm->rb.list, struct drm_gpuva, rb.entry);
}

#if IS_ENABLED(CONFIG_KUNIT)
#include <drm/drm_device.h>
#include <drm/drm_vma_manager.h>

/* As much of a device as a GPUVM and GEM objects without backing need. Never unreferenced for the last time. */
struct gpuvm_rs_test_device {
	struct drm_device drm;
	struct drm_vma_offset_manager offsets;
};

GPUVM_RS_HELPER(struct drm_device *, gpuvm_rs_helper_gpuvm_rs_test_device_new, void)
{
	struct gpuvm_rs_test_device *dev = kzalloc(sizeof(*dev), GFP_KERNEL);

	if (!dev)
		return NULL;
	kref_init(&dev->drm.ref);
	mutex_init(&dev->drm.gem_lru_mutex);
	drm_vma_offset_manager_init(&dev->offsets, DRM_FILE_PAGE_OFFSET_START, DRM_FILE_PAGE_OFFSET_SIZE);
	dev->drm.vma_offset_manager = &dev->offsets;
	return &dev->drm;
}

/* Returns how many references there were besides the first. */
GPUVM_RS_HELPER(int, gpuvm_rs_helper_gpuvm_rs_test_device_free, struct drm_device *drm)
{
	struct gpuvm_rs_test_device *dev = container_of(drm, struct gpuvm_rs_test_device, drm);
	int others = kref_read(&drm->ref) - 1;

	drm_vma_offset_manager_destroy(&dev->offsets);
	kfree(dev);
	return others;
}
#endif
