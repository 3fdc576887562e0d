//! Bytes that a fuzzer makes up, for [`huntline::fuzzing::configuration`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| huntline::fuzzing::configuration(data));
