//! Hostile files of rows: each is read, or refused by the number of its line, within 2 seconds and 64 MiB. Layouts and
//! formats are tried on small files made here.
//! The kit is found by `PASTURE_KIT` or beside the workspace; without it that test says `skipped: no kit`.
#![allow(clippy::unwrap_used, reason = "a test may")]
#[path = "../../../tests/kit.rs"]
mod kit;
#[path = "../../../tests/patience.rs"]
mod patience;

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use pasture_files::data::{self, Content, Layout, Options, Turns};
use pasture_files::prompt::Role;
use pasture_files::tokenizer::Tokenizer;
use serde_json::Value;

/// Of the kit: seconds for one case.
const TIME_MAX: Duration = Duration::from_secs(2);
/// Of the kit: growth of memory in KiB, beside twice the size of the input.
const MEMORY_KIB_MAX: u64 = 64 << 10;

fn status(field: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with(field))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Peak growth of resident memory in KiB during `work`; 0 where the system does not say.
fn growth<T>(work: impl FnOnce() -> T) -> (T, u64) {
    // 5 resets the peak to the current size.
    let reset = std::fs::write("/proc/self/clear_refs", "5").is_ok();
    let before = status("VmRSS:").filter(|_| reset);
    let made = work();
    (made, before.zip(status("VmHWM:")).map_or(0, |(before, after)| after.saturating_sub(before)))
}

#[test]
fn every_hostile_file_of_rows_meets_the_manifest() {
    let Some(hostile) = kit::folder("hostile") else { return };
    let manifest = std::fs::read_to_string(hostile.join("manifest.jsonl")).unwrap();
    let (mut faults, mut cases) = (Vec::new(), 0);
    for line in manifest.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        if case["kind"] != "data" {
            continue;
        }
        cases += 1;
        let file = case["file"].as_str().unwrap();
        let base = case["base"].as_str().map(|base| Tokenizer::open(hostile.join(base)).unwrap());
        let options = Options { vocabulary: base.map(|base| base.len() as u32), layout: None };
        let work = || growth(|| data::check(hostile.join(file), options));
        let ((outcome, grown), took) = patience::timed(TIME_MAX, work);
        let size = std::fs::metadata(hostile.join(file)).unwrap().len();
        let shown = outcome.as_ref().map_or_else(ToString::to_string, |summary| format!("{summary:?}"));
        println!("{file}: {took:?}, {grown} KiB, {shown}");
        let met = match &outcome {
            Ok(_) => case["must"] == "ok" || case["may"] == "ok",
            Err(_) => {
                let name = Path::new(file).file_name().unwrap().to_str().unwrap();
                case["must"] == "clear error"
                    && shown.len() <= 500
                    && shown.contains(name)
                    && case["line"].as_u64().is_none_or(|line| shown.contains(&format!("line {line}:")))
            }
        };
        if !met || took > TIME_MAX || grown > MEMORY_KIB_MAX + 2 * (size >> 10) {
            faults.push(format!("{file} ({}): {took:?}, {grown} KiB, {shown}", case["must"]));
        }
    }
    assert!(faults.is_empty(), "{} of {cases}:\n{}", faults.len(), faults.join("\n"));
    assert_eq!(cases, 51, "every case of the kit was tried");
}

fn rows(file: &str, text: &str) -> Result<Vec<data::Row>, String> {
    let bytes = std::io::Cursor::new(text.as_bytes().to_vec());
    let rows = data::read(bytes, file, Options::default()).map_err(|fault| fault.to_string())?;
    rows.collect::<data::Result<Vec<_>>>().map_err(|fault| fault.to_string())
}

#[test]
fn layouts_are_recognized_by_their_fields() {
    let check = |row: &str, wanted: Layout| {
        assert_eq!(rows("a.jsonl", row).unwrap()[0].content.layout(), wanted, "{row}");
    };
    check(r#"{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}"#, Layout::Chat);
    check(r#"{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}"#, Layout::ShareGpt);
    check(r#"{"instruction": "a", "input": "", "output": "b"}"#, Layout::Alpaca);
    check(r#"{"prompt": "a", "completion": "b"}"#, Layout::Pair);
    check(r#"{"prompt": "a", "chosen": "b", "rejected": "c"}"#, Layout::Preference);
    check(r#"{"prompt": "a", "completion": "b", "label": false}"#, Layout::Judged);
    check(r#"{"prompt": "a", "completion": "b", "label": "some column"}"#, Layout::Pair);
    check(r#"{"instruction": "a", "output": "b", "text": null}"#, Layout::Alpaca);
    check(r#"{"text": "a", "source": "x"}"#, Layout::Text);
    check(r#"{"input_ids": [1, 2], "labels": [-100, 2], "attention_mask": [1, 1]}"#, Layout::Tokens);
}

#[test]
fn of_several_layouts_none_is_chosen_but_by_the_user() {
    let row = r#"{"instruction": "a", "output": "b", "text": "c"}"#;
    let fault = rows("a.jsonl", row).unwrap_err();
    for part in ["line 1", "2 ways", "--kind alpaca (\"instruction\" and \"output\")", "--kind text (\"text\")"] {
        assert!(fault.contains(part), "{fault}");
    }
    for (kind, wanted) in [("alpaca", Ok(Layout::Alpaca)), ("text", Ok(Layout::Text)), ("chat", Err("\"messages\""))] {
        let options = Options { layout: Layout::of_kind(kind), ..Options::default() };
        let bytes = std::io::Cursor::new(row.as_bytes());
        let read = data::read(bytes, "a.jsonl", options).unwrap().next().unwrap();
        match wanted {
            Ok(layout) => assert_eq!(read.unwrap().content.layout(), layout),
            Err(part) => assert!(read.unwrap_err().to_string().contains(part)),
        }
    }
}

#[test]
fn reading_goes_on_behind_a_row_that_is_wrong_where_its_end_is_known() {
    let faults = |file: &str, text: &str| -> Vec<String> {
        let mut rows = data::read(std::io::Cursor::new(text.as_bytes().to_vec()), file, Options::default()).unwrap();
        let mut found = Vec::new();
        loop {
            match rows.next() {
                Some(Ok(row)) => found.push(format!("{}", row.line)),
                Some(Err(_)) => found.push(if rows.go_on() { "wrong" } else { "end" }.to_owned()),
                None => return found,
            }
        }
    };
    assert_eq!(faults("a.jsonl", "{\"text\": \"a\"}\n{\n[]\n{\"text\": \"b\"}"), ["1", "wrong", "wrong", "4"]);
    assert_eq!(faults("a.json", "[{\"text\": \"a\"},\n{x},\n{\"text\": \"b\"}"), ["1", "wrong", "end"]);
    assert_eq!(faults("a.csv", "text,id\na,1\nb\nc,3\n\"d"), ["2", "wrong", "4", "end"]);
}

#[test]
fn alpaca_and_sharegpt_become_conversations() {
    let row = r#"{"instruction": "Add.", "input": "1 2", "output": "3", "system": "Be brief."}"#;
    let Content::Chat { messages, .. } = &rows("a.jsonl", row).unwrap()[0].content else { panic!("a chat") };
    let said: Vec<(Role, &str)> = messages.iter().map(|message| (message.role, message.content.as_str())).collect();
    assert_eq!(said, [(Role::System, "Be brief."), (Role::User, "Add.\n\n1 2"), (Role::Assistant, "3")]);
}

#[test]
fn the_same_rows_come_from_jsonl_json_and_csv() {
    let lines =
        "{\"prompt\": \"a, b\", \"completion\": \"c\\n\\\"d\\\"\"}\n\n{\"prompt\": \"e\", \"completion\": \"f\"}";
    let list = "[\n {\"prompt\": \"a, b\", \"completion\": \"c\\n\\\"d\\\"\"},\n {\"prompt\": \"e\", \"completion\": \"f\"}\n]\n";
    let table = "prompt,completion\r\n\"a, b\",\"c\n\"\"d\"\"\"\r\ne,f";
    let contents = |file: &str, text: &str| -> Vec<(usize, Content)> {
        rows(file, text).unwrap().into_iter().map(|row| (row.line, row.content)).collect()
    };
    let pair = |prompt: &str, completion: &str| Content::Pair {
        prompt: Turns::Text(prompt.into()),
        completion: Turns::Text(completion.into()),
    };
    let wanted = |lines: [usize; 2]| vec![(lines[0], pair("a, b", "c\n\"d\"")), (lines[1], pair("e", "f"))];
    assert_eq!(contents("a.jsonl", lines), wanted([1, 3]));
    assert_eq!(contents("a.json", list), wanted([2, 3]));
    assert_eq!(contents("a.csv", table), wanted([2, 4]));
    assert_eq!(
        contents("a.tsv", &table.replace("prompt,", "prompt\t").replace("\",\"", "\"\t\"").replace("e,f", "e\tf")),
        wanted([2, 4])
    );
}

#[test]
fn plain_text_is_one_row_and_compressed_files_are_read() {
    let text = rows("a.txt", "\n\none\n\ntwo\n").unwrap();
    assert_eq!((text.len(), text[0].line), (1, 3));
    assert_eq!(text[0].content, Content::Text("one\n\ntwo".into()));
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(b"{\"text\": \"a\"}\n{\"text\": \"b\"}\n").unwrap();
    let bytes = std::io::Cursor::new(packed.finish().unwrap());
    assert_eq!(data::read(bytes, "a.jsonl.gz", Options::default()).unwrap().count(), 2);
}

#[test]
fn what_is_wrong_is_said_with_its_line() {
    let check = |file: &str, text: &str, wanted: &[&str]| {
        let fault = rows(file, text).unwrap_err();
        assert!(wanted.iter().all(|part| fault.contains(part)), "{fault}");
    };
    check("a.json", "[{\"text\": \"a\"},\n{\"text\": 7}]", &["line 2", "\"text\" is a number"]);
    check("a.json", "[{\"text\": \"a\"},\n", &["line 2", "cut off"]);
    check("a.json", "[{\"text\": \"a\"}] x", &["line 1", "behind the list"]);
    check("a.json", "[{\"text\": \"a\"},]", &["line 1", "JSON"]);
    check("a.csv", "text\na\nb,c\n", &["line 3", "2 fields"]);
    check("a.csv", "text\n\"a\n", &["line 2", "not closed"]);
    check("a.csv", "text,text\na,b\n", &["\"text\" stands twice"]);
    check("a.jsonl", "{\"prompt\": \"a\", \"completion\": \"\"}", &["line 1", "nothing to learn"]);
    check("a.jsonl", "{\"text\": \"a\", \"images\": [\"x.png\"]}", &["line 1", "images"]);
    check("a.jsonl", "{\"conversations\": [{\"from\": \"elf\", \"value\": \"a\"}]}", &["line 1", "\"elf\""]);
    check("a.parquet", "PAR1....", &["Parquet", "a file of its own"]);
}

#[test]
fn columns_without_an_effect_are_reported() {
    let bytes = std::io::Cursor::new(b"{\"text\": \"a\", \"source\": \"x\", \"id\": 7}".to_vec());
    let mut rows = data::read(bytes, "a.jsonl", Options::default()).unwrap();
    assert!(rows.next().unwrap().is_ok());
    assert_eq!(rows.unused(), ["source", "id"]);
}
