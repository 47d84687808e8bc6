//! Repairing, salvaging and resizing, killed at many moments or out of room: the vault opens as before
//! or as asked, and the next try gets there.

use super::Folder;
use harness::binary::tazpod;
use harness::image::{Image, PASSPHRASE, setup};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use vault_core::check::{Depth, check};
use vault_core::diff::diff;
use vault_core::fs::{OpenOptions, Volume};

/// Moments at which each command is killed.
const KILLS: u32 = 25;
/// Units that the vaults here may grow to.
const ROOMY: u64 = 16_384;
/// The file that is damaged.
const HURT: &str = "hurt";

struct Scene {
    folder: Folder,
}

impl Scene {
    fn new() -> Self {
        let folder = Folder::new();
        let words = std::str::from_utf8(PASSPHRASE).unwrap();
        folder.run(&format!("umask 077; printf '{words}' > p"));
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.dir.path().join("project").join(name)
    }

    /// A vault with many files, and one of them damaged; the same before the damage is `sound.img`.
    fn damaged(&self) -> PathBuf {
        let image = Image::accepted(&self.path("before.img"), ROOMY);
        image.furnish();
        fs::copy(image.path(), self.path("sound.img")).unwrap();
        Image::at(&self.path("sound.img")).put(HURT, &vec![7; 300_000]);
        fs::copy(self.path("sound.img"), self.path("damaged.img")).unwrap();
        assert_eq!(self.folder.run("damage-newest before.img damaged.img"), "");
        self.path("damaged.img")
    }

    /// `tazpod vault VERB` on an image, with the passphrase.
    fn verb(&self, words: &[&str], image: &Path) -> Command {
        let mut command = self.folder.command(tazpod().to_str().unwrap());
        command.args(["-q", "vault"]).args(words).args(["--passphrase-file", "p", "--image"]);
        command.arg(image).stdout(Stdio::null()).stderr(Stdio::piped()).stdin(Stdio::null());
        command
    }

    /// Lets this machine forget what it has seen, so that an older image can be put back.
    fn forget(&self) {
        let _ = fs::remove_dir_all(self.folder.dir.path().join("home/.local"));
    }
}

/// Starts what `command` makes again and again and kills it at moments spread over the time that it
/// takes; `prepare` is called before each, `judge` after each. Returns how many were killed in time.
fn kill(command: impl Fn() -> Command, mut prepare: impl FnMut(), mut judge: impl FnMut()) -> u32 {
    prepare();
    let start = Instant::now();
    command().output().unwrap();
    // A loaded machine takes long over a whole one, and a kill early in it is as good.
    let longest = start.elapsed().min(Duration::from_secs(1));
    judge();
    let mut killed = 0;
    for moment in 0..KILLS {
        prepare();
        let part = (moment * 37 + 11) % KILLS;
        let mut child = command().spawn().unwrap();
        std::thread::sleep(longest.mul_f64(f64::from(part) / f64::from(KILLS)));
        child.kill().unwrap();
        killed += u32::from(child.wait().unwrap().code().is_none());
        judge();
    }
    killed
}

/// Opens the newest state of an image, which must be clean throughout.
fn clean(path: &Path) -> Volume {
    let vault = Image::at(path).peek();
    let setup = setup(&vault);
    let options = OpenOptions { read_only: true, ..OpenOptions::default() };
    let report = check(&setup, &options, Depth::Everything, &mut |_| Ok(())).unwrap();
    assert!(report.is_clean(), "{:?}", report.findings);
    Volume::open(&setup, &options).unwrap().0
}

/// The paths by which two states differ.
fn differing(before: &Volume, after: &Volume) -> Vec<String> {
    let mut found = Vec::new();
    diff(before, after, &mut |one| found.push(String::from_utf8_lossy(&one.path).into_owned()))
        .unwrap();
    found
}

/// Asserts that what was saved out of the damaged image is everything but the damaged file.
fn assert_saved(sound: &Volume, path: &Path) {
    for path in differing(sound, &clean(path)) {
        assert!(path == HURT || path.starts_with("lost+found/"), "{path} is not as it was");
    }
}

#[test]
fn repair_killed_at_many_moments_leaves_the_damaged_or_the_mended_vault() {
    let scene = Scene::new();
    let damaged = fs::read(scene.damaged()).unwrap();
    let (sound, image) = (clean(&scene.path("sound.img")), scene.path("v.img"));
    let (mut mended, mut untouched) = (0, 0);
    let command = || scene.verb(&["check", "--repair", "--yes"], &image);
    let prepare = || {
        scene.forget();
        fs::write(&image, &damaged).unwrap();
    };
    let judge = || {
        if fs::read(&image).unwrap() == damaged {
            untouched += 1;
        } else {
            assert_saved(&sound, &image);
            mended += 1;
        }
    };
    let killed = kill(command, prepare, judge);
    assert!(killed > 0 && untouched > 0 && mended > 0, "{killed}, {untouched}, {mended}");
    // Whatever the last one left is cleared away by the next.
    scene.forget();
    fs::write(&image, &damaged).unwrap();
    assert_eq!(command().output().unwrap().status.code(), Some(1));
    assert_saved(&sound, &image);
    assert!(!scene.path("v.img.repair").exists());
}

#[test]
fn salvage_killed_at_many_moments_makes_a_whole_vault_or_none() {
    let scene = Scene::new();
    let image = scene.damaged();
    let damaged = fs::read(&image).unwrap();
    let (sound, taken) = (clean(&scene.path("sound.img")), scene.path("taken.img"));
    let (mut whole, mut none) = (0, 0);
    let command = || scene.verb(&["salvage", "taken.img"], &image);
    let prepare = || {
        let _ = fs::remove_file(&taken);
    };
    let judge = || {
        assert!(fs::read(&image).unwrap() == damaged, "the damaged image was changed");
        if taken.exists() {
            assert_saved(&sound, &taken);
            whole += 1;
        } else {
            none += 1;
        }
    };
    let killed = kill(command, prepare, judge);
    assert!(killed > 0 && none > 0 && whole > 0, "{killed}, {none}, {whole}");
    let _ = fs::remove_file(&taken);
    assert_eq!(command().output().unwrap().status.code(), Some(2));
    assert_saved(&sound, &taken);
    assert!(!scene.path("taken.img.salvage").exists());
}

/// Shrinking has to move what lies at the end: the files were written behind one that is gone.
#[test]
fn resize_and_compact_killed_at_many_moments_lose_nothing() {
    let scene = Scene::new();
    let pristine = Image::accepted(&scene.path("pristine.img"), ROOMY);
    pristine.put("first", &vec![1; 24 << 20]);
    pristine.furnish();
    pristine.remove("first");
    let before = fs::read(pristine.path()).unwrap();
    let (original, image) = (clean(pristine.path()), scene.path("v.img"));
    for words in [&["resize", "24M"][..], &["compact"]] {
        let command = || scene.verb(words, &image);
        let prepare = || {
            scene.forget();
            fs::write(&image, &before).unwrap();
        };
        let killed = kill(command, prepare, || {
            assert_eq!(differing(&original, &clean(&image)), [""; 0], "{words:?}");
        });
        assert!(killed > 0, "{words:?}: none was killed in time");
        // The same command goes on where the killed one ended.
        let last = command().output().unwrap();
        assert!(last.status.success(), "{}", String::from_utf8_lossy(&last.stderr));
        let len = image.metadata().unwrap().len();
        assert!(len <= 24 << 20, "{words:?}: {len}");
        assert_eq!(differing(&original, &clean(&image)), [""; 0], "{words:?}");
    }
}

/// A disk of its own with room for the vault and not for another: everything that makes a second image
/// says so and leaves the first as it was.
#[test]
fn full_disk_ends_what_makes_a_second_image_and_changes_nothing() {
    let scene = Scene::new();
    scene.damaged();
    let run = |verb: &str, image: &str, ballast: &str| {
        scene.forget();
        scene.folder.run(&format!(
            "mkdir -p disk && unshare --mount sh -c 'mount -t tmpfs -o size=96M none disk &&
             cp {image} disk/v.img && cp p disk/ && cd disk && {ballast} &&
             {{ tazpod -q vault {verb} --image v.img --passphrase-file p; echo status=$?; }} &&
             {{ cmp ../{image} v.img && echo unchanged; }}; ls'"
        ))
    };
    // All but 1500 KiB, which the content alone does not fit into.
    let ballast = "fallocate -l $(($(df --output=avail -k . | tail -n 1) - 1500))K .ballast";
    for (verb, image, done) in [
        ("rekey", "sound.img", "status=0"),
        ("check --repair --yes", "damaged.img", "status=1"),
        ("salvage taken.img", "damaged.img", "status=2"),
    ] {
        let full = run(verb, image, ballast);
        assert!(full.contains("there is no space left for"), "{verb}: {full}");
        assert!(full.contains("free space on the disk"), "{verb}: {full}");
        assert!(full.contains("status=69"), "{verb}: {full}");
        // Nothing was copied yet: of what was begun there is nothing to go on with.
        assert!(full.ends_with("unchanged\np\nv.img\n"), "{verb}: {full}");
        // With room it works, so it was the disk.
        let roomy = run(verb, image, "true");
        assert!(roomy.contains(done), "{verb}: {roomy}");
    }
}

/// On a disk without any room a keyslot is not changed, and who is told so finds what opened the vault opening it still.
#[test]
fn full_disk_leaves_the_keyslots_as_they_are() {
    let scene = Scene::new();
    Image::accepted(&scene.path("sound.img"), ROOMY).furnish();
    let run = |verb: &str, ballast: &str| {
        scene.forget();
        scene.folder.run(&format!(
            "umask 077; echo two > p2; mkdir -p disk && unshare --mount sh -c 'mount -t tmpfs -o size=96M none disk &&
             cp --sparse=always sound.img disk/v.img && cp p p2 disk/ && cd disk && {{ {ballast}; }};
             tazpod -q vault {verb} --image v.img --passphrase-file p; echo status=$?;
             tazpod vault slot test --image v.img --passphrase-file p;
             tazpod vault slot test --image v.img --passphrase-file p2; true'"
        ))
    };
    let cheap = "--kdf-memory 64M --kdf-time 1";
    for (verb, old, new) in [
        (format!("passwd --new-passphrase-file p2 {cheap}"), false, true),
        (format!("slot add --new-passphrase-file p2 {cheap}"), true, true),
    ] {
        let (first, second) = ("keyslot 0 of v.img opens", "no keyslot of");
        // The copy has no reserve: its holes were never filled.
        let full = run(&verb, "dd if=/dev/zero of=ballast bs=4k status=none");
        assert!(
            full.contains("there is no space left for") && full.contains("status=69"),
            "{full}"
        );
        assert!(full.contains(first) && full.contains(second), "{verb}: {full}");
        let roomy = run(&verb, "true");
        assert!(roomy.contains("status=0"), "{verb}: {roomy}");
        let opens = |slot: &str| roomy.matches(&format!("keyslot {slot} of v.img opens")).count();
        assert_eq!(opens("0") + opens("1"), usize::from(old) + usize::from(new), "{verb}: {roomy}");
    }
}

/// Whatever only reads works on a read-only file system; the rest says why it does not.
#[test]
fn read_only_file_system_lets_read_and_refuses_the_rest() {
    let scene = Scene::new();
    Image::accepted(&scene.path("v.img"), ROOMY).furnish();
    let before = fs::read(scene.path("v.img")).unwrap();
    let run = |verb: &str| {
        let verb = verb.replace("WITH", "--image v.img --passphrase-file p");
        scene.folder.run(&format!(
            "unshare --mount sh -c 'mount --bind . . && mount -o remount,bind,ro . && cd \"$PWD\" &&
             tazpod -q vault {verb}'"
        ))
    };
    for verb in ["info --open WITH", "check WITH", "slot test WITH", "export - WITH | tar -tf -"] {
        let said = run(verb);
        assert!(!said.contains("error") && !said.contains("\n["), "{verb}: {said}");
    }
    for verb in
        ["kdf --kdf-memory 65M WITH", "resize 100M WITH", "compact WITH", "rekey --yes WITH"]
    {
        let said = run(verb);
        assert!(said.contains("error") && said.contains("ead-only"), "{verb}: {said}");
    }
    assert!(fs::read(scene.path("v.img")).unwrap() == before);
    assert_eq!(scene.folder.run("ls"), "p\nv.img\n");
}
