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
