//! A fault or a warning about the configuration, and how it is shown: `file:line:column`, the line, a caret, what is allowed.

use super::Origin;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The configuration is refused.
    Fault,
    /// It is accepted.
    Warning,
}

/// One thing to tell about the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// Where.
    pub origin: Origin,
    /// What is wrong, what was found. Lower case, no full stop.
    pub message: String,
    /// What is allowed, or `did you mean`.
    pub help: Option<String>,
}

impl Diagnostic {
    /// A fault.
    pub fn fault(origin: &Origin, message: impl Into<String>) -> Self {
        Self { severity: Severity::Fault, origin: origin.clone(), message: message.into(), help: None }
    }

    /// A warning.
    pub fn warning(origin: &Origin, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::fault(origin, message) }
    }

    /// The same with a remedy.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}
