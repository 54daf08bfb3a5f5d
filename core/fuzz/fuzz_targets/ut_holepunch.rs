#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::targets::ut_holepunch(data));
