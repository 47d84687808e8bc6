//! Where the rollback witnesses lie: one small file per vault in the caller's state folder.
//!
//! The folder is opened once, as the caller, and everything happens relative to that descriptor, so
//! a supervisor that is root can keep writing without ever following a path that the user could
//! change. What is read is hostile until its MAC has been verified: only a regular file of bounded
//! size is read, and no link is followed.

use crate::error::{Error, Kind, Result};
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::fs::{DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, fchown};
use std::path::Path;
use vault_core::crypto::subkeys::Subkeys;
use vault_core::ids::VaultId;
use vault_core::witness::Witness;

/// More bytes than any version of a witness will have.
const LARGEST: u64 = 4096;

/// The open folder of witnesses.
#[derive(Debug)]
pub(crate) struct WitnessStore {
    folder: File,
}

impl WitnessStore {
    /// Opens the folder `witnesses` in a state folder, and makes what is missing of the path.
    pub(crate) fn open(state_folder: &Path) -> io::Result<Self> {
        let path = state_folder.join("witnesses");
        DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
        let folder = File::open(&path)?;
        Ok(Self { folder })
    }

    /// Reads what this machine remembers of a vault; `None` if it has never seen it.
    ///
    /// A witness that is not authentic is treated as damage: ignoring it would make a rollback as
    /// easy as spoiling this file.
    pub(crate) fn read(&self, vault: VaultId, subkeys: &Subkeys) -> Result<Option<Witness>> {
        let bytes = match self.bytes(vault) {
            Ok(bytes) => bytes,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(unusable(vault).caused_by(cause)),
        };
        decode(&bytes, vault, subkeys).map(Some)
    }

    /// Reads the bytes of a vault's witness, not judged yet.
    pub(crate) fn bytes(&self, vault: VaultId) -> io::Result<Vec<u8>> {
        // Without O_NONBLOCK a fifo in this place would hold us up for ever.
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = openat(&self.folder, file_name(vault).as_str(), flags, Mode::empty())?;
        let file = File::from(file);
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        let mut bytes = Vec::new();
        file.take(LARGEST).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Remembers a vault's state: written beside, made durable, then renamed over the one before.
    pub(crate) fn write(&self, vault: VaultId, encoded: &[u8]) -> io::Result<()> {
        let name = file_name(vault);
        let fresh = format!("{name}.new");
        // What a killed process left behind; the vault's lock says that nobody else is writing.
        let _ = unlinkat(&self.folder, fresh.as_str(), UnlinkatFlags::NoRemoveDir);
        let placed = self.write_fresh(&fresh, encoded).and_then(|()| {
            Ok(renameat(&self.folder, fresh.as_str(), &self.folder, name.as_str())?)
        });
        if placed.is_err() {
            let _ = unlinkat(&self.folder, fresh.as_str(), UnlinkatFlags::NoRemoveDir);
        }
        placed.and_then(|()| self.folder.sync_all())
    }

    fn write_fresh(&self, name: &str, encoded: &[u8]) -> io::Result<()> {
        let flags =
            OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        let mut file = File::from(openat(&self.folder, name, flags, mode)?);
        let owner = self.folder.metadata()?;
        if file.metadata()?.uid() != owner.uid() {
            fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
        }
        file.write_all(encoded)?;
        file.sync_all()
    }
}

/// Judges the bytes of a vault's witness.
pub(crate) fn decode(bytes: &[u8], vault: VaultId, subkeys: &Subkeys) -> Result<Witness> {
    Witness::decode(bytes, vault, subkeys).map_err(|cause| unusable(vault).caused_by(cause))
}

fn unusable(vault: VaultId) -> Error {
    let name = file_name(vault);
    Error::new(Kind::Rollback, format!("the rollback witness '{name}' cannot be used"))
        .hint("it was damaged or altered: whether the image is the newest cannot be told")
        .hint("remove it from 'witnesses' in the state folder to trust the image as it is")
}

fn file_name(vault: VaultId) -> String {
    format!("{vault}.witness")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;
    use vault_core::crypto::aead::Tag;
    use vault_core::crypto::secret::SecretBytes;
    use vault_core::ids::Generation;

    const VAULT: VaultId = VaultId([3; 16]);

    fn subkeys() -> Subkeys {
        Subkeys::derive(&SecretBytes::init(|key| key.fill(1)), VAULT)
    }

    fn witness(generation: u64) -> Witness {
        Witness {
            vault: VAULT,
            generation: Generation(generation),
            header_sequence: 1,
            root_tag: Tag([7; 16]),
            retired: false,
        }
    }

    fn store() -> (tempfile::TempDir, WitnessStore) {
        let dir = tempfile::tempdir().unwrap();
        let store = WitnessStore::open(&dir.path().join("state")).unwrap();
        (dir, store)
    }

    fn store_path(dir: &tempfile::TempDir) -> PathBuf {
        dir.path().join("state/witnesses")
    }

    #[test]
    fn the_newest_witness_replaces_the_one_before() {
        let (dir, store) = store();
        assert_eq!(store.read(VAULT, &subkeys()).unwrap(), None);
        for generation in [5, 6] {
            let newest = witness(generation);
            store.write(VAULT, &newest.encode(&subkeys())).unwrap();
            assert_eq!(store.read(VAULT, &subkeys()).unwrap(), Some(newest));
        }
        let other = VaultId([4; 16]);
        assert_eq!(
            store.read(other, &Subkeys::derive(&SecretBytes::init(|_| ()), other)).unwrap(),
            None
        );
        let names: Vec<_> = fs::read_dir(store_path(&dir)).unwrap().collect();
        assert_eq!(names.len(), 1);
    }

    #[test]
    fn a_leftover_of_a_killed_writer_does_not_stop_the_next() {
        let (dir, store) = store();
        fs::write(store_path(&dir).join(format!("{}.new", file_name(VAULT))), "half").unwrap();
        store.write(VAULT, &witness(1).encode(&subkeys())).unwrap();
        assert_eq!(store.read(VAULT, &subkeys()).unwrap(), Some(witness(1)));
    }

    #[test]
    fn hostile_content_is_refused_and_never_taken_for_a_new_machine() {
        let genuine = witness(9).encode(&subkeys());
        let mut flipped = genuine.clone();
        flipped[30] ^= 1;
        for content in [&[][..], b"x", &flipped, &vec![0; 1 << 20]] {
            let (dir, store) = store();
            fs::write(store_path(&dir).join(file_name(VAULT)), content).unwrap();
            let error = store.read(VAULT, &subkeys()).unwrap_err();
            assert_eq!(error.kind(), Kind::Rollback);
        }
        for plant in [
            (|path| fs::create_dir(path)) as fn(PathBuf) -> io::Result<()>,
            |path| symlink("/dev/zero", path),
            |path| Ok(nix::unistd::mkfifo(&path, Mode::S_IRWXU)?),
        ] {
            let (dir, store) = store();
            plant(store_path(&dir).join(file_name(VAULT))).unwrap();
            assert!(store.read(VAULT, &subkeys()).is_err());
        }
    }
}
