//! systemd: readiness, status, watchdog, credentials, and the journal.
