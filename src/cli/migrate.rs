//! **`huntline migrate`**: creates or upgrades the store's schema, `hunt_summary` after the configuration's definitions included, or
//! only says whether it is current.

use super::MigrateArgs;
use crate::config;
use crate::daemon::store_target;
use crate::store::{Store, summary};
use anyhow::Context as _;

/// The exit code: 0; with `--check` 1 when the schema is not current; 2 for a wrong configuration.
pub fn run(args: &MigrateArgs) -> anyhow::Result<u8> {
    let loaded = match config::load(&args.files.config) {
        Ok(loaded) => loaded,
        Err(problems) => {
            eprintln!("{problems}");
            return Ok(2);
        }
    };
    let target = store_target(&loaded.settings.store);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start a runtime")?;
    runtime.block_on(async {
        let version = if args.check { Store::schema_version(&target).await? } else { Store::migrate(&target).await? };
        let (found, known) = (version.found, version.known);
        match (version.is_current(), args.check) {
            (true, _) => println!("{}: schema version {found}, current", loaded.settings.store),
            (false, true) => {
                println!("{}: schema version {found}, this huntline needs {known}: run `huntline migrate`", loaded.settings.store)
            }
            (false, false) => println!("{}: upgraded from schema version {found} to {known}", loaded.settings.store),
        }
        if !args.check {
            let definitions = &loaded.settings.definitions;
            let wanted = summary::columns(definitions);
            if !Store::summarise(&target, &config::definitions_json(definitions), &wanted).await? {
                println!("{}: hunt_summary stays as it is: the store was built with other definitions", loaded.settings.store);
            }
        }
        Ok(u8::from(args.check && !version.is_current()))
    })
}
