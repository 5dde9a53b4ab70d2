// SPDX-License-Identifier: GPL-2.0-only
//! What can be said from the kernel's log alone. The first thing that went wrong counts: what comes
//! later is often its consequence. What was mapped where it doesn't say, so most page faults stay
//! undetermined.

use super::{
    place,
    range,
    unreadable,
    Evidence,
    Finding,
    Sure,
    Verdict,
    Whose, //
};
use crate::dump::{
    Direction,
    Fault,
    FaultType, //
};
use crate::klog::{
    Cp,
    Faults,
    KernelLog,
    Kind,
    Span,
    Stamp,
    State, //
};

/// How to get a dump, and one that says more.
pub const MORE: &str =
    "  # Log what is mapped and unmapped, from before the application starts (if the kernel can):
  echo 8 | sudo tee /sys/module/msm/parameters/vm_log_shift
  # Keep the next dump, and those after it:
  sudo systemctl enable --now msm-devcoredump
  sudo msm-devcoredump explain /var/lib/msm-devcoredump
  # The kernel keeps one for five minutes. If it is still there:
  sudo sh -c 'cat /sys/class/devcoredump/devcd*/data' | msm-devcoredump explain";

/// Below this a fault is taken for a NULL pointer with a small offset.
const NULL_ZONE: u64 = 64 << 10;
/// What registers of a GPU without power read, as addresses and as status.
const NOBODY: [u64; 2] = [0xdeaf_bead, 0xffff_ffff];
const DUMP: &str = "Get the dump of the next one; the commands are below.";

/// Judges a log.
pub fn judge_log(log: &KernelLog) -> Finding {
    let mut finding = first(log);
    finding.evidence = evidence(log);
    finding
}

fn access(fault: &Fault) -> String {
    let how = match fault.direction {
        Some(Direction::Read) => "The read of",
        Some(Direction::Write) => "The write to",
        None => "The access to",
    };
    let by = match &fault.source {
        Some(source) => format!(" by {source}"),
        None => String::new(),
    };
    format!("{how} {}{by}", place(fault))
}

fn first(log: &KernelLog) -> Finding {
    if let Some((name, _)) = log.missing.first().filter(|_| !log.ran()) {
        let what =
            format!("The firmware {name} could not be loaded; without it the GPU doesn't start.");
        return Finding::new(Verdict::NoFirmware, Sure::Likely, Whose::Unclear, what).next(
            "Install it below /lib/firmware, into the initramfs too if msm is loaded from there.",
        );
    }
    let mut kinds = log.order.iter().map(|&(kind, _)| kind);
    let Some(kind) = kinds.next() else {
        if let Some(errno) = log.init_error {
            return of_init(errno);
        }
        let what = "The text is no devcoredump, and as a kernel log it says nothing of an Adreno \
            GPU's trouble.";
        return Finding::new(Verdict::NotGpu, Sure::Likely, Whose::Unclear, what)
            .next("Give the whole log (journalctl -k -b, or sudo dmesg), or a dump.");
    };
    let finding = match kind {
        Kind::Fault => log.faults.first.as_ref().map(|fault| of_fault(log, fault)),
        // The SMMU's own line comes with the GPU's, or instead of it.
        Kind::Smmu => match &log.faults.first {
            Some(fault) => Some(of_fault(log, fault)),
            None => Some(of_smmu(log)),
        },
        Kind::Hang => Some(of_hang(log)),
        Kind::Cp => log.cp_error.map(of_cp),
        Kind::Gmu => Some(of_gmu()),
        Kind::Plain => log.plain.first.as_ref().map(of_plain),
        Kind::Idle => Some(of_idle(log)),
        Kind::OutOfBounds => Some(of_out_of_bounds()),
    };
    let finding = finding.unwrap_or_else(|| of_hang(log));
    let later = |wanted| log.order.iter().skip(1).any(|&(kind, _)| kind == wanted);
    match kind {
        Kind::Hang | Kind::Cp | Kind::Gmu | Kind::Idle if later(Kind::Fault) => {
            finding.or("the page faults that followed, if they are no consequence of it")
        }
        _ => finding,
    }
}

fn of_fault(log: &KernelLog, fault: &Fault) -> Finding {
    let access = access(fault);
    let address = fault.address();
    if log.first_off {
        let what = format!(
            "{access} means nothing: the GPU's scratch registers in the same line read as those of \
             a GPU that is off, or cut from the bus."
        );
        return Finding::new(Verdict::Unreadable, Sure::Likely, Whose::Unclear, what)
            .next(unreadable::BEFORE);
    }
    if address.is_some_and(|address| NOBODY.contains(&address)) {
        let what = format!(
            "{access} is at no address of anybody's but what registers read when the GPU is off \
                or cut from the bus."
        );
        return Finding::new(Verdict::Unreadable, Sure::Possible, Whose::Unclear, what)
            .next(unreadable::BEFORE);
    }
    if fault.kind == FaultType::External {
        let what = format!("{access} was refused by the memory system, not by the page tables.");
        return Finding::new(Verdict::External, Sure::Likely, Whose::Kernel, what).next(
            "Check what memory the tables point to: protected, carved out, or powered down.",
        );
    }
    if fault.table() == Some(0) {
        let what = format!(
            "{access} came when no context's tables were loaded (ttbr0 0): it is of the kernel's \
                own commands or firmware."
        );
        return Finding::new(Verdict::KernelsOwn, Sure::Likely, Whose::Kernel, what).next(
            "See how the GPU came up, and what the kernel maps there: rings, firmware, \
                preemption records.",
        );
    }
    if fault.in_kernel_half() {
        let what = format!("{access} hit the kernel's half of the address space.");
        return match log.tasks.names.is_empty() && log.nobody > 0 {
            true => {
                Finding::new(Verdict::KernelsOwn, Sure::Possible, Whose::Kernel, what).next(DUMP)
            }
            false => Finding::new(Verdict::Privileged, Sure::Likely, Whose::Application, what)
                .next("Look for a wild pointer in the command stream; its upper bits are set.")
                .or("the kernel's own firmware or preemption data is mapped wrongly"),
        };
    }
    if fault.kind == FaultType::Permission {
        let what = format!("{access} found a mapping that doesn't permit it.");
        let (verdict, next) = match fault.direction {
            Some(Direction::Write) => (
                Verdict::ReadOnly,
                "Look for a BO with MSM_BO_GPU_READONLY or a bind that the commands write to.",
            ),
            _ => (Verdict::Privileged, DUMP),
        };
        return Finding::new(verdict, Sure::Possible, Whose::Application, what).next(next);
    }
    if let Some(address) = address.filter(|&address| address < NULL_ZONE) {
        let what = format!("{access} is a NULL pointer, plus {address:#x}.");
        return Finding::new(Verdict::NullPointer, Sure::Likely, Whose::Application, what)
            .next("Look for a descriptor or base register that was never written.");
    }
    let what =
        format!("{access} found no mapping. Whether there ever was one the log doesn't say.");
    Finding::new(Verdict::Undetermined, Sure::Certain, Whose::Unclear, what)
        .next(DUMP)
        .or(
            "never mapped, used after unmap, bound too late, or just outside a BO: the VM log in \
            a dump tells these apart",
        )
}

fn of_plain(fault: &Fault) -> Finding {
    let access = access(fault);
    let near_null = fault.address().filter(|&address| address < NULL_ZONE);
    let finding = if let Some(address) = near_null {
        let what = format!(
            "{access} is a NULL pointer, plus {address:#x}, of a GPU up to a4xx or of the display \
             controller: which, the line doesn't say."
        );
        Finding::new(Verdict::NullPointer, Sure::Possible, Whose::Unclear, what)
    } else {
        let what = format!(
            "{access} found no mapping. The line is of a GPU up to a4xx, or of the display \
             controller: which, it doesn't say."
        );
        Finding::new(Verdict::Undetermined, Sure::Certain, Whose::Unclear, what)
    };
    finding.next(
        "See which GPU it is (dmesg | grep -i adreno), and what else was logged at that time.",
    )
}

/// Only what the kernel itself puts into the ring when the GPU comes up is waited for in this way.
fn of_idle(log: &KernelLog) -> Finding {
    let (at, to) = log.idle_at.unwrap_or_default();
    let what = format!(
        "The GPU was switched on and didn't finish the kernel's own first commands: it is at \
         {at:#x} of {to:#x} dwords. It was not an application's commands that it got stuck in."
    );
    Finding::new(Verdict::NotStarted, Sure::Likely, Whose::Kernel, what).next(
        "See how the GPU came up before that line: firmware and its version, GMU, power, clocks.",
    )
}

fn of_init(errno: u64) -> Finding {
    let what = format!("Initialising the GPU failed with errno {errno}; it never ran anything.");
    Finding::new(Verdict::NotStarted, Sure::Likely, Whose::Kernel, what)
        .next("Look for what came before it: journalctl -k -b | grep -iE 'msm|adreno|gmu|firmware'")
}

fn of_out_of_bounds() -> Finding {
    let what = "UCHE met an address outside of all that the GPU may reach: a wild pointer.";
    Finding::new(
        Verdict::NeverMapped,
        Sure::Possible,
        Whose::Application,
        what,
    )
    .next(DUMP)
}

fn of_smmu(log: &KernelLog) -> Finding {
    let device = log.smmus.keys().next().map_or("SMMU", |device| device);
    let what = format!(
        "{device} reports context faults, and the GPU's driver none: it may be any device's SMMU."
    );
    // No device's name needs quotes, but whoever wrote the log may have chosen this one.
    let name = shlex::try_quote(device).unwrap_or_default();
    let next = format!("See whose it is: ls /sys/class/iommu/*{name}*/devices");
    Finding::new(Verdict::Undetermined, Sure::Certain, Whose::Unclear, what).next(next)
}

fn of_hang(log: &KernelLog) -> Finding {
    let what = match log.state {
        Some(state) if NOBODY.contains(&state.status) => {
            let what = format!(
                "The GPU hung, and its status reads {:#x}: it was off, or cut from the bus.",
                state.status
            );
            return Finding::new(Verdict::Unreadable, Sure::Likely, Whose::Unclear, what)
                .next(unreadable::BEFORE);
        }
        Some(State {
            ring_at: Some((0, to)),
            buffers: [None | Some((0, _)), None | Some((0, _))],
            ring,
            ..
        }) if to > 0 => {
            let ring = ring.map_or("its ring".into(), |ring| format!("ring {ring}"));
            let what = format!(
                "The GPU hung and had not begun to read {ring}, or had just been reset: it is at \
                 0 of {to:#x} dwords, in no buffer."
            );
            return Finding::new(Verdict::NotStarted, Sure::Possible, Whose::Kernel, what)
                .next("See how the GPU came up: firmware, GMU, power.");
        }
        Some(state) => position(&state),
        None => "The GPU made no progress, and no page fault was logged before. Where it was the \
            log doesn't say."
            .into(),
    };
    Finding::new(Verdict::Hang, Sure::Certain, Whose::Unclear, what).next(DUMP)
}

fn position(state: &State) -> String {
    let mut out = String::from("The GPU hung");
    if let Some(ring) = state.ring {
        out += &format!(" in ring {ring}");
    }
    for (n, buffer) in state.buffers.iter().enumerate() {
        if let Some((address, dwords)) = buffer.filter(|&(address, _)| address != 0) {
            let so_far = if state.read { "read" } else { "left" };
            out += &format!(
                ", IB{} at {address:#x} with {dwords} dwords {so_far}",
                n + 1
            );
        }
    }
    out + ". What it did there a dump says."
}

fn of_cp(error: Cp) -> Finding {
    let (what, next) = match error {
        Cp::Opcode(opcode) => {
            let which = match opcode {
                Some(opcode) => format!(" (possibly with opcode {opcode:#x})"),
                None => String::new(),
            };
            let what = format!(
                "The CP met what is no packet{which}: the command stream is overwritten, freed too \
                 early, or wrong."
            );
            (what, DUMP)
        }
        Cp::Protected {
            direction,
            register,
        } => {
            let verb = match direction {
                Some(Direction::Read) => "read",
                Some(Direction::Write) => "wrote to",
                None => "accessed",
            };
            let which = match register {
                Some(register) => format!("register {register:#x}"),
                None => "a register".into(),
            };
            (
                format!("The commands {verb} {which}, which they mustn't."),
                "Look for who accesses it; registers count in dwords. A packet with a wrong length \
                 makes the CP take data for registers.",
            )
        }
        Cp::Firmware | Cp::Bus => {
            let what =
                "The CP reports an error of its firmware or of the bus; the log doesn't say \
                        whose commands it ran.";
            return Finding::new(Verdict::Hang, Sure::Possible, Whose::Unclear, what).next(DUMP);
        }
    };
    Finding::new(Verdict::BadPacket, Sure::Likely, Whose::Application, what).next(next)
}

fn of_gmu() -> Finding {
    let what = "The GMU, which switches the GPU's power, failed before anything else did: the GPU \
        wasn't woken, or lost its power.";
    Finding::new(Verdict::PoweredOff, Sure::Likely, Whose::Kernel, what).next(
        "Check the GMU's firmware and power domains; what is said of the application is no proof.",
    )
}

/// `from A to B`
fn when(span: &Span) -> String {
    match (&span.first, &span.last) {
        (Some(first), Some(last)) if first == last => format!(" at {first}"),
        (Some(Stamp::Boot(from)), Some(Stamp::Boot(to))) if to < from => {
            " over several boots".into()
        }
        (Some(first), Some(last)) => format!(" from {first} to {last}"),
        (None, Some(at)) | (Some(at), None) => format!(" at {at}"),
        (None, None) => String::new(),
    }
}

/// `3 hangs that the GPU detected`, `2 accesses out of bounds`.
fn counted(count: u64, noun: &str, rest: &str) -> String {
    match count {
        1 => format!("1 {noun}{rest}"),
        _ if noun.ends_with('s') => format!("{count} {noun}es{rest}"),
        _ => format!("{count} {noun}s{rest}"),
    }
}

fn times(count: u64) -> String {
    match count {
        1 => "once".into(),
        _ => format!("{count} times"),
    }
}

fn flood(noun: &str, rest: &str, faults: &Faults, out: &mut Vec<Evidence>) {
    let line = |text| Evidence { line: None, text };
    if faults.span.count == 0 {
        return;
    }
    out.push(Evidence {
        line: Some(faults.span.line),
        text: format!(
            "{}{}",
            counted(faults.span.count, noun, rest),
            when(&faults.span)
        ),
    });
    let mut ranges: Vec<_> = faults.ranges().collect();
    ranges.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
    const SHOWN: usize = 8;
    for (addresses, count) in ranges.iter().take(SHOWN) {
        let place = match addresses.start == addresses.end {
            true => format!("{:#x}", addresses.start),
            false => range(addresses),
        };
        out.push(line(format!("  {count} of them at {place}")));
    }
    let rest = ranges
        .iter()
        .skip(SHOWN)
        .map(|(_, count)| count)
        .sum::<u64>()
        + faults.elsewhere;
    if rest > 0 {
        out.push(line(format!("  {rest} of them elsewhere")));
    }
    for (source, count) in faults.sources.iter().take(SHOWN) {
        let unit = source.unit.as_deref().unwrap_or("an unknown unit");
        let direction = source.direction.map_or("access".into(), |d| d.to_string());
        let kind = match source.kind {
            FaultType::Translation => ", no translation",
            FaultType::Permission => ", no permission",
            FaultType::External => ", external abort",
            FaultType::Unknown => "",
        };
        out.push(line(format!("  {count} by {unit}: {direction}{kind}")));
    }
    for (table, count) in faults.tables.iter().take(SHOWN) {
        out.push(line(format!("  {count} with page tables at {table:#x}")));
    }
}

fn evidence(log: &KernelLog) -> Vec<Evidence> {
    let mut out = Vec::new();
    for (name, line) in &log.missing {
        out.push(Evidence {
            line: Some(*line),
            text: format!("firmware {name} could not be loaded"),
        });
    }
    flood("page fault", "", &log.faults, &mut out);
    flood(
        "page fault",
        " of a GPU up to a4xx, or of the display",
        &log.plain,
        &mut out,
    );
    if log.off > 0 {
        out.push(Evidence {
            line: None,
            text: format!("  {} of them when the GPU's registers read as off", log.off),
        });
    }
    for (device, faults) in &log.smmus {
        flood("context fault", &format!(" of {device}"), faults, &mut out);
    }
    if log.suppressed > 0 {
        out.push(Evidence {
            line: None,
            text: format!(
                "{} more that the kernel did not print",
                counted(log.suppressed, "message", "")
            ),
        });
    }
    for (span, noun, rest) in [
        (
            &log.idle,
            "time",
            " that the GPU did not finish what initialises it",
        ),
        (&log.init, "failure", " to initialise the GPU"),
        (&log.out_of_bounds, "access", " out of bounds that UCHE met"),
        (&log.cp, "CP error", ""),
        (&log.gmu, "GMU error", ""),
        (&log.hangs, "hang", " that the GPU detected"),
        (&log.lockups, "lockup", " that hangcheck found"),
        (&log.recoveries, "reset", ""),
    ] {
        if span.count > 0 {
            out.push(Evidence {
                line: Some(span.line),
                text: format!("{}{}", counted(span.count, noun, rest), when(span)),
            });
        }
    }
    for (task, count) in &log.tasks.names {
        out.push(Evidence {
            line: None,
            text: format!("blamed {}: {task}", times(*count)),
        });
    }
    if log.tasks.others > 0 {
        out.push(Evidence {
            line: None,
            text: format!("blamed {}: other tasks", times(log.tasks.others)),
        });
    }
    out
}
