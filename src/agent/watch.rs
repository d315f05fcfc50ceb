//! The inputs' file descriptors in the reactor.

use crate::inputs::Inputs;
use std::future::poll_fn;
use std::os::fd::{AsRawFd, OwnedFd};
use std::task::{Context, Poll, Waker};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Which descriptors are watched.
#[derive(Default)]
pub struct Watch {
    /// By input: the descriptor, and the generation of the request it belongs to.
    watched: Vec<Option<(u32, AsyncFd<OwnedFd>)>>,
}

impl Watch {
    /// Watches what `inputs` has open now.
    pub fn follow(&mut self, inputs: &Inputs) {
        self.watched.resize_with(inputs.specs().len(), || None);
        for (index, watched) in self.watched.iter_mut().enumerate() {
            let open = inputs.input(index);
            let known = watched.as_ref().map(|(generation, _)| *generation);
            if open.map(|(_, generation)| generation) == known {
                continue;
            }
            *watched = open.and_then(|(descriptor, generation)| {
                let own = descriptor.try_clone_to_owned().ok()?;
                // SAFETY: an owned descriptor is the same open file for as long as it lives, and the registration owns it.
                let registered = unsafe { AsyncFd::register_with_interest(own, Interest::READABLE) };
                Some((generation, registered.ok()?))
            });
        }
    }

    /// Waits until an input is readable.
    pub async fn ready(&self) -> usize {
        poll_fn(|context| {
            let ready = |entry: &Option<(u32, AsyncFd<OwnedFd>)>| {
                entry.as_ref().is_some_and(|(_, fd)| fd.poll_read_ready(context).is_ready())
            };
            self.watched.iter().position(ready).map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// The input has been read: wait for more, unless there is more already.
    pub fn read(&self, input: usize) {
        let Some((_, fd)) = &self.watched[input] else { return };
        let mut context = Context::from_waker(Waker::noop());
        if let Poll::Ready(Ok(mut guard)) = fd.poll_read_ready(&mut context) {
            // An event between this look and the clearing is not lost: the guard clears only what it has seen.
            if !is_readable(fd.get_ref()) {
                guard.clear_ready();
            }
        }
    }
}

fn is_readable(descriptor: &OwnedFd) -> bool {
    let mut wanted = libc::pollfd { fd: descriptor.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one valid pollfd, for the duration of the call.
    unsafe { libc::poll(&mut wanted, 1, 0) > 0 }
}
