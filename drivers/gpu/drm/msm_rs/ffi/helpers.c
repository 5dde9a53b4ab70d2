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

/* What page tables of a VM_BIND VM need to know of the SMMU. */
struct msm_rs_smmu {
	struct device *dev;
	u32 ias;
	u32 oas;
	bool coherent;
};

HELPER(bool, msm_rs_helper_msm_rs_smmu_config, struct msm_mmu *mmu, struct msm_rs_smmu *smmu)
{
	struct adreno_smmu_priv *priv = dev_get_drvdata(mmu->dev);
	const struct io_pgtable_cfg *cfg = priv->cookie ? priv->get_ttbr1_cfg(priv->cookie) : NULL;

	if (!cfg)
		return false;
	smmu->dev = cfg->iommu_dev;
	smmu->ias = cfg->ias;
	smmu->oas = cfg->oas;
	smmu->coherent = cfg->coherent_walk;
	return true;
}

/* Invalidates the TLB and waits. Not when the SMMU sleeps: waking up invalidates it. */
HELPER(void, msm_rs_helper_msm_rs_smmu_invalidate, struct msm_mmu *mmu)
{
	struct adreno_smmu_priv *priv = dev_get_drvdata(mmu->dev);
	const struct io_pgtable_cfg *cfg = priv->get_ttbr1_cfg(priv->cookie);
	int awake = pm_runtime_get_if_active(cfg->iommu_dev);

	if (!awake)
		return;
	cfg->tlb->tlb_flush_all((void *)priv->cookie);
	/* Without runtime PM there is no reference. */
	if (awake > 0)
		pm_runtime_put_autosuspend(cfg->iommu_dev);
}

/* Tables are pages; which table is meant is said by its physical address. 0: no memory. */
HELPER(u64, msm_rs_helper_msm_rs_table_alloc, const struct msm_rs_smmu *smmu)
{
	struct page *page = alloc_page(GFP_KERNEL | __GFP_ZERO);
	dma_addr_t dma;

	if (!page)
		return 0;
	set_page_private(page, 0);
	if (!smmu->coherent) {
		dma = dma_map_single(smmu->dev, page_address(page), PAGE_SIZE, DMA_TO_DEVICE);
		if (dma_mapping_error(smmu->dev, dma)) {
			__free_page(page);
			return 0;
		}
		/* The walker uses physical addresses, whatever the DMA layer thinks. */
		if (WARN_ON_ONCE(dma != page_to_phys(page))) {
			dma_unmap_single(smmu->dev, dma, PAGE_SIZE, DMA_TO_DEVICE);
			__free_page(page);
			return 0;
		}
	}
	return page_to_phys(page);
}

HELPER(void, msm_rs_helper_msm_rs_table_free, const struct msm_rs_smmu *smmu, u64 table)
{
	struct page *page = phys_to_page(table);

	if (!smmu->coherent)
		dma_unmap_single(smmu->dev, table, PAGE_SIZE, DMA_TO_DEVICE);
	set_page_private(page, 0);
	__free_page(page);
}

HELPER(u64 *, msm_rs_helper_msm_rs_table_entries, u64 table)
{
	return phys_to_virt(table);
}

/* A word that belongs to the table, for what is counted. */
HELPER(unsigned long *, msm_rs_helper_msm_rs_table_private, u64 table)
{
	return &phys_to_page(table)->private;
}

/* Another one, for lists of tables. */
HELPER(unsigned long *, msm_rs_helper_msm_rs_table_link, u64 table)
{
	return (unsigned long *)&phys_to_page(table)->lru.next;
}

HELPER(void, msm_rs_helper_msm_rs_table_sync, const struct msm_rs_smmu *smmu, u64 table, u32 first, u32 count)
{
	if (smmu->coherent)
		dma_wmb();
	else
		dma_sync_single_for_device(smmu->dev, table + first * sizeof(u64), count * sizeof(u64), DMA_TO_DEVICE);
}

/* How many of up to @max @pages follow each other in memory, and where. */
HELPER(u64, msm_rs_helper_msm_rs_page_run, struct page **pages, u64 max, u64 *phys)
{
	unsigned long pfn = page_to_pfn(pages[0]);
	u64 n = 1;

	while (n < max && page_to_pfn(pages[n]) == pfn + n)
		n++;
	*phys = PFN_PHYS(pfn);
	return n;
}
