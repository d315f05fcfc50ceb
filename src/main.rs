//! board2mqtt: bridges GPIO and I2C of a Linux board to MQTT. Everything is in the library; see `ARCHITECTURE.md`.

use std::process::ExitCode;

fn main() -> ExitCode {
    board2mqtt::cli::main(std::env::args_os().skip(1))
}
