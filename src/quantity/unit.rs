//! Units and exact conversions between them.

use super::Quantity;
use std::fmt;

/// A unit of measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unit {
    /// °C
    Celsius,
    /// °F
    Fahrenheit,
    /// K
    Kelvin,
    /// hPa
    Hectopascal,
    /// Pa
    Pascal,
    /// kPa
    Kilopascal,
    /// Conventional inch of mercury, 3386.389 Pa (NIST SP 811, B.8).
    InchOfMercury,
    /// Conventional millimetre of mercury, 133.322387415 Pa (13595.1 kg/m³ × 9.80665 m/s²).
    MillimetreOfMercury,
    /// m
    Metre,
    /// International foot, 0.3048 m exactly.
    Foot,
    /// %
    Percent,
    /// No unit.
    One,
}

impl Unit {
    const ALL: [Self; 12] = [
        Self::Celsius,
        Self::Fahrenheit,
        Self::Kelvin,
        Self::Hectopascal,
        Self::Pascal,
        Self::Kilopascal,
        Self::InchOfMercury,
        Self::MillimetreOfMercury,
        Self::Metre,
        Self::Foot,
        Self::Percent,
        Self::One,
    ];

    /// The spellings the configuration accepts, the symbol first.
    pub const fn spellings(self) -> &'static [&'static str] {
        match self {
            Self::Celsius => &["°C", "C", "degC"],
            Self::Fahrenheit => &["°F", "F", "degF"],
            Self::Kelvin => &["K"],
            Self::Hectopascal => &["hPa"],
            Self::Pascal => &["Pa"],
            Self::Kilopascal => &["kPa"],
            Self::InchOfMercury => &["inHg"],
            Self::MillimetreOfMercury => &["mmHg"],
            Self::Metre => &["m"],
            Self::Foot => &["ft", "feet"],
            Self::Percent => &["%"],
            Self::One => &[""],
        }
    }

    /// The symbol that `{unit}` prints.
    pub const fn symbol(self) -> &'static str {
        self.spellings()[0]
    }

    /// The unit spelled `text`.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|unit| unit.spellings().contains(&text))
    }

    /// The units a quantity may be published in, the default first.
    pub const fn of(quantity: Quantity) -> &'static [Self] {
        match quantity {
            Quantity::Temperature => &[Self::Celsius, Self::Fahrenheit, Self::Kelvin],
            Quantity::Pressure => {
                &[Self::Hectopascal, Self::Pascal, Self::Kilopascal, Self::InchOfMercury, Self::MillimetreOfMercury]
            }
            Quantity::Altitude => &[Self::Metre, Self::Foot],
            Quantity::Humidity => &[Self::Percent],
            Quantity::Count => &[Self::One],
        }
    }

    /// The quantity this unit measures.
    pub const fn quantity(self) -> Quantity {
        match self {
            Self::Celsius | Self::Fahrenheit | Self::Kelvin => Quantity::Temperature,
            Self::Hectopascal | Self::Pascal | Self::Kilopascal | Self::InchOfMercury | Self::MillimetreOfMercury => {
                Quantity::Pressure
            }
            Self::Metre | Self::Foot => Quantity::Altitude,
            Self::Percent => Quantity::Humidity,
            Self::One => Quantity::Count,
        }
    }

    /// A value in the quantity's canonical unit, expressed in this one.
    pub fn from_canonical(self, value: f64) -> f64 {
        match self {
            Self::Celsius | Self::Hectopascal | Self::Metre | Self::Percent | Self::One => value,
            Self::Fahrenheit => value * 1.8 + 32.0,
            Self::Kelvin => value + 273.15,
            Self::Pascal => value * 100.0,
            Self::Kilopascal => value / 10.0,
            Self::InchOfMercury => value / 33.86389,
            Self::MillimetreOfMercury => value / 1.33322387415,
            Self::Foot => value / 0.3048,
        }
    }

    /// A value in this unit, expressed in the quantity's canonical one.
    pub fn to_canonical(self, value: f64) -> f64 {
        match self {
            Self::Celsius | Self::Hectopascal | Self::Metre | Self::Percent | Self::One => value,
            Self::Fahrenheit => (value - 32.0) / 1.8,
            Self::Kelvin => value - 273.15,
            Self::Pascal => value / 100.0,
            Self::Kilopascal => value * 10.0,
            Self::InchOfMercury => value * 33.86389,
            Self::MillimetreOfMercury => value * 1.33322387415,
            Self::Foot => value * 0.3048,
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.symbol())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversions_are_the_textbook_ones() {
        let cases = [
            (Unit::Fahrenheit, -40.0, -40.0),
            (Unit::Fahrenheit, 0.0, 32.0),
            (Unit::Fahrenheit, 100.0, 212.0),
            (Unit::Kelvin, -273.15, 0.0),
            (Unit::Pascal, 1013.25, 101_325.0),
            (Unit::Kilopascal, 1013.25, 101.325),
            (Unit::InchOfMercury, 1013.25, 29.9213),
            (Unit::MillimetreOfMercury, 1013.25, 760.0),
            (Unit::Foot, 30.48, 100.0),
            (Unit::Foot, -0.3048, -1.0),
        ];
        for (unit, canonical, expected) in cases {
            let got = unit.from_canonical(canonical);
            assert!((got - expected).abs() < 2e-4, "{canonical} in {unit}: {got}, expected {expected}");
            assert!((unit.to_canonical(got) - canonical).abs() < 1e-9, "{unit} back");
        }
    }

    #[test]
    fn every_unit_belongs_to_its_quantity_and_parses_back() {
        for quantity in Quantity::ALL {
            assert_eq!(Unit::of(quantity)[0], quantity.canonical());
            for unit in Unit::of(quantity) {
                assert_eq!(unit.quantity(), quantity);
                for spelling in unit.spellings() {
                    assert_eq!(Unit::parse(spelling), Some(*unit));
                }
            }
        }
        assert_eq!(Unit::parse("furlong"), None);
    }
}
