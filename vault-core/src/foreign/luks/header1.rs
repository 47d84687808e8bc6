//! The header of version 1: one sector and eight keyslots at fixed places.

use super::keyslot::{Digest, Kdf, Slot};
use super::{Header, SECTOR, Segment, hash, is_cipher};
use crate::device::BlockDevice;
use crate::foreign::fields::Fields;
use crate::foreign::{ForeignError, ForeignResult};

/// Bytes of the header.
const LEN: usize = 592;
const SLOTS: usize = 208;
const SLOT_LEN: usize = 48;
/// What a keyslot in use begins with.
const ENABLED: u32 = 0x00ac_71f3;
const SALT: usize = 32;

// Keeps its name where fuzzing tells what it has covered.
#[inline(never)]
pub(super) fn read(device: &dyn BlockDevice) -> ForeignResult<Header> {
    let image = device.len()?;
    let mut bytes = [0; LEN];
    device.read_at(&mut bytes, 0)?;
    let header = Fields::new(&bytes, "the LUKS header");
    is_cipher(&format!("{}-{}", header.text(8, 32)?, header.text(40, 32)?))?;
    let hash = hash(header.text(72, 32)?)?;
    let key_len = to_usize(header.be32(108)?);
    let digest = Digest {
        hash,
        salt: header.slice(132, SALT)?.to_vec(),
        iterations: header.be32(164)?,
        value: header.slice(112, 20)?.to_vec(),
    };
    let mut slots = Vec::new();
    for number in 0..8_u8 {
        let at = SLOTS + usize::from(number) * SLOT_LEN;
        if header.be32(at)? != ENABLED {
            continue;
        }
        slots.push(Slot {
            number,
            kdf: Kdf::Pbkdf2 {
                hash,
                salt: header.slice(at + 8, SALT)?.to_vec(),
                iterations: header.be32(at + 4)?,
            },
            area: u64::from(header.be32(at + 40)?) * SECTOR,
            area_key_len: key_len,
            key_len,
            stripes: to_usize(header.be32(at + 44)?),
            spread: hash,
            digest: digest.clone(),
        });
    }
    let offset = u64::from(header.be32(104)?) * SECTOR;
    if offset < LEN as u64 {
        return Err(ForeignError::damaged("the place of the data"));
    }
    let uuid = header.text(168, 40)?.to_owned();
    Ok(Header { uuid, slots, segment: Segment::new((offset, None), 0, SECTOR, image)? })
}

fn to_usize(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
