//! A read that hangs in the kernel, on real threads and the real clock: it is noticed, it costs its own bus only, it ends when
//! the bus does let go, and a fresh thread is started only where another adapter has come.

mod support;

use board2mqtt::board::Board;
use board2mqtt::board::simulated::{Fault, Parts, Simulated, SimulatedSensor};
use board2mqtt::clock::{Clock, SystemClock};
use board2mqtt::line::I2cPlace;
use board2mqtt::poll::{self, Batch, Found, Job, Resource};
use board2mqtt::sensors;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use support::wait_for;
use tokio::sync::mpsc::{Receiver, channel};

const NAMES: [(&str, &str, u8); 3] = [("a", "/dev/i2c-1", 0x48), ("b", "/dev/i2c-1", 0x49), ("c", "/dev/i2c-2", 0x48)];

fn place(sensor: usize) -> I2cPlace {
    I2cPlace { bus: NAMES[sensor].1.into(), address: NAMES[sensor].2 }
}

/// Two buses, the first with two sensors, read every 20 ms by threads of their own.
struct Rig {
    board: Arc<Simulated>,
    resources: Vec<Resource>,
    batches: Receiver<Batch>,
    /// Good values and failures by sensor.
    good: [usize; 3],
    bad: [usize; 3],
    /// What looks have found, by resource.
    found: Vec<(usize, Found)>,
}

impl Rig {
    fn new() -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let chip = |sensor: usize| SimulatedSensor {
            name: NAMES[sensor].0.to_owned(),
            place: place(sensor),
            driver: "tmp117",
        };
        let parts = Parts { sensors: (0..3).map(chip).collect(), inputs: Vec::new() };
        let board = Arc::new(Simulated::by_hand(parts, None, None, clock.clone()).expect("a board"));
        let (sender, batches) = channel(64);
        let start = clock.now();
        let resources = [vec![0, 1], vec![2]].into_iter().enumerate().map(|(number, on_it)| {
            let jobs = on_it.iter().map(|sensor| job(*sensor).into()).collect();
            let board: Arc<dyn Board> = board.clone();
            let (name, clock, batches) = (NAMES[on_it[0]].1.to_owned(), clock.clone(), sender.clone());
            Resource::start(poll::Parts { number, name, jobs, board, clock, start, batches }).expect("a thread")
        });
        Self { resources: resources.collect(), board, batches, good: [0; 3], bad: [0; 3], found: Vec::new() }
    }

    /// What the agent's loop does with batches and deadlines.
    fn turn(&mut self) {
        while let Ok(batch) = self.batches.try_recv() {
            if self.resources[batch.resource].reported(&batch).is_none() {
                continue;
            }
            for report in &batch.reports {
                let counts = if report.sample.is_ok() { &mut self.good } else { &mut self.bad };
                counts[report.sensor] += 1;
            }
        }
        let now = SystemClock.now();
        for (number, resource) in self.resources.iter_mut().enumerate() {
            self.found.extend(resource.look(now).map(|found| (number, found)));
        }
    }

    fn until(&mut self, what: &str, mut condition: impl FnMut(&Self) -> bool) {
        wait_for(what, || {
            self.turn();
            condition(self).then_some(())
        });
    }

    /// Whether the first bus has been looked after so often without a way past what hangs.
    fn looked_in_vain(&mut self, times: usize) {
        for _ in 0..times {
            let before = self.resources[0].deadline();
            self.until("the next look", |rig| rig.resources[0].deadline() > before);
        }
    }

    fn fault(&self, fault: Option<Fault>) {
        self.board.control().set_fault("a", fault).expect("a sensor");
    }
}

fn job(sensor: usize) -> Job {
    let (interval, deadline) = (Duration::from_millis(20), Duration::from_millis(100));
    let driver = sensors::DRIVERS.iter().find(|driver| driver.name == "tmp117").expect("a driver");
    Job { sensor, driver, place: Some(place(sensor)), options: sensors::Options::default(), interval, deadline }
}

/// Threads are counted, so one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").expect("a folder").count()
}

#[test]
fn a_hanging_read_is_told_once_costs_its_own_bus_only_and_leaves_no_thread_behind() {
    let _alone = alone();
    let before = threads();
    let mut rig = Rig::new();
    rig.until("all three sensors", |rig| rig.good.iter().all(|good| *good > 2));
    assert_eq!(threads(), before + 2, "one a bus");

    rig.fault(Some(Fault::Stuck));
    rig.until("the hanging read to be noticed", |rig| !rig.found.is_empty());
    let (a, b, c) = (rig.good[0], rig.good[1], rig.good[2]);
    rig.until("the other bus to go on", |rig| rig.good[2] > c + 20);
    assert_eq!(rig.found, [(0, Found::Hanging(0))], "told once");
    assert_eq!((rig.good[0], rig.good[1]), (a, b), "its neighbour waits behind it");
    assert_eq!(rig.bad[2], 0);
    assert_eq!(rig.resources[0].sensors().collect::<Vec<_>>(), [0, 1], "who is to be told as failing");
    rig.looked_in_vain(2);
    assert!(rig.resources[0].is_hanging() && !rig.resources[1].is_hanging());
    assert_eq!(threads(), before + 2, "no second thread on an adapter that hangs: it would hang too");

    rig.fault(None);
    rig.until("both sensors to be back", |rig| rig.good[0] > a + 2 && rig.good[1] > b + 2);
    assert!(rig.bad[0] > 0, "the read that hung has failed");
    assert!(!rig.resources[0].is_hanging());

    rig.fault(Some(Fault::Stuck));
    rig.until("it to hang again", |rig| rig.found.len() == 2);
    rig.resources.clear();
    wait_for("the healthy bus's thread to end", || (threads() == before + 1).then_some(()));
    rig.fault(None);
    wait_for("the thread that hung to end", || (threads() == before).then_some(()));
}

#[test]
fn where_another_adapter_takes_the_path_the_bus_is_opened_anew_and_one_thread_at_most_is_left_behind() {
    let _alone = alone();
    let before = threads();
    let mut rig = Rig::new();
    rig.until("all three sensors", |rig| rig.good.iter().all(|good| *good > 2));
    let control = rig.board.control();
    let hangs = |(bus, found): &(usize, Found)| *bus == 0 && matches!(found, Found::Hanging(_));

    control.replug(Path::new("/dev/i2c-1"));
    rig.until("what was open to hang", |rig| rig.found.iter().any(hangs));
    let [a, b, c] = rig.good;
    rig.until("both sensors on the other adapter", |rig| rig.good[0] > a + 2 && rig.good[1] > b + 2);
    assert_eq!(rig.found.last(), Some(&(0, Found::OpenedAnew)));
    assert!(!rig.resources[0].is_hanging() && rig.good[2] > c);
    assert_eq!(threads(), before + 3, "the first thread is left behind");

    control.replug(Path::new("/dev/i2c-1"));
    rig.until("it to hang again", |rig| rig.resources[0].is_hanging());
    rig.looked_in_vain(2);
    assert_eq!(threads(), before + 3, "a second one is not, as long as the first is there");
    assert_eq!(rig.found.iter().filter(|found| hangs(found)).count(), 2);
    assert_eq!(rig.bad[2], 0);
}
