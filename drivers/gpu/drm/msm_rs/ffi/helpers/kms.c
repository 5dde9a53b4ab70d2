// SPDX-License-Identifier: GPL-2.0-only
/*
 * The display's VM.
 *
 * Part of ../helpers.c.
 */

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
