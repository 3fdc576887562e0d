//! **huntline**: exact, explainable views of treasure-hunt event streams, one actor per hunt.
//!
//! ```text
//! record → decode → route → apply → snapshot → checkpoint → store → view → query
//! source    decode   router  hunt     hunt       partition    store         api
//! ```
//!
//! A [`source`] hands each partition whole batches of [`record`]s. [`decode`] turns them into events by
//! a plan compiled once from the [`definitions`]; the [`partition`]'s machine routes them, one order a
//! hunt a batch; a [`hunt`] folds its share into its [`partial`] and gives its snapshot at a boundary;
//! the checkpoint commits snapshots, counts, dead letters and the position together in the [`store`];
//! the [`api`] shows the merge of a hunt's partials, live or saved.
//!
//! The rules in the middle are pure: no I/O, no clock. [`actor`] wraps one thin actor around each hunt
//! and each partition, [`daemon`] builds all of it in the order of the path and stops source first,
//! store last. A module uses only modules above it; outside libraries stop at their folders.

// Words.
pub mod codec;
pub mod definitions;
pub mod outcome;
pub mod position;
pub mod record;
pub mod time;
// Rules: pure, deterministic, no I/O, no clock.
pub mod aggregate;
pub mod decode;
pub mod dedup;
pub mod hunt;
pub mod partial;
pub mod partition;
pub mod refold;
pub mod rollup;
pub mod watermark;
pub mod window;
// Plan.
pub mod config;
// Ports.
pub mod source;
pub mod store;
// Figures.
pub mod metrics;
// Actors.
pub mod actor;
// Edges.
pub mod api;
pub mod cli;
pub mod daemon;
pub mod explain;
#[cfg(feature = "test-hooks")]
pub mod fuzzing;
pub mod generate;
pub mod rebuild;
#[cfg(feature = "test-hooks")]
pub mod test_hooks;
pub mod verify;
