//! Behaviour through public doors, against real parts where it matters. One binary: one link.
//!
//! Each module is named for what it shows; `harness` starts the real parts, `oracle` says what is right.

mod grafana;
mod harness;
mod oracle;
