//! The two hot paths, without network and hardware: a sample to what is handed to the session, and a command to its line.

use board2mqtt::agent::core::{Core, Parts};
use board2mqtt::board::simulated::{Parts as Models, Simulated};
use board2mqtt::buffer::memory::Memory;
use board2mqtt::buffer::{Limits, Overflow};
use board2mqtt::clock::{Clock, Instant, ManualClock, Wall};
use board2mqtt::mqtt::{Message, Outgoing, PublishError, Token};
use board2mqtt::poll::Report;
use board2mqtt::publish::Link;
use board2mqtt::quantity::Quantity;
use board2mqtt::sample::Values;
use board2mqtt::state::StateFile;
use board2mqtt::topic::QoS;
use board2mqtt::{config, plan};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Takes everything, like a session whose server acknowledges at once.
#[derive(Default)]
struct Sink {
    bytes: usize,
    tokens: Vec<Token>,
}

impl Link for Sink {
    fn is_connected(&self) -> bool {
        true
    }
    fn room(&self, _: QoS) -> usize {
        80
    }
    fn backlog(&self) -> usize {
        0
    }
    fn publish(&mut self, message: &Outgoing<'_>, token: Option<Token>) -> Result<(), PublishError> {
        self.bytes += message.topic.len() + message.payload.len();
        self.tokens.extend(token);
        Ok(())
    }
}

fn core(sensors: usize, qos: u8, clock: &Arc<ManualClock>) -> Core {
    let mut text = format!("[mqtt]\nserver = \"mqtt://localhost\"\nqos = {qos}\n[board]\nkind = \"simulated\"\n");
    text.push_str("[outputs.out]\nline = \"GPIO17\"\n");
    for sensor in 0..sensors {
        text.push_str(&format!("[sensors.s{sensor}]\ndriver = \"test-counter\"\ninterval = \"1s\"\n"));
    }
    let loaded = config::parse(&text, "bench.toml", Path::new("."), std::iter::empty()).expect("good");
    let (plan, _) = plan::build(&loaded.config).expect("good");
    let clock: Arc<dyn Clock> = clock.clone();
    let models = Models { sensors: Vec::new(), inputs: Vec::new() };
    let board = Simulated::new(models, None, None, clock.clone()).expect("a board");
    let limits = Limits { max_size: 1 << 20, max_age: Duration::from_secs(3600), overflow: Overflow::DropOldest };
    let parts = Parts {
        board: Arc::new(board),
        clock,
        store: Box::new(Memory::new(limits)),
        state: StateFile::open(Path::new("/nonexistent/state.json")).0,
        boot_id: String::new(),
        drain_per_second: 200,
    };
    Core::new(plan, true, parts)
}

fn convert_encode_queue(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("convert, encode, queue");
    for (sensors, qos) in [(10, 0), (1000, 0), (100, 1)] {
        let clock = Arc::new(ManualClock::new(Instant::from_nanos(1)));
        clock.set_wall(Some(Wall(1_800_000_000_000)));
        let mut core = core(sensors, qos, &clock);
        let mut sink = Sink::default();
        core.connected(&mut sink);
        let mut count = 0.0;
        group.throughput(Throughput::Elements(sensors as u64));
        group.bench_function(format!("{sensors} sensors, QoS {qos}"), |bencher| {
            bencher.iter(|| {
                clock.advance(Duration::from_secs(1));
                count += 1.0;
                let report = |sensor| Report {
                    sensor,
                    stamp: clock.stamp(),
                    sample: Ok(Values::new().with(Quantity::Count, count)),
                };
                let reports: Vec<_> = (0..sensors).map(report).collect();
                core.samples(&reports);
                core.pump(&mut sink);
                for token in sink.tokens.drain(..) {
                    core.acked(token);
                }
                core.pump(&mut sink);
                sink.tokens.drain(..).for_each(|token| core.acked(token));
            });
        });
        assert!(sink.bytes > 0, "something was published");
    }
    group.finish();
}

fn decode_guard_actuate(criterion: &mut Criterion) {
    let clock = Arc::new(ManualClock::new(Instant::from_nanos(1)));
    let mut core = core(10, 0, &clock);
    let mut sink = Sink::default();
    core.connected(&mut sink);
    let topic = core.plan().outputs[0].set.clone();
    let message = |payload: &'static [u8]| Message { topic: topic.clone(), payload: payload.into(), retain: false };
    let (on, off) = (message(b"ON"), message(b"OFF"));
    criterion.bench_function("decode, guard, actuate, echo", |bencher| {
        bencher.iter(|| {
            core.message(&on, &mut sink);
            core.message(&off, &mut sink);
            core.pump(&mut sink);
            sink.tokens.clear();
        });
    });
    assert_eq!(core.outputs().level(0).map(|level| level.is_on()), Some(false), "the last command was OFF");
}

criterion_group!(benches, convert_encode_queue, decode_guard_actuate);
criterion_main!(benches);
