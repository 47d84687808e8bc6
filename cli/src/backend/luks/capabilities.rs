//! Whether this machine can have a luks vault open, and what it lacks.
//!
//! A look, which changes nothing and needs no rights. What seems to be there may still be refused:
//! opening says so then.

use super::tool;
use super::workshop::misc_number;
use std::fs;
use std::path::Path;

const CAP_SYS_ADMIN: u32 = 21;

/// What luks needs of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "five questions that have nothing in common")]
pub(crate) struct Capabilities {
    /// The kernel's device mapper, there or to be loaded.
    pub(crate) device_mapper: bool,
    /// Loop devices, there or to be loaded.
    pub(crate) loop_devices: bool,
    /// The program `cryptsetup`.
    pub(crate) cryptsetup: bool,
    /// The program `mkfs.ext4`, for new vaults.
    pub(crate) mkfs: bool,
    /// The right to mount and to make devices: root, or a way to it, outside of a restricted
    /// container or user namespace.
    pub(crate) privilege: bool,
}

impl Capabilities {
    /// Returns what is missing, in words for a sentence.
    pub(crate) fn lacking(self) -> Vec<&'static str> {
        [
            (self.device_mapper, "device mapper"),
            (self.loop_devices, "loop devices"),
            (self.cryptsetup, "'cryptsetup'"),
            (self.mkfs, "'mkfs.ext4'"),
            (self.privilege, "the right to mount (root; in a container, --privileged)"),
        ]
        .into_iter()
        .filter_map(|(there, name)| (!there).then_some(name))
        .collect()
    }
}

/// Looks at what luks needs. `may_be_root` says whether the ghost is made by root.
pub(crate) fn capabilities(may_be_root: bool) -> Capabilities {
    Capabilities {
        device_mapper: misc_number("device-mapper").is_some() || has_module("dm-mod"),
        loop_devices: misc_number("loop-control").is_some() || has_module("loop"),
        cryptsetup: tool::find("cryptsetup").is_some(),
        mkfs: tool::find("mkfs.ext4").is_some(),
        privilege: may_be_root && may_mount(),
    }
}

/// Whether a process that becomes root here may mount: not in a container that took the right away,
/// and not in a user namespace.
fn may_mount() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    bounding_set(&status).is_some_and(|set| set & (1 << CAP_SYS_ADMIN) != 0) && is_initial(&map)
}

fn bounding_set(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapBnd:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// Whether every id means itself, as outside of any user namespace.
fn is_initial(map: &str) -> bool {
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// Whether a module can be loaded, or is part of the kernel.
fn has_module(name: &str) -> bool {
    let Ok(release) = fs::read_to_string("/proc/sys/kernel/osrelease") else { return false };
    let folder = Path::new("/lib/modules").join(release.trim());
    let file = format!("/{name}.ko");
    ["modules.dep", "modules.builtin"].iter().any(|list| {
        fs::read_to_string(folder.join(list)).is_ok_and(|text| names_module(&text, &file))
    })
}

fn names_module(list: &str, file: &str) -> bool {
    list.lines().any(|line| line.split(':').next().is_some_and(|path| path.contains(file)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let all = Capabilities {
            device_mapper: true,
            loop_devices: true,
            cryptsetup: true,
            mkfs: true,
            privilege: true,
        };
        assert!(all.lacking().is_empty());
        let some = Capabilities { device_mapper: false, cryptsetup: false, ..all };
        assert_eq!(some.lacking(), ["device mapper", "'cryptsetup'"]);
        assert!(!capabilities(false).privilege);
    }

    #[test]
    fn files_of_the_kernel_are_read_by_fields() {
        assert_eq!(bounding_set("CapEff:\t0\nCapBnd:\t00000000a80425fb\n"), Some(0xa804_25fb));
        assert!(is_initial("         0          0 4294967295\n"));
        assert!(!is_initial("0 1000 1\n1 100000 65536\n"));
        let list = "kernel/drivers/md/dm-mod.ko.xz:\nkernel/x.ko: kernel/drivers/block/loop.ko\n";
        assert!(names_module(list, "/dm-mod.ko"));
        assert!(!names_module(list, "/loop.ko"));
    }
}
