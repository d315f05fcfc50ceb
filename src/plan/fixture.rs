//! Small configurations for the tests of this module, as the loader would give them.

use crate::config::*;
use crate::line::{Active, Bias, Drive, Level, LineId, PwmId};
use crate::quantity::{Quantity, Unit};
use crate::topic::QoS;
use std::time::Duration;

/// A text that was written nowhere.
pub fn located(text: &str) -> Located<String> {
    at(text.to_owned(), 0)
}

/// A value that was written at that byte.
pub fn at<T>(value: T, start: usize) -> Located<T> {
    Located { value, origin: Origin { span: start..start + 1, variable: None } }
}

/// The defaults, and nothing else.
pub fn config() -> Config {
    let none: Vec<Sensor> = Vec::new();
    Config {
        folder: "/etc/board2mqtt".into(),
        name: located("drone01"),
        mqtt: mqtt(),
        topics: topics(),
        metrics_interval: Duration::from_secs(60),
        board: at(BoardKind::Auto, 0),
        simulated: Simulated::default(),
        buffer: Buffer {
            path: None,
            max_size: 64 << 20,
            max_age: Duration::from_secs(7 * 86_400),
            drop_newest: false,
            flush_every: Duration::from_secs(5),
            drain_per_second: 200,
        },
        sensors: none,
        inputs: Vec::new(),
        outputs: Vec::new(),
    }
}

fn mqtt() -> Mqtt {
    Mqtt {
        server: at(ServerUrl::Mqtt("localhost".into(), 1883), 1),
        client_id: located("board2mqtt-drone01"),
        username: None,
        password: None,
        keep_alive: Duration::from_secs(30),
        clean_session: true,
        qos: QoS::AtLeastOnce,
        retain: true,
        ca: None,
        cert: None,
        key: None,
        reconnect_min: Duration::from_secs(1),
        reconnect_max: Duration::from_secs(60),
    }
}

fn topics() -> Topics {
    let some = |text| Some(located(text));
    Topics {
        base: located("board2mqtt/{gateway}"),
        status: located("{base}/status"),
        reading: some("{base}/{sensor}/{quantity}"),
        history: some("{reading_topic}/history"),
        sensor: None,
        sensor_status: some("{base}/{sensor}/status"),
        health: some("{base}/{sensor}/health"),
        input: located("{base}/{input}"),
        output: located("{base}/{output}"),
        set: located("{output_topic}/set"),
        reply: some("{output_topic}/reply"),
        get: some("{base}/get"),
        metrics: some("{base}/metrics"),
    }
}

/// A sensor every second.
pub fn sensor(name: &str, driver: &str, address: Option<u8>) -> Sensor {
    Sensor {
        name: located(name),
        driver: located(driver),
        bus: at("/dev/i2c-1".into(), 0),
        address: address.map(|address| at(address, 0)),
        interval: Duration::from_secs(1),
        deadline: Duration::from_secs(1),
        sea_level_pressure: None,
        quantities: None,
        clear_when_failing: false,
        readings: Vec::new(),
        options: Vec::new(),
        misfits: Vec::new(),
    }
}

/// The table of one quantity without anything in it.
pub fn reading(quantity: Quantity) -> Reading {
    Reading {
        quantity: at(quantity, 0),
        topic: None,
        unit: None,
        decimals: None,
        payload: None,
        qos: None,
        retain: None,
        scale: 1.0,
        offset: 0.0,
        min: None,
        max: None,
        median: 1,
        average: 1,
        change: None,
        at_least_every: None,
    }
}

/// An input on a named line.
pub fn input(name: &str, line: &str) -> Input {
    Input {
        name: located(name),
        line: at(LineId::Name(line.into()), 0),
        active: Active::High,
        bias: Bias::AsIs,
        debounce: Duration::ZERO,
        count: None,
        topic: None,
        qos: None,
        retain: None,
    }
}

/// A switch on a named line.
pub fn output(name: &str, line: &str) -> Output {
    Output {
        name: located(name),
        drive: at(Drive::Switch { line: LineId::Name(line.into()), active: Active::High }, 0),
        safe: Level::OFF,
        initial: InitialState::Safe,
        on_exit: ExitState::Safe,
        on_server_loss: None,
        max_on: None,
        min_off: None,
        renew_within: None,
        interlock: None,
        accept_retained: false,
        follow: None,
        require: None,
        topic: None,
        qos: None,
        retain: None,
    }
}

/// A PWM output on a named line.
pub fn pwm(name: &str, line: &str) -> Output {
    let drive = Drive::Pwm { channel: PwmId::Line(line.into()), frequency_hz: 25_000, active: Active::High };
    Output { drive: at(drive, 0), ..output(name, line) }
}

/// ON above 10, OFF below 5, stale after 10 s.
pub fn follow(source: Source) -> Follow {
    let rule = Rule::OnAbove { on_above: 10.0, off_below: 5.0 };
    Follow { source, rule, stale_after: at(Duration::from_secs(10), 0) }
}

/// A reading of this board.
pub fn local(name: &str) -> Source {
    Source::Reading(located(name))
}

/// Somebody's topic, in feet.
pub fn foreign(topic: &str) -> Source {
    Source::Topic(located(topic), Some(at(Unit::Foot, 0)))
}

/// The messages told about a configuration: faults if there is one, else the warnings.
pub fn told(config: &Config) -> Vec<String> {
    let told = super::build(config).map_or_else(|faults| faults, |(_, warnings)| warnings);
    told.into_iter().map(|diagnostic| diagnostic.message).collect()
}

/// The only message told about a configuration; panics unless there is exactly one and it is a fault.
pub fn fault(config: &Config) -> Diagnostic {
    let Err(faults) = super::build(config) else { panic!("accepted") };
    assert_eq!(faults.len(), 1, "{faults:#?}");
    assert_eq!(faults[0].severity, Severity::Fault);
    faults[0].clone()
}

/// The only warning about a configuration that is accepted.
pub fn warning(config: &Config) -> Diagnostic {
    let (_, warnings) = super::build(config).map_err(|faults| format!("{faults:#?}")).expect("accepted");
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
    warnings[0].clone()
}

/// The plan of a configuration that is accepted without a warning.
pub fn plan(config: &Config) -> super::Plan {
    let (plan, warnings) = super::build(config).map_err(|faults| format!("{faults:#?}")).expect("accepted");
    assert_eq!(warnings, []);
    plan
}
