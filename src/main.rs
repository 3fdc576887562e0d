//! Parse, run, exit code.

use clap::Parser;
use huntline::cli::{self, Cli, Command, dead_letters, hunts, migrate, partitions, rollup, run};
use std::io::{stderr, stdout};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(args) => run::run(&args),
        Command::Demo(args) => cli::demo::run(args).map(|()| 0),
        Command::Check(args) => cli::check::run(&args, &mut stdout(), &mut stderr()).map_err(Into::into),
        Command::Config(args) => cli::config::run(&args, &mut stdout(), &mut stderr()).map_err(Into::into),
        Command::Migrate(args) => migrate::run(&args),
        Command::Generate(args) => cli::generate::run(args).map(|()| 0),
        Command::Hunts(args) => hunts::run(&args),
        Command::Rollup(args) => rollup::run(&args),
        Command::Partitions(args) => partitions::run(&args),
        Command::DeadLetters(args) => dead_letters::run(&args),
        Command::Explain(args) => cli::explain::run(&args, &mut stdout()),
        Command::Verify(args) => cli::verify::run(&args, &mut stdout()),
        Command::Rebuild(args) => cli::rebuild::run(&args, &mut stdout()),
        Command::Completions(args) => {
            cli::completions(&args, &mut stdout());
            Ok(0)
        }
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => match error.downcast_ref::<clap::Error>() {
            Some(usage) => usage.exit(),
            None => {
                eprintln!("huntline: {error:#}");
                ExitCode::from(1)
            }
        },
    }
}
