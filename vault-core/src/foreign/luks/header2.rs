//! The header of version 2: a binary part and JSON, twice; the newer whole one counts.

use super::keyslot::{Digest, Kdf, Slot};
use super::{Header, MAGIC, Segment, hash, is_cipher};
use crate::crypto::hash::sha256;
use crate::crypto::kdf::{Argon2Kind, KdfCost};
use crate::device::BlockDevice;
use crate::foreign::fields::Fields;
use crate::foreign::{ForeignError, ForeignResult};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// Bytes of the binary part.
const BINARY: usize = 4096;
/// What the second header begins with.
const SECOND: &[u8] = b"SKUL\xba\xbe";
/// The lengths that a header can have, binary part and JSON together.
const LENGTHS: [u64; 9] =
    [16 << 10, 32 << 10, 64 << 10, 128 << 10, 256 << 10, 512 << 10, 1 << 20, 2 << 20, 4 << 20];
const CHECKSUM: usize = 448;
const CHECKSUM_LEN: usize = 64;
/// Keyslots, at the most.
const SLOTS: u8 = 32;

// Keeps its name where fuzzing tells what it has covered.
#[inline(never)]
pub(super) fn read(device: &dyn BlockDevice) -> ForeignResult<Header> {
    let image = device.len()?;
    let first = copy(device, 0, MAGIC);
    let places = match &first {
        Ok(found) => vec![found.len],
        Err(_) => LENGTHS.to_vec(),
    };
    let second = places.into_iter().find_map(|at| copy(device, at, SECOND).ok());
    let newest = match (first, second) {
        (Ok(one), Some(two)) if two.sequence > one.sequence => two,
        (Ok(one), _) => one,
        (Err(_), Some(two)) => two,
        (Err(error), None) => return Err(error),
    };
    let areas = newest.len.saturating_mul(2)..image;
    let json = newest.json;
    let requirements = json.get("config").and_then(|config| config.get("requirements"));
    let mandatory = requirements.and_then(|all| all.get("mandatory")).and_then(Value::as_array);
    if mandatory.is_some_and(|names| !names.is_empty()) {
        return Err(ForeignError::unsupported("a container that is being re-encrypted"));
    }
    let (name, segment) = segment(&json, image)?;
    let mut slots = Vec::new();
    for (number, slot) in object(&json, "keyslots")? {
        let number: u8 = number.parse().map_err(|_| wrong())?;
        if number >= SLOTS {
            return Err(wrong());
        }
        let digest = object(&json, "digests")?.values().find(|digest| {
            names(digest, "keyslots", &number.to_string()) && names(digest, "segments", &name)
        });
        // One without a digest belongs to something else than the data.
        let Some(digest) = digest else { continue };
        slots.push(self::slot(number, slot, digest, &areas)?);
    }
    slots.sort_by_key(|slot| slot.number);
    Ok(Header { uuid: newest.uuid, slots, segment })
}

/// One header, whole and with the right sum.
struct Copy {
    len: u64,
    sequence: u64,
    uuid: String,
    json: Value,
}

fn copy(device: &dyn BlockDevice, at: u64, magic: &[u8]) -> ForeignResult<Copy> {
    let mut binary = vec![0; BINARY];
    device.read_at(&mut binary, at)?;
    let header = Fields::new(&binary, "the LUKS header");
    let len = header.be64(8)?;
    if header.slice(0, magic.len())? != magic
        || header.be16(6)? != 2
        || !LENGTHS.contains(&len)
        || header.be64(256)? != at
    {
        return Err(wrong());
    }
    if header.text(72, 32)? != "sha256" {
        return Err(ForeignError::unsupported("the checksum of the LUKS header"));
    }
    let sum = header.slice(CHECKSUM, CHECKSUM_LEN)?.to_vec();
    let (sequence, uuid) = (header.be64(16)?, header.text(168, 40)?.to_owned());
    let mut whole = vec![0; usize::try_from(len).map_err(|_| wrong())?];
    device.read_at(&mut whole, at)?;
    whole.get_mut(CHECKSUM..CHECKSUM + CHECKSUM_LEN).unwrap_or_default().fill(0);
    if sum.get(..32) != Some(&sha256(&whole)[..]) {
        return Err(ForeignError::damaged("the checksum of the LUKS header"));
    }
    let text = whole.get(BINARY..).unwrap_or_default();
    let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
    let json = serde_json::from_slice(text).map_err(|_| wrong())?;
    Ok(Copy { len, sequence, uuid, json })
}

/// Makes the first of two headers; what is too long for it is cut.
#[cfg(any(test, feature = "testing"))]
#[allow(clippy::big_endian_bytes, reason = "LUKS is big-endian")]
pub(super) fn seal(json: &[u8]) -> Vec<u8> {
    let len = LENGTHS[0];
    let mut header = MAGIC.to_vec();
    header.extend(2_u16.to_be_bytes());
    header.extend(len.to_be_bytes());
    header.extend(1_u64.to_be_bytes());
    header.resize(72, 0);
    header.extend(b"sha256");
    header.resize(BINARY, 0);
    header.extend(json);
    header.resize(usize::try_from(len).unwrap_or(0), 0);
    let sum = sha256(&header);
    header.splice(CHECKSUM..CHECKSUM + sum.len(), sum);
    header.resize(header.len() * 2, 0);
    header
}

fn segment(json: &Value, image: u64) -> ForeignResult<(String, Segment)> {
    let mut segments = object(json, "segments")?.iter();
    let (Some((name, segment)), None) = (segments.next(), segments.next()) else {
        return Err(ForeignError::unsupported("a container of several parts"));
    };
    if text(segment, "type")? != "crypt" {
        return Err(ForeignError::unsupported("a container without encryption"));
    }
    if segment.get("integrity").is_some() {
        return Err(ForeignError::unsupported("a container with integrity tags"));
    }
    if segment.get("flags").and_then(Value::as_array).is_some_and(|flags| !flags.is_empty()) {
        return Err(ForeignError::unsupported("a container with hardware encryption"));
    }
    is_cipher(text(segment, "encryption")?)?;
    let len = match text(segment, "size")? {
        "dynamic" => None,
        _ => Some(decimal(segment, "size")?),
    };
    let place = (decimal(segment, "offset")?, len);
    let sector = number(segment, "sector_size")?;
    Ok((name.clone(), Segment::new(place, decimal(segment, "iv_tweak")?, sector, image)?))
}

// Keeps its name where fuzzing tells what it has covered.
#[inline(never)]
fn slot(
    number: u8,
    slot: &Value,
    digest: &Value,
    areas: &std::ops::Range<u64>,
) -> ForeignResult<Slot> {
    if text(slot, "type")? != "luks2" {
        return Err(ForeignError::unsupported("a keyslot of another kind"));
    }
    let (area, af, kdf) = (inner(slot, "area")?, inner(slot, "af")?, inner(slot, "kdf")?);
    if text(area, "type")? != "raw" || text(af, "type")? != "luks1" {
        return Err(ForeignError::unsupported("a keyslot of another kind"));
    }
    is_cipher(text(area, "encryption")?)?;
    let (place, size) = (decimal(area, "offset")?, decimal(area, "size")?);
    if place < areas.start || place.checked_add(size).is_none_or(|end| end > areas.end) {
        return Err(ForeignError::damaged("the place of a keyslot"));
    }
    let kdf = match text(kdf, "type")? {
        "pbkdf2" => Kdf::Pbkdf2 {
            hash: hash(text(kdf, "hash")?)?,
            salt: bytes(kdf, "salt")?,
            iterations: small(kdf, "iterations")?,
        },
        kind @ ("argon2id" | "argon2i") => Kdf::Argon2 {
            kind: if kind == "argon2id" { Argon2Kind::Hybrid } else { Argon2Kind::Independent },
            salt: bytes(kdf, "salt")?,
            cost: KdfCost {
                memory_kib: small(kdf, "memory")?,
                passes: small(kdf, "time")?,
                lanes: small(kdf, "cpus")?,
            },
        },
        _ => return Err(ForeignError::unsupported("a keyslot's key derivation")),
    };
    if text(digest, "type")? != "pbkdf2" {
        return Err(ForeignError::unsupported("a digest of another kind"));
    }
    let key_len = length(slot, "key_size")?;
    let stripes = length(af, "stripes")?;
    if (key_len as u64).checked_mul(stripes as u64).is_none_or(|needed| needed > size) {
        return Err(ForeignError::damaged("the place of a keyslot"));
    }
    Ok(Slot {
        number,
        kdf,
        area: place,
        area_key_len: length(area, "key_size")?,
        key_len,
        stripes,
        spread: hash(text(af, "hash")?)?,
        digest: Digest {
            hash: hash(text(digest, "hash")?)?,
            salt: bytes(digest, "salt")?,
            iterations: small(digest, "iterations")?,
            value: bytes(digest, "digest")?,
        },
    })
}

fn wrong() -> ForeignError {
    ForeignError::damaged("the LUKS header")
}

fn inner<'v>(value: &'v Value, name: &str) -> ForeignResult<&'v Value> {
    value.get(name).ok_or_else(wrong)
}

fn object<'v>(value: &'v Value, name: &str) -> ForeignResult<&'v serde_json::Map<String, Value>> {
    inner(value, name)?.as_object().ok_or_else(wrong)
}

fn text<'v>(value: &'v Value, name: &str) -> ForeignResult<&'v str> {
    inner(value, name)?.as_str().ok_or_else(wrong)
}

fn number(value: &Value, name: &str) -> ForeignResult<u64> {
    inner(value, name)?.as_u64().ok_or_else(wrong)
}

fn small(value: &Value, name: &str) -> ForeignResult<u32> {
    u32::try_from(number(value, name)?).map_err(|_| wrong())
}

fn length(value: &Value, name: &str) -> ForeignResult<usize> {
    usize::try_from(number(value, name)?).map_err(|_| wrong())
}

/// Numbers that may not fit into JavaScript's are written as text.
fn decimal(value: &Value, name: &str) -> ForeignResult<u64> {
    text(value, name)?.parse().map_err(|_| wrong())
}

fn bytes(value: &Value, name: &str) -> ForeignResult<Vec<u8>> {
    STANDARD.decode(text(value, name)?).map_err(|_| wrong())
}

fn names(value: &Value, list: &str, wanted: &str) -> bool {
    let names = value.get(list).and_then(Value::as_array);
    names.is_some_and(|names| names.iter().any(|name| name.as_str() == Some(wanted)))
}
