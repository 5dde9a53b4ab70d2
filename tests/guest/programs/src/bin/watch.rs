// SPDX-License-Identifier: GPL-2.0-only

//! The watch on freed pages, tried on a page of the glue module that an entry of our page tables is
//! made to lead to. (Virtual Adreno only.)

use harness::{cases, ensure, ensure_eq, Context, Outcome, Result, Test};
use programs::Gpu;
use std::process::ExitCode;
use uapi::{module, vadreno::Vadreno, PAGE};

/// A context with a mapped BO, known to the device, and the spare page.
fn ready() -> Result<(Gpu, Vadreno, u64)> {
    let figures = module::parameter("vadreno_glue", "watch_figures").context("watch_figures")?;
    ensure!(figures != "off", "there is no watch");
    let gpu = Gpu::new()?;
    let vadreno = Vadreno::open().context("virtual Adreno")?;
    let bo = gpu.bo(1, PAGE)?;
    gpu.map(&bo, gpu.iova(0))?;
    gpu.read(gpu.iova(0), 1)?;
    let page = module::spare_page().context("spare page")?;
    Ok((gpu, vadreno, page))
}

/// The GPU uses the page; the entry goes, and its translation, then the page: the watch has nothing
/// to say.
fn goes_after_its_entry(_: &mut Test) -> Outcome {
    let (gpu, vadreno, page) = ready()?;
    let diverted = vadreno.divert(gpu.iova(0), page)?;
    ensure_eq!(gpu.read(gpu.iova(0), 1)?, [0], "the spare page");
    drop(diverted);
    module::free_spare_page().context("freeing the page")
}

/// The page goes while the entry leads there: the guest is ended, and no other way is a pass.
fn goes_before_its_entry(_: &mut Test) -> Outcome {
    let (gpu, vadreno, page) = ready()?;
    let _diverted = vadreno.divert(gpu.iova(0), page)?;
    module::free_spare_page().context("freeing the page")
}

fn main() -> ExitCode {
    harness::main(cases![goes_after_its_entry, goes_before_its_entry])
}
