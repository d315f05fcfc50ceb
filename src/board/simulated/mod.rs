//! The simulated board: models of chips and of the buses they hang on.

pub mod bus;
pub mod chips;
