//! **`huntline check`**: every problem of a configuration at once, each with its place; contacts nothing. With `--connect`,
//! which waits for the configuration to be valid, also whether Kafka and the store are there as the daemon needs them; it changes nothing.

use super::Files;
use super::screen::plural;
use crate::config::{self, Settings, StoreUrl};
use crate::daemon::store_target;
use crate::source::kafka;
use crate::source::reader::Reader;
use crate::store::{SchemaVersion, Store};
use std::io::Write;
use std::time::Duration;

/// For the store to answer.
const PATIENCE: Duration = Duration::from_secs(15);

#[derive(Clone, Debug, clap::Args)]
pub struct CheckArgs {
    #[command(flatten)]
    pub files: Files,
    /// Also try Kafka and the store; exit 1 if one cannot be reached or used
    #[arg(long)]
    pub connect: bool,
}

/// Prints what is wrong to `err` and a sentence to `out` when nothing is. The exit code: 0, 2 for a wrong configuration, 1 for what cannot
/// be reached.
pub fn run(args: &CheckArgs, out: &mut impl Write, err: &mut impl Write) -> std::io::Result<u8> {
    match config::load_tried(&args.files.config, &kafka::unfit) {
        Ok(loaded) => {
            let what = match args.files.config.as_slice() {
                [] => "the defaults and the environment are".to_owned(),
                [file] => format!("{} is", file.display()),
                files => format!("{} files are", files.len()),
            };
            let count = loaded.settings.definitions.aggregates.len();
            writeln!(out, "{what} valid: {count} {}", plural(count as u64, "aggregate"))?;
            if !args.connect {
                return Ok(0);
            }
            let mut code = 0;
            for tried in [log(&loaded.settings), store(&loaded.settings)] {
                match tried {
                    Ok(lines) => lines.iter().try_for_each(|line| writeln!(out, "{line}"))?,
                    Err(why) => {
                        writeln!(err, "{why}")?;
                        code = 1;
                    }
                }
            }
            Ok(code)
        }
        Err(problems) => {
            writeln!(err, "{problems}")?;
            Ok(2)
        }
    }
}

/// What was found of the log, in sentences; the error is one too.
fn log(settings: &Settings) -> Result<Vec<String>, String> {
    let place = match (&settings.kafka, &settings.embedded_log) {
        (Some(kafka), _) => format!("Kafka at {}", kafka.brokers.join(",")),
        (None, Some(log)) if !log.path.exists() => {
            return there(&log.path)
                .map(|()| vec![format!("embedded log {}: not there yet; `run` creates it", log.path.display())]);
        }
        (None, log) => format!("embedded log {}", log.as_ref().map_or(String::new(), |log| log.path.display().to_string())),
    };
    let alone = matches!(settings.store, StoreUrl::Sqlite { .. });
    let (identity, warnings) = Reader::new(settings, alone).identity().map_err(|why| format!("source: {why}"))?;
    let topics =
        identity.topics.iter().map(|topic| format!("{place}: topic {} is there, {}", topic.topic, partitions(topic.partitions)));
    Ok(topics.chain(warnings.into_iter().map(|warning| format!("{place}: warning: {warning}"))).collect())
}

/// What was found of the store.
fn store(settings: &Settings) -> Result<Vec<String>, String> {
    let place = &settings.store;
    if let StoreUrl::Sqlite { path } = place
        && !path.exists()
    {
        return there(path).map(|()| vec![format!("{place}: not there yet; `run` creates it")]);
    }
    let target = store_target(place);
    let wrong = |why: &dyn std::fmt::Display| format!("store: {why}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| wrong(&error))?;
    let asked = runtime.block_on(async {
        let asked = async {
            let version = Store::schema_version(&target).await?;
            if version.is_current() {
                Store::open_reader(&target).await?.ping().await?;
            }
            Ok(version)
        };
        tokio::time::timeout(PATIENCE, asked)
            .await
            .map_err(|_| wrong(&format!("{place}: no answer within {} s", PATIENCE.as_secs())))
    });
    let SchemaVersion { found, known } = asked?.map_err(|error: crate::store::Error| wrong(&error))?;
    match found {
        0 => Ok(vec![format!("{place}: reached; no schema yet, `run` and `migrate` create it")]),
        _ if found == known => Ok(vec![format!("{place}: reached, schema version {found}, current")]),
        _ if found < known => {
            Ok(vec![format!("{place}: reached, schema version {found}; `run` and `migrate` upgrade it to {known}")])
        }
        _ => Err(format!("{place}: its schema has version {found}, this huntline knows up to {known}: run the newer huntline")),
    }
}

/// Whether the directory of a file that is to be created is there.
fn there(path: &std::path::Path) -> Result<(), String> {
    match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) if !parent.is_dir() => {
            Err(format!("{}: found no directory {}, expected one", path.display(), parent.display()))
        }
        _ => Ok(()),
    }
}

fn partitions(count: i32) -> String {
    format!("{count} {}", plural(count.unsigned_abs().into(), "partition"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str) -> (u8, String, String) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("h.toml");
        std::fs::write(&path, text).expect("written");
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = run(&CheckArgs { files: Files { config: vec![path] }, connect: false }, &mut out, &mut err).expect("printed");
        let text = |bytes| String::from_utf8(bytes).expect("text").replace(&format!("{}/", dir.path().display()), "");
        (code, text(out), text(err))
    }

    #[test]
    fn a_good_file_is_said_to_be_good() {
        assert_eq!(checked("aggregates.a.kind = \"count\""), (0, "h.toml is valid: 1 aggregate\n".into(), String::new()));
    }

    #[test]
    fn problems_go_to_standard_error_and_exit_with_2() {
        let (code, out, err) = checked("[dedup]\nlast = -1\nlost = 2\n");
        assert_eq!((code, out.as_str()), (2, ""));
        assert_eq!(
            err,
            "h.toml:2:8: dedup.last: found -1, expected an integer between 0 and 65536\n  last = -1\n         ^^\n\
             h.toml:3:1: dedup.lost: found an unknown key, expected last; did you mean `last`?\n  lost = 2\n  ^^^^\n2 problems\n"
        );
    }

    #[test]
    fn librdkafka_itself_is_asked_about_its_properties() {
        let text = "[kafka.librdkafka]\n\"sesion.timeout.ms\" = \"5\"\n\"session.timeout.ms\" = 0\n\"client.rack\" = \"a\"\n\
                    \"socket.keepalive.enable\" = \"maybe\"\n[dedup]\nlast = -1\n";
        let (code, out, err) = checked(text);
        assert_eq!((code, out.as_str()), (2, ""), "{err}");
        for sentence in [
            "h.toml:2:1: kafka.librdkafka.\"sesion.timeout.ms\": found a property that librdkafka does not know, expected a name from its CONFIGURATION.md\n  \"sesion.timeout.ms\" = \"5\"\n  ^^^^^^^^^^^^^^^^^^^\n",
            "h.toml:3:24: kafka.librdkafka.\"session.timeout.ms\": found \"0\", expected one in librdkafka's range 1..3600000\n",
            "h.toml:5:29: kafka.librdkafka.\"socket.keepalive.enable\": found \"maybe\", expected a value that librdkafka takes there\n",
            "dedup.last: found -1",
        ] {
            assert!(err.contains(sentence), "{sentence:?} in {err}");
        }
        assert!(!err.contains("client.rack"), "{err}");
    }

    #[cfg(not(feature = "tls"))]
    #[test]
    fn what_this_build_cannot_speak_is_said_without_connecting() {
        for (property, value, found) in [
            ("security.protocol", "sasl_ssl", "\"sasl_ssl\", which this build cannot speak"),
            ("security.protocol", "SSL", "\"SSL\", which this build cannot speak"),
            ("sasl.mechanism", "SCRAM-SHA-512", "\"SCRAM-SHA-512\", which this build cannot speak"),
            ("ssl.ca.location", "/ca.pem", "what this build lacks"),
        ] {
            let (code, out, err) = checked(&format!("[kafka.librdkafka]\n\"{property}\" = \"{value}\"\n"));
            assert_eq!((code, out.as_str()), (2, ""), "{err}");
            let sentence =
                format!("kafka.librdkafka.{property:?}: found {found}, expected a huntline built with the cargo feature `tls`\n");
            assert!(err.starts_with("h.toml:2:") && err.contains(&sentence), "{err}");
        }
        let (code, _, err) =
            checked("[kafka.librdkafka]\n\"security.protocol\" = \"sasl_plaintext\"\n\"sasl.mechanism\" = \"PLAIN\"\n");
        assert_eq!(code, 0, "{err}");
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let mut err = Vec::new();
        let args = CheckArgs { files: Files { config: vec!["/nowhere/h.toml".into()] }, connect: false };
        assert_eq!(run(&args, &mut Vec::new(), &mut err).expect("printed"), 2);
        assert_eq!(
            String::from_utf8_lossy(&err),
            "/nowhere/h.toml: --config: found no such file, expected a TOML file\n1 problem\n"
        );
    }
}
