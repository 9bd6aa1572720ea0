//! A space of which every vector is an architecture.

use super::*;
use crate::space::{Gene, Space};

/// Its genes.
pub(in crate::search) struct Plain(Vec<Gene>);

impl Plain {
    /// With so many values each.
    pub(in crate::search) fn new(options: &[u8]) -> Self {
        Plain(options.iter().map(|options| Gene::category(*options)).collect())
    }
}

impl Space for Plain {
    fn name(&self) -> &str {
        "plain"
    }

    fn genes(&self) -> &[Gene] {
        &self.0
    }

    fn parse(&self, text: &str) -> Result<Arch> {
        let value = |part: &str| part.parse().map_err(|_| Error::invalid("architecture", text.to_owned()));
        text.split('-').map(value).collect::<Result<Vec<u8>>>().map(Arch::from)
    }

    fn show(&self, arch: &Arch) -> String {
        arch.iter().map(u8::to_string).collect::<Vec<_>>().join("-")
    }
}

impl Domain for Plain {
    fn space(&self) -> &dyn Space {
        self
    }
}
