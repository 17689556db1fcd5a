//! Every limit of kept chats in one place.

/// Bytes of a body that imports chats.
pub const IMPORT_BYTES: usize = 32 << 20;
/// Chats of one caller.
pub const CHATS: i64 = 10_000;
/// Messages of one chat, all branches together.
pub const MESSAGES: i64 = 20_000;
/// Bytes of all chats of one caller.
pub const CALLER_BYTES: i64 = 1 << 30;
/// Bytes of one message's text.
pub const TEXT_BYTES: usize = 2 << 20;
/// Bytes of what else a message has, as JSON.
pub const MORE_BYTES: usize = 1 << 20;
/// Bytes of a chat's settings, as JSON.
pub const SETTINGS_BYTES: usize = 256 << 10;
/// Characters of a title.
pub const TITLE_CHARS: usize = 200;
/// Characters of a text that is searched for.
pub const SEARCH_CHARS: usize = 200;
/// Chats in one answer of the list.
pub const LISTED: i64 = 200;
/// Messages in one answer of a search.
pub const FOUND: i64 = 50;

/// The limits as the page of fields prints them.
pub fn table() -> Vec<(&'static str, String)> {
    vec![
        ("chats of a caller", format!("{CHATS}, {} MiB together", CALLER_BYTES >> 20)),
        ("messages of a chat", MESSAGES.to_string()),
        ("a message", format!("{} MiB of text, {} MiB of what else it has", TEXT_BYTES >> 20, MORE_BYTES >> 20)),
        ("a chat's settings, title", format!("{} KiB, {TITLE_CHARS} characters", SETTINGS_BYTES >> 10)),
        ("an import", format!("{} MiB in one body", IMPORT_BYTES >> 20)),
        ("a search", format!("{SEARCH_CHARS} characters, {FOUND} places in an answer")),
    ]
}
