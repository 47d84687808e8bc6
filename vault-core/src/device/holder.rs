//! The note beside an image that says who has it open, since an OFD lock tells no name.
//!
//! The note is advice for the message "in use" and nothing else: the lock decides. Anyone who can
//! write in the folder can forge it, so what is read is bounded, and stripped of everything but
//! printable characters. Write it after the image is locked, and drop it before the image is closed.

use super::file::{Access, open_regular};
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Who has an image open, in their own words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holder {
    /// Name of the host.
    pub host: String,
    /// Name of the container, if it is open in one.
    pub container: Option<String>,
    /// Process on that host or in that container.
    pub process: Option<u32>,
    /// Seconds since 1970.
    pub since: i64,
}

impl Holder {
    const HEADING: &'static str = "tazpod image in use";
    const MAX_LEN: u64 = 1024;
    const MAX_NAME: usize = 64;

    /// Returns where the note for an image lies: `vault.img.in-use`.
    pub fn path_beside(image: &Path) -> PathBuf {
        let mut path = image.as_os_str().to_owned();
        path.push(".in-use");
        path.into()
    }

    /// Reads the note beside an image; `None` if there is none that makes sense.
    pub fn read(image: &Path) -> Option<Self> {
        let file = open_regular(&Self::path_beside(image), Access::ReadOnly).ok()?;
        let mut text = Vec::new();
        file.take(Self::MAX_LEN).read_to_end(&mut text).ok()?;
        Self::decode(&String::from_utf8_lossy(&text))
    }

    /// Writes the note beside an image that the caller has locked. The note lasts as long as the
    /// returned guard.
    pub fn announce(&self, image: &Path) -> io::Result<HolderNote> {
        let path = Self::path_beside(image);
        let mut fresh = path.as_os_str().to_owned();
        fresh.push(format!(".{}", std::process::id()));
        let fresh = PathBuf::from(fresh);
        // A leftover of a killed process with our number; the lock says that it is nobody's.
        let _ = fs::remove_file(&fresh);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&fresh)?;
        let metadata = file.metadata()?;
        let placed =
            file.write_all(self.encode().as_bytes()).and_then(|()| fs::rename(&fresh, &path));
        if let Err(error) = placed {
            let _ = fs::remove_file(&fresh);
            return Err(error);
        }
        Ok(HolderNote { path, identity: (metadata.dev(), metadata.ino()) })
    }

    fn encode(&self) -> String {
        let mut lines = vec![Self::HEADING.to_owned(), format!("host={}", printable(&self.host))];
        lines.extend(self.container.iter().map(|name| format!("container={}", printable(name))));
        lines.extend(self.process.map(|number| format!("process={number}")));
        lines.push(format!("since={}\n", self.since));
        lines.join("\n")
    }

    fn decode(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        if lines.next() != Some(Self::HEADING) {
            return None;
        }
        let mut holder = Self::default();
        for (name, value) in lines.filter_map(|line| line.split_once('=')) {
            match name {
                "host" => holder.host = printable(value),
                "container" => holder.container = Some(printable(value)),
                "process" => holder.process = value.parse().ok(),
                "since" => holder.since = value.parse().ok()?,
                _ => {}
            }
        }
        Some(holder)
    }
}

/// The note of an open image; dropping it removes the note.
#[derive(Debug)]
pub struct HolderNote {
    path: PathBuf,
    identity: (u64, u64),
}

impl HolderNote {
    /// Returns where the note lies, for instance to give it to the image's owner.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for HolderNote {
    fn drop(&mut self) {
        // Not the note of someone who opened the image after us.
        let ours = self
            .path
            .symlink_metadata()
            .is_ok_and(|there| (there.dev(), there.ino()) == self.identity);
        if ours {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Keeps what is safe to print: no control characters that could steer a terminal, no
/// direction marks, bounded length.
fn printable(text: &str) -> String {
    let marks = ['\u{200b}'..='\u{200f}', '\u{2028}'..='\u{202e}', '\u{2066}'..='\u{2069}'];
    let steers =
        |c: char| c.is_control() || c == '\u{feff}' || marks.iter().any(|range| range.contains(&c));
    text.chars().filter(|&c| !steers(c)).take(Holder::MAX_NAME).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::device::{BlockDevice, FileDevice, OpenError};

    fn holder() -> Holder {
        Holder {
            host: "workbench".into(),
            container: Some("tazpod-demo-1234567".into()),
            process: Some(812),
            since: 1_700_000_000,
        }
    }

    #[test]
    fn the_second_opener_reads_who_holds_the_image() {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("vault.img");
        let device = FileDevice::create_new(&image).unwrap();
        device.grow(FileDevice::MIN_LEN).unwrap();
        let note = holder().announce(&image).unwrap();
        let error = FileDevice::open(&image, Access::ReadWrite).unwrap_err();
        let OpenError::InUse { holder: Some(read) } = error else { panic!("{error:?}") };
        assert_eq!(read, holder());
        drop(note);
        assert_eq!(Holder::read(&image), None);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "only the image is left");
    }

    #[test]
    fn a_note_of_a_later_opener_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("vault.img");
        let first = holder().announce(&image).unwrap();
        let later = Holder { process: Some(900), ..holder() };
        let second = later.announce(&image).unwrap();
        drop(first);
        assert_eq!(Holder::read(&image), Some(later));
        drop(second);
        assert_eq!(Holder::read(&image), None);
    }

    #[test]
    fn a_hostile_note_cannot_steer_the_terminal() {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("vault.img");
        let long = "h".repeat(500);
        let text =
            format!("tazpod image in use\nhost=\u{1b}[2J\u{202e}evil{long}\nsince=5\nother=1\n");
        fs::write(Holder::path_beside(&image), text).unwrap();
        let read = Holder::read(&image).unwrap();
        assert!(read.host.starts_with("[2Jevilhhh"));
        assert_eq!(read.host.chars().count(), 64);
        assert_eq!(read.since, 5);
    }

    #[test]
    fn what_is_not_a_note_is_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("vault.img");
        let note = Holder::path_beside(&image);
        for text in ["", "something else\nhost=a\n", "tazpod image in use\nsince=soon\n"] {
            fs::write(&note, text).unwrap();
            assert_eq!(Holder::read(&image), None, "{text:?}");
        }
        fs::write(&note, vec![b'='; 1 << 20]).unwrap();
        assert_eq!(Holder::read(&image), None);
        fs::remove_file(&note).unwrap();
        fs::create_dir(&note).unwrap();
        assert_eq!(Holder::read(&image), None);
    }
}
