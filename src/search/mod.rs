//! Search.
pub mod archive;
pub mod evolution;
pub mod candidates;
pub mod config;
pub mod finals;
pub mod random;
pub mod run;
