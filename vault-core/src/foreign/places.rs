//! Where files are, for messages: each folder knows the one that it is in, so that a deep tree takes no more
//! memory than a flat one.

/// Bytes of a path that are told.
const TOLD: usize = 4096;

/// A folder, by its number here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Folder(usize);

/// A name in a folder; an empty one is the folder itself.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) folder: Folder,
    pub(super) name: &'a [u8],
}

/// All folders that were met.
pub(super) struct Folders(Vec<(Folder, Vec<u8>)>);

impl Folders {
    /// The top of the tree.
    pub(super) const TOP: Folder = Folder(0);

    /// Knows the top.
    pub(super) fn new() -> Self {
        Self(vec![(Self::TOP, Vec::new())])
    }

    /// Adds a folder that is in another.
    pub(super) fn add(&mut self, place: Place<'_>) -> Folder {
        self.0.push((place.folder, place.name.to_vec()));
        Folder(self.0.len() - 1)
    }

    /// Returns the path from the top, or the end of one that is very long.
    pub(super) fn path(&self, place: Place<'_>) -> Vec<u8> {
        let mut names = vec![place.name];
        let (mut len, mut at) = (place.name.len(), place.folder);
        while at != Self::TOP && len < TOLD {
            let Some((above, name)) = self.0.get(at.0) else { break };
            names.push(name);
            len += name.len() + 1;
            at = *above;
        }
        if at != Self::TOP {
            names.push(b"...");
        }
        names.retain(|name| !name.is_empty());
        names.reverse();
        names.join(&b'/')
    }
}

impl Folder {
    /// The folder itself.
    pub(super) fn itself(self) -> Place<'static> {
        Place { folder: self, name: b"" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_whole_until_they_are_very_long() {
        let mut folders = Folders::new();
        assert_eq!(folders.path(Folders::TOP.itself()), b"");
        assert_eq!(folders.path(Place { folder: Folders::TOP, name: b"file" }), b"file");
        let mut folder = folders.add(Place { folder: Folders::TOP, name: b"a" });
        folder = folders.add(Place { folder, name: b"b" });
        assert_eq!(folders.path(folder.itself()), b"a/b");
        assert_eq!(folders.path(Place { folder, name: b"file" }), b"a/b/file");
        for _ in 0..100_000 {
            folder = folders.add(Place { folder, name: b"deeper" });
        }
        let path = folders.path(Place { folder, name: b"file" });
        assert!(path.starts_with(b".../deeper/") && path.ends_with(b"/deeper/file"));
        assert!(path.len() < TOLD + 300, "{}", path.len());
    }
}
