// SPDX-License-Identifier: GPL-2.0-only
/*
 * What debugfs prints.
 *
 * Part of ../helpers.c.
 */

HELPER(void, msm_rs_helper_msm_rs_seq_print, struct seq_file *m, const void *args)
{
	seq_printf(m, "%pA", args);
}

HELPER(void, msm_rs_helper_msm_rs_seq_bo, struct seq_file *m, struct drm_gem_object *obj,
       bool active, const char *madv)
{
	struct msm_gem_object *bo = to_msm_bo(obj);

	seq_printf(m, "%08x: %c %2d (%2d) %08llx %p %08zu %9s %-32s\n", bo->flags,
		   active ? 'A' : 'I', obj->name, kref_read(&obj->refcount),
		   (u64)drm_vma_node_start(&obj->vma_node), bo->vaddr, obj->size, madv, bo->name);
}

HELPER(void, msm_rs_helper_msm_rs_seq_va, struct seq_file *m, struct drm_gpuva *va)
{
	struct task_struct *task = get_pid_task(to_msm_vm(va->vm)->pid, PIDTYPE_PID);
	char comm[TASK_COMM_LEN] = "";

	if (task) {
		get_task_comm(comm, task);
		put_task_struct(task);
	}
	seq_printf(m, " [%s%s%s: vm=%p, %08llx, %smapped]", va->vm->name, task ? ":" : "", comm,
		   va->vm, va->va.addr,
		   to_msm_vma(va)->mapped ? "" : "un");
}
