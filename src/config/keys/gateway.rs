//! The keys of the gateway as a whole: its name, server, topics, board and buffer.

use super::Absent::{Flag, Nothing, Required, Text, Whole, Words};
use super::kind::Kind;
use super::{DEFAULTS, INPUT, Inner, OUTPUT, SENSOR, Section, key, table};
use std::time::Duration;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}
const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;

/// The file itself.
pub(in crate::config) static ROOT: Section = Section {
    path: "",
    keys: &[
        table("gateway", Kind::Table, Nothing, "Who this is", Inner::Keys(&GATEWAY)),
        table("mqtt", Kind::Table, Required, "The server and the session with it", Inner::Keys(&MQTT)),
        table(
            "topics",
            Kind::Table,
            Nothing,
            "Where things are published and commands are taken",
            Inner::Keys(&TOPICS),
        ),
        table("metrics", Kind::Table, Nothing, "The gateway's own figures", Inner::Keys(&METRICS)),
        table("board", Kind::Table, Nothing, "The hardware", Inner::Keys(&BOARD)),
        table("simulated", Kind::Table, Nothing, "With `kind = \"simulated\"`", Inner::Keys(&SIMULATED)),
        table("buffer", Kind::Table, Nothing, "What is kept while the server is away", Inner::Keys(&BUFFER)),
        table("defaults", Kind::Table, Nothing, "For every sensor that does not say otherwise", Inner::Keys(&DEFAULTS)),
        table("sensors", Kind::Table, Nothing, "A table for each sensor", Inner::Named(&SENSOR)),
        table("inputs", Kind::Table, Nothing, "A table for each input", Inner::Named(&INPUT)),
        table("outputs", Kind::Table, Nothing, "A table for each output", Inner::Named(&OUTPUT)),
    ],
};

static GATEWAY: Section = Section {
    path: "gateway",
    keys: &[key("name", Kind::Name, Words("the host name"), "The gateway's name in topics, at most 64 characters")],
};

static MQTT: Section = Section {
    path: "mqtt",
    keys: &[
        key("server", Kind::Server, Required, "The server; ports 1883 and 8883 unless one is given"),
        key("protocol", Kind::Protocol, Text("3.1.1"), "MQTT's version"),
        key(
            "client_id",
            Kind::Text,
            Words("`board2mqtt-{gateway}`"),
            "The client identifier, different for each client of a server",
        ),
        key("username", Kind::Text, Nothing, "The user name"),
        table("password", Kind::Secret, Nothing, "The password, or where it is kept", Inner::Keys(&PASSWORD)),
        key(
            "keep_alive",
            Kind::Duration(secs(5), secs(18 * HOUR)),
            Text("30s"),
            "A silent connection is given up after 1.5 times this long",
        ),
        key(
            "clean_session",
            Kind::Flag,
            Flag(true),
            "Whether the server forgets subscriptions at each disconnect; with false commands are subscribed at QoS 0 so that nothing old is replayed",
        ),
        key("qos", Kind::Whole(0, 2), Whole(1), "Quality of service of what is published, unless said otherwise there"),
        key("retain", Kind::Flag, Flag(true), "Whether what is published is retained, unless said otherwise there"),
        table("tls", Kind::Table, Nothing, "Files for `mqtts://`", Inner::Keys(&TLS)),
        table("reconnect", Kind::Table, Nothing, "Pauses between attempts to connect", Inner::Keys(&RECONNECT)),
    ],
};

static PASSWORD: Section = Section {
    path: "mqtt.password",
    keys: &[
        key("file", Kind::Path, Nothing, "The first line of this file"),
        key("env", Kind::Text, Nothing, "This environment variable"),
        key("credential", Kind::Text, Nothing, "This systemd credential (`LoadCredential=`)"),
    ],
};

static TLS: Section = Section {
    path: "mqtt.tls",
    keys: &[
        key(
            "ca",
            Kind::Path,
            Words("the system's"),
            "PEM file of the certificate authority that signed the server's certificate",
        ),
        key("cert", Kind::Path, Nothing, "PEM file of the client's certificate chain, with `key`"),
        key("key", Kind::Path, Nothing, "PEM file of the client's private key, with `cert`"),
    ],
};

static RECONNECT: Section = Section {
    path: "mqtt.reconnect",
    keys: &[
        key("min", Kind::Duration(ms(100), secs(HOUR)), Text("1s"), "The shortest pause"),
        key("max", Kind::Duration(ms(100), secs(DAY)), Text("60s"), "The longest pause, at least `min`"),
    ],
};

static TOPICS: Section = Section {
    path: "topics",
    keys: &[
        key("base", Kind::Topic, Text("board2mqtt/{gateway}"), "What `{base}` stands for"),
        key("status", Kind::Topic, Text("{base}/status"), "`online` or `offline`, retained; also the last will"),
        key("reading", Kind::TopicOrNone, Text("{base}/{sensor}/{quantity}"), "Each reading"),
        key(
            "history",
            Kind::TopicOrNone,
            Text("{reading_topic}/history"),
            "What was measured while the server was away; with \"none\" only the newest value survives",
        ),
        key("sensor", Kind::TopicOrNone, Text("none"), "One JSON object with all quantities of a sensor"),
        key(
            "sensor_status",
            Kind::TopicOrNone,
            Text("{base}/{sensor}/status"),
            "`online` or `offline` for each sensor",
        ),
        key("health", Kind::TopicOrNone, Text("{base}/{sensor}/health"), "JSON that says why a sensor fails"),
        key("input", Kind::Topic, Text("{base}/{input}"), "Each input's state or total"),
        key("output", Kind::Topic, Text("{base}/{output}"), "Each output's state"),
        key("set", Kind::Topic, Text("{output_topic}/set"), "Commands to an output"),
        key("reply", Kind::TopicOrNone, Text("{output_topic}/reply"), "What became of a command"),
        key("get", Kind::TopicOrNone, Text("{base}/get"), "Any message here: everything is read and published again"),
        key("metrics", Kind::TopicOrNone, Text("{base}/metrics"), "The gateway's own figures"),
    ],
};

static METRICS: Section = Section {
    path: "metrics",
    keys: &[key("interval", Kind::Duration(secs(1), secs(DAY)), Text("60s"), "How often the figures are published")],
};

static BOARD: Section = Section {
    path: "board",
    keys: &[key(
        "kind",
        Kind::Choice(&["auto", "raspberry-pi", "linux", "simulated"]),
        Text("auto"),
        "How the hardware is reached; auto: the character device, and rppal's PWM on a Raspberry Pi",
    )],
};

static SIMULATED: Section = Section {
    path: "simulated",
    keys: &[
        key("script", Kind::Path, Words("a plausible flight"), "What happens when, on the simulated board"),
        key(
            "trace",
            Kind::Text,
            Nothing,
            "A file, a FIFO or a datagram socket (`unix:/path`) that gets a line for each write to an output",
        ),
    ],
};

static BUFFER: Section = Section {
    path: "buffer",
    keys: &[
        key(
            "path",
            Kind::Path,
            Words("`buffer` in the unit's state folder, `/var/lib/board2mqtt`; without a unit memory only"),
            "The folder of the store",
        ),
        key(
            "max_size",
            Kind::Size(64 << 10, 64 << 30),
            Text("64MiB"),
            "The hard limit on disk; in memory it is 8 MiB if that is less",
        ),
        key("max_age", Kind::Duration(secs(60), secs(3_650 * DAY)), Text("7d"), "Older readings are dropped"),
        key(
            "overflow",
            Kind::Choice(&["drop-oldest", "drop-newest"]),
            Text("drop-oldest"),
            "What gives way at the limit; drops are counted and published",
        ),
        key("flush_every", Kind::Duration(ms(100), secs(HOUR)), Text("5s"), "What a power cut may cost"),
        key("drain", Kind::Rate(1, 100_000), Text("200/s"), "How fast history goes out after an outage"),
    ],
};
