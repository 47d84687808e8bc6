//! Headers of LUKS containers, of both versions: nothing in them is authentic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::Arc;
use vault_core::crypto::kdf::KdfLimits;
use vault_core::device::MemoryDevice;
use vault_core::foreign::luks::{Container, seal_header_for_tests};

fuzz_target!(|bytes: &[u8]| {
    let Some((first, rest)) = bytes.split_first() else { return };
    let image = if first % 4 == 0 {
        // As it is: LUKS1, or something that is broken in its first bytes.
        let mut image = rest.to_vec();
        image.resize(32 << 10, 0);
        image
    } else {
        // JSON below the right checksum.
        seal_header_for_tests(rest)
    };
    let device = Arc::new(MemoryDevice::from_bytes(image, 1 << 20));
    if let Ok(container) = Container::open(device) {
        let _ = (container.uuid().len(), container.slots().count());
        let _ = container.judge_for_tests(&KdfLimits::default());
    }
});
