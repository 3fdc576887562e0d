//! **`huntline run`**: the daemon, until it is told to stop. The exit code: 0, 1 when it cannot go on, 2 for a wrong configuration.

use super::RunArgs;
use crate::config::{self, Format, Logging};
use crate::daemon::{self, Options, Redefined};
use tracing_subscriber::EnvFilter;

pub fn run(args: &RunArgs) -> anyhow::Result<u8> {
    let loaded = match config::load(&args.files.config) {
        Ok(loaded) => loaded,
        Err(problems) => {
            eprintln!("{problems}");
            return Ok(2);
        }
    };
    log_to_stderr(&loaded.settings.logging);
    #[cfg(feature = "test-hooks")]
    let options = crate::test_hooks::from_environment();
    #[cfg(not(feature = "test-hooks"))]
    let options = Options::default();
    let options = Options { no_migrate: args.no_migrate, from_now: args.from_now, ..options };
    let Err(error) = daemon::run(loaded.settings, options) else { return Ok(0) };
    match error.downcast_ref::<Redefined>() {
        Some(redefined) => {
            eprintln!("huntline: {redefined}\n{}", redefined.ways_on(&args.files.named()));
            Ok(1)
        }
        None => Err(error),
    }
}

/// Logs to standard error: text for people, one JSON object a line for machines. `RUST_LOG` goes before the configured level.
pub fn log_to_stderr(logging: &Logging) {
    // The web server's own start-up lines say nothing an operator asks for.
    let filter = || format!("{},actix_server=warn,librdkafka=warn", logging.level.as_str());
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(filter()));
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match logging.format {
        Format::Text => subscriber.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
        Format::Json => subscriber.json().init(),
    }
    let shown = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        tracing::error!(panic = %info, "a part panicked");
        if logging_is_off() {
            shown(info);
        }
    }));
}

/// Whether errors go nowhere: then a panic is shown the usual way.
fn logging_is_off() -> bool {
    tracing::level_filters::LevelFilter::current() < tracing::level_filters::LevelFilter::ERROR
}
