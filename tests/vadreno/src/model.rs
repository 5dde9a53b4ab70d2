// SPDX-License-Identifier: GPL-2.0-only

//! The GPUs that the device can be, as tables of what differs between them.

use crate::gmu;

/// A GPU.
#[derive(Debug)]
pub struct Model {
    /// What the command line calls it.
    pub name: &'static str,
    /// Subsystem ID of the PCI function, by which the glue module knows the GPU.
    pub subsystem: u16,
    /// The GMU; without one there are registers that a driver may write, and nobody reads.
    pub gmu: Option<&'static gmu::Facts>,
    /// Opcodes that it has beside those of all, and that are without effect here.
    pub opcodes: &'static [u8],
}

/// Those that there are; the first is the default.
pub const MODELS: [Model; 3] = [
    Model {
        name: "a702",
        subsystem: 1,
        gmu: None,
        opcodes: &[],
    },
    Model {
        name: "a618",
        subsystem: 0x618,
        gmu: Some(&gmu::A618),
        opcodes: &[],
    },
    Model {
        name: "a740",
        subsystem: 0x740,
        gmu: Some(&gmu::A740),
        // THREAD_CONTROL and RESET_CONTEXT_STATE: all is done by one thread.
        opcodes: &[0x17, 0x1f],
    },
];

/// The GPU of that name.
pub fn named(name: &str) -> Option<&'static Model> {
    MODELS.iter().find(|model| model.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_ids_are_unique() {
        for (i, model) in MODELS.iter().enumerate() {
            assert_eq!(named(model.name).unwrap().subsystem, model.subsystem);
            assert!(MODELS[i + 1..]
                .iter()
                .all(|other| other.subsystem != model.subsystem));
        }
        assert!(named("a999").is_none());
    }
}
