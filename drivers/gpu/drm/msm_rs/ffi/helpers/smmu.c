// SPDX-License-Identifier: GPL-2.0-only
/*
 * Per-process page tables: what the SMMU needs to know, and the memory behind them.
 *
 * Part of ../helpers.c.
 */

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
