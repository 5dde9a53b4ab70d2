// SPDX-License-Identifier: GPL-2.0-only
/*
 * What is mapped where, for developers.
 *
 * Part of ../helpers.c.
 */

/* The VMAs of all open files' VMs, as other drivers with drm_gpuvm show theirs. */
int msm_rs_gpuvas_show(struct seq_file *m, void *arg)
{
	struct drm_info_node *node = m->private;
	struct drm_device *dev = node->minor->dev;
	struct drm_file *file;
	int ret;

	ret = mutex_lock_interruptible(&dev->filelist_mutex);
	if (ret)
		return ret;
	list_for_each_entry(file, &dev->filelist, lhead) {
		struct msm_context *ctx = file->driver_priv;
		/* There once the file has used the GPU, and then to its end. */
		struct drm_gpuvm *vm = READ_ONCE(ctx->vm);

		if (!vm)
			continue;
		rcu_read_lock(); /* for file->pid */
		seq_printf(m, "client %llu, process %d:\n", file->client_id,
			   pid_nr(rcu_dereference(file->pid)));
		rcu_read_unlock();
		/* Nobody opens or closes a file meanwhile: not for as long as others have a VM. */
		if (dma_resv_trylock(drm_gpuvm_resv(vm))) {
			drm_debugfs_gpuva_info(m, vm);
			dma_resv_unlock(drm_gpuvm_resv(vm));
		} else {
			seq_puts(m, "locked by somebody\n");
		}
		seq_puts(m, "\n");
	}
	mutex_unlock(&dev->filelist_mutex);
	return 0;
}
