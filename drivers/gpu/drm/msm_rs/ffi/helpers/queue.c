// SPDX-License-Identifier: GPL-2.0-only
/*
 * Submitqueues.
 *
 * Part of ../helpers.c.
 */

HELPER(void, msm_rs_helper_msm_submitqueue_put, struct msm_gpu_submitqueue *queue)
{
	msm_submitqueue_put(queue);
}

HELPER(int, msm_rs_helper_msm_rs_queue_lock, struct msm_gpu_submitqueue *queue)
{
	return mutex_lock_interruptible(&queue->lock);
}

HELPER(void, msm_rs_helper_msm_rs_queue_unlock, struct msm_gpu_submitqueue *queue)
{
	mutex_unlock(&queue->lock);
}

HELPER(void, msm_rs_helper_msm_rs_queue_get, struct msm_gpu_submitqueue *queue)
{
	kref_get(&queue->ref);
}
