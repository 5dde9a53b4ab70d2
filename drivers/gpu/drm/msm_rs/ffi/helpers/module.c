// SPDX-License-Identifier: GPL-2.0-only
/*
 * The module: its parameter, reference and workqueues, the current task, the time, printing.
 *
 * Part of ../helpers.c.
 */

static uint vm_log_shift;
MODULE_PARM_DESC(vm_log_shift, "Number of VM log entries as a power of two, up to 8 (0: no log)");
module_param(vm_log_shift, uint, 0600);

HELPER(unsigned int, msm_rs_helper_msm_rs_vm_log_shift, void)
{
	return READ_ONCE(vm_log_shift);
}

/* A debug line for userspace's errors, see UERR(). @args is a core::fmt::Arguments. */
HELPER(void, msm_rs_helper_msm_rs_uerr, struct drm_device *dev, const void *args)
{
	DRM_DEV_DEBUG_DRIVER(dev->dev, "%pA\n", args);
}

HELPER(void, msm_rs_helper_msm_rs_printf, struct drm_printer *p, const void *args)
{
	drm_printf(p, "%pA", args);
}

HELPER(u64, msm_rs_helper_ktime_get_ns, void)
{
	return ktime_get_ns();
}

HELPER(u64, msm_rs_helper_msm_rs_jiffies, void)
{
	return get_jiffies_64();
}

HELPER(int, msm_rs_helper_msm_rs_current_tgid, void)
{
	return current->flags & PF_KTHREAD ? 0 : task_tgid_nr(current);
}

HELPER(bool, msm_rs_helper_msm_rs_is_killed, void)
{
	return fatal_signal_pending(current);
}

HELPER(bool, msm_rs_helper_msm_rs_is_dying, void)
{
	return current->flags & (PF_EXITING | PF_KTHREAD) || fatal_signal_pending(current);
}

HELPER(unsigned long, msm_rs_helper_totalram_pages, void)
{
	return totalram_pages();
}

HELPER(struct workqueue_struct *, msm_rs_helper_msm_rs_alloc_wq, const char *name, bool reclaim)
{
	return alloc_workqueue("%s", WQ_UNBOUND | (reclaim ? WQ_MEM_RECLAIM : 0), 0, name);
}

HELPER(void, msm_rs_helper_msm_rs_flush_wq, struct workqueue_struct *wq)
{
	flush_workqueue(wq);
}

HELPER(void, msm_rs_helper_msm_rs_line_init, struct semaphore *line)
{
	sema_init(line, 1);
}

HELPER(void, msm_rs_helper_msm_rs_module_get, void)
{
	__module_get(THIS_MODULE);
}

HELPER(void, msm_rs_helper_msm_rs_module_put, void)
{
	module_put(THIS_MODULE);
}
