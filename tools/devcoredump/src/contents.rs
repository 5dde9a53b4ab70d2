// SPDX-License-Identifier: GPL-2.0-only
//! The bytes of those blocks of a dump that say where a GPU hung: rings, BOs of the submit, and the
//! state of the CP's sequencer. They are kept as they pass by, for what tells which of them matter
//! comes last.

use crate::dump::{
    Block,
    Cut,
    Dump, //
};
use crate::parse::BlockSink;
use std::collections::BTreeMap;
use std::io;

/// How many bytes are kept, and of one block.
const MAX_TOTAL: usize = 16 << 20;
const MAX_BLOCK: usize = 4 << 20;
/// The section and the label of the sequencer's state.
const SEQUENCER: (&str, &str) = ("indexed-registers", "CP_SQE_STAT");

/// Bytes of one document's blocks.
#[derive(Debug, Default)]
pub struct Contents {
    /// The document's first line, by which it is known.
    line: u64,
    blocks: BTreeMap<u64, Vec<u8>>,
    kept: usize,
    current: u64,
    sequencer: Option<u64>,
    /// Of page faults too.
    faults: bool,
}

impl BlockSink for Contents {
    fn wants(&mut self, dump: &Dump, block: &Block) -> bool {
        if self.line != dump.line {
            *self = Contents {
                line: dump.line,
                faults: self.faults,
                ..Contents::default()
            };
        }
        let sequencer = (&*block.section, &*block.label) == SEQUENCER;
        let wanted = match &*block.section {
            // What a page fault is about, tables and log tell.
            _ if dump.fault.is_some() && !self.faults => false,
            "ringbuffer" | "bos" | "bo" => true,
            _ => sequencer,
        };
        if !wanted || self.kept >= MAX_TOTAL {
            return false;
        }
        if sequencer {
            self.sequencer = Some(block.index);
        }
        self.current = block.index;
        self.blocks.insert(block.index, Vec::new());
        true
    }

    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(block) = self.blocks.get_mut(&self.current) {
            let room = (MAX_TOTAL - self.kept).min(MAX_BLOCK - block.len());
            let bytes = &bytes[..bytes.len().min(room)];
            block.extend_from_slice(bytes);
            self.kept += bytes.len();
        }
        Ok(())
    }
}

/// Dwords that lie one after the other in the GPU's address space.
#[derive(Debug, Clone, Copy)]
pub struct Words<'a> {
    bytes: &'a [u8],
    /// How many there are: what the kernel leaves out at the end is zero.
    length: u64,
}

impl Words<'_> {
    /// How many there are.
    pub fn len(&self) -> u64 {
        self.length
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// One of them.
    pub fn get(&self, index: u64) -> Option<u32> {
        if index >= self.length {
            return None;
        }
        let at = usize::try_from(index).ok()?.checked_mul(4)?;
        Some(match self.bytes.get(at..at + 4) {
            Some(&[a, b, c, d]) => u32::from_le_bytes([a, b, c, d]),
            _ => 0,
        })
    }

    /// `count` of them from `index` on, or as many as there are.
    pub fn range(&self, index: u64, count: u64) -> Vec<u32> {
        (0..count)
            .map_while(|n| self.get(index.checked_add(n)?))
            .collect()
    }
}

impl Contents {
    /// Keeps the bytes of page faults' dumps as well, which no verdict needs.
    pub fn of_faults_too() -> Contents {
        Contents {
            faults: true,
            ..Contents::default()
        }
    }

    fn block(&self, dump: &Dump, index: Option<u64>) -> Option<&[u8]> {
        (self.line == dump.line).then_some(())?;
        self.blocks.get(&index?).map(Vec::as_slice)
    }

    /// Nothing of a block is missing, neither here nor in the dump.
    fn is_whole(&self, dump: &Dump, index: u64, bytes: &[u8]) -> bool {
        let last = dump.blocks.last().is_some_and(|last| last.index == index);
        let cut = last && dump.cut == Some(Cut::InData);
        !cut && bytes.len() < MAX_BLOCK && self.kept < MAX_TOTAL
    }

    /// A block's dwords from `offset` on, when it should have `size` bytes.
    fn words(&self, dump: &Dump, block: Option<u64>, offset: u64, size: u64) -> Option<Words<'_>> {
        let bytes = self.block(dump, block)?;
        // One that was cut isn't zero from there on.
        let end = match self.is_whole(dump, block?, bytes) {
            true => size,
            false => bytes.len() as u64,
        };
        let start = usize::try_from(offset).map_or(bytes.len(), |at| at.min(bytes.len()));
        Some(Words {
            bytes: &bytes[start..],
            length: end.saturating_sub(offset) / 4,
        })
    }

    /// A ring's dwords, by its place in [`Dump::rings`].
    pub fn ring(&self, dump: &Dump, index: usize) -> Option<Words<'_>> {
        let ring = dump.rings.get(index)?;
        self.words(dump, ring.block, 0, ring.size.min(MAX_BLOCK as u64))
    }

    /// What is in memory from an address on, to the end of the BO.
    pub fn at(&self, dump: &Dump, address: u64) -> Option<Words<'_>> {
        let mut bos = dump.bos.iter().filter(|bo| bo.range().contains(&address));
        bos.find_map(|bo| self.words(dump, bo.block, address - bo.iova, bo.size))
    }

    /// The header of the packet that the CP's sequencer (a6xx on) worked at.
    pub fn sequencer_packet(&self, dump: &Dump) -> Option<u32> {
        let size = self.block(dump, self.sequencer)?.len() as u64;
        // Its program counter, and then the register that holds the header.
        self.words(dump, self.sequencer, 0, size)?.get(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::Parser;

    #[test]
    fn bytes_are_those_of_the_document() {
        let first = "---\nmodule: msm\nringbuffer:\n  - id: 0\n    size: 32\n    \
                     data: !!ascii85 |\n     z!!!!\"\nbos:\n  \
                     - iova: 0x1000\n    size: 4096\n    data: !!ascii85 |\n     !!!!\"s8W-!\n";
        let text = format!("{first}---\nmodule: msm\nringbuffer:\n  - id: 0\n    size: 32\n");
        let mut parser = Parser::new(text.as_bytes());
        let mut contents = Contents::default();
        let dump = parser.next_dump(&mut contents).unwrap().unwrap();
        let ring = contents.ring(&dump, 0).unwrap();
        assert_eq!(ring.range(0, 10), [0, 1, 0, 0, 0, 0, 0, 0]);
        let words = contents.at(&dump, 0x1004).unwrap();
        assert_eq!((words.get(0), words.get(1)), (Some(!0), Some(0)));
        assert_eq!((words.len(), words.get(1023)), (1023, None));
        assert!(contents.at(&dump, 0x2000).is_none());
        let other = parser.next_dump(&mut contents).unwrap().unwrap();
        assert!(contents.ring(&other, 0).is_none());
        assert!(contents.at(&other, 0x1004).is_none());
    }

    #[test]
    fn what_was_cut_away_is_not_zero() {
        let text = "---\nmodule: msm\nringbuffer:\n  - id: 0\n    size: 32\n    \
                    data: !!ascii85 |\n     z!!!!\"\nbos:\n  - iova: 0x1000\n    size: 16\n    \
                    data: !!ascii85 |\n     z!!!!\"";
        let read = |text: &str| {
            let mut contents = Contents::default();
            let dump = Parser::new(text.as_bytes()).next_dump(&mut contents);
            let dump = dump.unwrap().unwrap();
            let ring = contents.ring(&dump, 0).map_or(0, |words| words.len());
            let bo = contents.at(&dump, 0x1000).map_or(0, |words| words.len());
            (ring, bo)
        };
        assert_eq!(read(&format!("{text}\n")), (8, 4));
        assert_eq!(read(text), (8, 2));
        assert_eq!(read(&text[..text.find("\"\nbos").unwrap()]), (1, 0));
    }
}
