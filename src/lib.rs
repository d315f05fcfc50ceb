//! board2mqtt bridges the sensors, inputs and outputs of a Linux board to an MQTT server.
//!
//! This is the library beneath the one binary, so that tests and benches can drive its parts; it promises no stable
//! interface to others. What people use is described in `README.md`; `ARCHITECTURE.md` has the map, the invariants and the
//! way to add a sensor. In short, from the ground up, each layer knowing only those before it:
//!
//! - words: [`clock`], [`quantity`], [`line`](mod@line), [`topic`], [`sample`], [`command`]
//! - edges: [`config`], [`board`], [`buffer`], [`mqtt`], [`systemd`], [`state`]
//! - domain: [`sensors`], [`inputs`], [`outputs`], [`process`], [`payload`]
//! - flows: [`plan`], then [`poll`], [`publish`], [`dispatch`]
//! - the whole: [`agent`], [`cli`]

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
