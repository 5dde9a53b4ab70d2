// SPDX-License-Identifier: GPL-2.0-only
//! A small dump in the form that msm_rs prints, and a way to run the tool on it.

// Each test file uses its own part of this.
#![allow(dead_code)]

pub mod make;

use msm_devcoredump::contents::Contents;
use msm_devcoredump::dump::Dump;
use msm_devcoredump::parse::Parser;
use msm_devcoredump::verdict::{
    judge,
    Finding, //
};
use std::fs;
use std::io::Write;
use std::path::{
    Path,
    PathBuf, //
};
use std::process::{
    Command,
    Output,
    Stdio, //
};

/// Where the GPU faulted in [`DUMP`].
pub const FAULT: u64 = 0x1_0000_5030;

/// A read of what has been unmapped: three mappings were made, the second was removed, the third
/// waits.
pub const DUMP: &str = "---\nkernel: 7.3.4\nmodule: msm\ntime: 1700000000.000000001\ncomm: \
    test\ncmdline: ./test\n\
gpu-initialized: 1\nrevision: 0 (07000200)\nfault-info:\n  - ttbr0=0000000041000000\n  - \
    iova=0000000100005030\n  \
- dir=READ\n  - type=TRANSLATION\n  - source=CP\npgtable-fault-info:\n  - ttbr0: \
    0000000041000000\n  - asid: 0\n  \
- ptes: 0000000041001003 0000000041002003 0000000041003003 0000000000000000\nvm-log:\n  \
# format=1 now=900000 fault=800000 entries=4 lost=0\n  \
- map:3: 0x0000000100000000-0x0000000100004000 asked=1000 applied=2000 job=1 pid=7 handle=1 \
    off=0x0 flags=0x1 name=\"below\"\n  \
- map:3: 0x0000000100004000-0x0000000100008000 asked=3000 applied=4000 job=2 pid=7 handle=2 \
    off=0x0 flags=0x0 name=\"a <b> & c\"\n  \
- unmap:3: 0x0000000100004000-0x0000000100008000 asked=5000 applied=6000 job=3 pid=7 handle=2 \
    off=0x0 flags=0x0 name=\"a <b> & c\"\n  \
- map:3: 0x0000000100010000-0x0000000100011000 asked=7000 applied=- job=4 pid=7 handle=3 off=0x0 \
    flags=0x0 name=\"late\"\n\
rbbm-status: 0x00800001\nringbuffer:\n  - id: 0\n    iova: 0x0001000000001000\n    last-fence: \
    2\n    retired-fence: 1\n    \
rptr: 1\n    wptr: 2\n    size: 32768\n    data: !!ascii85 |\n     z!!!!\"\nbos:\n  - iova: \
    0x0000000100000000\n    \
size: 16384\n    flags: 0x20000\n    name: below\nregisters:\n  - { offset: 0x0840, value: \
    0x00800001 }\n";

/// [`DUMP`] with the line about the submit that newer kernels print. It was sent after the unmap and
/// before the last map.
pub fn with_submit() -> String {
    let header = "entries=4 lost=0\n";
    let line = "  # submit queue=3 fence=77 sent=6500 waits=2 ignored=1\n";
    DUMP.replace(header, &format!("{header}{line}"))
}

/// The first dump in a text, and what it says by itself.
pub fn read(text: &str) -> (Dump, Finding) {
    let mut contents = Contents::default();
    let dump = Parser::new(text.as_bytes())
        .next_dump(&mut contents)
        .unwrap()
        .unwrap();
    let finding = judge(&dump, &contents);
    (dump, finding)
}

/// The golden dumps of the runs with `module`, `rust` or `stock`.
pub fn golden_files(module: &str) -> Vec<PathBuf> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut dumps: Vec<_> = fs::read_dir(golden.join(module))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "zst"))
        .collect();
    assert!(!dumps.is_empty());
    dumps.sort();
    dumps
}

/// All golden dumps: name, as `rust/hang`, and content.
pub fn golden_dumps() -> Vec<(String, Vec<u8>)> {
    let read = |module: &str, path: PathBuf| {
        let name = format!("{module}/{}", path.file_stem().unwrap().to_string_lossy());
        (
            name,
            zstd::decode_all(fs::File::open(path).unwrap()).unwrap(),
        )
    };
    ["rust", "stock"]
        .into_iter()
        .flat_map(|module| {
            golden_files(module)
                .into_iter()
                .map(move |path| read(module, path))
        })
        .collect()
}

/// The tool, not started yet.
pub fn tool() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_msm-devcoredump"));
    command.env_remove("CLICOLOR_FORCE").env_remove("NO_COLOR");
    command
}

/// Runs the tool with `input` as stdin.
pub fn run(arguments: &[&str], input: &str) -> Output {
    let mut child = tool()
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    // It may exit without reading.
    let writer = std::thread::spawn(move || {
        let _ = stdin.write_all(input.as_bytes());
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

/// What it wrote to stdout, when its status was `status`.
pub fn stdout(arguments: &[&str], input: &str, status: i32) -> String {
    let output = run(arguments, input);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        output.status.code(),
        Some(status),
        "{arguments:?}: {stderr}"
    );
    String::from_utf8(output.stdout).unwrap()
}
