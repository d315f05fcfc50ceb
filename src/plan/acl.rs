//! The topics of a plan as an access control list for Mosquitto (mosquitto.conf(5), `acl_file`).

use super::uses::{Direction, TopicUse};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Lines for Mosquitto's `acl_file` that grant `username` exactly these topics; without a user name, everyone who gives none.
///
/// A topic with blanks at its ends cannot be told to Mosquitto; it becomes a comment that says so.
pub fn acl(uses: &[TopicUse], username: Option<&str>) -> String {
    let mut access: BTreeMap<&str, [bool; 2]> = BTreeMap::new();
    for entry in uses {
        access.entry(&entry.topic).or_default()[usize::from(entry.direction == Direction::Subscribe)] = true;
    }
    let mut text = match username {
        Some(name) if name.trim() == name && !name.is_empty() && !name.contains(char::is_control) => {
            format!("user {name}\n")
        }
        Some(_) => {
            "# the user name cannot be written here: it has blanks at its ends or control characters\n".to_owned()
        }
        None => "# no user name is configured: put these lines before the first `user` line\n".to_owned(),
    };
    for (topic, access) in access {
        let word = match access {
            [true, true] => "readwrite",
            [true, false] => "write",
            [false, _] => "read",
        };
        let remark = if topic.trim() == topic { "" } else { "# not possible, blanks at its ends are lost: " };
        writeln!(text, "{remark}topic {word} {topic}").expect("writing to memory succeeds");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topic::QoS;

    fn entry(topic: &str, direction: Direction) -> TopicUse {
        TopicUse {
            topic: topic.into(),
            direction,
            qos: QoS::AtLeastOnce,
            retain: false,
            payload: String::new(),
            unit: None,
            what: String::new(),
        }
    }

    #[test]
    fn exactly_the_topics_in_use_are_granted() {
        let uses = [
            entry("a/status", Direction::Publish),
            entry("a/set", Direction::Subscribe),
            entry("a/status", Direction::Subscribe),
            entry("my room/t", Direction::Publish),
        ];
        let expected = "user pi\ntopic read a/set\ntopic readwrite a/status\ntopic write my room/t\n";
        assert_eq!(acl(&uses, Some("pi")), expected);
    }

    #[test]
    fn nothing_can_be_smuggled_in() {
        let odd = [entry("a ", Direction::Publish)];
        assert!(acl(&odd, Some("pi\nuser root")).lines().all(|line| line.starts_with('#')));
        assert!(acl(&[], None).starts_with("# no user name"));
    }
}
