#![allow(clippy::unwrap_used)]
use super::*;

fn engine() -> About {
    About { product: "Docker".to_owned(), ..About::default() }
}

fn wanted(ghosts: Ghosts, engine: &About) -> Wanted<'_> {
    Wanted {
        name: "tazpod-lab-1234567",
        project: Path::new("/home/me/lab"),
        folder: 7,
        image: "tazpod:k8s",
        user: "tazpod",
        ids: Ids { uid: USER_ID, gid: USER_ID },
        ghosts,
        witnesses: Path::new("/home/me/.local/state/tazpod/witnesses"),
        memories: Some(PathBuf::from("/home/me/lab/.gemini")),
        x11: true,
        display: Some(":0".to_owned()),
        profile: Some(PathBuf::from("PROFILE")),
        engine,
    }
}

/// The spec as text without its labels, which have a test of their own.
fn shown(wanted: &Wanted<'_>) -> String {
    let mut spec = wanted.spec();
    spec.labels.clear();
    serde_json::to_string_pretty(&spec).unwrap()
}

#[test]
fn a_container_for_fuse_gets_a_device_a_profile_and_no_capability() {
    assert_eq!(
        shown(&wanted(Ghosts::Fuse, &engine())),
        r#"{
  "name": "tazpod-lab-1234567",
  "image": "tazpod:k8s",
  "user": "tazpod",
  "command": [
    "sleep",
    "infinity"
  ],
  "environment": [
    "DISPLAY=:0"
  ],
  "labels": {},
  "binds": [
    {
      "source": "/home/me/lab",
      "target": "/workspace"
    },
    {
      "source": "/home/me/.local/state/tazpod/witnesses",
      "target": "/home/tazpod/.local/state/tazpod/witnesses"
    },
    {
      "source": "/home/me/lab/.gemini",
      "target": "/home/tazpod/.gemini"
    },
    {
      "source": "/tmp/.X11-unix",
      "target": "/tmp/.X11-unix"
    }
  ],
  "tmpfs": {
    "/home/tazpod/.infisical": "ro,uid=1000,gid=1000,mode=0500",
    "/home/tazpod/infisical-keyring": "ro,uid=1000,gid=1000,mode=0500",
    "/home/tazpod/secrets": "ro,uid=1000,gid=1000,mode=0500"
  },
  "privileged": false,
  "capabilities": [],
  "devices": [
    "/dev/fuse"
  ],
  "device_rules": [],
  "security": [
    "seccomp=PROFILE"
  ],
  "unmasked": true,
  "user_namespace": null
}"#
    );
}

#[test]
fn luks_is_privileged_or_names_what_it_needs() {
    let engine = engine();
    let spec = wanted(Ghosts::Luks, &engine).spec();
    assert!(spec.privileged && spec.security.is_empty() && spec.devices.is_empty());
    let spec = wanted(Ghosts::LuksByName(Some(254)), &engine).spec();
    assert!(!spec.privileged && spec.unmasked);
    assert_eq!(spec.capabilities, ["SYS_ADMIN", "MKNOD"]);
    assert_eq!(spec.devices, ["/dev/loop-control", "/dev/mapper/control"]);
    assert_eq!(spec.device_rules, ["b 7:* rwm", "b 254:* rwm"]);
}

#[test]
fn without_ghosts_and_display_nothing_but_the_project_is_granted() {
    let engine = engine();
    let mut wanted = wanted(Ghosts::None, &engine);
    (wanted.memories, wanted.x11) = (None, false);
    let spec = wanted.spec();
    assert_eq!(spec.binds.len(), 1);
    assert!(spec.tmpfs.is_empty() && spec.environment.is_empty() && spec.devices.is_empty());
    assert!(spec.security.is_empty() && !spec.unmasked && !spec.privileged);
}

#[test]
fn engines_get_what_their_kind_asks_for() {
    let mut about = About { apparmor: true, selinux: true, ..engine() };
    let spec = wanted(Ghosts::Fuse, &about).spec();
    assert_eq!(spec.security, ["seccomp=PROFILE", "apparmor=unconfined", "label=disable"]);
    about = About { product: "Podman".to_owned(), rootless: true, ..About::default() };
    let spec = wanted(Ghosts::Fuse, &about).spec();
    assert_eq!(spec.security, ["seccomp=PROFILE", "unmask=ALL"]);
    assert_eq!(spec.tmpfs.values().collect::<Vec<_>>(), ["ro,mode=0555,notmpcopyup"; 3]);
    assert_eq!(spec.user_namespace.as_deref(), Some("keep-id:uid=1000,gid=1000"));
}

#[test]
fn changed_settings_are_named_and_the_display_of_the_moment_is_none() {
    let engine = engine();
    let spec = wanted(Ghosts::Fuse, &engine).spec();
    let recorded = spec.labels.get(SETTINGS).unwrap().clone();
    let changes = |change: &dyn Fn(&mut Wanted<'_>)| {
        let mut other = wanted(Ghosts::Fuse, &engine);
        change(&mut other);
        other.spec().changes_since(Some(&recorded))
    };
    assert_eq!(changes(&|_| ()), Vec::<String>::new());
    assert_eq!(changes(&|wanted| wanted.display = None), Vec::<String>::new());
    assert_eq!(changes(&|wanted| wanted.image = "x"), ["image is x, was tazpod:k8s"]);
    assert_eq!(
        changes(&|wanted| (wanted.ghosts, wanted.x11) = (Ghosts::Luks, false)),
        ["ghosts is luks, was fuse", "x11 is false, was true"]
    );
    assert_eq!(changes(&|wanted| wanted.memories = None), ["what it is granted"]);
    assert!(!spec.changes_since(Some("no JSON")).is_empty());
    assert!(!spec.changes_since(None).is_empty());
}

#[test]
fn the_profile_is_what_an_engine_can_read() {
    let profile: serde_json::Value = serde_json::from_str(SECCOMP).unwrap();
    assert_eq!(profile.get("defaultAction").unwrap(), "SCMP_ACT_ERRNO");
}
