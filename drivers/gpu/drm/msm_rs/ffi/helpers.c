// SPDX-License-Identifier: GPL-2.0-only
/*
 * Functions for what C offers as inline function or macro only: msm_rs_helper_foo() is
 * bindings::foo() in Rust. And the module parameters of the code that Rust replaces.
 */
#include "bindings_helper.h"
#include "../../gpuvm_rs/helpers.c"
#include <trace/events/gpu_mem.h>
#include <linux/mm_inline.h>
#include <linux/rwsem.h>
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

HELPER(void, msm_rs_helper_trace_msm_gem_shrink, u32 nr_to_scan, u32 purged, u32 evicted,
       u32 active_purged,
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

/*
 * A submit with room for BOs and commands, its fence, its job and one reference. An errno if it
 * can't be made.
 */
HELPER(struct msm_gem_submit *, msm_rs_helper_msm_rs_submit_alloc, u32 nr_bos, u32 nr_cmds,
	struct msm_gpu_submitqueue *queue, u64 client_id)
{
	struct msm_gem_submit *submit;
	size_t size = size_add(struct_size(submit, bos, nr_bos),
			       array_size(sizeof(submit->cmd[0]), nr_cmds));
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

/*
 * The memory of a submit, its hardware fence and its process id. The fence is mere memory until the
 * job runs.
 */
HELPER(void, msm_rs_helper_msm_rs_submit_free, struct msm_gem_submit *submit)
{
	if (kref_read(&submit->hw_fence->refcount))
		dma_fence_put(submit->hw_fence);
	else
		kfree(submit->hw_fence);
	put_pid(submit->pid);
	kfree(submit);
}

HELPER(void, msm_rs_helper_msm_gem_submit_put, struct msm_gem_submit *submit)
{
	msm_gem_submit_put(submit);
}

HELPER(void, msm_rs_helper_msm_rs_trace_submit, struct msm_gem_submit *submit, u32 nr_bos,
       u32 nr_cmds)
{
	trace_msm_gpu_submit(pid_nr(submit->pid), submit->ring->id, submit->ident, nr_bos, nr_cmds);
}

HELPER(void, msm_rs_helper_msm_rs_rd_dump, struct msm_gem_submit *submit)
{
	struct msm_drm_private *priv = submit->dev->dev_private;

	msm_rd_dump_submit(priv->rd, submit, NULL);
}

/*
 * A fence number that nobody uses: @wanted, or the next if that is 0. Or an errno. It leads to the
 * fence that the submit will have: until msm_rs_submit_arm() that is zeroed memory, of which nobody
 * gets a reference (dma_fence_get_rcu()).
 */
HELPER(int, msm_rs_helper_msm_rs_fence_id_reserve, struct msm_gem_submit *submit, int wanted)
{
	struct dma_fence *fence = &submit->base.s_fence->finished;
	struct msm_gpu_submitqueue *queue = submit->queue;
	int id;

	idr_preload(GFP_KERNEL);
	spin_lock(&queue->idr_lock);
	if (wanted) {
		u32 exact = wanted;

		id = idr_alloc_u32(&queue->fence_idr, fence, &exact, exact, GFP_NOWAIT);
		if (!id)
			id = wanted;
		else if (id == -ENOSPC)
			id = -EINVAL;
	} else {
		id = idr_alloc_cyclic(&queue->fence_idr, fence, 1, INT_MAX, GFP_NOWAIT);
	}
	spin_unlock(&queue->idr_lock);
	idr_preload_end();
	return id;
}

/*
 * Starts the fences. Who finds the finished one by its number does so under the lock, and so before
 * or after, not in between.
 */
HELPER(void, msm_rs_helper_msm_rs_submit_arm, struct msm_gem_submit *submit)
{
	struct msm_gpu_submitqueue *queue = submit->queue;

	spin_lock(&queue->idr_lock);
	drm_sched_job_arm(&submit->base);
	spin_unlock(&queue->idr_lock);
	submit->user_fence = dma_fence_get(&submit->base.s_fence->finished);
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

HELPER(void, msm_rs_helper_msm_rs_lock_handles, struct drm_file *file)
{
	spin_lock(&file->table_lock);
}

HELPER(void, msm_rs_helper_msm_rs_unlock_handles, struct drm_file *file)
{
	spin_unlock(&file->table_lock);
}

/* As drm_gem_object_lookup(), with the handles locked. */
HELPER(struct drm_gem_object *, msm_rs_helper_msm_rs_find_bo, struct drm_file *file, u32 handle)
{
	struct drm_gem_object *obj = idr_find(&file->object_idr, handle);

	if (obj)
		drm_gem_object_get(obj);
	return obj;
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

/* A sync file for a fence that doesn't exist yet. Until then it has one that is signalled. */
HELPER(struct sync_file *, msm_rs_helper_msm_rs_sync_file_new, void)
{
	struct dma_fence *stub = dma_fence_get_stub();
	struct sync_file *file = sync_file_create(stub);

	dma_fence_put(stub);
	return file;
}

/* Replaces the fence of a sync file that nobody else has seen yet. It takes the reference over. */
HELPER(void, msm_rs_helper_msm_rs_sync_file_set, struct sync_file *file, struct dma_fence *fence)
{
	struct dma_fence *old = file->fence;

	file->fence = fence;
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

HELPER(bool, msm_rs_helper_msm_rs_is_killed, void)
{
	return fatal_signal_pending(current);
}

HELPER(bool, msm_rs_helper_msm_rs_is_dying, void)
{
	return current->flags & (PF_EXITING | PF_KTHREAD) || fatal_signal_pending(current);
}

/*
 * The fence of a submit of @vm that the GPU has begun and not ended, NULL if there is none. An
 * errno if it takes a wait to know that, and @wait isn't set. The VM's context is closed: what the
 * GPU begins from now on has no commands.
 */
HELPER(struct dma_fence *, msm_rs_helper_msm_rs_vm_busy, struct drm_gpuvm *vm, bool wait)
{
	struct msm_drm_private *priv = vm->drm->dev_private;
	struct msm_gpu *gpu = priv->gpu;
	struct dma_fence *fence = NULL;
	struct msm_gem_submit *submit;
	unsigned long flags;

	if (!gpu)
		return NULL;
	if (wait)
		mutex_lock(&gpu->lock);
	else if (!mutex_trylock(&gpu->lock))
		return ERR_PTR(-EAGAIN);
	for (int i = 0; i < gpu->nr_rings && !fence; i++) {
		struct msm_ringbuffer *ring = gpu->rb[i];

		/* Those of a ring end in order. */
		spin_lock_irqsave(&ring->submit_lock, flags);
		list_for_each_entry_reverse(submit, &ring->submits, node) {
			if (submit->vm != vm)
				continue;
			if (!test_bit(DMA_FENCE_FLAG_SIGNALED_BIT, &submit->hw_fence->flags))
				fence = dma_fence_get(submit->hw_fence);
			break;
		}
		spin_unlock_irqrestore(&ring->submit_lock, flags);
	}
	mutex_unlock(&gpu->lock);
	return fence;
}

HELPER(unsigned long, msm_rs_helper_totalram_pages, void)
{
	return totalram_pages();
}

HELPER(struct workqueue_struct *, msm_rs_helper_msm_rs_alloc_wq, const char *name, bool reclaim)
{
	return alloc_workqueue("%s", WQ_UNBOUND | (reclaim ? WQ_MEM_RECLAIM : 0), 0, name);
}

HELPER(void, msm_rs_helper_msm_rs_flush_wq, struct workqueue_struct *wq)
{
	flush_workqueue(wq);
}

HELPER(void, msm_rs_helper_msm_rs_line_init, struct semaphore *line)
{
	sema_init(line, 1);
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

/* What per-process page tables need to know of the SMMU. */
struct msm_rs_smmu {
	struct device *dev;
	u32 ias;
	u32 oas;
	bool coherent;
	/*
	 * Where the entries of the table at address 0 would be, and the word for what is counted of
	 * it: see msm_rs_smmu_config().
	 */
	unsigned long entries;
	unsigned long counts;
};

HELPER(bool, msm_rs_helper_msm_rs_smmu_config, struct msm_mmu *mmu, struct msm_rs_smmu *smmu)
{
	struct adreno_smmu_priv *priv = dev_get_drvdata(mmu->dev);
	const struct io_pgtable_cfg *cfg = priv->cookie ? priv->get_ttbr1_cfg(priv->cookie) : NULL;

	if (!cfg || !(cfg->pgsize_bitmap & SZ_4K))
		return false;
	smmu->dev = cfg->iommu_dev;
	smmu->ias = cfg->ias;
	smmu->oas = cfg->oas;
	smmu->coherent = cfg->coherent_walk;
	/*
	 * Both maps are linear, so that Rust can find its way in them without a call for each
	 * entry.
	 */
	BUILD_BUG_ON(!IS_ENABLED(CONFIG_ARM64) || !IS_ENABLED(CONFIG_SPARSEMEM_VMEMMAP));
	smmu->entries = (unsigned long)phys_to_virt(PHYS_OFFSET) - PHYS_OFFSET;
	smmu->counts = (unsigned long)&pfn_to_page(0)->private;
	return true;
}

/*
 * Has the SMMU translate the lower half of addresses by the tables at @root. The settings are the
 * upper half's.
 */
HELPER(int, msm_rs_helper_msm_rs_ttbr0_on, struct msm_mmu *domain, u64 root)
{
	struct adreno_smmu_priv *priv = dev_get_drvdata(domain->dev);
	struct io_pgtable_cfg cfg = *priv->get_ttbr1_cfg(priv->cookie);

	cfg.quirks &= ~IO_PGTABLE_QUIRK_ARM_TTBR1;
	cfg.arm_lpae_s1_cfg.ttbr = root;
	cfg.arm_lpae_s1_cfg.tcr.tg = 0; /* TG0: 4 KiB. TG1 has another number for that. */
	return priv->set_ttbr0_cfg(priv->cookie, &cfg);
}

/* Nothing is left to do when the GPU is gone, and what it is known by. */
HELPER(void, msm_rs_helper_msm_rs_ttbr0_off, struct msm_mmu *domain)
{
	struct adreno_smmu_priv *priv = dev_get_drvdata(domain->dev);

	if (priv)
		priv->set_ttbr0_cfg(priv->cookie, NULL);
}

HELPER(bool, msm_rs_helper_msm_rs_smmu_has_prr, struct msm_mmu *domain)
{
	struct adreno_smmu_priv *priv = dev_get_drvdata(domain->dev);

	return priv->set_prr_bit;
}

/* The page that reads of NULL mappings find; 0: none. */
HELPER(void, msm_rs_helper_msm_rs_prr_set, struct msm_mmu *domain, u64 page)
{
	struct adreno_smmu_priv *priv = dev_get_drvdata(domain->dev);

	if (!priv)
		return;
	if (page)
		priv->set_prr_addr(priv->cookie, page);
	priv->set_prr_bit(priv->cookie, page);
}

/*
 * Whether the GPU sleeps with the system. Then it has no power, and so nobody translates. When in
 * this time the SMMU's clocks are off and on again, neither runtime PM says nor the PM core's
 * flags, which change before or after the fact.
 */
static bool msm_rs_is_asleep;
static DECLARE_RWSEM(msm_rs_sleep_lock);

/*
 * As long as the system is awake, runtime PM knows whether the SMMU has its clocks. Where it says
 * that the SMMU isn't active, the GPU is suspended, and msm_rs_gpu_resumes() comes before its CP is
 * started. That the SMMU loses its TLB with its clocks is not enough: an SMMU that is about to fall
 * asleep may be kept awake after all, and keeps its TLB then.
 */
static void msm_rs_smmu_flush(const struct adreno_smmu_priv *priv)
{
	const struct io_pgtable_cfg *cfg;
	int awake;

	if (!priv || !priv->cookie)
		return;
	cfg = priv->get_ttbr1_cfg(priv->cookie);
	/* Nobody translates when the GPU is gone. */
	if (!cfg)
		return;
	awake = pm_runtime_get_if_active(cfg->iommu_dev);
	if (!awake)
		return;
	cfg->tlb->tlb_flush_all((void *)priv->cookie);
	/* Without runtime PM there is no reference. */
	if (awake > 0)
		pm_runtime_put_autosuspend(cfg->iommu_dev);
}

/* Invalidates the TLB and waits. Not when the SMMU sleeps. */
HELPER(void, msm_rs_helper_msm_rs_smmu_invalidate, struct msm_mmu *mmu)
{
	/*
	 * The entries are written before it is asked who sleeps: who wakes up then finds the new
	 * ones.
	 */
	mb();
	down_read(&msm_rs_sleep_lock);
	if (!msm_rs_is_asleep)
		msm_rs_smmu_flush(dev_get_drvdata(mmu->dev));
	up_read(&msm_rs_sleep_lock);
}

void msm_rs_gpu_asleep(struct msm_gpu *gpu)
{
	const struct adreno_smmu_priv *priv = dev_get_drvdata(&gpu->pdev->dev);

	/* Who invalidates now has done so before the SMMU falls asleep. */
	down_write(&msm_rs_sleep_lock);
	msm_rs_smmu_flush(priv);
	msm_rs_is_asleep = true;
	up_write(&msm_rs_sleep_lock);
}

void msm_rs_gpu_awake(void)
{
	if (!READ_ONCE(msm_rs_is_asleep))
		return;
	down_write(&msm_rs_sleep_lock);
	msm_rs_is_asleep = false;
	up_write(&msm_rs_sleep_lock);
}

void msm_rs_gpu_resumes(struct msm_gpu *gpu)
{
	/* The first time after adreno_unbind(). */
	msm_rs_gpu_awake();
	/*
	 * Its supplier, the SMMU, is active by now. Who saw that it wasn't has changed the entries
	 * before.
	 */
	msm_rs_smmu_flush(dev_get_drvdata(&gpu->pdev->dev));
}

/*
 * Tables are pages; which table is meant is said by its physical address. 0: no memory. Whoever has
 * something lead to a table publishes it (msm_rs_table_sync), so the cache isn't cleaned here. They
 * are charged to the caller, who is the client that wants something mapped: only ioctls allocate
 * tables.
 */
HELPER(u64, msm_rs_helper_msm_rs_table_alloc, const struct msm_rs_smmu *smmu)
{
	struct page *page = alloc_page(GFP_KERNEL_ACCOUNT | __GFP_ZERO);
	dma_addr_t dma;

	if (!page)
		return 0;
	set_page_private(page, 0);
	if (!smmu->coherent) {
		dma = dma_map_single_attrs(smmu->dev, page_address(page), PAGE_SIZE, DMA_TO_DEVICE,
					   DMA_ATTR_SKIP_CPU_SYNC);
		if (dma_mapping_error(smmu->dev, dma)) {
			__free_page(page);
			return 0;
		}
		/* The walker uses physical addresses, whatever the DMA layer thinks. */
		if (WARN_ON_ONCE(dma != page_to_phys(page))) {
			dma_unmap_single_attrs(smmu->dev, dma, PAGE_SIZE, DMA_TO_DEVICE,
					       DMA_ATTR_SKIP_CPU_SYNC);
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
		dma_unmap_single_attrs(smmu->dev, table, PAGE_SIZE, DMA_TO_DEVICE,
				       DMA_ATTR_SKIP_CPU_SYNC);
	set_page_private(page, 0);
	__free_page(page);
}

/* A word that belongs to the table, for lists of tables. What is counted is in &page.private. */
HELPER(unsigned long *, msm_rs_helper_msm_rs_table_link, u64 table)
{
	return (unsigned long *)&phys_to_page(table)->lru.next;
}

/*
 * What was stored in the entries becomes visible to the walkers before what is stored later: a
 * descriptor that leads here, an invalidation, a fence. io-pgtable has the same dma_wmb() ahead of
 * each link; the wmb() at its end stands for drivers that start the device by a relaxed store,
 * which nobody does to the GPU.
 */
HELPER(void, msm_rs_helper_msm_rs_table_sync, const struct msm_rs_smmu *smmu, u64 table, u32 first,
       u32 count)
{
	if (smmu->coherent)
		dma_wmb();
	else
		dma_sync_single_for_device(smmu->dev, table + first * sizeof(u64),
					   count * sizeof(u64), DMA_TO_DEVICE);
}

/* How many of up to @max @pages follow each other in memory, and where. */
HELPER(u64, msm_rs_helper_msm_rs_page_run, struct page **pages, u64 max, u64 *phys)
{
	*phys = page_to_phys(pages[0]);
	return num_pages_contiguous(pages, max);
}

/*
 * How many pages of memory follow each other from page @first of @at on, and where. Then @at is
 * what is behind them.
 */
HELPER(u64, msm_rs_helper_msm_rs_sg_run, struct scatterlist **at, u64 first, u64 *phys)
{
	struct scatterlist *sg = *at;
	u64 pages;

	for (; sg; sg = sg_next(sg)) {
		pages = PFN_UP((u64)sg->offset + sg->length);
		if (first < pages) {
			*phys = page_to_phys(sg_page(sg)) + first * PAGE_SIZE;
			*at = sg_next(sg);
			return pages - first;
		}
		first -= pages;
	}
	*at = NULL;
	return 0;
}

/* BOs */

HELPER(void, msm_rs_helper_msm_rs_list_init, struct list_head *list)
{
	INIT_LIST_HEAD(list);
}

/* Lists a BO that is initialised, and gives it a place at which userspace can map it. */
HELPER(int, msm_rs_helper_msm_rs_announce_bo, struct drm_gem_object *obj)
{
	struct msm_drm_private *priv = obj->dev->dev_private;

	drm_gem_lru_move_tail(drm_gem_is_imported(obj) ? &priv->lru.pinned : &priv->lru.unbacked,
			      obj);
	mutex_lock(&priv->obj_lock);
	list_add_tail(&to_msm_bo(obj)->node, &priv->objects);
	mutex_unlock(&priv->obj_lock);
	return drm_gem_create_mmap_offset(obj);
}

/* It may never have been listed. */
HELPER(void, msm_rs_helper_msm_rs_forget_bo, struct drm_gem_object *obj)
{
	struct msm_drm_private *priv = obj->dev->dev_private;

	mutex_lock(&priv->obj_lock);
	list_del(&to_msm_bo(obj)->node);
	mutex_unlock(&priv->obj_lock);
}

/*
 * Pages are pinned for long: not movable ones. When there aren't enough, whoever asks is told, and
 * nobody else killed.
 */
HELPER(void, msm_rs_helper_msm_rs_choose_pages, struct drm_gem_object *obj)
{
	mapping_set_gfp_mask(obj->filp->f_mapping,
			     GFP_HIGHUSER | __GFP_RETRY_MAYFAIL | __GFP_NOWARN);
}

/* Whether the BO never had content: none of its pages was ever allocated. */
HELPER(bool, msm_rs_helper_msm_rs_is_empty, struct drm_gem_object *obj)
{
	return !READ_ONCE(SHMEM_I(file_inode(obj->filp))->alloced);
}

HELPER(void, msm_rs_helper_msm_rs_truncate, struct drm_gem_object *obj)
{
	shmem_truncate_range(file_inode(obj->filp), 0, (loff_t)-1);
}

/* The pages of another driver's table, which has to have as many as its dma-buf. */
HELPER(struct page **, msm_rs_helper_msm_rs_page_array, struct sg_table *sgt, size_t nr)
{
	struct scatterlist *sg;
	struct page **pages;
	size_t found = 0;
	int ret, i;

	for_each_sgtable_sg(sgt, sg, i)
		found += PFN_UP((u64)sg->offset + sg->length);
	if (found != nr)
		return ERR_PTR(-EINVAL);
	pages = kvmalloc_array(nr, sizeof(*pages), GFP_KERNEL);
	if (!pages)
		return ERR_PTR(-ENOMEM);
	ret = drm_prime_sg_to_page_array(sgt, pages, nr);
	if (ret) {
		kvfree(pages);
		return ERR_PTR(ret);
	}
	return pages;
}

/* The object whose resv a private BO shares. */
HELPER(void, msm_rs_helper_msm_rs_put_resv_owner, struct drm_gem_object *obj)
{
	drm_gem_object_put(container_of(obj->resv, struct drm_gem_object, _resv));
}

HELPER(void, msm_rs_helper_msm_rs_set_name, struct drm_gem_object *obj, const char *name)
{
	strscpy(to_msm_bo(obj)->name, name);
}

void msm_gem_object_set_name(struct drm_gem_object *obj, const char *fmt, ...)
{
	struct msm_gem_object *bo = to_msm_bo(obj);
	va_list ap;

	if (!fmt)
		return;
	va_start(ap, fmt);
	vsnprintf(bo->name, sizeof(bo->name), fmt, ap);
	va_end(ap);
}

/*
 * Pages that the GPU accesses behind the CPUs' caches are cleaned of what is in these. What isn't
 * mapped has no @nents.
 */
HELPER(void, msm_rs_helper_msm_rs_sgt_map, struct drm_device *dev, struct sg_table *sgt, bool map)
{
	if (!map || dma_map_sgtable(dev->dev, sgt, DMA_BIDIRECTIONAL, 0))
		sgt->nents = 0;
}

/* Unmapping invalidates CPU caches. What is @dirty there is written back first. */
HELPER(void, msm_rs_helper_msm_rs_sgt_free, struct drm_device *dev, struct sg_table *sgt,
       bool dirty)
{
	if (sgt->nents) {
		if (dirty)
			dma_sync_sgtable_for_device(dev->dev, sgt, DMA_BIDIRECTIONAL);
		dma_unmap_sgtable(dev->dev, sgt, DMA_BIDIRECTIONAL, 0);
	}
	sg_free_table(sgt);
	kfree(sgt);
}

HELPER(void *, msm_rs_helper_msm_rs_vmap, struct page **pages, unsigned int nr, bool write_combined)
{
	return vmap(pages, nr, VM_MAP,
		    write_combined ? pgprot_writecombine(PAGE_KERNEL) : PAGE_KERNEL);
}

#if !defined(CONFIG_DRM_MSM_KMS) && IS_ENABLED(CONFIG_KUNIT)
/* As much of a display as tests need. */
struct msm_kms {
	struct drm_gpuvm *vm;
};
#endif

HELPER(struct drm_gpuvm *, msm_rs_helper_msm_rs_kms_vm, struct drm_device *dev)
{
#if defined(CONFIG_DRM_MSM_KMS) || IS_ENABLED(CONFIG_KUNIT)
	struct msm_drm_private *priv = dev->dev_private;

	return priv->kms ? priv->kms->vm : NULL;
#else
	return NULL;
#endif
}

HELPER(void, msm_rs_helper_msm_rs_unmap_users, struct drm_gem_object *obj)
{
	drm_vma_node_unmap(&obj->vma_node, obj->dev->anon_inode->i_mapping);
}

HELPER(void, msm_rs_helper_msm_rs_forget_content, struct drm_gem_object *obj)
{
	drm_gem_free_mmap_offset(obj);
	shmem_truncate_range(file_inode(obj->filp), 0, (loff_t)-1);
	invalidate_mapping_pages(file_inode(obj->filp)->i_mapping, 0, (loff_t)-1);
}

/* Memory that backs BOs */
HELPER(void, msm_rs_helper_msm_rs_charge_device, struct drm_device *dev, s64 size)
{
	struct msm_drm_private *priv = dev->dev_private;

	trace_gpu_mem_total(0, 0, atomic64_add_return(size, &priv->total_mem));
}

/* BOs that a file has handles of */
HELPER(void, msm_rs_helper_msm_rs_charge_context, struct drm_file *file, s64 size)
{
	struct msm_context *ctx = file->driver_priv;
	u64 total = atomic64_add_return(size, &ctx->ctx_mem);

	rcu_read_lock(); /* for file->pid */
	trace_gpu_mem_total(0, pid_nr(rcu_dereference(file->pid)), total);
	rcu_read_unlock();
}

HELPER(unsigned long, msm_rs_helper_timeout_to_jiffies, const ktime_t *timeout)
{
	return timeout_to_jiffies(timeout);
}

/* Pitch and size of a dumb buffer: Adreno wants pitches of whole blocks of 32 pixels. */
HELPER(int, msm_rs_helper_msm_rs_size_dumb, struct drm_device *dev,
       struct drm_mode_create_dumb *args)
{
	u32 fourcc = drm_driver_color_mode_format(dev, args->bpp);
	const struct drm_format_info *info;
	u64 align;

	if (fourcc == DRM_FORMAT_INVALID) {
		align = round_up((u64)args->width, 32) * DIV_ROUND_UP(args->bpp, 8);
	} else {
		info = drm_format_info(fourcc);
		if (!info)
			return -EINVAL;
		align = drm_format_info_min_pitch(info, 0, 32);
	}
	if (!align || align > U32_MAX)
		return -EINVAL;
	return drm_mode_size_dumb(dev, args, align, 0);
}

/* A private mapping would copy pages that have no struct page as far as mm is concerned. */
HELPER(int, msm_rs_helper_msm_rs_mmap, struct vm_area_struct *vma, bool write_combined)
{
	if (vma_is_cow_mapping(vma))
		return -EINVAL;
	vm_flags_set(vma, VM_PFNMAP | VM_DONTEXPAND | VM_DONTDUMP);
	vma->vm_page_prot = vma_get_page_prot(vma);
	if (write_combined)
		vma->vm_page_prot = pgprot_writecombine(vma->vm_page_prot);
	return 0;
}

HELPER(struct drm_gem_object *, msm_rs_helper_msm_rs_fault_object, struct vm_fault *vmf)
{
	return vmf->vma->vm_private_data;
}

/* Which page of the BO: not of the mapping, which may be a part of the BO. */
HELPER(u64, msm_rs_helper_msm_rs_fault_index, struct vm_fault *vmf)
{
	struct drm_gem_object *obj = vmf->vma->vm_private_data;

	return vmf->pgoff - drm_vma_node_start(&obj->vma_node);
}

HELPER(vm_fault_t, msm_rs_helper_msm_rs_fault_insert, struct vm_fault *vmf, struct page *page)
{
	return vmf_insert_pfn(vmf->vma, vmf->address, page_to_pfn(page));
}

/*
 * After a signal the access is tried again. Not for want of memory: VM_FAULT_OOM is for who has had
 * the OOM killer called, or the access is tried again for ever.
 */
HELPER(vm_fault_t, msm_rs_helper_msm_rs_fault_error, int err)
{
	return err == -EINTR || err == -ERESTARTSYS ? VM_FAULT_NOPAGE : VM_FAULT_SIGBUS;
}

HELPER(void, msm_rs_helper_msm_rs_seq_print, struct seq_file *m, const void *args)
{
	seq_printf(m, "%pA", args);
}

HELPER(void, msm_rs_helper_msm_rs_seq_bo, struct seq_file *m, struct drm_gem_object *obj,
       bool active, const char *madv)
{
	struct msm_gem_object *bo = to_msm_bo(obj);

	seq_printf(m, "%08x: %c %2d (%2d) %08llx %p %08zu %9s %-32s\n", bo->flags,
		   active ? 'A' : 'I', obj->name, kref_read(&obj->refcount),
		   (u64)drm_vma_node_start(&obj->vma_node), bo->vaddr, obj->size, madv, bo->name);
}

HELPER(void, msm_rs_helper_msm_rs_seq_va, struct seq_file *m, struct drm_gpuva *va)
{
	struct task_struct *task = get_pid_task(to_msm_vm(va->vm)->pid, PIDTYPE_PID);
	char comm[TASK_COMM_LEN] = "";

	if (task) {
		get_task_comm(comm, task);
		put_task_struct(task);
	}
	seq_printf(m, " [%s%s%s: vm=%p, %08llx, %smapped]", va->vm->name, task ? ":" : "", comm,
		   va->vm, va->va.addr,
		   to_msm_vma(va)->mapped ? "" : "un");
}

#if !defined(CONFIG_DRM_MSM_KMS) && IS_ENABLED(CONFIG_KUNIT)
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
