//! Reads `[gateway]`, `[mqtt]`, `[topics]`, `[metrics]`, `[board]`, `[simulated]` and `[buffer]`.

use super::reader::View;
use super::tree::Data;
use super::{BoardKind, Buffer, Diagnostic, Located, Mqtt, Origin, Secret, ServerUrl, Simulated, Topics, names};
use std::path::PathBuf;

/// `gateway.name`, or what the host name makes of itself.
pub(super) fn name(root: &View<'_>) -> Located<String> {
    let gateway = root.table_or_empty("gateway");
    if gateway.node("name").is_some() {
        return gateway.optional("name").unwrap_or_default();
    }
    let host = names::host_name();
    let name = names::from_host(&host);
    if name != host {
        let message =
            format!("the host name \"{}\" is no name, this gateway is called `{name}`", host.escape_default());
        let warning = Diagnostic::warning(&Origin::default(), message);
        root.context.note(warning.help("give it a name: `name` in [gateway]"));
    }
    Located { value: name, origin: Origin::default() }
}

/// `[mqtt]`; where the server has been noted as a fault, an address that is none stands in.
pub(super) fn mqtt(root: &View<'_>, gateway: &str) -> Mqtt {
    if root.node("mqtt").is_none() {
        let message = "[mqtt] is missing: there is no server to publish to";
        root.context.note(Diagnostic::fault(root.origin, message).help("write [mqtt] and server = \"mqtt://HOST\""));
        root.doubt("mqtt");
    }
    let table = root.table_or_empty("mqtt");
    let written = root.node("mqtt").is_some_and(|node| node.data.table().is_some());
    let server = if written { table.required::<ServerUrl>("server") } else { None };
    table.value::<String>("protocol");
    let (reconnect_min, reconnect_max) = reconnect(&table);
    let [ca, cert, key] = tls(&table, server.as_deref());
    let username = table.optional("username");
    let password = password(&table);
    let clean_session: bool = table.value("clean_session");
    let client_id = table.optional("client_id");
    if !clean_session && client_id.as_ref().is_some_and(|id: &Located<String>| id.is_empty()) {
        table.fault(
            "client_id",
            "must not be empty with `clean_session = false`",
            "the server keeps a session by this name",
        );
    }
    if table.node("password").is_some() && table.node("username").is_none() {
        table.fault("password", "needs a `username`", "MQTT 3.1.1 has no password without a user name [MQTT-3.1.2-22]");
    }
    let keep_alive = table.value("keep_alive");
    let qos = table.value("qos");
    let retain = table.value("retain");
    Mqtt {
        server: server.unwrap_or(Located { value: ServerUrl::Mqtt(String::new(), 0), origin: Origin::default() }),
        client_id: client_id
            .unwrap_or_else(|| Located { value: format!("board2mqtt-{gateway}"), origin: Origin::default() }),
        username,
        password,
        keep_alive,
        clean_session,
        qos,
        retain,
        ca,
        cert,
        key,
        reconnect_min,
        reconnect_max,
    }
}

fn reconnect(mqtt: &View<'_>) -> (std::time::Duration, std::time::Duration) {
    let table = mqtt.table_or_empty("reconnect");
    let (min, max) = (table.value("min"), table.value("max"));
    if min > max {
        let name = if table.node("max").is_some() { "max" } else { "min" };
        table.fault(name, "contradicts: `min` is longer than `max`", "`max` is at least `min`; it is 60s unless given");
    }
    (min, max)
}

fn tls(mqtt: &View<'_>, server: Option<&ServerUrl>) -> [Option<Located<PathBuf>>; 3] {
    let Some(table) = mqtt.table("tls") else { return [None, None, None] };
    for (given, missing) in [("cert", "key"), ("key", "cert")] {
        if table.node(given).is_some() && table.node(missing).is_none() {
            table.fault(
                given,
                format!("needs `{missing}` too"),
                "a client certificate and its private key go together",
            );
        }
    }
    if server.is_some_and(|server| !matches!(server, ServerUrl::Mqtts(..))) {
        mqtt.fault("tls", "goes with `mqtts://` only", "write server = \"mqtts://…\", or remove `tls`");
    }
    ["ca", "cert", "key"].map(|name| table.path(name))
}

fn password(mqtt: &View<'_>) -> Option<Located<Secret>> {
    let node = mqtt.node("password")?;
    let origin = node.origin.clone();
    let value = match &node.data {
        Data::Text(text) if !text.contains('\0') => Secret::Text(text.clone()),
        Data::Table(_) => {
            let table = mqtt.table_in("password", node)?;
            match table.exactly_one(&["file", "env", "credential"])? {
                "file" => Secret::File(table.path("file")?.value),
                "env" => Secret::Env(table.plain("env")?),
                _ => Secret::Credential(table.plain("credential")?),
            }
        }
        _ => {
            mqtt.misfit("password", node);
            return None;
        }
    };
    Some(Located { value, origin })
}

/// `[topics]`
pub(super) fn topics(root: &View<'_>) -> Topics {
    let table = root.table_or_empty("topics");
    for name in ["base", "status", "input", "output", "set"] {
        if table.plain::<String>(name).is_some_and(|topic| topic == "none") {
            table.fault(name, "cannot be \"none\"", "it is needed; \"none\" turns off single kinds of messages only");
        }
    }
    Topics {
        base: table.located("base"),
        status: table.located("status"),
        reading: table.topic_or_none("reading"),
        history: table.topic_or_none("history"),
        sensor: table.topic_or_none("sensor"),
        sensor_status: table.topic_or_none("sensor_status"),
        health: table.topic_or_none("health"),
        input: table.located("input"),
        output: table.located("output"),
        set: table.located("set"),
        reply: table.topic_or_none("reply"),
        get: table.topic_or_none("get"),
        metrics: table.topic_or_none("metrics"),
    }
}

/// `board.kind`
pub(super) fn board(root: &View<'_>) -> Located<BoardKind> {
    let kinds = [BoardKind::Auto, BoardKind::RaspberryPi, BoardKind::Linux, BoardKind::Simulated];
    let table = root.table_or_empty("board");
    Located { value: table.choice("kind", kinds), origin: table.at("kind") }
}

/// `[simulated]`
pub(super) fn simulated(root: &View<'_>) -> Simulated {
    let table = root.table_or_empty("simulated");
    let trace = table.optional::<String>("trace").map(|trace| Located {
        value: if trace.starts_with("unix:") {
            trace.value
        } else {
            table.context.folder.join(&trace.value).to_string_lossy().into_owned()
        },
        origin: trace.origin,
    });
    Simulated { script: table.path("script"), trace }
}

/// `[buffer]`
pub(super) fn buffer(root: &View<'_>) -> Buffer {
    let table = root.table_or_empty("buffer");
    Buffer {
        path: table.path("path").map(|path| path.value),
        max_size: table.value("max_size"),
        max_age: table.value("max_age"),
        drop_newest: table.choice("overflow", [false, true]),
        flush_every: table.value("flush_every"),
        drain_per_second: table.value("drain"),
    }
}
