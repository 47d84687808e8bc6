//! Mounts by descriptor, and the kernel's table of them.

use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    UnmountFlags,
};
use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// Cuts this mount namespace off from every other: nothing propagates in or out any more.
pub(crate) fn make_all_private() -> io::Result<()> {
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    Ok(rustix::mount::mount_change("/", private)?)
}

/// Mounts a new file system on the open folder `target`.
pub(crate) fn mount_new(
    kind: &str,
    source: &str,
    target: &impl AsFd,
    flags: MountFlags,
    options: &str,
) -> io::Result<()> {
    let options = CString::new(options)?;
    let target = super::folder::path_of(target);
    Ok(rustix::mount::mount(source, &target, kind, flags, Some(options.as_c_str()))?)
}

/// Binds the tree at `source` on the open folder `target`.
pub(crate) fn bind(source: &Path, target: &impl AsFd) -> io::Result<()> {
    Ok(rustix::mount::mount_bind(source, super::folder::path_of(target))?)
}

/// Changes the flags of the bind mount at `target`, a descriptor opened after the mount was made.
pub(crate) fn set_bind_flags(target: &impl AsFd, flags: MountFlags) -> io::Result<()> {
    let flags = flags | MountFlags::BIND;
    Ok(rustix::mount::mount_remount(super::folder::path_of(target), flags, c"")?)
}

/// Makes a tmpfs that is attached nowhere yet. Without the real root it cannot be kept out of swap
/// (`noswap`, since Linux 6.4); then it is made without that.
pub(crate) fn detached_tmpfs(options: &[(&str, &str)]) -> io::Result<OwnedFd> {
    let context = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        rustix::mount::fsconfig_set_string(&context, *key, *value)?;
    }
    let _ = rustix::mount::fsconfig_set_flag(&context, "noswap");
    rustix::mount::fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    Ok(rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// Mounts the file system on the block device at `source`, attached nowhere yet; no set-uid programs
/// and no devices in it.
pub(crate) fn detached_device(kind: &str, source: &Path) -> io::Result<OwnedFd> {
    let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(&context, "source", source)?;
    rustix::mount::fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    Ok(rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// Leaves the mount namespace that this process shares with others for a copy of its own.
pub(crate) fn leave_namespace() -> io::Result<()> {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)?;
    make_all_private()
}

/// Copies the tree of mounts at the open folder or file `source`, attached nowhere yet.
pub(crate) fn detached_copy(source: &impl AsFd) -> io::Result<OwnedFd> {
    use rustix::mount::OpenTreeFlags;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::AT_EMPTY_PATH;
    Ok(rustix::mount::open_tree(source, c"", flags)?)
}

/// Attaches a detached mount on the open folder `target`.
pub(crate) fn attach(mount: &impl AsFd, target: &impl AsFd) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(rustix::mount::move_mount(mount, c"", target, c"", flags)?)
}

/// Unmounts what is mounted at `path`; fails while it is in use.
pub(crate) fn unmount(path: &Path) -> io::Result<()> {
    Ok(rustix::mount::unmount(path, UnmountFlags::NOFOLLOW)?)
}

/// Takes what is mounted at `path` out of the tree now; it ends when its last user is gone.
pub(crate) fn detach(path: &Path) -> io::Result<()> {
    Ok(rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)?)
}

/// One line of `/proc/PID/mountinfo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MountLine {
    /// Identifies the mount while it exists.
    pub(crate) id: u64,
    /// The mount that this one sits on.
    pub(crate) parent: u64,
    /// Device number as the kernel prints it, `major:minor`.
    pub(crate) device: String,
    /// The folder of the file system that is the root of this mount.
    pub(crate) root: PathBuf,
    /// Where it is mounted.
    pub(crate) mount_point: PathBuf,
    /// The file system's type.
    pub(crate) kind: String,
    /// What is mounted: a device, or a name that the file system chose.
    pub(crate) source: String,
}

/// The most bytes that a table may have; the kernel's own limit of 100,000 mounts fits.
const LARGEST: u64 = 64 << 20;

/// Reads the table of the mounts that this process sees.
pub(crate) fn table() -> io::Result<Vec<MountLine>> {
    use io::Read;
    let mut text = Vec::new();
    std::fs::File::open("/proc/self/mountinfo")?.take(LARGEST + 1).read_to_end(&mut text)?;
    if text.len() as u64 > LARGEST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "mountinfo is too long"));
    }
    parse_table(&text)
}

/// Parses a table; a line that is not as documented in proc(5) is an error.
pub(crate) fn parse_table(text: &[u8]) -> io::Result<Vec<MountLine>> {
    text.split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| {
            parse_line(line).ok_or_else(|| {
                io::Error::new(io::ErrorKind::InvalidData, "mountinfo has an unknown line")
            })
        })
        .collect()
}

fn parse_line(line: &[u8]) -> Option<MountLine> {
    let mut fields = line.split(|byte| *byte == b' ');
    let mut number = || std::str::from_utf8(fields.next()?).ok()?.parse().ok();
    let (id, parent) = (number()?, number()?);
    let device = String::from_utf8(fields.next()?.to_vec()).ok()?;
    let root = unescape(fields.next()?);
    let mount_point = unescape(fields.next()?);
    let _options = fields.next()?;
    // Optional fields end with a lone dash; the type follows it.
    fields.by_ref().find(|field| *field == b"-")?;
    let kind = String::from_utf8(fields.next()?.to_vec()).ok()?;
    let source = String::from_utf8_lossy(fields.next()?).into_owned();
    Some(MountLine { id, parent, device, root, mount_point, kind, source })
}

/// Undoes the kernel's octal escapes of space, tab, newline and backslash.
fn unescape(field: &[u8]) -> PathBuf {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let code = after
            .get(..3)
            .filter(|digits| *first == b'\\' && digits.iter().all(|d| (b'0'..=b'7').contains(d)))
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        plain.push(code.unwrap_or(*first));
        rest = after.get(if code.is_some() { 3 } else { 0 }..).unwrap_or_default();
    }
    PathBuf::from(OsString::from_vec(plain))
}

/// Whether the open folder is the root of a mount.
pub(crate) fn is_mount_root(folder: &impl AsFd) -> io::Result<bool> {
    use rustix::fs::{AtFlags, StatxFlags};
    let stat = rustix::fs::statx(folder, c"", AtFlags::EMPTY_PATH, StatxFlags::empty())?;
    Ok(stat.stx_attributes.contains(rustix::fs::StatxAttributes::MOUNT_ROOT))
}

/// Opens the folder that is now at `path`, with whatever is mounted on it.
pub(crate) fn open_mounted(path: &Path) -> io::Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(CWD, path, flags, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn mountinfo_is_parsed_by_fields_with_escapes() {
        let text = b"36 35 98:0 /mnt1 /mnt/a\\040b\\134c rw,noatime master:1 shared:2 - ext3 /dev/root rw\n";
        let line = parse_table(text).unwrap().remove(0);
        assert_eq!(line.id, 36);
        assert_eq!(line.parent, 35);
        assert_eq!(line.device, "98:0");
        assert_eq!(line.root, Path::new("/mnt1"));
        assert_eq!(line.mount_point, Path::new("/mnt/a b\\c"));
        assert_eq!(line.kind, "ext3");
    }

    #[test]
    fn lines_that_end_early_are_errors_not_guesses() {
        for text in ["36", "36 35 98:0 /", "a b 98:0 / / rw - x", "36 35 98:0 / /mnt rw shared:1"] {
            assert!(parse_table(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn only_three_octal_digits_are_an_escape() {
        for (field, plain) in
            [("a\\04", "a\\04"), ("\\+40", "\\+40"), ("\\777", "\\777"), ("\\0401", " 1")]
        {
            assert_eq!(unescape(field.as_bytes()), Path::new(plain), "{field}");
        }
    }

    /// Escapes as the kernel does it for mountinfo.
    fn escape(name: &[u8]) -> Vec<u8> {
        name.iter()
            .flat_map(|byte| match byte {
                b' ' | b'\t' | b'\n' | b'\\' | b'#' => format!("\\{byte:03o}").into_bytes(),
                other => vec![*other],
            })
            .collect()
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(text: Vec<u8>) {
            let _ = parse_table(&text);
        }

        #[test]
        fn every_path_survives_the_kernels_escapes(
            point in proptest::collection::vec(1_u8.., 1..64),
            root in proptest::collection::vec(1_u8.., 1..64),
            tags in proptest::collection::vec("[a-z]{1,9}:[0-9]{1,4}", 0..4),
            id: u64,
        ) {
            use std::os::unix::ffi::OsStrExt;
            let mut line = format!("{id} 7 0:93 ").into_bytes();
            line.extend(escape(&root));
            line.push(b' ');
            line.extend(escape(&point));
            line.extend(b" rw,relatime ");
            for tag in &tags {
                line.extend(format!("{tag} ").bytes());
            }
            line.extend(b"- fuse.tazpod tazpod rw\n");
            let parsed = parse_table(&line).unwrap();
            proptest::prop_assert_eq!(parsed.len(), 1);
            proptest::prop_assert_eq!(parsed[0].id, id);
            proptest::prop_assert_eq!(parsed[0].mount_point.as_os_str().as_bytes(), &point[..]);
            proptest::prop_assert_eq!(parsed[0].root.as_os_str().as_bytes(), &root[..]);
            proptest::prop_assert_eq!(parsed[0].kind.as_str(), "fuse.tazpod");
        }
    }

    #[test]
    fn own_table_is_read_and_has_a_root() {
        assert!(table().unwrap().iter().any(|line| line.mount_point == Path::new("/")));
    }
}
