// SPDX-License-Identifier: GPL-2.0-only
/*
 * Userspace's mappings of BOs, and their faults.
 *
 * Part of ../helpers.c.
 */

/* A private mapping would copy pages that have no struct page as far as mm is concerned. */
HELPER(int, msm_rs_helper_msm_rs_mmap, struct vm_area_struct *vma, bool write_combined)
{
	if (vma_is_cow_mapping(vma))
		return -EINVAL;
	vm_flags_set(vma, VM_PFNMAP | VM_DONTEXPAND | VM_DONTDUMP);
	vma->vm_page_prot = vma_get_page_prot(vma);
	if (write_combined)
		vma->vm_page_prot = pgprot_writecombine(vma->vm_page_prot);
	return 0;
}

HELPER(struct drm_gem_object *, msm_rs_helper_msm_rs_fault_object, struct vm_fault *vmf)
{
	return vmf->vma->vm_private_data;
}

/* Which page of the BO: not of the mapping, which may be a part of the BO. */
HELPER(u64, msm_rs_helper_msm_rs_fault_index, struct vm_fault *vmf)
{
	struct drm_gem_object *obj = vmf->vma->vm_private_data;

	return vmf->pgoff - drm_vma_node_start(&obj->vma_node);
}

HELPER(vm_fault_t, msm_rs_helper_msm_rs_fault_insert, struct vm_fault *vmf, struct page *page)
{
	return vmf_insert_pfn(vmf->vma, vmf->address, page_to_pfn(page));
}

/*
 * As above, all of a large page at once, where the mapping and the BO have it at the same place in
 * it. @page is the one that is accessed. The BO is locked, so that nobody puts a table there.
 */
HELPER(vm_fault_t, msm_rs_helper_msm_rs_fault_insert_large, struct vm_fault *vmf, struct page *page)
{
#ifdef CONFIG_ARCH_SUPPORTS_PMD_PFNMAP
	unsigned long start = vmf->address & PMD_MASK;
	struct vm_area_struct *vma = vmf->vma;
	unsigned long pfn = page_to_pfn(page);
	pmd_t pmd = pmdp_get(vmf->pmd);

	if (!folio_test_pmd_mappable(page_folio(page)) ||
	    (vmf->address ^ PFN_PHYS(pfn)) & ~PMD_MASK & PAGE_MASK ||
	    start < vma->vm_start || start + PMD_SIZE > vma->vm_end ||
	    (!pmd_none(pmd) && !pmd_leaf(pmd)))
		return VM_FAULT_FALLBACK;
	pfn = ALIGN_DOWN(pfn, PMD_SIZE / PAGE_SIZE);
	/* Nobody asks whether it was written: once mapped, no access faults. */
	return vmf_insert_pfn_pmd(vmf, pfn, vma->vm_flags & VM_WRITE);
#else
	return VM_FAULT_FALLBACK;
#endif
}

HELPER(vm_fault_t, msm_rs_helper_msm_rs_fault_fallback, void)
{
	return VM_FAULT_FALLBACK;
}

HELPER(bool, msm_rs_helper_msm_rs_is_large, unsigned int order)
{
	return order == PMD_ORDER;
}

/* Whether an access may not wait at all. It is repeated then, by somebody who may. */
HELPER(bool, msm_rs_helper_msm_rs_fault_nowait, struct vm_fault *vmf)
{
	return vmf->flags & FAULT_FLAG_RETRY_NOWAIT;
}

/*
 * Lets go of an access's mmap_lock, if it may, which it may once: what the fault returns is
 * VM_FAULT_RETRY then. The mapping may go, and with it all that keeps BO, device and module: there
 * is a reference to the BO then, and one to the mapping's file, which is returned.
 */
HELPER(struct file *, msm_rs_helper_msm_rs_fault_unlock, struct vm_fault *vmf)
{
	const enum fault_flag flags = vmf->flags;
	struct file *file;

	if (!fault_flag_allow_retry_first(flags))
		return NULL;
	drm_gem_object_get(vmf->vma->vm_private_data);
	file = get_file(vmf->vma->vm_file);
	mmap_read_unlock(vmf->vma->vm_mm);
	return file;
}

HELPER(vm_fault_t, msm_rs_helper_msm_rs_fault_retry, void)
{
	return VM_FAULT_RETRY;
}

/*
 * With a signal the access is repeated, unless it kills the process: an access of the kernel's
 * would be repeated for ever, and so is EFAULT. Not for want of memory, either: VM_FAULT_OOM is for
 * who has had the OOM killer called.
 */
HELPER(vm_fault_t, msm_rs_helper_msm_rs_fault_error, int err)
{
	if (fatal_signal_pending(current))
		return VM_FAULT_SIGBUS;
	return err == -EINTR || err == -ERESTARTSYS ? VM_FAULT_NOPAGE : VM_FAULT_SIGBUS;
}
