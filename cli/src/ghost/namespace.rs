//! The namespaces of a ghost: whose ids exist in it, and the tree of files that it sees.
//!
//! Steps 6 and 7 of GHOST.md.

use crate::error::{Error, Result};
use crate::sys::folder;
use crate::sys::identity::{FileRights, Identity};
use crate::sys::mount::{self, MountLine};
use nix::unistd::{Pid, Uid};
use rustix::mount::MountFlags;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Folders that every process of a machine shares, and a ghost must not.
const SHARED: [&str; 3] = ["/tmp", "/var/tmp", "/dev/shm"];

/// The group that owns terminals, where the user namespace has it.
const TTY_GROUP: u32 = 5;

/// Writes the id maps of the new user namespace of `init`: every id of ours is itself there. As a
/// plain user only the own ids can be mapped, and supplementary groups are given up.
pub(crate) fn write_maps(init: Pid, root: bool) -> Result<()> {
    let failed = |cause: io::Error| {
        Error::environment("cannot map the user ids of the ghost").caused_by(cause).hint(if root {
            "a container needs CAP_SETFCAP, CAP_SETUID and CAP_SETGID for this"
        } else {
            "this host may restrict unprivileged user namespaces"
        })
    };
    let write = |name: &str, text: &str| fs::write(format!("/proc/{init}/{name}"), text);
    if root {
        for name in ["uid_map", "gid_map"] {
            let own = fs::read_to_string(format!("/proc/self/{name}")).map_err(failed)?;
            write(name, &identity_map(&own).map_err(failed)?).map_err(failed)?;
        }
        return Ok(());
    }
    let (uid, gid) = (Uid::effective(), nix::unistd::Gid::effective());
    write("setgroups", "deny").map_err(failed)?;
    write("uid_map", &format!("{uid} {uid} 1\n")).map_err(failed)?;
    write("gid_map", &format!("{gid} {gid} 1\n")).map_err(failed)
}

/// Returns the map that gives a child namespace every id of this one under the same number.
fn identity_map(own: &str) -> io::Result<String> {
    let mut lines = Vec::new();
    for line in own.lines() {
        let fields: Vec<u32> = line
            .split_whitespace()
            .map(str::parse)
            .collect::<std::result::Result<_, _>>()
            .map_err(io::Error::other)?;
        let [inside, _outside, count] = fields[..] else {
            return Err(io::Error::other("the kernel's id map has an unknown form"));
        };
        lines.push(format!("{inside} {inside} {count}\n"));
    }
    Ok(lines.concat())
}

/// A tmpfs that the supervisor made for the ghost, and where it goes.
#[derive(Debug)]
pub(crate) struct Prepared {
    path: PathBuf,
    mount: Option<OwnedFd>,
    options: Vec<(&'static str, String)>,
}

/// Prepares the private folders outside, as the real root, who alone can keep them out of swap.
/// Where that is not permitted they are made inside.
pub(crate) fn prepare(identity: &Identity) -> Vec<Prepared> {
    let shared = SHARED.map(|path| (PathBuf::from(path), vec![("mode", "1777".to_owned())]));
    let own = vec![
        ("mode", "0700".to_owned()),
        ("uid", identity.uid.to_string()),
        ("gid", identity.gid.to_string()),
    ];
    let runtime = (runtime_folder(identity.uid), own);
    shared
        .into_iter()
        .chain([runtime])
        .filter(|(path, _)| path.is_dir())
        .map(|(path, options)| {
            let borrowed: Vec<_> =
                options.iter().map(|(key, value)| (*key, value.as_str())).collect();
            let mount = Uid::effective().is_root().then(|| mount::detached_tmpfs(&borrowed).ok());
            Prepared { path, mount: mount.flatten(), options }
        })
        .collect()
}

impl Prepared {
    /// Returns the detached mount, which init must keep open.
    pub(crate) fn descriptor(&self) -> Option<&OwnedFd> {
        self.mount.as_ref()
    }

    fn attach(&self) -> io::Result<()> {
        // A name like /var/tmp may be a link to /tmp, which is private already.
        let Ok(target) = folder::open_without_links(&self.path) else { return Ok(()) };
        if let Some(mount) = &self.mount {
            return mount::attach(mount, &target);
        }
        let options: Vec<_> =
            self.options.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        mount::mount_new("tmpfs", "tmpfs", &target, flags, &options.join(","))
    }
}

/// Returns where the caller's runtime folder usually is.
pub(crate) fn runtime_folder(uid: Uid) -> PathBuf {
    PathBuf::from(format!("/run/user/{uid}"))
}

/// What is weaker than usual in the ghost's tree, one sentence each.
pub(crate) type Weaknesses = Vec<String>;

/// Makes the private tree in the new mount namespace. `kept` are folders of the caller that stay
/// visible though they lie in a shared one; `passed` are files that the caller wants handed in.
pub(crate) fn make_tree(
    identity: &Identity,
    prepared: &[Prepared],
    kept: &[PathBuf],
) -> Result<Weaknesses> {
    let step = |what: &'static str| {
        move |cause: io::Error| Error::environment(format!("cannot {what}")).caused_by(cause)
    };
    mount::make_all_private().map_err(step("make the ghost's mounts private"))?;
    let mut weaknesses = Weaknesses::new();
    if let Err(cause) = mount_proc() {
        weaknesses.push(format!(
            "The outer /proc stays, since a new one was refused ({cause}): it shows processes outside \
             the ghost, and programs like ps fail."
        ));
    }
    let copies = copy_kept(identity, kept, &hidden_by(prepared))
        .map_err(step("keep the project's folders visible in the ghost"))?;
    for folder in prepared {
        folder.attach().map_err(step("make a private temporary folder"))?;
    }
    for (path, copy) in &copies {
        attach_copy(path, copy).map_err(step("keep the project's folders visible in the ghost"))?;
    }
    mount_devpts().map_err(step("make the ghost's terminals"))?;
    Ok(weaknesses)
}

fn mount_proc() -> io::Result<()> {
    let target = folder::open_without_links(Path::new("/proc"))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount::mount_new("proc", "proc", &target, flags, "")
}

fn mount_devpts() -> io::Result<()> {
    let target = folder::open_without_links(Path::new("/dev/pts"))?;
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    let with_group = format!("newinstance,ptmxmode=0666,mode=0620,gid={TTY_GROUP}");
    mount::mount_new("devpts", "devpts", &target, flags, &with_group).or_else(|_| {
        mount::mount_new("devpts", "devpts", &target, flags, "newinstance,ptmxmode=0666,mode=0600")
    })?;
    // Programs open /dev/ptmx; where that is a device of the outer instance, ours takes its place.
    let name = Path::new("/dev/ptmx");
    if fs::symlink_metadata(name)?.file_type().is_symlink() {
        return Ok(());
    }
    let device = folder::open_any_without_links(name)?;
    mount::bind(Path::new("/dev/pts/ptmx"), &device)
}

fn hidden_by(prepared: &[Prepared]) -> Vec<PathBuf> {
    prepared.iter().map(|folder| folder.path.clone()).collect()
}

/// Returns those of `paths` that lie in a hidden folder, without those inside another of them.
fn to_keep(paths: &[PathBuf], hidden: &[PathBuf]) -> Vec<PathBuf> {
    let mut kept: Vec<PathBuf> = paths
        .iter()
        .filter(|path| hidden.iter().any(|folder| path.starts_with(folder) && *path != folder))
        .cloned()
        .collect();
    kept.sort();
    kept.dedup_by(|inner, outer| inner.starts_with(outer.as_path()));
    kept
}

fn copy_kept(
    identity: &Identity,
    paths: &[PathBuf],
    hidden: &[PathBuf],
) -> io::Result<Vec<(PathBuf, OwnedFd)>> {
    let mut copies = Vec::new();
    for path in to_keep(paths, hidden) {
        // With the caller's rights: what the caller cannot reach is not shown.
        let rights = FileRights::of(identity.uid, identity.gid)?;
        let opened = folder::open_any_without_links(&path);
        drop(rights);
        copies.push((path, mount::detached_copy(&opened?)?));
    }
    Ok(copies)
}

/// Attaches a kept folder or file at its old path, whose folders are new ones in the private tmpfs.
fn attach_copy(path: &Path, copy: &OwnedFd) -> io::Result<()> {
    let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    make_folders(parent)?;
    if folder::facts(copy)?.is_folder {
        make_folders(path)?;
    } else {
        fs::write(path, "")?;
    }
    let target = folder::open_any_without_links(path)?;
    mount::attach(copy, &target)
}

/// Makes a path's missing folders, passable whatever the umask.
fn make_folders(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    if path.is_dir() {
        return Ok(());
    }
    path.parent().map_or(Ok(()), make_folders)?;
    fs::create_dir(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o711))
}

/// Whether the mount seen at `path` is the one with device number `device`.
pub(crate) fn shows(table: &[MountLine], path: &Path, device: &str) -> bool {
    // Later lines cover earlier ones at the same path.
    table
        .iter()
        .rev()
        .find(|line| line.mount_point == path)
        .is_some_and(|line| line.device == device)
}

/// Returns the device number of what is mounted at `path`.
pub(crate) fn device_at(table: &[MountLine], path: &Path) -> Option<String> {
    table.iter().rev().find(|line| line.mount_point == path).map(|line| line.device.clone())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_extent_is_mapped_to_itself() {
        let own = "         0     100000      65536\n     65536          0          1\n";
        assert_eq!(identity_map(own).unwrap(), "0 0 65536\n65536 65536 1\n");
        assert!(identity_map("0 0").is_err());
        assert!(identity_map("a b c").is_err());
    }

    #[test]
    fn only_outermost_folders_in_shared_ones_are_kept() {
        let paths = ["/tmp/a/b", "/home/u", "/tmp/a", "/tmp", "/tmpfs/x", "/var/tmp/c"];
        let hidden = ["/tmp", "/var/tmp"].map(PathBuf::from);
        let kept = to_keep(&paths.map(PathBuf::from), &hidden);
        assert_eq!(kept, ["/tmp/a", "/var/tmp/c"].map(PathBuf::from));
    }

    #[test]
    fn topmost_mount_decides_what_is_shown() {
        let table = mount::parse_table(
            b"1 0 8:1 / / rw - ext4 a rw\n2 1 0:9 / /s rw - fuse a rw\n3 2 0:7 / /s rw - tmpfs a rw\n",
        )
        .unwrap();
        assert!(shows(&table, Path::new("/s"), "0:7"));
        assert!(!shows(&table, Path::new("/s"), "0:9"));
        assert_eq!(device_at(&table, Path::new("/x")), None);
    }
}
