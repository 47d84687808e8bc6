//! Opening a LUKS container: header, keyslots, volume key, plain bytes.
//!
//! The specifications are "LUKS1 On-Disk Format 1.2.3" and "LUKS2 On-Disk Format 1.1". What `cryptsetup` makes
//! by default is read, and so is everything that TazPod ever made: `aes-xts-plain64`, PBKDF2 over SHA-256
//! or SHA-512, Argon2. A container that is being re-encrypted, or that carries integrity tags, is not.

mod header1;
mod header2;
mod keyslot;

use super::{Bytes, ForeignError, ForeignResult};
use crate::crypto::hash::Hash;
use crate::crypto::kdf::{KdfLimits, KdfMemory};
use crate::crypto::xts::Xts;
use crate::device::BlockDevice;
use keyslot::Slot;
use std::io;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Bytes in which offsets and tweaks are counted.
const SECTOR: u64 = 512;
/// `LUKS` and two bytes that are no text.
const MAGIC: &[u8] = b"LUKS\xba\xbe";
/// The one cipher that is read.
const CIPHER: &str = "aes-xts-plain64";

/// A container whose header was read. Nothing in it is authentic.
pub struct Container {
    device: Arc<dyn BlockDevice>,
    header: Header,
}

/// What both versions say in their own way.
struct Header {
    uuid: String,
    slots: Vec<Slot>,
    segment: Segment,
}

/// Where the data lies, and how it is encrypted.
#[derive(Clone, Copy)]
struct Segment {
    offset: u64,
    len: u64,
    /// The tweak of the first sector, in units of 512 bytes.
    tweak: u64,
    /// Bytes that are encrypted together.
    sector: usize,
}

fn hash(name: &str) -> ForeignResult<Hash> {
    Hash::named(name)
        .ok_or_else(|| ForeignError::unsupported(format!("the hash '{}'", harmless(name))))
}

impl Container {
    /// Reads and judges the header.
    pub fn open(device: Arc<dyn BlockDevice>) -> ForeignResult<Self> {
        let mut start = [0; 8];
        device.read_at(&mut start, 0)?;
        let (magic, version) = start.split_at(MAGIC.len());
        // The second header may outlive the first.
        let header = match (magic == MAGIC, version) {
            (true, [0, 1]) => header1::read(&*device)?,
            (true, [0, 2]) | (false, _) => header2::read(&*device)?,
            _ => return Err(ForeignError::unsupported("this version of LUKS")),
        };
        Ok(Self { device, header })
    }

    /// Returns the container's UUID.
    pub fn uuid(&self) -> &str {
        &self.header.uuid
    }

    /// Returns where the encrypted data begins.
    pub fn data_offset(&self) -> u64 {
        self.header.segment.offset
    }

    /// Returns the numbers of the keyslots in use.
    pub fn slots(&self) -> impl Iterator<Item = u8> {
        self.header.slots.iter().map(|slot| slot.number)
    }

    /// Judges what the keyslots ask for, without trying them.
    #[cfg(any(test, feature = "testing"))]
    pub fn judge_for_tests(&self, limits: &KdfLimits) -> ForeignResult<()> {
        keyslot::judge(&self.header.slots.iter().collect::<Vec<_>>(), *limits)
    }

    /// Tries the keyslots, or one of them, and returns the plain bytes and the slot that opened.
    pub fn unlock(
        &self,
        secret: &[u8],
        slot: Option<u8>,
        limits: &KdfLimits,
        memory: &mut dyn KdfMemory,
    ) -> ForeignResult<(Opened, u8)> {
        let tried: Vec<&Slot> = self
            .header
            .slots
            .iter()
            .filter(|found| slot.is_none_or(|slot| slot == found.number))
            .collect();
        keyslot::judge(&tried, *limits)?;
        for slot in tried {
            let Some(key) = slot.open(&*self.device, secret, memory)? else { continue };
            let cipher = Xts::new(&key).ok_or(ForeignError::damaged("a volume key's length"))?;
            let opened =
                Opened { device: Arc::clone(&self.device), cipher, segment: self.header.segment };
            return Ok((opened, slot.number));
        }
        Err(ForeignError::NoSlotOpened)
    }
}

/// The plain bytes of an opened container.
pub struct Opened {
    device: Arc<dyn BlockDevice>,
    cipher: Xts,
    segment: Segment,
}

impl Opened {
    /// Reads another image with the same key: what a header that is kept elsewhere opens.
    pub fn onto(self, device: Arc<dyn BlockDevice>) -> ForeignResult<Self> {
        let Segment { offset, tweak, sector, .. } = self.segment;
        let segment = Segment::new((offset, None), tweak, sector as u64, device.len()?)?;
        Ok(Self { device, segment, ..self })
    }
}

impl Bytes for Opened {
    fn len(&self) -> u64 {
        self.segment.len
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.segment.len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let sector = self.segment.sector as u64;
        let before = usize::try_from(offset % sector).unwrap_or(0);
        let first = offset - offset % sector;
        let whole = (before + buffer.len()).next_multiple_of(self.segment.sector);
        let mut sectors = Zeroizing::new(vec![0; whole]);
        self.device.read_at(&mut sectors, self.segment.offset.saturating_add(first))?;
        let mut tweak = self.segment.tweak.wrapping_add(first / SECTOR);
        for part in sectors.chunks_exact_mut(self.segment.sector) {
            self.cipher.decrypt(tweak, part);
            tweak = tweak.wrapping_add(sector / SECTOR);
        }
        let wanted = sectors.get(before..before + buffer.len()).unwrap_or_default();
        buffer.copy_from_slice(wanted);
        Ok(())
    }
}

impl Segment {
    /// Judges where the data lies; whole sectors count.
    fn new(
        (offset, len): (u64, Option<u64>),
        tweak: u64,
        sector: u64,
        image: u64,
    ) -> ForeignResult<Self> {
        let wrong = || ForeignError::damaged("the place of the data");
        if ![512, 1024, 2048, 4096].contains(&sector) || offset % SECTOR != 0 {
            return Err(wrong());
        }
        let left = image.checked_sub(offset).ok_or_else(wrong)?;
        let len = len.unwrap_or(left - left % sector);
        if len > left || len % sector != 0 {
            return Err(wrong());
        }
        let sector = usize::try_from(sector).map_err(|_| wrong())?;
        Ok(Self { offset, len, tweak, sector })
    }
}

fn is_cipher(name: &str) -> ForeignResult<()> {
    if name == CIPHER {
        Ok(())
    } else {
        Err(ForeignError::unsupported(format!("the cipher '{}'", harmless(name))))
    }
}

/// What a stranger wrote, for a message.
fn harmless(text: &str) -> String {
    text.chars().filter(char::is_ascii_graphic).take(32).collect()
}

/// Puts JSON below a binary header of version 2 with the right sum, for fuzzing.
#[cfg(any(test, feature = "testing"))]
pub fn seal_header_for_tests(json: &[u8]) -> Vec<u8> {
    header2::seal(json)
}
