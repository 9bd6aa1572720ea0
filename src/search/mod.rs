//! Search.
pub mod archive;
pub mod evolution;
pub mod random;
