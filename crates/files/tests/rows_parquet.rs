//! Rows of Parquet files that pyarrow 25 wrote (`tests/rows`): nested messages, snappy and zstd, both forms of pages.
//! Broken files are refused in bounded time, without a panic.
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::path::PathBuf;

use pasture_files::data::{self, Content, Layout, Options, Turns};
use pasture_files::prompt::Role;
use serde_json::json;

fn sample(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/rows").join(name)
}

#[test]
fn nested_messages_are_read_as_they_were_written() {
    for name in ["chat_snappy.parquet", "chat_zstd_v2.parquet"] {
        let mut rows = data::open(sample(name), Options::default()).unwrap();
        let read: Vec<_> = rows.by_ref().map(Result::unwrap).collect();
        assert_eq!((read.len(), read[2].line, rows.layout()), (3, 3, Some(Layout::Chat)), "{name}");
        assert_eq!(rows.unused(), ["source", "when"], "{name}");
        let Content::Chat { messages, .. } = &read[0].content else { panic!("a chat") };
        let roles: Vec<Role> = messages.iter().map(|message| message.role).collect();
        assert_eq!(roles, [Role::User, Role::Assistant, Role::Tool, Role::Assistant], "{name}");
        assert_eq!(messages[1].tool_calls[0].name, "clock");
        assert_eq!(messages[1].tool_calls[0].arguments, json!({"zone": "UTC"}));
        assert_eq!(messages[2].tool_call_id.as_deref(), Some("c1"));
        let Content::Chat { messages, .. } = &read[1].content else { panic!("a chat") };
        assert_eq!((messages[0].content.as_str(), messages[1].content.as_str()), ("Grüße!", "Hello.\nHow are you?"));
    }
}

#[test]
fn flat_columns_are_read_without_compression() {
    let rows = data::open(sample("pairs_plain.parquet"), Options::default()).unwrap();
    let read: Vec<_> = rows.map(|row| row.unwrap().content).collect();
    let pair = |prompt: &str, completion: &str| Content::Pair {
        prompt: Turns::Text(prompt.into()),
        completion: Turns::Text(completion.into()),
    };
    assert_eq!(read, [pair("a, b", "c\n\"d\""), pair("e", "f")]);
}

#[test]
fn a_wrong_row_is_named_by_its_number() {
    let asked = Options { layout: Some(Layout::Text), ..Options::default() };
    let fault = data::open(sample("pairs_plain.parquet"), asked).unwrap().next().unwrap().unwrap_err().to_string();
    assert!(fault.contains("row 1:") && fault.contains("--kind text"), "{fault}");
}

/// A small generator, so that a failure can be repeated.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

#[test]
fn a_damaged_file_is_read_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["chat_snappy.parquet", "chat_zstd_v2.parquet", "pairs_plain.parquet"] {
        let whole = std::fs::read(sample(name)).unwrap();
        let mut state = 1;
        let rounds = if std::env::var_os("PASTURE_FUZZ").is_some() { 20_000 } else { 100 };
        for round in 0..rounds {
            let mut bytes = whole.clone();
            for _ in 0..=next(&mut state) % 4 {
                let at = next(&mut state) as usize % bytes.len();
                bytes[at] = match next(&mut state) % 4 {
                    0 => 0xff,
                    1 => 0,
                    2 => bytes[at] ^ (1 << (next(&mut state) % 8)),
                    _ => next(&mut state) as u8,
                };
            }
            if round % 8 == 0 {
                bytes.truncate(next(&mut state) as usize % bytes.len());
            }
            let path = folder.path().join("broken.parquet");
            std::fs::write(&path, &bytes).unwrap();
            let outcome = std::panic::catch_unwind(|| data::check(&path, Options::default()));
            let outcome = outcome.unwrap_or_else(|_| panic!("{name}, round {round}"));
            if let Err(fault) = outcome {
                let shown = fault.to_string();
                assert!(shown.len() <= 500 && shown.contains("broken.parquet"), "{name}, round {round}: {shown}");
            }
        }
    }
}
