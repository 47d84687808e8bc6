//! What a LUKS header says, and changes of its keyslots, by `cryptsetup` on the image file.
//!
//! Needs no device and no root: the file is read and written with the rights of the process.

use super::tool;
use crate::error::{Error, Kind, Result};
use crate::sys::program::MoreInput;
use serde_json::Value;
use std::io;
use std::path::Path;

/// The fewest passes that `cryptsetup` takes.
pub(super) const LEAST_PASSES: u32 = 4;

/// A header as anyone can read it; nothing in it is authenticated.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// 1 or 2.
    pub(crate) version: u16,
    /// The vault's UUID.
    pub(crate) uuid: String,
    /// The keyslots in use.
    pub(crate) slots: Vec<Slot>,
}

/// A keyslot in use.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    /// Its number.
    pub(crate) number: u8,
    /// The key derivation's name.
    pub(crate) kdf: String,
    /// Its memory in KiB, if it takes some.
    pub(crate) memory_kib: Option<u64>,
    /// Its passes or iterations.
    pub(crate) passes: Option<u64>,
    /// Its lanes, if it has some.
    pub(crate) lanes: Option<u64>,
}

/// What a new keyslot shall cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// Memory in KiB.
    pub(crate) memory_kib: u32,
    /// Passes over it.
    pub(crate) passes: u32,
}

/// An image file whose header is read and changed.
pub(crate) struct HeaderFile<'a> {
    path: String,
    shown: &'a str,
}

impl<'a> HeaderFile<'a> {
    /// Names the image; the path must be text, since it becomes an argument.
    pub(crate) fn new(path: &Path, shown: &'a str) -> Result<Self> {
        let failed =
            |cause: io::Error| Error::environment(format!("cannot use '{shown}'")).caused_by(cause);
        // Absolute, so that no file can be taken for an option.
        let path = std::path::absolute(path).map_err(failed)?;
        let path = path.into_os_string().into_string();
        let path = path.map_err(|_| failed(io::Error::other("its path is no text")))?;
        Ok(Self { path, shown })
    }

    /// Reads the header.
    pub(crate) fn read(&self, version: u16) -> Result<Header> {
        let uuid = self.look(&["luksUUID"])?;
        let uuid = String::from_utf8_lossy(&uuid).trim().to_owned();
        let slots = if version == 1 {
            slots_of_version_1(&String::from_utf8_lossy(&self.look(&["luksDump"])?))
        } else {
            let dump = self.look(&["luksDump", "--dump-json-metadata"])?;
            serde_json::from_slice(&dump).ok().and_then(|dump| slots_of_version_2(&dump))
        };
        let slots = slots.ok_or_else(|| self.damaged())?;
        Ok(Header { version, uuid, slots })
    }

    fn look(&self, arguments: &[&str]) -> Result<Vec<u8>> {
        let arguments: Vec<&str> = arguments.iter().copied().chain([self.path.as_str()]).collect();
        let outcome = tool::run("cryptsetup", &arguments, b"")?;
        match outcome.status {
            0 => Ok(outcome.output),
            _ => Err(tool::said(self.damaged(), &outcome)),
        }
    }

    fn damaged(&self) -> Error {
        Error::new(Kind::Damage, format!("the LUKS header of '{}' cannot be read", self.shown))
            .hint("'cryptsetup repair' may mend it, or a backup of the header; it was not touched")
    }

    /// Returns the number of the keyslot that `key` opens.
    pub(crate) fn opens(&self, key: &[u8], slot: Option<u8>) -> Result<u8> {
        let slot = slot.map(|slot| slot.to_string());
        let mut arguments = vec!["open", "--test-passphrase", "--verbose", "--type", "luks"];
        arguments.extend(["--key-file", "-"]);
        if let Some(slot) = &slot {
            arguments.extend(["--key-slot", slot]);
        }
        arguments.push(&self.path);
        let said = tool::cryptsetup(&arguments, key, self.shown)?;
        opened_slot(&String::from_utf8_lossy(&said))
            .ok_or_else(|| Error::internal("cryptsetup did not say which keyslot opened"))
    }

    /// Adds a keyslot that `new` opens.
    pub(crate) fn add(&self, key: &[u8], new: &[u8], cost: Cost, version: u16) -> Result<()> {
        self.rekey(&["luksAddKey"], key, new, cost, version)
    }

    /// Lets `new` open a keyslot instead of `key`.
    pub(crate) fn change(
        &self,
        slot: u8,
        key: &[u8],
        new: &[u8],
        cost: Cost,
        version: u16,
    ) -> Result<()> {
        let slot = slot.to_string();
        self.rekey(&["luksChangeKey", "--key-slot", &slot], key, new, cost, version)
    }

    /// Removes a keyslot for good.
    pub(crate) fn remove(&self, slot: u8) -> Result<()> {
        let arguments = ["--batch-mode", "luksKillSlot", &self.path, &slot.to_string()];
        tool::cryptsetup(&arguments, b"", self.shown).map(drop)
    }

    /// Writes the header to a new file.
    pub(crate) fn back_up(&self, file: &Path) -> Result<()> {
        self.header_file("luksHeaderBackup", file)
    }

    /// Puts a header back.
    pub(crate) fn restore(&self, file: &Path) -> Result<()> {
        self.header_file("luksHeaderRestore", file)
    }

    fn header_file(&self, verb: &str, file: &Path) -> Result<()> {
        let other = file.display().to_string();
        let file = HeaderFile::new(file, &other)?.path;
        let arguments = ["--batch-mode", verb, &self.path, "--header-backup-file", &file];
        tool::cryptsetup(&arguments, b"", self.shown).map(drop)
    }

    fn rekey(&self, verb: &[&str], key: &[u8], new: &[u8], cost: Cost, version: u16) -> Result<()> {
        let more = MoreInput::new(new).map_err(|cause| {
            Error::environment("cannot hand the new key to cryptsetup").caused_by(cause)
        })?;
        let (memory, passes) =
            (cost.memory_kib.to_string(), cost.passes.max(LEAST_PASSES).to_string());
        let (path, more_path) = (self.path.as_str(), more.path());
        let mut arguments = verb.to_vec();
        arguments.extend(["--batch-mode", "--key-file", "-"]);
        // A LUKS1 header has PBKDF2 only, and cryptsetup measures what it takes.
        if version != 1 {
            arguments.extend(["--pbkdf", "argon2id", "--pbkdf-memory", &memory]);
            arguments.extend(["--pbkdf-force-iterations", &passes]);
        }
        arguments.extend([path, &more_path]);
        tool::cryptsetup_with(&arguments, key, Some(&more), self.shown).map(drop)
    }
}

fn opened_slot(said: &str) -> Option<u8> {
    said.lines()
        .find_map(|line| line.strip_prefix("Key slot ")?.strip_suffix(" unlocked.")?.parse().ok())
}

fn slots_of_version_2(dump: &Value) -> Option<Vec<Slot>> {
    let mut slots = Vec::new();
    for (number, slot) in dump.get("keyslots")?.as_object()? {
        let kdf = slot.get("kdf")?;
        let field = |name: &str| kdf.get(name).and_then(Value::as_u64);
        slots.push(Slot {
            number: number.parse().ok()?,
            kdf: kdf.get("type")?.as_str()?.chars().filter(char::is_ascii_alphanumeric).collect(),
            memory_kib: field("memory"),
            passes: field("time").or(field("iterations")),
            lanes: field("cpus"),
        });
    }
    slots.sort_by_key(|slot| slot.number);
    Some(slots)
}

fn slots_of_version_1(dump: &str) -> Option<Vec<Slot>> {
    let mut slots = Vec::new();
    let mut lines = dump.lines().peekable();
    while let Some(line) = lines.next() {
        let Some(rest) = line.strip_prefix("Key Slot ") else { continue };
        let (number, state) = rest.split_once(':')?;
        if state.trim() != "ENABLED" {
            continue;
        }
        let passes = lines.peek().and_then(|next| next.trim().strip_prefix("Iterations:"));
        slots.push(Slot {
            number: number.parse().ok()?,
            kdf: "pbkdf2".to_owned(),
            memory_kib: None,
            passes: passes.and_then(|text| text.trim().parse().ok()),
            lanes: None,
        });
    }
    Some(slots)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn keyslots_of_both_versions_are_read_and_nonsense_is_refused() {
        let dump = r#"{"keyslots":{"1":{"kdf":{"type":"pbkdf2","iterations":1000}},
            "0":{"kdf":{"type":"argon2id","time":4,"memory":65536,"cpus":2}}}}"#;
        let slots = slots_of_version_2(&serde_json::from_str(dump).unwrap()).unwrap();
        assert_eq!(
            (slots[0].number, slots[0].memory_kib, slots[0].lanes),
            (0, Some(65536), Some(2))
        );
        assert_eq!((slots[1].number, slots[1].passes, slots[1].memory_kib), (1, Some(1000), None));
        for bad in
            ["{}", r#"{"keyslots":{"x":{}}}"#, r#"{"keyslots":{"300":{"kdf":{"type":"a"}}}}"#]
        {
            assert_eq!(slots_of_version_2(&serde_json::from_str(bad).unwrap()), None, "{bad}");
        }
        let dump =
            "Key Slot 0: ENABLED\n\tIterations:         \t1000\n\tSalt: 1\nKey Slot 1: DISABLED\n";
        let slots = slots_of_version_1(dump).unwrap();
        assert_eq!((slots.len(), slots[0].passes), (1, Some(1000)));
        assert_eq!(opened_slot("No usable token.\nKey slot 7 unlocked.\n"), Some(7));
    }
}
