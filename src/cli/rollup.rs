//! **`huntline rollup`**: shows the aggregates kept over all hunts; asks a running daemon.

use super::RollupArgs;
use super::client::{self, Client, Error};
use super::screen;
use super::view::Rollup;
use std::io::{self, BufWriter, IsTerminal, Write};

/// The exit code: 0, 1 for a daemon that does not answer, 2 for wrong usage.
pub fn run(args: &RollupArgs) -> anyhow::Result<u8> {
    client::exit(show(args))
}

fn show(args: &RollupArgs) -> Result<(), Error> {
    let client = Client::new(&args.from)?;
    let text = client.json("/v1/rollup")?;
    let rollup: Rollup<'_> = client.read(&text)?;
    let terminal = io::stdout().is_terminal();
    let mut out = BufWriter::new(io::stdout().lock());
    if args.json {
        writeln!(out, "{}", screen::json(&text, terminal))?;
    } else if rollup.is_empty() {
        eprintln!("nothing is rolled up: [rollup] aggregates names what is");
    } else {
        for line in rollup.lines(screen::size().map(|(columns, _)| columns)) {
            writeln!(out, "{line}")?;
        }
    }
    Ok(out.flush()?)
}
