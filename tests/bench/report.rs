//! The table: medians and ratios, the rows that fall short first.

use crate::Outcome;
use crate::candidate::{OURS, syncs};
use crate::rows::{ROWS, Row};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

/// Every time that was measured.
#[derive(Default)]
pub(crate) struct Samples {
    all: Vec<(&'static str, &'static str, usize, f64)>,
}

/// A row's medians by candidate, and whether it reaches its goal.
struct Line {
    row: &'static Row,
    medians: BTreeMap<&'static str, f64>,
    shortfalls: Vec<String>,
}

impl Samples {
    pub(crate) fn add(
        &mut self,
        row: &'static Row,
        candidate: &'static str,
        round: usize,
        seconds: f64,
    ) {
        self.all.push((row.name, candidate, round, seconds));
    }

    pub(crate) fn write(&self, path: &Path) -> Outcome<()> {
        let mut text = String::from("row,candidate,round,seconds\n");
        for (row, candidate, round, seconds) in &self.all {
            writeln!(text, "{row},{candidate},{round},{seconds:.9}")?;
        }
        std::fs::write(path, text)?;
        eprintln!("samples: {}", path.display());
        Ok(())
    }

    pub(crate) fn print(&self) {
        let mut lines: Vec<_> = ROWS.iter().filter_map(|row| self.line(row)).collect();
        lines.sort_by_key(|line| line.shortfalls.is_empty());
        println!("time for the same work, ours divided by theirs: below 1 we are faster");
        for line in &lines {
            println!("{}", line.render());
        }
        let short = lines.iter().filter(|line| !line.shortfalls.is_empty()).count();
        println!("{short} of {} rows fall short", lines.len());
    }

    fn line(&self, row: &'static Row) -> Option<Line> {
        let mut times: BTreeMap<&'static str, Vec<f64>> = BTreeMap::new();
        for (name, candidate, _, seconds) in &self.all {
            if *name == row.name {
                times.entry(candidate).or_default().push(*seconds);
            }
        }
        let medians: BTreeMap<_, _> =
            times.into_iter().map(|(name, list)| (name, median(list))).collect();
        if medians.is_empty() {
            return None;
        }
        let mut line = Line { row, medians, shortfalls: Vec::new() };
        line.shortfalls =
            line.ratios().filter_map(|(name, ratio)| shortfall(row, name, ratio)).collect();
        Some(line)
    }
}

fn shortfall(row: &Row, name: &str, ratio: f64) -> Option<String> {
    if row.synced && !syncs(name) {
        return None;
    }
    let goal = if name == "ext4" { row.ext4_goal? } else { 1.0 };
    (ratio > goal).then(|| format!("{name} {ratio:.2} > {goal}"))
}

fn median(mut list: Vec<f64>) -> f64 {
    list.sort_by(f64::total_cmp);
    list[list.len() / 2]
}

impl Line {
    fn ratios(&self) -> impl Iterator<Item = (&'static str, f64)> {
        let ours = self.medians.get(OURS).copied();
        let others = self.medians.iter().filter(|(name, _)| **name != OURS);
        others.filter_map(move |(name, theirs)| Some((*name, ours? / theirs)))
    }

    fn theirs(&self, name: &str, ratio: f64) -> String {
        if self.row.synced && !syncs(name) {
            format!("({name} {ratio:.2}, without fsync)")
        } else {
            format!("{name} {ratio:.2}")
        }
    }

    fn render(&self) -> String {
        let word = if self.shortfalls.is_empty() { "ok   " } else { "SHORT" };
        let ours = self.medians.get(OURS).map_or("-".to_owned(), |seconds| time(*seconds));
        let others: Vec<String> = if self.medians.contains_key(OURS) {
            self.ratios().map(|(name, ratio)| self.theirs(name, ratio)).collect()
        } else {
            self.medians
                .iter()
                .map(|(name, seconds)| format!("{name} {}", time(*seconds)))
                .collect()
        };
        format!("{word} {:<40} {ours:>10}  {}", self.row.title, others.join("  "))
    }
}

fn time(seconds: f64) -> String {
    if seconds < 0.01 {
        format!("{:.0} us", seconds * 1e6)
    } else {
        format!("{:.1} ms", seconds * 1e3)
    }
}
