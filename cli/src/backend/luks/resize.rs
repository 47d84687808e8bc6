//! Another size for the file system in an image that nobody else knows yet.

use super::holder::Holder;
use super::tool;
use crate::error::{Error, Kind, Result};
use crate::ghost::protocol::VaultRequest;
use crate::sys::identity::Identity;
use crate::units::ByteSize;

/// What `e2fsck` ends with when nothing is wrong any more.
const SOUND: [u8; 2] = [0, 1];

/// Another size for a file system.
pub(crate) struct NewSize {
    /// Bytes that it shall have.
    pub(crate) len: u64,
    /// Bytes of its blocks.
    pub(crate) block: u64,
    /// Bytes of the image before it.
    pub(crate) before: u64,
}

/// Checks the file system in a copy of a vault, and gives it another size. The copy is large enough for both sizes.
pub(super) fn resize(
    request: &VaultRequest,
    identity: &Identity,
    key: &[u8],
    size: &NewSize,
) -> Result<()> {
    let holder = Holder::prepare(request, identity)?;
    let mapping = holder.map(key)?;
    let resized = holder.node(&mapping).and_then(|node| work(&node, size, &request.shown));
    let closed = holder.unmap(&mapping).and_then(|()| holder.release());
    resized.and(closed)
}

fn work(node: &str, size: &NewSize, shown: &str) -> Result<()> {
    let NewSize { len, block, before } = *size;
    let checked = tool::run("e2fsck", &["-f", "-p", node], b"")?;
    if !SOUND.contains(&checked.status) {
        let error = Error::new(Kind::Damage, format!("the file system of '{shown}' is not sound"));
        return Err(tool::said(error, &checked)
            .hint("the vault is as it was; 'tazpod vault check' tells more and changes nothing"));
    }
    let asked = tool::run("resize2fs", &["-P", node], b"")?;
    let least = least_blocks(&String::from_utf8_lossy(&asked.output)).unwrap_or(0);
    if len / block.max(1) < least {
        let needed = ByteSize(least.saturating_mul(block).saturating_add(before));
        return Err(Error::user(format!("'{shown}' holds too much for this size"))
            .hint(format!("it needs {needed}; remove files, or choose a larger size")));
    }
    let sectors = format!("{}s", len / 512);
    let resized = tool::run("resize2fs", &[node, &sectors], b"")?;
    if resized.status == 0 {
        return Ok(());
    }
    let error = Error::environment(format!("cannot resize the file system of '{shown}'"));
    Err(tool::said(error, &resized).hint("the vault is as it was"))
}

fn least_blocks(said: &str) -> Option<u64> {
    said.lines().find_map(|line| line.rsplit_once(": ")?.1.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn least_size_is_read_from_what_the_program_says() {
        assert_eq!(least_blocks("Estimated minimum size of the filesystem: 7281\n"), Some(7281));
        assert_eq!(least_blocks("resize2fs 1.47\nsomething: else\n"), None);
    }
}
