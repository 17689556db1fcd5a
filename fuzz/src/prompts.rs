//! The readers of templates, conversations, prompt files and rows, each as a function from bytes to a word about what
//! came of it, with what must hold of every success.

use std::path::Path;

use pasture_files::data::{self, Options};
use pasture_files::prompt::template::{Moment, Rendered, Template};
use pasture_files::prompt::{Conversation, Message, Prompt, Role};
use serde_json::json;

/// Templates that conversations are rendered with: the common layout, Python's methods, JSON and formats.
const TEMPLATES: [&str; 3] = [
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] | trim }}<|im_end|>\n{% endfor %}",
    "{% for m in messages %}{{ m.content.split('a')[-1].strip() ~ m.content[::-2] ~ m.content.replace('b', m.role) }}\
     {{ '%s:%-5s|' % (m.role, m.content) }}{{ '{:>9}'.format(m.content) }}{{ m.content.title() }}{% endfor %}",
    "{% for m in messages %}{{ m | tojson(indent=1) }}{{ m.tool_calls }}{{ m.content | indent | upper }}{% endfor %}\
     {{ tools | tojson }}",
];

/// A template, over a fixed conversation.
pub fn template(bytes: &[u8]) -> String {
    let Ok(source) = std::str::from_utf8(bytes) else { return "not UTF-8".into() };
    let inputs = json!({
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Grüße <|im_end|>\n"},
            {"role": "assistant", "content": "", "tool_calls": [
                {"type": "function", "id": "1", "function": {"name": "f", "arguments": {"a": [1, 2.5, null]}}},
            ]},
            {"role": "tool", "content": "{\"b\": 1}"},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
        "add_generation_prompt": true, "bos_token": "<s>", "eos_token": "</s>",
    });
    match Template::new(source).and_then(|template| template.render(&inputs, Moment::from_unix(0))) {
        Ok(rendered) => checked(&rendered),
        Err(fault) => sane(fault.to_string()),
    }
}

/// Messages and tools as a client sends them, through several templates.
pub fn conversation(bytes: &[u8]) -> String {
    let value = match pasture_files::json::parse(bytes, "input.json") {
        Ok(value) => value,
        Err(fault) => return fault.to_string(),
    };
    if let Err(fault) = Conversation::messages_from_json(&value["messages"]) {
        return fault.to_string();
    }
    let inputs = json!({"messages": value["messages"], "tools": value["tools"], "bos_token": "<s>"});
    let outcomes = TEMPLATES.map(|source| {
        let template = Template::new(source).expect("the templates of this file are right");
        match template.render(&inputs, Moment::from_unix(0)) {
            Ok(rendered) => checked(&rendered),
            Err(fault) => sane(fault.to_string()),
        }
    });
    outcomes.join("; ")
}

/// A folder whose `tokenizer_config.json` is the input.
pub fn prompt(path: &Path) -> String {
    let folder = path.parent().unwrap_or(Path::new("."));
    let prompt = match Prompt::open(folder, None) {
        Ok(prompt) => prompt,
        Err(fault) => return sane(fault.to_string()),
    };
    let turns = [(Role::System, "be brief"), (Role::User, "a"), (Role::Assistant, "b")];
    let messages = turns.map(|(role, text)| Message::new(role, text)).to_vec();
    match prompt.render(&Conversation::complete(messages)) {
        Ok(rendered) => checked(&rendered),
        Err(fault) => sane(fault.to_string()),
    }
}

/// Rows in each of the forms that a file may have.
pub fn rows(bytes: &[u8]) -> String {
    let forms = ["input.jsonl", "input.json", "input.csv", "input.txt"].map(|name| {
        let input = std::io::Cursor::new(bytes.to_vec());
        let rows = match data::read(input, name, Options { vocabulary: Some(265), layout: None }) {
            Ok(rows) => rows,
            Err(fault) => return fault.to_string(),
        };
        let mut count = 0;
        for row in rows {
            match row {
                Ok(_) => count += 1,
                Err(fault) => return fault.to_string(),
            }
        }
        format!("ok {count} rows")
    });
    forms.join("; ")
}

/// Ranges must be of the text, in order.
fn checked(rendered: &Rendered) -> String {
    for ranges in [&rendered.plain, &rendered.generation] {
        for range in ranges {
            assert!(rendered.text.get(range.clone()).is_some(), "{range:?} is not of the text");
        }
    }
    assert!(rendered.plain.windows(2).all(|pair| pair[0].end <= pair[1].start), "ranges overlap");
    format!("ok {} bytes, {} ranges", rendered.text.len(), rendered.plain.len())
}

/// A panic of the evaluator's thread comes back as an error; here it is a finding.
fn sane(message: String) -> String {
    assert!(!message.contains("a bug of its evaluator"), "{message}");
    message
}

/// Seeds for conversations.
pub const CONVERSATIONS: [&str; 2] = [
    "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": \"b\", \
     \"weight\": 0}], \"tools\": []}",
    "{\"messages\": [{\"role\": \"assistant\", \"content\": null, \"reasoning\": \"r\", \"tool_calls\": [{\"id\": \"1\", \
     \"type\": \"function\", \"function\": {\"name\": \"f\", \"arguments\": \"{\\\"a\\\": [1]}\"}}]}, {\"role\": \
     \"tool\", \"tool_call_id\": \"1\", \"content\": [{\"type\": \"text\", \"text\": \"x\"}]}]}",
];

/// A seed for `tokenizer_config.json`.
pub const CONFIG: &str = "{\"chat_template\": [{\"name\": \"default\", \"template\": \"{% for m in messages %}{{ \
    m.role }}{{ m.content }}{% endfor %}\"}], \"bos_token\": {\"content\": \"<s>\"}, \"eos_token\": \"</s>\"}";

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn the_seeds_are_read() {
        for seed in CONVERSATIONS {
            assert!(conversation(seed.as_bytes()).starts_with("ok "), "{}", conversation(seed.as_bytes()));
        }
        let parsed: Value = serde_json::from_str(CONFIG).unwrap();
        assert!(parsed["chat_template"].is_array());
        assert!(template(b"{{ messages[1].content }}").starts_with("ok "));
        assert!(rows(b"{\"text\": \"a\"}").starts_with("ok 1 rows"));
    }
}
