//! `board2mqtt topics`: every topic of this configuration, as a table, JSON, or a Mosquitto ACL.

use super::arguments::Arguments;
use super::{Failed, setup, write_out};
use crate::plan::{self, TopicUse};
use serde_json::json;
use std::fmt::Write;

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
    let width = uses.iter().map(|u| u.topic.chars().count()).max().unwrap_or(0).max(5);
    let mut text = format!("{:<width$}  {:<9}  QoS  retain  payload\n", "topic", "direction");
    for u in uses {
        let retain = if u.retain { "yes" } else { "no" };
        let unit = u.unit.as_ref().map(|unit| format!(" ({unit})")).unwrap_or_default();
        writeln!(
            text,
            "{:<width$}  {:<9}  {:<3}  {retain:<6}  {}{unit}",
            u.topic,
            u.direction.as_str(),
            u.qos,
            u.payload
        )
        .expect("a string takes what is written");
    }
    text
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
