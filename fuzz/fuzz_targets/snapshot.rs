//! Bytes that a fuzzer makes up, for [`huntline::fuzzing::snapshot`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| huntline::fuzzing::snapshot(data));
