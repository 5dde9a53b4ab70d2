// SPDX-License-Identifier: GPL-2.0-only
/*
 * Functions for what C offers as inline function or macro only: msm_rs_helper_foo() is bindings::foo() in Rust.
 */
#include "bindings_helper.h"

void msm_rs_helper_drm_gem_object_get(struct drm_gem_object *obj);
void msm_rs_helper_drm_gem_object_get(struct drm_gem_object *obj)
{
	drm_gem_object_get(obj);
}

void msm_rs_helper_drm_gem_object_put(struct drm_gem_object *obj);
void msm_rs_helper_drm_gem_object_put(struct drm_gem_object *obj)
{
	drm_gem_object_put(obj);
}
