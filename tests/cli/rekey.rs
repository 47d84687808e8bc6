//! A rekey that is killed: the vault opens as before or as asked, and the next try continues.

use super::Folder;
use harness::binary::tazpod;
use harness::image::{Image, PASSPHRASE, setup};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use vault_core::fs::OpenOptions;
use vault_core::fs::transfer::{Source, compare};
use vault_core::ids::VaultId;

const KILLS: u32 = 100;
const ROOMY: u64 = 16_384;

/// Opens the vault, holds its content against the original, and returns its id.
fn judge(path: &Path, original: &Source) -> VaultId {
    let vault = Image::at(path).peek();
    let found = Source::open(&setup(&vault), &OpenOptions::default()).unwrap();
    compare(original, &found, &mut |_| Ok(())).unwrap();
    vault.id()
}

fn rekey(folder: &Folder, image: &Path) -> Command {
    let mut command = folder.command(tazpod().to_str().unwrap());
    command.args(["-q", "vault", "rekey", "--passphrase-file", "p", "--image"]).arg(image);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

#[test]
fn rekey_killed_at_a_hundred_moments_leaves_the_old_or_the_new_vault() {
    let folder = Folder::new();
    let words = std::str::from_utf8(PASSPHRASE).unwrap();
    folder.run(&format!("umask 077; printf '{words}' > p"));
    let project: PathBuf = folder.dir.path().join("project");
    let (image, pristine) = (project.join("v.img"), project.join("pristine.img"));
    Image::accepted(&pristine, ROOMY).furnish();
    fs::copy(&pristine, &image).unwrap();
    let vault = Image::at(&pristine).peek();
    let original = Source::open(&setup(&vault), &OpenOptions::default()).unwrap();

    let start = Instant::now();
    let whole = rekey(&folder, &image).output().unwrap();
    assert!(whole.status.success(), "{}", String::from_utf8_lossy(&whole.stderr));
    // A loaded machine takes long over a whole one, and a kill early in it is as good.
    let longest = start.elapsed().min(Duration::from_secs(1));
    let mut id = judge(&image, &original);
    assert_ne!(id, vault.id());

    let (mut killed, mut renewed, mut continued) = (0, 0, 0);
    for moment in 0..KILLS {
        // Spread over the time that a whole one takes, in an order that is not monotonous.
        let part = (moment * 37 + 11) % KILLS;
        let mut child = rekey(&folder, &image).spawn().unwrap();
        let wait = longest.mul_f64(f64::from(part) / f64::from(KILLS));
        std::thread::sleep(wait.max(Duration::from_millis(5)));
        child.kill().unwrap();
        killed += u32::from(!child.wait().unwrap().success());
        let now = judge(&image, &original);
        renewed += u32::from(now != id);
        id = now;
        continued += u32::from(project.join("v.img.rekey").exists());
    }
    assert!(killed > KILLS / 20, "only {killed} were killed in time");
    assert!(continued > 0, "none left anything to continue");
    // Whatever was left is finished, and nothing stays.
    for _ in 0..2 {
        let last = rekey(&folder, &image).output().unwrap();
        assert!(last.status.success(), "{}", String::from_utf8_lossy(&last.stderr));
    }
    judge(&image, &original);
    let mut names: Vec<_> =
        fs::read_dir(&project).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["p", "pristine.img", "v.img"]);
    println!("{killed} killed, {renewed} renewed, {continued} to be continued");
}
