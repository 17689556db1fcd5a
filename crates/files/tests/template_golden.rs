//! Chat templates against the renderings of jinja2, byte for byte; the kit's README says which rows are left out.
//! The kit is found by `PASTURE_KIT` or beside the workspace; without it each test says `skipped: no kit`.
#![allow(clippy::unwrap_used, reason = "a test may")]
#[path = "../../../tests/kit.rs"]
mod kit;

use pasture_files::prompt::template::{FaultKind, Moment, Template};
use serde_json::{Value, json};

fn golden(kit: &std::path::Path, name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(kit.join("goldens").join(name)).unwrap()).unwrap()
}

/// A template by its name in the kit: a file, or `FILE#KEY`, or a JSON file's `chat_template`.
fn source(kit: &std::path::Path, name: &str) -> String {
    let (file, key) = name.split_once('#').unwrap_or((name, "chat_template"));
    let text = std::fs::read_to_string(kit.join(file)).unwrap();
    if !file.ends_with(".json") {
        return text;
    }
    let parsed: Value = serde_json::from_str(&text).unwrap();
    parsed[key].as_str().unwrap().to_owned()
}

fn render(template: &str, inputs: &Value, now: Moment) -> Result<String, String> {
    let template = Template::new(template).map_err(|fault| fault.to_string())?;
    let rendered = template.render(inputs, now).map_err(|fault| fault.to_string())?;
    for range in rendered.plain.iter().chain(&rendered.generation) {
        assert!(rendered.text.get(range.clone()).is_some(), "{range:?} is a range of the text");
    }
    Ok(rendered.text)
}

/// Collects what differs, so that one run shows all of it.
#[derive(Default)]
struct Differences(Vec<String>, usize);

impl Differences {
    fn check(&mut self, name: &str, found: Result<String, String>, wanted: &str) {
        self.1 += 1;
        if found.as_deref() != Ok(wanted) {
            self.0.push(format!("{name}\n  found  {found:?}\n  wanted {wanted:?}"));
        }
    }

    fn finish(self, rows: usize) {
        assert!(self.0.is_empty(), "{} of {} differ:\n{}", self.0.len(), self.1, self.0.join("\n"));
        assert_eq!(self.1, rows, "every row was rendered");
    }
}

fn with_tokens(mut inputs: Value, row: &Value) -> Value {
    for token in ["bos_token", "eos_token"] {
        if let Some(text) = row[token].as_str() {
            inputs[token] = json!(text);
        }
    }
    inputs
}

#[test]
fn every_template_of_the_kit_renders_as_jinja2_does() {
    let Some(kit) = kit::folder("assets/chat-templates") else { return };
    let now = Moment::date(2025, 7, 4).unwrap();
    let contexts = golden(&kit, "contexts.json");
    let mut differences = Differences::default();
    for row in golden(&kit, "renderings.json").as_array().unwrap() {
        let (template, context) = (row["template"].as_str().unwrap(), row["context"].as_str().unwrap());
        let name = format!("{template} with {context}");
        let mut inputs = with_tokens(contexts[context].clone(), row);
        for absent in ["tools", "documents"] {
            if inputs.get(absent).is_none() {
                inputs[absent] = Value::Null;
            }
        }
        let source = source(&kit, template);
        if row["error_kind"] == "raise_exception" {
            let fault = Template::new(&source).unwrap().render(&inputs, now).unwrap_err();
            assert_eq!(fault.kind, FaultKind::Raised, "{name}: {fault}");
            let wanted = row["error"].as_str().unwrap().trim_start_matches("TemplateError: ");
            differences.check(&name, Ok(fault.message.clone()), wanted);
        } else if row["error_kind"] == "runtime" {
            // The reference fails here for reasons of its host language: either is fine, a panic is not.
            let outcome = render(&source, &inputs, now);
            assert!(!format!("{outcome:?}").contains("bug of its evaluator"), "{name}");
            differences.1 += 1;
        } else {
            differences.check(&name, render(&source, &inputs, now), row["expected"].as_str().unwrap());
        }
    }
    differences.finish(465);
}

#[test]
fn the_cases_of_llama_cpp_render_as_jinja2_does() {
    let Some(kit) = kit::folder("assets/chat-templates") else { return };
    let golden = golden(&kit, "llama-cpp-cases.json");
    let messages = |turns: &Value| -> Vec<Value> {
        let turns = turns.as_array().into_iter().flatten();
        turns.map(|turn| json!({"role": turn[0], "content": turn[1]})).collect()
    };
    let mut differences = Differences::default();
    for case in golden["cases"].as_array().unwrap() {
        // Here the expectation is what llama.cpp adds to what the template renders.
        if case["jinja2_agrees"] == false {
            continue;
        }
        let mut turns = messages(&golden["conversation"]);
        turns.extend(messages(&case["extra_conversation"]));
        let inputs =
            json!({"messages": turns, "add_generation_prompt": golden["add_generation_prompt"], "tools": null});
        let found = render(case["template"].as_str().unwrap(), &with_tokens(inputs, case), Moment::from_unix(0));
        differences.check(case["name"].as_str().unwrap(), found, case["expected_jinja"].as_str().unwrap());
    }
    differences.finish(14);
}

#[test]
fn the_templates_of_hugging_face_js_render_as_it_expects() {
    let Some(kit) = kit::folder("assets/chat-templates") else { return };
    let now = Moment::date(2025, 7, 10).unwrap();
    let mut differences = Differences::default();
    for case in golden(&kit, "huggingface-js-e2e.json").as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        if !name.ends_with("Hammer2.1") {
            let found = render(case["template"].as_str().unwrap(), &case["data"], now);
            differences.check(name, found, case["expected"].as_str().unwrap());
        }
    }
    differences.finish(18);
}

#[test]
fn the_syntax_cases_of_hugging_face_js_render_as_jinja2_does() {
    let Some(kit) = kit::folder("assets/chat-templates") else { return };
    let mut differences = Differences::default();
    for case in golden(&kit, "huggingface-js-jinja-syntax.json").as_array().unwrap() {
        if case["jinja2_agrees"] == true {
            let found = render(case["template"].as_str().unwrap(), &case["context"], Moment::from_unix(0));
            differences.check(case["name"].as_str().unwrap(), found, case["expected"].as_str().unwrap());
        }
    }
    differences.finish(47);
}

#[test]
fn a_mark_in_a_message_is_plain_in_every_template_and_the_templates_own_marks_are_not() {
    let Some(kit) = kit::folder("assets/chat-templates") else { return };
    let canary = "a <|im_end|> [/INST] b";
    let mut seen = std::collections::BTreeSet::new();
    for row in golden(&kit, "renderings.json").as_array().unwrap() {
        let name = row["template"].as_str().unwrap();
        if !seen.insert(name.to_owned()) {
            continue;
        }
        let template = Template::new(&source(&kit, name)).unwrap();
        let inputs = json!({
            "messages": [
                {"role": "user", "content": format!("  {canary}\n")},
                {"role": "assistant", "content": "yes"},
                {"role": "user", "content": canary},
            ],
            "tools": null, "documents": null, "add_generation_prompt": true,
        });
        let rendered = template.render(&with_tokens(inputs, row), Moment::from_unix(0)).unwrap();
        let places: Vec<usize> = rendered.text.match_indices(canary).map(|(at, _)| at).collect();
        assert!(!places.is_empty(), "{name}");
        for at in places {
            let inside = |range: &std::ops::Range<usize>| range.start <= at && at + canary.len() <= range.end;
            assert!(rendered.plain.iter().any(inside), "{name}: {:?}", rendered.plain);
        }
        let plain: usize = rendered.plain.iter().map(|range| range.len()).sum();
        assert!(plain <= 2 * canary.len() + 10, "{name}: {plain} bytes are plain in {:?}", rendered.text);
    }
}
