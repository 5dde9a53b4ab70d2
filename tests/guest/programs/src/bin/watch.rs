// SPDX-License-Identifier: GPL-2.0-only

//! The watch on freed pages, tried on a page of the glue module, and one of a file, that an entry of
//! our page tables is made to lead to. (Virtual Adreno only.)

use harness::{cases, ensure, ensure_eq, Context, Outcome, Result, Test};
use programs::Gpu;
use std::process::ExitCode;
use uapi::{module, vadreno::Vadreno, SharedPage, PAGE};

/// A context with a mapped BO, known to the device.
fn ready() -> Result<(Gpu, Vadreno)> {
    let figures = module::parameter("vadreno_glue", "watch_figures").context("watch_figures")?;
    ensure!(figures != "off", "there is no watch");
    let gpu = Gpu::new()?;
    let vadreno = Vadreno::open().context("virtual Adreno")?;
    let bo = gpu.bo(1, PAGE)?;
    gpu.map(&bo, gpu.iova(0))?;
    gpu.read(gpu.iova(0), 1)?;
    Ok((gpu, vadreno))
}

/// The GPU uses the page; the entry goes, and its translation, then the page: the watch has nothing
/// to say.
fn goes_after_its_entry(_: &mut Test) -> Outcome {
    let (gpu, vadreno) = ready()?;
    let page = module::spare_page().context("spare page")?;
    let diverted = vadreno.divert(gpu.iova(0), page)?;
    ensure_eq!(gpu.read(gpu.iova(0), 1)?, [0], "the spare page");
    drop(diverted);
    module::free_spare_page().context("freeing the page")
}

/// The page goes while the entry leads there: the guest is ended, and no other way is a pass.
fn goes_before_its_entry(_: &mut Test) -> Outcome {
    let (gpu, vadreno) = ready()?;
    let page = module::spare_page().context("spare page")?;
    let _diverted = vadreno.divert(gpu.iova(0), page)?;
    module::free_spare_page().context("freeing the page")
}

/// Somebody else has the page when its file gives it up, after its entry: nothing to say.
fn leaves_its_file_after_its_entry(_: &mut Test) -> Outcome {
    let (gpu, vadreno) = ready()?;
    let page = SharedPage::new().context("page of a file")?;
    let diverted = vadreno.divert(gpu.iova(0), page.address())?;
    ensure_eq!(gpu.read(gpu.iova(0), 1)?, [0], "the page");
    drop(diverted);
    page.give_up().context("truncating the file")
}

/// The same while the entry leads there. That the page is freed later, when there may be no page
/// tables any more, doesn't matter: the guest is ended.
fn leaves_its_file_before_its_entry(_: &mut Test) -> Outcome {
    let (gpu, vadreno) = ready()?;
    let page = SharedPage::new().context("page of a file")?;
    let _diverted = vadreno.divert(gpu.iova(0), page.address())?;
    page.give_up().context("truncating the file")
}

fn main() -> ExitCode {
    harness::main(cases![
        goes_after_its_entry,
        goes_before_its_entry,
        leaves_its_file_after_its_entry,
        leaves_its_file_before_its_entry,
    ])
}
