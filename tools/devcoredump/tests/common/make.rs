// SPDX-License-Identifier: GPL-2.0-only
//! Dumps made by hand, in the form that the kernel prints.

use msm_devcoredump::contents::Contents;
use msm_devcoredump::dump::Dump;
use msm_devcoredump::parse::{
    CheckData,
    Parser, //
};
use msm_devcoredump::verdict::{
    judge,
    Sure,
    Verdict, //
};

pub const TABLE: &str = "0000000041000000";
pub const HOLE: [u64; 4] = [0x4100_1003, 0x4100_2003, 0x4100_3003, 0];
pub const PAGE: u64 = 0x4500_0f43;

/// A dump to be: a page fault.
pub struct Make<'a> {
    pub time: &'a str,
    pub comm: Option<&'a str>,
    /// What the SMMU had loaded.
    pub used: &'a str,
    pub iova: u64,
    pub source: &'a str,
    pub status: u32,
    pub registers: &'a [(u32, u32)],
    pub dir: &'a str,
    pub kind: &'a str,
    pub ttbr0: &'a str,
    pub ptes: [u64; 4],
    pub log: Option<&'a str>,
    pub bos: &'a [(u64, u64, u32)],
}

impl Default for Make<'_> {
    fn default() -> Self {
        Make {
            time: "1700000000.000000001",
            comm: Some("test"),
            used: TABLE,
            source: "CP",
            status: 0x0080_0001,
            registers: &[(0x840, 0x0080_0001)],
            iova: 0x1_0000_2040,
            dir: "READ",
            kind: "TRANSLATION",
            ttbr0: TABLE,
            ptes: HOLE,
            log: None,
            bos: &[(0x2_0000_0000, 0x4000, 0)],
        }
    }
}

/// The header of a log whose fault was at 5000 ns.
pub const OURS: &str = "  # format=1 now=9000 fault=5000 lost=0\n";

impl Make<'_> {
    pub fn text(&self) -> String {
        let [a, b, c, d] = self.ptes;
        let mut text = format!(
            "---\nkernel: 7.3.4\nmodule: msm\ntime: {}\n{}gpu-initialized: 1\nrevision: 0 \
                (07000200)\nfault-info:\n  - ttbr0={}\n  - iova={:016x}\n  - dir={}\n  \
             - type={}\n  - source={}\npgtable-fault-info:\n  - ttbr0: {}\n  - asid: 0\n  \
             - ptes: {a:016x} {b:016x} {c:016x} {d:016x}\n",
            self.time,
            self.comm.map_or(String::new(), |comm| format!(
                "comm: {comm}\ncmdline: ./{comm}\n"
            )),
            self.used,
            self.iova,
            self.dir,
            self.kind,
            self.source,
            self.ttbr0
        );
        if let Some(log) = self.log {
            text += "vm-log:\n";
            text += log;
        }
        text += &format!("rbbm-status: {:#010x}\n", self.status);
        text += "ringbuffer:\n  - id: 0\n    iova: 0x0001000000001000\n    last-fence: 2\n    \
                 retired-fence: 1\n    rptr: 1\n    wptr: 2\n    size: 32768\n    data: !!ascii85 \
                     |\n     z!!!!\"\n";
        text += "bos:\n";
        for (iova, size, flags) in self.bos {
            text += &format!(
                "  - iova: {iova:#018x}\n    size: {size}\n    flags: {flags:#x}\n    name: test\n"
            );
        }
        text += "registers:\n";
        for (offset, value) in self.registers {
            text += &format!("  - {{ offset: {offset:#06x}, value: {value:#010x} }}\n");
        }
        text
    }

    pub fn dump(&self) -> Dump {
        let text = self.text();
        let dump = Parser::new(text.as_bytes())
            .next_dump(&mut CheckData)
            .unwrap()
            .unwrap();
        assert_eq!(dump.problems, [], "{text}");
        dump
    }

    pub fn is(&self, verdict: Verdict, sure: Sure) {
        let finding = judge(&self.dump(), &Contents::default());
        assert_eq!(
            (finding.verdict, finding.sure),
            (verdict, sure),
            "{finding:#?}"
        );
    }
}
