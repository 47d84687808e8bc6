//! Block devices: loop devices, the device mapper's removal, and what a mounted file system is asked
//! about its device.
//!
//! The structures are those of `linux/loop.h`, `linux/dm-ioctl.h` and `linux/fs.h`, which the kernel
//! never changes.

use nix::errno::Errno;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

const LOOP_GET_STATUS64: libc::c_ulong = 0x4C05;
const LOOP_CONFIGURE: libc::c_ulong = 0x4C0A;
const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4C82;
const LO_FLAGS_AUTOCLEAR: u32 = 4;

/// `_IOWR(0xfd, 4, struct dm_ioctl)` and `_IOWR(0xfd, 7, struct dm_ioctl)`.
const DM_DEV_REMOVE: libc::c_ulong = 0xC138_FD04;
const DM_DEV_STATUS: libc::c_ulong = 0xC138_FD07;
const DM_DEFERRED_REMOVE: u32 = 1 << 17;
const DM_UUID_LEN: usize = 129;

/// `_IOWR('X', 121, struct fstrim_range)`.
const FITRIM: libc::c_ulong = 0xC018_5879;

/// `struct loop_info64`.
#[repr(C)]
#[derive(Clone, Copy)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config`.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

/// `struct dm_ioctl`.
#[repr(C)]
struct MapperRequest {
    version: [u32; 3],
    data_size: u32,
    data_start: u32,
    target_count: u32,
    open_count: i32,
    flags: u32,
    event_nr: u32,
    padding: u32,
    device: u64,
    name: [u8; 128],
    uuid: [u8; DM_UUID_LEN],
    data: [u8; 7],
}

/// `struct fstrim_range`.
#[repr(C)]
struct TrimRange {
    start: u64,
    length: u64,
    shortest: u64,
}

const _: () = assert!(size_of::<LoopInfo>() == 232);
const _: () = assert!(size_of::<LoopConfig>() == 304);
const _: () = assert!(size_of::<MapperRequest>() == 312);

/// The file behind a loop device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Backing {
    /// Device that holds the file, as `stat` numbers it.
    pub(crate) device: u64,
    /// Its inode there.
    pub(crate) inode: u64,
    /// Whether the loop device lets go of the file with its last user.
    pub(crate) autoclear: bool,
}

/// Returns the number of a loop device that nobody uses, which the kernel makes if there is none.
/// Another process may be quicker to take it.
pub(crate) fn free_loop(control: &impl AsFd) -> io::Result<u32> {
    // SAFETY: LOOP_CTL_GET_FREE takes no argument.
    let number = unsafe { libc::ioctl(control.as_fd().as_raw_fd(), LOOP_CTL_GET_FREE) };
    u32::try_from(Errno::result(number)?).map_err(io::Error::other)
}

/// Puts the open file `file` behind a loop device that lets go of it with its last user.
pub(crate) fn configure_loop(device: &impl AsFd, file: &impl AsFd, name: &str) -> io::Result<()> {
    let mut file_name = [0; 64];
    for (to, from) in file_name.iter_mut().take(63).zip(name.bytes()) {
        *to = from;
    }
    let fd = u32::try_from(file.as_fd().as_raw_fd()).map_err(io::Error::other)?;
    let info = LoopInfo { flags: LO_FLAGS_AUTOCLEAR, file_name, ..EMPTY_INFO };
    let config = LoopConfig { fd, block_size: 0, info, reserved: [0; 8] };
    let device = device.as_fd().as_raw_fd();
    // SAFETY: the kernel reads one loop_config from the pointer, which lives until the call returns.
    let done = unsafe { libc::ioctl(device, LOOP_CONFIGURE, &raw const config) };
    Ok(Errno::result(done).map(drop)?)
}

const EMPTY_INFO: LoopInfo = LoopInfo {
    device: 0,
    inode: 0,
    rdevice: 0,
    offset: 0,
    size_limit: 0,
    number: 0,
    encrypt_type: 0,
    encrypt_key_size: 0,
    flags: 0,
    file_name: [0; 64],
    crypt_name: [0; 64],
    encrypt_key: [0; 32],
    init: [0; 2],
};

/// Returns the file behind a loop device; `None` if there is none.
pub(crate) fn backing(device: &impl AsFd) -> io::Result<Option<Backing>> {
    let mut info = EMPTY_INFO;
    // SAFETY: the kernel writes one loop_info64 to the pointer, which lives until the call returns;
    // any bytes are a valid value of it.
    let done = unsafe { libc::ioctl(device.as_fd().as_raw_fd(), LOOP_GET_STATUS64, &raw mut info) };
    match Errno::result(done) {
        Ok(_) => Ok(Some(Backing {
            device: info.device,
            inode: info.inode,
            autoclear: info.flags & LO_FLAGS_AUTOCLEAR != 0,
        })),
        Err(Errno::ENXIO) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// When a mapped device is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Removal {
    /// Now; one that is in use is an error.
    Now,
    /// With its last user, whoever that is and however it ends.
    WithLastUser,
}

/// Removes the mapped device with this uuid. Names are never used: another device may have taken one.
pub(crate) fn remove_mapped(control: &impl AsFd, uuid: &str, when: Removal) -> io::Result<()> {
    let flags = if when == Removal::WithLastUser { DM_DEFERRED_REMOVE } else { 0 };
    ask_mapper(control, DM_DEV_REMOVE, uuid, flags).map(drop)
}

/// Returns the name and the number of the mapped device with this uuid, also of one that was given no table yet:
/// sysfs lists only those that have had one. `None` if there is none.
pub(crate) fn mapped(control: &impl AsFd, uuid: &str) -> io::Result<Option<(String, u32)>> {
    match ask_mapper(control, DM_DEV_STATUS, uuid, 0) {
        Ok(answer) => {
            let name = answer.name.split(|byte| *byte == 0).next().unwrap_or_default();
            let name = String::from_utf8_lossy(name).into_owned();
            Ok(Some((name, rustix::fs::minor(answer.device))))
        }
        Err(cause) if cause.raw_os_error() == Some(libc::ENXIO) => Ok(None),
        Err(cause) => Err(cause),
    }
}

/// Whether the mapped device with this uuid goes with its last user.
pub(crate) fn is_going(control: &impl AsFd, uuid: &str) -> io::Result<bool> {
    let answer = ask_mapper(control, DM_DEV_STATUS, uuid, 0)?;
    Ok(answer.flags & DM_DEFERRED_REMOVE != 0)
}

fn ask_mapper(
    control: &impl AsFd,
    command: libc::c_ulong,
    uuid: &str,
    flags: u32,
) -> io::Result<MapperRequest> {
    let mut request = MapperRequest {
        version: [4, 0, 0],
        data_size: 312,
        data_start: 0,
        target_count: 0,
        open_count: 0,
        flags,
        event_nr: 0,
        padding: 0,
        device: 0,
        name: [0; 128],
        uuid: [0; DM_UUID_LEN],
        data: [0; 7],
    };
    if uuid.is_empty() || uuid.len() >= DM_UUID_LEN {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.uuid.iter_mut().zip(uuid.bytes()) {
        *to = from;
    }
    let control = control.as_fd().as_raw_fd();
    // SAFETY: the kernel reads and writes at most `data_size` bytes at the pointer, which is the size
    // of the structure (asserted above); any bytes are a valid value of it.
    let done = unsafe { libc::ioctl(control, command, &raw mut request) };
    Ok(Errno::result(done).map(|_| request)?)
}

/// Tells the device below the file system of an open folder which blocks hold nothing.
pub(crate) fn trim(folder: &impl AsFd, shortest: u64) -> io::Result<()> {
    let mut range = TrimRange { start: 0, length: u64::MAX, shortest };
    // SAFETY: the kernel reads and writes one fstrim_range at the pointer, which lives until the call
    // returns.
    let done = unsafe { libc::ioctl(folder.as_fd().as_raw_fd(), FITRIM, &raw mut range) };
    Ok(Errno::result(done).map(drop)?)
}

/// Makes the node of a block or character device in an open folder.
pub(crate) fn make_node(
    folder: &impl AsFd,
    name: &str,
    kind: rustix::fs::FileType,
    numbers: (u32, u32),
) -> io::Result<()> {
    let device = rustix::fs::makedev(numbers.0, numbers.1);
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    match rustix::fs::mknodat(folder, name, kind, mode, device) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
