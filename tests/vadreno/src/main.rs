// SPDX-License-Identifier: GPL-2.0-only

//! Command line of the virtual Adreno.

use anyhow::{bail, Context, Result};
use clap::Parser;
use nix::sys::signal::{SigSet, Signal};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::os::unix::net::UnixStream;
use std::panic;
use std::path::{Path, PathBuf};
use std::process::exit;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Once};
use std::thread;
use vadreno::board::Board;
use vadreno::device::Device;
use vadreno::model::{self, Model, MODELS};
use vadreno::server::Backend;
use vadreno::trace::Trace;
use vadreno::{cp, mdp, pci, speculate};
use vadreno_ctl::counter;
use vfio_user::Server;

/// A virtual Adreno with an SMMU-500, for testing the msm driver in QEMU.
///
/// It waits for one QEMU (10.1 or later) to connect and exits with it:
///
///   vadreno --socket /tmp/gpu.sock &
///   qemu-system-aarch64 -machine virt,virtualization=on,gic-version=3,memory-backend=mem
///     -object memory-backend-memfd,id=mem,size=1G,share=on -m 1G …
///     -device '{"driver":"vfio-user-pci","socket":{"type":"unix","path":"/tmp/gpu.sock"}}'
///
/// The guest sees a PCI device 1d1d:0702, whose subsystem says which GPU it is. A glue module in
/// the guest turns it into the platform devices that the msm and arm-smmu drivers bind to. Tests in
/// the guest steer the device through its BAR4. Documentation/testbed.rst has the whole story.
#[derive(Debug, Parser)]
#[command(version, verbatim_doc_comment, after_help = after_help())]
struct Args {
    /// Unix socket to listen on; one that nobody listens on any more is replaced
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,

    /// Log every TLB invalidation, page-table walk, packet, job and fault to a file, a line each
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,

    /// Write the counters to a file at exit, also by SIGTERM and SIGINT, as JSON [default: to
    /// standard output]
    #[arg(long, value_name = "FILE")]
    counters: Option<PathBuf>,

    /// Which GPU: a702; a618, which has a GMU; a740, which has one, and preemption
    #[arg(long, value_name = "NAME", default_value = MODELS[0].name, value_parser = parse_gpu)]
    gpu: &'static Model,

    /// There is a display as well: an MDP4 with a panel of 640 by 480 pixels, 60 times per second
    #[arg(long)]
    display: bool,

    /// Write the last frame that the display has shown to a file at exit, as PNG
    #[arg(long, value_name = "FILE", requires = "display")]
    screenshot: Option<PathBuf>,

    /// Seed of all random choices (delays, speculative reads)
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// Negative control: count TLB invalidations but do not carry them out, so that a test which
    /// checks the GPU's results must fail
    #[arg(long)]
    ignore_tlbi: bool,

    /// Delay each job's completion, interrupt, fault report and TLB sync by a random time in µs
    #[arg(long, value_name = "MIN..MAX", value_parser = parse_delay)]
    delay_jobs: Option<u64>,

    /// Read at random mapped addresses, so many times per second and whether a job runs or not:
    /// fills the TLB as prefetching hardware does
    #[arg(long, value_name = "RATE", num_args = 0..=1, default_missing_value = "1000")]
    speculate: Option<u64>,
}

/// What there is to know beside the options.
fn after_help() -> String {
    let mut counters = String::new();
    for names in counter::NAMES.chunks(6) {
        counters += &format!("\n  {}", names.join(", "));
    }
    format!(
        "\
Steered by the guest, through the registers of BAR4 (the crate vadreno-ctl has all of them):
  holding the CP, --ignore-tlbi, --delay-jobs, --speculate and --seed while it runs; counters;
  translations by any context's tables, what the TLB holds, the last stale access;
  the page watch: by which address, table or TLB entry can the GPU reach a physical page?

Counters:{counters}

Trace: 'SECONDS EVENT key=value …'. Documentation/testbed.rst lists the events.

Exit status: 0 when QEMU is gone or a signal has ended it, 1 when it couldn't start, 2 when the
command line made no sense.

Examples:
  vadreno --socket /tmp/gpu.sock --trace /tmp/gpu.trace --counters /tmp/gpu.json
  vadreno --socket /tmp/gpu.sock --seed 7 --delay-jobs 0..2000 --speculate 20000
  tests/vm --module stock --device-arg=--speculate --trace /tmp/gpu.trace -- PROGRAM"
    )
}

/// A GPU by its name.
fn parse_gpu(text: &str) -> Result<&'static Model> {
    let names = || MODELS.map(|model| model.name).join(", ");
    model::named(text).with_context(|| format!("there are {}", names()))
}

/// "MIN..MAX" in µs, as the control BAR's DELAY has it.
fn parse_delay(text: &str) -> Result<u64> {
    let (least, greatest) = text.split_once("..").context("expected MIN..MAX")?;
    let least: u32 = least.trim().parse().context("MIN")?;
    let greatest: u32 = greatest.trim().parse().context("MAX")?;
    if least > greatest {
        bail!("MIN is greater than MAX");
    }
    Ok((u64::from(greatest) << 32) | u64::from(least))
}

/// Removes a socket that nobody listens on.
fn remove_stale(socket: &Path) -> Result<()> {
    if socket.exists() {
        if UnixStream::connect(socket).is_ok() {
            bail!("{} is in use", socket.display());
        }
        fs::remove_file(socket)?;
    }
    Ok(())
}

/// What remains to do at exit, whichever way it comes.
fn finish(device: &Device, args: &Args) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        device.board.trace.flush();
        let json = format!("{:#}\n", device.board.counters.to_json());
        let result = match &args.counters {
            Some(path) => fs::write(path, json),
            None => std::io::stdout().write_all(json.as_bytes()),
        };
        if let Err(error) = result {
            eprintln!("vadreno: counters: {error}");
        }
        if let (Some(path), Some(display)) = (&args.screenshot, &device.display) {
            let written = File::create(path)
                .and_then(|file| display.screenshot().write_png(BufWriter::new(file)));
            if let Err(error) = written {
                eprintln!("vadreno: screenshot: {error}");
            }
        }
        let _ = fs::remove_file(&args.socket);
    });
}

fn main() -> Result<()> {
    let args = Arc::new(Args::parse());
    // The guest goes on without a thread that has ended so; tests/vm looks for these lines.
    let explain = panic::take_hook();
    panic::set_hook(Box::new(move |what| {
        eprintln!("BUG: vadreno: {what}");
        explain(what);
    }));
    // Blocked before any thread starts, so that only the thread below takes them.
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
    signals.thread_block()?;

    let trace = match &args.trace {
        Some(path) => Trace::to_file(path).with_context(|| path.display().to_string())?,
        None => Trace::off(),
    };
    let board = Board::new(trace, args.seed);
    let device = Device::of_model(board, args.gpu);
    let device = Arc::new(if args.display {
        device.with_display()
    } else {
        device
    });
    let settings = &device.board.settings;
    settings.ignore_tlbi.store(args.ignore_tlbi, Relaxed);
    settings.delay.store(args.delay_jobs.unwrap_or(0), Relaxed);
    settings
        .speculate
        .store(args.speculate.unwrap_or(0), Relaxed);

    remove_stale(&args.socket)?;
    let regions = pci::regions(device.gpu.regs.fd(), args.display);
    let server = Server::new(&args.socket, true, pci::irqs(), regions)
        .with_context(|| args.socket.display().to_string())?;

    thread::spawn({
        let (device, args) = (device.clone(), args.clone());
        move || {
            let _ = signals.wait();
            finish(&device, &args);
            exit(0);
        }
    });
    thread::spawn({
        let device = device.clone();
        move || cp::run(&device)
    });
    thread::spawn({
        let device = device.clone();
        move || speculate::run(&device)
    });

    thread::spawn({
        let device = device.clone();
        move || mdp::run(&device)
    });

    eprintln!("vadreno: listening on {}", args.socket.display());
    let served = server.run(&mut Backend::new(device.clone()));
    // QEMU may be gone in the middle of a message: that is its end, not an error of ours.
    if let Err(error) = served {
        eprintln!("vadreno: connection lost: {error}");
    }
    finish(&device, &args);
    exit(0)
}
