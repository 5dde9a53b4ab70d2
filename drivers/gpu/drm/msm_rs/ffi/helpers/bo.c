// SPDX-License-Identifier: GPL-2.0-only
/*
 * A BO, from its listing to its end.
 *
 * Part of ../helpers.c.
 */

HELPER(void, msm_rs_helper_msm_gem_lock, struct drm_gem_object *obj)
{
	msm_gem_lock(obj);
}

HELPER(void, msm_rs_helper_msm_gem_unlock, struct drm_gem_object *obj)
{
	msm_gem_unlock(obj);
}

HELPER(void, msm_rs_helper_msm_rs_list_init, struct list_head *list)
{
	INIT_LIST_HEAD(list);
}

/*
 * Gives a BO that is initialised a place at which userspace can map it, and lists it. That comes
 * last: whoever finds it there may outlive what made it, and with an import that fails the dma-buf
 * whose resv it uses.
 */
HELPER(int, msm_rs_helper_msm_rs_announce_bo, struct drm_gem_object *obj)
{
	struct msm_drm_private *priv = obj->dev->dev_private;
	int ret = drm_gem_create_mmap_offset(obj);

	if (ret)
		return ret;
	drm_gem_lru_move_tail(drm_gem_is_imported(obj) ? &priv->lru.pinned : &priv->lru.unbacked,
			      obj);
	mutex_lock(&priv->obj_lock);
	list_add_tail(&to_msm_bo(obj)->node, &priv->objects);
	mutex_unlock(&priv->obj_lock);
	return 0;
}

/* It may never have been listed. */
HELPER(void, msm_rs_helper_msm_rs_forget_bo, struct drm_gem_object *obj)
{
	struct msm_drm_private *priv = obj->dev->dev_private;

	mutex_lock(&priv->obj_lock);
	list_del(&to_msm_bo(obj)->node);
	mutex_unlock(&priv->obj_lock);
}

static bool transparent_hugepage = true;
MODULE_PARM_DESC(transparent_hugepage, "Large pages for buffers of 2 MiB and more");
module_param(transparent_hugepage, bool, 0400);

/* Before the device has BOs. Without, they have small pages. */
void msm_rs_use_large_pages(struct drm_device *dev)
{
#ifdef CONFIG_TRANSPARENT_HUGEPAGE
	int ret;

	if (!transparent_hugepage)
		return;
	ret = drm_gem_huge_mnt_create(dev, "within_size");
	if (!ret)
		ret = PTR_ERR_OR_ZERO(dev->huge_mnt);
	if (!ret)
		return;
	/* It may be an error, or gone already: each BO would be made in it. */
	dev->huge_mnt = NULL;
	drm_warn(dev, "no large pages: %d\n", ret);
#endif
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

/*
 * As drm_gem_get_pages(), which can't be killed, nor told not to wait for memory. What has come in
 * until an error stays in the file.
 */
HELPER(struct page **, msm_rs_helper_msm_rs_get_pages, struct drm_gem_object *obj, bool may_wait)
{
	struct address_space *mapping = obj->filp->f_mapping;
	gfp_t gfp = mapping_gfp_mask(mapping);
	size_t nr = obj->size >> PAGE_SHIFT, i = 0;
	struct page **pages;
	struct folio *folio;

	pages = kvcalloc(nr, sizeof(*pages), GFP_KERNEL | __GFP_NOWARN);
	if (!pages)
		return ERR_PTR(-ENOMEM);
	if (!may_wait) {
		gfp &= ~(__GFP_DIRECT_RECLAIM | __GFP_RETRY_MAYFAIL);
		/* Nor what is kept for those who can't ever wait. */
		gfp |= __GFP_NOMEMALLOC;
	}
	mapping_set_unevictable(mapping);
	while (i < nr) {
		if (fatal_signal_pending(current))
			folio = ERR_PTR(-EINTR);
		else
			folio = shmem_read_folio_gfp(mapping, i, gfp);
		if (IS_ERR(folio)) {
			drm_gem_put_pages(obj, pages, false, false);
			return ERR_CAST(folio);
		}
		do {
			pages[i] = folio_file_page(folio, i);
			i++;
		} while (i < min(nr, folio_next_index(folio)));
	}
	return pages;
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
