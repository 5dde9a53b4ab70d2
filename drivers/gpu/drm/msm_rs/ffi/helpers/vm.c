// SPDX-License-Identifier: GPL-2.0-only
/*
 * The VM that C and Rust share.
 *
 * Part of ../helpers.c.
 */

HELPER(void, msm_rs_helper_put_pid, struct pid *pid)
{
	put_pid(pid);
}

/* Fences may still point at the scheduler in the VM, under RCU. */
HELPER(void, msm_rs_helper_msm_rs_vm_free_rcu, struct msm_gem_vm *vm)
{
	kfree_rcu(vm, rcu);
}

/*
 * The fence of a submit of @vm that the GPU has begun and not ended, NULL if there is none. An
 * errno if it takes a wait to know that, and @wait isn't set. The VM's context is closed: what the
 * GPU begins from now on has no commands.
 */
HELPER(struct dma_fence *, msm_rs_helper_msm_rs_vm_busy, struct drm_gpuvm *vm, bool wait)
{
	struct msm_drm_private *priv = vm->drm->dev_private;
	struct msm_gpu *gpu = priv->gpu;
	struct dma_fence *fence = NULL;
	struct msm_gem_submit *submit;
	unsigned long flags;

	if (!gpu)
		return NULL;
	if (wait)
		mutex_lock(&gpu->lock);
	else if (!mutex_trylock(&gpu->lock))
		return ERR_PTR(-EAGAIN);
	for (int i = 0; i < gpu->nr_rings && !fence; i++) {
		struct msm_ringbuffer *ring = gpu->rb[i];

		/* Those of a ring end in order. */
		spin_lock_irqsave(&ring->submit_lock, flags);
		list_for_each_entry_reverse(submit, &ring->submits, node) {
			if (submit->vm != vm)
				continue;
			if (!test_bit(DMA_FENCE_FLAG_SIGNALED_BIT, &submit->hw_fence->flags))
				fence = dma_fence_get(submit->hw_fence);
			break;
		}
		spin_unlock_irqrestore(&ring->submit_lock, flags);
	}
	mutex_unlock(&gpu->lock);
	return fence;
}

HELPER(void, msm_rs_helper_msm_rs_mm_remove, struct drm_mm_node *node)
{
	if (drm_mm_node_allocated(node))
		drm_mm_remove_node(node);
}
