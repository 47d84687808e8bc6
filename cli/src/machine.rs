//! What this machine offers: who could make a ghost, and how much memory is left for the KDF.
//!
//! A keyslot may ask for up to 4 GiB. Asking the kernel for what it does not have ends in the OOM
//! killer, which may choose the person's editor; so the answer is known before the memory is asked
//! for. Whatever cannot be found out does not count as a limit.

use landlock::{AccessFs, CompatLevel, Compatible, Ruleset, RulesetAttr};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use nix::unistd::Uid;
use serde::Serialize;
use std::fs;
use std::path::Path;

const PAGE_KIB: u64 = 4;

/// Who makes a ghost here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Privilege {
    /// We are root.
    Root,
    /// A helper by sudo.
    Sudo,
    /// User namespaces alone.
    Rootless,
}

/// Returns who would make a ghost, by what is there; sudo may still refuse.
pub(crate) fn privilege() -> Privilege {
    if Uid::current().is_root() {
        return Privilege::Root;
    }
    let has_sudo = ["/usr/bin/sudo", "/bin/sudo", "/usr/local/bin/sudo", "/run/wrappers/bin/sudo"]
        .iter()
        .any(|path| Path::new(path).exists());
    if has_sudo { Privilege::Sudo } else { Privilege::Rootless }
}

/// Whether the kernel has Landlock switched on: whether it makes a rule set, which binds nobody yet.
pub(crate) fn has_landlock() -> bool {
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::Execute)
        .and_then(Ruleset::create)
        .is_ok()
}

/// Returns the major number of the device mapper's devices, once it is loaded.
pub(crate) fn device_mapper_major() -> Option<u32> {
    major_of(&fs::read_to_string("/proc/devices").unwrap_or_default(), "device-mapper")
}

fn major_of(devices: &str, name: &str) -> Option<u32> {
    let blocks = devices.split_once("Block devices:")?.1;
    blocks.lines().find_map(|line| line.trim().strip_suffix(name)?.trim().parse().ok())
}

/// Returns the memory in KiB that can be had now.
pub(crate) fn available_kib() -> u32 {
    let known = [machine_kib(), control_group_kib(), address_space_kib()];
    let least = known.into_iter().flatten().min().unwrap_or(u64::MAX);
    u32::try_from(least).unwrap_or(u32::MAX)
}

fn machine_kib() -> Option<u64> {
    meminfo_available(&fs::read_to_string("/proc/meminfo").ok()?)
}

fn meminfo_available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// Walks from our control group to the root; the tightest of them counts.
fn control_group_kib() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let unified = group_path(&groups, "").map(|path| (Path::new("/sys/fs/cgroup"), path, V2));
    let v1 = Path::new("/sys/fs/cgroup/memory");
    let memory = group_path(&groups, "memory").map(|path| (v1, path, V1));
    [unified, memory]
        .into_iter()
        .flatten()
        .filter_map(|(top, path, names)| left_in(top, path, names))
        .min()
}

/// Names of limit, usage and statistics, and of the statistic that counts pages easily given up.
type Names = [&'static str; 4];
const V2: Names = ["memory.max", "memory.current", "memory.stat", "inactive_file"];
const V1: Names =
    ["memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat", "total_inactive_file"];

fn group_path<'a>(groups: &'a str, controller: &str) -> Option<&'a str> {
    groups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let controllers = fields.next()?;
        controllers.split(',').any(|name| name == controller).then(|| fields.next())?
    })
}

fn left_in(top: &Path, path: &str, names: Names) -> Option<u64> {
    let own = top.join(path.trim_start_matches('/'));
    let groups = own.ancestors().take_while(|folder| folder.starts_with(top));
    groups.filter_map(|folder| left_in_group(folder, names)).min()
}

fn left_in_group(folder: &Path, [limit, usage, statistics, reclaimable]: Names) -> Option<u64> {
    let read = |name: &str| fs::read_to_string(folder.join(name)).ok();
    let limit: u64 = read(limit)?.trim().parse().ok()?;
    let used: u64 = read(usage)?.trim().parse().ok()?;
    let cached = read(statistics)
        .and_then(|text| {
            let mut lines = text.lines();
            lines.find_map(|line| line.strip_prefix(reclaimable)?.trim().parse().ok())
        })
        .unwrap_or(0_u64);
    Some(limit.saturating_sub(used.saturating_sub(cached)) / 1024)
}

fn address_space_kib() -> Option<u64> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let mut pages = statm.split_whitespace().map(str::parse::<u64>);
    let total = pages.next()?.ok()?;
    let data = pages.nth(4)?.ok()?;
    let left = |resource, used_pages: u64| {
        let (soft, _) = getrlimit(resource).ok()?;
        (soft != RLIM_INFINITY).then(|| (soft / 1024).saturating_sub(used_pages * PAGE_KIB))
    };
    [left(Resource::RLIMIT_AS, total), left(Resource::RLIMIT_DATA, data)]
        .into_iter()
        .flatten()
        .min()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn this_machine_has_some_memory_and_less_than_the_most_that_can_be_counted() {
        let available = available_kib();
        assert!(available > 16 * 1024, "{available}");
        assert!(u64::from(available) <= machine_kib().unwrap() + 1024 * 1024);
    }

    #[test]
    fn the_major_number_of_block_devices_is_found() {
        let devices = "Character devices:\n 10 misc\n252 device-mapper\n\nBlock devices:\n  7 loop\n254 device-mapper\n";
        assert_eq!(major_of(devices, "device-mapper"), Some(254));
        assert_eq!(major_of(devices, "mdp"), None);
        assert_eq!(major_of("", "loop"), None);
    }

    #[test]
    fn own_group_is_found_in_both_generations() {
        assert_eq!(group_path("0::/a/b\n", ""), Some("/a/b"));
        assert_eq!(group_path("9:cpu,memory:/x:y\n0::/\n", "memory"), Some("/x:y"));
        assert_eq!(group_path("9:cpu:/x\n", "memory"), None);
    }

    #[test]
    fn the_tightest_group_on_the_way_up_counts_and_cache_is_free() {
        let top = tempfile::tempdir().unwrap();
        let deep = top.path().join("a/b");
        fs::create_dir_all(&deep).unwrap();
        let write = |folder: &Path, limit: &str, used: u64, cached: u64| {
            fs::write(folder.join("memory.max"), limit).unwrap();
            fs::write(folder.join("memory.current"), format!("{used}\n")).unwrap();
            fs::write(folder.join("memory.stat"), format!("anon 5\ninactive_file {cached}\n"))
                .unwrap();
        };
        write(&deep, "max\n", 0, 0);
        assert_eq!(left_in(top.path(), "/a/b", V2), None);
        write(&top.path().join("a"), "1048576\n", 900 * 1024, 100 * 1024);
        assert_eq!(left_in(top.path(), "/a/b", V2), Some(224));
        write(&deep, "524288\n", 524_288, 0);
        assert_eq!(left_in(top.path(), "/a/b", V2), Some(0));
    }
}
