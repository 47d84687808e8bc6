//! Archives for chosen people: the age program reads ours, we read its, and nobody else's eyes or hands pass.

use crate::vault::{Place, assert_ok, said};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Output;

/// A vault with content, and the identities of two people.
fn started() -> Place {
    let place = Place::new();
    place.vault("v");
    place.furnished("in");
    place.sh("head -c 300000 /dev/urandom >in/noise; echo canary-in-the-archive >in/canary");
    assert_ok(&place.vault_verb("v", "import", &["--keep-owners", "in"]));
    for name in ["ours", "theirs", "strangers"] {
        place.sh(&format!("age-keygen -o {name} 2>/dev/null; age-keygen -y {name} >{name}.pub"));
    }
    place
}

fn recipient(place: &Place, name: &str) -> String {
    fs::read_to_string(place.path(&format!("{name}.pub"))).unwrap().trim().to_owned()
}

/// Imports into a new vault, and returns what was said and what the vault holds then.
fn imported(place: &Place, vault: &str, arguments: &[&str]) -> (Output, String) {
    if !place.path(vault).exists() {
        place.vault(vault);
    }
    let import = place.vault_verb(vault, "import", arguments);
    let export = place.vault_verb(vault, "export", &["-"]);
    assert_ok(&export);
    fs::write(place.path("held.tar"), &export.stdout).unwrap();
    (import, place.sh("tar -tf held.tar | sort | tr '\\n' ' '"))
}

#[track_caller]
fn refused(place: &Place, status: i32, words: &str, arguments: &[&str]) {
    let (import, held) = imported(place, "empty", arguments);
    let said = said(&import);
    assert_eq!(import.status.code(), Some(status), "{said}");
    assert!(said.contains(words), "{said}");
    assert_eq!(held, "./ ", "something of it was imported");
}

#[test]
fn export_is_read_by_the_age_program_of_each_recipient_and_by_us() {
    let place = started();
    let expected = place.manifest(&place.path("in"));
    let file = format!("# them\n{}\n", recipient(&place, "theirs"));
    fs::write(place.path("people"), file).unwrap();
    let ours = recipient(&place, "ours");
    let to = ["--recipient", &ours, "--recipients-file", "people"];
    let export = place.vault_verb("v", "export", &[&to[..], &["archive.age"]].concat());
    assert_ok(&export);
    assert!(said(&export).contains("encrypted to 2 recipients"), "{}", said(&export));
    assert!(!said(&export).contains("not encrypted"), "{}", said(&export));
    let bytes = fs::read(place.path("archive.age")).unwrap();
    assert!(bytes.starts_with(b"age-encryption.org/v1\n"));
    for clear in [&b"canary-in-the-archive"[..], b"ustar", b"noise"] {
        assert!(!bytes.windows(clear.len()).any(|part| part == clear));
    }
    let mode = fs::metadata(place.path("archive.age")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    for name in ["ours", "theirs"] {
        place.sh(&format!(
            "mkdir out-{name}; age -d -i {name} archive.age | \
             tar -C out-{name} --xattrs --xattrs-include='*' --acls --numeric-owner -pxf -"
        ));
        assert_eq!(place.manifest(&place.path(&format!("out-{name}"))), expected);
        let vault = format!("v-{name}");
        place.vault(&vault);
        let words = ["--keep-owners", "--identity", name, "archive.age"];
        assert_ok(&place.vault_verb(&vault, "import", &words));
        assert_ok(&place.diff("v", &vault));
    }
    // Standard output as well, and two exports have no key in common.
    let export = place.vault_verb("v", "export", &[&to[..], &["-"]].concat());
    assert_ok(&export);
    assert_ne!(export.stdout[..200], bytes[..200]);
    fs::write(place.path("second.age"), &export.stdout).unwrap();
    place.sh("cmp <(age -d -i ours archive.age) <(age -d -i theirs second.age)");
}

#[test]
fn import_takes_what_the_age_program_has_encrypted_as_bytes_and_as_text() {
    let place = started();
    place.sh("tar -C in --xattrs --xattrs-include='*' --acls --numeric-owner -cf in.tar .");
    place.sh("age -R ours.pub -R theirs.pub -o in.age in.tar; age -a -R ours.pub -o in.txt in.tar");
    assert_ok(&place.vault_verb("v", "export", &["v.tar"]));
    for (vault, archive) in [("binary", "in.age"), ("text", "in.txt")] {
        place.vault(vault);
        // The identity that does not fit does no harm.
        let words = ["--keep-owners", "--identity", "strangers", "--identity", "ours", archive];
        assert_ok(&place.vault_verb(vault, "import", &words));
        assert_ok(&place.diff("v", vault));
    }
    place.vault("piped");
    let mut import =
        place.command("piped", "import", &["--keep-owners", "--identity", "ours", "-"]);
    import.stdin(fs::File::open(place.path("in.age")).unwrap());
    assert_ok(&import.output().unwrap());
    assert_ok(&place.diff("v", "piped"));
}

#[test]
fn wrong_or_missing_identities_are_told_and_nothing_is_imported() {
    let place = started();
    let ours = recipient(&place, "ours");
    assert_ok(&place.vault_verb("v", "export", &["--recipient", &ours, "a.age"]));
    assert_ok(&place.vault_verb("v", "export", &["a.tar"]));
    place.sh("chmod 644 theirs; tar -cf inner.tar in; gzip inner.tar; age -R ours.pub -o gz.age inner.tar.gz");
    place.sh("script -qec 'age -p -o passphrase.age p' /dev/null <<<$'word\\nword' >/dev/null");
    refused(&place, 64, "--identity FILE names", &["a.age"]);
    refused(
        &place,
        64,
        "no identity that was given decrypts",
        &["--identity", "strangers", "a.age"],
    );
    refused(&place, 64, "can be read by other users", &["--identity", "theirs", "a.age"]);
    refused(&place, 64, "cannot read the identity file", &["--identity", "none", "a.age"]);
    refused(&place, 64, "is a recipient, not an identity", &["--identity", "ours.pub", "a.age"]);
    refused(&place, 64, "is itself encrypted", &["--identity", "passphrase.age", "a.age"]);
    refused(
        &place,
        64,
        "by a passphrase, not to recipients",
        &["--identity", "ours", "passphrase.age"],
    );
    refused(&place, 64, "gzip -dc", &["--identity", "ours", "gz.age"]);
    // A plain one is not taken in place of an encrypted one.
    refused(
        &place,
        64,
        "is not encrypted, and --identity was given",
        &["--identity", "ours", "a.tar"],
    );
    refused(&place, 64, "is a folder, and --identity was given", &["--identity", "ours", "in"]);
}

#[test]
fn altered_or_cut_archives_are_refused_as_a_whole() {
    let place = started();
    let ours = recipient(&place, "ours");
    assert_ok(&place.vault_verb("v", "export", &["--recipient", &ours, "a.age"]));
    let bytes = fs::read(place.path("a.age")).unwrap();
    let header = bytes.windows(4).position(|part| part == b"--- ").unwrap() + 48 + 16;
    let piece = (1 << 16) + 16;
    assert!(bytes.len() > header + 4 * piece);
    for cut in [30, header - 20, header, header + piece, header + 3 * piece, bytes.len() - 1] {
        fs::write(place.path("bad.age"), &bytes[..cut]).unwrap();
        refused(&place, 65, "damaged or altered", &["--identity", "ours", "bad.age"]);
    }
    for at in [header - 17, header - 1, header, header + 3 * piece, bytes.len() - 1] {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1;
        fs::write(place.path("bad.age"), &bytes).unwrap();
        refused(&place, 65, "damaged or altered", &["--identity", "ours", "bad.age"]);
    }
    fs::write(place.path("bad.age"), [&bytes[..], b"x"].concat()).unwrap();
    refused(&place, 65, "does not authenticate", &["--identity", "ours", "bad.age"]);
    // Whole, it is taken.
    let (import, held) = imported(&place, "empty", &["--identity", "ours", "a.age"]);
    assert_ok(&import);
    assert!(held.contains("./canary "), "{held}");
}

#[test]
fn what_is_no_recipient_writes_nothing() {
    let place = started();
    let secret = place.sh("grep AGE-SECRET ours").trim().to_owned();
    fs::write(place.path("nobody"), "# nobody\n").unwrap();
    for (words, arguments) in [
        ("'bob' is no age recipient", ["--recipient", "bob"]),
        ("age1 and 58 more", ["--recipient", "age1qqqq"]),
        ("an identity was given", ["--recipient", &secret]),
        ("is an identity, which is secret", ["--recipients-file", "ours"]),
        ("names no recipient", ["--recipients-file", "nobody"]),
        ("cannot read the recipients", ["--recipients-file", "absent"]),
    ] {
        for target in ["out.age", "-"] {
            let export = place.vault_verb("v", "export", &[&arguments[..], &[target]].concat());
            let said = said(&export);
            assert_eq!(export.status.code(), Some(64), "{said}");
            assert!(said.contains(words) && !said.contains(&secret[16..]), "{said}");
            assert!(export.stdout.is_empty());
        }
    }
    assert_eq!(place.sh("ls | grep -c '^out' || true"), "0\n");
}

/// Eight times as much content takes no more memory, encrypted or not.
#[test]
fn encrypted_archives_stream() {
    let place = Place::new();
    place.sh("age-keygen -o ours 2>/dev/null; age-keygen -y ours >ours.pub");
    let peak = |size: u32| {
        let (from, to) = (format!("from-{size}"), format!("to-{size}"));
        place.vault(&from);
        place.vault(&to);
        place.sh(&format!("mkdir in-{size}; head -c {size}M /dev/urandom >in-{size}/noise"));
        assert_ok(&place.vault_verb(&from, "import", &[&format!("in-{size}")]));
        let archive = format!("{size}.age");
        let mut export =
            place.command(&from, "export", &["--recipients-file", "ours.pub", &archive]);
        let mut import = place.command(&to, "import", &["--identity", "ours", &archive]);
        let peaks = [&mut export, &mut import].map(|command| {
            let mut line = std::process::Command::new("/usr/bin/env");
            line.args(["python3", "-c", PEAK]).arg(command.get_program()).args(command.get_args());
            line.current_dir(place.path("")).env_clear().env("HOME", place.path("home"));
            let output = line.output().unwrap();
            assert_ok(&output);
            String::from_utf8_lossy(&output.stdout).lines().last().unwrap().parse::<u64>().unwrap()
        });
        assert_ok(&place.diff(&from, &to));
        peaks
    };
    let (small, large) = (peak(16), peak(128));
    println!("peaks in KiB: {small:?} of 16 MiB, {large:?} of 128 MiB");
    for (small, large) in small.into_iter().zip(large) {
        assert!(large < small + 64 * 1024, "{small} KiB became {large} KiB");
    }
}

/// Runs a program and prints how much memory it had at most, in KiB.
const PEAK: &str = "import resource, subprocess, sys
status = subprocess.run(sys.argv[1:]).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(status)";
