// SPDX-License-Identifier: GPL-2.0-only
/*
 * What KUnit tests of gpuvm_rs need in C. Included by helpers.c.
 */
#include <drm/drm_device.h>
#include <drm/drm_drv.h>
#include <drm/drm_vma_manager.h>
#include <linux/device/faux.h>
#include <linux/highmem.h>
#include <linux/shmem_fs.h>

/*
 * As much of a device as a GPUVM and GEM objects without backing need. Never unreferenced for the
 * last time.
 */
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
	drm_vma_offset_manager_init(&dev->offsets, DRM_FILE_PAGE_OFFSET_START,
				    DRM_FILE_PAGE_OFFSET_SIZE);
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

enum {
	GPUVM_RS_GFP_KERNEL = (__force unsigned int)GFP_KERNEL,
	GPUVM_RS_GFP_NOIO = (__force unsigned int)GFP_NOIO,
};

/* A whole device, on the faux bus, whose objects have shmem behind them. */
static const struct drm_driver gpuvm_rs_faux_driver = {
	.driver_features = DRIVER_GEM,
	.name = "gpuvm_rs_test",
	.desc = "KUnit",
};

GPUVM_RS_HELPER(struct drm_device *, gpuvm_rs_helper_gpuvm_rs_faux_new, struct faux_device **faux)
{
	static atomic_t count;
	struct drm_device *drm;
	char name[32];

	/* A test that fails leaves its device behind. */
	snprintf(name, sizeof(name), "gpuvm_rs_test.%d", atomic_inc_return(&count));
	*faux = faux_device_create(name, NULL, NULL);
	if (!*faux)
		return NULL;
	drm = drm_dev_alloc(&gpuvm_rs_faux_driver, &(*faux)->dev);
	if (IS_ERR(drm)) {
		faux_device_destroy(*faux);
		return NULL;
	}
	return drm;
}

/* Returns how many references to the device there were besides the first. */
GPUVM_RS_HELPER(int, gpuvm_rs_helper_gpuvm_rs_faux_free, struct faux_device *faux,
		struct drm_device *drm)
{
	int others = kref_read(&drm->ref) - 1;

	drm_dev_put(drm);
	faux_device_destroy(faux);
	return others;
}

/* The toy driver's object: what it holds says everything. Its resv guards it. */
struct gpuvm_rs_toy {
	struct drm_gem_object base;
	struct page **pages;
	bool needed;
	atomic_t *alive;
};

static void gpuvm_rs_toy_free(struct drm_gem_object *obj)
{
	struct gpuvm_rs_toy *toy = container_of(obj, struct gpuvm_rs_toy, base);

	if (toy->pages)
		drm_gem_put_pages(obj, toy->pages, false, false);
	drm_gem_object_release(obj);
	atomic_dec(toy->alive);
	kfree(toy);
}

static const struct drm_gem_object_funcs gpuvm_rs_toy_funcs = {
	.free = gpuvm_rs_toy_free,
};

/* @alive counts the objects and outlives them. */
GPUVM_RS_HELPER(struct drm_gem_object *, gpuvm_rs_helper_gpuvm_rs_toy_new, struct drm_device *drm,
		size_t size,
		atomic_t *alive)
{
	struct gpuvm_rs_toy *toy = kzalloc(sizeof(*toy), GFP_KERNEL);

	if (!toy)
		return NULL;
	toy->base.funcs = &gpuvm_rs_toy_funcs;
	toy->needed = true;
	toy->alive = alive;
	if (drm_gem_object_init(drm, &toy->base, size)) {
		drm_gem_private_object_fini(&toy->base);
		kfree(toy);
		return NULL;
	}
	atomic_inc(alive);
	return &toy->base;
}

/* Gets the pages, if they aren't there. Locked. */
GPUVM_RS_HELPER(int, gpuvm_rs_helper_gpuvm_rs_toy_get_pages, struct drm_gem_object *obj)
{
	struct gpuvm_rs_toy *toy = container_of(obj, struct gpuvm_rs_toy, base);
	struct page **pages;

	if (toy->pages)
		return 0;
	pages = drm_gem_get_pages(obj);
	if (IS_ERR(pages))
		return PTR_ERR(pages);
	toy->pages = pages;
	return 0;
}

/* Gives the pages back, and their content if it isn't needed. Locked. */
GPUVM_RS_HELPER(void, gpuvm_rs_helper_gpuvm_rs_toy_put_pages, struct drm_gem_object *obj)
{
	struct gpuvm_rs_toy *toy = container_of(obj, struct gpuvm_rs_toy, base);

	drm_gem_put_pages(obj, toy->pages, true, false);
	toy->pages = NULL;
	if (!toy->needed)
		shmem_truncate_range(file_inode(obj->filp), 0, (loff_t)-1);
}

/* The first word of a page that is there. Locked. */
GPUVM_RS_HELPER(u64 *, gpuvm_rs_helper_gpuvm_rs_toy_word, struct drm_gem_object *obj, u64 page)
{
	struct gpuvm_rs_toy *toy = container_of(obj, struct gpuvm_rs_toy, base);

	return page_address(toy->pages[page]);
}

/*
 * A fence that work signals after a while, once it has had the object's lock and the LRUs': never,
 * while somebody who holds one of them waits for it.
 */
struct gpuvm_rs_test_fence {
	struct dma_fence base;
	spinlock_t lock; /* of @base */
	struct delayed_work work;
	struct drm_gem_object *obj;
};

static const char *gpuvm_rs_test_fence_name(struct dma_fence *fence)
{
	return "gpuvm_rs_test";
}

static const struct dma_fence_ops gpuvm_rs_test_fence_ops = {
	.get_driver_name = gpuvm_rs_test_fence_name,
	.get_timeline_name = gpuvm_rs_test_fence_name,
};

static void gpuvm_rs_test_fence_work(struct work_struct *work)
{
	struct gpuvm_rs_test_fence *fence = container_of(to_delayed_work(work),
							 struct gpuvm_rs_test_fence, work);

	dma_resv_lock(fence->obj->resv, NULL);
	dma_resv_unlock(fence->obj->resv);
	mutex_lock(&fence->obj->dev->gem_lru_mutex);
	mutex_unlock(&fence->obj->dev->gem_lru_mutex);
	dma_fence_signal(&fence->base);
	dma_fence_put(&fence->base);
}

/* Attaches a fence to @obj, which is locked and outlives it. */
GPUVM_RS_HELPER(struct dma_fence *, gpuvm_rs_helper_gpuvm_rs_test_fence_new,
		struct drm_gem_object *obj)
{
	struct gpuvm_rs_test_fence *fence = kzalloc(sizeof(*fence), GFP_KERNEL);

	if (!fence)
		return NULL;
	spin_lock_init(&fence->lock);
	INIT_DELAYED_WORK(&fence->work, gpuvm_rs_test_fence_work);
	fence->obj = obj;
	dma_fence_init(&fence->base, &gpuvm_rs_test_fence_ops, &fence->lock,
		       dma_fence_context_alloc(1), 1);
	if (dma_resv_reserve_fences(obj->resv, 1)) {
		dma_fence_put(&fence->base);
		return NULL;
	}
	dma_resv_add_fence(obj->resv, &fence->base, DMA_RESV_USAGE_BOOKKEEP);
	return &fence->base;
}

GPUVM_RS_HELPER(void, gpuvm_rs_helper_gpuvm_rs_test_fence_signal_in, struct dma_fence *base,
		unsigned int ms)
{
	struct gpuvm_rs_test_fence *fence = container_of(base, struct gpuvm_rs_test_fence, base);

	dma_fence_get(base);
	queue_delayed_work(system_dfl_wq, &fence->work, msecs_to_jiffies(ms));
}

GPUVM_RS_HELPER(int, gpuvm_rs_helper_atomic_read, const atomic_t *v)
{
	return atomic_read(v);
}
