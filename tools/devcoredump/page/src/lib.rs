// SPDX-License-Identifier: GPL-2.0-only
//! The library for a page that explains a dump without sending it anywhere: WebAssembly that
//! imports nothing, so that it can do nothing but compute. `explain.js` is its caller.
//!
//! An instance serves one file: `room_for_name` and `room_for_file` first, then `next` for each of
//! its documents. Nothing is freed: the caller drops the instance.

use msm_devcoredump::input::{
    decompress,
    Text, //
};
use msm_devcoredump::report::{
    Report,
    Reports, //
};
use std::cell::RefCell;
use std::io::{
    self,
    Cursor, //
};
use std::mem;

/// What became of the next document: its verdict is an answer.
const FOUND: u32 = 0;
/// Its verdict is none.
const NOT_FOUND: u32 = 1;
/// It can't be read; the page is a sentence that says why.
const TROUBLE: u32 = 2;
/// There is no further one.
const END: u32 = 3;

#[derive(Default)]
struct State {
    name: Vec<u8>,
    file: Vec<u8>,
    reports: Option<Reports>,
    page: String,
    verdict: &'static str,
}

thread_local! {
    static STATE: RefCell<State> = RefCell::default();
}

impl State {
    fn next(&mut self) -> io::Result<Option<Report>> {
        let reports = match &mut self.reports {
            Some(reports) => reports,
            None => {
                let text = Text::new(decompress(Cursor::new(mem::take(&mut self.file)))?)?;
                let name = String::from_utf8_lossy(&self.name);
                self.reports.insert(Reports::new(&name, text))
            }
        };
        reports.next_report()
    }
}

/// Where the file's name, of `length` bytes of UTF-8, is to be written.
#[no_mangle]
pub extern "C" fn room_for_name(length: usize) -> *mut u8 {
    STATE.with_borrow_mut(|state| {
        state.name = vec![0; length];
        state.name.as_mut_ptr()
    })
}

/// Where the file's `length` bytes are to be written.
#[no_mangle]
pub extern "C" fn room_for_file(length: usize) -> *mut u8 {
    STATE.with_borrow_mut(|state| {
        state.file = vec![0; length];
        state.file.as_mut_ptr()
    })
}

/// Reads the next document, and makes its page.
#[no_mangle]
pub extern "C" fn next() -> u32 {
    STATE.with_borrow_mut(|state| match state.next() {
        Ok(Some(report)) => {
            state.page = report.html;
            state.verdict = report.verdict.words();
            match report.verdict.says_enough() {
                true => FOUND,
                false => NOT_FOUND,
            }
        }
        Ok(None) => END,
        Err(e) => {
            state.page = e.to_string();
            TROUBLE
        }
    })
}

/// The page.
#[no_mangle]
pub extern "C" fn page() -> *const u8 {
    STATE.with_borrow(|state| state.page.as_ptr())
}

/// Its length in bytes.
#[no_mangle]
pub extern "C" fn page_length() -> usize {
    STATE.with_borrow(|state| state.page.len())
}

/// The page's verdict, in a few words.
#[no_mangle]
pub extern "C" fn verdict() -> *const u8 {
    STATE.with_borrow(|state| state.verdict.as_ptr())
}

/// Its length in bytes.
#[no_mangle]
pub extern "C" fn verdict_length() -> usize {
    STATE.with_borrow(|state| state.verdict.len())
}
