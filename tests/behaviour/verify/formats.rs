//! Stores whose states another version of huntline wrote in another **format**: refused whole at the start, not hunt by hunt, and made
//! anew by `rebuild`.
use super::{BEFORE, Setup, Site, huntline, verify};
use std::fs;

#[test]
fn a_store_of_another_format_is_refused_by_name_and_made_anew_by_rebuild() {
    let mut site = Site::new("formats");
    site.append(1_000);
    site.built("base", BEFORE);
    for (name, format) in [("earlier", 1), ("later", 3)] {
        let config = site.damaged(name, |store| {
            store.pragma_update(None, "journal_mode", "WAL").expect("as the daemon keeps it");
            let sql = format!("UPDATE partials SET state = CAST(x'{format:02x}' || substr(state, 2) AS BLOB)");
            assert!(store.execute(&sql, []).expect("changed") > 0);
        });
        let before = fs::read(site.store(name)).expect("the store");
        let sentence = format!(
            "this store's states have format {format}, this version of huntline reads and writes format 2: `huntline migrate` and then `huntline rebuild`"
        );
        for from_now in [false, true] {
            let setup = Setup::new(&site.text(name, BEFORE));
            let mut daemon = if from_now { setup.arg("--from-now") } else { setup }.spawn();
            assert_eq!(daemon.await_exit().code(), Some(1), "{}", daemon.output());
            assert!(daemon.output().contains(&sentence), "{}", daemon.output());
        }
        assert!(before == fs::read(site.store(name)).expect("the store"), "it was changed");

        let rebuilt = huntline(&["rebuild", "--config", config.to_str().expect("UTF-8")]);
        assert_eq!(rebuilt.code, Some(0), "{rebuilt:?}");
        site.assert_says(name, &site.said(BEFORE));
        let same = verify(&config);
        assert_eq!(same.code, Some(0), "{same:?}");
    }
    site.append(500);
    site.built("earlier", BEFORE);
    site.assert_says("earlier", &site.said(BEFORE));
}
