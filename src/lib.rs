//! The parts of board2mqtt, so that tests and benches can drive them; `ARCHITECTURE.md` has the map.

pub mod agent;
pub mod board;
pub mod buffer;
pub mod cli;
pub mod clock;
pub mod command;
pub mod config;
pub mod dispatch;
pub mod inputs;
pub mod line;
pub mod mqtt;
pub mod outputs;
pub mod payload;
pub mod plan;
pub mod poll;
pub mod process;
pub mod publish;
pub mod quantity;
pub mod sample;
pub mod sensors;
pub mod state;
pub mod systemd;
pub mod topic;
