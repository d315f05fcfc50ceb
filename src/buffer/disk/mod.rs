//! The store on disk: a log of small segments that is written only while the server is away or silent.
//!
//! This page comes before the code: what is promised, the format, the limits, and what recovery does. It is for whoever
//! changes the code, and for whoever has a card in his hand and wants to know what is on it.
//!
//! # Promise
//!
//! - While the link is healthy nothing is written: a record waits in memory for `flush_every`, and is acknowledged before.
//! - A record taken while disconnected is written (`write(2)`) at once, so that it survives the death of the process; one
//!   that is unacknowledged for `flush_every` is written then. In a unit that is a write to the *tail*, a file in the runtime
//!   folder, which is memory: the card gets nothing before the records are due.
//! - What is written is on disk (`fdatasync(2)`) no later than `flush_every` after the first such record was taken: a power
//!   cut costs at most the readings of that time.
//! - A record leaves only when the server has acknowledged it, or by a limit, and then it is counted. What was acknowledged
//!   in the last moments before a crash may be sent again.
//! - No disk is waited for on the thread that takes readings and drives outputs: files belong to a thread of their own
//!   (`worker`), which does nothing unless asked, and has another wait for `fdatasync(2)`. While it is stuck in a write,
//!   records wait in memory, at most [`MAX_BYTES`](super::memory::MAX_BYTES) of them; then `overflow` decides.
//!
//! # Files
//!
//! The folder `[buffer] path` has
//!
//! - `lock`, locked (`flock(2)`) by the process that uses the store, whose number it holds as text;
//! - `cursor`: what the server has;
//! - segments, named by the number of their first record in 16 hexadecimal digits: `00000000000004d2.log`;
//! - perhaps what was put aside, `00000000000004d2.log.version-2`: segments that a newer version wrote.
//!
//! Every record on disk has a number, one greater than that of the record before it. A number is never used twice, even
//! when all segments are gone: `cursor` keeps the count.
//!
//! # Segment, version 1
//!
//! All numbers are little-endian. A segment is a row of cells of 32 bytes, the first of which is the header:
//!
//! | bytes | header |
//! | --- | --- |
//! | 0–3 | CRC-32 of bytes 4–31 |
//! | 4–7 | `b2mq` |
//! | 8–9 | version: 1. Bytes 0–9 mean the same in every version |
//! | 10–15 | 0 |
//! | 16–23 | number of the first record, as in the file's name |
//! | 24–31 | 0 |
//!
//! Each other cell begins with the CRC-32 of its bytes 4–31 preceded by the number of the segment's first record (8 bytes,
//! from the file's name). So a cell is good on its own, a block that some deleted segment left behind is not taken for ours,
//! and a damaged header costs nothing. Byte 4 is the kind; one that is not known is passed over.
//!
//! | bytes | kind 1: a record |
//! | --- | --- |
//! | 5 | number of the session it was taken in |
//! | 6–7 | its number less that of the segment's first |
//! | 8–11 | its series |
//! | 12–17 | when it was taken: milliseconds of its boot, sleep included (`CLOCK_BOOTTIME`) |
//! | 18–23 | when it was taken: milliseconds since 1970; all ones if the date was not known |
//! | 24–31 | the value, an IEEE 754 binary64 |
//!
//! | bytes | kind 2: a session; stands before its first record |
//! | --- | --- |
//! | 5 | its number in this segment, modulo 256 |
//! | 6–7 | 0 |
//! | 8–23 | the boot (`/proc/sys/kernel/random/boot_id`) |
//! | 24–31 | 0 |
//!
//! | bytes | kind 3: a series; stands before its first record in each segment, and its label follows |
//! | --- | --- |
//! | 5–7 | 0 |
//! | 8–11 | its number: the CRC-32 of the label, or the next one that is free |
//! | 12–13 | length of the label |
//! | 14–15 | 0 |
//! | 16–19 | CRC-32 of the label |
//! | 20–31 | 0 |
//!
//! The label, UTF-8 of the owner's choice, fills the cells behind it, the last one up with zeros. Where it is damaged, its
//! number still tells a series that is known otherwise.
//!
//! # Cursor, version 1
//!
//! Two slots of 4096 bytes. One is left for the other only when it is known to be on disk, so that one is whole whatever
//! happens to the other:
//!
//! | bytes | slot |
//! | --- | --- |
//! | 0–3 | CRC-32 of bytes 4 to the end of the ranges |
//! | 4–7 | `b2mc` |
//! | 8–9 | version: 1 |
//! | 10–11 | count of ranges, at most 253 |
//! | 12–15 | 0 |
//! | 16–23 | generation; the whole slot with the greater one counts |
//! | 24–31 | every record before this number is forgotten |
//! | 32–39 | no record with this number or a greater one has been written yet |
//! | 40–… | ranges of forgotten records after it, 16 bytes each: first, and after the last |
//!
//! # Tail, version 1
//!
//! `buffer-<device>-<inode>` in the unit's runtime folder, both numbers of the store's folder, in hexadecimal. It begins with
//! a segment's header, but with `b2mt` in bytes 4–7, in 16–23 the segment's first number, and in 24–31 a place in it. The
//! cells that belong there follow, at most 64 KiB. It is written into the segment every `flush_every`, before anything is
//! read from there, and when a process finds it at start, the last segment is the one it names, and no good cell there says
//! anything else. Where there is none, or no space for it, the segment is written at once.
//!
//! # Limits
//!
//! `max_size` bounds what the folder takes up: segments in whole blocks of 4 KiB, the one being written with all the space
//! that is reserved for it, 16 KiB for the folder, `lock` and `cursor`, and files that are not ours. A segment is a fifth of
//! it, at most 1 MiB. Where a new one does not fit, `overflow` lets the oldest segment go, or refuses what is new. Readings
//! are counted exactly: those of a deleted segment that the server has not, and that nobody delivers live.
//! `max_age` is applied to the oldest records as they are read. Other limits than before, on start or while it runs, hold at
//! once: the last segment gives back what is reserved for it, and `overflow` decides about what is still too much.
//!
//! # Recovery
//!
//! On start the folder is made if it is missing, and locked. Nothing but the cursor, the headers and the last segment is
//! read: numbers tell how much waits. Then
//!
//! - the end of the last segment is looked for from its beginning; what follows the last good cell (a write that a power cut
//!   tore) is cut off, and writing goes on there;
//! - a bad cell in front of good ones is passed over when it is read, and the gap in the numbers tells how many records were
//!   lost; so is a block that cannot be read, and a segment that is missing;
//! - a bad slot of the cursor is replaced by the other; without any, everything in the segments is sent again;
//! - a segment of a newer version is renamed as above, told, and kept; it counts as a file that is not ours. A segment of an
//!   older version is to be read as long as there are such, beside new segments of the current one: its reader stays
//!   (`segment::Reader`). There is no older version yet.
//!
//! Whatever cannot be done (no permission, a file in place of the folder, a read-only or full disk, another process that
//! has the lock) is told once and tried again every ten seconds, and meanwhile records wait in memory: a gateway starts and
//! goes on with any disk, or none. That holds for a second agent on the same folder too. It gets no store but an error that
//! names the first one, and goes on without: a process that was killed while a bus hung in the kernel keeps its lock until
//! the bus lets go, and its successor has outputs to mind. A folder that is removed while in use is made again; what was in
//! it is counted as lost.

mod cell;
mod cursor;
#[cfg(test)]
mod damage;
mod folder;
mod front;
mod log;
#[cfg(test)]
mod medium;
#[cfg(test)]
mod power_cuts;
#[cfg(test)]
mod promise;
mod ranges;
#[cfg(test)]
mod real;
#[cfg(test)]
pub(super) mod rig;
mod segment;
mod shelf;
mod tail;
mod worker;

pub use front::{Disk, Options};

/// Why the disk cannot be used now.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    /// The kernel refused something.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// Another process has the lock.
    #[error("in use by {holder}: a store belongs to one agent")]
    InUse {
        /// The process.
        holder: String,
    },
    /// Not even one segment fits.
    #[error("`max_size` leaves no room: {other} bytes in the folder are not this version's")]
    NoRoom {
        /// Bytes that are there already.
        other: u64,
    },
    /// The folder has been removed.
    #[error("the folder was removed")]
    Removed,
}
