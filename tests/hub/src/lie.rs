//! Lies: what a hub, a mirror or a proxy between may answer instead of the truth.

use crate::http::{Answer, Body, Request};

/// One way to lie.
#[derive(Clone, Debug, PartialEq)]
pub enum Lie {
    /// The whole file with 200 for a range.
    WholeForRange,
    /// A range that begins one byte late, and says so.
    RangeLate,
    /// A range that begins one byte late, and does not say so.
    RangeShifted,
    /// 206 without `Content-Range`.
    NoContentRange,
    /// A `Content-Range` with another total length.
    OtherTotal,
    /// 416 for a range that is there.
    NotSatisfiable,
    /// 206 as `multipart/byteranges`.
    Multipart,
    /// The connection ends after so many bytes of the body.
    Cut(u64),
    /// A body of one byte less, with a length that fits it.
    Short,
    /// A body of one byte more, with a length that fits it.
    Long,
    /// No length, and the end of the connection as the end of the body, one byte early.
    NoLength,
    /// Another `ETag` than before; a conditional range then gets the whole file.
    OtherEtag,
    /// Nothing after the headers.
    Silence,
    /// One byte in so many milliseconds.
    Trickle(u64),
    /// No answer at all: the connection ends.
    HangUp,
    /// Half a header, then the connection ends.
    HalfHeader,
    /// A header that does not end.
    EndlessHeader,
    /// A redirect to itself.
    RedirectLoop,
    /// A redirect to another place.
    RedirectTo(String),
    /// A redirect without a place.
    RedirectNowhere,
    /// This status, and seconds to wait.
    Busy(u16, u64),
    /// This status with this `X-Error-Code`.
    Refuse(u16, &'static str),
    /// A login page.
    Html,
    /// A compressed answer of zeros that grows beyond every limit.
    GzipBomb,
    /// JSON that does not end.
    EndlessJson,
    /// These bytes as the answer.
    Say(String),
    /// The byte at this place of the file is flipped.
    Flip(u64),
    /// Lengths in listings that are not the files'.
    OtherLength,
}

/// Bytes of an endless answer, more than any limit.
const ENDLESS: u64 = 1 << 26;

impl Lie {
    /// Whether it can be told to that method.
    pub(crate) fn is_for(&self, method: &str) -> bool {
        method != "HEAD"
            || matches!(self, Lie::HangUp | Lie::RedirectLoop | Lie::Busy(..) | Lie::Refuse(..) | Lie::OtherEtag)
    }

    /// The answer with the lie in it.
    pub(crate) fn tell(&self, mut answer: Answer, request: &Request) -> Answer {
        let length = answer.length();
        match self {
            Lie::WholeForRange if answer.status == 206 => {
                answer.status = 200;
                answer.drop_header("content-range");
                answer.widen();
            }
            Lie::RangeLate | Lie::RangeShifted if answer.status == 206 => answer.shift(*self == Lie::RangeLate),
            Lie::NoContentRange => answer.drop_header("content-range"),
            Lie::OtherTotal => answer.other_total(),
            Lie::NotSatisfiable if answer.status == 206 => answer = Answer::new(416),
            Lie::Multipart if answer.status == 206 => {
                answer.drop_header("content-range");
                answer = answer.header("content-type", "multipart/byteranges; boundary=x");
            }
            Lie::Cut(at) => answer.manner.cut = Some(*at),
            Lie::Short => {
                answer.manner.cut = Some(length.saturating_sub(1));
                answer.manner.length = Some(length.saturating_sub(1));
            }
            Lie::Long => {
                answer.manner.extra = 1;
                answer.manner.length = Some(length + 1);
            }
            Lie::NoLength => {
                answer.manner.no_length = true;
                answer.manner.cut = Some(length.saturating_sub(1));
            }
            Lie::OtherEtag => {
                let whole = request.header("if-range").is_some();
                answer.drop_header("etag");
                answer = answer.header("etag", "\"0000\"");
                if whole && answer.status == 206 {
                    return Lie::WholeForRange.tell(answer, request);
                }
            }
            Lie::Silence => answer.manner.silent = true,
            Lie::Trickle(pause_ms) => answer.manner.trickle_ms = Some(*pause_ms),
            Lie::HangUp => answer.manner.header_cut = Some(0),
            Lie::HalfHeader => answer.manner.header_cut = Some(20),
            Lie::EndlessHeader => answer = answer.header("x-endless", &"a".repeat(1 << 22)),
            Lie::RedirectLoop => answer = redirect(&request.path),
            Lie::RedirectTo(place) => answer = redirect(place),
            Lie::RedirectNowhere => answer = Answer::new(302),
            Lie::Busy(status, seconds) => answer = Answer::new(*status).header("retry-after", &seconds.to_string()),
            Lie::Refuse(status, code) => {
                answer = Answer::json(*status, &serde_json::json!({"error": code})).header("x-error-code", code);
            }
            Lie::Html => {
                answer =
                    Answer::new(200).header("content-type", "text/html").body(b"<html><body>Sign in</body></html>");
            }
            Lie::GzipBomb => {
                answer = Answer::new(200).header("content-type", "application/json").header("content-encoding", "gzip");
                answer.body = Body::Repeat { byte: 0, length: ENDLESS };
            }
            Lie::EndlessJson => {
                answer = Answer::new(200).header("content-type", "application/json");
                answer.body = Body::Repeat { byte: b'[', length: ENDLESS };
            }
            Lie::Say(text) => {
                answer = Answer::new(200).header("content-type", "application/json").body(text.as_bytes())
            }
            Lie::Flip(at) => answer.manner.flip = Some(*at),
            Lie::OtherLength => answer.other_lengths(),
            _ => {}
        }
        answer
    }
}

fn redirect(place: &str) -> Answer {
    Answer::new(302).header("location", place)
}
