//! GPIO lines, looked at and driven in the registers of the chip from outside.

use super::{CONFIGURATION, INPUT, OUTPUT, line, wait_for_line};
use crate::board::Board;
use std::time::{Duration, Instant};

/// Registers that set and clear levels; of a line that is an input they do what a wire does.
const GPSET0: u64 = 0x3f20_001c;
const GPCLR0: u64 = 0x3f20_0028;

pub fn command(board: &mut Board) {
    assert_eq!(line(board, 17), (false, OUTPUT), "safe from the start");
    for (payload, high) in [("ON", true), ("TOGGLE", false), ("{\"state\":\"ON\",\"for\":\"1s\"}", true)] {
        let reply = board.command("beacon", payload);
        assert!(reply.contains("\"done\""), "{reply}");
        assert_eq!(line(board, 17), (high, OUTPUT), "{payload}: what the reply says is true");
    }
    wait_for_line(board, 17, false);
    board.wait_for_payload("board2mqtt/drone01/beacon", "OFF");
}

pub fn input(board: &mut Board) {
    assert_eq!(line(board, 27).1, INPUT);
    for (register, state) in [(GPSET0, "ON"), (GPCLR0, "OFF"), (GPSET0, "ON"), (GPCLR0, "OFF")] {
        board.qemu.poke(register, 1 << 27);
        board.wait_for_payload("board2mqtt/drone01/door", state);
    }
}

pub fn server_loss(board: &mut Board) {
    board.command("beacon", "ON");
    wait_for_line(board, 17, true);
    board.server.kill();
    let gone = Instant::now();
    wait_for_line(board, 17, false);
    let took = gone.elapsed();
    assert!(took >= Duration::from_secs(3), "off after {took:?}");
    let back = Instant::now();
    board.server.start_again();
    board.wait_for_return(back);
    board.wait_for_payload("board2mqtt/drone01/beacon", "OFF");
    assert_eq!(line(board, 17), (false, OUTPUT), "and it stays off until the next command");
}

/// What README says of this kernel: whatever the output was left at, the line is an input at once.
pub fn closed(board: &mut Board) {
    board.configure(&CONFIGURATION.replace("line = \"GPIO17\"", "line = \"GPIO17\"\non_exit = \"keep\""), "");
    board.command("beacon", "ON");
    wait_for_line(board, 17, true);
    board.guest.root("systemctl stop board2mqtt");
    assert_eq!(line(board, 17).1, INPUT);
    board.guest.root("systemctl start board2mqtt");
    wait_for_line(board, 17, false);
}
