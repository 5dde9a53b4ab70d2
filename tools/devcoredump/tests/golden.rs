// SPDX-License-Identifier: GPL-2.0-only
//! What the tool says of dumps that real runs have left: tests/golden/{rust,stock}/NAME.zst, made
//! by the sub-tests of the guest program `verdicts` (tests/guest) with our msm.ko and with
//! Debian's; tests/golden/update makes them anew. NAME.txt is the output of `explain`.
//!
//! `UPDATE_GOLDEN=1 cargo test --test all golden::` writes what the tool says now, also into the
//! documentation.

use crate::common::{
    golden_files,
    tool, //
};
use std::collections::BTreeSet;
use std::fs;
use std::path::{
    Path,
    PathBuf, //
};

/// The one that the documentation shows.
const SHOWN: &str = "rust/used_after_unmap.zst";

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// What the tool writes, when its status is `status`.
fn said(arguments: &[&str], dump: &Path, status: i32) -> String {
    // Where the tests are isn't of interest.
    let file = dump.strip_prefix(golden()).unwrap();
    let mut tool = tool();
    let output = tool
        .current_dir(golden())
        .args(arguments)
        .arg(file)
        .output();
    let output = output.unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    let what = format!("{arguments:?} {}: {stderr}", dump.display());
    assert_eq!(output.status.code(), Some(status), "{what}");
    String::from_utf8(output.stdout).unwrap()
}

/// Fails unless the file holds `text`, or makes it so.
fn compare(path: &Path, text: &str) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        return fs::write(path, text).unwrap();
    }
    let expected = fs::read_to_string(path).unwrap_or_default();
    assert_eq!(
        text,
        expected,
        "{}: UPDATE_GOLDEN=1 rewrites it",
        path.display()
    );
}

fn verdict(dump: &Path) -> String {
    let json = said(&["json"], dump, 0);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    json["finding"]["verdict"].as_str().unwrap().to_owned()
}

#[test]
fn explain_says_what_it_said() {
    for module in ["rust", "stock"] {
        for dump in golden_files(module) {
            let said = said(&["explain"], &dump, 0);
            compare(&dump.with_extension("txt"), &said);
        }
    }
}

#[test]
fn real_dumps_are_well_formed() {
    for module in ["rust", "stock"] {
        for dump in golden_files(module) {
            said(&["check"], &dump, 0);
        }
    }
}

/// Of all verdicts, these have no program that provokes them (the README says why);
/// tests/{verdicts,innocent,hangs}.rs have dumps made by hand.
#[test]
fn every_verdict_that_a_program_can_provoke_is_there() {
    let by_hand = BTreeSet::from([
        "not_gpu",
        "bind_failed",
        "undetermined",
        "unreadable",
        "consequence",
        "kernels_own",
        "powered_off",
        "no_firmware",
        "unfinished",
    ]);
    let all: BTreeSet<String> = msm_devcoredump::verdict::Verdict::ALL
        .iter()
        .map(|verdict| {
            serde_json::to_value(verdict)
                .unwrap()
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    for module in ["rust", "stock"] {
        let seen: BTreeSet<String> = golden_files(module)
            .iter()
            .map(|dump| verdict(dump))
            .collect();
        let missing: Vec<_> = all
            .difference(&seen)
            .filter(|verdict| !by_hand.contains(verdict.as_str()))
            .collect();
        assert!(missing.is_empty(), "{module}: {missing:?}");
    }
}

/// The dump of our module says when the fault was, and what the log's entries are about.
#[test]
fn our_log_has_its_additions() {
    let json = said(&["json"], &golden().join(SHOWN), 0);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let log = &json["dump"]["vm_log"];
    let (fault, now) = (&log["header"]["fault"], &log["header"]["now"]);
    assert!(fault.as_u64().unwrap() < now.as_u64().unwrap(), "{log}");
    let entries = log["entries"].as_array().unwrap();
    assert_eq!(log["header"]["entries"], entries.len());
    for entry in entries {
        for field in ["asked", "job", "pid", "handle", "off"] {
            assert!(
                entry[field].is_u64() || entry[field].is_i64(),
                "{field}: {entry}"
            );
        }
        assert!(entry["applied"]["at"].is_u64(), "{entry}");
    }
    assert!(entries.iter().any(|entry| entry["name"] == "texture"));
}

#[test]
fn the_documentation_shows_what_the_tool_shows() {
    let shown = golden().join(SHOWN);
    let picture = said(&["map", "--svg"], &shown, 0);
    roxmltree::Document::parse(&picture).unwrap();
    compare(&top().join("Documentation/devcoredump-map.svg"), &picture);

    let path = top().join("README.md");
    let readme = fs::read_to_string(&path).unwrap();
    let command = "$ msm-devcoredump explain dump\n";
    let (head, rest) = readme.split_once(command).expect("explain in the README");
    let (_, tail) = rest.split_once("```").unwrap();
    let explained = said(&["explain"], &shown, 0);
    compare(&path, &format!("{head}{command}{explained}```{tail}"));
}
