// SPDX-License-Identifier: GPL-2.0-only
/*
 * Pages that follow each other.
 *
 * Part of ../helpers.c.
 */

/* How many of up to @max @pages follow each other in memory, and where. */
HELPER(u64, msm_rs_helper_msm_rs_page_run, struct page **pages, u64 max, u64 *phys)
{
	*phys = page_to_phys(pages[0]);
	return num_pages_contiguous(pages, max);
}

/*
 * How many pages of memory follow each other from page @first of @at on, and where. Then @at is
 * what is behind them.
 */
HELPER(u64, msm_rs_helper_msm_rs_sg_run, struct scatterlist **at, u64 first, u64 *phys)
{
	struct scatterlist *sg = *at;
	u64 pages;

	for (; sg; sg = sg_next(sg)) {
		pages = PFN_UP((u64)sg->offset + sg->length);
		if (first < pages) {
			*phys = page_to_phys(sg_page(sg)) + first * PAGE_SIZE;
			*at = sg_next(sg);
			return pages - first;
		}
		first -= pages;
	}
	*at = NULL;
	return 0;
}
