//! A TCP link between a client and a server that a test can cut, tear in the middle of a packet, freeze, slow down, or make
//! lose the server's acks or change their order.

use super::mosquitto::free_port;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// How often a connection looks whether the mode has changed.
const STEP: Duration = Duration::from_millis(5);
/// PUBACK and PUBCOMP.
const ACKS: [u8; 2] = [4, 7];

/// What happens to the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// They pass.
    Forward,
    /// They stay where they are, in both directions; connections stay open.
    BlackHole,
    /// Each piece waits this long first.
    Delay(Duration),
    /// They pass, except PUBACK and PUBCOMP from the server.
    SwallowAcks,
    /// They pass; PUBACK and PUBCOMP that come close together pass last, in reverse order.
    ReorderAcks,
    /// Of the next packet half passes, then the connection ends.
    Tear,
}

struct Shared {
    mode: Mutex<Mode>,
    refuse: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
    accepted: AtomicUsize,
    stopped: AtomicBool,
}

/// The link; it ends when dropped.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

impl Proxy {
    /// A link to 127.0.0.1:`server`.
    pub fn to(server: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", free_port())).expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let shared = Arc::new(Shared {
            mode: Mutex::new(Mode::Forward),
            refuse: AtomicBool::new(false),
            open: Mutex::new(Vec::new()),
            accepted: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
        });
        let accepting = shared.clone();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if accepting.stopped.load(Ordering::SeqCst) {
                    return;
                }
                accepting.connect(client, server);
            }
        });
        Self { port, shared }
    }

    /// Where clients connect, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How many connections it has accepted.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Changes what happens from now on, on open connections too.
    pub fn set(&self, mode: Mode) {
        *self.shared.mode.lock().expect("the mode") = mode;
    }

    /// Whether new connections are closed at once.
    pub fn refuse(&self, refuse: bool) {
        self.shared.refuse.store(refuse, Ordering::SeqCst);
    }

    /// Says to the clients what no server says: `bytes`, then `filler` more, as far as they take it; how many bytes that was.
    pub fn say_to_clients(&self, bytes: &[u8], filler: usize) -> usize {
        let open = self.shared.open.lock().expect("the open connections");
        let mut said = 0;
        // Each client is followed by its server.
        for mut client in open.iter().step_by(2).map(|stream| stream.try_clone().expect("a handle")) {
            client.set_write_timeout(Some(Duration::from_secs(5))).expect("a TCP socket");
            let chunk = [0; 64 * 1024];
            let rest = (0..filler).step_by(chunk.len()).map(|_| &chunk[..]);
            for piece in std::iter::once(bytes).chain(rest) {
                match client.write_all(piece) {
                    Ok(()) => said += piece.len(),
                    Err(_) => break,
                }
            }
        }
        said
    }

    /// Ends every open connection; new ones are welcome.
    pub fn cut(&self) {
        for stream in self.shared.open.lock().expect("the open connections").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Ends every open connection as a link does that has forgotten it: with a reset on both sides.
    pub fn reset(&self) {
        for stream in self.shared.open.lock().expect("the open connections").drain(..) {
            // SAFETY: all bytes of a `sockaddr` may be zero, and AF_UNSPEC is zero.
            let nobody: libc::sockaddr = unsafe { std::mem::zeroed() };
            let length = libc::socklen_t::try_from(size_of::<libc::sockaddr>()).expect("a few bytes");
            // SAFETY: `nobody` is readable for the duration of the call, and the descriptor is open.
            unsafe { libc::connect(stream.as_raw_fd(), &raw const nobody, length) };
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        self.cut();
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Shared {
    fn connect(self: &Arc<Self>, client: TcpStream, server: u16) {
        self.accepted.fetch_add(1, Ordering::SeqCst);
        if self.refuse.load(Ordering::SeqCst) {
            return;
        }
        let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else { return };
        for stream in [&client, &server] {
            stream.set_nodelay(true).expect("a TCP socket");
            stream.set_read_timeout(Some(STEP)).expect("a TCP socket");
            self.open.lock().expect("the open connections").push(stream.try_clone().expect("a handle"));
        }
        let (to_client, to_server) = (client.try_clone().expect("a handle"), server.try_clone().expect("a handle"));
        let (up, down) = (self.clone(), self.clone());
        thread::spawn(move || up.pump(client, to_server, false));
        thread::spawn(move || down.pump(server, to_client, true));
    }

    fn pump(&self, mut from: TcpStream, mut to: TcpStream, from_server: bool) {
        let mut chunk = [0; 16 * 1024];
        let mut frames = Frames::default();
        loop {
            let mode = *self.mode.lock().expect("the mode");
            if mode == Mode::BlackHole && !self.stopped.load(Ordering::SeqCst) {
                thread::sleep(STEP);
                continue;
            }
            let count = match from.read(&mut chunk) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => 0,
                Err(_) => break,
            };
            if let (Mode::Delay(delay), 1..) = (mode, count) {
                thread::sleep(delay);
            }
            let acks = match *self.mode.lock().expect("the mode") {
                Mode::SwallowAcks if from_server => Acks::Drop,
                Mode::ReorderAcks if from_server && count > 0 => Acks::Hold,
                _ => Acks::Pass,
            };
            let passed = frames.pass(&chunk[..count], acks);
            if mode == Mode::Tear && !passed.is_empty() {
                let _ = to.write_all(&passed[..passed.len() / 2]);
                break;
            }
            if to.write_all(&passed).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    }
}

/// What happens to a server's acks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Acks {
    Pass,
    Drop,
    /// They wait for the next time acks pass, which turns them round.
    Hold,
}

/// MQTT packets, put together from pieces.
#[derive(Default)]
struct Frames {
    partial: Vec<u8>,
    held: Vec<Vec<u8>>,
}

impl Frames {
    /// The whole packets there are now.
    fn pass(&mut self, piece: &[u8], acks: Acks) -> Vec<u8> {
        self.partial.extend_from_slice(piece);
        let mut passed = Vec::new();
        if acks == Acks::Pass {
            passed.extend(self.held.drain(..).rev().flatten());
        }
        while let Some(length) = frame_length(&self.partial) {
            let frame: Vec<u8> = self.partial.drain(..length).collect();
            match acks {
                Acks::Drop if is_ack(&frame) => {}
                Acks::Hold if is_ack(&frame) => self.held.push(frame),
                _ => passed.extend(frame),
            }
        }
        passed
    }
}

fn is_ack(frame: &[u8]) -> bool {
    ACKS.contains(&(frame[0] >> 4))
}

fn frame_length(bytes: &[u8]) -> Option<usize> {
    let mut rest = 0;
    for (index, byte) in bytes.get(1..)?.iter().take(4).enumerate() {
        rest |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            let length = 2 + index + rest;
            return (bytes.len() >= length).then_some(length);
        }
    }
    None
}
