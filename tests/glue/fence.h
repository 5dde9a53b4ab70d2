/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef VADRENO_FENCE_H
#define VADRENO_FENCE_H

/* Fences that userspace signals: fence.c. */
int vadreno_fence_register(void);
void vadreno_fence_unregister(void);

#endif
