// SPDX-License-Identifier: GPL-2.0-only

//! Where Rust and C meet.

/// What the C headers declare, by bindgen.
#[allow(
    clippy::all,
    dead_code,
    improper_ctypes,
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unreachable_pub,
    unsafe_op_in_unsafe_fn
)]
pub(crate) mod bindings {
    use kernel::ffi;

    type __kernel_size_t = usize;
    type __kernel_ssize_t = isize;
    type __kernel_ptrdiff_t = isize;

    include!(concat!(
        env!("MSM_RS_OBJTREE"),
        "/ffi/bindings_generated.rs"
    ));
}
