//! Networks as graphs: representation, construction, differentiation, planning.
//!
//! [`Builder`] makes a [`Graph`]; [`Builder::backward`] appends its gradients as operations of the same kind;
//! [`Plan`](plan::Plan) compiles any number of instances of graphs into one list of dispatches.

mod backward;
mod build;
mod custom;
mod host;
mod ir;
pub mod memory;
mod merge;
pub mod plan;
mod schedule;
mod scope;
mod settle;
pub mod store;
mod strips;
mod term;

pub use backward::Gradients;
pub use build::{BatchNorm, Builder, Compared, Loss, Value, View};
pub use custom::{Custom, CustomCall, CustomOp};
pub use host::*;
pub use ir::*;
pub use term::{Term, TermKind};
