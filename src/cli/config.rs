//! **`huntline config`**: the effective configuration, secrets masked, or the JSON Schema of one.

use super::Files;
use crate::config;
use std::io::Write;

#[derive(Clone, Debug, clap::Args)]
pub struct ConfigArgs {
    #[command(flatten)]
    pub files: Files,
    /// Print the JSON Schema of a configuration file instead.
    #[arg(long)]
    pub schema: bool,
}

/// Prints to `out`, or what is wrong to `err`. The exit code: 0, or 2.
pub fn run(args: &ConfigArgs, out: &mut impl Write, err: &mut impl Write) -> std::io::Result<u8> {
    if args.schema {
        writeln!(out, "{}", config::schema_json())?;
        return Ok(0);
    }
    match config::load(&args.files.config) {
        Ok(loaded) => {
            write!(out, "{}", loaded.effective_toml())?;
            Ok(0)
        }
        Err(problems) => {
            writeln!(err, "{problems}")?;
            Ok(2)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(schema: bool) -> String {
        let mut out = Vec::new();
        let args = ConfigArgs { files: Files { config: Vec::new() }, schema };
        assert_eq!(run(&args, &mut out, &mut Vec::new()).expect("printed"), 0);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn the_effective_configuration_is_toml_with_every_default() {
        let text = printed(false);
        let shown: toml_edit::DocumentMut = text.parse().expect("TOML");
        assert_eq!(shown["snapshot"]["interval"].as_str(), Some("5s"));
        assert_eq!(shown["kafka"]["librdkafka"]["security.protocol"].as_str(), Some("plaintext"));
    }

    #[test]
    fn the_schema_knows_every_table_and_allows_no_other_key() {
        let schema: serde_json::Value = serde_json::from_str(&printed(true)).expect("JSON");
        assert_eq!(schema["additionalProperties"], false);
        assert_eq!(schema["properties"]["time"]["properties"]["lateness"]["type"], "string");
        assert!(!schema.to_string().contains("null") && !schema.to_string().contains("x-expected"));
    }
}
