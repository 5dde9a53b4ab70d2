// SPDX-License-Identifier: GPL-2.0-only
/*
 * Makes a PCI device, the virtual Adreno, look like the Adreno and SMMU of a Qualcomm SoC, so that
 * their drivers bind to it unchanged.
 *
 * The PCI driver applies an overlay to the device tree (a702.dtso, say). The driver of the
 * overlay's bus node then provides what a SoC has around a GPU: interrupts (each is one MSI-X
 * vector), the power domains CX and GX, the SMMU's clock, and creates the devices on the bus. There
 * is one virtual Adreno, and it stays until the machine ends.
 */

#include <linux/clk-provider.h>
#include <linux/component.h>
#include <linux/dma-buf.h>
#include <linux/dma-mapping.h>
#include <linux/interrupt.h>
#include <linux/io.h>
#include <linux/ioremap.h>
#include <linux/iosys-map.h>
#include <linux/irq.h>
#include <linux/irqdomain.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/of.h>
#include <linux/of_platform.h>
#include <linux/pci.h>
#include <linux/platform_device.h>
#include <linux/pm_domain.h>
#include <linux/pm_runtime.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/wait.h>
#include <linux/soc/qcom/ubwc.h>

#include "fence.h"
#include "msm_gpu.h"
#include "watch.h"

/*
 * Interrupts of the overlays: the GPU, the SMMU as a whole, its eight context banks; the display,
 * its SMMU as a whole, its four context banks; the GMU's messages, the GMU.
 */
#define VADRENO_VECTORS		18

#define VADRENO_BAR_REGS	0
/* There with a display only. */
#define VADRENO_BAR_DISPLAY	1

/* The control BAR: tests/vadreno/ctl/src/lib.rs */
#define VADRENO_BAR_CTL		4
#define VADRENO_POWER		0x110
#define VADRENO_POWER_CX	BIT_ULL(0)
#define VADRENO_POWER_GX	BIT_ULL(1)
#define VADRENO_POWER_SMMU_CLK	BIT_ULL(2)

/* What stands for the addresses of BAR0 and BAR1 in the overlays. */
#define VADRENO_PLACEHOLDER	0x76616472656e6f21ULL
#define VADRENO_PLACEHOLDER_DISPLAY	0x76616472656e6f22ULL

/* Symbols that Kbuild puts around the compiled overlays. */
#define VADRENO_OVERLAY(name) \
	extern char __dtbo_##name##_begin[]; \
	extern char __dtbo_##name##_end[]
VADRENO_OVERLAY(a702);
VADRENO_OVERLAY(a702_display);
VADRENO_OVERLAY(a702_shared);
VADRENO_OVERLAY(a618);
VADRENO_OVERLAY(a618_display);
VADRENO_OVERLAY(a740);
VADRENO_OVERLAY(a740_display);

/* By the GPU, which the PCI function's subsystem names; vadreno's model.rs has the same numbers. */
static const struct vadreno_overlay {
	u16 subsystem;
	bool display, shared;
	const char *begin, *end;
} vadreno_overlays[] = {
	{ 0x001, false, false, __dtbo_a702_begin, __dtbo_a702_end },
	{ 0x001, true, false, __dtbo_a702_display_begin, __dtbo_a702_display_end },
	{ 0x001, false, true, __dtbo_a702_shared_begin, __dtbo_a702_shared_end },
	{ 0x618, false, false, __dtbo_a618_begin, __dtbo_a618_end },
	{ 0x618, true, false, __dtbo_a618_display_begin, __dtbo_a618_display_end },
	{ 0x740, false, false, __dtbo_a740_begin, __dtbo_a740_end },
	{ 0x740, true, false, __dtbo_a740_display_begin, __dtbo_a740_display_end },
};

static bool shared;
module_param(shared, bool, 0400);
MODULE_PARM_DESC(shared, "all processes are in the GPU's address space");

struct vadreno_domain {
	struct generic_pm_domain genpd;
	struct vadreno *vadreno;
	u64 bit;
};

struct vadreno {
	struct pci_dev *pdev;
	struct irq_domain *irqs;
	/* Guards the register, which holds the bits of all domains. */
	spinlock_t power_lock;
	u64 power, power_awake;
	void __iomem *ctl;

	struct clk_hw smmu_clk;
	struct vadreno_domain cx, gx;
	struct generic_pm_domain *domains[2];
	struct genpd_onecell_data provider;
};

/* The bus node's driver finds the PCI device here: set before the overlay creates that node. */
static struct vadreno *vadreno;

/*
 * msm.ko asks for the memory controller's layout. On a SoC ubwc_config.ko answers, from the
 * machine's compatible; here that module isn't loaded.
 */
const struct qcom_ubwc_cfg_data *qcom_ubwc_config_get_data(void)
{
	static const struct qcom_ubwc_cfg_data data = {
		.highest_bank_bit = 15,
	};

	return &data;
}
EXPORT_SYMBOL_GPL(qcom_ubwc_config_get_data);

/* Power domains. The device forgets a domain's registers when its bit is cleared. */

static void vadreno_set_power(struct vadreno *va, u64 clear, u64 set)
{
	unsigned long flags;

	spin_lock_irqsave(&va->power_lock, flags);
	va->power = (va->power & ~clear) | set;
	writeq(va->power, va->ctl + VADRENO_POWER);
	/*
	 * The write is a message to the device, but for most of the GPU's registers
	 * there is none: without an answer they would be written first, and lost.
	 */
	if (set & VADRENO_POWER_GX)
		readq(va->ctl + VADRENO_POWER);
	spin_unlock_irqrestore(&va->power_lock, flags);
}

static int vadreno_power_on(struct generic_pm_domain *genpd)
{
	struct vadreno_domain *domain = container_of(genpd, struct vadreno_domain, genpd);

	vadreno_set_power(domain->vadreno, 0, domain->bit);
	return 0;
}

static int vadreno_power_off(struct generic_pm_domain *genpd)
{
	struct vadreno_domain *domain = container_of(genpd, struct vadreno_domain, genpd);

	vadreno_set_power(domain->vadreno, domain->bit, 0);
	return 0;
}

/*
 * A suspend of the SMMU that has begun, takes its time, and is called off. Tests write 1 to the bus
 * device's `hold_suspend`: the next one is held. When there is one the file says 2. Writing 0 lets
 * it go on, or rather not: the domain's governor says that the SMMU is to stay as it is.
 */

static enum { HOLD_NONE, HOLD_NEXT, HOLD_ONE } vadreno_hold;
static DECLARE_WAIT_QUEUE_HEAD(vadreno_held);

static bool vadreno_suspend_ok(struct device *dev)
{
	if (!of_device_is_compatible(dev->of_node, "msm-rs,gpu-smmu") ||
	    cmpxchg(&vadreno_hold, HOLD_NEXT, HOLD_ONE) != HOLD_NEXT)
		return true;
	/* Not for ever, if whoever has asked for it dies. */
	wait_event_timeout(vadreno_held, READ_ONCE(vadreno_hold) != HOLD_ONE, 20 * HZ);
	/* Unless somebody has asked for the next one by now. */
	cmpxchg(&vadreno_hold, HOLD_ONE, HOLD_NONE);
	return false;
}

static struct dev_power_governor vadreno_governor = {
	.suspend_ok = vadreno_suspend_ok,
};

static ssize_t hold_suspend_show(struct device *bus, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%d\n", READ_ONCE(vadreno_hold));
}

static ssize_t hold_suspend_store(struct device *bus, struct device_attribute *attr,
				  const char *buf, size_t len)
{
	bool hold;
	int ret;

	ret = kstrtobool(buf, &hold);
	if (ret)
		return ret;
	if (hold)
		return cmpxchg(&vadreno_hold, HOLD_NONE, HOLD_NEXT) == HOLD_NONE ? len : -EBUSY;
	WRITE_ONCE(vadreno_hold, HOLD_NONE);
	wake_up_all(&vadreno_held);
	return len;
}
static DEVICE_ATTR_RW(hold_suspend);

static int vadreno_init_domain(struct vadreno *va, struct vadreno_domain *domain,
			       const char *name, u64 bit)
{
	domain->vadreno = va;
	domain->bit = bit;
	domain->genpd.name = name;
	domain->genpd.power_on = vadreno_power_on;
	domain->genpd.power_off = vadreno_power_off;
	return pm_genpd_init(&domain->genpd, &vadreno_governor, true);
}

/* The SMMU's clock. Without it the device doesn't let anybody reach the registers, and says so. */

static int vadreno_clk_enable(struct clk_hw *hw)
{
	vadreno_set_power(container_of(hw, struct vadreno, smmu_clk), 0, VADRENO_POWER_SMMU_CLK);
	return 0;
}

static void vadreno_clk_disable(struct clk_hw *hw)
{
	vadreno_set_power(container_of(hw, struct vadreno, smmu_clk), VADRENO_POWER_SMMU_CLK, 0);
}

static int vadreno_add_clk(struct vadreno *va, struct device *dev)
{
	static const struct clk_ops ops = {
		.enable = vadreno_clk_enable,
		.disable = vadreno_clk_disable,
	};
	static const struct clk_init_data init = {
		.name = "vadreno-smmu",
		.ops = &ops,
	};
	int ret;

	va->smmu_clk.init = &init;
	ret = devm_clk_hw_register(dev, &va->smmu_clk);
	return ret ?: devm_of_clk_add_hw_provider(dev, of_clk_hw_simple_get, &va->smmu_clk);
}

/* Interrupts */

static int vadreno_irq_map(struct irq_domain *irqs, unsigned int virq, irq_hw_number_t vector)
{
	irq_set_chip_and_handler(virq, &dummy_irq_chip, handle_simple_irq);
	return 0;
}

static const struct irq_domain_ops vadreno_irq_ops = {
	.map = vadreno_irq_map,
	.xlate = irq_domain_xlate_onecell,
};

struct vadreno_vector {
	struct vadreno *vadreno;
	unsigned int number;
};

static irqreturn_t vadreno_irq(int irq, void *data)
{
	struct vadreno_vector *vector = data;

	generic_handle_domain_irq(vector->vadreno->irqs, vector->number);
	return IRQ_HANDLED;
}

static int vadreno_request_irqs(struct vadreno *va)
{
	struct device *dev = &va->pdev->dev;
	struct vadreno_vector *vectors;
	unsigned int i;
	int ret;

	vectors = devm_kcalloc(dev, VADRENO_VECTORS, sizeof(*vectors), GFP_KERNEL);
	if (!vectors)
		return -ENOMEM;

	ret = pci_alloc_irq_vectors(va->pdev, VADRENO_VECTORS, VADRENO_VECTORS, PCI_IRQ_MSIX);
	if (ret < 0)
		return ret;

	for (i = 0; i < VADRENO_VECTORS; i++) {
		vectors[i].vadreno = va;
		vectors[i].number = i;
		/* With PREEMPT_RT the handlers behind it are threads, each for itself. */
		ret = devm_request_irq(dev, pci_irq_vector(va->pdev, i), vadreno_irq,
				       IRQF_NO_THREAD, "vadreno", &vectors[i]);
		if (ret)
			return ret;
	}
	return 0;
}

#ifdef CONFIG_PM_SLEEP
/*
 * System sleep of the GPU and its SMMU alone. The machine stays awake, with the processes that look
 * at what happens: what the PM core does to these two in its phases, consumer first, and no power
 * in the end. Tests write 1 and 0 to the bus device's `asleep`. Writing 2 in between stops in the
 * middle of waking up: there is power, runtime PM is on again and the PM core has begun with the
 * SMMU, but its driver's turn hasn't come. It comes late on hardware when the SMMU has to wait for
 * what it depends on.
 */

static int vadreno_suspend_device(struct device *dev)
{
	int ret;

	pm_runtime_get_noresume(dev);
	pm_runtime_barrier(dev);
	device_lock(dev);
	ret = dev->driver->pm->suspend(dev);
	dev->power.is_suspended = !ret;
	device_unlock(dev);
	if (ret)
		pm_runtime_put(dev);
	else
		pm_runtime_disable(dev);
	return ret;
}

static void vadreno_begin_resume(struct device *dev)
{
	pm_runtime_enable(dev);
	dev->power.is_suspended = false;
}

static int vadreno_end_resume(struct device *dev)
{
	int ret;

	device_lock(dev);
	ret = dev->driver->pm->resume(dev);
	device_unlock(dev);
	pm_runtime_put(dev);
	return ret;
}

static int vadreno_resume_device(struct device *dev)
{
	vadreno_begin_resume(dev);
	return vadreno_end_resume(dev);
}

static struct device *vadreno_device(struct device *bus, const char *compatible)
{
	struct device_node *node = of_get_compatible_child(bus->of_node, compatible);
	struct platform_device *pdev = of_find_device_by_node(node);

	of_node_put(node);
	if (pdev && pdev->dev.driver && pdev->dev.driver->pm)
		return &pdev->dev;
	if (pdev)
		put_device(&pdev->dev);
	return NULL;
}

static ssize_t asleep_store(struct device *bus, struct device_attribute *attr, const char *buf,
			    size_t len)
{
	static DEFINE_MUTEX(lock);
	enum { AWAKE, ASLEEP, WAKING };
	static unsigned int state;
	struct device *gpu, *smmu;
	unsigned int wanted;
	int ret;

	ret = kstrtouint(buf, 0, &wanted);
	if (ret)
		return ret;
	guard(mutex)(&lock);
	if (wanted == state)
		return len;
	if (wanted > WAKING || (wanted == ASLEEP && state != AWAKE) ||
	    (wanted == WAKING && state != ASLEEP))
		return -EINVAL;
	gpu = vadreno_device(bus, "qcom,adreno");
	smmu = vadreno_device(bus, "msm-rs,gpu-smmu");
	ret = gpu && smmu ? 0 : -ENODEV;
	if (!ret && wanted == ASLEEP) {
		ret = vadreno_suspend_device(gpu);
		if (!ret) {
			ret = vadreno_suspend_device(smmu);
			if (ret)
				vadreno_resume_device(gpu);
		}
		if (!ret) {
			/* What the domains believe, for when it is over. */
			vadreno->power_awake = READ_ONCE(vadreno->power);
			vadreno_set_power(vadreno, VADRENO_POWER_CX | VADRENO_POWER_GX, 0);
		}
	} else if (!ret) {
		if (state == ASLEEP) {
			vadreno_set_power(vadreno, 0, vadreno->power_awake);
			vadreno_begin_resume(smmu);
		}
		if (wanted == AWAKE) {
			ret = vadreno_end_resume(smmu);
			if (!ret)
				ret = vadreno_resume_device(gpu);
		}
	}
	if (!ret)
		state = wanted;
	if (gpu)
		put_device(gpu);
	if (smmu)
		put_device(smmu);
	return ret ?: len;
}
static DEVICE_ATTR_WO(asleep);

static int vadreno_add_asleep(struct device *bus)
{
	return device_create_file(bus, &dev_attr_asleep);
}
#else
static int vadreno_add_asleep(struct device *bus)
{
	return 0;
}
#endif

/* The bus that the overlay has created */

static int vadreno_bus_probe(struct platform_device *bus)
{
	struct vadreno *va = vadreno;
	struct device *dev = &bus->dev;
	int ret;

	va->irqs = irq_domain_create_linear(dev_fwnode(dev), VADRENO_VECTORS, &vadreno_irq_ops, NULL);
	if (!va->irqs)
		return -ENOMEM;
	ret = vadreno_request_irqs(va);
	if (ret)
		return dev_err_probe(dev, ret, "no interrupts\n");

	ret = vadreno_init_domain(va, &va->cx, "vadreno-cx", VADRENO_POWER_CX);
	if (!ret)
		ret = vadreno_init_domain(va, &va->gx, "vadreno-gx", VADRENO_POWER_GX);
	if (ret)
		return ret;
	vadreno_set_power(va, VADRENO_POWER_CX | VADRENO_POWER_GX, 0);
	va->domains[0] = &va->cx.genpd;
	va->domains[1] = &va->gx.genpd;
	va->provider.domains = va->domains;
	va->provider.num_domains = ARRAY_SIZE(va->domains);
	ret = of_genpd_add_provider_onecell(dev->of_node, &va->provider);
	if (!ret)
		ret = vadreno_add_clk(va, dev);
	if (!ret)
		ret = vadreno_add_asleep(dev);
	if (!ret)
		ret = device_create_file(dev, &dev_attr_hold_suspend);
	if (ret)
		return ret;

	return of_platform_populate(dev->of_node, NULL, NULL, dev);
}

static const struct of_device_id vadreno_bus_ids[] = {
	{ .compatible = "msm-rs,vadreno" },
	{}
};

static struct platform_driver vadreno_bus_driver = {
	.probe = vadreno_bus_probe,
	.driver = {
		.name = "vadreno-bus",
		.of_match_table = vadreno_bus_ids,
		.suppress_bind_attrs = true,
	},
};

/*
 * A component that does nothing. Those of msm's display device are what its ports lead to, LVDS
 * left out, and the GPU, unless that has a DRM device to itself. Without any of them msm goes by a
 * match that isn't there.
 */

static int vadreno_nothing_bind(struct device *dev, struct device *master, void *data)
{
	return 0;
}

static void vadreno_nothing_unbind(struct device *dev, struct device *master, void *data)
{
}

static const struct component_ops vadreno_nothing_ops = {
	.bind = vadreno_nothing_bind,
	.unbind = vadreno_nothing_unbind,
};

static int vadreno_nothing_probe(struct platform_device *pdev)
{
	return component_add(&pdev->dev, &vadreno_nothing_ops);
}

static const struct of_device_id vadreno_nothing_ids[] = {
	{ .compatible = "msm-rs,nothing" },
	{}
};

static struct platform_driver vadreno_nothing_driver = {
	.probe = vadreno_nothing_probe,
	.driver = {
		.name = "vadreno-nothing",
		.of_match_table = vadreno_nothing_ids,
		.suppress_bind_attrs = true,
	},
};

/* The PCI device */

/* libfdt isn't there for modules, and the overlay has the address in one place. */
static int vadreno_set_address(void *overlay, size_t size, u64 which, u64 address)
{
	const __be64 placeholder = cpu_to_be64(which), value = cpu_to_be64(address);
	size_t at;

	for (at = 0; at + sizeof(value) <= size; at += sizeof(__be32)) {
		if (!memcmp(overlay + at, &placeholder, sizeof(placeholder))) {
			memcpy(overlay + at, &value, sizeof(value));
			return 0;
		}
	}
	return -EINVAL;
}

static int vadreno_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	const bool display = pci_resource_len(pdev, VADRENO_BAR_DISPLAY);
	const struct vadreno_overlay *found = NULL;
	struct vadreno *va;
	int ret, changeset;
	unsigned int i;
	void *overlay;
	size_t size;

	if (vadreno)
		return -EBUSY;
	for (i = 0; i < ARRAY_SIZE(vadreno_overlays) && !found; i++)
		if (vadreno_overlays[i].subsystem == pdev->subsystem_device &&
		    vadreno_overlays[i].display == display && vadreno_overlays[i].shared == shared)
			found = &vadreno_overlays[i];
	if (!found)
		return dev_err_probe(&pdev->dev, -EINVAL, "no overlay for this GPU\n");
	size = found->end - found->begin;
	va = devm_kzalloc(&pdev->dev, sizeof(*va), GFP_KERNEL);
	if (!va)
		return -ENOMEM;
	va->pdev = pdev;
	spin_lock_init(&va->power_lock);

	ret = pcim_enable_device(pdev);
	if (ret)
		return ret;
	pci_set_master(pdev);
	ret = dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(64));
	if (ret)
		return ret;
	/* BAR0 is for the drivers on the bus to claim. */
	va->ctl = pcim_iomap(pdev, VADRENO_BAR_CTL, 0);
	if (!va->ctl)
		return dev_err_probe(&pdev->dev, -ENODEV, "no control BAR\n");
	vadreno_watch_start(va->ctl);

	overlay = kmemdup(found->begin, size, GFP_KERNEL);
	if (!overlay)
		return -ENOMEM;
	ret = vadreno_set_address(overlay, size, VADRENO_PLACEHOLDER,
				  pci_resource_start(pdev, VADRENO_BAR_REGS));
	if (!ret && display)
		ret = vadreno_set_address(overlay, size, VADRENO_PLACEHOLDER_DISPLAY,
					  pci_resource_start(pdev, VADRENO_BAR_DISPLAY));
	if (!ret) {
		vadreno = va;
		ret = of_overlay_fdt_apply(overlay, size, &changeset, NULL);
	}
	kfree(overlay);
	if (ret)
		return dev_err_probe(&pdev->dev, ret, "the overlay can't be applied\n");
	return 0;
}

static const struct pci_device_id vadreno_ids[] = {
	{ PCI_DEVICE(0x1d1d, 0x0702) },
	{}
};
MODULE_DEVICE_TABLE(pci, vadreno_ids);

static struct pci_driver vadreno_driver = {
	.name = "vadreno",
	.id_table = vadreno_ids,
	.probe = vadreno_probe,
	.driver = {
		.suppress_bind_attrs = true,
	},
};

/*
 * More kernel addresses are asked for than there are, so that everybody is asked who could give
 * some back.
 */
static int vadreno_exhaust_kernel_addresses(const char *value, const struct kernel_param *param)
{
	void __iomem *all = ioremap(0, IOREMAP_END - IOREMAP_START + PAGE_SIZE);

	if (!all)
		return 0;
	iounmap(all);
	return -ERANGE;
}

static const struct kernel_param_ops vadreno_exhaust_ops = {
	.set = vadreno_exhaust_kernel_addresses,
};
module_param_cb(exhaust_kernel_addresses, &vadreno_exhaust_ops, NULL, 0200);
MODULE_PARM_DESC(exhaust_kernel_addresses,
		 "write anything to be short of kernel addresses for a moment");

/*
 * Somebody else uses a dma-buf: attached to it, mapped for DMA and for the kernel, where its first
 * dword is counted up. All of that is over when the write is. vgem, which the tests have as well,
 * attaches but never maps.
 */

static int vadreno_count_up(struct dma_buf *dma_buf)
{
	struct iosys_map map;
	int ret;

	ret = dma_buf_vmap_unlocked(dma_buf, &map);
	if (ret)
		return ret;
	iosys_map_wr(&map, 0, u32, iosys_map_rd(&map, 0, u32) + 1);
	dma_buf_vunmap_unlocked(dma_buf, &map);
	return 0;
}

static int vadreno_map_attachment(struct dma_buf_attachment *attach)
{
	struct dma_buf *dma_buf = attach->dmabuf;
	struct scatterlist *sg;
	struct sg_table *sgt;
	size_t mapped = 0;
	int i, ret;

	sgt = dma_buf_map_attachment_unlocked(attach, DMA_BIDIRECTIONAL);
	if (IS_ERR(sgt))
		return PTR_ERR(sgt);
	for_each_sgtable_dma_sg(sgt, sg, i)
		mapped += sg_dma_len(sg);
	ret = mapped == dma_buf->size ? vadreno_count_up(dma_buf) : -EIO;
	dma_buf_unmap_attachment_unlocked(attach, sgt, DMA_BIDIRECTIONAL);
	return ret;
}

static int vadreno_use_dma_buf(const char *value, const struct kernel_param *param)
{
	struct dma_buf_attachment *attach;
	struct dma_buf *dma_buf;
	int fd, ret;

	ret = kstrtoint(value, 0, &fd);
	if (ret)
		return ret;
	if (!vadreno)
		return -ENODEV;
	dma_buf = dma_buf_get(fd);
	if (IS_ERR(dma_buf))
		return PTR_ERR(dma_buf);
	attach = dma_buf_attach(dma_buf, &vadreno->pdev->dev);
	if (IS_ERR(attach)) {
		ret = PTR_ERR(attach);
	} else {
		ret = vadreno_map_attachment(attach);
		dma_buf_detach(dma_buf, attach);
	}
	dma_buf_put(dma_buf);
	return ret;
}

static const struct kernel_param_ops vadreno_use_dma_buf_ops = {
	.set = vadreno_use_dma_buf,
};
module_param_cb(use_dma_buf, &vadreno_use_dma_buf_ops, NULL, 0200);
MODULE_PARM_DESC(use_dma_buf,
		 "write a file descriptor: its dma-buf is attached to and mapped, and its first "
		 "dword counted up");

/*
 * Userspace of GPUs before Adreno 6xx sends relocations; those of others aren't accepted. For what
 * the kernel does with them, the GPU makes no difference.
 */
struct msm_gpu *vadreno_gpu(struct device **dev)
{
	struct device_node *node = of_find_compatible_node(NULL, NULL, "qcom,adreno");
	struct platform_device *pdev = of_find_device_by_node(node);
	struct msm_gpu *gpu;

	of_node_put(node);
	if (!pdev)
		return NULL;
	*dev = &pdev->dev;
	gpu = dev_to_gpu(&pdev->dev);
	if (gpu && gpu->pdev == pdev)
		return gpu;
	put_device(&pdev->dev);
	return NULL;
}

static int vadreno_set_relocs(const char *value, const struct kernel_param *param)
{
	struct msm_gpu *gpu;
	struct device *dev;
	bool allow;
	int ret;

	ret = kstrtobool(value, &allow);
	if (ret)
		return ret;
	gpu = vadreno_gpu(&dev);
	if (!gpu)
		return -ENODEV;
	WRITE_ONCE(gpu->allow_relocs, allow);
	put_device(dev);
	return 0;
}

static int vadreno_get_relocs(char *buffer, const struct kernel_param *param)
{
	struct msm_gpu *gpu;
	struct device *dev;
	bool allow;

	gpu = vadreno_gpu(&dev);
	if (!gpu)
		return -ENODEV;
	allow = READ_ONCE(gpu->allow_relocs);
	put_device(dev);
	return sysfs_emit(buffer, "%c\n", allow ? 'Y' : 'N');
}

static const struct kernel_param_ops vadreno_relocs_ops = {
	.set = vadreno_set_relocs,
	.get = vadreno_get_relocs,
};
module_param_cb(allow_relocs, &vadreno_relocs_ops, NULL, 0600);
MODULE_PARM_DESC(allow_relocs, "whether SUBMITs may have relocations, as with older GPUs");

/*
 * In system sleep the guest's own devices stay awake: programs and their output go through them,
 * and some of their drivers can't sleep. So does the PCI device that the GPU is made of. The GPU
 * and its SMMU sleep as on hardware.
 */
static int vadreno_stay_awake(struct device *dev, void *data)
{
	dev_pm_syscore_device(dev, true);
	return 0;
}

static void vadreno_keep_guest_awake(void)
{
	struct pci_dev *pdev = NULL;

	for_each_pci_dev(pdev) {
		vadreno_stay_awake(&pdev->dev, NULL);
		device_for_each_child(&pdev->dev, NULL, vadreno_stay_awake);
	}
}

/* No exit: devices and device-tree nodes that others use can't be taken away. */
static int __init vadreno_init(void)
{
	int ret;

	vadreno_keep_guest_awake();
	ret = vadreno_fence_register();
	if (ret)
		return ret;
	ret = platform_driver_register(&vadreno_bus_driver);
	if (ret)
		goto no_bus;
	ret = platform_driver_register(&vadreno_nothing_driver);
	if (ret)
		goto no_nothing;
	ret = pci_register_driver(&vadreno_driver);
	if (ret)
		goto no_pci;
	return 0;

no_pci:
	platform_driver_unregister(&vadreno_nothing_driver);
no_nothing:
	platform_driver_unregister(&vadreno_bus_driver);
no_bus:
	vadreno_fence_unregister();
	return ret;
}
module_init(vadreno_init);

MODULE_DESCRIPTION("Device-tree nodes for the virtual Adreno");
MODULE_IMPORT_NS("DMA_BUF");
MODULE_LICENSE("GPL");
