//! Behaviour through public doors, against real parts where it matters. One binary: one link.
//!
//! Each module is named for what it shows; `harness` starts the real parts, `oracle` says what is right.

// The harness and the oracle offer more than today's tests ask of them.
#![allow(dead_code)]

mod breaker;
mod cli;
mod config;
mod documentation;
mod grafana;
mod harness;
mod isolation;
mod kafka;
mod oracle;
mod pipeline;
mod planted;
mod platform;
mod rebalance;
mod recovery;
mod simulation;
mod store_contract;
mod tidy;
mod verify;
