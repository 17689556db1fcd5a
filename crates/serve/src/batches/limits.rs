//! Every limit of files and batches in one place.

/// Bytes of one file.
pub const FILE_BYTES: usize = 64 << 20;
/// Lines of one file, which are the requests of a batch.
pub const LINES: usize = 50_000;
/// Files of one caller.
pub const FILES: i64 = 1000;
/// Bytes of all files of one caller, answers of batches included.
pub const CALLER_BYTES: i64 = 1 << 30;
/// The same where they are kept in memory, because the program's folder cannot be written.
pub const MEMORY_BYTES: i64 = 128 << 20;
/// Bytes of a file's name.
pub const NAME_BYTES: usize = 255;
/// Bytes of a form's field that is no file.
pub const FIELD_BYTES: usize = 4096;
/// Bytes of a form's boundary, and of what it says of one part.
pub const FORM: (usize, usize) = (70, 4096);
/// Parts of a form.
pub const PARTS: usize = 16;
/// Forms that are taken in at once: each is held in memory until it is whole.
pub const UPLOADS: usize = 4;
/// Batches of one caller that have not ended.
pub const ACTIVE: i64 = 16;
/// Batches of one caller that are told of; the oldest that ended makes room for another.
pub const BATCHES: i64 = 1000;
/// Files and batches of one answer of a list, where nothing is said.
pub const FILES_LISTED: usize = 1000;
pub const BATCHES_LISTED: usize = 20;
/// Bytes of a `custom_id`.
pub const ID_BYTES: usize = 512;
/// Bytes of the answer to one line.
pub const ANSWER_BYTES: usize = 64 << 20;
/// Faults of an input file that are told.
pub const FAULTS: usize = 100;
/// Entries of `metadata`, and the characters of a name and a value.
pub const METADATA: (usize, usize, usize) = (16, 64, 512);
/// Seconds that a file may be kept: at least, at most and where nothing is said.
pub const KEPT: (u64, u64) = (3600, 30 * 86_400);
/// Seconds in which a batch must be done.
pub const WINDOW: i64 = 86_400;

/// Lines that are computed at once, of all batches together, on a server with so many slots.
pub fn at_once(slots: usize) -> usize {
    (slots / 4).max(1)
}

/// The limits as the page of fields prints them.
pub fn table() -> Vec<(&'static str, String)> {
    vec![
        ("a file", format!("{} MiB, {LINES} lines", FILE_BYTES >> 20)),
        ("files of a caller", format!("{FILES}, {} MiB together, answers of batches included", CALLER_BYTES >> 20)),
        ("the same without a folder for data", format!("{} MiB together, in memory", MEMORY_BYTES >> 20)),
        (
            "a file is kept",
            format!("{} days, or what `expires_after` says, from {} hour on", KEPT.1 / 86_400, KEPT.0 / 3600),
        ),
        ("forms that are taken in at once", UPLOADS.to_string()),
        ("batches of a caller that have not ended", ACTIVE.to_string()),
        ("batches that are told of", format!("{BATCHES} of a caller, {} days", KEPT.1 / 86_400)),
        ("a `custom_id`", format!("1 to {ID_BYTES} bytes")),
        ("`metadata`", format!("{} texts of {} characters, with names of {}", METADATA.0, METADATA.2, METADATA.1)),
        ("lines that are computed at once", "a quarter of `--slots`, of all batches together".to_owned()),
    ]
}
