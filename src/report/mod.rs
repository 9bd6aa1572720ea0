//! Reports.
pub mod correlation;
pub mod folder;
pub mod heat_map;
pub mod line_plot;
pub mod paired;
pub mod roofline;
pub mod score_table;
pub mod statistics;
pub mod table;
