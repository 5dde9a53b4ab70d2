// SPDX-License-Identifier: GPL-2.0-only
/* The tracepoints that are our own. */
#define CREATE_TRACE_POINTS
#include "msm_rs_trace.h"
