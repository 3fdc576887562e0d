//! Behaviour through public doors, against real parts where it matters. One binary: one link.
//!
//! Each module is named for what it shows; `harness` starts the real parts, `oracle` says what is right.

// The harness and the oracle offer more than today's tests ask of them.
#![allow(dead_code)]

mod aggregates;
mod breaker;
mod cli;
mod config;
mod corpus;
mod decoding;
mod documentation;
mod engine;
mod gaps;
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
mod stalls;
mod store_contract;
mod tidy;
mod verify;
mod victims;
