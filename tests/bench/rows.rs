//! The rows of the comparison. Each one prepares what it needs on the mount and then times one piece of work.

use crate::Outcome;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

const MIB: usize = 1 << 20;
const PAGE: usize = 4096;
const RANDOM_READS: usize = 2000;
const RANDOM_WRITES: usize = 8000;
const SYNCED: usize = 200;
const FOLDERS: usize = 40;
const SMALL: usize = 2000;

/// One line of the table.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    /// Measured in a mount of its own, after the caches were dropped.
    pub(crate) cold: bool,
    /// How far behind ext4 it may be, where the goal says so.
    pub(crate) ext4_goal: Option<f64>,
    /// Ends in an fsync: a peer that does not carry it out is shown and not compared.
    pub(crate) synced: bool,
    prepare: fn(&Bench) -> Outcome<()>,
    /// Answers the seconds that count.
    measure: fn(&Bench) -> Outcome<f64>,
}

pub(crate) const ROWS: &[Row] = &[
    Row::warm("write", "sequential write and fsync", remove_written, sequential_write).synced(),
    Row::cold("read-cold", "sequential read, cold", prepare_big, sequential_read),
    Row::warm("read-warm", "sequential read, warm", prepare_big_warm, sequential_read).within(1.5),
    Row::cold("random-read-cold", "random 4 KiB read, cold", prepare_big, random_read),
    Row::warm("random-read-warm", "random 4 KiB read, warm", prepare_big_warm, random_read)
        .within(1.5),
    Row::warm("random-write", "random 4 KiB write and fsync", prepare_big, random_write).synced(),
    Row::warm("create", "create small files", remove_fresh, create_small),
    Row::cold("walk-cold", "walk small files, cold", prepare_small, walk_small),
    Row::warm("walk-warm", "walk small files, warm", prepare_small_warm, walk_small).within(1.5),
    Row::cold("small-read-cold", "read small files, cold", prepare_small, read_small),
    Row::warm("small-read-warm", "read small files, warm", prepare_small_warm, read_small)
        .within(1.5),
    Row::cold("delete", "delete small files, cold", prepare_fresh, delete_small),
    Row::warm("untar", "unpack a source tree", remove_tree, unpack),
    Row::warm("git", "git add, commit, status", prepare_tree, git),
    Row::warm(
        "create-fsync",
        "create, write 100 bytes, fsync (each)",
        remove_synced,
        create_synced,
    )
    .synced(),
    Row::warm("rename-over", "write, fsync, rename over (each)", remove_synced, rename_over)
        .synced(),
];

impl Row {
    const fn warm(
        name: &'static str,
        title: &'static str,
        prepare: fn(&Bench) -> Outcome<()>,
        measure: fn(&Bench) -> Outcome<f64>,
    ) -> Self {
        Self { name, title, cold: false, ext4_goal: None, synced: false, prepare, measure }
    }

    const fn cold(
        name: &'static str,
        title: &'static str,
        prepare: fn(&Bench) -> Outcome<()>,
        measure: fn(&Bench) -> Outcome<f64>,
    ) -> Self {
        Self { cold: true, ..Self::warm(name, title, prepare, measure) }
    }

    const fn synced(self) -> Self {
        Self { synced: true, ..self }
    }

    const fn within(self, ratio: f64) -> Self {
        Self { ext4_goal: Some(ratio), ..self }
    }
}

pub(crate) fn find(name: &str) -> Outcome<&'static Row> {
    ROWS.iter()
        .find(|row| row.name == name)
        .ok_or_else(|| format!("no row is called '{name}'").into())
}

/// How much work there is: kept in a file beside the archive, since workloads run as processes of their own.
pub(crate) struct Scale {
    pub(crate) mebibytes: usize,
    pub(crate) files: usize,
}

impl Default for Scale {
    fn default() -> Self {
        Self { mebibytes: 256, files: 4000 }
    }
}

impl Scale {
    pub(crate) fn save(&self, dir: &Path) -> Outcome<()> {
        Ok(fs::write(dir.join("scale"), format!("{} {}", self.mebibytes, self.files))?)
    }

    fn load(dir: &Path) -> Outcome<Self> {
        let text = fs::read_to_string(dir.join("scale"))?;
        let (mebibytes, files) = text.split_once(' ').ok_or("malformed scale")?;
        Ok(Self { mebibytes: mebibytes.parse()?, files: files.parse()? })
    }
}

/// Where the workload works.
struct Bench {
    dir: PathBuf,
    home: PathBuf,
    scale: Scale,
}

/// `bench work ROW PHASE DIR`: prints the seconds as its last line.
pub(crate) fn work(row: &str, phase: &str, dir: &Path) -> Outcome<()> {
    // DIR is HOME/CANDIDATE or HOME/CANDIDATE/mount: the archive lies in HOME.
    let home = dir
        .ancestors()
        .find(|above| above.join("scale").exists())
        .ok_or("no scale above the mount")?;
    let bench = Bench { dir: dir.to_owned(), home: home.to_owned(), scale: Scale::load(home)? };
    let row = find(row)?;
    if phase != "measure" {
        (row.prepare)(&bench)?;
    }
    let seconds = if phase == "prepare" { 0.0 } else { (row.measure)(&bench)? };
    println!("seconds {seconds:.9}");
    Ok(())
}

pub(crate) fn timed(work: impl FnOnce() -> Outcome<()>) -> Outcome<f64> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed().as_secs_f64())
}

/// Incompressible bytes, the same in every run: xorshift64.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn fill(&mut self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).expect("below a usize")
    }
}

fn remove_written(bench: &Bench) -> Outcome<()> {
    let path = bench.dir.join("written");
    if path.exists() {
        fs::remove_file(path)?;
    }
    Ok(())
}

pub(crate) fn write_file(path: &Path, mebibytes: usize) -> Outcome<()> {
    let mut chunk = vec![0; MIB];
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    let mut file = File::create(path)?;
    for _ in 0..mebibytes {
        // Stamping the chunk keeps it incompressible without measuring the generator.
        let stamp = noise.next().to_le_bytes();
        if chunk[..8] == [0; 8] {
            noise.fill(&mut chunk);
        }
        chunk[..8].copy_from_slice(&stamp);
        file.write_all(&chunk)?;
    }
    Ok(file.sync_all()?)
}

fn sequential_write(bench: &Bench) -> Outcome<f64> {
    let path = bench.dir.join("written");
    let seconds = timed(|| write_file(&path, bench.scale.mebibytes))?;
    fs::remove_file(path)?;
    Ok(seconds)
}

fn prepare_big(bench: &Bench) -> Outcome<()> {
    let path = bench.dir.join("big");
    if !path.exists() {
        write_file(&path, bench.scale.mebibytes)?;
    }
    Ok(())
}

fn prepare_big_warm(bench: &Bench) -> Outcome<()> {
    prepare_big(bench)?;
    sequential_read(bench).map(drop)
}

fn sequential_read(bench: &Bench) -> Outcome<f64> {
    let mut buffer = vec![0; MIB];
    timed(|| {
        let mut file = File::open(bench.dir.join("big"))?;
        while file.read(&mut buffer)? > 0 {}
        Ok(())
    })
}

fn random_read(bench: &Bench) -> Outcome<f64> {
    let pages = bench.scale.mebibytes * MIB / PAGE;
    let mut noise = Noise(0x2545_f491_4f6c_dd1d);
    let mut buffer = [0; PAGE];
    timed(|| {
        let file = File::open(bench.dir.join("big"))?;
        for _ in 0..RANDOM_READS {
            file.read_exact_at(&mut buffer, (noise.below(pages) * PAGE) as u64)?;
        }
        Ok(())
    })
}

fn random_write(bench: &Bench) -> Outcome<f64> {
    let pages = bench.scale.mebibytes * MIB / PAGE;
    let mut noise = Noise(0xd1b5_4a32_d192_ed03);
    let mut buffer = [0; PAGE];
    noise.fill(&mut buffer);
    timed(|| {
        let file = OpenOptions::new().write(true).open(bench.dir.join("big"))?;
        for _ in 0..RANDOM_WRITES {
            file.write_all_at(&buffer, (noise.below(pages) * PAGE) as u64)?;
        }
        Ok(file.sync_all()?)
    })
}

fn write_small(root: &Path, files: usize) -> Outcome<()> {
    let mut buffer = [0; SMALL];
    Noise(0x1234_5678_9abc_def1).fill(&mut buffer);
    for folder in 0..FOLDERS {
        let folder_path = root.join(format!("folder-{folder}"));
        fs::create_dir_all(&folder_path)?;
        for file in 0..files / FOLDERS {
            fs::write(folder_path.join(format!("file-{file}")), buffer)?;
        }
    }
    Ok(())
}

fn remove(path: &Path) -> Outcome<()> {
    if path.exists() {
        fs::remove_dir_all(path)?;
    }
    Ok(())
}

fn remove_fresh(bench: &Bench) -> Outcome<()> {
    remove(&bench.dir.join("fresh"))
}

fn create_small(bench: &Bench) -> Outcome<f64> {
    timed(|| write_small(&bench.dir.join("fresh"), bench.scale.files))
}

fn prepare_fresh(bench: &Bench) -> Outcome<()> {
    remove_fresh(bench)?;
    create_small(bench).map(drop)
}

fn delete_small(bench: &Bench) -> Outcome<f64> {
    timed(|| remove(&bench.dir.join("fresh")))
}

fn prepare_small(bench: &Bench) -> Outcome<()> {
    let root = bench.dir.join("small");
    if !root.exists() {
        write_small(&root, bench.scale.files)?;
    }
    Ok(())
}

fn prepare_small_warm(bench: &Bench) -> Outcome<()> {
    prepare_small(bench)?;
    walk_small(bench)?;
    read_small(bench).map(drop)
}

/// Visits every file below `root`.
fn visit(root: &Path, each: &mut dyn FnMut(&fs::DirEntry) -> Outcome<()>) -> Outcome<()> {
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            visit(&entry.path(), each)?;
        } else {
            each(&entry)?;
        }
    }
    Ok(())
}

fn walk_small(bench: &Bench) -> Outcome<f64> {
    timed(|| visit(&bench.dir.join("small"), &mut |entry| Ok(entry.metadata().map(drop)?)))
}

fn read_small(bench: &Bench) -> Outcome<f64> {
    timed(|| visit(&bench.dir.join("small"), &mut |entry| Ok(fs::read(entry.path()).map(drop)?)))
}

fn remove_tree(bench: &Bench) -> Outcome<()> {
    remove(&bench.dir.join("tree"))?;
    Ok(fs::create_dir(bench.dir.join("tree"))?)
}

fn unpack(bench: &Bench) -> Outcome<f64> {
    let mut tar = Command::new("tar");
    tar.arg("-xf").arg(bench.home.join("source.tar")).arg("-C").arg(bench.dir.join("tree"));
    timed(|| run(&mut tar))
}

fn prepare_tree(bench: &Bench) -> Outcome<()> {
    remove_tree(bench)?;
    unpack(bench)?;
    run(&mut git_command(bench, &["init", "-q"]))
}

fn git(bench: &Bench) -> Outcome<f64> {
    timed(|| {
        run(&mut git_command(bench, &["add", "."]))?;
        run(&mut git_command(bench, &["commit", "-q", "-m", "tree"]))?;
        run(&mut git_command(bench, &["status", "--porcelain"]))
    })
}

fn git_command(bench: &Bench, words: &[&str]) -> Command {
    let mut command = Command::new("git");
    command.current_dir(bench.dir.join("tree")).args([
        "-c",
        "user.name=bench",
        "-c",
        "user.email=bench@localhost",
    ]);
    command.args(["-c", "gc.auto=0", "-c", "init.defaultBranch=main"]).args(words);
    command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
    command
}

pub(crate) fn run(command: &mut Command) -> Outcome<()> {
    let output = command.stdout(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "{command:?}: {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    )
    .into())
}

fn remove_synced(bench: &Bench) -> Outcome<()> {
    remove(&bench.dir.join("synced"))?;
    Ok(fs::create_dir(bench.dir.join("synced"))?)
}

fn write_synced(path: &Path) -> Outcome<()> {
    let mut file = File::create(path)?;
    file.write_all(&[0x5a; 100])?;
    Ok(file.sync_all()?)
}

fn create_synced(bench: &Bench) -> Outcome<f64> {
    median_of((0..SYNCED).map(|n| timed(|| write_synced(&bench.dir.join(format!("synced/{n}"))))))
}

fn rename_over(bench: &Bench) -> Outcome<f64> {
    let (target, temporary) = (bench.dir.join("synced/target"), bench.dir.join("synced/temporary"));
    median_of((0..SYNCED).map(|_| {
        timed(|| {
            write_synced(&temporary)?;
            Ok(fs::rename(&temporary, &target)?)
        })
    }))
}

fn median_of(times: impl Iterator<Item = Outcome<f64>>) -> Outcome<f64> {
    let mut times = times.collect::<Outcome<Vec<_>>>()?;
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}
