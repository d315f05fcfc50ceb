//! `board2mqtt topics`: every topic of this configuration, as a table, JSON, or a Mosquitto ACL.

use super::arguments::Arguments;
use super::table::{Side, lines, widths};
use super::{Failed, setup, write_out};
use crate::plan::{self, TopicUse};
use serde_json::json;

/// Prints them.
pub fn run(arguments: &Arguments, as_json: bool, acl: bool) -> Result<(), Failed> {
    let checked = setup::load(arguments)?;
    let uses = plan::topics(&checked.plan);
    let username = checked.config.mqtt.username.as_ref().map(|name| name.value.as_str());
    let text = match (acl, as_json) {
        (true, _) => plan::acl(&uses, username),
        (false, true) => format!("{:#}\n", uses.iter().map(as_value).collect::<serde_json::Value>()),
        (false, false) => table(&uses),
    };
    write_out(&text)
}

fn table(uses: &[TopicUse]) -> String {
    let head = ["topic", "direction", "QoS", "retain", "payload"].map(str::to_owned);
    let row = |u: &TopicUse| {
        let unit = u.unit.as_ref().map(|unit| format!(" ({unit})")).unwrap_or_default();
        let retain = if u.retain { "yes" } else { "no" };
        [
            u.topic.clone(),
            u.direction.as_str().to_owned(),
            u.qos.to_string(),
            retain.to_owned(),
            format!("{}{unit}", u.payload),
        ]
    };
    let rows: Vec<_> = std::iter::once(head).chain(uses.iter().map(row)).collect();
    lines(&rows, [Side::Left; 5], widths(&rows))
}

fn as_value(u: &TopicUse) -> serde_json::Value {
    json!({
        "topic": u.topic,
        "direction": u.direction.as_str(),
        "qos": u.qos.level(),
        "retain": u.retain,
        "payload": u.payload,
        "unit": u.unit,
        "what": u.what,
    })
}
