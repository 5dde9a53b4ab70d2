// SPDX-License-Identifier: GPL-2.0-only
/*
 * The LRUs: what may be swapped, and what is traced.
 *
 * Part of ../helpers.c.
 */

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
