//! The keys of sensors, inputs and outputs.

use super::Absent::{Flag, Nothing, Number, Required, Text, Whole, Words};
use super::kind::Kind;
use super::{Inner, Key, Section, key, table};
use std::time::Duration;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}
const DAY: u64 = 86_400;
const YEAR: u64 = 365 * DAY;

const BUS: Key = key("bus", Kind::Path, Text("/dev/i2c-1"), "The I2C bus");
const INTERVAL: Key = key("interval", Kind::Duration(ms(10), secs(DAY)), Text("10s"), "How often it is read");
const DEADLINE: Key =
    key("deadline", Kind::Duration(ms(10), secs(60)), Text("1s"), "How long a read may take before it has failed");
const SEA_LEVEL_PRESSURE: Key = table(
    "sea_level_pressure",
    Kind::SeaLevel,
    Words("`\"1013.25 hPa\"`"),
    "The reference of altitudes; 0.12 hPa too much is about 1 m too high",
    Inner::Keys(&SEA_LEVEL),
);
const QUANTITIES: Key = key("quantities", Kind::Quantities, Words("all of the driver's"), "What is published");
const WHEN_FAILING: Key = key(
    "when_failing",
    Kind::Choice(&["keep", "clear"]),
    Text("keep"),
    "Whether the retained value stays while the sensor fails",
);

/// Keys of a sensor that each sensor must say for itself.
pub(in crate::config) const NOT_IN_DEFAULTS: [&str; 3] = ["driver", "address", "readings"];

/// `[defaults]`
pub(in crate::config) static DEFAULTS: Section =
    Section { path: "defaults", keys: &[BUS, INTERVAL, DEADLINE, SEA_LEVEL_PRESSURE, QUANTITIES, WHEN_FAILING] };

/// `[sensors.NAME]`
pub(in crate::config) static SENSOR: Section = Section {
    path: "sensors.NAME",
    keys: &[
        key(
            "driver",
            Kind::Text,
            Required,
            "The driver's name; `board2mqtt drivers` lists them with their options, which stand here too",
        ),
        key("address", Kind::Address, Words("the driver's usual one"), "The chip's I2C address"),
        BUS,
        INTERVAL,
        DEADLINE,
        SEA_LEVEL_PRESSURE,
        QUANTITIES,
        WHEN_FAILING,
        table(
            "readings",
            Kind::Table,
            Nothing,
            "Overrides for single quantities; naming one hides no other",
            Inner::Quantities(&READING),
        ),
    ],
};

static SEA_LEVEL: Section = Section {
    path: "sensors.NAME.sea_level_pressure",
    keys: &[
        key("topic", Kind::Topic, Nothing, "A topic that carries the pressure"),
        key("unit", Kind::Unit, Text("hPa"), "The unit of plain numbers on it"),
        key("stale_after", Kind::Duration(secs(1), secs(30 * DAY)), Nothing, "Older values are not used"),
        key(
            "otherwise",
            Kind::Pressure(800.0, 1100.0),
            Nothing,
            "Used while there is none; without it there is no altitude then",
        ),
        key(
            "known_elevation",
            Kind::Length(-500.0, 9_000.0),
            Nothing,
            "The height where the board is switched on: the pressure is worked out once per boot",
        ),
    ],
};

/// `[sensors.NAME.readings.QUANTITY]`
pub(in crate::config) static READING: Section = Section {
    path: "sensors.NAME.readings.QUANTITY",
    keys: &[
        key("topic", Kind::Topic, Words("`topics.reading`"), "Its own topic"),
        key("unit", Kind::Unit, Words("°C, hPa, m, %"), "What is published, and the unit of every number below"),
        key("decimals", Kind::Whole(0, 9), Words("2 for temperature, else 1"), "Digits after the point"),
        key(
            "payload",
            Kind::Text,
            Text("plain"),
            "\"plain\", \"json\", or a template with `{value}` `{unit}` `{time}` `{sensor}` `{quantity}`",
        ),
        key("qos", Kind::Whole(0, 2), Words("`mqtt.qos`"), "Quality of service"),
        key("retain", Kind::Flag, Words("`mqtt.retain`"), "Whether it is retained"),
        key("scale", Kind::NotZero, Number(1.0), "First the value is multiplied by this"),
        key("offset", Kind::Number, Number(0.0), "Then this is added"),
        key("min", Kind::Number, Nothing, "Then a lower value is a failed reading"),
        key("max", Kind::Number, Nothing, "And so is a higher one"),
        key("median", Kind::Odd(1, 99), Whole(1), "Then the running median over so many samples"),
        key("average", Kind::Whole(1, 1_000), Whole(1), "Then the running mean over so many samples"),
        key("change", Kind::NotNegative, Nothing, "Published only when it has moved this far"),
        key("at_least_every", Kind::Duration(ms(10), secs(30 * DAY)), Nothing, "Or when this long has passed"),
    ],
};

/// `[inputs.NAME]`
pub(in crate::config) static INPUT: Section = Section {
    path: "inputs.NAME",
    keys: &[
        table("line", Kind::Line, Required, "The GPIO line", Inner::Keys(&INPUT_LINE)),
        key("active", Kind::Choice(&["high", "low"]), Text("high"), "The level that is ON"),
        key("bias", Kind::Choice(&["as-is", "disabled", "pull-up", "pull-down"]), Text("as-is"), "The pull resistor"),
        key("debounce", Kind::Duration(ms(0), secs(10)), Text("0s"), "A level must stand this long to be believed"),
        table(
            "count",
            Kind::Table,
            Nothing,
            "Publishes a total of pulses instead of the state; it survives restarts",
            Inner::Keys(&COUNT),
        ),
        key("topic", Kind::Topic, Words("`topics.input`"), "Its own topic"),
        key("qos", Kind::Whole(0, 2), Words("`mqtt.qos`"), "Quality of service"),
        key("retain", Kind::Flag, Words("`mqtt.retain`"), "Whether it is retained"),
    ],
};

const CHIP: Key =
    key("chip", Kind::Text, Required, "`gpiochip0`, `/dev/gpiochip0`, or the label that `gpiodetect` shows");
const LINE_OFFSET: Key = key("offset", Kind::Whole(0, 65_535), Required, "The line's number on the chip");
static INPUT_LINE: Section = Section { path: "inputs.NAME.line", keys: &[CHIP, LINE_OFFSET] };
static OUTPUT_LINE: Section = Section { path: "outputs.NAME.line", keys: &[CHIP, LINE_OFFSET] };

static COUNT: Section = Section {
    path: "inputs.NAME.count",
    keys: &[
        key("edge", Kind::Choice(&["rising", "falling", "both"]), Text("rising"), "Which edges of the line count"),
        key("per_pulse", Kind::NotZero, Number(1.0), "What one pulse adds"),
        key("unit", Kind::Text, Text(""), "The total's unit, any text"),
        key(
            "interval",
            Kind::Duration(ms(100), secs(DAY)),
            Text("60s"),
            "How often the total is published while it changes",
        ),
    ],
};

/// `[outputs.NAME]`
pub(in crate::config) static OUTPUT: Section = Section {
    path: "outputs.NAME",
    keys: &[
        table(
            "line",
            Kind::Line,
            Words("either this or `pwm`"),
            "The GPIO line of a switch",
            Inner::Keys(&OUTPUT_LINE),
        ),
        table(
            "pwm",
            Kind::Table,
            Words("either this or `line`"),
            "The PWM channel of a dimmer, fan or servo",
            Inner::Keys(&PWM),
        ),
        key(
            "active",
            Kind::Choice(&["high", "low"]),
            Text("high"),
            "The physical level that is ON; low inverts a PWM's duty",
        ),
        key("safe", Kind::Level, Text("off"), "Where every fault leads"),
        key(
            "initial",
            Kind::LevelOr(&["safe", "last", "keep"]),
            Text("safe"),
            "At start; last: as kept on disk, keep: as the line is found",
        ),
        key("on_exit", Kind::LevelOr(&["safe", "keep"]), Text("safe"), "When the gateway stops"),
        table("on_server_loss", Kind::KeepOr, Text("keep"), "While the server is away", Inner::Keys(&ON_SERVER_LOSS)),
        key("max_on", Kind::Duration(ms(10), secs(YEAR)), Nothing, "Longest time on; repeating ON does not extend it"),
        key("min_off", Kind::Duration(ms(10), secs(DAY)), Nothing, "Shortest time off"),
        key("renew_within", Kind::Duration(ms(100), secs(YEAR)), Nothing, "ON must be repeated this often, or safe"),
        table(
            "interlock",
            Kind::Table,
            Nothing,
            "Outputs that must not be on together with this one",
            Inner::Keys(&INTERLOCK),
        ),
        key(
            "accept_retained",
            Kind::Flag,
            Flag(false),
            "Whether a retained command met when subscribing is carried out",
        ),
        table("follow", Kind::Table, Nothing, "What drives it while nobody commands it", Inner::Keys(&FOLLOW)),
        table("require", Kind::Table, Nothing, "What must hold, else safe, and ON is refused", Inner::Keys(&REQUIRE)),
        key("topic", Kind::Topic, Words("`topics.output`"), "Its own topic"),
        key("qos", Kind::Whole(0, 2), Words("`mqtt.qos`"), "Quality of service"),
        key("retain", Kind::Flag, Words("`mqtt.retain`"), "Whether it is retained"),
    ],
};

static PWM: Section = Section {
    path: "outputs.NAME.pwm",
    keys: &[
        key(
            "line",
            Kind::LineName,
            Words("either this or `chip`"),
            "The line whose PWM is used, on a Raspberry Pi GPIO12, 13, 18 or 19",
        ),
        key(
            "chip",
            Kind::Text,
            Words("either this or `line`"),
            "The PWM chip, such as `pwmchip0`, or its device, such as `48302200.pwm`",
        ),
        key("channel", Kind::Whole(0, 255), Nothing, "The channel of `chip`"),
        key("frequency", Kind::Whole(1, 1_000_000), Required, "Hertz"),
    ],
};

static ON_SERVER_LOSS: Section = Section {
    path: "outputs.NAME.on_server_loss",
    keys: &[key(
        "after",
        Kind::Duration(ms(100), secs(30 * DAY)),
        Required,
        "Safe after this long, counted from boot too, until the next command",
    )],
};

static INTERLOCK: Section = Section {
    path: "outputs.NAME.interlock",
    keys: &[
        key("with", Kind::Names, Required, "The other outputs; it holds for them too"),
        key(
            "conflict",
            Kind::Choice(&["refuse", "switch"]),
            Text("refuse"),
            "Refuse ON, or switch the others off first",
        ),
        key("gap", Kind::Duration(ms(0), secs(60)), Text("0s"), "All off this long before one may be on"),
    ],
};

const SOURCE_TOPIC: Key = key("topic", Kind::Topic, Words("either this or `reading`"), "Somebody's topic");
const SOURCE_READING: Key =
    key("reading", Kind::Text, Words("either this or `topic`"), "This board's own `SENSOR.QUANTITY`; needs no server");
const SOURCE_UNIT: Key =
    key("unit", Kind::Unit, Nothing, "With `topic`: the unit of plain numbers on it and of the limits here");
const STALE_AFTER: Key =
    key("stale_after", Kind::Duration(ms(100), secs(30 * DAY)), Required, "Safe when the value is older than this");

static FOLLOW: Section = Section {
    path: "outputs.NAME.follow",
    keys: &[
        SOURCE_TOPIC,
        SOURCE_READING,
        SOURCE_UNIT,
        key("on_above", Kind::Number, Nothing, "On above this, with `off_below`"),
        key("off_below", Kind::Number, Nothing, "Off below this, at most `on_above`; unchanged between"),
        key("on_below", Kind::Number, Nothing, "On below this, with `off_above`: for heating"),
        key("off_above", Kind::Number, Nothing, "Off above this, at least `on_below`; unchanged between"),
        key("curve", Kind::Curve, Nothing, "With `pwm`: straight lines through these points, flat beyond the ends"),
        STALE_AFTER,
    ],
};

static REQUIRE: Section = Section {
    path: "outputs.NAME.require",
    keys: &[
        SOURCE_TOPIC,
        SOURCE_READING,
        SOURCE_UNIT,
        key("below", Kind::Number, Nothing, "It must be below this"),
        key("above", Kind::Number, Nothing, "It must be above this"),
        STALE_AFTER,
    ],
};
