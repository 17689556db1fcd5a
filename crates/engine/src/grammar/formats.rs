//! Formats of texts as regular expressions, where the library's own would let wrong ones through: days that no month
//! has, seconds that no minute has, names that no host may have.

/// A day of the calendar.
const DATE: &str = concat!(
    r"(?:[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)",
    r"|02-(?:0[1-9]|1[0-9]|2[0-8]))",
    // The leap days: of years that 4 divides and 100 does not, or 400 does.
    r"|(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29)",
);
/// A time with its zone. Leap seconds exist at two moments of a year at most, so none is written.
const TIME: &str =
    r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,9})?(?:[zZ]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])";
/// At most three labels of 63 letters, which is below the 253 of a whole name; no two hyphens in a row, which would
/// begin an encoded label.
const HOSTNAME: &str = r"[a-zA-Z0-9](?:-?[a-zA-Z0-9]){0,31}(?:\.[a-zA-Z0-9](?:-?[a-zA-Z0-9]){0,31}){0,2}";

/// What a format becomes.
pub enum Known {
    /// This regular expression, from the first letter to the last.
    Pattern(String),
    /// The library knows it well.
    Library,
}

/// The format of that name.
pub fn format(name: &str) -> Option<Known> {
    let whole = |pattern: &str| Some(Known::Pattern(format!("^(?:{pattern})$")));
    match name {
        "date" => whole(DATE),
        "time" => whole(TIME),
        "date-time" => whole(&format!("{DATE}[tT]{TIME}")),
        "hostname" => whole(HOSTNAME),
        "duration" | "email" | "ipv4" | "ipv6" | "uuid" | "uri" => Some(Known::Library),
        _ => None,
    }
}

/// The names of all formats.
pub const NAMES: &str = "date, time, date-time, duration, email, hostname, ipv4, ipv6, uuid, uri";
