//! The agent in the test's own process, on a simulated board whose every part the test can reach.

use super::rig::{plan_of, simulated_board};
use board2mqtt::agent::reload::Configuration;
use board2mqtt::agent::{self, Setup};
use board2mqtt::board::Board;
use board2mqtt::board::simulated::{Control, Simulated};
use board2mqtt::buffer::memory::Memory;
use board2mqtt::buffer::{Limits, Overflow};
use board2mqtt::clock::SystemClock;
use board2mqtt::{config, plan};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::oneshot;

/// A running agent; stopped when dropped.
pub struct Inside {
    /// What is behind its board.
    pub control: Control,
    /// Its board.
    pub board: Arc<dyn Board>,
    main_thread: i32,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    _folder: TempDir,
}

impl Inside {
    /// Starts an agent with this configuration and a server on 127.0.0.1; `wrap` makes its board of a simulated one.
    pub fn start(text: &str, server: u16, wrap: impl FnOnce(Simulated) -> Arc<dyn Board>) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the agent");
        let path = folder.path().join("config.toml");
        std::fs::write(&path, text).expect("the configuration");
        let variables = [("BOARD2MQTT__MQTT__SERVER".to_owned(), format!("mqtt://127.0.0.1:{server}"))];
        let loaded = config::load(&path, variables.into_iter()).unwrap_or_else(|report| panic!("{report}"));
        let session = plan::session(&loaded.config).expect("no secrets to read");
        let plan = plan_of(&path);
        let simulated = simulated_board(&plan, Arc::new(SystemClock));
        let control = simulated.control();
        let board = wrap(simulated);
        let hour = Duration::from_secs(3600);
        let limits = Limits { max_size: 1 << 20, max_age: hour, overflow: Overflow::DropOldest };
        let setup = Setup {
            configuration: Configuration {
                plan,
                session,
                limits,
                flush_every: Duration::from_secs(5),
                drain_per_second: 1_000,
            },
            board: board.clone(),
            clock: Arc::new(SystemClock),
            store: Box::new(Memory::new(limits)),
            store_woken: Arc::default(),
            state_file: folder.path().join("state.json"),
            runtime_folder: None,
        };
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = channel();
        let run = move || {
            // SAFETY: it touches nothing and cannot fail.
            tell.send(unsafe { libc::gettid() }).expect("somebody listens");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let stopped = async {
                let _ = stopped.await;
                "the end of the test"
            };
            runtime.block_on(agent::run(setup, None, stopped)).expect("an agent");
            runtime.shutdown_background();
        };
        let thread = std::thread::spawn(run);
        let main_thread = told.recv().expect("its number");
        Self { control, board, main_thread, stop: Some(stop), thread: Some(thread), _folder: folder }
    }

    /// The processor time its main thread has used.
    pub fn processor_time(&self) -> Duration {
        let path = format!("/proc/self/task/{}/schedstat", self.main_thread);
        let text = std::fs::read_to_string(path).expect("a running thread");
        Duration::from_nanos(text.split(' ').next().and_then(|nanos| nanos.parse().ok()).expect("nanoseconds"))
    }

    /// Stops it in order.
    pub fn stop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().expect("no panic");
        }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        // A second panic would hide the first.
        if !std::thread::panicking() {
            self.stop();
        }
    }
}

/// Resident memory of this process in KiB.
pub fn memory_kib() -> u64 {
    super::agent::memory_kib("self")
}
