// SPDX-License-Identifier: GPL-2.0-only
/*
 * For KUnit tests: as much of a device as BOs and VMs need.
 *
 * Part of ../helpers.c.
 */

#if IS_ENABLED(CONFIG_KUNIT)
#include <linux/device/faux.h>
#include <linux/dma-mapping.h>
#include <linux/file.h>
#include <linux/tracepoint.h>

/*
 * A device with a display, as far as BOs know: a DRM device that nobody can open, a VM whose page
 * tables only count, and one file with handles.
 */
struct msm_rs_test_device {
	struct faux_device *faux;
	struct drm_device *drm;
	struct msm_drm_private priv;
	struct msm_kms kms;
	struct msm_mmu mmu;
	struct msm_context ctx;
	struct drm_file file;
	/* Bytes that are mapped; how often something was mapped and unmapped. */
	atomic64_t mapped;
	atomic_t maps, unmaps;
	/* How often TTBR0 was set, on or off, and the TLB invalidated. */
	atomic_t ttbr0_sets, flushes;
	/* The next mapping fails. */
	bool fail;
	/* The display is gone; the pointer to its VM isn't. */
	bool no_display;
	struct adreno_smmu_priv smmu;
	struct io_pgtable_cfg ttbr1;
	struct device_dma_parameters dma;
	/*
	 * What the DMA API was asked for since the last look: m(ap), s(ync for the device),
	 * u(nmap).
	 */
	char asked[8];
	struct tracepoint *map, *sync, *unmap;
};

static uint plan_ops = 10000;
MODULE_PARM_DESC(plan_ops, "KUnit: how many VM_BIND ops are planned");
module_param(plan_ops, uint, 0600);

HELPER(u32, msm_rs_helper_msm_rs_test_plan_ops, void)
{
	return READ_ONCE(plan_ops);
}

static uint plan_seed = 1;
MODULE_PARM_DESC(plan_seed, "KUnit: the seed of the first of them");
module_param(plan_seed, uint, 0600);

HELPER(u32, msm_rs_helper_msm_rs_test_plan_seed, void)
{
	return READ_ONCE(plan_seed);
}

static int msm_rs_test_map(struct msm_mmu *mmu, u64 iova, struct sg_table *sgt, size_t off,
			   size_t len, int prot)
{
	struct msm_rs_test_device *test = container_of(mmu, struct msm_rs_test_device, mmu);

	if (test->fail) {
		test->fail = false;
		return -ENOMEM;
	}
	atomic64_add(len, &test->mapped);
	atomic_inc(&test->maps);
	return 0;
}

static int msm_rs_test_unmap(struct msm_mmu *mmu, u64 iova, size_t len)
{
	struct msm_rs_test_device *test = container_of(mmu, struct msm_rs_test_device, mmu);

	atomic64_sub(len, &test->mapped);
	atomic_inc(&test->unmaps);
	return 0;
}

static void msm_rs_test_destroy(struct msm_mmu *mmu)
{
}

static const struct msm_mmu_funcs msm_rs_test_mmu_funcs = {
	.map = msm_rs_test_map,
	.unmap = msm_rs_test_unmap,
	.destroy = msm_rs_test_destroy,
};

/* An SMMU for page tables by which nobody translates. */
static const struct io_pgtable_cfg *msm_rs_test_ttbr1_cfg(const void *cookie)
{
	const struct msm_rs_test_device *test = cookie;

	return &test->ttbr1;
}

static int msm_rs_test_set_ttbr0_cfg(const void *cookie, const struct io_pgtable_cfg *cfg)
{
	struct msm_rs_test_device *test = (void *)cookie;

	atomic_inc(&test->ttbr0_sets);
	return 0;
}

static void msm_rs_test_flush(void *cookie)
{
	struct msm_rs_test_device *test = cookie;

	atomic_inc(&test->flushes);
}

static const struct iommu_flush_ops msm_rs_test_tlb = {
	.tlb_flush_all = msm_rs_test_flush,
};

static const struct file_operations msm_rs_test_fops = {
	.owner = THIS_MODULE,
};

static const struct drm_driver msm_rs_test_driver = {
	.driver_features = DRIVER_GEM,
	.name = "msm_rs_test",
	.desc = "msm_rs_test",
	.fops = &msm_rs_test_fops,
};

HELPER(struct msm_rs_test_device *, msm_rs_helper_msm_rs_test_device_new, void)
{
	struct msm_rs_test_device *test = kzalloc(sizeof(*test), GFP_KERNEL);

	if (!test)
		return NULL;
	test->faux = faux_device_create("msm_rs_test", NULL, NULL);
	if (!test->faux)
		goto free;
	if (dma_coerce_mask_and_coherent(&test->faux->dev, DMA_BIT_MASK(64)))
		goto destroy;
	test->faux->dev.dma_parms = &test->dma;
	dma_set_max_seg_size(&test->faux->dev, UINT_MAX);
	test->drm = drm_dev_alloc(&msm_rs_test_driver, &test->faux->dev);
	if (IS_ERR(test->drm))
		goto destroy;
	test->drm->dev_private = &test->priv;
	test->priv.has_cached_coherent = true;
	mutex_init(&test->priv.obj_lock);
	INIT_LIST_HEAD(&test->priv.objects);
	drm_gem_lru_init(&test->priv.lru.unbacked);
	drm_gem_lru_init(&test->priv.lru.pinned);
	drm_gem_lru_init(&test->priv.lru.willneed);
	drm_gem_lru_init(&test->priv.lru.dontneed);
	test->mmu.funcs = &msm_rs_test_mmu_funcs;
	test->mmu.dev = &test->faux->dev;
	test->ttbr1.pgsize_bitmap = SZ_4K;
	test->ttbr1.ias = 48;
	test->ttbr1.oas = 48;
	test->ttbr1.coherent_walk = true;
	test->ttbr1.tlb = &msm_rs_test_tlb;
	test->ttbr1.iommu_dev = &test->faux->dev;
	test->smmu.cookie = test;
	test->smmu.get_ttbr1_cfg = msm_rs_test_ttbr1_cfg;
	test->smmu.set_ttbr0_cfg = msm_rs_test_set_ttbr0_cfg;
	dev_set_drvdata(&test->faux->dev, &test->smmu);
	test->file.driver_priv = &test->ctx;
	rcu_assign_pointer(test->file.pid, get_pid(task_tgid(current)));
	test->kms.vm = msm_gem_vm_create(test->drm, &test->mmu, "kms", SZ_4K, SZ_1G, true);
	if (IS_ERR(test->kms.vm))
		goto put;
	test->priv.kms = &test->kms;
	return test;
put:
	put_pid(rcu_dereference_protected(test->file.pid, true));
	drm_dev_put(test->drm);
destroy:
	faux_device_destroy(test->faux);
free:
	kfree(test);
	return NULL;
}

/* Returns what is left of its BOs: how many there are, or bytes that are mapped or counted. */
HELPER(s64, msm_rs_helper_msm_rs_test_device_free, struct msm_rs_test_device *test)
{
	s64 left;

	/* As when a driver is unbound: another device may be where this one was. */
	msm_rs_domain_gone(&test->mmu);
	left = list_count_nodes(&test->priv.objects) + atomic64_read(&test->mapped) +
		atomic64_read(&test->priv.total_mem) +
	       atomic64_read(&test->ctx.ctx_mem);
	if (!test->no_display)
		drm_gpuvm_put(test->kms.vm);
	put_pid(rcu_dereference_protected(test->file.pid, true));
	drm_dev_put(test->drm);
	faux_device_destroy(test->faux);
	/* The VM's memory goes after a grace period; it doesn't look at this any more. */
	kfree(test);
	return left;
}

/* The GPU is taken away: its domain, and what the SMMU is known by. */
HELPER(void, msm_rs_helper_msm_rs_test_take_gpu_away, struct msm_rs_test_device *test)
{
	msm_rs_flush();
	msm_rs_domain_gone(&test->mmu);
	drm_gpuvm_put(test->kms.vm);
	test->kms.vm = NULL;
	dev_set_drvdata(&test->faux->dev, NULL);
}

/* What was asked of the SMMU. */
HELPER(u32, msm_rs_helper_msm_rs_test_smmu_calls, struct msm_rs_test_device *test)
{
	return atomic_read(&test->ttbr0_sets) + atomic_read(&test->flushes);
}

HELPER(struct drm_device *, msm_rs_helper_msm_rs_test_drm, struct msm_rs_test_device *test)
{
	return test->drm;
}

HELPER(struct drm_gpuvm *, msm_rs_helper_msm_rs_test_vm, struct msm_rs_test_device *test)
{
	return test->kms.vm;
}

static void msm_rs_test_asked(struct msm_rs_test_device *test, struct device *dev, char what)
{
	size_t len = strlen(test->asked);

	if (dev == &test->faux->dev && len + 1 < sizeof(test->asked))
		test->asked[len] = what;
}

static void msm_rs_test_dma_map(void *test, struct device *dev, struct scatterlist *sgl, int nents,
				int ents, enum dma_data_direction dir, unsigned long attrs)
{
	msm_rs_test_asked(test, dev, 'm');
}

static void msm_rs_test_dma_sync(void *test, struct device *dev, struct scatterlist *sgl, int nents,
				 enum dma_data_direction dir)
{
	msm_rs_test_asked(test, dev, 's');
}

static void msm_rs_test_dma_unmap(void *test, struct device *dev, struct scatterlist *sgl,
				  int nents,
				  enum dma_data_direction dir, unsigned long attrs)
{
	msm_rs_test_asked(test, dev, 'u');
}

static void msm_rs_test_find_tracepoint(struct tracepoint *tp, void *data)
{
	struct msm_rs_test_device *test = data;

	if (!strcmp(tp->name, "dma_map_sg"))
		test->map = tp;
	else if (!strcmp(tp->name, "dma_sync_sg_for_device"))
		test->sync = tp;
	else if (!strcmp(tp->name, "dma_unmap_sg"))
		test->unmap = tp;
}

/* Whether what the DMA API is asked for is kept from now on. False if this kernel can't. */
HELPER(bool, msm_rs_helper_msm_rs_test_watch_dma, struct msm_rs_test_device *test, bool on)
{
	if (on) {
		for_each_kernel_tracepoint(msm_rs_test_find_tracepoint, test);
		return test->map && test->sync && test->unmap &&
		       !tracepoint_probe_register(test->map, msm_rs_test_dma_map, test) &&
		       !tracepoint_probe_register(test->sync, msm_rs_test_dma_sync, test) &&
		       !tracepoint_probe_register(test->unmap, msm_rs_test_dma_unmap, test);
	}
	tracepoint_probe_unregister(test->map, msm_rs_test_dma_map, test);
	tracepoint_probe_unregister(test->sync, msm_rs_test_dma_sync, test);
	tracepoint_probe_unregister(test->unmap, msm_rs_test_dma_unmap, test);
	tracepoint_synchronize_unregister();
	return true;
}

/* The letters, as a number: the first is the lowest byte. They are forgotten. */
HELPER(u64, msm_rs_helper_msm_rs_test_dma_asked, struct msm_rs_test_device *test)
{
	u64 asked;

	memcpy(&asked, test->asked, sizeof(asked));
	memset(test->asked, 0, sizeof(test->asked));
	return asked;
}

/*
 * Unbinds the display, as mdp5_kms_destroy() does. If its VM is gone with it, the stale pointer is
 * one that faults.
 */
HELPER(void, msm_rs_helper_msm_rs_test_display_gone, struct msm_rs_test_device *test)
{
	bool last = kref_read(&test->kms.vm->kref) == 1;

	test->no_display = true;
	drm_gpuvm_put(test->kms.vm);
	if (last)
		test->kms.vm = (void *)LIST_POISON1;
}

/* Another file with handles, whose context has a VM. Its page tables count with the first. */
struct msm_rs_test_client {
	struct msm_context ctx;
	struct drm_file file;
};

HELPER(struct msm_rs_test_client *, msm_rs_helper_msm_rs_test_client_new,
       struct msm_rs_test_device *test)
{
	struct msm_rs_test_client *client = kzalloc(sizeof(*client), GFP_KERNEL);

	if (!client)
		return NULL;
	client->ctx.vm = msm_gem_vm_create(test->drm, &test->mmu, "test", SZ_4K, SZ_1G, true);
	if (IS_ERR(client->ctx.vm)) {
		kfree(client);
		return NULL;
	}
	client->file.driver_priv = &client->ctx;
	rcu_assign_pointer(client->file.pid, get_pid(task_tgid(current)));
	return client;
}

HELPER(void, msm_rs_helper_msm_rs_test_client_free, struct msm_rs_test_client *client)
{
	drm_gpuvm_put(client->ctx.vm);
	put_pid(rcu_dereference_protected(client->file.pid, true));
	kfree(client);
}

HELPER(struct drm_gpuvm *, msm_rs_helper_msm_rs_test_client_vm, struct msm_rs_test_client *client)
{
	return client->ctx.vm;
}

HELPER(struct drm_file *, msm_rs_helper_msm_rs_test_client_file, struct msm_rs_test_client *client)
{
	return &client->file;
}

/* One for VM_BIND, with page tables of its own, and with the longest log or none. */
HELPER(struct drm_gpuvm *, msm_rs_helper_msm_rs_test_new_bind_vm, struct msm_rs_test_device *test,
       u64 start, u64 size, bool log)
{
	struct msm_mmu *mmu = msm_iommu_pagetable_create(&test->mmu, false);
	uint shift = vm_log_shift;
	struct drm_gpuvm *vm;

	WRITE_ONCE(vm_log_shift, log ? 8 : 0);
	vm = msm_gem_vm_create(test->drm, mmu, "test", start, size, false);
	WRITE_ONCE(vm_log_shift, shift);
	return vm;
}

HELPER(u32, msm_rs_helper_msm_rs_test_vm_refs, struct drm_gpuvm *vm)
{
	return kref_read(&vm->kref);
}

HELPER(u32, msm_rs_helper_msm_rs_test_refs, struct drm_gem_object *obj)
{
	return kref_read(&obj->refcount);
}

HELPER(u64, msm_rs_helper_msm_rs_test_mapped, struct msm_rs_test_device *test)
{
	return atomic64_read(&test->mapped);
}

HELPER(u32, msm_rs_helper_msm_rs_test_unmaps, struct msm_rs_test_device *test)
{
	return atomic_read(&test->unmaps);
}

HELPER(void, msm_rs_helper_msm_rs_test_fail, struct msm_rs_test_device *test)
{
	test->fail = true;
}

HELPER(struct drm_file *, msm_rs_helper_msm_rs_test_file, struct msm_rs_test_device *test)
{
	return &test->file;
}

HELPER(int, msm_rs_helper_msm_rs_test_open, struct drm_file *file, struct drm_gem_object *obj)
{
	return obj->funcs->open(obj, file);
}

HELPER(void, msm_rs_helper_msm_rs_test_close, struct drm_file *file, struct drm_gem_object *obj)
{
	obj->funcs->close(obj, file);
}

/* Imports a dma-buf by a table of @nr pages, whatever its size, and gives the BO back. */
HELPER(int, msm_rs_helper_msm_rs_test_import, struct msm_rs_test_device *test,
       struct dma_buf *dma_buf, u32 nr)
{
	struct dma_buf_attachment attachment = { .dmabuf = dma_buf };
	struct drm_gem_object *obj;
	struct scatterlist *sg;
	struct sg_table sgt;
	int ret, i;

	ret = sg_alloc_table(&sgt, nr, GFP_KERNEL);
	if (ret)
		return ret;
	for_each_sgtable_sg(&sgt, sg, i)
		sg_set_page(sg, ZERO_PAGE(0), PAGE_SIZE, 0);
	obj = msm_gem_import(test->drm, &attachment, &sgt);
	ret = PTR_ERR_OR_ZERO(obj);
	if (!ret) {
		struct msm_drm_private *priv = test->drm->dev_private;

		/* Reclaim has nothing to do with its pages, whatever is said of them */
		msm_gem_madvise(obj, MSM_MADV_DONTNEED);
		if (obj->lru != &priv->lru.pinned)
			ret = -EBADF;
		/* Attachment and table are ours: it doesn't end them. */
		to_msm_bo(obj)->sgt = NULL;
		drm_gem_object_put(obj);
	}
	sg_free_table(&sgt);
	return ret;
}

HELPER(void, msm_rs_helper_msm_rs_test_dma_buf_put, struct dma_buf *dma_buf)
{
	__fput_sync(dma_buf->file);
}
#endif
