//! Every limit of a request in one place; the page of fields prints them.

use std::time::Duration;

/// Bytes of a body.
pub const BODY_BYTES: usize = 4 << 20;
/// Bytes of a request's head.
pub const HEAD_BYTES: usize = 32 << 10;
/// Headers of a request.
pub const HEADERS: usize = 100;
/// Bytes of path and query.
pub const PATH_BYTES: usize = 8 << 10;
/// For the whole head.
pub const HEAD_TIME: Duration = Duration::from_secs(10);
/// Between two parts of a body.
pub const BODY_TIME: Duration = Duration::from_secs(30);
/// For a client that does not read its stream.
pub const READ_TIME: Duration = Duration::from_secs(30);
/// Parts of a stream that wait for the client.
pub const UNREAD_PARTS: usize = 64;
/// Answers of one key that are made or wait, where it was made without another number.
pub const KEY_IN_FLIGHT: usize = 8;
/// Connections held at once.
pub const CONNECTIONS: usize = 2048;
/// Bytes that the system keeps for a client that does not read; it doubles them for its own use.
pub const SEND_BYTES: u32 = 256 << 10;
/// Answers to one prompt.
pub const ANSWERS: u64 = 16;
/// Stop texts, and the bytes of one.
pub const STOPS: (usize, usize) = (16, 256);
/// Other tokens reported with a token.
pub const TOP_LOGPROBS: u64 = 20;
/// Messages of a conversation.
pub const MESSAGES: usize = 4096;
/// Prompts or texts of one request.
pub const PROMPTS: usize = 128;
/// Texts that one request ranks or scores.
pub const DOCUMENTS: usize = 1000;
/// Tokens of one prompt given as ids.
pub const IDS: usize = 1 << 20;

/// What is said of limits that are no field's.
pub fn table() -> Vec<(&'static str, String)> {
    vec![
        ("body", format!("{} MiB; JSON of depth 127; no compression", BODY_BYTES >> 20)),
        ("head", format!("{} KiB, {HEADERS} headers, path {} KiB", HEAD_BYTES >> 10, PATH_BYTES >> 10)),
        ("head must arrive within", format!("{} s", HEAD_TIME.as_secs())),
        ("parts of a body must follow each other within", format!("{} s", BODY_TIME.as_secs())),
        ("a stream must be read within", format!("{} s", READ_TIME.as_secs())),
        ("answers of one key in flight", format!("{KEY_IN_FLIGHT}, or what `keys add --in-flight` said")),
        ("connections", format!("{CONNECTIONS}, or `--connections`")),
    ]
}
