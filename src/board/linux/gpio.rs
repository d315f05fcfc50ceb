//! GPIO lines through the character device: outputs requested with their level, inputs with the edges wanted where there are any.
//!
//! The kernel owns a line for as long as the request is open, and does active-low itself, so that every value here is
//! the logical one. What a line does after it is released is its controller's affair.

use super::lines::{self, Found};
use super::words;
use crate::board::{Edge, Input, Output};
use crate::clock::Instant;
use crate::line::{Active, Bias, Edges, Initial, Level};
use crate::sample::{Failure, Reason};
use gpiocdev::Request;
use gpiocdev::line::{EdgeDetection, EdgeEvent, EdgeKind, Value};
use gpiocdev::request::{Builder, Config};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};

/// What `gpioinfo` shows for our lines.
const CONSUMER: &str = "board2mqtt";
/// Edges the kernel keeps for us where it can be told (API 2; its own default is 16, its limit 1024 a request).
const KERNEL_EDGES: u32 = 256;
/// Edges taken in one call.
const EDGES: usize = 64;

/// Requests an output.
///
/// `Initial::Keep` takes two calls, because gpiocdev has none that drives a line as it is found: the line is requested
/// untouched and read, then made an output of that level. Its level does not move; an input becomes an output of the
/// level it had.
pub(super) fn output(root: &Path, line: &Found, active: Active, initial: Initial) -> Result<Box<dyn Output>, Failure> {
    let refused = |error| request_failure(root, line, &error);
    let mut builder = request(line, active);
    let request = match initial {
        Initial::Level(level) => builder.as_output(value(level)).request().map_err(refused)?,
        Initial::Keep => keep(line, active, builder.as_is()).map_err(refused)?,
    };
    Ok(Box::new(GpioOutput { request, line: line.describe() }))
}

fn keep(line: &Found, active: Active, builder: &mut Builder) -> gpiocdev::Result<Request> {
    let request = builder.request()?;
    let found = request.lone_value()?;
    let mut config = Config::default();
    config.with_line(line.offset).as_output(found);
    if active == Active::Low {
        config.as_active_low();
    }
    request.reconfigure(&config)?;
    Ok(request)
}

/// Requests an input and the edges it shall tell, or none where the controller has no interrupts (an I2C expander, for example).
pub(super) fn input(
    root: &Path,
    line: &Found,
    active: Active,
    bias: Bias,
    wanted: Edges,
) -> Result<Box<dyn Input>, Failure> {
    let plain = || {
        let mut builder = request(line, active);
        builder.as_input().with_bias(kernel_bias(bias));
        builder
    };
    let mut builder = plain();
    builder.with_edge_detection(detection(wanted));
    if speaks_version_2(line) {
        builder.with_kernel_event_buffer_size(KERNEL_EDGES);
    }
    let (request, edges) = match builder.request() {
        Ok(request) => (request, true),
        // If the line cannot be had without edges either, it was not they that were refused.
        Err(error) if is_unsupported(&error) => match plain().request() {
            Ok(request) => (request, false),
            Err(_) => return Err(request_failure(root, line, &error)),
        },
        Err(error) => return Err(request_failure(root, line, &error)),
    };
    set_nonblocking(&request).map_err(|error| words::refused(root, &line.chip, "a non-blocking read", &error))?;
    Ok(Box::new(GpioInput { request, line: line.describe(), edges, last: None }))
}

fn speaks_version_2(line: &Found) -> bool {
    let chip = gpiocdev::Chip::from_path(&line.chip);
    chip.and_then(|chip| chip.supports_abi_version(gpiocdev::AbiVersion::V2)).is_ok()
}

fn request(line: &Found, active: Active) -> Builder {
    let mut builder = Request::builder();
    builder.with_consumer(CONSUMER).on_chip(PathBuf::from(&line.chip)).with_line(line.offset);
    if active == Active::Low {
        builder.as_active_low();
    }
    builder
}

/// `ENOTSUPP`, which the kernel lets through to here although only it should see it.
const ENOTSUPP: i32 = 524;

fn is_unsupported(error: &gpiocdev::Error) -> bool {
    matches!(lines::errno(error), Some(libc::ENXIO | libc::EINVAL | libc::EOPNOTSUPP | libc::ENOENT | ENOTSUPP))
}

/// A refused request; for a busy line it is asked again who holds it.
fn request_failure(root: &Path, line: &Found, error: &gpiocdev::Error) -> Failure {
    let again = || {
        let chip = gpiocdev::Chip::from_path(&line.chip).ok()?;
        Found::from_info(&line.chip, "", chip.line_info(line.offset).ok()?).held(root)
    };
    let unnamed = || Failure::new(Reason::Busy, format!("{} is held by another program or driver", line.describe()));
    match lines::errno(error) {
        Some(libc::EBUSY) => again().unwrap_or_else(unnamed),
        Some(libc::EACCES | libc::EPERM) => words::permission(root, &line.chip),
        Some(libc::ENOENT | libc::ENODEV) => Failure::new(Reason::Absent, format!("{} is gone", line.chip.display())),
        Some(libc::EINVAL | libc::EOPNOTSUPP | ENOTSUPP) => Failure::new(
            Reason::Driver,
            format!(
                "{} cannot be had as configured: its controller refuses the direction or the bias",
                line.describe()
            ),
        ),
        _ => {
            Failure::new(Reason::Driver, format!("{} cannot be requested: {}", line.describe(), lines::io_error(error)))
        }
    }
}

fn refused(what: &str, line: &str, error: &gpiocdev::Error) -> Failure {
    Failure::new(Reason::Driver, format!("{what} {line} failed: {}", lines::io_error(error)))
}

fn value(level: Level) -> Value {
    level.is_on().into()
}

fn kernel_bias(bias: Bias) -> Option<gpiocdev::line::Bias> {
    match bias {
        Bias::AsIs => None,
        Bias::Disabled => Some(gpiocdev::line::Bias::Disabled),
        Bias::PullUp => Some(gpiocdev::line::Bias::PullUp),
        Bias::PullDown => Some(gpiocdev::line::Bias::PullDown),
    }
}

/// The kernel's rising and falling edges are logical ones.
const fn detection(edges: Edges) -> EdgeDetection {
    match edges {
        Edges::Both => EdgeDetection::BothEdges,
        Edges::Activations => EdgeDetection::RisingEdge,
        Edges::Deactivations => EdgeDetection::FallingEdge,
    }
}

fn set_nonblocking(request: &Request) -> io::Result<()> {
    let fd = request.as_raw_fd();
    // SAFETY: the descriptor is open for the duration of both calls, which take no pointers.
    let done = unsafe { libc::fcntl(fd, libc::F_SETFL, libc::fcntl(fd, libc::F_GETFL) | libc::O_NONBLOCK) };
    if done == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

struct GpioOutput {
    request: Request,
    line: String,
}

impl Output for GpioOutput {
    fn set(&mut self, level: Level) -> Result<(), Failure> {
        self.request.set_lone_value(value(level)).map_err(|error| refused("setting", &self.line, &error))
    }

    fn level(&mut self) -> Result<Level, Failure> {
        let value = self.request.lone_value().map_err(|error| refused("reading", &self.line, &error))?;
        Ok(Level::switch(value.into()))
    }
}

struct GpioInput {
    request: Request,
    line: String,
    /// Whether the controller tells edges.
    edges: bool,
    /// The sequence number of the last edge, by which lost ones are noticed.
    last: Option<u32>,
}

impl AsFd for GpioInput {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.request.as_fd()
    }
}

impl Input for GpioInput {
    fn is_active(&mut self) -> Result<bool, Failure> {
        let value = self.request.lone_value().map_err(|error| refused("reading", &self.line, &error))?;
        Ok(value.into())
    }

    fn tells_edges(&self) -> bool {
        self.edges
    }

    fn edges(&mut self, into: &mut Vec<Edge>) -> Result<(), Failure> {
        if !self.edges {
            return Ok(());
        }
        let words = self.request.edge_event_u64_size();
        let mut buffer = [0_u64; EDGES * size_of::<gpiocdev_uapi::v2::LineEdgeEvent>() / 8];
        let read = match self.request.read_edge_events_into_slice(&mut buffer[..EDGES * words]) {
            Ok(read) => read,
            Err(error) if matches!(lines::errno(&error), Some(libc::EAGAIN | libc::EINTR)) => return Ok(()),
            Err(error) => return Err(refused("reading edges of", &self.line, &error)),
        };
        for event in buffer[..read].chunks_exact(words) {
            let event = self.request.edge_event_from_slice(event);
            let event = event.map_err(|error| refused("reading edges of", &self.line, &error))?;
            into.push(edge(&event, &mut self.last));
        }
        Ok(())
    }
}

/// An edge as the rest of the program sees it: the kernel's kinds are logical, its time is `CLOCK_MONOTONIC`
/// (API 2 by default, API 1 since Linux 5.7).
fn edge(event: &EdgeEvent, last: &mut Option<u32>) -> Edge {
    Edge {
        active: event.kind == EdgeKind::Rising,
        at: Instant::from_nanos(event.timestamp_ns),
        lost: lost(last, event.line_seqno),
    }
}

/// How many edges are missing before number `seqno`. The kernel counts from 1; API 1 does not count and gives 0 always.
fn lost(last: &mut Option<u32>, seqno: u32) -> u32 {
    if seqno == 0 && last.is_none() {
        return 0;
    }
    let expected = last.map_or(1, |last| last.wrapping_add(1));
    *last = Some(seqno);
    seqno.wrapping_sub(expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_in_the_kernels_numbers_are_lost_edges() {
        let mut last = None;
        let numbers = [1, 2, 5, 6, 300];
        let gaps: Vec<u32> = numbers.iter().map(|seqno| lost(&mut last, *seqno)).collect();
        assert_eq!(gaps, [0, 0, 2, 0, 293]);
    }

    #[test]
    fn edges_lost_before_the_first_read_count_too() {
        assert_eq!(lost(&mut None, 17), 16);
    }

    #[test]
    fn the_numbers_wrap() {
        let mut last = Some(u32::MAX - 1);
        let gaps: Vec<u32> = [u32::MAX, 0, 1].iter().map(|seqno| lost(&mut last, *seqno)).collect();
        assert_eq!(gaps, [0, 0, 0]);
    }

    #[test]
    fn api_1_has_no_numbers_and_loses_nothing_it_could_tell() {
        let mut last = None;
        assert_eq!([lost(&mut last, 0), lost(&mut last, 0)], [0, 0]);
        assert_eq!(last, None);
    }

    #[test]
    fn kernel_edges_become_logical_edges_at_their_monotonic_time() {
        let event = EdgeEvent { timestamp_ns: 1_500, kind: EdgeKind::Falling, offset: 4, seqno: 9, line_seqno: 2 };
        let edge = edge(&event, &mut Some(1));
        assert_eq!(edge, Edge { active: false, at: Instant::from_nanos(1_500), lost: 0 });
    }

    #[test]
    fn what_a_controller_cannot_do_is_told_apart_from_a_busy_line() {
        let os = |errno| gpiocdev::Error::from(io::Error::from_raw_os_error(errno));
        for errno in [libc::ENXIO, libc::EINVAL, libc::EOPNOTSUPP, 524] {
            assert!(is_unsupported(&os(errno)), "{errno}");
        }
        assert!(!is_unsupported(&os(libc::EBUSY)) && !is_unsupported(&os(libc::EACCES)));
    }

    #[test]
    fn refusals_of_a_request_are_classified() {
        let root = tempfile::tempdir().expect("a folder");
        let line = Found::for_test("/nonexistent/gpiochip0", 17, "GPIO17");
        let reason =
            |errno: i32| request_failure(root.path(), &line, &io::Error::from_raw_os_error(errno).into()).reason;
        assert_eq!(reason(libc::EBUSY), Reason::Busy);
        assert_eq!(reason(libc::EPERM), Reason::Permission);
        assert_eq!(reason(libc::ENODEV), Reason::Absent);
        assert_eq!(reason(libc::EINVAL), Reason::Driver);
        assert_eq!(reason(libc::EIO), Reason::Driver);
    }
}
