//! **huntline**: exact, explainable views of treasure-hunt event streams, one actor per hunt.
//!
//! ```text
//! record → decode → route → apply → snapshot → checkpoint → store → view → query
//! source    decode   router  hunt     hunt       partition    store         api
//! ```

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
pub mod watermark;
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
pub mod generate;
#[cfg(feature = "test-hooks")]
pub mod test_hooks;
