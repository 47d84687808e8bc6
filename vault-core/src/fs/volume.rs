//! The door to a vault's files: every operation from any thread, commits in groups.
//!
//! Readers share a lock, changes take it alone. A commit holds it only while blocks are handed to the
//! device; the barrier runs without it, and everybody who asks for durability meanwhile is
//! served by the next commit together.

use crate::error::{FsError, FsResult};
use crate::fs::open::{self, MountError, OpenOptions, Opened, Setup};
use crate::fs::rename::Place;
use crate::fs::resize::Space;
use crate::fs::state::Fs;
use crate::fs::types::{
    Attr, Creator, DirEntry, Fallocate, NewFile, RenameMode, SetAttr, StatFs, WriteOrigin,
    XattrMode,
};
use crate::ids::{Generation, InodeNo};
use crate::witness::Witness;
use parking_lot::{Mutex, RwLock};
use std::ops::Range;

/// Bytes of unsealed content that may wait in memory.
const CONTENT_LIMIT: usize = 16 << 20;
/// Bytes of changed nodes that may wait in memory.
const NODE_LIMIT: usize = 24 << 20;
/// Orphans that opening removes between commits.
const ORPHAN_BATCH: usize = 256;
/// Groups of free space that stay backed while the vault is open.
const KEEP_OPEN: u64 = 4096;

/// Who is told when a generation has reached stable storage.
type AnchorListener = Box<dyn Fn(Witness) + Send + Sync>;

/// Whether a volume takes changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It does.
    Writable,
    /// It was opened read-only.
    ReadOnly,
    /// An I/O error or damage left the last changes uncertain; what was committed before is safe.
    Frozen,
}

/// An open vault.
pub struct Volume {
    fs: RwLock<Fs>,
    health: Mutex<Health>,
    /// Serialises commits; holds the newest durable generation.
    anchor: Mutex<Witness>,
    /// The same, for those who must not wait for a commit.
    published: Mutex<Witness>,
    listener: Mutex<Option<AnchorListener>>,
    /// The generation that was settled last: proven, and held by two superblocks.
    settled: Mutex<Option<Generation>>,
    keep_free_space: bool,
    /// For returning to the newest durable state.
    setup: Setup,
    unit: Mutex<Unit>,
}

/// Whether changes belong together, so that none is committed before the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// Each may be committed as it is.
    None,
    /// All or none.
    Open,
    /// None: one of them failed half-way.
    Spoiled,
}

impl Volume {
    /// Writes an empty file system into a new image; the header comes last, from the caller. `capacity` is in
    /// units of 4096 bytes; the root folder belongs to `owner` (uid, gid).
    pub fn format(setup: &Setup, capacity: u64, owner: (u32, u32)) -> Result<(), MountError> {
        open::format(setup, capacity, owner, Generation(0))
    }

    /// Like [`Volume::format`], for a copy that takes the place of an image: its first generation is the
    /// one after `above`, so that the image it replaces is older.
    pub fn format_above(
        setup: &Setup,
        capacity: u64,
        owner: (u32, u32),
        above: Generation,
    ) -> Result<(), MountError> {
        open::format(setup, capacity, owner, above)
    }

    /// Returns the header's number that the newest superblock carries, for a header that does not come from
    /// the image. Fails with [`Damage::NoSuperblock`](crate::error::Damage::NoSuperblock) if none is of
    /// this vault.
    pub fn committed_header(setup: &Setup) -> FsResult<u64> {
        open::committed_header(setup)
    }

    /// Opens the newest sound generation and removes what a crash left: files without a name, half an import.
    pub fn open(setup: &Setup, options: &OpenOptions) -> Result<(Self, Opened), MountError> {
        let (fs, anchor, opened) = open::open(setup, options)?;
        let health = if options.read_only { Health::ReadOnly } else { Health::Writable };
        let volume = Self {
            fs: RwLock::new(fs),
            health: Mutex::new(health),
            anchor: Mutex::new(anchor),
            published: Mutex::new(anchor),
            listener: Mutex::new(None),
            settled: Mutex::new(opened.twinned.then_some(opened.generation)),
            keep_free_space: options.keep_free_space,
            setup: setup.clone(),
            unit: Mutex::new(Unit::None),
        };
        if !options.read_only {
            if opened.stepped_back.is_some() {
                // The torn superblock stays in the ring: after unproven ones a second cut would step onto it.
                volume.commit_when(true, true)?;
            }
            volume.reap_orphans()?;
            volume.clear_unfinished();
        }
        Ok((volume, opened))
    }

    fn reap_orphans(&self) -> FsResult<()> {
        loop {
            let orphans = self.fs.read().orphans(ORPHAN_BATCH)?;
            if orphans.is_empty() {
                return Ok(());
            }
            for inode in orphans {
                self.change(|fs| fs.reap(inode))?;
            }
            self.commit(false)?;
        }
    }

    /// Looks a name up in a folder; `.` and `..` too.
    pub fn lookup(&self, folder: InodeNo, name: &[u8]) -> FsResult<Attr> {
        self.fs.read().lookup(folder, name)
    }

    /// Returns the attributes of an inode.
    pub fn attr(&self, inode: InodeNo) -> FsResult<Attr> {
        self.fs.read().attr(inode)
    }

    /// Changes attributes, the size among them.
    pub fn set_attr(&self, inode: InodeNo, change: &SetAttr) -> FsResult<Attr> {
        self.change(|fs| fs.set_attr(inode, change))
    }

    /// Returns a symbolic link's target.
    pub fn read_link(&self, inode: InodeNo) -> FsResult<Vec<u8>> {
        self.fs.read().read_link(inode)
    }

    /// Creates a file other than a folder or symbolic link.
    pub fn create(
        &self,
        folder: InodeNo,
        name: &[u8],
        new: &NewFile,
        creator: &Creator,
    ) -> FsResult<Attr> {
        self.change(|fs| fs.create(folder, name, *new, creator))
    }

    /// Creates a folder.
    pub fn make_dir(
        &self,
        folder: InodeNo,
        name: &[u8],
        permissions: u16,
        creator: &Creator,
    ) -> FsResult<Attr> {
        self.change(|fs| fs.make_dir(folder, name, permissions, creator))
    }

    /// Creates a symbolic link.
    pub fn make_symlink(
        &self,
        folder: InodeNo,
        name: &[u8],
        target: &[u8],
        creator: &Creator,
    ) -> FsResult<Attr> {
        self.change(|fs| fs.make_symlink(folder, name, target, creator))
    }

    /// Gives a file another name.
    pub fn link(&self, inode: InodeNo, folder: InodeNo, name: &[u8]) -> FsResult<Attr> {
        self.change(|fs| fs.link(inode, folder, name))
    }

    /// Removes a name that is not a folder's. An inode that loses its last name stays until
    /// [`Volume::forget`].
    pub fn unlink(&self, folder: InodeNo, name: &[u8]) -> FsResult<()> {
        self.change(|fs| fs.unlink(folder, name))
    }

    /// Removes an empty folder.
    pub fn remove_dir(&self, folder: InodeNo, name: &[u8]) -> FsResult<()> {
        self.change(|fs| fs.remove_dir(folder, name))
    }

    /// Renames.
    pub fn rename(
        &self,
        folder: InodeNo,
        name: &[u8],
        new_folder: InodeNo,
        new_name: &[u8],
        mode: RenameMode,
    ) -> FsResult<()> {
        let from = Place { folder, name };
        let to = Place { folder: new_folder, name: new_name };
        self.change(|fs| fs.rename(from, to, mode))
    }

    /// Reads up to `len` bytes at `offset`; short at the end of the file.
    pub fn read(&self, inode: InodeNo, offset: u64, len: usize) -> FsResult<Vec<u8>> {
        self.fs.read().read(inode, offset, len)
    }

    /// Returns the next range at or after `from` that may hold anything but zeros; `None` beyond the last.
    pub fn next_data(&self, inode: InodeNo, from: u64) -> FsResult<Option<Range<u64>>> {
        self.fs.read().next_data(inode, from)
    }

    /// Writes all of `data` at `offset`. `clear_privileges` drops set-id bits and capabilities, as a
    /// write by an unprivileged caller must.
    pub fn write(
        &self,
        inode: InodeNo,
        offset: u64,
        data: &[u8],
        origin: WriteOrigin,
        clear_privileges: bool,
    ) -> FsResult<()> {
        self.change(|fs| fs.write(inode, offset, data, origin, clear_privileges))
    }

    /// Reserves, punches or zeroes a range.
    pub fn fallocate(
        &self,
        inode: InodeNo,
        offset: u64,
        len: u64,
        mode: Fallocate,
    ) -> FsResult<()> {
        self.change(|fs| fs.fallocate(inode, offset, len, mode))
    }

    /// Shows the entries of a folder after a cookie (0 = from the start), `.` and `..` first, until
    /// `visit` returns false.
    pub fn read_dir(
        &self,
        folder: InodeNo,
        after: u64,
        visit: &mut dyn FnMut(DirEntry) -> bool,
    ) -> FsResult<()> {
        self.fs.read().read_dir(folder, after, &mut |entry| Ok(visit(entry)))
    }

    /// Like [`Volume::read_dir`], with the attributes of each entry.
    pub fn read_dir_plus(
        &self,
        folder: InodeNo,
        after: u64,
        visit: &mut dyn FnMut(DirEntry, Attr) -> bool,
    ) -> FsResult<()> {
        let fs = self.fs.read();
        fs.read_dir(folder, after, &mut |entry| {
            let attr = fs.listed_attr(entry.inode)?;
            Ok(visit(entry, attr))
        })
    }

    /// Returns an extended attribute's value.
    pub fn xattr(&self, inode: InodeNo, name: &[u8]) -> FsResult<Vec<u8>> {
        self.fs.read().xattr(inode, name)
    }

    /// Lists the names of the extended attributes.
    pub fn list_xattrs(&self, inode: InodeNo) -> FsResult<Vec<Vec<u8>>> {
        self.fs.read().list_xattrs(inode)
    }

    /// Sets an extended attribute; an access ACL changes the mode with it.
    pub fn set_xattr(
        &self,
        inode: InodeNo,
        name: &[u8],
        value: &[u8],
        mode: XattrMode,
    ) -> FsResult<()> {
        self.change(|fs| fs.set_xattr(inode, name, value, mode))
    }

    /// Removes an extended attribute.
    pub fn remove_xattr(&self, inode: InodeNo, name: &[u8]) -> FsResult<()> {
        self.change(|fs| fs.remove_xattr(inode, name))
    }

    /// Notes that a file was read (relatime); stored with the next commit.
    pub fn touch_accessed(&self, inode: InodeNo) -> FsResult<()> {
        if self.health() == Health::Writable {
            self.fs.read().touch_accessed(inode)
        } else {
            Ok(())
        }
    }

    /// Nobody uses the inode any more: if it has no name either, it is removed.
    pub fn forget(&self, inode: InodeNo) -> FsResult<()> {
        if self.health() != Health::Writable {
            return Ok(());
        }
        match self.fs.read().load(inode) {
            Ok(file) if file.links == 0 => {}
            Ok(_) | Err(FsError::Stale) => return Ok(()),
            Err(error) => return Err(error),
        }
        self.change(|fs| fs.reap(inode))
    }

    /// Returns space and file counts.
    pub fn stat_fs(&self) -> StatFs {
        self.fs.read().stat()
    }

    /// Makes everything that was done before the call durable.
    pub fn sync(&self) -> FsResult<()> {
        match self.commit(false) {
            // Freed space may only be waiting for a commit.
            Err(FsError::NoSpace) => self.commit(false),
            outcome => outcome,
        }
    }

    /// Commits if anything changed; the timer's call.
    pub fn commit_if_dirty(&self) -> FsResult<()> {
        if self.health() == Health::Writable { self.commit(false) } else { Ok(()) }
    }

    /// Where the image lies.
    pub(super) fn device(&self) -> std::sync::Arc<dyn crate::device::BlockDevice> {
        std::sync::Arc::clone(&self.fs.read().pool.blocks.device)
    }

    /// What it has and uses.
    pub(super) fn space(&self) -> Space {
        let fs = self.fs.read();
        Space {
            length: fs.pool.length(),
            held: fs.pool.allocated().saturating_add(fs.pool.counters.reserved),
            reserve: fs.pool.reserve_units(),
        }
    }

    /// For idle times: leaves a proven generation behind and gives free space back to the host.
    pub fn settle(&self) -> FsResult<()> {
        self.settle_keeping(KEEP_OPEN)
    }

    fn settle_keeping(&self, groups: u64) -> FsResult<()> {
        if self.health() != Health::Writable {
            return Ok(());
        }
        self.commit(true)?;
        // A second superblock with the same trees: one that is damaged later takes nothing back.
        if *self.settled.lock() != Some(self.anchor().generation) {
            self.commit_when(true, true)?;
            *self.settled.lock() = Some(self.anchor().generation);
        }
        if !self.keep_free_space {
            // Who changes something meanwhile comes first; the next idle time goes on from there.
            while self.change(|fs| Ok(fs.pool.discard(groups)? && !fs.pool.is_dirty()))? {}
        }
        Ok(())
    }

    /// The newest generation that is on stable storage.
    pub fn anchor(&self) -> Witness {
        *self.published.lock()
    }

    /// Sets who is told after each barrier.
    pub fn on_anchor(&self, listener: AnchorListener) {
        *self.listener.lock() = Some(listener);
    }

    /// Whether the volume takes changes.
    pub fn health(&self) -> Health {
        *self.health.lock()
    }

    /// Commits, proves and gives space back; the volume may be dropped afterwards.
    pub fn close(&self) -> FsResult<()> {
        self.settle_keeping(0)
    }

    /// Plants a bug, for tests that must catch it.
    #[cfg(feature = "testing")]
    pub fn sabotage(&self, bug: crate::store::alloc::Sabotage) {
        self.fs.write().pool.sabotage(bug);
    }

    /// Runs a change alone. If there is no space, freed blocks may be waiting for commits: two are
    /// made before the answer is believed.
    pub(super) fn change<R>(&self, mut act: impl FnMut(&mut Fs) -> FsResult<R>) -> FsResult<R> {
        let mut outcome = self.attempt(&mut act);
        for _ in 0..2 {
            if !matches!(outcome, Err(FsError::NoSpace)) {
                break;
            }
            let waiting = {
                let fs = self.fs.read();
                fs.pool.has_waiting_space() || fs.pool.is_dirty()
            };
            if !waiting || self.health() != Health::Writable || self.in_unit() {
                break;
            }
            self.commit_anyway()?;
            outcome = self.attempt(&mut act);
        }
        outcome
    }

    fn attempt<R>(&self, act: &mut impl FnMut(&mut Fs) -> FsResult<R>) -> FsResult<R> {
        let mut fs = self.fs.write();
        if self.health() != Health::Writable {
            return Err(FsError::ReadOnly);
        }
        let edits = fs.pool.edits();
        let outcome = act(&mut fs);
        if outcome.is_err() && fs.pool.edits() != edits {
            // Half an operation must never be committed.
            self.spoil();
            return outcome;
        }
        if fs.dirty_content() > CONTENT_LIMIT {
            match fs.flush_content() {
                // What the host has no room for keeps waiting.
                Ok(()) | Err(FsError::NoSpace) => {}
                Err(error) => {
                    self.freeze();
                    return Err(error);
                }
            }
        }
        let full = fs.pool.dirty_bytes() > NODE_LIMIT;
        drop(fs);
        if full && !self.in_unit() {
            match self.commit(false) {
                Ok(()) | Err(FsError::NoSpace) => {}
                Err(error) => return Err(error),
            }
        }
        outcome
    }

    pub(super) fn commit(&self, proven: bool) -> FsResult<()> {
        self.commit_when(proven, false)
    }

    /// Commits even if nothing changed, to let freed space mature.
    pub(super) fn commit_anyway(&self) -> FsResult<()> {
        self.commit_when(false, true)
    }

    pub(super) fn commit_when(&self, proven: bool, always: bool) -> FsResult<()> {
        let mut anchor = self.anchor.lock();
        if self.health() == Health::Frozen || self.in_unit() {
            return Err(FsError::ReadOnly);
        }
        if self.health() == Health::ReadOnly {
            return Ok(());
        }
        let mut prepared = {
            let mut fs = self.fs.write();
            let outcome = fs.prepare(proven, always);
            match outcome {
                Ok(Some(prepared)) => prepared,
                Ok(None) => return Ok(()),
                // Nothing is lost: all of it waits for the next try.
                Err(FsError::NoSpace) => return Err(FsError::NoSpace),
                Err(error) => {
                    self.freeze();
                    return Err(error);
                }
            }
        };
        let outcome = prepared.harden().and_then(|()| {
            if prepared.needs_publish() {
                self.fs.write().pool.publish(&mut prepared)?;
                prepared.harden()?;
            }
            self.fs.write().pool.finish(&prepared)
        });
        let durable = match outcome {
            Ok(durable) => durable,
            Err(FsError::NoSpace) => return Err(FsError::NoSpace),
            Err(error) => {
                // After a failed barrier nobody knows what is on the disk; trying again could
                // report success for writes that were dropped.
                self.freeze();
                return Err(error);
            }
        };
        *anchor = Witness {
            generation: durable.generation,
            header_sequence: durable.header_sequence,
            root_tag: durable.tag,
            ..*anchor
        };
        *self.published.lock() = *anchor;
        if let Some(listener) = &*self.listener.lock() {
            listener(*anchor);
        }
        Ok(())
    }

    pub(super) fn freeze(&self) {
        *self.health.lock() = Health::Frozen;
    }

    /// Makes space usable that was freed.
    pub(super) fn mature(&self) -> FsResult<()> {
        for _ in 0..2 {
            if self.fs.read().pool.has_waiting_space() {
                self.commit_anyway()?;
            }
        }
        Ok(())
    }

    pub(super) fn setup(&self) -> &Setup {
        &self.setup
    }

    /// Says whether changes belong together from now on; returns what was said before.
    pub(super) fn set_unit(&self, unit: Unit) -> Unit {
        std::mem::replace(&mut *self.unit.lock(), unit)
    }

    /// Takes another state in the place of the one in memory.
    pub(super) fn replace_state(&self, state: Fs) {
        *self.fs.write() = state;
    }

    fn in_unit(&self) -> bool {
        *self.unit.lock() != Unit::None
    }

    /// An operation failed half-way. Where it is one of several that belong together, all are taken back.
    fn spoil(&self) {
        let mut unit = self.unit.lock();
        if *unit == Unit::None {
            self.freeze();
        } else {
            *unit = Unit::Spoiled;
        }
    }
}

impl Fs {
    /// Brings everything that waits in memory into a commit, if there is any reason for one.
    fn prepare(
        &mut self,
        proven: bool,
        always: bool,
    ) -> FsResult<Option<crate::store::commit::Prepared>> {
        self.flush_content()?;
        self.store_accessed()?;
        let unproven = proven && !self.pool.newest_proven();
        if !(self.pool.is_dirty() || unproven || always) {
            return Ok(None);
        }
        // A commit that only proves or matures still writes its roots.
        self.ensure(crate::store::pool::Claim::Removal, 0, 2)?;
        let now = self.now().seconds;
        self.pool.prepare(proven, now).map(Some)
    }
}
