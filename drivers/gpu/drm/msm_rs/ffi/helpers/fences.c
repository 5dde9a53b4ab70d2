// SPDX-License-Identifier: GPL-2.0-only
/*
 * Sync files and syncobjs.
 *
 * Part of ../helpers.c.
 */

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

/*
 * The fence of entry @i of an array of in-syncobjs, and the syncobj if it is to be reset. As
 * msm_syncobj_parse_deps(), which needs a job to add the fences to, and which looks at the lower 32
 * bits of a point.
 */
HELPER(int, msm_rs_helper_msm_rs_in_syncobj, struct drm_device *dev, struct drm_file *file,
       u64 addr, u32 i, u32 stride, struct dma_fence **fence, struct drm_syncobj **reset)
{
	struct drm_msm_syncobj desc = {};
	int ret;

	if (copy_from_user(&desc, u64_to_user_ptr(addr + (u64)i * stride),
			   min_t(size_t, stride, sizeof(desc))))
		return -EFAULT;
	if (desc.point && !drm_core_check_feature(dev, DRIVER_SYNCOBJ_TIMELINE))
		return UERR(EOPNOTSUPP, dev, "syncobj timeline unsupported");
	if (desc.flags & ~MSM_SYNCOBJ_FLAGS)
		return UERR(EINVAL, dev, "invalid syncobj flags: %x", desc.flags);
	ret = drm_syncobj_find_fence(file, desc.handle, desc.point, 0, fence);
	if (ret)
		return ret;
	*reset = NULL;
	if (desc.flags & MSM_SYNCOBJ_RESET) {
		*reset = drm_syncobj_find(file, desc.handle);
		if (!*reset) {
			dma_fence_put(*fence);
			return UERR(EINVAL, dev, "invalid syncobj handle: %u", i);
		}
	}
	return 0;
}

/* Takes the fence out of a syncobj. */
HELPER(void, msm_rs_helper_msm_rs_syncobj_reset, struct drm_syncobj *syncobj)
{
	drm_syncobj_replace_fence(syncobj, NULL);
}

HELPER(void, msm_rs_helper_msm_rs_syncobj_put, struct drm_syncobj *syncobj)
{
	drm_syncobj_put(syncobj);
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
