// SPDX-License-Identifier: GPL-2.0-only
//! `report`: that the page holds what it should, needs nothing, and that nothing of the dump
//! becomes more than text in it. `tests/browser` looks at it with Chromium.

use crate::common::{
    golden_files,
    run,
    stdout,
    tool,
    with_submit,
    DUMP, //
};
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use tempfile::TempDir;

/// What a page is made of.
const ELEMENTS: [&str; 38] = [
    "!DOCTYPE", "html", "head", "meta", "title", "style", "link", "body", "header", "h1", "h2",
    "span", "dl", "dt", "dd", "div", "nav", "a", "main", "section", "table", "tr", "th", "td",
    "pre", "fieldset", "label", "input", "p", "details", "summary", "svg", "g", "rect", "line",
    "polygon", "text", "br",
];

fn page(text: &str) -> String {
    stdout(&["report", "-", "--html", "-"], text, 0)
}

/// The names of a page's elements, as a parser would find them.
fn elements(page: &str) -> BTreeSet<&str> {
    let (head, rest) = page.split_once("<style>").unwrap();
    let (_, body) = rest.split_once("</style>").unwrap();
    let parts = head.split('<').skip(1).chain(body.split('<').skip(1));
    parts
        .map(|part| {
            let part = part.strip_prefix('/').unwrap_or(part);
            let end = part.find(|c: char| !c.is_ascii_alphanumeric() && c != '!');
            &part[..end.unwrap_or(part.len())]
        })
        .collect()
}

/// It loads nothing, runs nothing, and has no elements but ours.
#[track_caller]
fn is_harmless(page: &str) {
    let known: BTreeSet<_> = ELEMENTS.into_iter().collect();
    let strange: Vec<_> = elements(page).difference(&known).copied().collect();
    assert_eq!(strange, [] as [&str; 0]);
    for (at, _) in page.match_indices("href=\"") {
        let rest = &page[at + 6..];
        assert!(rest.starts_with(['#', 'd']), "{}", &rest[..40]);
        assert!(!rest.starts_with('d') || rest.starts_with("data:,"));
    }
    for outside in [
        " src=",
        "url(",
        "@import",
        "https:",
        "<script",
        "javascript:",
    ] {
        assert!(!page.contains(outside), "{outside}");
    }
    // The namespace of SVG is a name, not an address.
    let pictures = page.matches("<svg").count();
    assert_eq!(
        page.matches("http:").count(),
        page.matches("xmlns=\"http:").count()
    );
    assert_eq!(page.matches("</svg>").count(), pictures);
    assert!(page.contains("default-src 'none'"));
    assert!(!page.contains(|c: char| c.is_control() && c != '\n' && c != '\t'));
}

fn golden() -> Vec<PathBuf> {
    ["rust", "stock"]
        .into_iter()
        .flat_map(golden_files)
        .collect()
}

#[test]
fn the_page_has_everything() {
    let page = page(DUMP);
    is_harmless(&page);
    for wanted in [
        "<h1 class=\"certain\">used after unmap",
        "id=\"evidence\"",
        "id=\"map\"",
        "id=\"log\"",
        "id=\"rings\"",
        "id=\"bos\"",
        "id=\"registers\"",
        "0x100004000–0x100008000",
        "prefers-color-scheme: dark",
        "name=\"viewport\"",
        "read fault at 0x100005030, 0x1030 into it",
        "-794.0 µs",
        "not yet",
        "4 of 4 entries",
    ] {
        assert!(page.contains(wanted), "{wanted}: {page}");
    }
}

#[test]
fn the_page_says_when_the_submit_was_sent() {
    assert!(!page(DUMP).contains("class=\"submit\""));
    let page = page(&with_submit());
    is_harmless(&page);
    let (_, log) = page.split_once("<section id=\"log\">").unwrap();
    let (log, _) = log.split_once("</section>").unwrap();
    let words = "submit with fence 77 of queue 3, sent 793.5 µs ahead of the fault, waited for 2 \
        fences; 1 in-syncobj ignored, for want of MSM_SUBMIT_SYNCOBJ_IN";
    assert!(log.contains(&format!("<p>The {words}.</p>")), "{log}");
    // The timeline: between the unmap and the next map.
    let (_, picture) = log.split_once("<svg").unwrap();
    let (picture, table) = picture.split_once("</svg>").unwrap();
    let place = |text: &str, key: &str| -> f64 {
        let (_, rest) = text.split_once(&format!("{key}=\"")).unwrap();
        rest.split_once('"').unwrap().0.parse().unwrap()
    };
    let line = picture
        .split('<')
        .find(|element| element.starts_with("line") && element.contains("class=\"submit\""))
        .unwrap();
    let bar = |class: &str| {
        let mut bars = picture.split('<').filter(|e| e.starts_with("rect"));
        place(bars.find(|e| e.contains(class)).unwrap(), " x")
    };
    let (removed, submit, pending) = (bar("removed"), place(line, "x1"), bar("pending"));
    assert!(removed <= submit && submit <= pending, "{picture}");
    assert!(removed < pending, "{picture}");
    assert!(picture.contains(words), "{picture}");
    // The table: likewise.
    let rows: Vec<_> = table.split("<tr").skip(2).collect();
    let first = |row: &str| {
        let (_, cell) = row.split_once("<td>").unwrap();
        cell.split_once('<').unwrap().0.to_owned()
    };
    let ops: Vec<_> = rows.iter().map(|row| first(row)).collect();
    assert_eq!(ops, ["map", "map", "unmap", "submit", "map"], "{table}");
}

#[test]
fn each_golden_dump_has_a_page() {
    for path in golden() {
        let verdict = tool().args(["explain", "-q"]).arg(&path).output().unwrap();
        let verdict = String::from_utf8(verdict.stdout).unwrap();
        let verdict = verdict.lines().next().unwrap();
        let (_, verdict) = verdict.split_once("Verdict:").unwrap();
        let words = verdict.trim().split(" (").next().unwrap();
        let output = tool()
            .arg("report")
            .arg(&path)
            .args(["--html", "-"])
            .output()
            .unwrap();
        let page = String::from_utf8(output.stdout).unwrap();
        is_harmless(&page);
        assert!(page.contains(&format!(">{words} ")), "{path:?}: {words}");
        for id in ["evidence", "rings", "registers", "commands"] {
            assert!(page.contains(&format!("id=\"{id}\"")), "{path:?}: {id}");
        }
    }
}

#[test]
fn the_position_of_a_hang_is_marked() {
    let hang = golden().into_iter().find(|p| p.ends_with("rust/hang.zst"));
    let output = tool()
        .arg("report")
        .arg(hang.unwrap())
        .args(["--html", "-"])
        .output()
        .unwrap();
    let page = String::from_utf8(output.stdout).unwrap();
    let (_, commands) = page.split_once("id=\"commands\"").unwrap();
    let (commands, _) = commands.split_once("</section>").unwrap();
    let (_, here) = commands.split_once("<tr class=\"at\">").unwrap();
    let (here, _) = here.split_once("</tr>").unwrap();
    assert!(here.contains("CP_"), "{here}");
}

#[test]
fn commands_are_shown_from_before_the_position_to_after_it() {
    let command = |opcode: u32, count: u32| {
        let parity = |value: u32| u32::from(value.count_ones() % 2 == 0);
        (7 << 28) | count | (parity(count) << 15) | (opcode << 16) | (parity(opcode) << 23)
    };
    let nop = [command(0x10, 1), 0];
    // Twenty packets, a wait that has been taken, twelve packets: two dwords each, but for the
    // wait.
    let mut buffer = nop.repeat(20);
    buffer.extend([command(0x3c, 6), 0x13, 0x1002_0000, 0, 7, !0, 32]);
    buffer.extend(nop.repeat(12));
    let ring = [command(0x3f, 3), 0x1000_0000, 0, buffer.len() as u32];
    let data = |words: &[u32]| {
        let mut text = String::from("    data: !!ascii85 |\n     ");
        msm_devcoredump::ascii85::encode(words, &mut text);
        text + "\n"
    };
    let mut dump = String::from(
        "---\nkernel: 7.3.4\nmodule: msm\ntime: 1.0\nrevision: 630 (6.3.0.0)\nringbuffer:\n  \
         - id: 0\n    iova: 0x40000000\n    rptr: 4\n    wptr: 4\n    size: 32768\n",
    );
    dump += &data(&ring);
    dump += "bos:\n  - iova: 0x10000000\n    size: 4096\n    name: <commands>\n";
    dump += &data(&buffer);
    dump += "registers:\n";
    // CP_RB_BASE, CP_RB_RPTR, CP_IB1_BASE, CP_IB1_REM_SIZE
    let registers = [
        (0x800, 0x4000_0000u32),
        (0x801, 0),
        (0x806, 4),
        (0x928, 0x1000_0000),
        (0x929, 0),
        (0x92a, 24),
    ];
    for (register, value) in registers {
        dump += &format!("  - {{ offset: {:#x}, value: {value:#x} }}\n", 4 * register);
    }
    let page = page(&dump);
    is_harmless(&page);
    assert!(page.contains("in BO “&lt;commands&gt;”"), "{page}");
    let (_, commands) = page.split_once("id=\"commands\"").unwrap();
    let (_, commands) = commands
        .split_once("IB1 at 0x10000000, dword 47 of 71")
        .unwrap();
    let (commands, _) = commands.split_once("</section>").unwrap();
    let rows: Vec<_> = commands.split("<tr").skip(2).collect();
    let here = rows.iter().position(|row| row.contains("class=\"at\""));
    assert_eq!((rows.len(), here), (16 + 1 + 8, Some(16)), "{commands}");
    assert!(rows[15].contains("CP_WAIT_REG_MEM"), "{}", rows[15]);
    assert!(rows[16].contains(">47<"), "{}", rows[16]);
    // The map is around the position.
    assert!(page.contains("GPU virtual addresses around the 0x100000bc"));
}

#[test]
fn what_the_dump_says_stays_text() {
    let hostile =
        "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&lt;</style></svg></title>";
    let dump = DUMP
        .replace("comm: test", &format!("comm: {hostile}"))
        .replace("name: below", &format!("name: {hostile}"))
        .replace("a <b> & c", &hostile.replace('"', ""))
        .replace("source=CP", &format!("source={hostile}"))
        .replace("kernel: 7.3.4", &format!("kernel: {hostile}"));
    assert_eq!(dump.matches("<script>").count(), 6);
    let page = page(&dump);
    let text = page.replace(" src=x", "");
    is_harmless(&text);
    // In the header, in pictures, in both tables.
    let escaped = page.matches("&lt;script&gt;").count();
    assert!(escaped >= 8, "{escaped}");
    // What was escaped before is escaped again, not taken for it.
    assert!(page.contains("&amp;lt;"));
    assert_eq!(page.matches("</style>").count(), 1);
    assert_eq!(
        page.matches("</title>").count(),
        1 + page.matches("<title>").count() - 1
    );

    let log = format!(
        "[ 1.0] *** gpu fault: ttbr0=1 iova=40 dir=READ type=TRANSLATION source={hostile} \
            (0,0,0,0)\n\
         [ 2.0] x: offending task: {hostile} (x)\n[ 0.0] Linux version {hostile}\n"
    );
    let page = self::page(&log);
    is_harmless(&page.replace(" src=x", ""));
    assert!(page.contains("&lt;script&gt;"));

    // The name of the file is somebody's as well.
    let place = TempDir::new().unwrap();
    let file = place.path().join("<img src=x>&.dump");
    fs::write(&file, DUMP).unwrap();
    let output = tool()
        .arg("report")
        .arg(&file)
        .args(["--html", "-"])
        .output()
        .unwrap();
    let page = String::from_utf8(output.stdout).unwrap();
    is_harmless(&page.replace(" src=x", ""));
    assert!(page.contains("&lt;img src=x&gt;&amp;.dump"));
}

#[test]
fn it_goes_where_it_is_told_to() {
    let place = TempDir::new().unwrap();
    let file = place.path().join("page.html");
    let name = file.to_str().unwrap();
    assert_eq!(stdout(&["report", "-", "--html", name], DUMP, 0), "");
    assert_eq!(fs::read_to_string(&file).unwrap(), page(DUMP));
    for (arguments, input) in [
        (&["report", "-"][..], DUMP),
        (&["report", "-", "--html", "/nonexistent/page"], DUMP),
        (&["report", "-", "--html", "/dev/full"], DUMP),
        (&["report", "-", "--html", "-", "--document", "1"], DUMP),
        (&["report", "/nonexistent", "--html", "-"], ""),
    ] {
        let output = run(arguments, input);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
    let twice = DUMP.repeat(2).replacen("comm: test", "comm: other", 1);
    let arguments = ["report", "-", "--html", "-", "--document"];
    let first = stdout(&[&arguments[..], &["0"]].concat(), &twice, 0);
    let second = stdout(&[&arguments[..], &["1"]].concat(), &twice, 0);
    assert!(first.contains("task other") && second.contains("task test"));
    // What says too little has a page as well.
    let other = "---\nkernel: 7.3.4\nmodule: ath11k\n";
    let page = stdout(&["report", "-", "--html", "-"], other, 1);
    is_harmless(&page);
}

/// Times that can't be: the page has an end.
#[test]
fn times_of_centuries() {
    let text = "module: msm\nfault-info:\n  - iova=1000\nvm-log:\n  # format=1 \
                now=18446744073709551615 fault=18446744073709551615 entries=1 lost=0\n  \
                - map:1: 0x0000000000001000-0x0000000000002000 asked=0 applied=0\nringbuffer:\n";
    // The dump is cut short, and the exit status says so.
    is_harmless(&stdout(&["report", "-", "--html", "-"], text, 1));
}
