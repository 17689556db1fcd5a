//! For how long a model stays loaded when nobody asks for it, as clients write it.

use std::time::Duration;

use serde_json::Value;

/// For how long a model stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Until `/models/unload`, whatever requests say: what the program was started with.
    Given,
    /// Until it is told to go.
    Forever,
    /// For so long after the last request.
    For(Duration),
}

/// The longest time that is believed: a year.
const LONGEST: f64 = 366.0 * 86_400.0;

impl Keep {
    /// Whether the time is over.
    pub fn is_over(self, idle: Duration) -> bool {
        matches!(self, Keep::For(time) if idle >= time)
    }

    /// From a number of seconds, or a text such as `5m`, `1h30m` or `300`; what is negative is for ever.
    pub fn parse(value: &Value) -> Option<Keep> {
        let seconds = match value {
            Value::Number(number) => number.as_f64()?,
            Value::String(text) => seconds(text)?,
            _ => return None,
        };
        match seconds {
            seconds if seconds < 0.0 => Some(Keep::Forever),
            seconds if seconds <= LONGEST => Some(Keep::For(Duration::from_secs_f64(seconds))),
            _ => None,
        }
    }
}

/// The seconds of a text: a number, or numbers with `h`, `m`, `s` or `ms`.
fn seconds(text: &str) -> Option<f64> {
    let (sign, mut rest) = text.strip_prefix('-').map_or((1.0, text), |rest| (-1.0, rest));
    if let Ok(number) = rest.parse::<f64>() {
        return number.is_finite().then_some(sign * number);
    }
    let mut sum = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.find(|letter: char| letter.is_ascii_digit()).unwrap_or(rest.len());
        sum += number
            * match &rest[..letters] {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 0.001,
                _ => return None,
            };
        rest = &rest[letters..];
    }
    (!text.is_empty()).then_some(sign * sum)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_are_numbers_or_texts_with_units() {
        let secs = |seconds: u64| Some(Keep::For(Duration::from_secs(seconds)));
        for (value, keep) in [
            (json!(300), secs(300)),
            (json!(0), secs(0)),
            (json!("0"), secs(0)),
            (json!("5m"), secs(300)),
            (json!("1h30m"), secs(5400)),
            (json!("1500ms"), Some(Keep::For(Duration::from_millis(1500)))),
            (json!(-1), Some(Keep::Forever)),
            (json!("-1m"), Some(Keep::Forever)),
            (json!(""), None),
            (json!("m"), None),
            (json!("5x"), None),
            (json!("inf"), None),
            (json!(1e300), None),
            (json!(true), None),
        ] {
            assert_eq!(Keep::parse(&value), keep, "{value}");
        }
    }
}
