//! The configuration file: TOML with spans in, a typed [`Config`] out, or every fault of its keys and what is left without them.
//!
//! It owns syntax, types, ranges, defaults and what keys of one table say to each other; what needs the drivers or other
//! tables is `plan`'s, which reports it through the same [`SourceText`]. Invariant: nothing is read that the key table
//! (`keys`) does not have, and nothing written in the file goes unread.

pub mod diagnostics;
mod doubts;
mod environment;
mod gateway;
mod inputs;
mod keys;
mod load;
pub mod model;
mod names;
mod outputs;
mod reader;
mod reference;
mod remedy;
mod secrets;
mod sensors;
mod source;
mod tree;
mod values;

pub use diagnostics::{Diagnostic, Severity};
pub use doubts::Doubts;
pub use environment::PREFIX;
pub use keys::sensor_keys;
pub use load::{Loaded, MAX_SIZE, PATHS, load, locate, parse};
pub use model::*;
pub use reference::reference;
pub use remedy::unknown_key;
pub use source::{Partial, Report, SourceText};
