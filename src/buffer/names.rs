//! What numbers stand for in a store: the labels of series, and the boots that records were taken in.
//!
//! A series has the checksum of its label for a number, so it is the same in every run and can be found again where the
//! disk has lost what it stands for. Invariant: two labels never share a number.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The labels and boots known to one store; its threads share them, and none holds on to them.
#[derive(Debug)]
pub(super) struct Names(Mutex<Known>);

#[derive(Debug)]
struct Known {
    labels: BTreeMap<u32, Arc<str>>,
    /// This process's boot first.
    boots: Vec<u128>,
}

impl Names {
    /// No labels, and one boot.
    pub(super) fn new(this_boot: u128) -> Self {
        Self(Mutex::new(Known { labels: BTreeMap::new(), boots: vec![this_boot] }))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of a label; the same one whenever it is asked for.
    pub(super) fn series(&self, label: &str) -> u32 {
        let mut known = self.known();
        let mut number = crc32(0, label.as_bytes());
        loop {
            match known.labels.get(&number) {
                Some(there) if **there == *label => return number,
                Some(_) => number = number.wrapping_add(1),
                None => {
                    known.labels.insert(number, label.into());
                    return number;
                }
            }
        }
    }

    /// The label of a number.
    pub(super) fn label(&self, series: u32) -> Option<Arc<str>> {
        self.known().labels.get(&series).cloned()
    }

    /// The number of a boot.
    pub(super) fn boot_number(&self, boot: u128) -> u32 {
        let boots = &mut self.known().boots;
        let at = boots.iter().position(|known| *known == boot).unwrap_or_else(|| {
            boots.push(boot);
            boots.len() - 1
        });
        at as u32
    }

    /// The boot of a number.
    pub(super) fn boot(&self, number: u32) -> Option<u128> {
        self.known().boots.get(number as usize).copied()
    }
}

/// CRC-32 as in ISO 3309 (zip, PNG, Ethernet), going on from `before`; 0 to begin.
pub(super) fn crc32(before: u32, bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!before, |crc, byte| TABLE[usize::from(crc as u8 ^ byte)] ^ (crc >> 8))
}

static TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut crc = index as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { 0xedb8_8320 ^ (crc >> 1) } else { crc >> 1 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_published_one() {
        assert_eq!(crc32(0, b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(crc32(0, b"12345"), b"6789"), 0xcbf4_3926);
        assert_eq!(crc32(0, b""), 0);
    }

    #[test]
    fn a_label_keeps_its_number_and_shares_it_with_none() {
        // Two words with one checksum.
        let (one, other) = ("plumless", "buckeroo");
        assert_eq!(crc32(0, one.as_bytes()), crc32(0, other.as_bytes()));
        let names = Names::new(1);
        let numbers = [one, other].map(|label| names.series(label));
        assert_ne!(numbers[0], numbers[1]);
        assert_eq!([one, other].map(|label| names.series(label)), numbers);
        for (number, label) in numbers.into_iter().zip([one, other]) {
            assert_eq!(names.label(number).as_deref(), Some(label));
        }
    }

    #[test]
    fn this_boot_is_number_zero() {
        let names = Names::new(7);
        assert_eq!([7, 9, 7, 9].map(|boot| names.boot_number(boot)), [0, 1, 0, 1]);
        assert_eq!([0, 1, 2].map(|number| names.boot(number)), [Some(7), Some(9), None]);
    }
}
