// SPDX-License-Identifier: GPL-2.0-only
//! `collect`: saves dumps as the kernel makes them, and frees the kernel's copies.

mod kernel;
mod kmsg;
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
use std::collections::{
    HashMap,
    HashSet, //
};
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
    /// Where the kernel's log is; the part around a fault is kept with the dump.
    #[arg(long, value_name = "FILE", default_value = "/dev/kmsg")]
    kernel_log: PathBuf,
    /// How much the directory may hold; the oldest dumps make room for new ones.
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = limit)]
    max_total: ByteSize,
    /// How large one dump may become, compressed; what is beyond is cut off.
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = limit)]
    max_dump: ByteSize,
    /// Take what is there, and don't wait for more.
    #[arg(long)]
    once: bool,
    /// How often to look where the kernel's events don't arrive, in milliseconds. It keeps a dump
    /// for five minutes.
    #[arg(
        long,
        value_name = "MS",
        default_value_t = 5000,
        value_parser = clap::value_parser!(u64).range(10..)
    )]
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
    let mut store = Store::open(&arguments.directory, &arguments.kernel_log, limits)?;
    let class = Class::new(&arguments.class);
    // Before the first look, so that nothing falls between it and the first wait.
    let uevents = Uevents::open();
    let mut done = HashSet::new();
    let mut failures = Failures::default();
    let mut found = false;
    let mut said_disabled = false;
    loop {
        let devices = class.devices()?;
        done.retain(|device| devices.contains(device));
        failures.forget_all_but(&devices);
        if class.is_disabled() && !said_disabled {
            said_disabled = true;
            let what = Error::Other(format!(
                "{}/disabled is 1: the kernel makes no dumps until it is booted again",
                arguments.class.display()
            ));
            if arguments.once {
                return Err(what);
            }
            eprintln!("msm-devcoredump: {what}");
        }
        for device in devices {
            if done.contains(&device) {
                continue;
            }
            match take(&mut store, &class, &device) {
                Ok(Taken::Saved(saved)) => {
                    found = true;
                    failures.over(&device);
                    let dump = arguments.directory.join(&saved.file);
                    writeln!(
                        out,
                        "{}: {} ({})",
                        dump.display(),
                        saved.verdict,
                        saved.sure
                    )?;
                    out.flush()?;
                    if let Some(why) = &saved.log_error {
                        eprintln!(
                            "msm-devcoredump: {}: {why}; the dump is kept without the kernel's log",
                            arguments.kernel_log.display()
                        );
                    }
                    if let Err(e) = class.free(&device) {
                        failures.add(&device, e);
                    }
                    done.insert(device);
                }
                Ok(Taken::NotOurs) => {
                    done.insert(device);
                }
                Ok(Taken::Gone) => {}
                // It is tried again as long as the kernel has it.
                Err(e) => failures.add(&device, e),
            }
        }
        if arguments.once {
            return match failures.by_device.len() {
                0 => Ok(found),
                n => Err(Error::Other(format!(
                    "{n} dumps could not be saved or freed"
                ))),
            };
        }
        uevents.wait(Duration::from_millis(arguments.interval));
    }
}

/// What went wrong, by dump. It is said once, however often it is tried.
#[derive(Default)]
struct Failures {
    by_device: HashMap<String, String>,
}

impl Failures {
    fn add(&mut self, device: &str, e: Error) {
        let text = e.to_string();
        if self.by_device.get(device) != Some(&text) {
            eprintln!("msm-devcoredump: {device}: {text}");
        }
        self.by_device.insert(device.to_owned(), text);
    }

    fn over(&mut self, device: &str) {
        self.by_device.remove(device);
    }

    /// The kernel keeps a dump for five minutes.
    fn forget_all_but(&mut self, devices: &[String]) {
        self.by_device.retain(|device, text| {
            let there = devices.contains(device);
            if !there {
                eprintln!(
                    "msm-devcoredump: {device}: lost, the kernel has freed it; before: {text}"
                );
            }
            there
        });
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
