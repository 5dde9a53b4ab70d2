// SPDX-License-Identifier: GPL-2.0-only
//! What speaks for a finding.

use super::*;
use crate::cp::position::Placed;

impl Case<'_> {
    pub(super) fn evidence(&self) -> Vec<Evidence> {
        let mut out = Vec::new();
        let mut say = |line: Option<u64>, text: String| out.push(Evidence { line, text });
        for ring in &self.dump.rings {
            say(
                None,
                format!(
                    "ring {}: fence {} of {} done, rptr {} of wptr {}",
                    ring.id, ring.retired_fence, ring.last_fence, ring.rptr, ring.wptr
                ),
            );
        }
        if let Some(status) = self.dump.rbbm_status {
            say(None, format!("rbbm-status {status:#010x}"));
        }
        let Some(registers) = self.registers else {
            return out;
        };
        let line = self.dump.section("registers").map(|section| section.line);
        if let Some(status) = registers.get(registers.layout.status) {
            let busy = registers.layout.busy(status);
            let busy = match busy.is_empty() {
                true => "no unit but the CP is busy".to_owned(),
                false => format!("busy: {}", busy.join(", ")),
            };
            say(
                line,
                format!("registers: RBBM_STATUS {status:#010x}, {busy}"),
            );
        }
        if registers.is_stalled() {
            say(line, "registers: the SMMU holds an access back".into());
        }
        for position in &self.positions.levels {
            say(
                line,
                format!("CP: {}{}", position.describe(), self.owner(position.base)),
            );
        }
        if let Some(position) = self.positions.levels.last() {
            let mut show = |placed: &Placed, mark: &str| {
                say(
                    None,
                    format!(
                        "{mark}dword {}: {}",
                        placed.at,
                        placed.packet.describe(registers.generation)
                    ),
                );
            };
            position.before.iter().for_each(|placed| show(placed, "  "));
            if let Some(here) = &position.here {
                show(here, "> ");
            }
            if let Some((at, header)) = position.malformed {
                say(None, format!("> dword {at}: {header:#010x}, no packet"));
            }
        }
        if let Some(header) = self.contents.sequencer_packet(self.dump) {
            let packet = crate::pm4::Packet::new(registers.generation, header);
            let packet = packet.map_or("no packet".into(), |p| p.describe(registers.generation));
            say(None, format!("CP's sequencer: {header:#010x}, {packet}"));
        }
        if let Some(cut) = self.dump.cut {
            say(
                None,
                format!("the dump is cut {cut}; what follows is missing"),
            );
        }
        out
    }
}
