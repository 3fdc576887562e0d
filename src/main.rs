//! Parse, run, exit code.

use clap::Parser;
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
enum Command {
    Demo(huntline::cli::demo::DemoArgs),
    Generate(huntline::cli::generate::GenerateArgs),
    Run {
        #[arg(long)]
        config: Vec<std::path::PathBuf>,
    },
}

fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().init();
    match Command::parse() {
        Command::Demo(args) => huntline::cli::demo::run(args),
        Command::Generate(args) => huntline::cli::generate::run(args),
        Command::Run { config } => {
            let loaded = huntline::config::load(&config).map_err(|problems| anyhow::anyhow!("{problems}"))?;
            huntline::daemon::run(loaded.settings, Default::default())
        }
    }
}
