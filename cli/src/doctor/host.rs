//! What ghosts need of the machine, or of the container that this runs in.

use super::Finding;
use crate::args::ghost::BackendKind;
use crate::backend::luks::capabilities::capabilities;
use crate::machine::{self, Privilege};
use std::fs;
use std::path::Path;

/// Looks at what a ghost of this kind of vault needs here, or of this kernel if it will be made in a
/// container.
pub(crate) fn findings(backend: Option<BackendKind>, in_container: bool) -> Vec<Finding> {
    let mut findings = vec![namespaces(), privilege(), landlock()];
    if backend != Some(BackendKind::Luks) {
        findings.push(fuse());
    }
    if backend != Some(BackendKind::Fuse) {
        findings.push(luks(backend.is_some(), in_container));
    }
    findings
}

const AREA: &str = "host";

fn setting(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn namespaces() -> Finding {
    match setting("/proc/sys/user/max_user_namespaces") {
        Some(0) => Finding::missing(
            AREA,
            "namespaces",
            "user namespaces are switched off, and a ghost lives in one",
            "sysctl user.max_user_namespaces=10000",
        ),
        Some(_) => Finding::ok(AREA, "namespaces", "user namespaces can be made"),
        None => Finding::missing(
            AREA,
            "namespaces",
            "this kernel has no user namespaces, and a ghost lives in one",
            "a kernel with CONFIG_USER_NS",
        ),
    }
}

fn privilege() -> Finding {
    match machine::privilege() {
        Privilege::Root => {
            Finding::ok(AREA, "privilege", "root makes ghosts: closed to your own other processes")
        }
        Privilege::Sudo => {
            Finding::ok(AREA, "privilege", "sudo makes ghosts: closed to your own other processes")
        }
        Privilege::Rootless => rootless(
            setting("/proc/sys/kernel/unprivileged_userns_clone"),
            setting("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
        ),
    }
}

fn rootless(clone: Option<u64>, restricted: Option<u64>) -> Finding {
    if clone == Some(0) || restricted == Some(1) {
        return Finding::missing(
            AREA,
            "privilege",
            "there is no sudo, and users may not make namespaces of their own",
            "install sudo, or: sysctl kernel.unprivileged_userns_clone=1 kernel.apparmor_restrict_unprivileged_userns=0",
        );
    }
    Finding::weak(
        AREA,
        "privilege",
        "there is no sudo: ghosts are rootless, and NOT closed to other processes of your own uid",
        "install sudo",
    )
}

fn landlock() -> Finding {
    if machine::has_landlock() {
        return Finding::ok(
            AREA,
            "landlock",
            "the vault's server is sandboxed by Landlock and seccomp",
        );
    }
    Finding::weak(
        AREA,
        "landlock",
        "this kernel has none: the vault's server is sandboxed by seccomp alone",
        "a kernel of 5.13 or later with lsm=landlock,...",
    )
}

fn fuse() -> Finding {
    if Path::new("/dev/fuse").exists() {
        return Finding::ok(AREA, "fuse", "/dev/fuse is there");
    }
    Finding::missing(
        AREA,
        "fuse",
        "there is no /dev/fuse",
        "modprobe fuse; in a container: one that 'tazpod up' made",
    )
}

/// Where nothing was decided, LUKS that cannot work is no fault: fuse takes its place. Programs and
/// rights may be the container's, the kernel is the same.
fn luks(decided: bool, in_container: bool) -> Finding {
    let mut there = capabilities(machine::privilege() != Privilege::Rootless);
    if in_container {
        (there.cryptsetup, there.mkfs, there.privilege) = (true, true, true);
    }
    let lacking = there.lacking().join(", ");
    match (lacking.is_empty(), decided) {
        (true, _) => Finding::ok(AREA, "luks", "what LUKS needs is there"),
        (false, true) => Finding::missing(
            AREA,
            "luks",
            format!("missing for LUKS: {lacking}"),
            "apt-get install cryptsetup-bin e2fsprogs; modprobe dm-crypt; or decide for 'vault.backend: fuse'",
        ),
        (false, false) => Finding::note(
            AREA,
            "luks",
            format!("missing for LUKS: {lacking}; a new vault will be of fuse"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn without_sudo_the_kernel_decides_whether_anything_works() {
        for (clone, restricted, verdict) in [
            (None, None, Verdict::Weak),
            (Some(1), Some(0), Verdict::Weak),
            (Some(0), None, Verdict::Missing),
            (Some(1), Some(1), Verdict::Missing),
        ] {
            assert_eq!(rootless(clone, restricted).verdict, verdict);
        }
    }
}
