//! Putting entries into a vault: first beside everything else, then in their place.

use super::CHUNK;
use super::entry::{Entry, EntryKind, EntryPath, NO_OWNER};
use super::error::ArchiveError;
use super::reader::Reader;
use crate::error::{FsError, FsResult};
use crate::fs::{
    Attr, Creator, FileKind, NewFile, STAGING, SetAttr, SetTime, Volume, WriteOrigin, XattrMode,
};
use crate::ids::InodeNo;
use crate::ports::Timestamp;
use std::io::{self, Read};
use std::ops::Range;

/// Why no import can begin.
const TAKEN: &str = "is in the vault already, and has the name that an import gathers under";
/// Permissions of folders that no entry describes.
const IMPLIED: u16 = 0o700;
/// Set-user-id and set-group-id, which mean something only for the owner that they came with.
const SET_ID: u16 = 0o6000;

/// Bytes about folders, and of names to be reported, that are kept until the end.
const MAX_HELD: usize = 128 << 20;
/// What keeping one of them takes besides.
const HELD_EACH: usize = 128;
/// Attributes that are reported as not kept.
const MAX_REPORTED: usize = 10_000;

/// How entries are taken.
#[derive(Clone, Copy, Debug)]
pub struct ImportOptions {
    /// Replace files that exist, and give folders that exist the attributes of the archive.
    pub overwrite: bool,
    /// Keep the owners of the archive; else all belongs to `owner`.
    pub keep_owners: bool,
    /// Uid and gid of whatever has no owner otherwise.
    pub owner: (u32, u32),
}

/// What was imported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Entries made.
    pub entries: u64,
    /// Bytes of content.
    pub bytes: u64,
    /// Paths of device nodes, which were passed over: no vault's devices can be used.
    pub devices: Vec<Vec<u8>>,
    /// Paths and names of attributes that a vault does not keep.
    pub attributes: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Takes into a vault what `feed` hands over: whole, durable, and all at once. After an error the vault holds what it held
/// before, and after an interruption too, once it is opened again.
pub fn import(
    volume: &Volume,
    options: ImportOptions,
    feed: impl FnOnce(&mut Importer<'_>) -> Result<(), ArchiveError>,
) -> Result<Imported, ArchiveError> {
    let mut importer = Importer::begin(volume, options)?;
    let imported = feed(&mut importer).and_then(|()| importer.finish());
    if imported.is_err() {
        // The first error is the one to tell. If this fails as well, the next opening clears up.
        let _ = volume.drop_gathered().and_then(|()| volume.sync());
    }
    imported
}

/// An import on its way. Nothing of it is in its place before the end.
pub struct Importer<'v> {
    pub(super) volume: &'v Volume,
    pub(super) options: ImportOptions,
    pub(super) staging: InodeNo,
    /// Folders, whose times and attributes come last: what is put into them changes them.
    pub(super) folders: Vec<(InodeNo, Folder)>,
    /// What the archive says about the place of the import itself.
    pub(super) top: Option<Folder>,
    /// The folder of the last entry, since the next one is often there as well.
    place: Option<(Vec<Vec<u8>>, Place)>,
    done: Imported,
    /// Bytes that are kept until the end.
    held: usize,
}

/// Where an entry goes: in the staging tree, and in the vault if that folder exists there.
#[derive(Clone, Copy)]
struct Place {
    staged: InodeNo,
    existing: Option<InodeNo>,
}

/// Where in the staging tree an entry is made, and its path for whoever has to be told.
struct Spot<'a> {
    folder: InodeNo,
    name: &'a [u8],
    path: &'a [u8],
}

/// What is known about a folder.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    pub(super) permissions: u16,
    pub(super) owner: (u32, u32),
    pub(super) modified: Timestamp,
    pub(super) accessed: Option<Timestamp>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl<'v> Importer<'v> {
    fn begin(volume: &'v Volume, options: ImportOptions) -> Result<Self, ArchiveError> {
        let staging =
            volume.begin_gathering(IMPLIED, options.owner).map_err(|error| match error {
                FsError::Exists => ArchiveError::path(STAGING, TAKEN),
                error => ArchiveError::vault(STAGING, error),
            })?;
        Ok(Self {
            volume,
            options,
            staging,
            folders: Vec::new(),
            top: None,
            place: None,
            done: Imported::default(),
            held: 0,
        })
    }

    /// Puts everything into its place and makes it durable, all at once.
    fn finish(mut self) -> Result<Imported, ArchiveError> {
        let volume = self.volume;
        self.settle_folders().map_err(ArchiveError::Commit)?;
        // Content reaches the disk first, so that what moves it is one small commit.
        let replaced = volume.all_or_nothing(|| self.merge())?;
        // They have no name any more: what cannot be done now the next opening does.
        let _ = replaced.into_iter().try_for_each(|inode| volume.forget(inode));
        Ok(self.done)
    }

    /// Takes every entry of a tar archive; `show` is told of bytes that were taken.
    pub fn add_archive(
        &mut self,
        archive: impl Read,
        show: &mut dyn FnMut(u64),
    ) -> Result<(), ArchiveError> {
        let mut reader = Reader::new(archive);
        while let Some(entry) = reader.next_entry()? {
            self.add(&entry, &mut reader.content(), show)?;
        }
        Ok(())
    }

    /// Takes one entry; a file's data is read from `content`. `show` is told of bytes that were taken.
    pub fn add(
        &mut self,
        entry: &Entry,
        content: &mut dyn Read,
        show: &mut dyn FnMut(u64),
    ) -> Result<(), ArchiveError> {
        let Some((folder, name)) = entry.path.split() else {
            self.top = Some(self.folder(entry));
            return Ok(());
        };
        let path = entry.path.bytes();
        // A folder that is only on the way counts: it would be taken for one that the vault has.
        if entry.path.names().first().is_some_and(|first| first == STAGING) {
            return Err(ArchiveError::path(&path, "has the name that an import gathers under"));
        }
        if entry.kind == EntryKind::Device {
            self.hold(&path, path.len())?;
            self.done.devices.push(path);
            return Ok(());
        }
        let place = self.place(folder, &path)?;
        self.judge(place, name, &path, entry)?;
        let staged = self.clear_way(place.staged, name, &path, entry)?;
        self.done.entries += 1;
        let spot = Spot { folder: place.staged, name, path: &path };
        self.make(&spot, entry, staged, content, show)
    }

    /// Counts what is kept until the end; an archive may be larger than memory.
    fn hold(&mut self, path: &[u8], len: usize) -> Result<(), ArchiveError> {
        self.held = self.held.saturating_add(len).saturating_add(HELD_EACH);
        if self.held <= MAX_HELD {
            return Ok(());
        }
        Err(ArchiveError::path(path, "is one of too many folders and attributes for one import"))
    }

    fn make(
        &mut self,
        spot: &Spot<'_>,
        entry: &Entry,
        staged: Option<Attr>,
        content: &mut dyn Read,
        show: &mut dyn FnMut(u64),
    ) -> Result<(), ArchiveError> {
        let Spot { folder, name, path } = *spot;
        let vault = |error: FsError| ArchiveError::vault(path, error);
        let (uid, gid) = self.owner(entry);
        let creator = Creator { uid, gid, umask: 0 };
        let new = |kind| NewFile { kind, permissions: 0o600, device: 0 };
        let inode = match &entry.kind {
            EntryKind::File { size, data } => {
                let made = self.volume.create(folder, name, &new(FileKind::Regular), &creator);
                let inode = made.map_err(vault)?.inode;
                self.content((inode, path), *size, data, content, show)?;
                inode
            }
            EntryKind::Folder => {
                let inode = match staged {
                    Some(attr) => attr.inode,
                    None => {
                        self.volume.make_dir(folder, name, IMPLIED, &creator).map_err(vault)?.inode
                    }
                };
                let about = self.folder(entry);
                let len = about.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
                self.hold(path, len)?;
                self.folders.push((inode, about));
                return Ok(());
            }
            EntryKind::Symlink(target) => {
                self.volume.make_symlink(folder, name, target, &creator).map_err(vault)?.inode
            }
            EntryKind::HardLink(target) => {
                let found = self.link_target(path, target)?;
                return self.volume.link(found, folder, name).map(|_| ()).map_err(vault);
            }
            EntryKind::Fifo | EntryKind::Device => {
                self.volume
                    .create(folder, name, &new(FileKind::Fifo), &creator)
                    .map_err(vault)?
                    .inode
            }
        };
        let about = self.folder(entry);
        self.describe(inode, path, &about, entry.kind != EntryKind::Folder).map_err(vault)
    }

    /// Gives a file or folder its attributes, the times last.
    pub(super) fn describe(
        &mut self,
        inode: InodeNo,
        path: &[u8],
        about: &Folder,
        times: bool,
    ) -> FsResult<()> {
        let attr = self.volume.attr(inode)?;
        let is_link = attr.kind == FileKind::Symlink;
        let change = SetAttr {
            permissions: (!is_link).then_some(about.permissions),
            uid: Some(about.owner.0),
            gid: Some(about.owner.1),
            ..SetAttr::default()
        };
        self.volume.set_attr(inode, &change)?;
        for (name, value) in &about.xattrs {
            match self.volume.set_xattr(inode, name, value, XattrMode::Set) {
                Ok(()) => {}
                Err(
                    FsError::NotSupported
                    | FsError::NotPermitted
                    | FsError::InvalidArgument
                    | FsError::NameTooLong
                    | FsError::AttributeTooBig,
                ) => self.not_kept(path, name),
                Err(error) => return Err(error),
            }
        }
        if times { self.stamp(inode, about) } else { Ok(()) }
    }

    fn not_kept(&mut self, path: &[u8], name: &[u8]) {
        if self.done.attributes.len() < MAX_REPORTED {
            self.done.attributes.push((path.to_vec(), name.to_vec()));
        }
    }

    pub(super) fn stamp(&self, inode: InodeNo, about: &Folder) -> FsResult<()> {
        let times = SetAttr {
            modified: Some(SetTime::At(about.modified)),
            accessed: Some(SetTime::At(about.accessed.unwrap_or(about.modified))),
            ..SetAttr::default()
        };
        self.volume.set_attr(inode, &times).map(|_| ())
    }

    fn content(
        &mut self,
        (inode, path): (InodeNo, &[u8]),
        size: u64,
        data: &[Range<u64>],
        content: &mut dyn Read,
        show: &mut dyn FnMut(u64),
    ) -> Result<(), ArchiveError> {
        let vault = |error: FsError| ArchiveError::vault(path, error);
        let mut buffer = Vec::new();
        for range in data {
            let mut at = range.start;
            while at < range.end {
                let want = usize::try_from(range.end - at).unwrap_or(CHUNK).min(CHUNK);
                buffer.resize(want, 0);
                content.read_exact(&mut buffer).map_err(|cause| match cause.kind() {
                    io::ErrorKind::UnexpectedEof => ArchiveError::CutShort,
                    _ => ArchiveError::Source { path: path.to_vec(), source: cause },
                })?;
                self.volume.write(inode, at, &buffer, WriteOrigin::Direct, false).map_err(vault)?;
                at += want as u64;
                self.done.bytes += want as u64;
                show(self.done.bytes);
            }
        }
        if data.last().map_or(0, |range| range.end) < size {
            let change = SetAttr { size: Some(size), ..SetAttr::default() };
            self.volume.set_attr(inode, &change).map_err(vault)?;
        }
        Ok(())
    }

    /// Finds the folder of an entry in the staging tree, making what of it no entry has described.
    fn place(&mut self, folder: &[Vec<u8>], path: &[u8]) -> Result<Place, ArchiveError> {
        if let Some((names, place)) = &self.place
            && names == folder
        {
            return Ok(*place);
        }
        let vault = |error: FsError| ArchiveError::vault(path, error);
        let (uid, gid) = self.options.owner;
        let creator = Creator { uid, gid, umask: 0 };
        let mut place = Place { staged: self.staging, existing: Some(InodeNo::ROOT) };
        for name in folder {
            place.existing = match place.existing.map(|folder| self.find(folder, name)).transpose()
            {
                Ok(Some(Some(attr))) if attr.kind == FileKind::Directory => Some(attr.inode),
                Ok(Some(Some(_))) => {
                    return Err(ArchiveError::KindDiffers { path: path.to_vec() });
                }
                Ok(_) => None,
                Err(error) => return Err(vault(error)),
            };
            place.staged = match self.find(place.staged, name).map_err(vault)? {
                Some(attr) if attr.kind == FileKind::Directory => attr.inode,
                Some(_) => {
                    let what = "leads through something that is no folder";
                    return Err(ArchiveError::path(path, what));
                }
                None => {
                    let made = self.volume.make_dir(place.staged, name, IMPLIED, &creator);
                    made.map_err(vault)?.inode
                }
            };
        }
        self.place = Some((folder.to_vec(), place));
        Ok(place)
    }

    /// Refuses an entry that would take the place of something in the vault.
    fn judge(
        &self,
        place: Place,
        name: &[u8],
        path: &[u8],
        entry: &Entry,
    ) -> Result<(), ArchiveError> {
        let Some(folder) = place.existing else { return Ok(()) };
        let found = self.find(folder, name).map_err(|e| ArchiveError::vault(path, e))?;
        let Some(found) = found else { return Ok(()) };
        let (was_folder, is_folder) =
            (found.kind == FileKind::Directory, entry.kind == EntryKind::Folder);
        if was_folder != is_folder {
            return Err(ArchiveError::KindDiffers { path: path.to_vec() });
        }
        if !is_folder && !self.options.overwrite {
            return Err(ArchiveError::Exists { path: path.to_vec() });
        }
        Ok(())
    }

    /// An archive may hold a path twice, and the later entry counts. Returns a folder that is there.
    fn clear_way(
        &mut self,
        folder: InodeNo,
        name: &[u8],
        path: &[u8],
        entry: &Entry,
    ) -> Result<Option<Attr>, ArchiveError> {
        let vault = |error: FsError| ArchiveError::vault(path, error);
        let Some(found) = self.find(folder, name).map_err(vault)? else { return Ok(None) };
        let was_folder = found.kind == FileKind::Directory;
        if was_folder != (entry.kind == EntryKind::Folder) {
            return Err(ArchiveError::KindDiffers { path: path.to_vec() });
        }
        if was_folder {
            return Ok(Some(found));
        }
        if let EntryKind::HardLink(target) = &entry.kind
            && self.link_target(path, target)? == found.inode
        {
            return Err(ArchiveError::path(path, "is a hard link to itself"));
        }
        self.volume.unlink(folder, name).map_err(vault)?;
        self.volume.forget(found.inode).map_err(vault)?;
        Ok(None)
    }

    fn link_target(&self, path: &[u8], target: &EntryPath) -> Result<InodeNo, ArchiveError> {
        let none = || ArchiveError::LinkTarget { path: path.to_vec(), target: target.bytes() };
        let mut at = self.volume.attr(self.staging).map_err(|e| ArchiveError::vault(path, e))?;
        for name in target.names() {
            if at.kind != FileKind::Directory {
                return Err(none());
            }
            let found = self.find(at.inode, name).map_err(|e| ArchiveError::vault(path, e))?;
            at = found.ok_or_else(none)?;
        }
        if at.kind == FileKind::Directory { Err(none()) } else { Ok(at.inode) }
    }

    pub(super) fn find(&self, folder: InodeNo, name: &[u8]) -> FsResult<Option<Attr>> {
        match self.volume.lookup(folder, name) {
            Ok(attr) => Ok(Some(attr)),
            Err(FsError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn owner(&self, entry: &Entry) -> (u32, u32) {
        let (uid, gid) = self.options.owner;
        let pick = |theirs, ours| {
            if self.options.keep_owners && theirs != NO_OWNER { theirs } else { ours }
        };
        (pick(entry.uid, uid), pick(entry.gid, gid))
    }

    fn folder(&self, entry: &Entry) -> Folder {
        let kept = self.options.keep_owners || entry.kind == EntryKind::Folder;
        Folder {
            permissions: entry.permissions & if kept { 0o7777 } else { !SET_ID },
            owner: self.owner(entry),
            modified: entry.modified,
            accessed: entry.accessed,
            xattrs: entry.xattrs.clone(),
        }
    }
}
