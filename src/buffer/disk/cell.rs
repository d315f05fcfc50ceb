//! Cells of a segment to bytes and back. See the tables in [the module above](super).
//!
//! Invariant: 32 bytes that were not written as a cell of this segment are not taken for one, but for one chance in 2³².

use crate::buffer::names::crc32;

/// Bytes of a cell.
pub(super) const CELL: usize = 32;
/// The version written here.
pub(super) const VERSION: u16 = 1;
const MAGIC: [u8; 4] = *b"b2mq";
const TAIL_MAGIC: [u8; 4] = *b"b2mt";
/// A date that is not known; none that is known comes near it.
const NO_DATE: u64 = (1 << 48) - 1;

/// The bytes of a cell.
pub(super) type Bytes = [u8; CELL];

/// What a cell says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Cell {
    /// A record.
    Record { session: u8, offset: u16, series: u32, uptime_ms: u64, wall_ms: Option<i64>, value: f64 },
    /// A session.
    Session { number: u8, boot: u128 },
    /// A series, whose label follows.
    Series { number: u32, length: u16, crc: u32 },
    /// A kind that a later version knows.
    Unknown,
}

impl Cell {
    /// The bytes of a cell in the segment that begins with the record `first`.
    pub(super) fn encode(&self, first: u64) -> Bytes {
        let mut bytes = [0; CELL];
        match *self {
            Self::Record { session, offset, series, uptime_ms, wall_ms, value } => {
                bytes[4] = 1;
                bytes[5] = session;
                bytes[6..8].copy_from_slice(&offset.to_le_bytes());
                bytes[8..12].copy_from_slice(&series.to_le_bytes());
                bytes[12..18].copy_from_slice(&six(uptime_ms));
                let date = wall_ms.and_then(|ms| u64::try_from(ms).ok()).unwrap_or(NO_DATE);
                bytes[18..24].copy_from_slice(&six(date));
                bytes[24..32].copy_from_slice(&value.to_le_bytes());
            }
            Self::Session { number, boot } => {
                bytes[4] = 2;
                bytes[5] = number;
                bytes[8..24].copy_from_slice(&boot.to_le_bytes());
            }
            Self::Series { number, length, crc } => {
                bytes[4] = 3;
                bytes[8..12].copy_from_slice(&number.to_le_bytes());
                bytes[12..14].copy_from_slice(&length.to_le_bytes());
                bytes[16..20].copy_from_slice(&crc.to_le_bytes());
            }
            Self::Unknown => {}
        }
        let crc = checksum(&bytes, first);
        bytes[..4].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// What the bytes say; `None` if they are damaged.
    pub(super) fn decode(bytes: &Bytes, first: u64) -> Option<Self> {
        if u32_at(bytes, 0) != checksum(bytes, first) {
            return None;
        }
        Some(match bytes[4] {
            1 => {
                let date = six_at(bytes, 18);
                Self::Record {
                    session: bytes[5],
                    offset: u16_at(bytes, 6),
                    series: u32_at(bytes, 8),
                    uptime_ms: six_at(bytes, 12),
                    wall_ms: (date != NO_DATE).then_some(date as i64),
                    value: f64::from_le_bytes(bytes[24..32].try_into().expect("eight bytes")),
                }
            }
            2 => Self::Session {
                number: bytes[5],
                boot: u128::from_le_bytes(bytes[8..24].try_into().expect("sixteen bytes")),
            },
            3 => Self::Series { number: u32_at(bytes, 8), length: u16_at(bytes, 12), crc: u32_at(bytes, 16) },
            _ => Self::Unknown,
        })
    }
}

/// The first cell of a segment.
pub(super) fn header(first: u64, version: u16) -> Bytes {
    let mut bytes = [0; CELL];
    bytes[4..8].copy_from_slice(&MAGIC);
    bytes[8..10].copy_from_slice(&version.to_le_bytes());
    bytes[16..24].copy_from_slice(&first.to_le_bytes());
    let crc = crc32(0, &bytes[4..]);
    bytes[..4].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// The version a header names; `None` if it is damaged.
pub(super) fn version(bytes: &Bytes) -> Option<u16> {
    let good = u32_at(bytes, 0) == crc32(0, &bytes[4..]) && bytes[4..8] == MAGIC;
    good.then(|| u16_at(bytes, 8))
}

/// The first cell of a tail: what follows belongs to the place `at` in the segment that begins with the record `first`.
pub(super) fn tail_header(first: u64, at: u64) -> Bytes {
    let mut bytes = header(first, VERSION);
    bytes[4..8].copy_from_slice(&TAIL_MAGIC);
    bytes[24..32].copy_from_slice(&at.to_le_bytes());
    let crc = crc32(0, &bytes[4..]);
    bytes[..4].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// What a tail's first cell says; `None` if it is damaged, or of another version.
pub(super) fn tail_header_of(bytes: &Bytes) -> Option<(u64, u64)> {
    let first = u64_at(bytes, 16);
    let at = u64_at(bytes, 24);
    (*bytes == tail_header(first, at)).then_some((first, at))
}

/// Cells that a label takes up.
pub(super) fn label_cells(length: usize) -> usize {
    length.div_ceil(CELL)
}

fn checksum(bytes: &Bytes, first: u64) -> u32 {
    crc32(crc32(0, &first.to_le_bytes()), &bytes[4..])
}

/// The low 48 bits.
fn six(number: u64) -> [u8; 6] {
    number.min(NO_DATE).to_le_bytes()[..6].try_into().expect("six bytes")
}

fn six_at(bytes: &Bytes, at: usize) -> u64 {
    let mut eight = [0; 8];
    eight[..6].copy_from_slice(&bytes[at..at + 6]);
    u64::from_le_bytes(eight)
}

fn u32_at(bytes: &Bytes, at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &Bytes, at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn u16_at(bytes: &Bytes, at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().expect("two bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(wall_ms: Option<i64>) -> Cell {
        Cell::Record { session: 2, offset: 0x0102, series: 0xa0b0_c0d0, uptime_ms: 86_400_123, wall_ms, value: -21.5 }
    }

    #[test]
    fn the_bytes_are_the_documented_ones() {
        let bytes = record(Some(1_772_323_200_000)).encode(7);
        assert_eq!(bytes[4..12], [1, 2, 0x02, 0x01, 0xd0, 0xc0, 0xb0, 0xa0]);
        assert_eq!(bytes[12..18], 86_400_123_u64.to_le_bytes()[..6]);
        assert_eq!(bytes[18..24], 1_772_323_200_000_u64.to_le_bytes()[..6]);
        assert_eq!(bytes[24..32], (-21.5_f64).to_le_bytes());
        assert_eq!(record(None).encode(7)[18..24], [0xff; 6]);
        let session = Cell::Session { number: 3, boot: 0x0f0e_0d0c_0b0a_0908_0706_0504_0302_0100 }.encode(7);
        assert_eq!(session[4..8], [2, 3, 0, 0]);
        assert_eq!(session[8..24], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
        let series = Cell::Series { number: 5, length: 300, crc: 9 }.encode(7);
        assert_eq!(series[4..20], [3, 0, 0, 0, 5, 0, 0, 0, 44, 1, 0, 0, 9, 0, 0, 0]);
        assert_eq!(header(258, 1)[4..24], *b"b2mq\x01\0\0\0\0\0\0\0\x02\x01\0\0\0\0\0\0");
    }

    #[test]
    fn no_flipped_bit_goes_unnoticed_and_no_cell_is_good_in_another_segment() {
        for cell in [record(None), Cell::Session { number: 0, boot: 1 }, Cell::Series { number: 1, length: 2, crc: 3 }]
        {
            let bytes = cell.encode(1_000);
            assert_eq!(Cell::decode(&bytes, 1_000), Some(cell));
            assert_eq!(Cell::decode(&bytes, 1_001), None);
            for bit in 0..8 * CELL {
                let mut flipped = bytes;
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(Cell::decode(&flipped, 1_000), None, "bit {bit}");
            }
        }
        for zero in [0, 1, u64::MAX] {
            assert_eq!(Cell::decode(&[0; CELL], zero), None, "a hole in a file is no cell");
        }
    }

    #[test]
    fn a_kind_of_a_later_version_is_passed_over() {
        let mut bytes = [0; CELL];
        bytes[4] = 200;
        let crc = checksum(&bytes, 1).to_le_bytes();
        bytes[..4].copy_from_slice(&crc);
        assert_eq!(Cell::decode(&bytes, 1), Some(Cell::Unknown));
    }

    #[test]
    fn a_header_names_its_version_or_is_damaged() {
        assert_eq!([1, 2, 77].map(|number| version(&header(5, number))), [Some(1), Some(2), Some(77)]);
        for bit in 0..8 * CELL {
            let mut flipped = header(5, 1);
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(version(&flipped), None, "bit {bit}");
        }
    }

    proptest! {
        #[test]
        fn a_record_comes_back_as_it_was(
            session: u8, offset: u16, series: u32, uptime_ms in 0..NO_DATE, wall in 0..(NO_DATE as i64), known: bool,
            bits: u64, first: u64,
        ) {
            let value = f64::from_bits(bits);
            prop_assume!(value.is_finite());
            let cell = Cell::Record { session, offset, series, uptime_ms, wall_ms: known.then_some(wall), value };
            prop_assert_eq!(Cell::decode(&cell.encode(first), first), Some(cell));
        }
    }
}
