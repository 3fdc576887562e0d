//! Behaviour through public doors, against real parts where it matters. One binary: one link.
//!
//! Each module is named for what it shows; `harness` starts the real parts, `oracle` says what is right.

#[allow(dead_code, reason = "the oracle says more than any one test asks")]
mod oracle;
mod planted;
mod simulation;
