//! What a container is made of and what it is granted, as data that tests read.
//!
//! A container for fuse ghosts gets no capability at all: the FUSE device, Docker's own seccomp
//! profile with the calls that a ghost makes added, and a `/proc` without the engine's masks, since
//! the kernel lets nobody mount a `/proc` in a namespace that shows more than the one outside. One for
//! luks ghosts is privileged, or gets by name what loop devices and the device mapper need.

use super::engine::About;
use super::owner::Ids;
use crate::bridge::{Bridge, MemoryPlace};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where the project lies in its container.
pub(crate) const WORKSPACE: &str = "/workspace";

/// The uid and gid of the user in our images.
pub(crate) const USER_ID: u32 = 1000;

/// The label that makes a container ours; its value is the project's folder.
pub(crate) const PROJECT: &str = "tazpod.project";
/// The label with the number of the project's folder on its file system: another folder may come to stand there.
pub(crate) const FOLDER: &str = "tazpod.folder";
/// The label with the settings that a container was made by.
pub(crate) const SETTINGS: &str = "tazpod.settings";
/// The label that says for which kind of ghost a container was made.
pub(crate) const BACKEND: &str = "tazpod.backend";
const VERSION: &str = "tazpod.version";

/// The seccomp profile of containers for ghosts.
pub(crate) const SECCOMP: &str = include_str!("seccomp.json");

/// X11's sockets.
const X11: &str = "/tmp/.X11-unix";

/// Which ghosts can be made in a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ghosts {
    /// None at all.
    None,
    /// Of vaults served by FUSE.
    Fuse,
    /// Of LUKS vaults, in a privileged container.
    Luks,
    /// Of LUKS vaults, with what they need granted by name; holds the device mapper's major number.
    LuksByName(Option<u32>),
}

/// What is known and decided before a container is made.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) name: &'a str,
    pub(crate) project: &'a Path,
    /// The inode of that folder.
    pub(crate) folder: u64,
    pub(crate) image: &'a str,
    pub(crate) user: &'a str,
    /// The uid and gid that this user has or will be given.
    pub(crate) ids: Ids,
    pub(crate) ghosts: Ghosts,
    /// The folder of rollback witnesses on the host.
    pub(crate) witnesses: &'a Path,
    /// The assistant's memories on the host, if the project has them.
    pub(crate) memories: Option<PathBuf>,
    /// Whether the person's display may be used.
    pub(crate) x11: bool,
    /// The display there is.
    pub(crate) display: Option<String>,
    /// Where the seccomp profile lies, for an engine that reads it from a file.
    pub(crate) profile: Option<PathBuf>,
    pub(crate) engine: &'a About,
}

/// A folder of the host seen in a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Bind {
    pub(crate) source: PathBuf,
    pub(crate) target: String,
}

/// Everything that a container is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ContainerSpec {
    pub(crate) name: String,
    pub(crate) image: String,
    pub(crate) user: String,
    pub(crate) command: Vec<String>,
    pub(crate) environment: Vec<String>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) binds: Vec<Bind>,
    pub(crate) tmpfs: BTreeMap<String, String>,
    pub(crate) privileged: bool,
    pub(crate) capabilities: Vec<String>,
    pub(crate) devices: Vec<String>,
    pub(crate) device_rules: Vec<String>,
    pub(crate) security: Vec<String>,
    /// Whether the engine's masks on `/proc` and `/sys` are left out.
    pub(crate) unmasked: bool,
    pub(crate) user_namespace: Option<String>,
}

/// Returns the home folder of a user in a container.
pub(crate) fn home(user: &str) -> String {
    if user == "root" { "/root".to_owned() } else { format!("/home/{user}") }
}

impl Ghosts {
    /// The word for it in labels and messages.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Fuse => "fuse",
            Self::Luks | Self::LuksByName(_) => "luks",
        }
    }

    /// Says in a few words what they cost.
    pub(crate) fn grants(self) -> &'static str {
        match self {
            Self::None => "no ghosts, nothing granted",
            Self::Fuse => "fuse: /dev/fuse and a seccomp profile, no capabilities",
            Self::Luks => "luks: privileged",
            Self::LuksByName(_) => "luks: loop devices, the device mapper, SYS_ADMIN",
        }
    }
}

impl Wanted<'_> {
    /// Decides what the container is made of.
    pub(crate) fn spec(&self) -> ContainerSpec {
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let mut spec = ContainerSpec {
            name: self.name.to_owned(),
            image: self.image.to_owned(),
            user: self.user.to_owned(),
            command: owned(&["sleep", "infinity"]),
            environment: Vec::new(),
            labels: BTreeMap::new(),
            binds: self.binds(),
            tmpfs: self.tmpfs(),
            privileged: false,
            capabilities: Vec::new(),
            devices: Vec::new(),
            device_rules: Vec::new(),
            security: Vec::new(),
            unmasked: false,
            user_namespace: self.user_namespace(),
        };
        match self.ghosts {
            Ghosts::None => {}
            Ghosts::Fuse => {
                spec.devices = owned(&["/dev/fuse"]);
                self.open_for_ghosts(&mut spec);
            }
            Ghosts::Luks => spec.privileged = true,
            Ghosts::LuksByName(mapper) => {
                spec.capabilities = owned(&["SYS_ADMIN", "MKNOD"]);
                spec.devices = owned(&["/dev/loop-control", "/dev/mapper/control"]);
                spec.device_rules = owned(&["b 7:* rwm"]);
                spec.device_rules.extend(mapper.map(|major| format!("b {major}:* rwm")));
                self.open_for_ghosts(&mut spec);
            }
        }
        if self.engine.selinux && !spec.privileged {
            // Its labels would have to be put on the person's own folders.
            spec.security.push("label=disable".to_owned());
        }
        spec.labels = self.labels(&spec);
        // From here on what the moment offers, which is no change of settings.
        if self.x11 && self.display.is_some() {
            spec.binds.push(Bind { source: X11.into(), target: X11.to_owned() });
        }
        if self.x11 {
            spec.environment
                .extend(self.display.iter().map(|display| format!("DISPLAY={display}")));
        }
        spec
    }

    fn binds(&self) -> Vec<Bind> {
        let bind = |source: &Path, target: String| Bind { source: source.to_owned(), target };
        let home = home(self.user);
        let mut binds = vec![bind(self.project, WORKSPACE.to_owned())];
        if self.ghosts != Ghosts::None {
            binds.push(bind(self.witnesses, format!("{home}/.local/state/tazpod/witnesses")));
        }
        binds.extend(self.memories.iter().map(|path| bind(path, format!("{home}/.gemini"))));
        binds
    }

    /// What stands at `~/secrets` and the bridges while no ghost is there: empty, and not to be moved or replaced.
    fn tmpfs(&self) -> BTreeMap<String, String> {
        if self.ghosts == Ghosts::None {
            return BTreeMap::new();
        }
        // Podman's cannot be given to a user; it is as empty and as fixed when it is root's.
        let options = if self.is_podman() {
            "ro,mode=0555,notmpcopyup".to_owned()
        } else {
            format!("ro,uid={},gid={},mode=0500", self.ids.uid, self.ids.gid)
        };
        let bridges = Bridge::all(MemoryPlace::Project).into_iter().map(Bridge::in_home);
        let names = bridges.chain(["secrets"]);
        names.map(|name| (format!("{}/{name}", home(self.user)), options.clone())).collect()
    }

    /// What making namespaces and mounting in them needs, apart from devices.
    fn open_for_ghosts(&self, spec: &mut ContainerSpec) {
        let profile = match &self.profile {
            Some(path) => path.display().to_string(),
            None => SECCOMP.to_owned(),
        };
        spec.security.push(format!("seccomp={profile}"));
        if self.engine.apparmor {
            // Its default profile denies every mount.
            spec.security.push("apparmor=unconfined".to_owned());
        }
        if self.is_podman() {
            spec.security.push("unmask=ALL".to_owned());
        }
        spec.unmasked = true;
    }

    /// Rootless Podman would make the person root in the container, and the user there nobody.
    fn user_namespace(&self) -> Option<String> {
        (self.is_podman() && self.engine.rootless && self.user != "root")
            .then(|| format!("keep-id:uid={USER_ID},gid={USER_ID}"))
    }

    fn is_podman(&self) -> bool {
        self.engine.product == "Podman"
    }

    fn labels(&self, spec: &ContainerSpec) -> BTreeMap<String, String> {
        let grants = serde_json::to_vec(&(
            &spec.binds,
            &spec.tmpfs,
            spec.privileged,
            &spec.capabilities,
            &spec.devices,
            (&spec.device_rules, &spec.security, spec.unmasked, &spec.user_namespace, SECCOMP),
        ))
        .unwrap_or_default();
        let digest = Sha256::digest(grants);
        let digest = super::hexadecimal(digest.get(..6).unwrap_or_default());
        let settings = BTreeMap::from([
            ("image", self.image),
            ("user", self.user),
            ("ghosts", self.ghosts.word()),
            ("x11", if self.x11 { "true" } else { "false" }),
            ("grants", &digest),
        ]);
        let settings = serde_json::to_string(&settings).unwrap_or_default();
        let own = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        BTreeMap::from([
            own(PROJECT, &self.project.display().to_string()),
            own(FOLDER, &self.folder.to_string()),
            own(BACKEND, self.ghosts.word()),
            own(SETTINGS, &settings),
            own(VERSION, env!("CARGO_PKG_VERSION")),
        ])
    }
}

impl ContainerSpec {
    /// Says what differs from the settings that a container was made by, as recorded in its label.
    pub(crate) fn changes_since(&self, recorded: Option<&str>) -> Vec<String> {
        type Settings = BTreeMap<String, String>;
        let read = |text: &str| serde_json::from_str::<Settings>(text).ok();
        let before = recorded.and_then(read).unwrap_or_default();
        let now = self.labels.get(SETTINGS).and_then(|text| read(text)).unwrap_or_default();
        let changed: Vec<_> =
            now.iter().filter(|(key, value)| before.get(*key) != Some(value)).collect();
        let named = changed.iter().filter(|(key, _)| *key != "grants");
        let mut said: Vec<String> = named
            .map(|(key, value)| match before.get(*key) {
                Some(old) => format!("{key} is {value}, was {old}"),
                None => format!("{key} is {value}"),
            })
            .collect();
        if said.is_empty() && !changed.is_empty() {
            said.push("what it is granted".to_owned());
        }
        said
    }
}

#[cfg(test)]
#[path = "spec_tests.rs"]
mod tests;
