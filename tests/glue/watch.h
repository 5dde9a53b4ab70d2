/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef VADRENO_WATCH_H
#define VADRENO_WATCH_H

#include <linux/io.h>

struct device;
struct msm_gpu;

/* The GPU, if msm.ko has taken it, with a reference to its device. */
struct msm_gpu *vadreno_gpu(struct device **dev);

/* From now on freed pages are looked up; the control BAR stays where it is. */
void vadreno_watch_start(void __iomem *ctl);

#endif
