//! Header bytes as they lie in an image that nobody has unlocked: both copies, any content.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::Arc;
use vault_core::crypto::kdf::KdfLimits;
use vault_core::device::{BlockDevice, MemoryDevice};
use vault_core::format::magic::ImageFormat;
use vault_core::vault::Vault;
use vault_core::witness::Witness;

fuzz_target!(|bytes: &[u8]| {
    let _ = ImageFormat::recognise(bytes);
    let _ = Witness::decode_body(bytes);
    let device = Arc::new(MemoryDevice::new(1 << 20));
    device.grow(16 * 4096).expect("the device has room");
    let (a, b) = bytes.split_at(bytes.len().min(4096));
    device.write_at(a, 0).expect("copy A lies inside the device");
    device.write_at(&b[..b.len().min(4096)], 9 * 4096).expect("copy B lies inside the device");
    if let Ok(vault) = Vault::open(device) {
        for (_, slot) in vault.slots() {
            let _ = slot.cost.map(|cost| cost.check(&KdfLimits::default()));
        }
    }
});
