//! Fronts of points: who dominates whom, how much space a front covers, and which of its points to take.

pub mod hypervolume;
pub mod pareto;
pub mod trade_off;
