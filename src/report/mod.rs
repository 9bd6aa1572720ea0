//! Reports.
pub mod correlation;
pub mod folder;
pub mod heat_map;
pub mod score_table;
pub mod statistics;
