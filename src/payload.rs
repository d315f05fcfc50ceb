//! Both ways of encoding: readings to payloads, and other people's payloads to numbers.

use crate::topic::Piece;

/// How a reading is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// A decimal number.
    #[default]
    Plain,
    /// `{"value":…,"unit":…,"time":…}`
    Json,
    /// Text with `{value} {unit} {time} {sensor} {quantity}`.
    Template(Vec<Piece>),
}
