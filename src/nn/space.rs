//! What a search needs of a space besides its architectures: networks.

use super::Model;
use super::nas_bench_201::{Network, Supernet, inherited_name};
use crate::space::Space;
use crate::space::nas_bench_201::NasBench201;

/// A space whose architectures can be built, alone or as paths of a supernet.
pub trait NetworkSpace: Space {
    /// The network of one architecture.
    fn network(&self, arch: &Self::Arch) -> Box<dyn Model>;
    /// The supernet of all.
    fn supernet(&self) -> Box<dyn Model>;
    /// The path of an architecture in the supernet.
    fn path(&self, arch: &Self::Arch) -> Vec<u8>;
    /// What the supernet calls a weight of an architecture's network; `None` if it has no such weight.
    fn inherited(&self, name: &str, arch: &Self::Arch) -> Option<String>;
}

impl NetworkSpace for NasBench201 {
    fn network(&self, arch: &Self::Arch) -> Box<dyn Model> {
        Box::new(Network::new(*arch, self.sizes))
    }

    fn supernet(&self) -> Box<dyn Model> {
        Box::new(Supernet { sizes: self.sizes })
    }

    fn path(&self, arch: &Self::Arch) -> Vec<u8> {
        Supernet::path(arch)
    }

    fn inherited(&self, name: &str, arch: &Self::Arch) -> Option<String> {
        inherited_name(name, arch)
    }
}
