//! A day in the life of a house, on a clock moved by hand, with everything that can go wrong going wrong at random: sensors,
//! buses, weather, contacts, the server, acks, commands good and bad, retained values, the date, output lines, restarts.
//!
//! All along: no output beyond its limits, no clock that stands still, nothing that spins. Every two hours, once it is calm:
//! every reading has arrived or was counted, what is retained is the newest, and the memory is what it was. Again and again
//! the configuration is another one for a while, with more in it, and none of the rest notices.
//!
//! A failure prints its seed; `SIMULATED_DAY_SEED` adds a day of your own.

mod account;
mod extras;
mod judge;
#[path = "../support/mod.rs"]
mod support;
mod weather;

use account::Account;
use board2mqtt::clock::{Clock, Instant};
use board2mqtt::line::Level;
use board2mqtt::outputs::SafeTable;
use board2mqtt::plan::Source;
use board2mqtt::publish::Link;
use extras::Extras;
use judge::Judge;
use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use support::rig::Rig;
use support::server::Mood;
use weather::Trouble;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
/// Between two looks at everything.
const LEG: Duration = Duration::from_secs(2 * 3600);
const LEGS: usize = 12;
/// Steps in one second of simulated time: a dozen sensors, some timers, a share of history each 250 ms, a flood of edges.
const STEPS_A_SECOND: u64 = 100;
/// What the heap may differ by between two calm moments: capacities that grew to what they once needed.
const SLACK: usize = 16 * 1024;

static LIVE: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, which counts the bytes in use.
struct Counting;

// SAFETY: every call is passed on unchanged to the system's allocator; the counter is a plain atomic number.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The house, its troubles, and everyone who watches.
struct Day {
    rig: Rig,
    trouble: Trouble,
    extras: Extras,
    judge: Judge,
    account: Account,
    random: fastrand::Rng,
    dropped: u64,
    tips: u64,
    door: bool,
    lost: usize,
    second: (Instant, u64),
    busiest: u64,
}

impl Day {
    fn new(seed: u64) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/simulated_day");
        let rig = Rig::new(&folder.join("configuration.toml"), seed);
        let now = rig.clock.now();
        let plan = rig.plan();
        let judge = Judge::new(plan.outputs.iter().map(|output| output.spec.clone()), &plan.sources, now);
        let account = Account::new(plan);
        let random = fastrand::Rng::with_seed(seed);
        let (trouble, extras, second) = (Trouble::default(), Extras::new(&rig), (now, 0));
        let (dropped, tips, door, lost, busiest) = (0, 0, false, 0, 0);
        Self { rig, trouble, extras, judge, account, random, dropped, tips, door, lost, second, busiest }
    }

    /// Some time with troubles, some minutes without, and everything is as it should be.
    fn leg(&mut self) {
        let end = self.rig.clock.now() + LEG;
        while self.rig.clock.now() < end {
            let pause = Duration::from_millis(self.random.u64(50..40_000));
            self.pass(pause);
            self.happen();
        }
        self.calm();
        self.settle();
    }

    fn pass(&mut self, duration: Duration) {
        let end = self.rig.clock.now() + duration;
        while self.rig.clock.now() < end {
            let now = self.rig.clock.now();
            let next = self.trouble.next().map_or(end, |at| at.clamp(now, end));
            self.rig.step(next);
            self.watch();
            self.lift();
        }
    }

    /// Everything that can be seen from outside after something has happened.
    fn watch(&mut self) {
        let now = self.rig.clock.now();
        self.count_steps(now);
        self.account.look_at_clock(self.rig.clock.stamp());
        self.judge.server(self.rig.server.is_connected(), now);
        for report in std::mem::take(&mut self.rig.reports) {
            self.account.measured(&report);
            let Ok(values) = &report.sample else { continue };
            if report.sensor >= self.rig.plan().sensors.len() {
                continue;
            }
            for (quantity, value) in values.iter() {
                let flue = self.rig.plan().sensors[report.sensor].name == "flue";
                if !flue || (-40.0..=150.0).contains(&value) {
                    self.judge.value(&Source::Reading { sensor: report.sensor, quantity }, value, now);
                }
            }
        }
        self.watch_writes();
        self.judge.inspect(now);
        for message in std::mem::take(&mut self.rig.server.arrived) {
            self.account.arrived(&message);
        }
    }

    fn count_steps(&mut self, now: Instant) {
        let (since, before) = self.second;
        if now.since(since) >= SECOND {
            let a_second = ((self.rig.steps - before) as f64 / now.since(since).as_secs_f64()) as u64;
            assert!(a_second <= STEPS_A_SECOND, "{a_second} steps in a second");
            self.busiest = self.busiest.max(a_second);
            self.second = (now, self.rig.steps);
        }
    }

    /// All is well for some minutes: long enough for every retry, rest and renewal.
    fn calm(&mut self) {
        self.lift_all();
        self.without_extras();
        self.connect();
        self.pass(Duration::from_secs(300));
        let mut waited = Duration::ZERO;
        while !self.rig.core().outbox().is_settled() {
            self.pass(SECOND);
            waited += SECOND;
            assert!(waited < HOUR, "it does not settle: {} wait", self.rig.core().outbox().waiting());
        }
    }

    fn settle(&mut self) {
        let dropped = self.rig.core().outbox().counts().dropped;
        self.lost += self.account.settle(dropped - self.dropped);
        self.dropped = dropped;
        self.account.inspect(&self.rig.server.retained);
        assert_eq!(self.rig.core().failing(), 0, "every sensor is back");
        let left = self.rig.server.retained.keys().find(|topic| topic.contains("extra"));
        assert_eq!(left, None, "left behind by a configuration that is no more");
        let plan = self.rig.plan();
        let retained = |topic: &str| {
            self.rig.server.retained.get(topic).map(|payload| String::from_utf8_lossy(payload).into_owned())
        };
        assert_eq!(retained(&plan.status_topic).as_deref(), Some("online"));
        for sensor in &plan.sensors {
            assert_eq!(sensor.status_topic.as_deref().and_then(retained).as_deref(), Some("online"), "{}", sensor.name);
            let health = sensor.health_topic.as_deref().and_then(retained).expect("health");
            assert!(health.starts_with(r#"{"state":"ok""#), "{}: {health}", sensor.name);
        }
        for output in &plan.outputs {
            let (line, spec) = (output.spec.drive.to_string(), &output.spec);
            let percent = self.rig.control.percent(&line).expect("driven");
            let percent = if spec.name == "beacon" { 100.0 - percent } else { percent };
            let level = Level::from_percent(percent).expect("a percentage");
            let state = board2mqtt::command::state_text(level, spec.drive.is_pwm());
            assert_eq!(retained(&output.topic).as_deref(), Some(state.as_ref()), "{}", spec.name);
        }
        let door = if self.door { "ON" } else { "OFF" };
        assert_eq!(retained(&plan.inputs[0].topic).as_deref(), Some(door));
        let rain = retained(&plan.inputs[1].topic).expect("a total");
        assert_eq!(rain.parse::<f64>().ok(), Some((self.tips as f64 * 2794.0).round() / 10_000.0));
    }

    /// Ends one agent and starts the next on the lines as they were left.
    fn restart(&mut self, in_order: bool) {
        if in_order {
            self.rig.stop();
            self.watch_writes();
        } else {
            let specs: Vec<_> = self.rig.plan().outputs.iter().map(|output| output.spec.clone()).collect();
            self.rig.kill();
            SafeTable::of(&specs, &*self.rig.board).apply(&*self.rig.board);
            self.watch_writes();
        }
        let now = self.rig.clock.now();
        self.judge.restarted(now);
        self.extras.are_there = false;
        self.dropped = 0;
        self.rig.restart();
        self.watch();
        self.connect();
        self.calm();
        self.settle();
    }

    fn watch_writes(&mut self) {
        let mut writes = std::mem::take(&mut *self.rig.writes.lock().expect("a list"));
        writes.retain(|write| write.line != extras::LINE);
        self.judge.written(&mut writes);
    }

    fn connect(&mut self) {
        if !self.rig.server.is_connected() {
            self.rig.server.set_mood(Mood::Healthy);
            self.rig.connect();
            self.watch();
        }
    }
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count)
}

/// Says which day it was if that day fails.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("this day had SIMULATED_DAY_SEED={}", self.0);
        }
    }
}

fn live_a_day(seed: u64) {
    let _told = Seed(seed);
    let before = threads();
    let mut day = Day::new(seed);
    day.connect();
    let mut memory = Vec::new();
    for leg in 1..=LEGS {
        if leg == 6 {
            // Longer than the store can hold.
            day.lose_the_server_for(HOUR);
        }
        day.leg();
        memory.push(LIVE.load(Ordering::Relaxed));
        match leg {
            4 => day.restart(true),
            9 => day.restart(false),
            _ => {}
        }
    }
    let Day { account, judge, rig, .. } = &day;
    println!(
        "seed {seed}: {} readings, {} live, {} as history, {} dropped; {} times on; {} reloads; {} steps, at most {} a second; heap {:?}",
        account.measured,
        account.live,
        account.history,
        day.lost,
        judge.switched_on,
        day.extras.reloads,
        rig.steps,
        day.busiest,
        memory
    );
    assert!(account.history > 1000 && day.lost > 0 && judge.switched_on > 100, "a day without troubles proves nothing");
    assert!(day.extras.reloads > 100, "nor does one without reloads");
    let (first, last) = (memory[0], memory[LEGS - 1]);
    assert!(last <= first + SLACK, "{first} bytes were in use after two hours, {last} after a day: {memory:?}");
    assert_eq!(threads(), before, "threads left behind");
}

#[test]
fn a_day_of_random_faults_breaks_no_promise_and_leaves_nothing_behind() {
    live_a_day(42);
    let own = std::env::var("SIMULATED_DAY_SEED").ok();
    own.into_iter().for_each(|seed| live_a_day(seed.parse().expect("SIMULATED_DAY_SEED is a number")));
}
