//! `altiplano bench`
use super::Global;
use crate::error::Result;
#[derive(clap::Args)]
pub(super) struct Args {}
pub(super) fn run(_: &Global, _: &Args) -> Result<()> { Ok(()) }
