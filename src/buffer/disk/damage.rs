//! What the store makes of a disk that rots, fills up, refuses, or is not what it left.

use super::cell::{CELL, header};
use super::cursor;
use super::medium::Medium;
use super::rig::{FLUSH_MS, Rig, WIDE};
use crate::buffer::{Buffer as _, Contents, Limits, Overflow, UNKNOWN_BOOT};
use std::io::ErrorKind;
use std::time::Duration;

const SEGMENT: &str = "0000000000000000.log";

/// Twenty readings of a series that the next process knows, and twenty of one it does not, alternating.
fn two_series() -> Rig {
    let mut rig = Rig::new(WIDE);
    for value in 0..40 {
        let label = if value % 2 == 0 { "a" } else { "b, of which no configuration tells any more" };
        let ticket = rig.take(label, f64::from(value));
        rig.store.release(ticket..ticket + 1);
    }
    rig.settle();
    rig
}

/// A new process on a copy of the disk in which `spoil` has changed a file.
fn on_spoilt(rig: &Rig, name: &str, spoil: impl FnOnce(&mut Vec<u8>)) -> Rig {
    let copy = rig.medium.copied_onto(Medium::default());
    copy.with_file(name, spoil);
    let mut next = Rig::closed(copy, WIDE);
    next.store.series("a");
    next
}

#[test]
fn no_flipped_bit_is_taken_for_a_reading_or_costs_more_than_it_hit() {
    let rig = two_series();
    let length = rig.medium.with_file(SEGMENT, |content| content.len());
    // Header, session, a series and a record, another series (its label fills two cells), 39 records.
    assert_eq!(length, CELL * (1 + 1 + 2 + 3 + 40));
    let mut costs = [0; 48];
    for bit in 0..8 * length {
        let mut next = on_spoilt(&rig, SEGMENT, |content| content[bit / 8] ^= 1 << (bit % 8));
        let values = next.values();
        assert!(values.is_sorted_by(|a, b| a < b) && values.iter().all(|value| *value < 40), "bit {bit}: {values:?}");
        let damaged = next.store.contents().damaged;
        assert_eq!(values.len() as u64 + damaged, 40, "bit {bit}: {values:?}");
        costs[bit / 8 / CELL] = costs[bit / 8 / CELL].max(damaged);
    }
    // Header and session cost nothing; nor does the label that the next process knows; the other one costs its series; a
    // record costs itself.
    assert_eq!(costs[..8], [0, 0, 0, 0, 1, 20, 20, 20]);
    assert!(costs[8..47].iter().all(|cost| *cost == 1), "{costs:?}");
}

#[test]
fn without_its_session_a_reading_is_of_no_known_boot() {
    let rig = two_series();
    let mut next = on_spoilt(&rig, SEGMENT, |content| content[CELL + 10] ^= 1);
    let records = next.drain();
    assert_eq!(records.len(), 40);
    assert!(records.iter().all(|record| record.boot == UNKNOWN_BOOT && next.store.boot(record.boot).is_none()));
    let mut next = on_spoilt(&rig, SEGMENT, |_| {});
    assert!(next.drain().iter().all(|record| next.store.boot(record.boot) == Some(1)));
}

#[test]
fn a_file_that_is_cut_off_anywhere_has_what_is_left() {
    let rig = two_series();
    let length = rig.medium.with_file(SEGMENT, |content| content.len());
    for end in 0..=length {
        let mut next = on_spoilt(&rig, SEGMENT, |content| content.truncate(end));
        let whole = (end / CELL).saturating_sub(2 + 2);
        // The second series stands between the first record and the second.
        let expected = if whole <= 1 { whole } else { whole.saturating_sub(3).max(1) };
        next.keep(100..103);
        let mut values: Vec<u32> = (0..expected as u32).collect();
        values.extend(100..103);
        assert_eq!(next.values(), values, "cut off at {end}");
        assert_eq!(next.store.contents().damaged, 0, "what a power cut tears off is no damage");
    }
}

#[test]
fn whatever_happens_to_the_cursor_nothing_is_lost() {
    let mut rig = two_series();
    assert_eq!(rig.drain().len(), 40);
    rig.keep(40..50);
    // Each is on disk before the next.
    rig.share(4);
    rig.pass(FLUSH_MS);
    rig.share(2);
    let length = rig.medium.with_file(cursor::NAME, |content| content.len());
    for at in 0..length {
        let mut next = on_spoilt(&rig, cursor::NAME, |content| content[at] ^= 0x10);
        let values = next.values();
        assert!(values.ends_with(&[46, 47, 48, 49]), "byte {at}: {values:?}");
        assert!(values.len() <= 6, "the other slot is what was on disk before: byte {at}: {values:?}");
    }
    for spoil in [|content: &mut Vec<u8>| content.fill(0xff), |content: &mut Vec<u8>| content.clear()] {
        let mut next = on_spoilt(&rig, cursor::NAME, spoil);
        assert_eq!(next.values(), (40..50).collect::<Vec<_>>(), "without any, all that is there is sent again");
    }
}

#[test]
fn a_block_that_cannot_be_read_costs_its_cells() {
    let mut rig = Rig::new(WIDE);
    rig.keep(0..1_000);
    rig.medium.kill();
    rig.medium.spoil(SEGMENT, 8_192..8_193);
    rig.restart();
    let values = rig.values();
    assert_eq!((values.len(), rig.store.contents().damaged), (1_000 - 4_096 / CELL, (4_096 / CELL) as u64));
    assert!(values.is_sorted() && values.starts_with(&[0, 1, 2]) && values.ends_with(&[998, 999]));
}

#[test]
fn what_cannot_be_read_now_waits() {
    let mut rig = Rig::new(Limits { max_size: 100 * 1024, ..WIDE });
    rig.keep(0..1_500);
    rig.medium.lock_up(true);
    let first = rig.values();
    assert!(first.len() < 1_500, "what was read ahead, and of a file that is open");
    // It is tried now and then, not in a loop, and does not keep anything from being written.
    rig.pass(60_000);
    rig.keep(1_500..1_510);
    assert_eq!((rig.store.contents().at_risk, rig.store.contents().damaged), (0, 0));
    rig.medium.lock_up(false);
    rig.store.online(true);
    rig.pass(10_000);
    assert_eq!([first, rig.values()].concat(), (0..1_510).collect::<Vec<_>>());
}

#[test]
fn a_segment_that_is_missing_is_counted() {
    let limits = Limits { max_size: 100 * 1024, ..WIDE };
    let mut rig = Rig::new(limits);
    rig.keep(0..1_500);
    let names: Vec<_> = rig.medium.names().into_iter().filter(|name| name.ends_with(".log")).collect();
    assert_eq!(names.len(), 3);
    rig.medium.vanish(Some(&names[1]));
    let values = rig.values();
    let damaged = rig.store.contents().damaged as usize;
    assert!(damaged > 400 && values.len() + damaged == 1_500, "{damaged} lost, {} there", values.len());
}

#[test]
fn a_newer_version_is_put_aside_and_kept() {
    let medium = Medium::default();
    let content = [header(7, 2).as_slice(), b"what this version cannot read"].concat();
    medium.put("0000000000000007.log", &content);
    medium.put("notes.txt", b"not ours");
    let mut rig = Rig::on(medium, WIDE);
    rig.keep(0..5);
    assert_eq!(rig.values(), [0, 1, 2, 3, 4]);
    let names = rig.medium.names();
    assert!(names.contains(&"notes.txt".to_owned()), "{names:?}");
    let aside = rig.medium.with_file("0000000000000007.log.version-2", |aside| aside.clone());
    assert_eq!(aside, content);
}

#[test]
fn what_is_not_ours_counts_for_the_limit() {
    let medium = Medium::default();
    medium.put("somebody's", &vec![1; 200 * 1024]);
    let mut rig = Rig::on(medium, Limits { max_size: 128 * 1024, ..WIDE });
    rig.keep(0..10);
    let Contents { waiting, on_disk, at_risk, dropped, .. } = rig.store.contents();
    assert_eq!((waiting, on_disk, at_risk, dropped), (10, 0, 10, 0), "there is no room, so it is kept in memory");
    assert_eq!(rig.values(), (0..10).collect::<Vec<_>>());
}

#[test]
fn a_smaller_limit_than_before_holds_from_the_start() {
    let mut rig = Rig::new(WIDE);
    rig.keep(0..40_000);
    rig.medium.kill();
    let limits = Limits { max_size: 1024 * 1024, ..WIDE };
    let mut rig = Rig::on(rig.medium.clone(), limits);
    let dropped = rig.store.contents().dropped;
    assert!(dropped > 0 && rig.medium.bytes() <= 1024 * 1024, "{dropped} dropped, {} bytes", rig.medium.bytes());
    let values = rig.values();
    assert_eq!(values, (dropped as u32..40_000).collect::<Vec<_>>());
}

#[test]
fn a_full_disk_is_waited_out_in_memory() {
    let mut rig = Rig::new(WIDE);
    rig.keep(0..10);
    rig.medium.set_capacity(Some(rig.medium.bytes() + 40));
    rig.keep(10..30);
    assert_eq!(rig.store.contents().at_risk, 20);
    // It is tried again now and then, not in a loop.
    let before = rig.medium.writes();
    rig.pass(60_000);
    assert!(rig.medium.writes() - before <= 60_000 / 10_000 * 3, "{} steps", rig.medium.writes() - before);
    assert_eq!(rig.store.contents().at_risk, 20);
    rig.medium.set_capacity(None);
    rig.pass(10_000);
    assert_eq!(rig.store.contents().at_risk, 0, "there is space again");
    rig.medium.kill();
    rig.restart();
    assert_eq!(rig.values(), (0..30).collect::<Vec<_>>());
}

#[test]
fn a_full_disk_can_be_emptied() {
    let mut rig = Rig::new(WIDE);
    rig.keep(0..200);
    rig.medium.set_capacity(Some(rig.medium.bytes()));
    rig.keep(200..210);
    // There is no room even for the cursor: what is sent is forgotten all the same, by removing it.
    assert_eq!(rig.values(), (0..210).collect::<Vec<_>>());
    rig.pass(20_000);
    rig.keep(210..220);
    rig.medium.kill();
    rig.restart();
    assert_eq!(rig.values(), (210..220).collect::<Vec<_>>());
}

#[test]
fn a_disk_that_only_reads_is_as_good_as_none() {
    let medium = Medium::default();
    medium.refuse(Some(ErrorKind::ReadOnlyFilesystem));
    let limits = Limits { max_size: 100 * 1024, ..WIDE };
    let mut rig = Rig::on(medium, limits);
    rig.keep(0..5_000);
    let Contents { waiting, dropped, .. } = rig.store.contents();
    assert_eq!(waiting + dropped as usize, 5_000, "memory has the same limit");
    assert!(dropped > 0 && rig.store.deadline() == Some(rig.now.uptime_ms + 10_000));
    rig.medium.refuse(None);
    rig.pass(10_000);
    assert_eq!(rig.store.contents().at_risk, 0, "it is tried again");
    assert_eq!(rig.values(), (dropped as u32..5_000).collect::<Vec<_>>());
}

#[test]
fn a_synchronisation_that_fails_is_tried_again() {
    let mut rig = Rig::new(WIDE);
    rig.keep(0..10);
    rig.medium.refuse(Some(ErrorKind::Other));
    rig.pass(FLUSH_MS);
    rig.medium.refuse(None);
    rig.pass(20_000);
    rig.medium.cut(&mut fastrand::Rng::with_seed(1));
    rig.restart();
    assert_eq!(rig.values().len(), 10);
}

#[test]
fn a_folder_that_is_removed_is_made_again() {
    let mut rig = Rig::new(WIDE);
    rig.keep(0..10);
    let held = rig.take("a", 10.0);
    rig.settle();
    rig.medium.vanish(None);
    rig.keep(11..20);
    let Contents { waiting, dropped, at_risk, .. } = rig.store.contents();
    assert_eq!((waiting, dropped, at_risk), (9, 10, 0), "what was in it is lost and counted, what follows is not");
    rig.store.forget(held..held + 1);
    rig.medium.kill();
    rig.restart();
    assert_eq!(rig.values(), (11..20).collect::<Vec<_>>());
}

#[test]
fn what_is_new_waits_for_what_the_disk_may_have_but_not_for_ever() {
    let rig = two_series();
    let mut next = on_spoilt(&rig, SEGMENT, |_| {});
    let ticket = next.take("a", 100.0);
    next.store.release(ticket..ticket + 1);
    next.store.online(true);
    next.store.turn(next.now);
    assert!(!next.store.is_ready(), "the disk has not answered yet");
    next.settle();
    let share = next.share(1_000);
    assert_eq!((share.len(), share[40].value), (41, 100.0));

    let mut hanging = Rig::closed(Medium::default(), WIDE);
    let ticket = hanging.take("a", 100.0);
    hanging.store.release(ticket..ticket + 1);
    hanging.store.turn(hanging.now);
    assert!(!hanging.store.is_ready());
    hanging.now.uptime_ms = hanging.store.deadline().expect("an end of the waiting");
    hanging.store.turn(hanging.now);
    assert!(hanging.store.is_ready() && hanging.store.deadline().is_none());
}

#[test]
fn a_disk_that_hangs_costs_memory_and_nothing_else() {
    let mut rig = Rig::closed(Medium::default(), Limits { max_size: 1024 * 1024, ..WIDE });
    // The thread does not answer: the main thread goes on, asks for nothing twice, and is due for nothing.
    for value in 0..50_000 {
        let ticket = rig.take("a", f64::from(value));
        rig.store.release(ticket..ticket + 1);
        rig.store.turn(rig.now);
        assert_eq!(rig.store.deadline(), Some(rig.now.uptime_ms + 10_000));
    }
    let Contents { waiting, dropped, .. } = rig.store.contents();
    assert_eq!(waiting as u64 + dropped, 50_000);
    assert!(dropped > 0 && rig.store.is_busy());
    rig.settle();
    assert_eq!(rig.values(), (dropped as u32..50_000).collect::<Vec<_>>());
}

#[test]
fn what_gives_way_is_what_the_configuration_says() {
    for overflow in [Overflow::DropOldest, Overflow::DropNewest] {
        let max_size = 100 * 1024;
        let mut rig = Rig::new(Limits { max_size, overflow, ..WIDE });
        for value in 0..10_000 {
            rig.keep(value..value + 1);
            assert!(rig.medium.bytes() as u64 + 16 * 1024 <= max_size, "{} bytes", rig.medium.bytes());
        }
        let Contents { waiting, dropped, on_disk, .. } = rig.store.contents();
        assert_eq!((waiting as u64 + dropped, on_disk), (10_000, waiting));
        let expected = match overflow {
            Overflow::DropOldest => dropped as u32..10_000,
            Overflow::DropNewest => 0..waiting as u32,
        };
        assert_eq!(rig.values(), expected.collect::<Vec<_>>());
        rig.keep(10_000..10_010);
        assert_eq!(rig.values(), (10_000..10_010).collect::<Vec<_>>(), "there is room again");
    }
}

#[test]
fn a_smaller_limit_holds_as_soon_as_the_disk_lets_it() {
    let flush_every = Duration::from_millis(FLUSH_MS);
    let limits = Limits { max_size: 1024 * 1024, ..WIDE };
    let mut rig = Rig::new(WIDE);
    rig.keep(0..40_000);
    let before = rig.medium.bytes();
    rig.medium.refuse(Some(ErrorKind::ReadOnlyFilesystem));
    rig.store.limit(limits, flush_every);
    rig.pass(5_000);
    assert_eq!((rig.medium.bytes(), rig.store.contents().dropped), (before, 0));
    rig.medium.refuse(None);
    rig.pass(10_000);
    assert!(rig.medium.bytes() <= 1024 * 1024, "{} bytes", rig.medium.bytes());
    let dropped = rig.store.contents().dropped;
    assert!(dropped > 0 && rig.store.deadline().is_none());
    rig.medium.kill();
    let mut rig = Rig::on(rig.medium.clone(), WIDE);
    assert_eq!(rig.values(), (dropped as u32..40_000).collect::<Vec<_>>(), "what was counted as lost, and no more");
}

#[test]
fn a_disk_that_comes_late_is_opened_under_the_limits_that_hold_by_then() {
    let narrow = Limits { max_size: 100 * 1024, ..WIDE };
    let mut rig = Rig::new(WIDE);
    rig.keep(0..10_000);
    rig.medium.kill();
    rig.medium.refuse(Some(ErrorKind::PermissionDenied));
    let mut rig = Rig::on(rig.medium.clone(), narrow);
    rig.store.limit(WIDE, Duration::from_millis(FLUSH_MS));
    rig.medium.refuse(None);
    rig.pass(10_000);
    assert_eq!(rig.store.contents().dropped, 0);
    assert_eq!(rig.values().len(), 10_000);
}
