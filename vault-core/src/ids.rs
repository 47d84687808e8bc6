//! Numbers with a meaning: a block address is not an inode number, and the compiler knows it.

use std::fmt;

/// Bytes in one unit, the grain of addresses and lengths in an image.
pub const UNIT: usize = 4096;

/// Bytes in one unit, as an offset.
pub const UNIT_U64: u64 = 4096;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// Address of a unit in the image: its byte offset divided by [`UNIT`].
    BlockNo(u64)
);
number!(
    /// Identity of a file for the life of the vault; never reused.
    InodeNo(u64)
);
number!(
    /// Number of a commit; grows with every commit and never repeats in one history.
    Generation(u64)
);
number!(
    /// Position of a keyslot in the header, 0 to 7.
    SlotIndex(u8)
);

impl InodeNo {
    /// The root folder of every vault.
    pub const ROOT: InodeNo = InodeNo(1);
}

/// Identity of a vault: 16 random bytes fixed at creation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VaultId(pub [u8; 16]);

impl fmt::Display for VaultId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for VaultId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VaultId({self})")
    }
}
