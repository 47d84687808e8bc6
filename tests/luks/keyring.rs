//! Containers whose filter refuses the kernel's keyrings, as Docker's does where nothing says otherwise.

use crate::by_hand::{by_hand, cheap};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};
use std::collections::BTreeMap;

/// Runs `work` in a thread to which, and to whose children, the kernel lends no keyring.
fn without_keyrings<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let calls = [libc::SYS_add_key, libc::SYS_keyctl, libc::SYS_request_key];
    let rules: BTreeMap<_, _> = calls.into_iter().map(|call| (call, Vec::new())).collect();
    let refused = SeccompAction::Errno(u32::try_from(libc::EPERM).unwrap());
    let arch = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refused, arch).unwrap();
    let filter: BpfProgram = filter.try_into().unwrap();
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            apply_filter(&filter).unwrap();
            work()
        });
        thread.join().unwrap()
    })
}

#[test]
fn vault_opens_where_keyrings_are_refused() {
    let project = cheap("48M");
    let by_cryptsetup = "disk=$(losetup --find --show vault.img)
        printf %s \"$pass\" | cryptsetup open --key-file - $disk by-hand 2>&1 || true
        losetup --detach $disk";
    let said = without_keyrings(|| by_hand(&project, by_cryptsetup));
    assert!(said.contains("keyring"), "nothing is refused here: {said}");
    let output = without_keyrings(|| project.run("cat ~/secrets/kept"));
    assert_eq!(output.stdout, b"kept\n", "{output:?}");
    project.assert_nothing_left();
}
