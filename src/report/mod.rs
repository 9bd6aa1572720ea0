//! Reports.
pub mod chart;
pub mod correlation;
pub mod diagram;
pub mod folder;
pub mod heat_map;
pub mod number;
pub mod paired;
pub mod roofline;
pub mod score_table;
pub mod sign;
pub mod statistics;
pub mod surface;
pub mod svg;
pub mod table;
