//! Where plaintext could outlive a ghost: swap, hibernation, freed memory.

use super::Finding;
use std::fs;
use std::path::{Path, PathBuf};

const AREA: &str = "host";

/// Looks at swap, hibernation and what the kernel does with freed memory.
pub(crate) fn findings() -> Vec<Finding> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let swaps = read("/proc/swaps");
    let hibernation = hibernation(&read("/sys/power/state"), &read("/sys/power/resume"));
    vec![swap(&swaps, is_encrypted), hibernation, freed(&read("/proc/cmdline"))]
}

/// What is swapped out may hold what the vault held.
fn swap(swaps: &str, is_encrypted: impl Fn(&Path) -> bool) -> Finding {
    let places: Vec<PathBuf> = swaps
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().next())
        .map(|path| PathBuf::from(path.replace("\\040", " ")))
        .collect();
    let plain: Vec<_> = places
        .iter()
        .filter(|place| !is_encrypted(place))
        .map(|place| place.display().to_string())
        .collect();
    match (places.is_empty(), plain.is_empty()) {
        (true, _) => Finding::ok(AREA, "swap", "there is none"),
        (false, true) => Finding::ok(AREA, "swap", "encrypted, or in memory"),
        (false, false) => Finding::weak(
            AREA,
            "swap",
            format!(
                "not encrypted: {}; programs in a ghost may leave plaintext there",
                plain.join(", ")
            ),
            "encrypt it with a random key (crypttab: swap), use zram, or go without (swapoff)",
        ),
    }
}

/// Whether what is written to a swap place cannot be read from the disk: zram, or a device of
/// dm-crypt somewhere below.
fn is_encrypted(place: &Path) -> bool {
    let Ok(real) = place.canonicalize() else { return false };
    let name = match real.strip_prefix("/dev") {
        Ok(name) => name.to_string_lossy().into_owned(),
        // A swap file is as well kept as the device of its file system.
        Err(_) => match device_of(&real) {
            Some(name) => name,
            None => return false,
        },
    };
    name.starts_with("zram") || is_crypt(&name, 0)
}

fn device_of(file: &Path) -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    let device = fs::metadata(file).ok()?.dev();
    let (major, minor) = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
    let link = fs::read_link(format!("/sys/dev/block/{major}:{minor}")).ok()?;
    Some(link.file_name()?.to_string_lossy().into_owned())
}

fn is_crypt(name: &str, depth: usize) -> bool {
    let folder = Path::new("/sys/class/block").join(name);
    let kind = fs::read_to_string(folder.join("dm/uuid")).unwrap_or_default();
    if kind.starts_with("CRYPT-") {
        return true;
    }
    // All of what a volume lies on must be encrypted.
    let below: Vec<_> =
        fs::read_dir(folder.join("slaves")).into_iter().flatten().flatten().collect();
    depth < 8
        && !below.is_empty()
        && below.iter().all(|one| is_crypt(&one.file_name().to_string_lossy(), depth + 1))
}

/// Hibernation writes all memory to the disk, an open vault's keys with it.
fn hibernation(states: &str, resume: &str) -> Finding {
    let can = states.split_whitespace().any(|state| state == "disk");
    let prepared = !matches!(resume.trim(), "" | "0:0");
    if can && prepared {
        return Finding::weak(
            AREA,
            "hibernation",
            format!(
                "prepared (resume from device {}): it writes the keys of an open vault to the disk",
                resume.trim()
            ),
            "lock the vault before hibernating, encrypt the swap it goes to, or mask it: systemctl mask hibernate.target",
        );
    }
    Finding::ok(AREA, "hibernation", "not set up")
}

fn freed(command_line: &str) -> Finding {
    let wipes = command_line.split_whitespace().any(|word| word == "init_on_free=1");
    if wipes {
        Finding::ok(AREA, "freed memory", "wiped by the kernel")
    } else {
        Finding::note(
            AREA,
            "freed memory",
            "not wiped at once, as far as the kernel's command line says (init_on_free=1 does that)",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    const SWAPS: &str = "Filename\tType\tSize\tUsed\tPriority\n/dev/dm-1   partition\t1\t0\t-2\n/my\\040swap file 1 0 -3\n";

    #[test]
    fn swap_is_weak_as_soon_as_one_place_is_not_encrypted() {
        assert_eq!(swap("Filename Type\n", |_| false).verdict, Verdict::Ok);
        assert_eq!(swap(SWAPS, |_| true).verdict, Verdict::Ok);
        let finding = swap(SWAPS, |place| place.starts_with("/dev"));
        assert_eq!(finding.verdict, Verdict::Weak);
        assert!(finding.found.contains("/my swap"), "{}", finding.found);
        assert!(!finding.found.contains("/dev/dm-1"), "{}", finding.found);
    }

    #[test]
    fn hibernation_counts_once_there_is_a_place_to_resume_from() {
        for (states, resume, verdict) in [
            ("freeze mem disk\n", "8:2\n", Verdict::Weak),
            ("freeze mem disk\n", "0:0\n", Verdict::Ok),
            ("freeze mem\n", "8:2\n", Verdict::Ok),
            ("", "", Verdict::Ok),
        ] {
            assert_eq!(hibernation(states, resume).verdict, verdict);
        }
    }
}
