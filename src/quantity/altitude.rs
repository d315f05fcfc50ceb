//! Altitude from pressure by the International Standard Atmosphere, as geopotential altitude.
//!
//! Source: U.S. Standard Atmosphere, 1976 (NOAA-S/T 76-1562), equation 33a with table 4: T₀ = 288.15 K,
//! L = −6.5 K/km up to 11 km′, g₀ = 9.80665 m/s², R* = 8314.32 J/(kmol·K), M₀ = 28.9644 kg/kmol;
//! isothermal (equation 33b) above 11 km′. A sea-level pressure other than 1013.25 hPa scales the whole profile.

/// hPa at sea level in the standard atmosphere.
pub const STANDARD_SEA_LEVEL_HPA: f64 = 1013.25;

/// K at sea level.
const T0: f64 = 288.15;
/// K per metre of geopotential altitude in the troposphere.
const LAPSE: f64 = 0.0065;
/// R*·L/(g₀·M₀).
const EXPONENT: f64 = 8314.32 * LAPSE / (9.80665 * 28.9644);
/// Geopotential metres of the tropopause.
const TROPOPAUSE: f64 = 11_000.0;
/// Scale height of the isothermal layer above it: R*·T₁₁/(g₀·M₀), in metres.
const SCALE_HEIGHT: f64 = 8314.32 * (T0 - LAPSE * TROPOPAUSE) / (9.80665 * 28.9644);

/// Geopotential altitude in metres at `pressure` over a sea-level pressure, both in hPa.
///
/// `None` where either is not a positive, finite number. Accuracy against the 1976 tables: better than 0.1 m from −500 m
/// to 11,000 m; in real air about 1 m for each 0.12 hPa by which the sea-level pressure is off.
pub fn from_pressure(pressure: f64, sea_level: f64) -> Option<f64> {
    let positive = |hpa: f64| hpa.is_finite() && hpa > 0.0;
    if !positive(pressure) || !positive(sea_level) {
        return None;
    }
    let below = T0 / LAPSE * (1.0 - (pressure / sea_level).powf(EXPONENT));
    if below <= TROPOPAUSE {
        return Some(below);
    }
    Some(TROPOPAUSE + SCALE_HEIGHT * (ratio_at_tropopause() * sea_level / pressure).ln())
}

/// The sea-level pressure in hPa at which `pressure` (hPa) is found at `altitude` (geopotential metres, up to 11,000).
///
/// `None` for numbers the troposphere does not have.
pub fn sea_level_pressure(pressure: f64, altitude: f64) -> Option<f64> {
    if !(pressure.is_finite() && pressure > 0.0 && (-5_000.0..=TROPOPAUSE).contains(&altitude)) {
        return None;
    }
    Some(pressure / (1.0 - LAPSE * altitude / T0).powf(1.0 / EXPONENT))
}

fn ratio_at_tropopause() -> f64 {
    (1.0 - LAPSE * TROPOPAUSE / T0).powf(1.0 / EXPONENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// U.S. Standard Atmosphere 1976, table II (the same as ICAO Doc 7488): geopotential altitude (m′) and pressure (hPa).
    const TABLE: [(f64, f64); 14] = [
        (-500.0, 1074.78),
        (0.0, 1013.25),
        (500.0, 954.61),
        (1_000.0, 898.75),
        (2_000.0, 794.95),
        (3_000.0, 701.09),
        (4_000.0, 616.40),
        (5_000.0, 540.20),
        (6_000.0, 471.81),
        (7_000.0, 410.61),
        (8_000.0, 356.00),
        (9_000.0, 307.42),
        (10_000.0, 264.36),
        (11_000.0, 226.32),
    ];

    #[test]
    fn agrees_with_the_standard_atmosphere_of_1976() {
        for (altitude, pressure) in TABLE {
            let got = from_pressure(pressure, STANDARD_SEA_LEVEL_HPA).expect("a pressure");
            // The table is rounded to 0.01 hPa: half a digit is that much altitude.
            let slack = 0.005 * (from_pressure(pressure - 1.0, STANDARD_SEA_LEVEL_HPA).expect("a pressure") - got);
            assert!((got - altitude).abs() <= 0.1 + slack, "{pressure} hPa: {got} m, table {altitude} m");
        }
    }

    #[test]
    fn continues_above_the_tropopause() {
        let got = from_pressure(54.749, STANDARD_SEA_LEVEL_HPA).expect("a pressure");
        assert!((got - 20_000.0).abs() < 1.0, "{got}");
    }

    #[test]
    fn sea_level_pressure_is_the_inverse() {
        for altitude in [-400.0, 0.0, 35.0, 4_000.0] {
            let p0 = sea_level_pressure(900.0, altitude).expect("a pressure");
            let back = from_pressure(900.0, p0).expect("an altitude");
            assert!((back - altitude).abs() < 1e-6, "{altitude}: {back}");
        }
    }

    #[test]
    fn nonsense_has_no_altitude() {
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(from_pressure(bad, 1013.25), None);
            assert_eq!(from_pressure(1000.0, bad), None);
            assert_eq!(sea_level_pressure(bad, 0.0), None);
        }
        assert_eq!(sea_level_pressure(1000.0, 50_000.0), None);
    }
}
