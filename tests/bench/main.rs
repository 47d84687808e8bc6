//! Measures TazPod beside the encrypted file systems that Debian ships, and beside plain ext4.
//!
//! Everything runs in one go on one disk, interleaved: for each round and each row every candidate has its turn, and the
//! first one changes from round to round. *Cold* means remounted, with the kernel's caches dropped. Peers run at their
//! defaults. Each measurement is made by a process of its own (`bench work ROW DIR`), which for TazPod is the command of a
//! `tazpod pull`. What is compared is time for the same work, so a ratio below 1 means that TazPod was faster.
//!
//! ```text
//! cargo run --release -p tazpod-tests --bin bench -- [--rounds N] [--rows a,b] [--only tazpod,ext4] [--size MIB] [--files N]
//!     [--vault SIZE] [--dir DIR] [--no-limits]
//! cargo run --release -p tazpod-tests --bin bench -- carry [--rounds N] [--size MIB] [--dir DIR]
//! ```
//! `carry` measures `vault export` and `vault import` beside `tar` on the mount instead.
//!
//! Needs root, for dropping caches. Where there is a device mapper, a LUKS vault stands beside the others.

mod candidate;
mod carry;
mod limits;
mod report;
mod rows;
mod source;

use candidate::{Candidate, TazPod};
use report::Samples;
use rows::{ROWS, Row};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// What the command line asks for.
struct Plan {
    rounds: usize,
    rows: Vec<&'static Row>,
    only: Option<Vec<String>>,
    scale: rows::Scale,
    vault: String,
    dir: PathBuf,
    limits: bool,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["work", row, phase, dir] => rows::work(row, phase, Path::new(dir)),
        ["carry-work", word, mount, archive @ ..] => {
            carry::work(word, Path::new(mount), archive.first().map(Path::new))
        }
        ["carry", ..] => parse(&arguments[1..])
            .and_then(|plan| carry::compare(&plan.dir, plan.rounds, plan.scale.mebibytes)),
        _ => parse(&arguments).and_then(|plan| compare(&plan)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(arguments: &[String]) -> Outcome<Plan> {
    let target = std::env::current_exe()?.ancestors().nth(2).ok_or("no target folder")?.to_owned();
    let mut plan = Plan {
        rounds: 3,
        rows: ROWS.iter().collect(),
        only: None,
        scale: rows::Scale::default(),
        vault: "8GiB".to_owned(),
        dir: target.join("bench"),
        limits: true,
    };
    let mut rest = arguments.iter();
    while let Some(option) = rest.next() {
        let mut value = || rest.next().ok_or_else(|| format!("{option} needs a value"));
        match option.as_str() {
            "--rounds" => plan.rounds = value()?.parse()?,
            "--size" => plan.scale.mebibytes = value()?.parse()?,
            "--files" => plan.scale.files = value()?.parse()?,
            "--only" => plan.only = Some(value()?.split(',').map(str::to_owned).collect()),
            "--vault" => plan.vault.clone_from(value()?),
            "--dir" => plan.dir = value()?.into(),
            "--no-limits" => plan.limits = false,
            "--rows" => {
                plan.rows = value()?.split(',').map(rows::find).collect::<Outcome<_>>()?;
            }
            other => return Err(format!("unknown option '{other}'").into()),
        }
    }
    Ok(plan)
}

fn compare(plan: &Plan) -> Outcome<()> {
    std::fs::create_dir_all(&plan.dir)?;
    plan.scale.save(&plan.dir)?;
    source::prepare(&plan.dir)?;
    let mut candidates = candidate::all(&plan.dir, &plan.vault)?;
    if let Some(only) = &plan.only {
        candidates.retain(|one| only.iter().any(|name| name == one.name()));
    }
    let mut samples = Samples::default();
    for one in &candidates {
        one.create()?;
    }
    for round in 0..plan.rounds {
        for row in &plan.rows {
            for turn in 0..candidates.len() {
                let one = &candidates[(turn + round) % candidates.len()];
                match measure(one.as_ref(), row, &plan.dir) {
                    Ok(seconds) => {
                        eprintln!("{round} {:<16} {:<10} {seconds:.6}", row.name, one.name());
                        samples.add(row, one.name(), round, seconds);
                    }
                    // A peer that cannot do a row is part of the result; that we cannot is an error.
                    Err(error) if one.name() != candidate::OURS => {
                        eprintln!("{round} {:<16} {:<10} failed: {error}", row.name, one.name());
                    }
                    Err(error) => return Err(format!("{}: {error}", row.name).into()),
                }
            }
        }
    }
    samples.print();
    samples.write(&plan.dir.join("samples.csv"))?;
    if plan.limits {
        limits::print(&TazPod::fuse(&std::fs::canonicalize(&plan.dir)?, &plan.vault))?;
    }
    Ok(())
}

/// One row for one candidate: prepared in a mount of its own, so that a cold measurement starts cold.
fn measure(one: &dyn Candidate, row: &Row, dir: &Path) -> Outcome<f64> {
    if row.cold {
        one.run(row.name, "prepare")?;
        candidate::drop_caches()?;
        one.run(row.name, "measure")
    } else {
        candidate::drop_caches()?;
        one.run(row.name, "both")
    }
    .map_err(|error| format!("{error} (in {})", dir.display()).into())
}
