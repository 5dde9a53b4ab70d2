// SPDX-License-Identifier: GPL-2.0-only
/*
 * Functions for what C offers as inline function or macro only: msm_rs_helper_foo() is bindings::foo() in Rust.
 * And the module parameters of the code that Rust replaces.
 */
#include "bindings_helper.h"
#include "../../gpuvm_rs/helpers.c"
#include "msm_gpu_trace.h"

#define HELPER(ret, name, ...) ret name(__VA_ARGS__); ret name(__VA_ARGS__)

static uint vm_log_shift;
MODULE_PARM_DESC(vm_log_shift, "Number of VM log entries as a power of two, up to 8 (0: no log)");
module_param(vm_log_shift, uint, 0600);

HELPER(unsigned int, msm_rs_helper_msm_rs_vm_log_shift, void)
{
	return READ_ONCE(vm_log_shift);
}

static bool enable_eviction = true;
MODULE_PARM_DESC(enable_eviction, "Enable swappable GEM buffers");
module_param(enable_eviction, bool, 0600);

/* How many pages can be swapped out. */
HELPER(unsigned long, msm_rs_helper_msm_rs_swap_room, void)
{
	long room = get_nr_swap_pages();

	return READ_ONCE(enable_eviction) && room > 0 ? room : 0;
}

HELPER(void, msm_rs_helper_trace_msm_gem_shrink, u32 nr_to_scan, u32 purged, u32 evicted, u32 active_purged,
       u32 active_evicted)
{
	trace_msm_gem_shrink(nr_to_scan, purged, evicted, active_purged, active_evicted);
}

HELPER(void, msm_rs_helper_trace_msm_gem_purge_vmaps, u32 unmapped)
{
	trace_msm_gem_purge_vmaps(unmapped);
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

/* SUBMIT that runs in the ring: a debugging aid of the kernel's configuration. */
HELPER(bool, msm_rs_helper_msm_rs_may_sudo, void)
{
	return IS_ENABLED(CONFIG_DRM_MSM_GPU_SUDO) && capable(CAP_SYS_RAWIO);
}

/* A submit with room for BOs and commands, its fence, its job and one reference. An errno if it can't be made. */
HELPER(struct msm_gem_submit *, msm_rs_helper_msm_rs_submit_alloc, u32 nr_bos, u32 nr_cmds,
	struct msm_gpu_submitqueue *queue, u64 client_id)
{
	struct msm_gem_submit *submit;
	size_t size = size_add(struct_size(submit, bos, nr_bos), array_size(sizeof(submit->cmd[0]), nr_cmds));
	int ret;

	submit = kzalloc(size, GFP_KERNEL | __GFP_NOWARN);
	if (!submit)
		return ERR_PTR(-ENOMEM);
	submit->hw_fence = msm_fence_alloc();
	if (IS_ERR(submit->hw_fence)) {
		ret = PTR_ERR(submit->hw_fence);
		goto free;
	}
	ret = drm_sched_job_init(&submit->base, queue->entity, 1, queue, client_id);
	if (ret)
		goto free_fence;
	kref_init(&submit->ref);
	INIT_LIST_HEAD(&submit->node);
	submit->cmd = (void *)&submit->bos[nr_bos];
	submit->pid = get_pid(task_pid(current));
	return submit;

free_fence:
	kfree(submit->hw_fence);
free:
	kfree(submit);
	return ERR_PTR(ret);
}

/* The memory of a submit, its hardware fence and its process id. The fence is mere memory until the job runs. */
HELPER(void, msm_rs_helper_msm_rs_submit_free, struct msm_gem_submit *submit)
{
	if (kref_read(&submit->hw_fence->refcount))
		dma_fence_put(submit->hw_fence);
	else
		kfree(submit->hw_fence);
	put_pid(submit->pid);
	kfree(submit);
}

HELPER(void, msm_rs_helper_msm_gem_submit_get, struct msm_gem_submit *submit)
{
	msm_gem_submit_get(submit);
}

HELPER(void, msm_rs_helper_msm_gem_submit_put, struct msm_gem_submit *submit)
{
	msm_gem_submit_put(submit);
}

HELPER(void, msm_rs_helper_msm_rs_trace_submit, struct msm_gem_submit *submit, u32 nr_bos, u32 nr_cmds)
{
	trace_msm_gpu_submit(pid_nr(submit->pid), submit->ring->id, submit->ident, nr_bos, nr_cmds);
}

HELPER(void, msm_rs_helper_msm_rs_rd_dump, struct msm_gem_submit *submit)
{
	struct msm_drm_private *priv = submit->dev->dev_private;

	msm_rd_dump_submit(priv->rd, submit, NULL);
}

/* A fence number that nobody uses: @wanted, or the next if that is 0. Or an errno. It has no fence yet. */
HELPER(int, msm_rs_helper_msm_rs_fence_id_reserve, struct msm_gpu_submitqueue *queue, int wanted)
{
	int id;

	idr_preload(GFP_KERNEL);
	spin_lock(&queue->idr_lock);
	if (wanted) {
		u32 exact = wanted;

		id = idr_alloc_u32(&queue->fence_idr, NULL, &exact, exact, GFP_NOWAIT);
		if (!id)
			id = wanted;
		else if (id == -ENOSPC)
			id = -EINVAL;
	} else {
		id = idr_alloc_cyclic(&queue->fence_idr, NULL, 1, INT_MAX, GFP_NOWAIT);
	}
	spin_unlock(&queue->idr_lock);
	idr_preload_end();
	return id;
}

HELPER(void, msm_rs_helper_msm_rs_fence_id_set, struct msm_gem_submit *submit)
{
	struct msm_gpu_submitqueue *queue = submit->queue;

	spin_lock(&queue->idr_lock);
	idr_replace(&queue->fence_idr, submit->user_fence, submit->fence_id);
	spin_unlock(&queue->idr_lock);
}

HELPER(void, msm_rs_helper_msm_rs_fence_id_free, struct msm_gem_submit *submit)
{
	struct msm_gpu_submitqueue *queue = submit->queue;

	if (!submit->fence_id)
		return;
	spin_lock(&queue->idr_lock);
	idr_remove(&queue->fence_idr, submit->fence_id);
	spin_unlock(&queue->idr_lock);
}

HELPER(void, msm_rs_helper_msm_gem_lock, struct drm_gem_object *obj)
{
	msm_gem_lock(obj);
}

HELPER(void, msm_rs_helper_msm_gem_unlock, struct drm_gem_object *obj)
{
	msm_gem_unlock(obj);
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
