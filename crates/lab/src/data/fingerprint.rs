//! Rows as JSON in one canonical form, and digests of it: the same content has the same digest, whichever format and
//! layout it came in. Digests of many rows are told with and without their order.
#![forbid(unsafe_code)]

use pasture_files::data::{Content, Turns};
use pasture_files::prompt::{Message, Role};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

/// SHA-256 of a row's canonical form.
pub type Fingerprint = [u8; 32];

/// A row in the form in which `pasture data` writes it, which every layout's reader takes.
pub fn canonical(content: &Content) -> Value {
    match content {
        Content::Chat { messages, tools, .. } => {
            let mut row = json!({ "messages": turns(messages) });
            if !tools.is_empty() {
                row["tools"] = json!(tools);
            }
            row
        }
        Content::Pair { prompt, completion } => json!({"prompt": side(prompt), "completion": side(completion)}),
        Content::Preference { prompt, chosen, rejected } => {
            let mut row = Map::new();
            if let Some(prompt) = prompt {
                row.insert("prompt".into(), side(prompt));
            }
            row.insert("chosen".into(), side(chosen));
            row.insert("rejected".into(), side(rejected));
            Value::Object(row)
        }
        Content::Judged { prompt, completion, desirable } => {
            json!({"prompt": side(prompt), "completion": side(completion), "label": desirable})
        }
        Content::Text(text) => json!({ "text": text }),
        Content::Tokens { ids, trained } => {
            let labels: Vec<i64> =
                ids.iter().zip(trained).map(|(id, trained)| if *trained { i64::from(*id) } else { -100 }).collect();
            json!({"input_ids": ids, "labels": labels})
        }
    }
}

fn side(side: &Turns) -> Value {
    match side {
        Turns::Text(text) => json!(text),
        Turns::Messages(messages) => turns(messages),
    }
}

fn turns(messages: &[Message]) -> Value {
    messages.iter().map(turn).collect()
}

fn turn(message: &Message) -> Value {
    let mut turn = json!({"role": message.role.name(), "content": message.content});
    if let Some(reasoning) = &message.reasoning {
        turn["reasoning_content"] = json!(reasoning);
    }
    if !message.tool_calls.is_empty() {
        let calls = message.tool_calls.iter().map(|call| {
            let mut made = json!({"type": "function", "function": {"name": call.name, "arguments": call.arguments}});
            if let Some(id) = &call.id {
                made["id"] = json!(id);
            }
            made
        });
        turn["tool_calls"] = calls.collect();
    }
    for (key, value) in [("tool_call_id", &message.tool_call_id), ("name", &message.name)] {
        if let Some(text) = value {
            turn[key] = json!(text);
        }
    }
    if message.role == Role::Assistant && !message.trained {
        turn["weight"] = json!(0);
    }
    turn
}

/// The digest of a row.
pub fn fingerprint(content: &Content) -> Fingerprint {
    Sha256::digest(canonical(content).to_string().as_bytes()).into()
}

/// The digest of a row's words: without case, marks and white space. Rows that share it are nearly the same.
pub fn near_fingerprint(content: &Content) -> Fingerprint {
    let mut hasher = Sha256::new();
    words(&canonical(content), &mut hasher);
    hasher.finalize().into()
}

fn words(value: &Value, hasher: &mut Sha256) {
    match value {
        Value::String(text) => {
            for word in text.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty()) {
                hasher.update(word.to_lowercase().as_bytes());
                hasher.update(b" ");
            }
            hasher.update(b"\0");
        }
        Value::Array(list) => list.iter().for_each(|value| words(value, hasher)),
        Value::Object(fields) => fields.values().for_each(|value| words(value, hasher)),
        other => hasher.update(other.to_string().as_bytes()),
    }
}

/// Digests of many rows, built one after the other.
#[derive(Clone, Debug, Default)]
pub struct Digests {
    ordered: Sha256,
    sum: [u64; 4],
    rows: u64,
}

impl Digests {
    /// Takes the next row in.
    pub fn add(&mut self, row: &Fingerprint) {
        self.ordered.update(row);
        self.rows += 1;
        let mut carry = 0;
        for (place, part) in self.sum.iter_mut().enumerate() {
            let bytes: [u8; 8] = row[place * 8..place * 8 + 8].try_into().expect("a digest has four parts of 8 bytes");
            let total = u128::from(*part) + u128::from(u64::from_le_bytes(bytes)) + carry;
            (*part, carry) = (total as u64, total >> 64);
        }
    }

    /// The digest of the rows in their order.
    pub fn ordered(&self) -> String {
        hexadecimal(&self.ordered.clone().finalize())
    }

    /// The digest of the rows in any order: of the sum of their digests, and their number.
    pub fn unordered(&self) -> String {
        let mut hasher = Sha256::new();
        self.sum.iter().chain([&self.rows]).for_each(|part| hasher.update(part.to_le_bytes()));
        hexadecimal(&hasher.finalize())
    }
}

fn hexadecimal(digest: &[u8]) -> String {
    digest.iter().fold("sha256:".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pasture_files::data;

    fn row(text: &str) -> Content {
        let bytes = std::io::Cursor::new(text.replace('\n', " ").into_bytes());
        data::read(bytes, "a.jsonl", data::Options::default()).unwrap().next().unwrap().unwrap().content
    }

    #[test]
    fn the_same_conversation_has_one_fingerprint_in_every_layout() {
        let chat = row(r#"{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}"#);
        let share =
            row(r#"{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}], "x": 1}"#);
        let alpaca = row(r#"{"instruction": "a", "output": "b"}"#);
        assert_eq!(fingerprint(&chat), fingerprint(&share));
        assert_eq!(fingerprint(&chat), fingerprint(&alpaca));
        assert_ne!(fingerprint(&chat), fingerprint(&row(r#"{"instruction": "a", "output": "c"}"#)));
    }

    #[test]
    fn what_is_written_is_read_as_the_same_row() {
        for text in [
            r#"{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 0},
                {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{\"x\": 1}"}}]},
                {"role": "tool", "content": "c", "tool_call_id": "1"}], "tools": [{"name": "f"}]}"#,
            r#"{"prompt": "a", "completion": [{"role": "assistant", "content": "b", "reasoning": "r"}]}"#,
            r#"{"chosen": "a b", "rejected": "a c"}"#,
            r#"{"prompt": "a", "completion": "b", "label": true}"#,
            r#"{"text": "a"}"#,
            r#"{"input_ids": [1, 2], "labels": [-100, 2]}"#,
        ] {
            let first = row(text);
            assert_eq!(row(&canonical(&first).to_string()), first, "{text}");
        }
    }

    #[test]
    fn near_rows_differ_in_case_and_marks_alone() {
        let near = |text: &str| near_fingerprint(&row(&json!({"prompt": "q", "completion": text}).to_string()));
        assert_eq!(near("Hello,  World!"), near("hello world"));
        assert_ne!(near("Hello World"), near("HelloWorld"));
        assert_ne!(near("Hello World"), near("Hello"));
    }

    #[test]
    fn one_digest_keeps_the_order_and_one_does_not() {
        let [a, b] = ["a", "b"].map(|text| fingerprint(&Content::Text(text.into())));
        let of = |rows: &[Fingerprint]| {
            let mut digests = Digests::default();
            rows.iter().for_each(|row| digests.add(row));
            (digests.ordered(), digests.unordered())
        };
        let (ab, ba) = (of(&[a, b]), of(&[b, a]));
        assert_ne!(ab.0, ba.0);
        assert_eq!(ab.1, ba.1);
        assert_ne!(of(&[a, a]).1, of(&[b, b]).1);
        assert_ne!(of(&[a]).1, of(&[a, a]).1);
    }
}
