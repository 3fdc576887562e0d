//! The **command line**: every command with its options. `main` matches on [`Command`]; each
//! command is a function in a module of its own.
//!
//! Invariant: wrong usage and wrong configuration exit with 2, what fails while running with 1.

pub mod check;
mod client;
pub mod config;
pub mod dead_letters;
pub mod demo;
pub mod explain;
pub mod generate;
mod history;
pub mod hunts;
pub mod migrate;
pub mod partitions;
mod progress;
pub mod rebuild;
pub mod rollup;
pub mod run;
mod screen;
pub mod verify;
mod view;

use clap::{Args, CommandFactory, Parser, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Parser)]
#[command(
    name = "huntline",
    version,
    about = "Exact, explainable, per-hunt views of treasure-hunt event streams",
    long_about = "Exact, explainable, per-hunt views of treasure-hunt event streams: Kafka to one actor per hunt to Postgres.\n\nBegin with `huntline demo`: it needs nothing installed.",
    after_help = "Exit codes: 0 done, 1 failed at run time, 2 wrong usage or configuration.\n`verify` also: 1 a difference. `verify`, `explain`: 3 the log no longer reaches back far enough.",
    max_term_width = 110,
    disable_help_subcommand = true
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon
    Run(RunArgs),
    /// Run everything in one process on embedded parts: nothing to install
    Demo(demo::DemoArgs),
    /// Report every problem of a configuration at once; contacts nothing
    Check(check::CheckArgs),
    /// Print the effective configuration, secrets masked
    Config(config::ConfigArgs),
    /// Create or upgrade the store's schema
    Migrate(MigrateArgs),
    /// Send a seeded, realistic stream of hunt events
    Generate(generate::GenerateArgs),
    /// List hunts, show or watch one
    Hunts(HuntsArgs),
    /// Show the aggregates kept over all hunts
    Rollup(RollupArgs),
    /// List partitions, reset the breaker of one
    Partitions(PartitionsArgs),
    /// List dead letters, show one
    DeadLetters(DeadLettersArgs),
    /// Show the records that made a hunt's values: what became of each, and what it added
    #[command(
        after_help = "Exit codes: 0 done, 1 no such hunt or failed at run time, 2 wrong usage or configuration, 3 the log no longer reaches back far enough."
    )]
    Explain(explain::ExplainArgs),
    /// Fold the log again and compare what the store says with it
    #[command(
        after_help = "Exit codes: 0 the same, 1 any difference, no such hunt or failed at run time, 2 wrong usage or configuration, 3 the log no longer reaches back far enough."
    )]
    Verify(verify::VerifyArgs),
    /// Build a new view from the log with the configured definitions, beside the old one, then swap
    Rebuild(rebuild::RebuildArgs),
    /// Print shell completions
    Completions(CompletionsArgs),
}

/// The configuration that a command reads.
#[derive(Args, Clone, Debug, Default)]
pub struct Files {
    /// TOML file over the built-in defaults; of several, a later one goes before an earlier one. The environment
    /// (HUNTLINE__STORE__URL sets [store] url) goes before all
    #[arg(long, value_name = "FILE", env = "HUNTLINE_CONFIG", value_delimiter = ':')]
    pub config: Vec<PathBuf>,
}

impl Files {
    /// The options that name the same configuration again, each after a space.
    pub fn named(&self) -> String {
        self.config.iter().map(|file| format!(" --config {}", file.display())).collect()
    }
}

#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    #[command(flatten)]
    pub files: Files,
    /// Only check the store's schema, never upgrade it
    #[arg(long)]
    pub no_migrate: bool,
    /// Where the configured definitions are not the store's, let them hold from the present positions on
    #[arg(long)]
    pub from_now: bool,
}

#[derive(Args, Clone, Debug)]
pub struct MigrateArgs {
    #[command(flatten)]
    pub files: Files,
    /// Only say whether the schema is current; exit 1 if it is not
    #[arg(long)]
    pub check: bool,
}

#[derive(Args, Clone, Debug)]
pub struct HuntsArgs {
    #[command(subcommand)]
    pub command: HuntsCommand,
}

#[derive(Clone, Debug, Subcommand)]
pub enum HuntsCommand {
    /// List hunts with their events, status and last event
    List(HuntsListArgs),
    /// Show one hunt's view and where it comes from
    Show(HuntArgs),
    /// Show one hunt's view whenever it changes
    Watch(HuntArgs),
}

#[derive(Args, Clone, Debug)]
pub struct HuntsListArgs {
    #[command(flatten)]
    pub from: Daemon,
    /// Only hunts of this status
    #[arg(long, value_enum)]
    pub status: Option<StatusFilter>,
    /// At most this many; 0: all
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub limit: u64,
    /// Print JSON, one hunt a line
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum StatusFilter {
    Live,
    Lagging,
    Parked,
}

impl StatusFilter {
    pub fn as_str(self) -> &'static str {
        match self {
            StatusFilter::Live => "live",
            StatusFilter::Lagging => "lagging",
            StatusFilter::Parked => "parked",
        }
    }
}

#[derive(Args, Clone, Debug)]
pub struct HuntArgs {
    #[command(flatten)]
    pub from: Daemon,
    /// The hunt
    #[arg(value_name = "ID")]
    pub id: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Clone, Debug)]
pub struct DeadLettersArgs {
    #[command(subcommand)]
    pub command: DeadLettersCommand,
}

#[derive(Clone, Debug, Subcommand)]
pub enum DeadLettersCommand {
    /// List dead letters by topic, partition and offset
    List(DeadLettersListArgs),
    /// Show one dead letter with its key, value and headers
    Show(DeadLetterArgs),
}

#[derive(Args, Clone, Debug)]
pub struct DeadLettersListArgs {
    #[command(flatten)]
    pub from: Daemon,
    /// Only letters of this reason, such as wrong_type
    #[arg(long)]
    pub reason: Option<String>,
    /// Only letters of this hunt
    #[arg(long, value_name = "ID")]
    pub hunt: Option<String>,
    /// Only letters in this state
    #[arg(long, value_parser = ["rejected", "replayed", "discarded"])]
    pub state: Option<String>,
    /// At most this many; 0: all
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub limit: u64,
    /// Print JSON, one letter a line
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Clone, Debug)]
pub struct DeadLetterArgs {
    #[command(flatten)]
    pub from: Daemon,
    /// The record: topic/partition/offset
    #[arg(value_name = "TOPIC/PARTITION/OFFSET", value_parser = record)]
    pub record: RecordName,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Clone, Debug)]
pub struct RollupArgs {
    #[command(flatten)]
    pub from: Daemon,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Clone, Debug)]
pub struct PartitionsArgs {
    #[command(subcommand)]
    pub command: PartitionsCommand,
}

#[derive(Clone, Debug, Subcommand)]
pub enum PartitionsCommand {
    /// List partitions with where they stand, who has them and what tripped their breakers
    ///
    /// POSITION, END and LAG are those of the moment where the daemon that is asked reads the partition; SAVED is where the last
    /// checkpoint left it, and RECORDS, DEAD LETTERS and HELD are of the records below that.
    List(PartitionsListArgs),
    /// Let a partition read on whose breaker tripped; it counts anew from there
    Reset(PartitionArgs),
}

#[derive(Args, Clone, Debug)]
pub struct PartitionsListArgs {
    #[command(flatten)]
    pub from: Daemon,
    /// Print JSON, one partition a line
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Clone, Debug)]
pub struct PartitionArgs {
    #[command(flatten)]
    pub from: Daemon,
    /// The partition: topic/partition
    #[arg(value_name = "TOPIC/PARTITION", value_parser = partition)]
    pub partition: PartitionName,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// A partition as an operator names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionName {
    pub topic: String,
    pub partition: i32,
}

fn partition(text: &str) -> Result<PartitionName, String> {
    let expected = || format!("found {text:?}, expected topic/partition such as hunt-events/0");
    let (topic, number) = text.rsplit_once('/').filter(|(topic, _)| !topic.is_empty()).ok_or_else(expected)?;
    let partition = number.parse::<i32>().ok().filter(|number| *number >= 0).ok_or_else(expected)?;
    Ok(PartitionName { topic: topic.to_owned(), partition })
}

/// A record as an operator names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordName {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
}

fn record(text: &str) -> Result<RecordName, String> {
    let expected = || format!("found {text:?}, expected topic/partition/offset such as hunt-events/0/4711");
    let mut parts = text.rsplitn(3, '/');
    let number = |part: Option<&str>| part.and_then(|p| p.parse::<i64>().ok()).filter(|n| *n >= 0).ok_or_else(expected);
    let offset = number(parts.next())?;
    let partition = i32::try_from(number(parts.next())?).map_err(|_| expected())?;
    let topic = parts.next().filter(|topic| !topic.is_empty()).ok_or_else(expected)?.to_owned();
    Ok(RecordName { topic, partition, offset })
}

/// The daemon that a command asks.
#[derive(Args, Clone, Debug)]
pub struct Daemon {
    #[command(flatten)]
    pub files: Files,
    /// Ask the daemon at this URL instead of the configured one
    #[arg(long, value_name = "URL", env = "HUNTLINE_URL")]
    pub url: Option<String>,
    /// File that holds a bearer token
    #[arg(long, value_name = "FILE", env = "HUNTLINE_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,
}

#[derive(Args, Clone, Debug)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: clap_complete::Shell,
}

/// Prints the completions of one shell to `out`.
pub fn completions(args: &CompletionsArgs, out: &mut impl std::io::Write) {
    clap_complete::generate(args.shell, &mut Cli::command(), "huntline", out);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Command, clap::Error> {
        Cli::try_parse_from(line.split(' ')).map(|cli| cli.command)
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_reads() {
        for line in [
            "huntline run",
            "huntline run --config a.toml --config b.toml --no-migrate",
            "huntline demo",
            "huntline demo --dir d --listen 127.0.0.1:0",
            "huntline check --config a.toml",
            "huntline check --connect",
            "huntline config --schema",
            "huntline migrate --check",
            "huntline generate --rate 10 --count 5 --hunts 3 --skew 1 --duplicates 0.1 --late 0.1 --bad 0.1 --seed 7",
            "huntline generate --brokers a:1,b:2 --topic t",
            "huntline generate --log e.db",
            "huntline hunts list --status parked --json",
            "huntline hunts show h/1 --json",
            "huntline hunts watch h --url http://127.0.0.1:9",
            "huntline rollup --json",
            "huntline partitions list --json --url http://127.0.0.1:9",
            "huntline partitions reset hunt-events/0 --token-file t",
            "huntline dead-letters list --reason wrong_type --hunt h --state rejected --json",
            "huntline dead-letters show hunt-events/0/12 --json",
            "huntline run --from-now",
            "huntline explain h/1 --config a.toml",
            "huntline explain h/1 points --limit 0 --json",
            "huntline verify --config a.toml --hunt h/1 --json",
            "huntline rebuild --config a.toml --accept-loss",
            "huntline completions bash",
        ] {
            parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }

    #[test]
    fn wrong_usage_exits_with_2() {
        for line in [
            "huntline",
            "huntline fly",
            "huntline hunts",
            "huntline dead-letters show x",
            "huntline partitions reset t",
            "huntline hunts list --status gone",
            "huntline dead-letters list --state gone",
        ] {
            assert_eq!(parse(line).expect_err(line).exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn a_record_and_a_partition_are_named_by_their_places() {
        let name = |topic: &str, partition, offset| RecordName { topic: topic.into(), partition, offset };
        assert_eq!(record("hunt-events/3/4711"), Ok(name("hunt-events", 3, 4711)));
        for wrong in ["", "a", "a/1", "a/x/1", "a/1/-1", "/1/1", "a/99999999999/1"] {
            assert!(record(wrong).is_err(), "{wrong}");
        }
        assert_eq!(partition("a/b/3"), Ok(PartitionName { topic: "a/b".into(), partition: 3 }));
        for wrong in ["", "a", "/1", "a/x", "a/-1", "a/99999999999"] {
            assert!(partition(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn completions_name_the_commands() {
        let mut out = Vec::new();
        completions(&CompletionsArgs { shell: clap_complete::Shell::Bash }, &mut out);
        assert!(String::from_utf8_lossy(&out).contains("dead-letters"));
    }
}
