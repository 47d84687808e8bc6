//! The two devices that an open vault has: a loop device over the image, a mapping over that.

use super::image::Uuid;
use super::workshop::{Workshop, has_mapper};
use crate::error::{Error, Result};
use crate::sys::block::{self, Removal};
use crate::sys::folder::Facts;
use nix::errno::Errno;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// How often another process may be quicker to take a free loop device.
const RACES: u32 = 64;

/// Where the kernel lists block devices.
const CLASS: &str = "/sys/class/block";

/// A loop device over an image. The kernel takes it away with its last user.
pub(super) struct LoopDevice {
    /// The device file in the workshop.
    pub(super) node: PathBuf,
    /// A user of it, for as long as this lives.
    _open: File,
}

impl LoopDevice {
    /// Puts the image behind a free loop device.
    pub(super) fn attach(workshop: &Workshop, image: &File, name: &str) -> Result<Self> {
        let failed = |cause: io::Error| {
            Error::environment("cannot put the image behind a loop device")
                .caused_by(cause)
                .hint("luks needs a privileged container; '--backend fuse' does not")
        };
        let control = workshop.loop_control().map_err(failed)?;
        for _ in 0..RACES {
            let number = block::free_loop(&control).map_err(failed)?;
            let node = workshop.block_node(&format!("loop{number}")).map_err(failed)?;
            let device = File::options().read(true).write(true).open(&node).map_err(failed)?;
            match block::configure_loop(&device, image, name) {
                Ok(()) => return Ok(Self { node, _open: device }),
                Err(cause) if cause.raw_os_error() == Some(libc::EBUSY) => {}
                Err(cause) => return Err(failed(cause)),
            }
        }
        Err(failed(Errno::EBUSY.into()))
    }

    /// Returns the path of its device file.
    pub(super) fn path(&self) -> &str {
        // Made by `Workshop::block_node` of ASCII.
        self.node.to_str().unwrap_or_default()
    }
}

/// A mapped device, as sysfs describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mapping {
    /// The kernel's name, `dm-N`.
    pub(super) device: String,
    /// The name that it was given.
    pub(super) name: String,
    /// The uuid that it was given; cryptsetup's begin with `CRYPT-`.
    pub(super) uuid: String,
    /// The kernel's names of the devices that it stands on.
    pub(super) below: Vec<String>,
}

impl Mapping {
    /// Finds the mapping with this name.
    pub(super) fn named(name: &str) -> io::Result<Option<Self>> {
        Ok(mappings()?.into_iter().find(|mapping| mapping.name == name))
    }

    /// Whether a holder made it for this image: by name and uuid, both. Opening a keyslot may take
    /// a mapping of its own for a moment, where the kernel lends no ciphers to programs.
    pub(super) fn is_ours(&self, image: &Facts, uuid: Option<&Uuid>) -> bool {
        let temporary = self.uuid.starts_with("CRYPT-TEMP-");
        if temporary && self.name.starts_with("temporary-cryptsetup-") {
            return true;
        }
        uuid.is_some_and(|uuid| {
            self.name == uuid.mapping(image) && given(image, uuid).contains(&self.uuid)
        })
    }

    /// Finds what holders made for this image and gave no table: `cryptsetup` was killed between the two. It stands
    /// on no device and sysfs does not list it, but it keeps the name from the next one.
    pub(super) fn unfinished(
        workshop: &Workshop,
        image: &Facts,
        uuid: &Uuid,
    ) -> io::Result<Vec<Self>> {
        if !has_mapper() {
            return Ok(Vec::new());
        }
        let control = workshop.mapper_control()?;
        let mut found = Vec::new();
        for given in given(image, uuid) {
            if let Some((name, minor)) = block::mapped(&control, &given)? {
                let device = format!("dm-{minor}");
                if !Path::new(CLASS).join(&device).exists() {
                    found.push(Self { device, name, uuid: given, below: Vec::new() });
                }
            }
        }
        Ok(found)
    }

    /// Whether it goes with its last user, as that of a vault which was mounted does.
    pub(super) fn is_going(&self, workshop: &Workshop) -> io::Result<bool> {
        match block::is_going(&workshop.mapper_control()?, &self.uuid) {
            Err(cause) if cause.raw_os_error() == Some(libc::ENXIO) => Ok(true),
            other => other,
        }
    }

    /// Removes it; one that is gone is no error.
    pub(super) fn remove(&self, workshop: &Workshop, when: Removal) -> io::Result<()> {
        let control = workshop.mapper_control()?;
        match block::remove_mapped(&control, &self.uuid, when) {
            Err(cause) if cause.raw_os_error() == Some(libc::ENXIO) => Ok(()),
            other => other,
        }
    }
}

/// Returns the uuids that cryptsetup gives a holder's mapping of this image.
fn given(image: &Facts, uuid: &Uuid) -> [String; 2] {
    let plain: String = uuid.text().chars().filter(|letter| *letter != '-').collect();
    let name = uuid.mapping(image);
    [1, 2].map(|version| format!("CRYPT-LUKS{version}-{plain}-{name}"))
}

/// Lists the mapped devices of this kernel that have a table or had one.
pub(super) fn mappings() -> io::Result<Vec<Mapping>> {
    let mut found = Vec::new();
    for device in devices("dm-")? {
        let folder = Path::new(CLASS).join(&device);
        let read = |name: &str| {
            Some(std::fs::read_to_string(folder.join("dm").join(name)).ok()?.trim_end().to_owned())
        };
        // One that goes while we look is not there.
        let (Some(name), Some(uuid)) = (read("name"), read("uuid")) else { continue };
        let below = names(&folder.join("slaves")).unwrap_or_default();
        found.push(Mapping { device, name, uuid, below });
    }
    Ok(found)
}

/// Lists the loop devices over the file `image`, and whether each goes with its last user.
pub(super) fn loops_over(workshop: &Workshop, image: &Facts) -> io::Result<Vec<(String, bool)>> {
    let mut found = Vec::new();
    for device in devices("loop")? {
        // Only one with a file has this folder; opening the others would only make noise.
        if !Path::new(CLASS).join(&device).join("loop").is_dir() {
            continue;
        }
        let Ok(node) = workshop.block_node(&device) else { continue };
        let opened = match File::open(&node) {
            Ok(opened) => opened,
            // It went meanwhile.
            Err(cause) if matches!(cause.raw_os_error(), Some(libc::ENXIO | libc::ENODEV)) => {
                continue;
            }
            Err(cause) => return Err(cause),
        };
        if let Some(backing) = block::backing(&opened)?
            && (backing.device, backing.inode) == (image.device, image.inode)
        {
            found.push((device, backing.autoclear));
        }
    }
    Ok(found)
}

/// Whether the kernel's table names this very file as what a loop device stands on. The names there are
/// those of the namespace in which it was set up: one that is not found here proves nothing.
pub(super) fn is_on_loop_device(image: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let Ok(image) = image.metadata() else { return false };
    devices("loop").unwrap_or_default().iter().any(|device| {
        let name = Path::new(CLASS).join(device).join("loop/backing_file");
        let backing = std::fs::read_to_string(name).ok();
        let backing = backing.and_then(|path| Path::new(path.trim_end()).metadata().ok());
        backing.is_some_and(|file| (file.dev(), file.ino()) == (image.dev(), image.ino()))
    })
}

fn devices(prefix: &str) -> io::Result<Vec<String>> {
    let mut found = names(Path::new(CLASS))?;
    found.retain(|name| {
        name.strip_prefix(prefix).is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
    });
    Ok(found)
}

fn names(folder: &Path) -> io::Result<Vec<String>> {
    let entries = std::fs::read_dir(folder)?;
    Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_a_mapping_with_name_and_uuid_of_this_image_is_ours() {
        let uuid = Uuid::parse("9f548ac0-e84f-42eb-bcc5-c8d6c5aadd52").unwrap();
        let image = crate::sys::folder::facts(File::open("/dev/null").unwrap()).unwrap();
        let name = uuid.mapping(&image);
        let plain = "9f548ac0e84f42ebbcc5c8d6c5aadd52";
        let mapping = |name: &str, uuid: String| Mapping {
            device: "dm-0".into(),
            name: name.into(),
            uuid,
            below: vec!["loop0".into()],
        };
        let ours = |mapping: &Mapping| mapping.is_ours(&image, Some(&uuid));
        assert!(ours(&mapping(&name, format!("CRYPT-LUKS2-{plain}-{name}"))));
        assert!(ours(&mapping(&name, format!("CRYPT-LUKS1-{plain}-{name}"))));
        assert!(ours(&mapping(
            "temporary-cryptsetup-7",
            "CRYPT-TEMP-temporary-cryptsetup-7".into()
        )));
        assert!(!ours(&mapping("backup", format!("CRYPT-LUKS2-{plain}-backup"))));
        assert!(!ours(&mapping(&name, format!("LVM-{plain}"))));
        assert!(!ours(&mapping(&name, String::new())));
        assert!(!mapping(&name, format!("CRYPT-LUKS2-{plain}-{name}")).is_ours(&image, None));
    }
}
