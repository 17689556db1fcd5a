//! Hostile chat templates: each is refused or rendered within 0.25 s, 4 MiB of output and 64 MiB of memory.
//! The kit is found by `PASTURE_KIT` or beside the workspace; without it the test says `skipped: no kit`.
#![allow(clippy::unwrap_used, reason = "a test may")]
#[path = "../../../tests/kit.rs"]
mod kit;
#[path = "../../../tests/patience.rs"]
mod patience;

use std::time::Duration;

use pasture_files::prompt::template::{Moment, OUTPUT_BYTES_MAX, Template};
use serde_json::Value;

/// Of the kit: seconds for one rendering.
const TIME_MAX: Duration = Duration::from_millis(250);
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
    let after = status("VmHWM:");
    (made, before.zip(after).map_or(0, |(before, after)| after.saturating_sub(before)))
}

fn render(source: &[u8], probe: &Value) -> Result<String, String> {
    let source = std::str::from_utf8(source).map_err(|fault| fault.to_string())?;
    let template = Template::new(source).map_err(|fault| fault.to_string())?;
    template.render(probe, Moment::from_unix(0)).map(|rendered| rendered.text).map_err(|fault| fault.to_string())
}

#[test]
fn every_hostile_template_meets_the_manifest() {
    let Some(hostile) = kit::folder("hostile") else { return };
    let manifest = std::fs::read_to_string(hostile.join("manifest.jsonl")).unwrap();
    let mut faults = Vec::new();
    let mut cases = 0;
    for line in manifest.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        if case["kind"] != "template" {
            continue;
        }
        cases += 1;
        let file = case["file"].as_str().unwrap();
        let source = std::fs::read(hostile.join(file)).unwrap();
        let ((outcome, grown), took) = patience::timed(TIME_MAX, || growth(|| render(&source, &case["probe"])));
        let short: String = format!("{outcome:?}").chars().take(200).collect();
        println!("{file}: {took:?}, {grown} KiB, {short}");
        let met = match &outcome {
            Ok(text) => (case["must"] == "ok" || case["may"] == "ok") && text.len() <= OUTPUT_BYTES_MAX,
            Err(message) => {
                (case["must"] == "clear error" || case["may"] == "clear error")
                    && message.len() <= 500
                    && !message.contains("bug of its evaluator")
                    && case["line"].as_u64().is_none_or(|line| message.contains(&format!("line {line}")))
            }
        };
        let small = grown <= MEMORY_KIB_MAX + 2 * (source.len() as u64 >> 10);
        if !met || took > TIME_MAX || !small {
            faults.push(format!("{file} ({}): {took:?}, {grown} KiB, {short}", case["must"]));
        }
    }
    assert!(faults.is_empty(), "{} of {cases}:\n{}", faults.len(), faults.join("\n"));
    assert_eq!(cases, 81, "every case of the kit was tried");
}

#[test]
fn what_nests_without_end_is_refused_and_what_nests_within_the_limit_is_no_overflow() {
    let opening = [
        "{%set a%}",
        "{%if a%}",
        "{%filter upper%}",
        "{%for a in b%}",
        "{%for a in b recursive%}",
        "{%macro a()%}",
        "{%call a()%}",
        "{%with%}",
        "{%generation%}",
        "{%block a%}",
        "{%autoescape true%}",
        "{{(",
        "{{[",
        "{{{1:",
        "{{a(",
        "{{a[",
        "{%set(",
    ];
    let going_on = [
        "{%elif a%}",
        "{%else%}",
        " not",
        " -",
        " a.",
        "a|b|",
        "a if b else ",
        "a~",
        "a**",
        "a.b",
        "a[0]",
        "a()",
        "a is b ",
        "a<",
        "a and ",
        "a,",
        "{#",
        "{%raw%}",
    ];
    let check = |source: &str| {
        let outcome = render(source.as_bytes(), &serde_json::json!({"a": "b"}));
        let shown = format!("{outcome:?}");
        assert!(!shown.contains("bug of its evaluator"), "{:?}…: {shown}", &source[..source.len().min(60)]);
    };
    for count in [190, 2_000, 60_000] {
        for part in opening {
            check(&part.repeat(count));
        }
        for part in going_on {
            check(&format!("{{%if a%}}{}", part.repeat(count)));
            check(&format!("{{{{{}a}}}}", part.repeat(count)));
        }
    }
    let nested = |count: usize| format!("{{% set x = {}1{} %}}{{{{ x }}}}", "[".repeat(count), "]".repeat(count));
    check(&nested(180));
    check("{% set n = namespace(x=[]) %}{% for i in range(300) %}{% set n.x = [n.x] %}{% endfor %}{{ n.x | tojson }}");
    check("{% macro f(n) %}{{ n }}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}");
}
