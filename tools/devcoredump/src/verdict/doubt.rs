// SPDX-License-Identifier: GPL-2.0-only
//! Dumps that a task may have written lines of. The kernel prints its name and command line as the
//! task has set them, with line ends, and a reader can't tell whose a line is. What the kernel
//! never prints so gives it away; of that nothing more than "possible" is made. A whole document in
//! a name has nothing that gives it away but that it isn't alone: nothing is certain then.

use super::{
    Evidence,
    Finding,
    Sure, //
};
use crate::dump::{
    Doubt,
    Dump, //
};

/// A finding, no surer than the text allows.
pub(super) fn no_surer(mut finding: Finding, dump: &Dump) -> Finding {
    match &dump.doubt {
        None => finding,
        Some(Doubt::Several) if finding.sureness() != Some(Sure::Certain) => finding,
        Some(Doubt::Several) => {
            finding.sure = Sure::Likely;
            finding.certain_alone = true;
            finding.or(
                "a document that a task has written with its name: this text has several, and \
                    the kernel writes each into a file of its own",
            )
        }
        Some(Doubt::Line { line, what }) => {
            finding.sure = Sure::Possible;
            let evidence = Evidence {
                line: Some(*line),
                text: format!("{what}: a task may have written it with its name or command line"),
            };
            finding.evidence.insert(0, evidence);
            finding.or(format!(
                "anything else: the kernel doesn't print line {line} there, so others may not be \
                    its either"
            ))
        }
    }
}
