//! `kind = "raspberry-pi"`: rppal drives a line through the chip's registers where it may, and steps back where it may not.

use super::{CONFIGURATION, OUTPUT, line, wait_for_line};
use crate::board::Board;

/// What the unit withholds from everybody and rppal needs where the kernel has no /dev/gpiomem.
const AS_ROOT: &str = "[Service]\nUser=root\nCapabilityBoundingSet=CAP_SYS_RAWIO\nDeviceAllow=/dev/mem rw\n";

fn registers() -> String {
    format!("{CONFIGURATION}\n[board]\nkind = \"raspberry-pi\"\n")
}

/// The program that the kernel knows to hold GPIO17.
fn holder(board: &Board) -> String {
    board.guest.root("gpioinfo gpiochip0 | awk '$3 == \"\\\"GPIO17\\\"\" { print $4 }'").trim().to_owned()
}

fn warnings(board: &Board, since: &str) -> usize {
    let text = board.guest.root(&format!("journalctl --no-pager -o cat -u board2mqtt --since '{since}'"));
    text.lines().filter(|line| line.contains("rppal is not usable here")).count()
}

/// ON and OFF, seen in the registers from outside.
fn moves(board: &mut Board) {
    for (payload, high) in [("ON", true), ("OFF", false), ("ON", true)] {
        assert!(board.command("beacon", payload).contains("\"done\""));
        assert_eq!(line(board, 17), (high, OUTPUT), "{payload}");
    }
}

pub fn as_root(board: &mut Board) {
    let begun = board.now();
    board.configure(&registers(), AS_ROOT);
    wait_for_line(board, 17, false);
    assert_eq!(holder(board), "unused", "the character device knows nothing of it");
    moves(board);
    assert_eq!(warnings(board, &begun), 0);
    board.guest.root("systemctl stop board2mqtt");
    assert_eq!(line(board, 17), (false, OUTPUT), "no file is closed: the line stays what `on_exit` made it");
    board.guest.root("systemctl start board2mqtt");
    wait_for_line(board, 17, false);
}

pub fn fallback(board: &mut Board) {
    let begun = board.now();
    board.configure(&registers(), "");
    board.wait_for_payload("board2mqtt/drone01/beacon", "OFF");
    assert_eq!(holder(board), "\"board2mqtt\"");
    moves(board);
    assert_eq!(warnings(board, &begun), 1, "one for all lines");
}
