// SPDX-License-Identifier: GPL-2.0-only
/*
 * The watch: no page goes back to the kernel while the GPU can reach it.
 *
 * Probes on the tracepoints of the page allocator, and on those of files, see each page that is
 * freed, taken for swap or given up by its file while somebody else has it, and ask the virtual
 * Adreno whether page tables, or its TLB, lead there (tests/vadreno/src/freed.rs). Anonymous memory
 * isn't asked about, since no driver maps that for the GPU. A question costs an exit to the
 * device's process, so pages that are freed together are asked about together.
 *
 * What is found is printed as a BUG, on which tests/vm ends the guest.
 */

#include <linux/device.h>
#include <linux/irq_work.h>
#include <linux/kallsyms.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/pagemap.h>
#include <linux/sched.h>
#include <linux/stacktrace.h>
#include <linux/tracepoint.h>
#include <linux/workqueue.h>
#include <asm/compiler.h>
#include <drm/drm_device.h>
#include <drm/drm_file.h>

#include "msm_gem.h"
#include "msm_gpu.h"
#include "msm_mmu.h"
#include "watch.h"

/* The control BAR: tests/vadreno/ctl/src/lib.rs */
#define CURRENT_TTBR0	0x400
#define FREED_LIST	0x600
#define FREED_CHECK	0x608
#define FREED_PAGE	0x610
#define FREED_HOW	0x618
#define FREED_IS_TABLE	BIT(2)
#define FREED_IOVA	0x620
#define FREED_TTBR0	0x628
#define FREED_LENIENT	0x630
#define FREED_CHECKED	0x638
#define FREED_DEAD	0x640
#define FREED_BARE	0x648
#define FREED_MAX	511

static const char * const ways[] = {
	"mapped by a table", "in the TLB", "is a table", "is a table in the TLB"
};

static uint watch;
module_param(watch, uint, 0400);
MODULE_PARM_DESC(watch,
		 "look up each page that is freed: 1: yes, 2: but let the tables of contexts that "
		 "end pass");

/* Guards the list and the device's registers. */
static DEFINE_RAW_SPINLOCK(watch_lock);
static void __iomem *watch_ctl;
/* A page that the device reads: the number of entries, then the entries. */
static u64 *watch_list;
static unsigned int watch_count;
static unsigned long watch_questions;

/* What was found, until it is printed. */
static struct finding {
	u64 page, how, iova, ttbr0, loaded;
	const char *what;
	char comm[TASK_COMM_LEN];
	pid_t pid;
	int cpu;
	unsigned int depth;
	unsigned long stack[40];
} finding;
static atomic_t findings;
/* One after the other is printed, and only so many. */
#define FINDINGS_MAX	3
static atomic_t printing;

/* The log of the VM */

static unsigned long find_symbol(struct module *mod, const char *name)
{
	struct mod_kallsyms *syms;
	unsigned long found = 0;
	unsigned int i;

	rcu_read_lock();
	syms = rcu_dereference(mod->kallsyms);
	for (i = 0; i < syms->num_symtab && !found; i++) {
		const Elf_Sym *sym = &syms->symtab[i];

		if (sym->st_shndx != SHN_UNDEF && !strcmp(syms->strtab + sym->st_name, name))
			found = sym->st_value;
	}
	rcu_read_unlock();
	return found;
}

static void print_c_log(struct msm_gem_vm *vm)
{
	unsigned int len = 1 << vm->log_shift, i;

	for (i = 0; i < len; i++) {
		struct msm_gem_vm_log_entry *entry = &vm->log[(vm->log_idx + i) & (len - 1)];

		if (entry->op)
			pr_emerg("  - %s:%d: %#018llx-%#018llx\n", entry->op, entry->queue_id,
				 entry->iova, entry->iova + entry->range);
	}
}

/*
 * The VM whose root that is, if its file is open. Its own msm.ko prints the log of a VM when it
 * declares it unusable: here no more is expected of it.
 */
static void print_vm_log(u64 ttbr0)
{
	int (*params)(struct msm_mmu *mmu, phys_addr_t *ttbr, int *asid);
	void (*unusable)(struct drm_gpuvm *vm);
	struct drm_file *file;
	struct msm_gpu *gpu;
	struct device *dev;
	bool found = false;

	gpu = vadreno_gpu(&dev);
	if (!gpu)
		return;
	params = (void *)find_symbol(dev->driver->owner, "msm_iommu_pagetable_params");
	unusable = (void *)find_symbol(dev->driver->owner, "msm_gem_vm_unusable");
	if (!params || !unusable) {
		pr_emerg("msm watch: there is no way to print a VM's log\n");
		goto out;
	}
	mutex_lock(&gpu->dev->filelist_mutex);
	list_for_each_entry(file, &gpu->dev->filelist, lhead) {
		struct msm_context *ctx = file->driver_priv;
		struct drm_gpuvm *vm = ctx ? READ_ONCE(ctx->vm) : NULL;
		phys_addr_t root;
		int asid;

		if (!vm || !to_msm_vm(vm)->mmu || params(to_msm_vm(vm)->mmu, &root, &asid) ||
		    root != ttbr0)
			continue;
		found = true;
		pr_emerg("msm watch: the log of the VM of ttbr0 %#llx:\n", ttbr0);
		if (to_msm_vm(vm)->log)
			print_c_log(to_msm_vm(vm));
		else
			unusable(vm);
	}
	mutex_unlock(&gpu->dev->filelist_mutex);
	if (!found)
		pr_emerg("msm watch: no open file has a VM of ttbr0 %#llx\n", ttbr0);
out:
	put_device(dev);
}

static void watch_log_work(struct work_struct *work)
{
	print_vm_log(finding.ttbr0 ?: finding.loaded);
	atomic_set(&printing, 0);
}
static DECLARE_WORK(watch_log, watch_log_work);

/* Pages are freed with locks held that printing may need. */
static void watch_print(struct irq_work *work)
{
	char how[80];
	unsigned int i;
	int len = 0;

	for (i = 0; i < ARRAY_SIZE(ways); i++)
		if (finding.how & BIT_ULL(i))
			len += scnprintf(how + len, sizeof(how) - len, "%s%s", len ? ", " : "",
					 ways[i]);
	pr_emerg("BUG: msm watch: page %#llx %s while it is reachable: "
		 "iova %#llx ttbr0 %#llx (%.*s)\n",
		 finding.page, finding.what, finding.iova, finding.ttbr0, len, how);
	pr_emerg("CPU: %d PID: %d Comm: %s, loaded: ttbr0 %#llx\n", finding.cpu, finding.pid,
		 finding.comm, finding.loaded);
	pr_emerg("Call trace:\n");
	for (i = 0; i < finding.depth; i++)
		pr_emerg(" %pS\n", (void *)finding.stack[i]);
	schedule_work(&watch_log);
}
static DEFINE_IRQ_WORK(watch_printer, watch_print);

static const char freed[] = "freed";
static const char freed_to_cache[] = "freed to its cache";

static void watch_found(const char *what)
{
	/*
	 * Where tables come from a slab cache they are looked at when they go there. The page that they
	 * were in is freed later, while the tables of the same VM lead there still.
	 */
	if (watch == 2 && what == freed && readq(watch_ctl + FREED_HOW) == FREED_IS_TABLE)
		return;
	if (atomic_cmpxchg(&printing, 0, 1))
		return;
	if (atomic_inc_return(&findings) > FINDINGS_MAX)
		return;
	finding.page = readq(watch_ctl + FREED_PAGE);
	finding.how = readq(watch_ctl + FREED_HOW);
	finding.iova = readq(watch_ctl + FREED_IOVA);
	finding.ttbr0 = readq(watch_ctl + FREED_TTBR0);
	finding.loaded = readq(watch_ctl + CURRENT_TTBR0);
	finding.what = what;
	finding.cpu = raw_smp_processor_id();
	finding.pid = current->pid;
	memcpy(finding.comm, current->comm, sizeof(finding.comm));
	/* without this file's own functions and the tracepoint's */
	finding.depth = stack_trace_save(finding.stack, ARRAY_SIZE(finding.stack), 2);
	irq_work_queue(&watch_printer);
}

/* Asks about the list, and empties it. Its last entry is what is said; those before were freed. */
static void watch_ask(const char *what)
{
	unsigned int count = watch_count;
	u64 found;

	watch_list[0] = count;
	watch_questions++;
	watch_count = 0;
	dma_wmb();
	/* the number of the first entry to which something leads, from 1 on */
	found = readq(watch_ctl + FREED_CHECK);
	if (found)
		watch_found(found == count ? what : freed);
}

static void watch_add(phys_addr_t pa, unsigned int order)
{
	watch_list[++watch_count] = pa | order;
}

/*
 * What waits on the list was freed a moment ago and goes to the allocator after this. A page may
 * have got there by another way than that of the others, and may be somebody's again: too late for
 * it.
 */
static void watch_drop_reused(void)
{
	unsigned int i, kept = 0;

	for (i = 1; i <= watch_count; i++) {
		struct page *page = phys_to_page(watch_list[i]);

		if (PageBuddy(page) || (!page_count(page) && !page_has_type(page)))
			watch_list[++kept] = watch_list[i];
	}
	watch_count = kept;
}

static void watch_now(phys_addr_t pa, unsigned int order, const char *what)
{
	unsigned long flags;

	raw_spin_lock_irqsave(&watch_lock, flags);
	watch_drop_reused();
	watch_add(pa, order);
	watch_ask(what);
	raw_spin_unlock_irqrestore(&watch_lock, flags);
}

/*
 * free_unref_folios() prepares all pages of a batch, and only then gives them to the allocator one
 * by one, for which there is another tracepoint. Both call the probe of the first one through the
 * tracepoint's iterator, so that the second return address tells them apart.
 */
static bool watch_in_batch(unsigned long caller)
{
	static struct {
		unsigned long caller;
		bool batch;
	} known[16];
	static char name[KSYM_SYMBOL_LEN];
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(known) && known[i].caller; i++)
		if (known[i].caller == caller)
			return known[i].batch;
	/* Where it can't be kept it is a page by itself: slower, that's all. */
	if (i == ARRAY_SIZE(known))
		return false;
	sprint_symbol_no_offset(name, caller - 4);
	known[i].caller = caller;
	known[i].batch = !strncmp(name, "free_unref_folios", strlen("free_unref_folios"));
	return known[i].batch;
}

static noinline void watch_page_free(void *data, struct page *page, unsigned int order)
{
	/* This function's frame, and the iterator's. */
	unsigned long *frame = __builtin_frame_address(0);
	unsigned long caller = ptrauth_strip_kernel_insn_pac(((unsigned long *)frame[0])[1]);
	unsigned long flags;

	if (PageAnon(page))
		return;
	raw_spin_lock_irqsave(&watch_lock, flags);
	/* Large ones go to the allocator at once. */
	if (order <= PAGE_ALLOC_COSTLY_ORDER && watch_count < FREED_MAX && watch_in_batch(caller)) {
		watch_add(page_to_phys(page), order);
	} else {
		watch_drop_reused();
		if (watch_count == FREED_MAX)
			watch_ask(freed);
		watch_add(page_to_phys(page), order);
		watch_ask(freed);
	}
	raw_spin_unlock_irqrestore(&watch_lock, flags);
}

static void watch_page_free_batched(void *data, struct page *page)
{
	unsigned long flags;

	if (!READ_ONCE(watch_count))
		return;
	raw_spin_lock_irqsave(&watch_lock, flags);
	watch_drop_reused();
	if (watch_count)
		watch_ask(freed);
	raw_spin_unlock_irqrestore(&watch_lock, flags);
}

/*
 * Reclaim doesn't begin with a folio that anybody else has, and says so when it has written it. In
 * between a BO may have come back and have it again, be it from the swap cache: then it isn't taken.
 * Nor may that happen between looking at its references and the device's answer, as on a busy
 * machine it did: who gets a folio of a shmem file, or of the swap cache, locks it first. One that
 * somebody has locked isn't taken: reclaim leaves it where it is, too.
 */
static void watch_write_folio(void *data, struct folio *folio)
{
	if (folio_test_anon(folio) || !folio_trylock(folio))
		return;
	/* reclaim's own, and the page cache's or the swap cache's */
	if (folio_ref_count(folio) <= 1 + folio_nr_pages(folio))
		watch_now(PFN_PHYS(folio_pfn(folio)), folio_order(folio), "taken for swap");
	folio_unlock(folio);
}

/*
 * A page of a file of which somebody else has a reference goes later than the file's other pages do,
 * perhaps when there are no page tables any more. That may be a batch of pages on their way to the
 * LRU, on another processor. What has left its file can't be a BO's any more, so that it is asked
 * about here. One that is pinned for DMA may be somebody's who has it without the file: udmabuf's.
 */
static void watch_leaves_file(void *data, struct folio *folio)
{
	/* the page cache's own, and that of who takes it out */
	if (folio_ref_count(folio) > folio_nr_pages(folio) + 1 && !folio_maybe_dma_pinned(folio))
		watch_now(PFN_PHYS(folio_pfn(folio)), folio_order(folio), "given up by its file");
}

/*
 * The C memory manager has the tables of VM_BIND contexts in a slab cache, from which they are used
 * again without a page being freed.
 */
static void watch_cache_free(void *data, unsigned long call_site, const void *ptr,
			     const struct kmem_cache *cache)
{
	if (!((unsigned long)ptr & ~PAGE_MASK) && call_site >= MODULES_VADDR &&
	    call_site < MODULES_END)
		watch_now(virt_to_phys(ptr), 0, freed_to_cache);
}

static const struct probe {
	const char *name;
	void *probe;
	bool lenient_only;
} probes[] = {
	{ "mm_page_free", watch_page_free },
	{ "mm_page_free_batched", watch_page_free_batched },
	{ "mm_vmscan_write_folio", watch_write_folio },
	{ "mm_filemap_delete_from_page_cache", watch_leaves_file },
	{ "kmem_cache_free", watch_cache_free, true },
};

static void watch_register(struct tracepoint *tp, void *data)
{
	unsigned int *done = data, i;

	for (i = 0; i < ARRAY_SIZE(probes); i++) {
		if (strcmp(tp->name, probes[i].name))
			continue;
		if ((probes[i].lenient_only && watch != 2) ||
		    !tracepoint_probe_register(tp, probes[i].probe, NULL))
			*done |= BIT(i);
	}
}

static int watch_figures(char *buffer, const struct kernel_param *param)
{
	if (!watch_ctl)
		return sysfs_emit(buffer, "off\n");
	return sysfs_emit(buffer,
			  "%llu pages in %lu questions, %llu roots freed while loaded, "
			  "%llu tables let pass\n",
			  readq(watch_ctl + FREED_CHECKED), READ_ONCE(watch_questions),
			  readq(watch_ctl + FREED_DEAD), readq(watch_ctl + FREED_BARE));
}

static const struct kernel_param_ops watch_figures_ops = {
	.get = watch_figures,
};
module_param_cb(watch_figures, &watch_figures_ops, NULL, 0400);
MODULE_PARM_DESC(watch_figures, "what the watch has done");

/*
 * A page that the watch can be tried on: reading allocates it and gives its address, writing frees
 * it.
 */
static struct page *watch_spare;

static int watch_get_spare(char *buffer, const struct kernel_param *param)
{
	if (!watch_spare)
		watch_spare = alloc_page(GFP_KERNEL | __GFP_ZERO);
	if (!watch_spare)
		return -ENOMEM;
	return sysfs_emit(buffer, "%llu\n", page_to_phys(watch_spare));
}

static int watch_free_spare(const char *value, const struct kernel_param *param)
{
	if (!watch_spare)
		return -ENOENT;
	__free_page(watch_spare);
	watch_spare = NULL;
	return 0;
}

static const struct kernel_param_ops watch_spare_ops = {
	.get = watch_get_spare,
	.set = watch_free_spare,
};
module_param_cb(spare_page, &watch_spare_ops, NULL, 0600);
MODULE_PARM_DESC(spare_page, "read the address of a spare page; write anything to free it");

void vadreno_watch_start(void __iomem *ctl)
{
	unsigned int done = 0;

	if (!watch || watch_ctl)
		return;
	watch_list = (void *)get_zeroed_page(GFP_KERNEL);
	if (!watch_list)
		return;
	watch_ctl = ctl;
	writeq(virt_to_phys(watch_list), ctl + FREED_LIST);
	writeq(watch == 2, ctl + FREED_LENIENT);
	for_each_kernel_tracepoint(watch_register, &done);
	if (done != BIT(ARRAY_SIZE(probes)) - 1)
		pr_emerg("BUG: msm watch: tracepoints are missing: only %#x are there\n", done);
}
