//! The `tazpod` program: parse, run, render the error, answer with an exit status.
#![deny(unsafe_code, clippy::print_stdout, clippy::print_stderr)]

mod app;
mod args;
mod backend;
mod bridge;
mod caller;
mod commands;
mod config;
mod dates;
mod docker;
mod doctor;
mod encryption;
mod error;
mod ghost;
mod image;
mod infisical;
mod machine;
mod project;
mod quoting;
mod recipe;
mod sync;
mod sys;
mod ui;
mod units;
mod witness_store;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = match args::Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(answer) => return ui::command_line_answer(&answer),
    };
    let app = app::App::new(&arguments);
    let placed = arguments.global.work_in.as_deref().map_or(Ok(()), app::App::work_in);
    match placed.and_then(|()| commands::run(&app, arguments.command)) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            app.ui.report(&error);
            ExitCode::from(error.exit_status())
        }
    }
}
