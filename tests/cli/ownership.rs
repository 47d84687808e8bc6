//! What root makes on behalf of a user belongs to that user, and goes no further than the user could.

use super::Folder;

/// A user id that no account needs to have.
const USER: &str = "54321";

/// Runs a line as root.
fn by_root(folder: &Folder, line: &str) -> String {
    if folder.run("id -u") == "0\n" {
        return folder.run(line);
    }
    folder.run(&format!("sudo -n env PATH=\"$PATH\" HOME=\"$HOME\" sh -c '{line}'"))
}

/// Runs a line as root, as if sudo had recorded the user.
fn by_sudo(folder: &Folder, line: &str) -> String {
    by_root(folder, &format!("export SUDO_UID={USER} SUDO_GID={USER}; {line}"))
}

/// A home and project that belong to the user.
fn folder() -> Folder {
    let folder = Folder::new();
    assert_eq!(by_root(&folder, &format!("chmod 755 ..; chown -R {USER}:{USER} ..")), "");
    folder
}

#[test]
fn everything_below_the_project_and_the_state_folder_is_the_users() {
    let folder = folder();
    by_sudo(&folder, "echo one | tazpod vault create --kdf-memory 64M --kdf-time 1; tazpod init");
    let there =
        by_root(&folder, "ls .tazpod/config.yaml .tazpod/vault/vault.img .gemini/.gitignore");
    assert!(!there.contains("[2]"), "{there}");
    assert_eq!(by_root(&folder, "ls ../home/.local/state/tazpod/witnesses | wc -l"), "1\n");
    assert_eq!(by_root(&folder, &format!("find .. ! -uid {USER} -o ! -gid {USER}")), "");
    by_sudo(&folder, "tazpod reinit --yes");
    assert_eq!(by_root(&folder, "ls .tazpod/vault"), "");
}

#[test]
fn root_does_not_follow_where_the_user_could_not_go() {
    let folder = folder();
    let plant = "mkdir ../closed; chmod 700 ../closed; chown 0:0 ../closed
        echo keep > ../closed/config.yaml; ln -s ../closed .tazpod";
    assert_eq!(by_root(&folder, plant), "");
    let said =
        by_sudo(&folder, "tazpod init; echo one | tazpod vault create; tazpod reinit --yes; true");
    assert!(said.contains("error: "), "{said}");
    assert_eq!(
        by_root(&folder, "ls -A ../closed; cat ../closed/config.yaml"),
        "config.yaml\nkeep\n"
    );
    // Root on its own behalf does follow: the link is a trap that works.
    by_root(&folder, "tazpod init");
    assert_eq!(by_root(&folder, "ls -A ../closed"), ".gitignore\nconfig.yaml\n");
}
