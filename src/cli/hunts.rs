//! hunts
pub fn run(_: &super::HuntsArgs) -> anyhow::Result<u8> { unimplemented!() }
