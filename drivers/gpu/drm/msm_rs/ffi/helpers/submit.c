// SPDX-License-Identifier: GPL-2.0-only
/*
 * The submit that C runs, and the number of its fence.
 *
 * Part of ../helpers.c.
 */

/* How many submits there are, of all GPUs */
static atomic_t submits;

/*
 * A submit with room for BOs and commands, its fence, its job and one reference. An errno if it
 * can't be made.
 */
HELPER(struct msm_gem_submit *, msm_rs_helper_msm_rs_submit_alloc, u32 nr_bos, u32 nr_cmds,
       struct msm_gpu_submitqueue *queue, u64 client_id)
{
	struct msm_gem_submit *submit;
	size_t size = size_add(struct_size(submit, bos, nr_bos),
			       array_size(sizeof(submit->cmd[0]), nr_cmds));
	int ret;

	submit = kzalloc(size, GFP_KERNEL | __GFP_NOWARN);
	if (!submit)
		return ERR_PTR(-ENOMEM);
	submit->hw_fence = msm_fence_alloc();
	if (IS_ERR(submit->hw_fence)) {
		ret = PTR_ERR(submit->hw_fence);
		goto free;
	}
	ret = drm_sched_job_init(&submit->base, queue->entity, 1, queue, client_id);
	if (ret)
		goto free_fence;
	kref_init(&submit->ref);
	INIT_LIST_HEAD(&submit->node);
	submit->cmd = (void *)&submit->bos[nr_bos];
	submit->pid = get_pid(task_pid(current));
	atomic_inc(&submits);
	return submit;

free_fence:
	kfree(submit->hw_fence);
free:
	kfree(submit);
	return ERR_PTR(ret);
}

/*
 * The memory of a submit, its hardware fence and its process id. The fence is mere memory until the
 * job runs.
 */
HELPER(void, msm_rs_helper_msm_rs_submit_free, struct msm_gem_submit *submit)
{
	if (kref_read(&submit->hw_fence->refcount))
		dma_fence_put(submit->hw_fence);
	else
		kfree(submit->hw_fence);
	put_pid(submit->pid);
	kfree(submit);
}

/* There is one less, and nothing is left of it. */
HELPER(void, msm_rs_helper_msm_rs_submit_gone, void)
{
	if (atomic_dec_and_test(&submits))
		wake_up_var(&submits);
}

/* Waits until there is none. */
HELPER(void, msm_rs_helper_msm_rs_submits_wait, void)
{
	wait_var_event(&submits, !atomic_read(&submits));
}

static void msm_rs_retire_work(struct work_struct *work)
{
	struct msm_gem_submit *submit = container_of(work, struct msm_gem_submit, retire_work);

	msm_rs_retire_rest(submit);
	msm_gem_submit_put(submit);
}

/* Has msm_rs_retire_rest() called on @wq. */
HELPER(void, msm_rs_helper_msm_rs_retire_later, struct workqueue_struct *wq,
       struct msm_gem_submit *submit)
{
	msm_gem_submit_get(submit);
	INIT_WORK(&submit->retire_work, msm_rs_retire_work);
	queue_work(wq, &submit->retire_work);
}

/* Puts a reference, if it isn't the last one. */
HELPER(bool, msm_rs_helper_msm_rs_obj_put_unless_last, struct drm_gem_object *obj)
{
	return refcount_dec_not_one(&obj->refcount.refcount);
}

HELPER(void, msm_rs_helper_msm_gem_submit_put, struct msm_gem_submit *submit)
{
	msm_gem_submit_put(submit);
}

HELPER(void, msm_rs_helper_msm_rs_trace_submit, struct msm_gem_submit *submit, u32 nr_bos,
       u32 nr_cmds)
{
	trace_msm_gpu_submit(pid_nr(submit->pid), submit->ring->id, submit->ident, nr_bos, nr_cmds);
}

/* Whether msm_rs_rd_dump() has something to do. */
HELPER(bool, msm_rs_helper_msm_rs_rd_wanted, struct msm_gem_submit *submit)
{
#ifdef CONFIG_DEBUG_FS
	struct msm_drm_private *priv = submit->dev->dev_private;

	return msm_rd_is_read(priv->rd);
#else
	return false;
#endif
}

HELPER(void, msm_rs_helper_msm_rs_rd_dump, struct msm_gem_submit *submit)
{
	struct msm_drm_private *priv = submit->dev->dev_private;

	msm_rd_dump_submit(priv->rd, submit, NULL);
}

/*
 * A fence number that nobody uses: @wanted, or the next if that is 0. Or an errno. It leads to the
 * fence that the submit will have: until msm_rs_submit_arm() that is zeroed memory, of which nobody
 * gets a reference (dma_fence_get_rcu()).
 */
HELPER(int, msm_rs_helper_msm_rs_fence_id_reserve, struct msm_gem_submit *submit, int wanted)
{
	struct dma_fence *fence = &submit->base.s_fence->finished;
	struct msm_gpu_submitqueue *queue = submit->queue;
	int id;

	idr_preload(GFP_KERNEL);
	spin_lock(&queue->idr_lock);
	if (wanted) {
		u32 exact = wanted;

		id = idr_alloc_u32(&queue->fence_idr, fence, &exact, exact, GFP_NOWAIT);
		if (!id)
			id = wanted;
		else if (id == -ENOSPC)
			id = -EINVAL;
	} else {
		id = idr_alloc_cyclic(&queue->fence_idr, fence, 1, INT_MAX, GFP_NOWAIT);
	}
	spin_unlock(&queue->idr_lock);
	idr_preload_end();
	return id;
}

/*
 * Starts the fences. Who finds the finished one by its number does so under the lock, and so before
 * or after, not in between.
 */
HELPER(void, msm_rs_helper_msm_rs_submit_arm, struct msm_gem_submit *submit)
{
	struct msm_gpu_submitqueue *queue = submit->queue;

	spin_lock(&queue->idr_lock);
	drm_sched_job_arm(&submit->base);
	spin_unlock(&queue->idr_lock);
	submit->user_fence = dma_fence_get(&submit->base.s_fence->finished);
}

HELPER(void, msm_rs_helper_msm_rs_fence_id_free, struct msm_gem_submit *submit)
{
	struct msm_gpu_submitqueue *queue = submit->queue;

	if (!submit->fence_id)
		return;
	spin_lock(&queue->idr_lock);
	idr_remove(&queue->fence_idr, submit->fence_id);
	spin_unlock(&queue->idr_lock);
}

/* How many fences a submit was given to wait for. They are there until it is cleaned up. */
HELPER(u32, msm_rs_helper_msm_rs_submit_nr_dependencies, struct msm_gem_submit *submit)
{
	struct dma_fence *fence;
	unsigned long index;
	u32 nr = 0;

	xa_for_each(&submit->base.dependencies, index, fence)
		nr++;
	return nr;
}
