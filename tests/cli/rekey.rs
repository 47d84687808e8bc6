//! A rekey that is killed: the vault opens as before or as asked, and the next try continues.

use super::Folder;
use harness::binary::tazpod;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use vault_core::crypto::kdf::{HeapMemory, KdfCost, KdfLimits};
use vault_core::crypto::secret::Passphrase;
use vault_core::device::{Access, BlockDevice, FileDevice};
use vault_core::fs::transfer::{Source, compare};
use vault_core::fs::{Creator, FileKind, NewFile, OpenOptions, Setup, Volume, WriteOrigin};
use vault_core::ids::{InodeNo, VaultId};
use vault_core::keyslot::{Credential, NewSlot, SlotPorts};
use vault_core::ports::{SystemClock, SystemEntropy};
use vault_core::vault::{UnlockOptions, Unlocked, Vault};

const KILLS: u32 = 100;
const ROOMY: u64 = 16_384;

fn credential() -> Credential {
    Credential::Passphrase(Passphrase::new(b"one".to_vec()))
}

fn setup(vault: &Vault<Unlocked>) -> Setup {
    Setup {
        device: Arc::clone(vault.device()),
        keys: Arc::clone(vault.subkeys()),
        vault: vault.id(),
        block_shift: vault.header().block_shift,
        header_sequence: vault.header().sequence,
        entropy: Arc::new(SystemEntropy),
        clock: Arc::new(SystemClock),
    }
}

/// Makes a vault with many files, at the least cost that the program accepts.
fn make(path: &Path) {
    let device: Arc<dyn BlockDevice> = Arc::new(FileDevice::create_new(path).unwrap());
    let credential = credential();
    let cost = KdfCost { memory_kib: 64 << 10, passes: 1, lanes: 1 };
    let slot = NewSlot { cost, ..NewSlot::new(&credential) };
    let mut vault =
        SlotPorts::with_system(|ports| Vault::create_header(device, 14, &slot, ports)).unwrap();
    Volume::format(&setup(&vault), ROOMY, (0, 0)).unwrap();
    vault.mend_copies().unwrap();
    let volume = Volume::open(&setup(&vault), &OpenOptions::default()).unwrap().0;
    let creator = Creator { uid: 0, gid: 0, umask: 0 };
    let new = NewFile { kind: FileKind::Regular, permissions: 0o600, device: 0 };
    for folder in 0..20_u8 {
        let name = [b'd', b'A' + folder];
        let at = volume.make_dir(InodeNo::ROOT, &name, 0o755, &creator).unwrap().inode;
        for file in 0..40_u8 {
            let len = [3, 900, 3000, 20_000][usize::from(file % 4)];
            let inode = volume.create(at, &[b'f', b'A' + file], &new, &creator).unwrap().inode;
            volume.write(inode, 0, &vec![folder | 1; len], WriteOrigin::Direct, false).unwrap();
        }
    }
    volume.close().unwrap();
}

fn unlock(path: &Path) -> Vault<Unlocked> {
    let device = FileDevice::open(path, Access::ReadOnly).unwrap();
    let vault = Vault::open(Arc::new(device)).unwrap();
    let options = UnlockOptions { slot: None, limits: KdfLimits::default() };
    vault.unlock(&credential(), &options, &mut HeapMemory).unwrap()
}

/// Opens the vault, holds its content against the original, and returns its id.
fn judge(path: &Path, original: &Source) -> VaultId {
    let vault = unlock(path);
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
    folder.run("umask 077; printf one > p");
    let project: PathBuf = folder.dir.path().join("project");
    let (image, pristine) = (project.join("v.img"), project.join("pristine.img"));
    make(&pristine);
    fs::copy(&pristine, &image).unwrap();
    let vault = unlock(&pristine);
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
