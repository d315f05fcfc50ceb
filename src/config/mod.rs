//! The configuration file: TOML with spans in, a typed [`Config`] or every fault at once out.

pub mod diagnostics;
pub mod model;

pub use diagnostics::{Diagnostic, Severity};
pub use model::*;
