// SPDX-License-Identifier: GPL-2.0-only
/*
 * /dev/vadreno-fence: each open file is a dma_fence that signals when a test says so. The kernel
 * forbids fences that depend on userspace; vgem, which has them nevertheless, signals them after
 * ten seconds, which a busy machine may need for what a test does meanwhile.
 */

#include <linux/dma-fence.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/sync_file.h>
#include <linux/workqueue.h>

#include "fence.h"

/* Then it signals by itself; below the limit of a test. held_fence.rs says so, too. */
#define VADRENO_FENCE_LIMIT	(100 * HZ)

/* Returns a descriptor: the fence as a sync file. */
#define VADRENO_FENCE_SYNC_FILE	_IO('v', 0)
/* ETIMEDOUT if it had signalled by itself. */
#define VADRENO_FENCE_SIGNAL	_IO('v', 1)

struct vadreno_fence {
	struct dma_fence base;
	spinlock_t lock;
	struct delayed_work limit;
};

static const char *vadreno_fence_name(struct dma_fence *fence)
{
	return "vadreno-fence";
}

static const struct dma_fence_ops vadreno_fence_ops = {
	.get_driver_name = vadreno_fence_name,
	.get_timeline_name = vadreno_fence_name,
};

static void vadreno_fence_expires(struct work_struct *work)
{
	struct vadreno_fence *fence =
		container_of(to_delayed_work(work), struct vadreno_fence, limit);

	dma_fence_signal(&fence->base);
}

static int vadreno_fence_open(struct inode *inode, struct file *file)
{
	struct vadreno_fence *fence = kzalloc(sizeof(*fence), GFP_KERNEL);

	if (!fence)
		return -ENOMEM;
	spin_lock_init(&fence->lock);
	dma_fence_init(&fence->base, &vadreno_fence_ops, &fence->lock,
		       dma_fence_context_alloc(1), 1);
	INIT_DELAYED_WORK(&fence->limit, vadreno_fence_expires);
	schedule_delayed_work(&fence->limit, VADRENO_FENCE_LIMIT);
	file->private_data = fence;
	return 0;
}

static int vadreno_fence_release(struct inode *inode, struct file *file)
{
	struct vadreno_fence *fence = file->private_data;

	cancel_delayed_work_sync(&fence->limit);
	dma_fence_signal(&fence->base);
	dma_fence_put(&fence->base);
	return 0;
}

static int vadreno_fence_sync_file(struct vadreno_fence *fence)
{
	struct sync_file *sync_file;
	int fd = get_unused_fd_flags(O_CLOEXEC);

	if (fd < 0)
		return fd;
	sync_file = sync_file_create(&fence->base);
	if (!sync_file) {
		put_unused_fd(fd);
		return -ENOMEM;
	}
	fd_install(fd, sync_file->file);
	return fd;
}

static long vadreno_fence_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct vadreno_fence *fence = file->private_data;

	switch (cmd) {
	case VADRENO_FENCE_SYNC_FILE:
		return vadreno_fence_sync_file(fence);
	case VADRENO_FENCE_SIGNAL:
		return dma_fence_check_and_signal(&fence->base) ? -ETIMEDOUT : 0;
	default:
		return -ENOTTY;
	}
}

static const struct file_operations vadreno_fence_fops = {
	.owner = THIS_MODULE,
	.open = vadreno_fence_open,
	.release = vadreno_fence_release,
	.unlocked_ioctl = vadreno_fence_ioctl,
};

static struct miscdevice vadreno_fence_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "vadreno-fence",
	.fops = &vadreno_fence_fops,
};

int vadreno_fence_register(void)
{
	return misc_register(&vadreno_fence_device);
}

void vadreno_fence_unregister(void)
{
	misc_deregister(&vadreno_fence_device);
}
