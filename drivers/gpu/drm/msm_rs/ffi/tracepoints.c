// SPDX-License-Identifier: GPL-2.0-only
/* The tracepoints that are our own. */
#define CREATE_TRACE_POINTS
#include "msm_rs_trace.h"

/* The header says 32, as parsers of its format want digits. */
static_assert(sizeof_field(struct msm_gem_object, name) == 32);
