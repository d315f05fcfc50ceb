//! One fault stays one fault: whatever goes wrong on the board or on the link, everybody else keeps their cadence, commands
//! are carried out, memory stays bounded, and health and metrics tell what happened.

mod board_faults;
mod bystanders;
mod link_faults;
#[path = "../support/mod.rs"]
mod support;
