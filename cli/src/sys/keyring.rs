//! The kernel's keyrings, which hold keys for the kernel that no program can read back.

use std::ffi::CStr;
use std::io;

/// A kind of key that the kernel reads and programs do not; its name needs a prefix.
const KIND: &CStr = c"logon";
const NAME: &CStr = c"tazpod:probe";

/// The keyring of this thread alone, which ends with it.
const OWN: libc::c_long = libc::KEY_SPEC_THREAD_KEYRING as libc::c_long;

/// Whether this process may keep keys: a filter may refuse it, as that of Docker's containers does, or
/// the kernel have none. Tried with a key that means nothing and is taken away again.
pub(crate) fn is_usable() -> bool {
    add().and_then(remove).is_ok()
}

fn add() -> io::Result<libc::c_long> {
    let content = [0_u8; 1];
    // SAFETY: both names end with a zero, the content is readable for the length given, and all of it
    // outlives the call, which only reads it.
    let key = unsafe {
        libc::syscall(
            libc::SYS_add_key,
            KIND.as_ptr(),
            NAME.as_ptr(),
            content.as_ptr(),
            content.len(),
            OWN,
        )
    };
    if key < 0 { Err(io::Error::last_os_error()) } else { Ok(key) }
}

fn remove(key: libc::c_long) -> io::Result<()> {
    let operation = libc::c_long::from(libc::KEYCTL_UNLINK);
    // SAFETY: takes numbers only, and takes a key that we made from a keyring that is ours.
    match unsafe { libc::syscall(libc::SYS_keyctl, operation, key, OWN) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};
    use std::collections::BTreeMap;

    /// Runs `work` in a thread to which the kernel refuses one system call, as a container's filter does.
    fn without(call: libc::c_long, work: impl FnOnce() -> bool + Send) -> bool {
        let refused = SeccompAction::Errno(u32::try_from(libc::EPERM).unwrap());
        let arch = std::env::consts::ARCH.try_into().unwrap();
        let rules = BTreeMap::from([(call, Vec::new())]);
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
    fn keyring_is_found_and_its_refusal_too() {
        assert!(is_usable(), "this machine's kernel has keyrings");
        assert!(without(libc::SYS_getppid, is_usable));
        assert!(!without(libc::SYS_add_key, is_usable));
        assert!(!without(libc::SYS_keyctl, is_usable));
    }
}
