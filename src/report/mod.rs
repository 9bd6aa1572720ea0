//! Reports.
pub mod folder;
pub mod statistics;
