//! **`huntline check`**: every problem of a configuration at once, each with its place; contacts nothing.

use super::Files;
use crate::config;
use std::io::Write;

#[derive(Clone, Debug, clap::Args)]
pub struct CheckArgs {
    #[command(flatten)]
    pub files: Files,
}

/// Prints what is wrong to `err` and a sentence to `out` when nothing is. The exit code: 0, or 2.
pub fn run(args: &CheckArgs, out: &mut impl Write, err: &mut impl Write) -> std::io::Result<u8> {
    match config::load(&args.files.config) {
        Ok(loaded) => {
            let what = match args.files.config.as_slice() {
                [] => "the defaults and the environment are".to_owned(),
                [file] => format!("{} is", file.display()),
                files => format!("{} files are", files.len()),
            };
            let count = loaded.settings.definitions.aggregates.len();
            let aggregates = if count == 1 { "1 aggregate".to_owned() } else { format!("{count} aggregates") };
            writeln!(out, "{what} valid: {aggregates}")?;
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

    fn checked(text: &str) -> (u8, String, String) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("h.toml");
        std::fs::write(&path, text).expect("written");
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = run(&CheckArgs { files: Files { config: vec![path] } }, &mut out, &mut err).expect("printed");
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
    fn a_file_that_is_not_there_is_named() {
        let mut err = Vec::new();
        let args = CheckArgs { files: Files { config: vec!["/nowhere/h.toml".into()] } };
        assert_eq!(run(&args, &mut Vec::new(), &mut err).expect("printed"), 2);
        assert_eq!(
            String::from_utf8_lossy(&err),
            "/nowhere/h.toml: --config: found no such file, expected a TOML file\n1 problem\n"
        );
    }
}
