//! Reports.
pub mod folder;
pub mod heat_map;
pub mod statistics;
