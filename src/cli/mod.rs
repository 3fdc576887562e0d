//! placeholder until the command line is merged
pub mod demo;
pub mod generate;
