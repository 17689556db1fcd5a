//! The time of day as the two APIs write it: seconds since 1970, and RFC 3339 in universal time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Since 1970.
pub fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Whole seconds since 1970, as files of the server's own have them.
pub fn now() -> i64 {
    i64::try_from(since_1970().as_secs()).unwrap_or(i64::MAX)
}

/// As `2026-11-24T20:15:00.123456Z`.
pub fn rfc3339(since_1970: Duration) -> String {
    let (days, second) = (since_1970.as_secs() / 86_400, since_1970.as_secs() % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:06}Z", since_1970.subsec_micros())
}

/// A day since 1970 as `2026-11-24`.
pub fn day(days: u64) -> String {
    let (year, month, day) = date(days);
    format!("{year:04}-{month:02}-{day:02}")
}

/// A second since 1970 as `2026-11-24T20:15:00Z`.
pub fn second(seconds: u64) -> String {
    let text = rfc3339(Duration::from_secs(seconds));
    text.split('.').next().map_or_else(String::new, |text| format!("{text}Z"))
}

/// The day since 1970 of a text as `2026-11-24`; none where there is no such day, or it is before 1970.
pub fn of_day(text: &str) -> Option<u64> {
    let parts: Vec<&str> = text.split('-').collect();
    let [year, month, number] = parts.as_slice() else { return None };
    if (year.len(), month.len(), number.len()) != (4, 2, 2) {
        return None;
    }
    let (year, month): (u64, u64) = (year.parse().ok()?, month.parse().ok()?);
    let guess = year.checked_sub(1970)? * 365 + year.saturating_sub(1969) / 4 + month.saturating_sub(1) * 30;
    // At most some days off: leap days, centuries, and months of 31 days.
    (guess.saturating_sub(40)..guess + 40).find(|days| day(*days) == text)
}

/// Year, month and day of a day since 1970, counted in years that begin in March and eras of 400 years.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_read_as_they_are_written() {
        for days in (0..60_000).step_by(7) {
            assert_eq!(of_day(&day(days)), Some(days));
        }
        for wrong in ["2026-02-30", "2026-2-3", "1969-12-31", "2026-13-01", "", "2026-01-01T", "0000-00-00"] {
            assert_eq!(of_day(wrong), None, "{wrong}");
        }
        assert_eq!(second(951_782_400), "2000-02-29T00:00:00Z");
    }

    #[test]
    fn moments_are_written_as_the_system_does() {
        // `date -u -d @N +%FT%TZ`
        for (seconds, wanted) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_399, "2000-02-28T23:59:59.000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000Z"),
            (1_764_014_400, "2025-11-24T20:00:00.000000Z"),
            (4_107_542_399, "2100-02-28T23:59:59.000000Z"),
        ] {
            assert_eq!(rfc3339(Duration::from_secs(seconds)), wanted);
        }
    }
}
