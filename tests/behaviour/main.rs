//! Behaviour through public doors, against real parts where it matters. One binary: one link.
//!
//! Each module is named for what it shows; `harness` starts the real parts, `oracle` says what is right.

mod config;
mod harness;
mod kafka;
mod oracle;
mod simulation;
mod store_contract;
