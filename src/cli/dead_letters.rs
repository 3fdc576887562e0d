//! letters
pub fn run(_: &super::DeadLettersArgs) -> anyhow::Result<u8> { unimplemented!() }
