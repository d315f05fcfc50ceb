//! The configuration file: TOML with spans in, a typed [`Config`] or every fault at once out.

pub mod model;

pub use model::*;
