//! From a TOML value to a typed one: durations, sizes, rates, pressures, lengths, addresses, units.
//!
//! It owns how each is spelled; limits come with the key's [`Kind`]. Invariant: what is returned is finite and in range.

use super::ServerUrl;
use super::keys::Kind;
use super::tree::Data;
use crate::quantity::{Quantity, Unit};
use crate::topic::QoS;
use std::path::PathBuf;
use std::time::Duration;

/// A typed value; `None` where the data is of another type or out of the kind's range.
pub(super) trait Fit: Sized {
    fn fit(data: &Data, kind: Kind) -> Option<Self>;
}

impl Fit for String {
    fn fit(data: &Data, kind: Kind) -> Option<Self> {
        let text = data.text()?;
        let fits = match kind {
            Kind::Choice(words) => words.contains(&text),
            Kind::Protocol => text == "3.1.1",
            Kind::LineName | Kind::Line => is_line_name(text),
            Kind::Name => super::names::is_name(text),
            _ => text.len() <= 65_535 && !text.contains('\0'),
        };
        fits.then(|| text.to_owned())
    }
}

impl Fit for bool {
    fn fit(data: &Data, _: Kind) -> Option<Self> {
        if let Data::Flag(flag) = data { Some(*flag) } else { None }
    }
}

impl Fit for i64 {
    fn fit(data: &Data, kind: Kind) -> Option<Self> {
        let Data::Whole(whole) = *data else { return None };
        let fits = match kind {
            Kind::Whole(min, max) => (min..=max).contains(&whole),
            Kind::Odd(min, max) => (min..=max).contains(&whole) && whole % 2 == 1,
            Kind::Address => (0x03..=0x77).contains(&whole),
            _ => true,
        };
        fits.then_some(whole)
    }
}

impl Fit for u8 {
    fn fit(data: &Data, kind: Kind) -> Option<Self> {
        i64::fit(data, kind).and_then(|whole| whole.try_into().ok())
    }
}

impl Fit for u32 {
    fn fit(data: &Data, kind: Kind) -> Option<Self> {
        if let Kind::Rate(min, max) = kind {
            let rate = data.text()?.strip_suffix("/s")?.trim_end().parse().ok()?;
            return (min..=max).contains(&i64::from(rate)).then_some(rate);
        }
        i64::fit(data, kind).and_then(|whole| whole.try_into().ok())
    }
}

impl Fit for usize {
    fn fit(data: &Data, kind: Kind) -> Option<Self> {
        i64::fit(data, kind).and_then(|whole| whole.try_into().ok())
    }
}

impl Fit for u64 {
    fn fit(data: &Data, kind: Kind) -> Option<Self> {
        let Kind::Size(min, max) = kind else { return None };
        size(data.text()?).filter(|bytes| (min..=max).contains(bytes))
    }
}

impl Fit for f64 {
    fn fit(data: &Data, kind: Kind) -> Option<Self> {
        let number = match (data, kind) {
            (Data::Text(text), Kind::Pressure(min, max)) => with_unit(text, Quantity::Pressure, min, max)?,
            (Data::Text(text), Kind::Length(min, max)) => with_unit(text, Quantity::Altitude, min, max)?,
            (_, Kind::Pressure(..) | Kind::Length(..)) => return None,
            (Data::Whole(whole), _) => *whole as Self,
            (Data::Number(number), _) => *number,
            _ => return None,
        };
        let fits = match kind {
            Kind::NotNegative => number >= 0.0,
            Kind::NotZero => number != 0.0,
            _ => true,
        };
        (fits && number.is_finite()).then_some(number)
    }
}

impl Fit for Duration {
    fn fit(data: &Data, kind: Kind) -> Option<Self> {
        let Kind::Duration(min, max) = kind else { return None };
        humantime::parse_duration(data.text()?).ok().filter(|duration| (min..=max).contains(duration))
    }
}

impl Fit for QoS {
    fn fit(data: &Data, kind: Kind) -> Option<Self> {
        u8::fit(data, kind).and_then(Self::from_level)
    }
}

impl Fit for Unit {
    fn fit(data: &Data, _: Kind) -> Option<Self> {
        Self::parse(data.text()?)
    }
}

impl Fit for Quantity {
    fn fit(data: &Data, _: Kind) -> Option<Self> {
        Self::from_name(data.text()?)
    }
}

impl Fit for PathBuf {
    fn fit(data: &Data, _: Kind) -> Option<Self> {
        data.text().filter(|text| !text.is_empty() && !text.contains('\0')).map(Self::from)
    }
}

impl Fit for ServerUrl {
    fn fit(data: &Data, _: Kind) -> Option<Self> {
        server(data.text()?).ok()
    }
}

impl Data {
    /// The text, where it is one.
    pub fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }
}

/// Up to 64 printable characters.
fn is_line_name(text: &str) -> bool {
    !text.is_empty() && text.chars().count() <= 64 && !text.chars().any(char::is_control)
}

/// `64MiB`, `500 kB`, `4096B`.
fn size(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let factor: u64 = match text[digits..].trim() {
        "B" => 1,
        "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    text[..digits].parse::<u64>().ok()?.checked_mul(factor)
}

/// A number with a unit of that quantity, in its canonical unit.
fn with_unit(text: &str, quantity: Quantity, min: f64, max: f64) -> Option<f64> {
    let split = text.rfind(|c: char| c.is_ascii_digit() || c == '.')? + 1;
    let unit = Unit::parse(text[split..].trim()).filter(|unit| unit.quantity() == quantity)?;
    let value = unit.to_canonical(text[..split].trim().parse().ok()?);
    (min..=max).contains(&value).then_some(value)
}

/// An address such as `mqtts://broker.lan:8883`; the error is a remedy and quotes no part of it.
pub(super) fn server(text: &str) -> Result<ServerUrl, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        return if path.is_empty() || path.contains('\0') {
            Err("`unix:` is followed by the socket's path".to_owned())
        } else {
            Ok(ServerUrl::Unix(path.into()))
        };
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err("the address starts with `mqtt://`, `mqtts://` or `unix:`".to_owned());
    };
    if rest.contains('@') {
        return Err("user name and password have keys of their own: `username` and `password`".to_owned());
    }
    let port = match scheme {
        "mqtt" => 1883,
        "mqtts" => 8883,
        "tcp" => return Err("did you mean `mqtt://`?".to_owned()),
        "ssl" | "tls" => return Err("did you mean `mqtts://`?".to_owned()),
        "ws" | "wss" => return Err("MQTT over WebSockets comes later; use `mqtt://` or `mqtts://`".to_owned()),
        _ => return Err("the address starts with `mqtt://`, `mqtts://` or `unix:`".to_owned()),
    };
    let (host, port) = host_and_port(rest, port)?;
    Ok(if scheme == "mqtt" { ServerUrl::Mqtt(host, port) } else { ServerUrl::Mqtts(host, port) })
}

fn host_and_port(rest: &str, default: u16) -> Result<(String, u16), String> {
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = if let Some(bracketed) = rest.strip_prefix('[') {
        let (host, after) = bracketed.split_once(']').ok_or("an IPv6 address ends with `]`")?;
        if host.parse::<std::net::Ipv6Addr>().is_err() {
            return Err("between `[` and `]` stands an IPv6 address".to_owned());
        }
        (host, if after.is_empty() { None } else { Some(after.strip_prefix(':').ok_or("after `]` comes `:PORT`")?) })
    } else {
        match rest.split_once(':') {
            Some((host, port)) if !port.contains(':') => (host, Some(port)),
            Some(_) => return Err("an IPv6 address stands in brackets: `mqtt://[::1]:1883`".to_owned()),
            None => (rest, None),
        }
    };
    let usual = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    if host.is_empty() || host.len() > 253 || !host.chars().all(usual) {
        return Err("after `://` comes a host name or an address, and nothing but a port after it".to_owned());
    }
    let port = port.map_or(Ok(default), |port| port.parse().map_err(|_| "a port is 1 to 65535"))?;
    if port == 0 {
        return Err("a port is 1 to 65535".to_owned());
    }
    Ok((host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Data {
        Data::Text(text.to_owned())
    }

    #[test]
    fn servers() {
        let good = [
            ("mqtt://broker.lan", ServerUrl::Mqtt("broker.lan".into(), 1883)),
            ("mqtts://broker.lan/", ServerUrl::Mqtts("broker.lan".into(), 8883)),
            ("mqtt://127.0.0.1:1884", ServerUrl::Mqtt("127.0.0.1".into(), 1884)),
            ("mqtt://[::1]:1884", ServerUrl::Mqtt("::1".into(), 1884)),
            ("mqtts://[fe80::1]", ServerUrl::Mqtts("fe80::1".into(), 8883)),
            ("unix:/run/mqtt.sock", ServerUrl::Unix("/run/mqtt.sock".into())),
            ("unix:///run/mqtt.sock", ServerUrl::Unix("/run/mqtt.sock".into())),
        ];
        for (written, expected) in good {
            assert_eq!(server(written), Ok(expected), "{written}");
        }
        let bad = [
            "",
            "broker.lan",
            "broker.lan:1883",
            "mqtt://",
            "mqtt://a:0",
            "mqtt://a:65536",
            "mqtt://a:b",
            "mqtt://::1",
            "mqtt://[::1",
            "mqtt://[x]",
            "mqtt://[::1]1883",
            "mqtt://a b",
            "mqtt://a/topic",
            "tcp://a",
            "ws://a",
            "unix:",
        ];
        for written in bad {
            assert!(server(written).is_err(), "{written}");
        }
    }

    #[test]
    fn the_remedy_for_a_password_in_the_address_does_not_repeat_it() {
        let remedy = server("mqtt://pi:hunter2@broker.lan").expect_err("a login in the address");
        assert!(!remedy.contains("hunter2") && remedy.contains("`password`"), "{remedy}");
    }

    #[test]
    fn sizes_and_rates() {
        let kind = Kind::Size(1, 1 << 40);
        for (written, bytes) in [("64MiB", 64 << 20), ("500 kB", 500_000), ("1GB", 1_000_000_000), ("7B", 7)] {
            assert_eq!(u64::fit(&text(written), kind), Some(bytes), "{written}");
        }
        for written in
            ["", "64", "MiB", "64 mib", "-1B", "1.5MiB", "99999999999999999999GiB", "18446744073709551615GiB", "0B"]
        {
            assert_eq!(u64::fit(&text(written), kind), None, "{written}");
        }
        let kind = Kind::Rate(1, 1_000);
        assert_eq!(u32::fit(&text("200/s"), kind), Some(200));
        for written in ["200", "0/s", "1001/s", "/s", "-1/s", "200/m"] {
            assert_eq!(u32::fit(&text(written), kind), None, "{written}");
        }
    }

    #[test]
    fn pressures_and_lengths_take_any_unit_of_theirs() {
        let pressure = Kind::Pressure(800.0, 1100.0);
        for written in ["1013.25 hPa", "1013.25hPa", "101325 Pa", "101.325 kPa", "760.0 mmHg", "29.9213 inHg"] {
            let hpa = f64::fit(&text(written), pressure).expect(written);
            assert!((hpa - 1013.25).abs() < 0.01, "{written}: {hpa}");
        }
        for written in ["1013.25", "1013.25 m", "hPa", "", "nan hPa", "1013,25 hPa", "1200 hPa", "1e9 hPa", "-1013 hPa"]
        {
            assert_eq!(f64::fit(&text(written), pressure), None, "{written}");
        }
        let length = Kind::Length(-500.0, 9_000.0);
        assert_eq!(f64::fit(&text("35 m"), length), Some(35.0));
        assert!((f64::fit(&text("-100 ft"), length).expect("a length") + 30.48).abs() < 1e-9);
        assert_eq!(f64::fit(&text("9001 m"), length), None);
    }

    #[test]
    fn numbers_are_finite_and_ranges_inclusive() {
        assert_eq!(f64::fit(&Data::Number(f64::NAN), Kind::Number), None);
        assert_eq!(f64::fit(&Data::Number(f64::INFINITY), Kind::Number), None);
        assert_eq!(f64::fit(&Data::Whole(3), Kind::Number), Some(3.0));
        assert_eq!(f64::fit(&Data::Number(-0.1), Kind::NotNegative), None);
        assert_eq!(f64::fit(&Data::Whole(0), Kind::NotZero), None);
        assert_eq!(usize::fit(&Data::Whole(99), Kind::Odd(1, 99)), Some(99));
        assert_eq!(usize::fit(&Data::Whole(4), Kind::Odd(1, 99)), None);
        assert_eq!(u8::fit(&Data::Whole(0x77), Kind::Address), Some(0x77));
        assert_eq!(u8::fit(&Data::Whole(0x78), Kind::Address), None);
    }

    #[test]
    fn durations_have_units_and_limits() {
        let kind = Kind::Duration(Duration::from_millis(10), Duration::from_secs(86_400));
        for (written, ms) in [("10ms", 10), ("10s", 10_000), ("5m", 300_000), ("1h 30m", 5_400_000), ("1d", 86_400_000)]
        {
            assert_eq!(Duration::fit(&text(written), kind), Some(Duration::from_millis(ms)), "{written}");
        }
        for written in ["", "10", "9ms", "2d", "-1s", "10 parsecs", "99999999999999999999s"] {
            assert_eq!(Duration::fit(&text(written), kind), None, "{written}");
        }
    }
}
