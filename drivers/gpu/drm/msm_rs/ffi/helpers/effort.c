// SPDX-License-Identifier: GPL-2.0-only
/*
 * Who waits for memory with objects locked.
 *
 * Part of ../helpers.c.
 */

/* Taken before any resv. Memory is the whole system's, and so this isn't a device's. */
static DEFINE_MUTEX(msm_rs_memory_mutex);

HELPER(int, msm_rs_helper_msm_rs_memory_lock, void)
{
	return mutex_lock_killable(&msm_rs_memory_mutex);
}

HELPER(void, msm_rs_helper_msm_rs_memory_unlock, void)
{
	mutex_unlock(&msm_rs_memory_mutex);
}
