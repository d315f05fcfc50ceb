//! A read that hangs in the kernel, on real threads and the real clock: it is noticed, it costs its own bus only, it ends when
//! the bus does let go, and no thread is left behind.

mod support;

use board2mqtt::board::Board;
use board2mqtt::board::simulated::{Fault, Parts, Simulated, SimulatedSensor};
use board2mqtt::clock::{Clock, SystemClock};
use board2mqtt::line::I2cPlace;
use board2mqtt::poll::{Batch, Job, Poller, Resource};
use board2mqtt::sensors;
use std::sync::Arc;
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
    /// Sensors that were told to hang.
    hanging: Vec<usize>,
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
            let jobs = on_it.iter().map(|sensor| job(*sensor)).collect();
            let seam: Arc<dyn Board> = board.clone();
            let poller = Poller::new(jobs, seam, clock.clone(), start);
            let name = NAMES[on_it[0]].1.to_owned();
            Resource::start(number, name, on_it, poller, clock.clone(), sender.clone()).expect("a thread")
        });
        Self { resources: resources.collect(), board, batches, good: [0; 3], bad: [0; 3], hanging: Vec::new() }
    }

    /// What the agent's loop does with batches and deadlines.
    fn turn(&mut self) {
        while let Ok(batch) = self.batches.try_recv() {
            self.resources[batch.resource].reported(&batch);
            for report in &batch.reports {
                let counts = if report.sample.is_ok() { &mut self.good } else { &mut self.bad };
                counts[report.sensor] += 1;
            }
        }
        let now = SystemClock.now();
        self.hanging.extend(self.resources.iter_mut().filter_map(|resource| resource.hanging(now)));
    }

    fn until(&mut self, what: &str, mut condition: impl FnMut(&Self) -> bool) {
        wait_for(what, || {
            self.turn();
            condition(self).then_some(())
        });
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

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").expect("a folder").count()
}

#[test]
fn a_hanging_read_is_told_once_costs_its_own_bus_only_and_leaves_no_thread_behind() {
    let before = threads();
    let mut rig = Rig::new();
    rig.until("all three sensors", |rig| rig.good.iter().all(|good| *good > 2));
    assert_eq!(threads(), before + 2, "one a bus");

    rig.fault(Some(Fault::Stuck));
    rig.until("the hanging read to be noticed", |rig| !rig.hanging.is_empty());
    let (a, b, c) = (rig.good[0], rig.good[1], rig.good[2]);
    rig.until("the other bus to go on", |rig| rig.good[2] > c + 20);
    assert_eq!(rig.hanging, [0], "told once");
    assert_eq!((rig.good[0], rig.good[1]), (a, b), "its neighbour waits behind it");
    assert_eq!(rig.bad[2], 0);
    assert_eq!(rig.resources[0].sensors, [0, 1], "who is to be told as failing");
    assert_eq!(threads(), before + 2, "no second thread for a bus that hangs");

    rig.fault(None);
    rig.until("both sensors to be back", |rig| rig.good[0] > a + 2 && rig.good[1] > b + 2);
    assert!(rig.bad[0] > 0, "the read that hung has failed");

    rig.fault(Some(Fault::Stuck));
    rig.until("it to hang again", |rig| rig.hanging.len() == 2);
    rig.resources.clear();
    wait_for("the healthy bus's thread to end", || (threads() == before + 1).then_some(()));
    rig.fault(None);
    wait_for("the thread that hung to end", || (threads() == before).then_some(()));
}
