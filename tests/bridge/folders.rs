//! Folders of the home folder that live in the vault.
#![allow(clippy::unwrap_used)]

use crate::ghost::{Project, User, finish, kill, wait_until};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Output;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn home(project: &Project, path: &str) -> PathBuf {
    project.path().join("home").join(path)
}

fn write(path: &Path, content: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    text(&output.stdout)
}

/// Every file below a folder, by content.
fn files(folder: &Path) -> BTreeMap<String, PathBuf> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else {
                found.insert(fs::read_to_string(entry.path()).unwrap(), entry.path());
            }
        }
    }
    found
}

#[test]
fn a_session_survives_restarts_and_is_seen_in_ghosts_alone() {
    let project = Project::with_vault();
    let line = "echo session > ~/.infisical/infisical-config.json
        echo key > ~/infisical-keyring/me; cat ~/secrets/.infisical-vault/*.json";
    assert_eq!(succeeded(&project.run(line)), "session\n");
    project.assert_nothing_left();
    for name in [".infisical", "infisical-keyring"] {
        assert!(!home(&project, name).exists(), "{name}");
    }
    let again = project.run("cat ~/.infisical/infisical-config.json ~/infisical-keyring/me");
    assert_eq!(succeeded(&again), "session\nkey\n");
}

/// Places that were made for a ghost go with the last one, also after a kill; what a user made stays.
#[test]
fn places_that_a_ghost_made_go_with_the_last_one_and_those_of_the_user_stay() {
    let project = Project::with_vault();
    let [session, keyring] = [".infisical", "infisical-keyring"].map(|name| home(&project, name));
    assert!(!session.exists() && !keyring.exists());
    // One that the user has, empty as it is, and one that the ghost makes.
    fs::create_dir(&session).unwrap();
    let made = fs::metadata(&session).unwrap().ino();
    assert!(project.run("ls -d ~/.infisical ~/infisical-keyring").status.success());
    assert_eq!(fs::metadata(&session).unwrap().ino(), made);
    assert!(!keyring.exists());

    // After a kill of everything, by the next ghost; and what was put there meanwhile stays.
    for is_used in [false, true] {
        let mut child = project.start("sleep 100");
        assert!(keyring.exists());
        for pid in project.processes() {
            kill(pid, "KILL");
        }
        child.wait().unwrap();
        wait_until("its processes are gone", || project.processes().is_empty());
        if is_used {
            // Held by the dead ghost's placeholder until the next one sweeps.
            let lines = "umount \"$0\"; echo mine > \"$0\"/mine";
            let put = project.command("sh", &["-c", lines, keyring.to_str().unwrap()]).status();
            assert!(put.unwrap().success());
        }
        assert!(project.run("true").status.success());
        assert_eq!(keyring.exists(), is_used, "moved into the vault, but the folder is the user's");
    }
    assert!(session.exists());
}

/// Two ghosts of one home stand on the same places: the first one's end takes nothing from the second.
#[test]
fn places_stay_for_as_long_as_any_ghost_of_the_user_lives() {
    let first = Project::with_vault();
    let second = first.another();
    assert!(second.run("true").status.success());
    let keyring = home(&first, "infisical-keyring");
    assert!(!keyring.exists());
    // The project is what both sides of a ghost see.
    let waiting = "until [ -e go ]; do sleep 0.05; done; ls ~/infisical-keyring";
    let end = |project: &Project| write(&project.path().join("project/go"), "");
    let one = first.start(waiting);
    let other = second.start(waiting);
    end(&first);
    assert!(finish(one).status.success());
    assert!(keyring.exists());
    // Long enough to be noticed by one whose mount point is gone.
    std::thread::sleep(std::time::Duration::from_secs(2));
    end(&second);
    let ended = finish(other);
    assert!(ended.status.success(), "{ended:?}");
    assert!(!keyring.exists());
}

#[test]
fn what_lay_in_the_clear_is_moved_into_the_vault_and_stays_the_users() {
    let user = User::new("bridge");
    let project = Project::of(&user);
    let names = [".infisical/infisical-config.json", ".infisical/deep/er/x", "infisical-keyring/k"];
    for name in names {
        write(&home(&project, name), name);
    }
    for entry in files(&project.path().join("home")).values() {
        for path in entry.ancestors().take_while(|path| *path != project.path()) {
            chown(path, Some(user.uid), Some(user.uid)).unwrap();
        }
    }
    let line = "cd; cat .infisical/infisical-config.json .infisical/deep/er/x infisical-keyring/k
        find ~/secrets ! -user $(id -u) | wc -l; stat -c %a ~/secrets/.infisical-vault";
    let output = project.run(line);
    assert!(text(&output.stderr).contains("Moved 2 files from"), "{output:?}");
    assert_eq!(succeeded(&output), format!("{}0\n700\n", names.concat()));
    project.assert_nothing_left();
    assert_eq!(files(&home(&project, ".infisical")), BTreeMap::new());
    assert_eq!(files(&home(&project, "infisical-keyring")), BTreeMap::new());
    assert_eq!(fs::metadata(home(&project, ".infisical")).unwrap().uid(), user.uid);
    let quiet = project.run("true");
    assert!(!text(&quiet.stderr).contains("Moved"), "once is enough: {quiet:?}");
}

#[test]
fn a_login_made_outside_meanwhile_overwrites_nothing_in_the_vault() {
    let project = Project::with_vault();
    succeeded(&project.run("echo inside > ~/.infisical/infisical-config.json"));
    write(&home(&project, ".infisical/infisical-config.json"), "outside\n");
    let output = project.run("cd ~/.infisical; cat infisical-config.json *.outside; ls -A | wc -l");
    assert!(text(&output.stderr).contains("another 'infisical-config.json'"), "{output:?}");
    assert_eq!(succeeded(&output), "inside\noutside\n2\n");
    assert_eq!(files(&home(&project, ".infisical")), BTreeMap::new());
}

#[test]
fn sessions_under_the_names_of_the_older_program_are_taken_over() {
    let project = Project::with_vault();
    // As root left them there, and before anything of ours.
    let old =
        "cd ~/secrets && rm -r .infisical-vault && mkdir .infisical-storage .auth-infisical &&
        echo a > .infisical-storage/infisical-config.json && echo b > .auth-infisical/other";
    succeeded(&project.run(old));
    let output = project.run("cat ~/.infisical/*; ls -A ~/secrets");
    assert!(
        text(&output.stderr).contains("from .infisical-storage, .auth-infisical"),
        "{output:?}"
    );
    assert_eq!(succeeded(&output), "a\nb\n.infisical-keyring\n.infisical-vault\nkept\n");
}

#[test]
fn memories_are_bridged_only_where_the_configuration_says_so() {
    let project = Project::with_vault();
    write(&home(&project, ".gemini/memory"), "remembered\n");
    let line = "cat ~/.gemini/memory; ls -A ~/secrets | grep -c gemini";
    assert_eq!(text(&project.run(line).stdout), "remembered\n0\n");
    assert!(home(&project, ".gemini/memory").exists());
    write(&project.path().join("project/.tazpod/config.yaml"), "gemini: vault\n");
    assert_eq!(succeeded(&project.run(line)), "remembered\n1\n");
    assert!(!home(&project, ".gemini/memory").exists());
}

#[test]
fn a_private_home_has_the_bridges_too() {
    let project = Project::with_vault();
    write(&project.path().join("project/.tazpod/config.yaml"), "ghost:\n  home: private\n");
    succeeded(&project.run("echo session > ~/.infisical/x; echo key > ~/infisical-keyring/y"));
    let line = "cat ~/secrets/.infisical-vault/x ~/secrets/.infisical-keyring/y";
    assert_eq!(succeeded(&project.run(line)), "session\nkey\n");
}

/// The attack: whoever moves the folder away takes the mount along, and what the ghost writes to the
/// path afterwards lies in the clear. It works on a folder that nothing holds.
#[test]
fn a_bridge_cannot_be_moved_away_or_written_beside() {
    let project = Project::with_vault();
    for name in [".infisical", "infisical-keyring"] {
        let (at, away) = (home(&project, name), home(&project, "away"));
        fs::create_dir(&at).unwrap();
        fs::rename(&at, &away).unwrap();
        fs::rename(&away, &at).unwrap();
        fs::write(at.join("free"), "").unwrap();
        fs::remove_file(at.join("free")).unwrap();
    }
    let child = project.start("sleep 100");
    for name in [".infisical", "infisical-keyring"] {
        let (at, away) = (home(&project, name), home(&project, "away"));
        assert!(fs::rename(&at, &away).is_err(), "{name} was moved");
        assert!(fs::remove_dir(&at).is_err(), "{name} was removed");
        fs::create_dir(&away).unwrap();
        assert!(fs::rename(&away, &at).is_err(), "{name} was replaced");
        fs::remove_dir(&away).unwrap();
        assert!(fs::write(at.join("plain"), "text").is_err(), "{name} was written to");
        assert_eq!(fs::read_dir(&at).unwrap().count(), 0);
    }
    kill(i32::try_from(child.id()).unwrap(), "TERM");
    finish(child);
    project.assert_nothing_left();
    fs::rename(home(&project, ".infisical"), home(&project, "away")).unwrap();
}

#[test]
fn a_link_in_place_of_a_bridge_is_not_followed() {
    let project = Project::with_vault();
    let elsewhere = home(&project, "elsewhere");
    write(&elsewhere.join("file"), "mine");
    symlink(&elsewhere, home(&project, ".infisical")).unwrap();
    let output = project.run("true");
    assert_eq!(output.status.code(), Some(69), "{output:?}");
    assert!(text(&output.stderr).contains("/.infisical'"), "{output:?}");
    assert_eq!(fs::read_to_string(elsewhere.join("file")).unwrap(), "mine");
    project.assert_nothing_left();
}

#[test]
fn a_folder_of_the_vault_that_is_a_link_is_not_followed() {
    let project = Project::with_vault();
    let line = format!(
        "cd ~/secrets; rmdir .infisical-vault; ln -s {} .infisical-vault",
        home(&project, "elsewhere").display()
    );
    fs::create_dir(home(&project, "elsewhere")).unwrap();
    // The line changes the vault of a ghost whose bridges stand already.
    succeeded(&project.run(&line));
    write(&home(&project, ".infisical/token"), "secret");
    let output = project.run("true");
    assert_eq!(output.status.code(), Some(69), "{output:?}");
    assert_eq!(fs::read_dir(home(&project, "elsewhere")).unwrap().count(), 0);
    assert_eq!(fs::read_to_string(home(&project, ".infisical/token")).unwrap(), "secret");
    project.assert_nothing_left();
}

/// Kills everything of a ghost while it moves files, again and again, and then lets it finish.
#[test]
fn kill_at_any_moment_of_a_migration_loses_nothing() {
    let project = Project::with_vault();
    let plain = home(&project, ".infisical");
    let contents: Vec<String> =
        (0..200).map(|number| format!("{number} {}", "x".repeat(number * 37))).collect();
    for (number, content) in contents.iter().enumerate() {
        write(&plain.join(format!("folder{}/file{number}", number % 7)), content);
    }
    let mut partly = 0;
    for delay in 0..12 {
        let child = project.pull("sleep 100").spawn().unwrap();
        // From before the first copy to the middle of the removals: the copying takes long enough.
        wait_until("the vault is in use", || {
            project.path().join("project/.tazpod/vault/vault.img.in-use").exists()
        });
        std::thread::sleep(std::time::Duration::from_millis(delay * 25));
        for pid in project.processes() {
            kill(pid, "KILL");
        }
        finish(child);
        wait_until("its processes are gone", || project.processes().is_empty());
        let left = files(&plain).len();
        partly += usize::from(left > 0 && left < contents.len());
        // Whatever is still outside is whole.
        for content in files(&plain).keys() {
            assert!(contents.contains(content), "a torn file: {content:.40}");
        }
    }
    println!("killed between the first and the last removal: {partly} times");
    let output = project.run("cd ~/.infisical; find . -type f -exec sha256sum {} + | sort -k2");
    let moved = succeeded(&output);
    for (number, content) in contents.iter().enumerate() {
        let line = format!("{}  ./folder{}/file{number}", sha256(content), number % 7);
        assert!(moved.lines().any(|there| there == line), "lost: file{number}");
    }
    assert_eq!(moved.lines().count(), contents.len(), "{moved}");
    assert_eq!(files(&plain), BTreeMap::new());
    project.assert_nothing_left();
}

fn sha256(content: &str) -> String {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(content.as_bytes());
    digest.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}
