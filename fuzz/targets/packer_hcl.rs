#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| visabuild_fuzz::packer_hcl(data));
