// SPDX-License-Identifier: GPL-2.0-only
//! What `map` draws of a small dump.

use crate::common::{
    run,
    stdout,
    DUMP, //
};

/// The line that has `text`, and its number.
fn line<'a>(output: &'a str, text: &str) -> (usize, &'a str) {
    output
        .lines()
        .enumerate()
        .find(|(_, line)| line.contains(text))
        .unwrap_or_else(|| panic!("no {text:?} in\n{output}"))
}

#[test]
fn text_shows_the_fault_between_its_neighbours() {
    let map = stdout(&["map"], DUMP, 0);
    let (below, text) = line(&map, "\"below\"");
    assert!(text.contains("mapped") && text.contains("16 KiB"), "{text}");
    let (removed, text) = line(&map, "\"a <b> & c\"");
    assert!(text.contains("removed"), "{text}");
    assert!(
        text.contains("unmap by queue 3, job 3, 794.0 µs ahead"),
        "{text}"
    );
    let (fault, text) = line(&map, "▶");
    assert!(
        text.contains("read fault at 0x100005030, 0x1030 into it"),
        "{text}"
    );
    let (late, text) = line(&map, "\"late\"");
    assert!(
        text.contains("pending") && text.contains("not applied"),
        "{text}"
    );
    let (hole, text) = line(&map[map.find("removed").unwrap()..], "hole");
    assert!(text.contains("32 KiB"), "{text}");
    assert_eq!([removed, fault], [below + 1, below + 2]);
    assert!(hole > 0 && late > fault);
}

#[test]
fn text_splits_a_hole_at_the_address() {
    let map = stdout(&["map", "--address", "0x10000a000"], DUMP, 0);
    let (at, text) = line(&map, "▶");
    assert!(
        text.contains(
            "0x10000a000, 8 KiB after the end of the last, 24 KiB before the start of the next"
        ),
        "{text}"
    );
    let lines: Vec<_> = map.lines().collect();
    assert!(lines[at - 1].contains("8 KiB") && lines[at - 1].contains("hole"));
    assert!(lines[at + 1].contains("24 KiB") && lines[at + 1].contains("hole"));
}

#[test]
fn the_reach_is_kept_and_the_rest_counted() {
    let map = stdout(&["map", "--reach", "0"], DUMP, 0);
    assert!(!map.contains("late"), "{map}");
    line(&map, "⋮ 1 below");
    // The ring's BO isn't in the list; what waits is.
    line(&map, "⋮ 1 above");
}

#[test]
fn a_picture_is_xml_and_holds_what_the_text_holds() {
    let picture = stdout(&["map", "--svg"], DUMP, 0);
    let document = roxmltree::Document::parse(&picture).unwrap();
    let root = document.root_element();
    assert_eq!(root.tag_name().name(), "svg");
    let text: Vec<_> = document
        .descendants()
        .filter(|node| node.has_tag_name("text") || node.tag_name().name() == "text")
        .filter_map(|node| node.text())
        .collect();
    let has = |part: &str| assert!(text.iter().any(|t| t.contains(part)), "{part}: {text:?}");
    has("\"a <b> & c\"");
    has("read fault at 0x100005030, 0x1030 into it");
    has("0x0000000100004000");
    // One rectangle for each row of the map, one for the page, five in the legend.
    let classes: Vec<_> = document
        .descendants()
        .filter(|node| node.tag_name().name() == "rect")
        .filter_map(|node| node.attribute("class"))
        .collect();
    let count = |class| classes.iter().filter(|&&c| c == class).count();
    assert_eq!(
        ["mapped", "removed", "pending", "hole", "page"].map(count),
        [2, 2, 2, 3, 1]
    );
    // The line is inside of the removed range, a quarter down.
    let number =
        |node: roxmltree::Node, name| node.attribute(name).unwrap().parse::<f64>().unwrap();
    let removed = document
        .descendants()
        .find(|node| node.attribute("class") == Some("removed"))
        .unwrap();
    let at = document
        .descendants()
        .find(|node| node.tag_name().name() == "line")
        .map(|node| number(node, "y1"))
        .unwrap();
    let part = (at - number(removed, "y")) / number(removed, "height");
    assert!((part - 4144.0 / 16384.0).abs() < 0.01, "{part}");
}

#[test]
fn without_a_fault_the_place_must_be_given() {
    let hang = DUMP.replace("fault-info:", "other-info:");
    let output = run(&["map"], &hang);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--address"));
    stdout(&["map", "-a", "0x100000000"], &hang, 0);
    // Nothing is there: not found.
    stdout(
        &["map", "-a", "0x100000000"],
        "---\nkernel: 7.3.4\nmodule: msm\n",
        1,
    );
}

#[test]
fn output_goes_to_a_file() {
    let path = std::env::temp_dir().join(format!("msm-devcoredump-map-{}.svg", std::process::id()));
    let name = path.to_str().unwrap();
    assert_eq!(stdout(&["map", "--svg", "-o", name], DUMP, 0), "");
    let picture = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    roxmltree::Document::parse(&picture).unwrap();
}
