//! How an `embedded-hal` transaction becomes transfers that every Linux adapter takes. Pure: the wire is a trait.
//!
//! Two traps are avoided here. `i2cdev` joins neighbouring messages of one direction with `I2C_M_NOSTART`, which many
//! adapters refuse and some misframe: neighbours become one message. And adapters such as the Raspberry Pi's refuse a
//! combined transfer whose read is not last: it is split after each read, with a stop between the parts.

use embedded_hal::i2c::Operation;
use std::borrow::Cow;
use std::io;

/// The longest message `i2c-dev` takes (`i2cdev_ioctl_rdwr` in the kernel).
pub(super) const MAX_MESSAGE: usize = 8192;

/// One transfer on a bus: a write, a read, or a write and a read with a repeated start between them.
pub(super) trait Wire {
    /// Carries it out; at least one of the two is there, no slice is longer than [`MAX_MESSAGE`].
    fn transfer(&mut self, write: Option<&[u8]>, read: Option<&mut [u8]>) -> io::Result<()>;
}

/// Carries out a transaction as the fewest transfers of at most one write followed by one read.
///
/// Empty parts are dropped, except that a lone empty write is sent: it asks whether anybody answers at the address.
pub(super) fn carry_out(wire: &mut impl Wire, operations: &mut [Operation<'_>]) -> io::Result<()> {
    let mut rest = operations;
    while !rest.is_empty() {
        let writes = rest.iter().take_while(|operation| !is_read(operation)).count();
        let reads = rest[writes..].iter().take_while(|operation| is_read(operation)).count();
        let (now, later) = rest.split_at_mut(writes + reads);
        let (written, read) = now.split_at_mut(writes);
        one(wire, written, read)?;
        rest = later;
    }
    Ok(())
}

fn is_read(operation: &Operation<'_>) -> bool {
    matches!(operation, Operation::Read(_))
}

fn one(wire: &mut impl Wire, writes: &[Operation<'_>], reads: &mut [Operation<'_>]) -> io::Result<()> {
    let wanted: usize = reads.iter().map(length).sum();
    if writes.iter().map(length).sum::<usize>().max(wanted) > MAX_MESSAGE {
        return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
    }
    let bytes = joined(writes);
    let write = (!writes.is_empty() && (!bytes.is_empty() || wanted == 0)).then_some(&*bytes);
    match reads {
        _ if wanted == 0 => write.map_or(Ok(()), |write| wire.transfer(Some(write), None)),
        [Operation::Read(only)] => wire.transfer(write, Some(only)),
        several => {
            let mut all = vec![0; wanted];
            wire.transfer(write, Some(&mut all))?;
            scatter(&all, several);
            Ok(())
        }
    }
}

fn length(operation: &Operation<'_>) -> usize {
    match operation {
        Operation::Write(bytes) => bytes.len(),
        Operation::Read(bytes) => bytes.len(),
    }
}

/// The bytes of neighbouring writes as one message, without a copy where there is only one.
fn joined<'a>(writes: &'a [Operation<'_>]) -> Cow<'a, [u8]> {
    if let [Operation::Write(only)] = writes {
        return Cow::Borrowed(only);
    }
    let mut all = Vec::new();
    for write in writes {
        if let Operation::Write(bytes) = write {
            all.extend_from_slice(bytes);
        }
    }
    Cow::Owned(all)
}

fn scatter(mut all: &[u8], reads: &mut [Operation<'_>]) {
    for read in reads {
        if let Operation::Read(into) = read {
            let (mine, others) = all.split_at(into.len());
            into.copy_from_slice(mine);
            all = others;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Notes what is written and reads 1, 2, 3, …
    #[derive(Default)]
    struct Recorder {
        transfers: Vec<(Option<Vec<u8>>, usize)>,
        next: u8,
    }

    impl Wire for Recorder {
        fn transfer(&mut self, write: Option<&[u8]>, read: Option<&mut [u8]>) -> io::Result<()> {
            assert!(write.is_some() || read.is_some());
            self.transfers.push((write.map(<[u8]>::to_vec), read.as_ref().map_or(0, |read| read.len())));
            for byte in read.into_iter().flatten() {
                self.next = self.next.wrapping_add(1);
                *byte = self.next;
            }
            Ok(())
        }
    }

    fn run(operations: &mut [Operation<'_>]) -> Vec<(Option<Vec<u8>>, usize)> {
        let mut wire = Recorder::default();
        carry_out(&mut wire, operations).expect("a transfer");
        wire.transfers
    }

    #[test]
    fn write_then_read_is_one_combined_transfer() {
        let mut six = [0; 6];
        let done = run(&mut [Operation::Write(&[0xF7]), Operation::Read(&mut six)]);
        assert_eq!(done, [(Some(vec![0xF7]), 6)]);
        assert_eq!(six, [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn neighbouring_writes_are_one_message() {
        let done = run(&mut [Operation::Write(&[0x10]), Operation::Write(&[1, 2]), Operation::Write(&[])]);
        assert_eq!(done, [(Some(vec![0x10, 1, 2]), 0)]);
    }

    #[test]
    fn neighbouring_reads_are_one_message_and_each_gets_its_part() {
        let (mut two, mut three) = ([0; 2], [0; 3]);
        let done = run(&mut [Operation::Read(&mut two), Operation::Read(&mut three)]);
        assert_eq!(done, [(None, 5)]);
        assert_eq!((two, three), ([1, 2], [3, 4, 5]));
    }

    #[test]
    fn a_read_that_is_not_last_is_split_off() {
        let (mut one, mut two) = ([0; 1], [0; 2]);
        let done = run(&mut [
            Operation::Read(&mut one),
            Operation::Write(&[7]),
            Operation::Read(&mut two),
            Operation::Write(&[8]),
        ]);
        assert_eq!(done, [(None, 1), (Some(vec![7]), 2), (Some(vec![8]), 0)]);
    }

    #[test]
    fn empty_parts_are_dropped_but_a_lone_empty_write_probes() {
        assert_eq!(run(&mut [Operation::Write(&[])]), [(Some(vec![]), 0)]);
        let mut one = [0];
        assert_eq!(run(&mut [Operation::Write(&[]), Operation::Read(&mut one)]), [(None, 1)]);
        assert_eq!(run(&mut [Operation::Read(&mut [])]), []);
        assert_eq!(run(&mut []), []);
    }

    #[test]
    fn messages_beyond_the_kernels_limit_never_reach_the_wire() {
        let mut wire = Recorder::default();
        let error = carry_out(&mut wire, &mut [Operation::Write(&[0; MAX_MESSAGE + 1])]).expect_err("too long");
        assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
        let mut longer = vec![0; 65_537];
        carry_out(&mut wire, &mut [Operation::Read(&mut longer)]).expect_err("too long");
        assert_eq!(wire.transfers, []);
    }

    proptest! {
        /// Whatever the operations: every byte goes out once and in order, every buffer is filled in order, each
        /// transfer has its read last, and no two transfers could have been one.
        #[test]
        fn nothing_is_lost_reordered_or_split_without_need(
            shape in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 1..9)), 0..12)
        ) {
            let mut buffers: Vec<Vec<u8>> = shape.iter().map(|(_, bytes)| vec![0; bytes.len()]).collect();
            let mut operations: Vec<Operation<'_>> = shape.iter().zip(&mut buffers).map(|((read, bytes), buffer)| {
                if *read { Operation::Read(buffer) } else { Operation::Write(bytes) }
            }).collect();
            let done = run(&mut operations);

            let written: Vec<u8> = done.iter().filter_map(|(write, _)| write.clone()).flatten().collect();
            let expected: Vec<u8> = shape.iter().filter(|(read, _)| !read).flat_map(|(_, bytes)| bytes.clone()).collect();
            prop_assert_eq!(written, expected);
            let read: Vec<u8> = shape.iter().zip(&buffers).filter(|((read, _), _)| *read)
                .flat_map(|(_, buffer)| buffer.clone()).collect();
            let counted: Vec<u8> = (1..=read.len()).map(|n| n as u8).collect();
            prop_assert_eq!(read, counted);
            for pair in done.windows(2) {
                prop_assert!(pair[0].1 > 0 && pair[1].0.is_some(), "{:?}", pair);
            }
        }
    }
}
