/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Tracepoints of the memory manager. They are beside the driver's others, in drm_msm_gpu:
 * Documentation/tracing.rst shows their use.
 *
 * - ttbr0: the page tables, and so the VM, as fault messages and crash dumps name it
 * - bo: the GEM object, as debugfs' gpuvas has it (trace_options: nohash-ptr)
 * - job: what the VM's log numbers its jobs by; 0 if it wasn't VM_BIND
 */

#undef TRACE_SYSTEM
#define TRACE_SYSTEM drm_msm_gpu

#if !defined(_MSM_RS_TRACE_H_) || defined(TRACE_HEADER_MULTI_READ)
#define _MSM_RS_TRACE_H_

#include <linux/dma-fence.h>
#include <linux/iommu.h>
#include <linux/tracepoint.h>
#include "msm_gem.h"

#define show_prot(prot)					\
	__print_flags(prot, "|",			\
		      { IOMMU_READ, "read" },		\
		      { IOMMU_WRITE, "write" },		\
		      { IOMMU_PRIV, "priv" },		\
		      { IOMMU_CACHE, "cache" })

/*
 * A VM_BIND request that was accepted, before anything changes. What was done in the ioctl has no
 * fence: 0:0.
 */
TRACE_EVENT(msm_vm_bind,
	    TP_PROTO(u64 client_id, u64 ttbr0, u32 queue, u32 job, u32 flags, u32 ops,
		     struct dma_fence *fence),
	    TP_ARGS(client_id, ttbr0, queue, job, flags, ops, fence),
	    TP_STRUCT__entry(__field(u64, client_id)
			     __field(u64, ttbr0)
			     __field(u64, fence_context)
			     __field(u64, fence_seqno)
			     __field(u32, queue)
			     __field(u32, job)
			     __field(u32, flags)
			     __field(u32, ops)
			     ),
	    TP_fast_assign(__entry->client_id = client_id;
			   __entry->ttbr0 = ttbr0;
			   __entry->fence_context = fence ? fence->context : 0;
			   __entry->fence_seqno = fence ? fence->seqno : 0;
			   __entry->queue = queue;
			   __entry->job = job;
			   __entry->flags = flags;
			   __entry->ops = ops;
			   ),
	    TP_printk("client=%llu ttbr0=0x%llx queue=%u job=%u flags=0x%x ops=%u fence=%llu:%llu",
		      __entry->client_id, __entry->ttbr0, __entry->queue, __entry->job,
		      __entry->flags, __entry->ops, __entry->fence_context, __entry->fence_seqno)
);

#define VM_CHANGE "ttbr0=0x%llx iova=0x%llx-0x%llx why=%s job=%u"

/* Entries of a VM's page tables were written. bo is NULL where reads find zeroes (MAP_NULL). */
TRACE_EVENT(msm_vm_map,
	    TP_PROTO(u64 ttbr0, u64 start, u64 end, struct drm_gem_object *obj, u64 offset,
		     int prot, const char *why, u32 job),
	    TP_ARGS(ttbr0, start, end, obj, offset, prot, why, job),
	    TP_STRUCT__entry(__field(u64, ttbr0)
			     __field(u64, start)
			     __field(u64, end)
			     __field(u64, offset)
			     __field(void *, bo)
			     __array(char, name, 32)
			     __string(why, why)
			     __field(int, prot)
			     __field(u32, job)
			     ),
	    TP_fast_assign(__entry->ttbr0 = ttbr0;
			   __entry->start = start;
			   __entry->end = end;
			   __entry->offset = offset;
			   __entry->bo = obj;
			   /* Userspace may set it at this moment. */
			   strscpy_pad(__entry->name, obj ? to_msm_bo(obj)->name : "",
				       sizeof(__entry->name));
			   __assign_str(why);
			   __entry->prot = prot;
			   __entry->job = job;
			   ),
	    TP_printk(VM_CHANGE " bo=%p off=0x%llx prot=%s name=%s",
		      __entry->ttbr0, __entry->start, __entry->end, __get_str(why), __entry->job,
		      __entry->bo, __entry->offset, show_prot(__entry->prot), __entry->name)
);

/*
 * Entries of a VM's page tables were cleared: all between the two addresses, of which there was one
 * at least, or a table where a VM is closed. The TLB is invalidated later: by the end of the job,
 * and before something is mapped in their place.
 */
TRACE_EVENT(msm_vm_unmap,
	    TP_PROTO(u64 ttbr0, u64 start, u64 end, const char *why, u32 job),
	    TP_ARGS(ttbr0, start, end, why, job),
	    TP_STRUCT__entry(__field(u64, ttbr0)
			     __field(u64, start)
			     __field(u64, end)
			     __string(why, why)
			     __field(u32, job)
			     ),
	    TP_fast_assign(__entry->ttbr0 = ttbr0;
			   __entry->start = start;
			   __entry->end = end;
			   __assign_str(why);
			   __entry->job = job;
			   ),
	    TP_printk(VM_CHANGE,
		      __entry->ttbr0, __entry->start, __entry->end, __get_str(why), __entry->job)
);

DECLARE_EVENT_CLASS(msm_gem_reclaim,
		    TP_PROTO(struct drm_gem_object *obj),
		    TP_ARGS(obj),
		    TP_STRUCT__entry(__field(u64, size)
				     __field(void *, bo)
				     __array(char, name, 32)
				     ),
		    TP_fast_assign(__entry->size = obj->size;
				   __entry->bo = obj;
				   strscpy_pad(__entry->name, to_msm_bo(obj)->name,
					       sizeof(__entry->name));
				   ),
		    TP_printk("bo=%p size=%llu freed=%llu pg name=%s",
			      __entry->bo, __entry->size, __entry->size >> PAGE_SHIFT,
			      __entry->name)
);

/* Reclaim has taken the pages of a BO, which may be swapped out. */
DEFINE_EVENT(msm_gem_reclaim, msm_gem_evict,
	     TP_PROTO(struct drm_gem_object *obj),
	     TP_ARGS(obj)
);

/* Reclaim has taken the pages of a BO that isn't needed, and its content. */
DEFINE_EVENT(msm_gem_reclaim, msm_gem_purge,
	     TP_PROTO(struct drm_gem_object *obj),
	     TP_ARGS(obj)
);

#endif

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE msm_rs_trace
#include <trace/define_trace.h>
