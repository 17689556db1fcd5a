//! A moment that templates print through `strftime_now`. It is handed in, so that the same inputs give the same text;
//! no time zone: what the caller hands in is what is printed.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use super::budget::Budget;
use super::fault::{Fault, Outcome};

/// A date and a time of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    year: i64,
    /// 1 to 12.
    month: u32,
    /// 1 to 31.
    day: u32,
    second_of_day: u32,
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const SECONDS_PER_DAY: i64 = 86_400;

impl Moment {
    /// The moment `seconds` after 1970 began, in universal time.
    pub fn from_unix(seconds: i64) -> Self {
        let days = seconds.div_euclid(SECONDS_PER_DAY);
        // The civil calendar in eras of 400 years that begin on the first of March.
        let shifted = days + 719_468;
        let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        Self {
            year: year_of_era + era * 400 + i64::from(month <= 2),
            month: month as u32,
            day: day as u32,
            second_of_day: seconds.rem_euclid(SECONDS_PER_DAY) as u32,
        }
    }

    /// Midnight of a date; none where there is no such date.
    pub fn date(year: i64, month: u32, day: u32) -> Option<Self> {
        let moment = Self { year, month, day, second_of_day: 0 };
        let known = (-9_999..=9_999).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
        (known && Self::from_unix(moment.days() * SECONDS_PER_DAY) == moment).then_some(moment)
    }

    /// Now, in universal time.
    pub fn now() -> Self {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Self::from_unix(i64::try_from(seconds).unwrap_or(0))
    }

    /// The date as `2026-11-24`.
    pub fn to_date(self) -> String {
        format!("{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }

    /// Days since 1970 began.
    fn days(self) -> i64 {
        let (month, day) = (i64::from(self.month), i64::from(self.day));
        let year = self.year - i64::from(month <= 2);
        let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
        let day_of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
        era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
    }

    fn day_of_year(self) -> i64 {
        self.days() - Self { month: 1, day: 1, ..self }.days() + 1
    }

    /// `strftime(pattern)` in the C locale.
    pub(super) fn format(self, pattern: &str, budget: &Budget) -> Outcome<String> {
        let mut out = String::new();
        let mut letters = pattern.chars();
        while let Some(letter) = letters.next() {
            budget.bytes(32)?;
            if letter != '%' {
                out.push(letter);
                continue;
            }
            match letters.next() {
                // `%-d` and its like print without padding.
                Some('-') => {
                    let start = out.len();
                    self.field(letters.next(), &mut out)?;
                    let short = out[start..].trim_start_matches(['0', ' ']).len().max(1).min(out.len() - start);
                    out.replace_range(start..out.len() - short, "");
                }
                field => self.field(field, &mut out)?,
            }
        }
        Ok(out)
    }

    fn field(self, field: Option<char>, out: &mut String) -> Outcome<()> {
        let Self { year, month, day, second_of_day } = self;
        let (hour, minute, second) = (second_of_day / 3_600, second_of_day / 60 % 60, second_of_day % 60);
        let hour_of_twelve = if hour % 12 == 0 { 12 } else { hour % 12 };
        let week_day = (self.days() + 4).rem_euclid(7) as usize;
        let month_name = MONTHS[month as usize - 1];
        _ = match field {
            Some('Y') => write!(out, "{year:04}"),
            Some('y') => write!(out, "{:02}", year.rem_euclid(100)),
            Some('m') => write!(out, "{month:02}"),
            Some('d') => write!(out, "{day:02}"),
            Some('e') => write!(out, "{day:2}"),
            Some('B') => write!(out, "{month_name}"),
            Some('b' | 'h') => write!(out, "{}", &month_name[..3]),
            Some('A') => write!(out, "{}", DAYS[week_day]),
            Some('a') => write!(out, "{}", &DAYS[week_day][..3]),
            Some('w') => write!(out, "{week_day}"),
            Some('u') => write!(out, "{}", if week_day == 0 { 7 } else { week_day }),
            Some('j') => write!(out, "{:03}", self.day_of_year()),
            Some('H') => write!(out, "{hour:02}"),
            Some('I') => write!(out, "{hour_of_twelve:02}"),
            Some('M') => write!(out, "{minute:02}"),
            Some('S') => write!(out, "{second:02}"),
            Some('f') => write!(out, "000000"),
            Some('p') => write!(out, "{}", if hour < 12 { "AM" } else { "PM" }),
            Some('F') => write!(out, "{year:04}-{month:02}-{day:02}"),
            Some('D' | 'x') => write!(out, "{month:02}/{day:02}/{:02}", year.rem_euclid(100)),
            Some('T' | 'X') => write!(out, "{hour:02}:{minute:02}:{second:02}"),
            Some('R') => write!(out, "{hour:02}:{minute:02}"),
            Some('c') => {
                let day_name = &DAYS[week_day][..3];
                write!(out, "{day_name} {} {day:2} {hour:02}:{minute:02}:{second:02} {year}", &month_name[..3])
            }
            Some('z' | 'Z') => Ok(()),
            Some('n') => writeln!(out),
            Some('t') => write!(out, "\t"),
            Some('%') => write!(out, "%"),
            other => {
                let shown = other.map_or_else(String::new, |letter| letter.to_string());
                return Err(Fault::runtime(format!("dates have no field \"%{shown}\"")));
            }
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(seconds: i64, pattern: &str, wanted: &str) {
        let moment = Moment::from_unix(seconds);
        assert_eq!(moment.format(pattern, &Budget::for_input(1, 1)).unwrap(), wanted);
        assert_eq!(moment.days(), seconds.div_euclid(SECONDS_PER_DAY));
    }

    #[test]
    fn moments_print_as_strftime_does() {
        check(0, "%Y-%m-%d %H:%M:%S %A %j", "1970-01-01 00:00:00 Thursday 001");
        check(951_782_400, "%d %b %Y, %-d %B, %a %e", "29 Feb 2000, 29 February, Tue 29");
        check(1_751_587_200, "%d %B %Y|%-m/%-d/%y|%I %p|%F %T", "04 July 2025|7/4/25|12 AM|2025-07-04 00:00:00");
        check(-1, "%F %T", "1969-12-31 23:59:59");
        assert!(Moment::from_unix(0).format("%Q", &Budget::for_input(1, 1)).is_err());
    }

    #[test]
    fn only_dates_that_exist_are_made() {
        assert_eq!(Moment::date(2025, 7, 4), Some(Moment::from_unix(1_751_587_200)));
        assert_eq!(Moment::date(2025, 2, 29), None);
        assert_eq!(Moment::date(2025, 13, 1), None);
    }
}
