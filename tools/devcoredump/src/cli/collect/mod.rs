// SPDX-License-Identifier: GPL-2.0-only
//! `collect`: saves dumps as the kernel makes them, and frees the kernel's copies.

mod kernel;
mod store;

use super::{
    Error,
    Found, //
};
use anstream::eprintln;
use bytesize::ByteSize;
use clap::Args;
use kernel::{
    Class,
    Uevents, //
};
use std::collections::HashSet;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;
use store::{
    Limits,
    Saved,
    Store, //
};

/// What to collect, and where to.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Where dumps are kept; made if it isn't there.
    #[arg(
        short,
        long,
        value_name = "DIR",
        default_value = "/var/lib/msm-devcoredump"
    )]
    directory: PathBuf,
    /// Where the kernel offers dumps.
    #[arg(long, value_name = "DIR", default_value = "/sys/class/devcoredump")]
    class: PathBuf,
    /// How much the directory may hold; the oldest dumps make room for new ones.
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = limit)]
    max_total: ByteSize,
    /// How large one dump may become, compressed; what is beyond is cut off.
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = limit)]
    max_dump: ByteSize,
    /// Take what is there, and don't wait for more.
    #[arg(long)]
    once: bool,
    /// How often to look where the kernel's events don't arrive, in milliseconds. It keeps a dump for five minutes.
    #[arg(long, value_name = "MS", default_value_t = 5000, value_parser = clap::value_parser!(u64).range(10..))]
    interval: u64,
}

fn limit(text: &str) -> Result<ByteSize, String> {
    let size: ByteSize = text.parse()?;
    match size.0 >= store::LEAST {
        true => Ok(size),
        false => Err(format!("must be {} at least", ByteSize(store::LEAST))),
    }
}

/// Collects. Found: a dump was saved.
pub fn run(arguments: &Arguments, out: &mut dyn Write) -> Found {
    let limits = Limits {
        total: arguments.max_total.0,
        dump: arguments.max_dump.0,
    };
    let mut store = Store::open(&arguments.directory, limits)?;
    let class = Class::new(&arguments.class);
    // Before the first look, so that nothing falls between it and the first wait.
    let uevents = Uevents::open();
    let mut done = HashSet::new();
    let mut found = false;
    loop {
        let devices = class.devices()?;
        done.retain(|device| devices.contains(device));
        let mut failed = 0;
        for device in devices {
            if done.contains(&device) {
                continue;
            }
            let mut report = |e: Error| {
                failed += 1;
                eprintln!("msm-devcoredump: {e}");
            };
            match take(&mut store, &class, &device) {
                Ok(Taken::Saved(saved)) => {
                    found = true;
                    class.free(&device).unwrap_or_else(report);
                    done.insert(device);
                    let dump = arguments.directory.join(&saved.file);
                    writeln!(
                        out,
                        "{}: {} ({})",
                        dump.display(),
                        saved.verdict,
                        saved.sure
                    )?;
                    out.flush()?;
                }
                Ok(Taken::NotOurs) => {
                    done.insert(device);
                }
                Ok(Taken::Gone) => {}
                // It is tried again as long as the kernel has it.
                Err(e) => report(e),
            }
        }
        if arguments.once {
            return match failed {
                0 => Ok(found),
                n => Err(Error::Other(format!(
                    "{n} dumps could not be saved or freed"
                ))),
            };
        }
        uevents.wait(Duration::from_millis(arguments.interval));
    }
}

enum Taken {
    Saved(Box<Saved>),
    /// Another driver's; it is left to whom it may concern.
    NotOurs,
    /// Freed in the meantime.
    Gone,
}

fn take(store: &mut Store, class: &Class, device: &str) -> Result<Taken, Error> {
    let Some(data) = class.data(device)? else {
        return Ok(Taken::Gone);
    };
    if !data.is_msm() {
        return Ok(Taken::NotOurs);
    }
    let failing = class.failing_device(device);
    let saved = store.save(data, device, failing)?;
    Ok(Taken::Saved(Box::new(saved)))
}
