// SPDX-License-Identifier: GPL-2.0-only
/*
 * Who calls an ioctl: context, GPU, handles.
 *
 * Part of ../helpers.c.
 */

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
