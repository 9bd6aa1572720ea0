//! Search.
pub mod archive;
pub mod candidates;
pub mod config;
pub mod evolution;
pub mod finals;
pub mod proxy;
pub mod random;
pub mod run;
