//! Names of the gateway, sensors, inputs and outputs, and the host name that stands in for the gateway's.
//!
//! Invariant: a name can stand in a topic, a path and an environment variable as it is, apart from `-`.

/// The longest name, in characters.
const LONGEST: usize = 64;

/// Names that the topics of the gateway itself use.
pub(super) const RESERVED: [&str; 3] = ["status", "metrics", "get"];

/// `[A-Za-z0-9_-]+`, at most 64.
pub(super) fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= LONGEST && text.bytes().all(allowed)
}

fn allowed(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

/// The kernel's host name; empty where it cannot be read.
pub(super) fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}

/// The host name as a name: other characters become `-`.
pub(super) fn from_host(host: &str) -> String {
    let name: String =
        host.chars().take(LONGEST).map(|c| if c.is_ascii() && allowed(c as u8) { c } else { '-' }).collect();
    if name.is_empty() { "board2mqtt".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_become_names() {
        assert_eq!(from_host("drone01"), "drone01");
        assert_eq!(from_host("pi.example.org"), "pi-example-org");
        assert_eq!(from_host("größe"), "gr--e");
        assert_eq!(from_host(""), "board2mqtt");
        assert!(is_name(&from_host(&"x.".repeat(100))));
    }

    #[test]
    fn names_are_plain() {
        for good in ["a", "Roof-2", "x_y", &"a".repeat(64)] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "a b", "a/b", "ü", "a.b", &"a".repeat(65)] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
