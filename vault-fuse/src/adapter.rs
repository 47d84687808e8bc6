//! The kernel's requests, one method each: unpack, ask the volume, answer.
//!
//! The kernel is told that it may remember everything for as long as it likes, since nobody else changes the vault. It
//! checks permissions itself (`default_permissions`), keeps file locks itself, and opens and closes files without
//! asking. Requests without a method here (`access`, `poll`, `bmap`, file locks, `copy_file_range`) are answered ENOSYS by
//! fuser, after which the kernel does by itself what they ask for. What is left to decide here is said beside the method concerned.

use crate::agreed::Agreed;
use crate::answers::{self, FOR_EVER};
use crate::convert;
use crate::lookups::Lookups;
use crate::options::{AccessTimes, Options};
use crate::service::Service;
use fuser::{
    BsdFileFlags, Errno, FileHandle, Filesystem, Generation, INodeNo, IoctlFlags, KernelConfig,
    LockOwner, Notifier, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyStatfs,
    ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;
use vault_core::error::FsResult;
use vault_core::fs::{Attr, Creator, FileKind, NewFile, SetAttr, Volume, WriteOrigin};
use vault_core::ids::InodeNo;

/// Inode numbers are never reused, so one generation is enough.
const GENERATION: Generation = Generation(0);

/// Answers the kernel out of a volume.
pub(crate) struct Adapter {
    service: Arc<Service>,
    lookups: Lookups,
    access_times: AccessTimes,
    in_user_namespace: bool,
    /// Tells the kernel what to drop; it exists once the session does.
    notifier: Arc<OnceLock<Notifier>>,
    agreed: Agreed,
}

impl Adapter {
    pub(crate) fn new(service: Arc<Service>, options: &Options) -> Self {
        Self {
            service,
            lookups: Lookups::new(),
            access_times: options.access_times,
            in_user_namespace: options.in_user_namespace,
            notifier: Arc::default(),
            agreed: Agreed { write_back: options.write_back, ..Agreed::default() },
        }
    }

    /// Returns the place for what the session offers only when it owns the adapter.
    pub(crate) fn notifier(&self) -> Arc<OnceLock<Notifier>> {
        Arc::clone(&self.notifier)
    }

    /// Runs an operation that names an inode, and counts the reference that the answer gives the kernel.
    fn entry(
        &self,
        reply: ReplyEntry,
        folder: INodeNo,
        operation: impl FnOnce(&Volume) -> FsResult<Attr>,
    ) {
        self.send_entry(reply, folder, self.service.change(operation));
    }

    fn send_entry(&self, reply: ReplyEntry, folder: INodeNo, entry: Result<Attr, Errno>) {
        match entry {
            Ok(attr) => {
                self.lookups.acquire(attr.inode, convert::inode(folder));
                reply.entry(&FOR_EVER, &convert::attr(&attr), GENERATION);
            }
            Err(error) => reply.error(error),
        }
    }

    fn touch(&self, inode: InodeNo) {
        if self.access_times == AccessTimes::Relative {
            // An access time is not worth an error to the reader.
            let _ = self.service.read(|volume| volume.touch_accessed(inode));
        }
    }

    /// Has the kernel list the folder of `inode` anew, which refreshes what it forgot because content was read.
    fn refresh_folder(&self, inode: InodeNo) {
        if let Some(folder) = self.lookups.outdates(inode)
            && let Some(notifier) = self.notifier.get()
        {
            // Without it the kernel only asks more often.
            let _ = notifier.inval_inode(INodeNo(folder.0), 0, 0);
        }
    }

    fn give_back(&self, inode: INodeNo, count: u64) {
        let inode = convert::inode(inode);
        if inode != InodeNo::ROOT && self.lookups.release(inode, count) {
            let _ = self.service.read(|volume| volume.forget(inode));
        }
    }
}

/// Who asks, under which umask.
fn creator(request: &Request, umask: u32) -> Creator {
    Creator { uid: request.uid(), gid: request.gid(), umask: convert::permissions(umask) & 0o777 }
}

impl Filesystem for Adapter {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        self.agreed = Agreed::with(config, self.agreed.write_back);
        Ok(())
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found =
            self.service.read(|volume| volume.lookup(convert::inode(parent), name.as_bytes()));
        match found {
            Err(Errno::ENOENT) => reply.entry(&FOR_EVER, &convert::no_entry(), GENERATION),
            found => self.send_entry(reply, parent, found),
        }
    }

    fn forget(&self, _request: &Request, inode: INodeNo, count: u64) {
        self.give_back(inode, count);
    }

    fn getattr(
        &self,
        _request: &Request,
        inode: INodeNo,
        _handle: Option<FileHandle>,
        reply: ReplyAttr,
    ) {
        answers::attr(reply, self.service.read(|volume| volume.attr(convert::inode(inode))));
    }

    /// Changes attributes.
    ///
    /// The kernel leaves the clearing of set-user-id, set-group-id and `security.capability` to us, but fuser drops the
    /// flag that says so. It is due whenever owner or group is set (also to what it is: then only the change time
    /// comes), when someone other than root truncates, and for a request that sets nothing at all, which is the
    /// kernel's way to ask for it before a write.
    fn setattr(
        &self,
        request: &Request,
        inode: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        accessed: Option<TimeOrNow>,
        modified: Option<TimeOrNow>,
        changed: Option<SystemTime>,
        _handle: Option<FileHandle>,
        _born: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let sets_value =
            mode.is_some() || size.is_some() || accessed.is_some() || modified.is_some();
        let owner = uid.is_some() || gid.is_some();
        let change = SetAttr {
            permissions: mode.map(convert::permissions),
            uid,
            gid,
            size,
            accessed: accessed.map(convert::set_time),
            modified: modified.map(convert::set_time),
            changed: changed.map(|time| convert::set_time(TimeOrNow::SpecificTime(time))),
            clear_privileges: owner || !sets_value || (size.is_some() && request.uid() != 0),
        };
        answers::attr(
            reply,
            self.service.change(|volume| volume.set_attr(convert::inode(inode), &change)),
        );
    }

    fn readlink(&self, _request: &Request, inode: INodeNo, reply: ReplyData) {
        match self.service.read(|volume| volume.read_link(convert::inode(inode))) {
            Ok(target) => reply.data(&target),
            Err(error) => reply.error(error),
        }
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        device: u32,
        reply: ReplyEntry,
    ) {
        let Some(kind) = convert::kind_of_mode(mode).filter(|kind| *kind != FileKind::Directory)
        else {
            return reply.error(Errno::EINVAL);
        };
        let file = NewFile { kind, permissions: convert::permissions(mode), device };
        let creator = creator(request, umask);
        self.entry(reply, parent, |volume| {
            volume.create(convert::inode(parent), name.as_bytes(), &file, &creator)
        });
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let creator = creator(request, umask);
        let permissions = convert::permissions(mode);
        self.entry(reply, parent, |volume| {
            volume.make_dir(convert::inode(parent), name.as_bytes(), permissions, &creator)
        });
    }

    fn symlink(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let creator = creator(request, 0);
        let target = target.as_os_str().as_bytes();
        self.entry(reply, parent, |volume| {
            volume.make_symlink(convert::inode(parent), name.as_bytes(), target, &creator)
        });
    }

    fn link(
        &self,
        _request: &Request,
        inode: INodeNo,
        parent: INodeNo,
        name: &OsStr,
        reply: ReplyEntry,
    ) {
        self.entry(reply, parent, |volume| {
            volume.link(convert::inode(inode), convert::inode(parent), name.as_bytes())
        });
    }

    fn unlink(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answers::empty(
            reply,
            self.service.change(|volume| volume.unlink(convert::inode(parent), name.as_bytes())),
        );
    }

    fn rmdir(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answers::empty(
            reply,
            self.service
                .change(|volume| volume.remove_dir(convert::inode(parent), name.as_bytes())),
        );
    }

    fn rename(
        &self,
        _request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let Some(mode) = convert::rename_mode(flags) else {
            return reply.error(Errno::EINVAL);
        };
        let (from, to) = (convert::inode(parent), convert::inode(new_parent));
        answers::empty(
            reply,
            self.service.change(|volume| {
                volume.rename(from, name.as_bytes(), to, new_name.as_bytes(), mode)
            }),
        );
    }

    /// Tells the kernel that opening needs no request; it keeps its cache by itself then. An inode that is open stays
    /// looked up, which is all that an unlinked file needs to live on, and `O_TRUNC` comes as a request to set the size.
    fn open(&self, _request: &Request, _inode: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        if self.agreed.skips_open {
            return reply.error(Errno::ENOSYS);
        }
        reply.opened(FileHandle(0), fuser::FopenFlags::FOPEN_KEEP_CACHE);
    }

    /// Sends the kernel on to `mknod`: one request for a new file, and none when it is closed.
    fn create(
        &self,
        _request: &Request,
        _parent: INodeNo,
        _name: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn read(
        &self,
        _request: &Request,
        inode: INodeNo,
        _handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let inode = convert::inode(inode);
        let length = usize::try_from(size).unwrap_or(usize::MAX);
        match self.service.read(|volume| volume.read(inode, offset, length)) {
            Ok(data) => {
                reply.data(&data);
                self.touch(inode);
                self.refresh_folder(inode);
            }
            Err(error) => reply.error(error),
        }
    }

    /// Writes. A kernel that collects writes sends their times by itself; all others are stamped here, those of a memory
    /// map when they arrive.
    fn write(
        &self,
        _request: &Request,
        inode: INodeNo,
        _handle: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let cached = self.agreed.write_back && write_flags.contains(WriteFlags::FUSE_WRITE_CACHE);
        let origin = if cached { WriteOrigin::Writeback } else { WriteOrigin::Direct };
        let clear = write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID);
        let written = self
            .service
            .change(|volume| volume.write(convert::inode(inode), offset, data, origin, clear));
        match (written, u32::try_from(data.len())) {
            (Ok(()), Ok(length)) => reply.written(length),
            (Ok(()), Err(_)) => reply.error(Errno::EIO),
            (Err(error), _) => reply.error(error),
        }
    }

    /// Nothing to do at `close`: the kernel has written its cache back by then and reports what failed.
    fn flush(
        &self,
        _request: &Request,
        _inode: INodeNo,
        _handle: FileHandle,
        _owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn fsync(
        &self,
        _request: &Request,
        _inode: INodeNo,
        _handle: FileHandle,
        _data_only: bool,
        reply: ReplyEmpty,
    ) {
        answers::empty(reply, self.service.read(Volume::sync));
    }

    /// As [`Self::open`], for folders; the kernel then keeps their listings too.
    fn opendir(&self, _request: &Request, _inode: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        if self.agreed.skips_opendir {
            return reply.error(Errno::ENOSYS);
        }
        let keep = fuser::FopenFlags::FOPEN_KEEP_CACHE | fuser::FopenFlags::FOPEN_CACHE_DIR;
        reply.opened(FileHandle(0), keep);
    }

    fn readdir(
        &self,
        _request: &Request,
        inode: INodeNo,
        _handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let folder = convert::inode(inode);
        let listed = self.service.read(|volume| {
            volume.read_dir(folder, offset, &mut |entry| {
                let inode = INodeNo(entry.inode.0);
                let kind = convert::kind(entry.kind);
                !reply.add(inode, entry.cookie, kind, OsStr::from_bytes(&entry.name))
            })
        });
        // Before the answer: a read that follows it must find this noted.
        self.lookups.listed(folder);
        match listed {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error),
        }
        if offset == 0 {
            self.touch(folder);
        }
    }

    fn readdirplus(
        &self,
        _request: &Request,
        inode: INodeNo,
        _handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let folder = convert::inode(inode);
        let listed = self.service.read(|volume| {
            volume.read_dir_plus(folder, offset, &mut |entry, attr| {
                let name = OsStr::from_bytes(&entry.name);
                let (inode, attr) = (INodeNo(entry.inode.0), convert::attr(&attr));
                let full = reply.add(inode, entry.cookie, name, &FOR_EVER, &attr, GENERATION);
                // The kernel takes no reference from "." and "..".
                if !full && entry.name != b"." && entry.name != b".." {
                    self.lookups.acquire(entry.inode, folder);
                }
                !full
            })
        });
        // Before the answer: a read that follows it must find this noted.
        self.lookups.listed(folder);
        match listed {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error),
        }
        if offset == 0 {
            self.touch(folder);
        }
    }

    fn fsyncdir(
        &self,
        _request: &Request,
        _inode: INodeNo,
        _handle: FileHandle,
        _data_only: bool,
        reply: ReplyEmpty,
    ) {
        answers::empty(reply, self.service.read(Volume::sync));
    }

    fn statfs(&self, _request: &Request, _inode: INodeNo, reply: ReplyStatfs) {
        match self.service.read(|volume| Ok(volume.stat_fs())) {
            // A new file takes at least a unit sooner or later, so free units bound free inodes.
            Ok(space) => reply.statfs(
                space.total,
                space.free,
                space.available,
                space.files.saturating_add(space.available),
                space.available,
                4096,
                255,
                4096,
            ),
            Err(error) => reply.error(error),
        }
    }

    fn setxattr(
        &self,
        _request: &Request,
        inode: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let Some(mode) = convert::xattr_mode(flags) else {
            return reply.error(Errno::EINVAL);
        };
        answers::empty(
            reply,
            self.service.change(|volume| {
                volume.set_xattr(convert::inode(inode), name.as_bytes(), value, mode)
            }),
        );
    }

    fn getxattr(
        &self,
        _request: &Request,
        inode: INodeNo,
        name: &OsStr,
        size: u32,
        reply: ReplyXattr,
    ) {
        let value =
            self.service.read(|volume| volume.xattr(convert::inode(inode), name.as_bytes()));
        answers::sized(reply, size, value);
    }

    /// Lists attribute names, each ended by a zero byte. The kernel lets root alone read those of the class `trusted`,
    /// and leaves it to the file system not to list them to others: a program that copies what is listed would fail.
    fn listxattr(&self, request: &Request, inode: INodeNo, size: u32, reply: ReplyXattr) {
        let all = request.uid() == 0 && !self.in_user_namespace;
        let list =
            self.service.read(|volume| volume.list_xattrs(convert::inode(inode))).map(|names| {
                let shown = names.iter().filter(|name| all || !name.starts_with(b"trusted."));
                shown.flat_map(|name| name.iter().copied().chain([0])).collect()
            });
        answers::sized(reply, size, list);
    }

    fn removexattr(&self, _request: &Request, inode: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answers::empty(
            reply,
            self.service
                .change(|volume| volume.remove_xattr(convert::inode(inode), name.as_bytes())),
        );
    }

    fn ioctl(
        &self,
        _request: &Request,
        _inode: INodeNo,
        _handle: FileHandle,
        _flags: IoctlFlags,
        _command: u32,
        _input: &[u8],
        _output_size: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(Errno::ENOTTY);
    }

    fn fallocate(
        &self,
        _request: &Request,
        inode: INodeNo,
        _handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let Some(what) = convert::fallocate(mode) else {
            return reply.error(Errno::EOPNOTSUPP);
        };
        answers::empty(
            reply,
            self.service
                .change(|volume| volume.fallocate(convert::inode(inode), offset, length, what)),
        );
    }

    /// Leaves the search for holes to the kernel, which then sees none: with a writeback cache it asks without writing
    /// first, so our answer could call a hole what a program has just written.
    fn lseek(
        &self,
        _request: &Request,
        _inode: INodeNo,
        _handle: FileHandle,
        _offset: i64,
        _whence: i32,
        reply: ReplyLseek,
    ) {
        reply.error(Errno::ENOSYS);
    }
}
