#![allow(clippy::unwrap_used)]
use super::*;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;

/// Two file systems, in a mount namespace of this thread alone.
struct World {
    top: tempfile::TempDir,
}

impl World {
    /// Runs `play` in a fresh world, in a thread of its own so that the caller keeps its namespace.
    fn run<T: Send>(play: impl FnOnce(&Self) -> T + Send) -> T {
        assert!(nix::unistd::Uid::effective().is_root(), "mounting needs root");
        let played = std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    unshare(CloneFlags::CLONE_NEWNS).unwrap();
                    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
                    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
                    let top = tempfile::tempdir().unwrap();
                    for name in ["disk", "vault"] {
                        let at = top.path().join(name);
                        fs::create_dir(&at).unwrap();
                        let none = MsFlags::empty();
                        mount(Some(name), &at, Some("tmpfs"), none, Some("size=8m")).unwrap();
                    }
                    let world = Self { top };
                    let outcome = play(&world);
                    for name in ["disk", "vault"] {
                        let at = world.at(name);
                        let _ = nix::mount::umount2(&at, nix::mount::MntFlags::MNT_DETACH);
                    }
                    outcome
                })
                .join()
        });
        played.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        self.top.path().join(path)
    }

    /// Lays the second of three folders over the first, with the third to work in.
    fn overlay(&self, layers: [impl AsRef<Path>; 3], at: &str) -> nix::Result<()> {
        let [lower, upper, work] = layers.map(|layer| self.at(layer));
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            lower.display(),
            upper.display(),
            work.display()
        );
        let none = MsFlags::empty();
        mount(Some("o"), &self.at(at), Some("overlay"), none, Some(options.as_str()))
    }

    fn write(&self, path: &str, content: &str) {
        fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        fs::write(self.at(path), content).unwrap();
    }

    fn migrate(&self, from: &str, to: &str) -> io::Result<Report> {
        run(&folder::open(&self.at(from))?, &folder::open(&self.at(to))?)
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap()
    }
}

#[test]
fn everything_moves_with_its_permissions_and_times_and_nothing_stays_in_the_clear() {
    World::run(|world| {
        world.write("disk/s/one", "1");
        world.write("disk/s/in/deep/two", "2");
        fs::create_dir(world.at("disk/s/empty")).unwrap();
        symlink("one", world.at("disk/s/link")).unwrap();
        fs::set_permissions(world.at("disk/s/one"), Permissions::from_mode(0o640)).unwrap();
        let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
        let file = File::options().write(true).open(world.at("disk/s/one")).unwrap();
        file.set_modified(time).unwrap();
        fs::create_dir(world.at("vault/t")).unwrap();
        let report = world.migrate("disk/s", "vault/t").unwrap();
        assert_eq!(report, Report { moved: 3, ..Report::default() });
        assert_eq!(fs::read_dir(world.at("disk/s")).unwrap().count(), 0);
        assert_eq!(world.read("vault/t/in/deep/two"), "2");
        assert_eq!(world.read("vault/t/link"), "1");
        assert!(world.at("vault/t/empty").is_dir());
        let about = fs::metadata(world.at("vault/t/one")).unwrap();
        assert_eq!((about.permissions().mode() & 0o777, about.modified().unwrap()), (0o640, time));
        assert_eq!(fs::read_dir(world.at("vault/t")).unwrap().count(), 4);
    });
}

#[test]
fn what_the_vault_has_already_is_never_written_over() {
    World::run(|world| {
        for (path, content) in [
            ("disk/s/same", "same"),
            ("vault/t/same", "same"),
            ("disk/s/other", "from outside"),
            ("vault/t/other", "newer"),
            ("disk/s/shape/file", "below"),
            ("vault/t/shape", "a file"),
        ] {
            world.write(path, content);
        }
        let report = world.migrate("disk/s", "vault/t").unwrap();
        assert_eq!((report.moved, report.renamed.len()), (3, 1));
        assert_eq!(report.renamed, [Path::new("other.outside")]);
        assert_eq!(world.read("vault/t/other"), "newer");
        assert_eq!(world.read("vault/t/other.outside"), "from outside");
        assert_eq!(world.read("vault/t/shape"), "a file");
        assert_eq!(world.read("vault/t/shape.outside/file"), "below");
        assert_eq!(fs::read_dir(world.at("disk/s")).unwrap().count(), 0);
    });
}

#[test]
fn an_interrupted_migration_is_completed_by_the_next() {
    World::run(|world| {
        world.write("disk/s/.tazpod-moving.config", "whole");
        world.write("vault/t/config", "whole");
        world.write("vault/t/.tazpod-copy", "hal");
        let report = world.migrate("disk/s", "vault/t").unwrap();
        assert_eq!(report, Report { moved: 1, ..Report::default() });
        let names = folder::names(
            folder::open_folder_within(folder::open(&world.at("vault/t")).unwrap(), Path::new(""))
                .unwrap(),
            9,
        )
        .unwrap();
        assert_eq!(names, ["config"]);
    });
}

#[test]
fn what_is_mounted_within_and_what_is_no_file_stays() {
    World::run(|world| {
        world.write("disk/s/plain", "1");
        world.write("disk/elsewhere/file", "2");
        fs::create_dir(world.at("disk/s/mounted")).unwrap();
        let (from, to) = (world.at("disk/elsewhere"), world.at("disk/s/mounted"));
        mount(Some(&from), &to, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
        nix::unistd::mkfifo(&world.at("disk/s/pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        fs::create_dir(world.at("vault/t")).unwrap();
        let report = world.migrate("disk/s", "vault/t").unwrap();
        assert_eq!(report.moved, 1);
        let left: Vec<&Path> = report.left.iter().map(|(path, _)| path.as_path()).collect();
        assert_eq!(left, [Path::new("mounted"), Path::new("pipe")]);
        assert_eq!(world.read("disk/elsewhere/file"), "2");
    });
}

#[test]
fn a_full_vault_ends_the_migration_and_loses_nothing() {
    World::run(|world| {
        world.write("disk/s/a-small", "1");
        fs::write(world.at("disk/s/large"), vec![b'x'; 6 << 20]).unwrap();
        fs::create_dir(world.at("vault/t")).unwrap();
        fs::write(world.at("vault/filler"), vec![b'y'; 4 << 20]).unwrap();
        let error = world.migrate("disk/s", "vault/t").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(fs::metadata(world.at("disk/s/large")).unwrap().len(), 6 << 20);
        assert_eq!(world.read("disk/s/a-small"), "1");
        fs::remove_file(world.at("vault/filler")).unwrap();
        assert_eq!(world.migrate("disk/s", "vault/t").unwrap().moved, 2);
    });
}

/// An overlay shows the files of another file system under a device number of its own: the one
/// case that the numbers do not give away.
#[test]
fn a_file_that_would_vanish_with_its_source_is_noticed() {
    World::run(|world| {
        world.write("vault/t/file", "only copy");
        for name in ["disk/lower", "vault/work", "disk/s"] {
            fs::create_dir(world.at(name)).unwrap();
        }
        world.overlay(["disk/lower", "vault/t", "vault/work"], "disk/s").unwrap();
        let report = world.migrate("disk/s", "vault/t").unwrap();
        assert_eq!((report.moved, report.left.len()), (0, 1), "{report:?}");
        assert_eq!(world.read("vault/t/file"), "only copy");
    });
}

/// An overlay keeps what it once showed: it would name a file after its source removed it.
#[test]
fn an_overlay_that_may_show_the_source_is_no_target() {
    World::run(|world| {
        world.write("disk/s/file", "only copy");
        for name in ["disk/upper", "disk/work", "vault/t"] {
            fs::create_dir(world.at(name)).unwrap();
        }
        world.overlay(["disk/s", "disk/upper", "disk/work"], "vault/t").unwrap();
        assert_eq!(world.read("vault/t/file"), "only copy");
        world.migrate("disk/s", "vault/t").unwrap_err();
        assert_eq!(world.read("disk/s/file"), "only copy");
    });
}

/// What happens to the world before a migration; numbers pick from what there is.
#[derive(Clone, Debug)]
enum Step {
    File(usize, usize),
    Link(usize, usize, usize),
    Bind(usize, usize),
    Overlay(usize, usize, usize),
}

/// The folders that steps pick from, on both file systems and in each other.
const FOLDERS: [&str; 10] = [
    "disk",
    "disk/a",
    "disk/a/b",
    "disk/a/b/c",
    "disk/d",
    "vault",
    "vault/e",
    "vault/e/f",
    "vault/e/f/g",
    "vault/h",
];

fn step() -> impl Strategy<Value = Step> {
    let place = 0..FOLDERS.len();
    prop_oneof![
        4 => (place.clone(), 0..4_usize).prop_map(|(at, name)| Step::File(at, name)),
        2 => (place.clone(), 0..4_usize, place.clone())
            .prop_map(|(at, name, to)| Step::Link(at, name, to)),
        3 => (place.clone(), place.clone()).prop_map(|(from, to)| Step::Bind(from, to)),
        1 => (place.clone(), place.clone(), place).prop_map(|(a, b, c)| Step::Overlay(a, b, c)),
    ]
}

/// A folder that a migration goes from or to, by its own name or through links, as far as steps made some.
fn end() -> impl Strategy<Value = String> {
    let named = |name: Option<usize>| name.map(|name| format!("/n{name}")).unwrap_or_default();
    let links = proptest::collection::vec(proptest::option::of(0..4_usize), 0..3);
    (0..FOLDERS.len(), links).prop_map(move |(folder, links)| {
        links.into_iter().map(named).fold(FOLDERS[folder].to_owned(), |path, link| path + &link)
    })
}

fn take(world: &World, number: usize, step: &Step) {
    let folder = |index: usize| world.at(FOLDERS[index]);
    // A step that the kernel refuses is a step that did not happen.
    match *step {
        Step::File(at, name) => {
            let path = folder(at).join(format!("n{name}"));
            if path.symlink_metadata().is_err() {
                let _ = fs::write(path, format!("content {number}"));
            }
        }
        Step::Link(at, name, to) => {
            let _ = symlink(folder(to), folder(at).join(format!("n{name}")));
        }
        Step::Bind(from, to) => {
            let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
            let _ = mount(Some(&folder(from)), &folder(to), None::<&str>, bind, None::<&str>);
        }
        Step::Overlay(lower, upper, to) => {
            let upper = Path::new(FOLDERS[upper]);
            let work = upper.with_file_name(format!("work{number}"));
            let _ = fs::create_dir(world.at(&work));
            let layers = [Path::new(FOLDERS[lower]), upper, &work];
            let _ = world.overlay(layers, FOLDERS[to]);
        }
    }
}

/// Everything on a file system by its place there, whatever is mounted over it.
fn contents(bare: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![bare.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let about = path.symlink_metadata().unwrap();
            if about.is_dir() {
                folders.push(path);
            } else if about.is_file() {
                found.insert(path.clone(), fs::read_to_string(path).unwrap());
            }
        }
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, ..ProptestConfig::default() })]

    #[test]
    fn no_overlap_of_paths_links_and_mounts_loses_a_file(
        steps in proptest::collection::vec(step(), 1..24),
        source in end(),
        target in end(),
        again in any::<bool>(),
    ) {
        let lost = World::run(|world| {
            for folder in FOLDERS {
                fs::create_dir_all(world.at(folder)).unwrap();
            }
            // Views of both file systems that no later mount covers.
            let views = ["disk", "vault"].map(|name| {
                let view = world.at(format!("bare-{name}"));
                fs::create_dir(&view).unwrap();
                let bind = MsFlags::MS_BIND;
                mount(Some(&world.at(name)), &view, None::<&str>, bind, None::<&str>).unwrap();
                view
            });
            for (number, step) in steps.iter().enumerate() {
                take(world, number, step);
            }
            let before: Vec<_> = views.iter().map(|view| contents(view)).collect();
            let _ = world.migrate(&source, &target);
            if again {
                let _ = world.migrate(&source, &target);
            }
            let after: Vec<_> = views.iter().map(|view| contents(view)).collect();
            let everywhere: Vec<&String> =
                after.iter().flat_map(BTreeMap::values).collect();
            let lost = before
                .iter()
                .flat_map(BTreeMap::values)
                .find(|content| !everywhere.contains(content))
                .cloned();
            // A name keeps its content or goes; it never gets another's.
            let overwritten = before.iter().zip(&after).find_map(|(before, after)| {
                before.iter().find(|(path, content)| {
                    after.get(*path).is_some_and(|now| now != *content)
                }).map(|(path, _)| path.display().to_string())
            });
            for view in &views {
                let _ = nix::mount::umount2(view, nix::mount::MntFlags::MNT_DETACH);
            }
            lost.or(overwritten)
        });
        prop_assert_eq!(lost, None);
    }
}
