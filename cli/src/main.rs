//! The `tazpod` program.

fn main() {}
