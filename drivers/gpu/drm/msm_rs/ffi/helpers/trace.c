// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tracepoints. Rust looks at their keys by itself (../trace.rs), and comes here if somebody
 * listens.
 *
 * Part of ../helpers.c.
 */

HELPER(void, msm_rs_helper_trace_msm_vm_bind, u64 client_id, u64 ttbr0, u32 queue, u32 job,
       u32 flags, u32 ops, struct dma_fence *fence)
{
	trace_msm_vm_bind(client_id, ttbr0, queue, job, flags, ops, fence);
}

HELPER(void, msm_rs_helper_trace_msm_vm_map, u64 ttbr0, u64 start, u64 end,
       struct drm_gem_object *obj, u64 offset, int prot, const char *why, u32 job)
{
	trace_msm_vm_map(ttbr0, start, end, obj, offset, prot, why, job);
}

HELPER(void, msm_rs_helper_trace_msm_vm_unmap, u64 ttbr0, u64 start, u64 end, const char *why,
       u32 job)
{
	trace_msm_vm_unmap(ttbr0, start, end, why, job);
}

HELPER(void, msm_rs_helper_trace_msm_gem_evict, struct drm_gem_object *obj)
{
	trace_msm_gem_evict(obj);
}

HELPER(void, msm_rs_helper_trace_msm_gem_purge, struct drm_gem_object *obj)
{
	trace_msm_gem_purge(obj);
}

HELPER(void, msm_rs_helper_trace_msm_mmu_prealloc_cleanup, u32 count, u32 remaining)
{
	trace_msm_mmu_prealloc_cleanup(count, remaining);
}
