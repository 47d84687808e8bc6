//! The default path whole: privileged containers, luks vaults, and what those leave in the machine's kernel.
//!
//! Runs under `tests/docker/in-guest`, in a machine of its own that has the device mapper, one test after another:
//! each looks at all that the kernel has.

use super::fixture::{Host, PASSPHRASE, holds, image, settings, wait_until};
use super::ghosts::{self, SECRET, neighbour, open, open_in, pull, pull_in};
use harness::terminal::Terminal;
use std::fs;
use std::path::Path;

/// What the vault of the project `other` holds.
const OTHER_SECRET: &str = "other-canary-88f0";

/// Mapped devices, loop devices that have a file, and mounts of either in whatever namespace, as the kernel lists them.
fn devices_and_mounts() -> Vec<String> {
    let class = Path::new("/sys/class/block");
    let devices = fs::read_dir(class).unwrap().flatten().map(|entry| entry.path());
    let used = devices.filter(|path| path.join("dm").exists() || path.join("loop").exists());
    let mounted = harness::process::all().into_iter().flat_map(|pid| {
        // A process that has ended meanwhile has none.
        let table = fs::read_to_string(format!("/proc/{pid}/mounts")).unwrap_or_default();
        let ours = |line: &&str| {
            ["/dev/mapper/", "/dev/dm-", "/dev/loop"].iter().any(|start| line.starts_with(start))
        };
        table.lines().filter(ours).map(|line| format!("{pid}: {line}")).collect::<Vec<_>>()
    });
    used.map(|path| path.display().to_string()).chain(mounted).collect()
}

/// The mapped devices.
fn mapped() -> Vec<String> {
    let names = devices_and_mounts().into_iter();
    names.filter_map(|path| Some(path.strip_prefix("/sys/class/block/dm-")?.to_owned())).collect()
}

/// Waits until the kernel has nothing of any vault.
fn wait_for_nothing_left() {
    let mut left = Vec::new();
    let gone = harness::stage::within(harness::terminal::patience(), || {
        left = devices_and_mounts();
        left.is_empty()
    });
    assert!(gone, "{left:#?}");
}

/// Whether a mapped device of the machine, read by its root, holds these bytes.
fn on_a_mapped_device(what: &str) -> bool {
    mapped().iter().any(|number| holds(&fs::read(format!("/dev/dm-{number}")).unwrap(), what))
}

/// A person in front of a fresh project: nothing is chosen, and the passphrase is typed.
#[test]
fn init_up_enter_pull_exit_and_down() {
    let host = Host::without_image();
    host.configure(&format!("image: {}\n", image()));
    let words = "tazpod init base && tazpod up && tazpod enter; echo status=$?";
    let mut terminal = Terminal::run(host.command("script"), words);
    terminal.wait_for("(luks: privileged)");
    terminal.press_until("echo in=$(hostname)$(pwd)\n", "/workspace");
    let new = "tazpod pull --size 48M --kdf-memory 64M --kdf-time 1; echo pull=$?\n";
    terminal.press(new);
    terminal.wait_for("(luks). Passphrase: ");
    terminal.press(&format!("{PASSPHRASE}\n"));
    terminal.wait_for("Repeat: ");
    terminal.press(&format!("{PASSPHRASE}\n"));
    terminal.press_until(
        &format!("echo {SECRET} >~/secrets/file && sync && echo wri''tten\n"),
        "written",
    );
    assert!(!terminal.seen().contains(PASSPHRASE));

    assert_eq!(host.inspect(&host.name(), "{{.HostConfig.Privileged}}"), "true");
    assert_eq!(mapped().len(), 1, "{:?}", devices_and_mounts());
    assert!(on_a_mapped_device(SECRET), "what the neighbour must not see is not there to be seen");
    let seen = neighbour(&host, ".");
    assert!(!holds(&seen, SECRET) && !holds(&seen, PASSPHRASE));

    terminal.press("exit\n");
    terminal.wait_for("pull=0");
    wait_for_nothing_left();
    terminal.press("exit\n");
    let (shown, _) = terminal.end();
    assert!(shown.trim_end().ends_with("status=0"), "{shown:?}");
    let image = fs::read(host.project().join(".tazpod/vault/vault.img")).unwrap();
    assert!(image.starts_with(b"LUKS\xba\xbe") && !holds(&image, SECRET));

    host.write("Lab 1/passphrase", PASSPHRASE);
    assert_eq!(pull(&host, "cat ~/secrets/file").stdout, format!("{SECRET}\n").as_bytes());
    wait_for_nothing_left();
    assert!(host.says(&["down"]).starts_with("removed "));
    assert_eq!(host.inspect(&host.name(), "{{.Id}}"), "");
}

#[test]
fn a_plain_ghost_is_seen_by_the_same_neighbour() {
    let host = ghosts::host();
    // As everybody makes them: a private mount namespace, and nothing else.
    let line = format!(
        "set -e; export DM_DISABLE_UDEV=1; cd /tmp; truncate -s 32M plain.img
         echo word | cryptsetup luksFormat --batch-mode --pbkdf pbkdf2 --pbkdf-force-iterations 1000 plain.img
         echo word | cryptsetup open plain.img plain; mkfs.ext4 -q /dev/mapper/plain
         unshare --mount sh -ec 'mount /dev/mapper/plain /home/tazpod/secrets; echo {SECRET} >/home/tazpod/secrets/file
           chown -R tazpod /home/tazpod/secrets; setsid -f setpriv --reuid tazpod --regid tazpod --clear-groups sleep 72010'"
    );
    host.docker(&["exec", "--user", "root", &host.name(), "sh", "-c", &line]);
    wait_until("it runs", || host.programs().contains("sleep 72010"));
    assert!(holds(&neighbour(&host, "."), SECRET));
    assert!(!devices_and_mounts().is_empty());
    host.docker(&["exec", "--user", "root", &host.name(), "pkill", "-x", "-f", "sleep 72010"]);
    wait_until("it is unmounted", || {
        !devices_and_mounts().iter().any(|line| line.contains("ext4"))
    });
    host.docker(&[
        "exec",
        "--env",
        "DM_DISABLE_UDEV=1",
        "--user",
        "root",
        &host.name(),
        "cryptsetup",
        "close",
        "plain",
    ]);
    wait_for_nothing_left();
}

#[test]
fn two_projects_are_open_at_once_and_neither_touches_the_other() {
    let host = ghosts::host();
    let mut first = open(&host);
    host.configure_other();
    host.write("other/passphrase", PASSPHRASE);
    // Its container is made while the devices of the first one's vault are there.
    host.says(&["-C", "../other", "up"]);
    let line =
        format!("ls -A ~/secrets; echo {OTHER_SECRET} >~/secrets/file; sync; cat ~/secrets/file");
    let made = pull_in(&host, "../other", &line);
    let text = String::from_utf8_lossy(&made.stdout);
    assert!(text.ends_with(&format!("{OTHER_SECRET}\n")) && !text.contains(SECRET), "{made:?}");
    let mut second = open_in(&host, "../other", OTHER_SECRET);

    assert_eq!(mapped().len(), 2, "{:?}", devices_and_mounts());
    assert!(on_a_mapped_device(SECRET) && on_a_mapped_device(OTHER_SECRET));
    for folder in [".", "../other"] {
        let seen = neighbour(&host, folder);
        assert!(!holds(&seen, SECRET) && !holds(&seen, OTHER_SECRET), "seen from {folder}");
    }
    second.press("exit\n");
    assert!(second.end().0.contains("status=0"));
    wait_until("one is closed", || mapped().len() == 1);
    host.says(&["-C", "../other", "down"]);
    first.press("echo still=$(cat ~/secrets/file)\n");
    first.wait_for(&format!("still={SECRET}"));
    first.press("exit\n");
    assert!(first.end().0.contains("status=0"));
    wait_for_nothing_left();
}

/// A node of the disk that the machine runs from, made and read by root in the container.
const READ_THE_DISK: &str = "rm -f /tmp/disk; mknod /tmp/disk b $(tr : ' ' </sys/class/block/vda/dev) && head -c 1 /tmp/disk | wc -c";

#[test]
fn without_privileged_a_vault_opens_and_the_machines_disk_stays_out_of_reach() {
    let host = Host::new();
    let root = ["enter", "--root", "--", "sh", "-c", READ_THE_DISK];
    assert!(host.says(&["up"]).contains("(luks: privileged)"));
    // What `privileged` is, and what the rest is to be without.
    assert_eq!(host.says(&root), "1\n");
    host.configure(&format!("{}container:\n  privileged: false\n", settings()));
    host.says(&["up", "--recreate"]);
    let grants =
        "{{.HostConfig.Privileged}} {{.HostConfig.CapAdd}} {{.HostConfig.DeviceCgroupRules}}";
    let granted = host.inspect(&host.name(), grants);
    let mapper = fs::read_to_string("/proc/devices").unwrap();
    let mapper =
        mapper.lines().find_map(|line| line.strip_suffix(" device-mapper")).unwrap().trim();
    let rules = format!("[b 7:* rwm b {mapper}:* rwm]");
    assert!(granted.starts_with("false ") && granted.ends_with(&rules), "{granted}");
    assert_eq!(
        granted.matches("SYS_ADMIN").count() + granted.matches("MKNOD").count(),
        2,
        "{granted}"
    );
    let refused = host.tazpod(&root);
    assert!(holds(&refused.stderr, "Operation not permitted"), "{refused:?}");

    host.write("Lab 1/passphrase", PASSPHRASE);
    let made = pull(&host, &format!("echo {SECRET} >~/secrets/file; sync; cat ~/secrets/file"));
    assert_eq!(made.stdout, format!("{SECRET}\n").as_bytes(), "{made:?}");
    wait_for_nothing_left();
    let mut terminal = open(&host);
    assert!(on_a_mapped_device(SECRET));
    assert!(!holds(&neighbour(&host, "."), SECRET));
    terminal.press("exit\n");
    assert!(terminal.end().0.contains("status=0"));
    wait_for_nothing_left();
}

#[test]
fn a_container_killed_under_a_ghost_leaves_nothing_in_the_kernel() {
    let host = ghosts::host();
    let terminal = open(&host);
    assert_eq!(mapped().len(), 1, "{:?}", devices_and_mounts());
    host.docker(&["kill", &host.name()]);
    terminal.end();
    wait_for_nothing_left();
    wait_until("it has stopped", || host.inspect(&host.name(), "{{.State.Running}}") == "false");
    let doctor = host.tazpod(&["doctor"]);
    assert!(!holds(&doctor.stdout, "leftovers"), "{doctor:?}");
    host.says(&["up"]);
    let output = pull(&host, "cat ~/secrets/file");
    assert_eq!(output.stdout, format!("{SECRET}\n").as_bytes(), "{output:?}");
    wait_for_nothing_left();
}
