//! Chat templates: compiled once, rendered with a budget of steps and bytes on a thread whose stack is known. Syntax is
//! read by the `minijinja` parser, evaluation is ours (docs/decisions/templates.md says why).
//!
//! A template is a program from a stranger: it has no way to a file, a process or a clock, and it ends.

use std::ops::Range;
use std::sync::Arc;
use std::thread;

pub use budget::{DEPTH_MAX, OUTPUT_BYTES_MAX, SOURCE_BYTES_MAX};
pub use clock::Moment;
pub use fault::FaultKind;

use budget::Budget;
use fault::{Fault, Outcome};
use machine::Machine;
use syntax::Program;

mod budget;
mod clock;
mod expression;
mod fault;
mod filters;
mod format;
mod json;
mod machine;
mod methods;
mod operators;
mod parse;
mod predicates;
mod python_text;
mod scan;
mod sequence_filters;
mod syntax;
mod text;
mod value;

/// A compiled chat template; cheap to clone.
#[derive(Clone, Debug)]
pub struct Template {
    program: Arc<Program>,
}

/// What a rendering gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// The prompt.
    pub text: String,
    /// Byte ranges written inside `{% generation %}` blocks.
    pub generation: Vec<Range<usize>>,
    /// Byte ranges that came from the inputs other than `*_token`: marks in them are text.
    pub plain: Vec<Range<usize>>,
}

/// Why a template could not be compiled or rendered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("chat template{}: {message}", if *line > 0 { format!(", line {line}") } else { String::new() })]
pub struct TemplateError {
    /// What kind of fault it is.
    pub kind: FaultKind,
    /// The line of the template, from 1; 0 where it is not known.
    pub line: u32,
    /// What is wrong; for [`FaultKind::Raised`], the template's own words.
    pub message: String,
}

/// The stack of the thread that compiles and renders. The deepest programs that the limits admit use a quarter of it
/// in an unoptimized build.
const STACK_BYTES: usize = 16 << 20;

/// Characters of a message that are kept.
const MESSAGE_MAX: usize = 400;

impl Template {
    /// Compiles a template.
    pub fn new(source: &str) -> Result<Self, TemplateError> {
        let program = on_thread(|| parse::program(source))?;
        Ok(Self { program: Arc::new(program) })
    }

    /// Renders with the fields of `context` (an object: `messages`, `tools`, `bos_token`, …) as names, at `now`.
    pub fn render(&self, context: &serde_json::Value, now: Moment) -> Result<Rendered, TemplateError> {
        on_thread(|| {
            let (nodes, bytes) = measure(context);
            let mut machine = Machine::new(&self.program, Budget::for_input(nodes, bytes), now);
            let fields = context.as_object().ok_or_else(|| Fault::runtime("the inputs must be an object"))?;
            for (name, value) in fields {
                machine.input(name, value)?;
            }
            let (output, generation) = machine.run()?;
            let (text, plain) = output.into_parts();
            Ok(Rendered { text, generation, plain })
        })
    }

    /// Whether the template says itself, by `{% generation %}`, which part is the assistant's.
    pub fn has_generation(&self) -> bool {
        self.program.has_generation
    }
}

/// Runs `work` with a stack of known size.
fn on_thread<T: Send>(work: impl FnOnce() -> Outcome<T> + Send) -> Result<T, TemplateError> {
    let outcome = thread::scope(|scope| {
        let spawned = thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, work);
        let thread = spawned.map_err(|fault| Fault::runtime(format!("cannot start a thread: {fault}")))?;
        thread.join().unwrap_or_else(|_| Err(Fault::runtime("the template reached a bug of its evaluator")))
    });
    outcome.map_err(|fault| TemplateError {
        kind: fault.kind,
        line: fault.line,
        message: fault.message.chars().take(MESSAGE_MAX).collect(),
    })
}

/// Values in the inputs and bytes of text in them.
fn measure(value: &serde_json::Value) -> (u64, u64) {
    let add = |(nodes, bytes): (u64, u64), (more, longer): (u64, u64)| (nodes + more, bytes + longer);
    match value {
        serde_json::Value::String(text) => (1, text.len() as u64),
        serde_json::Value::Array(items) => items.iter().map(measure).fold((1, 0), add),
        serde_json::Value::Object(fields) => {
            fields.iter().map(|(key, value)| add((1, key.len() as u64), measure(value))).fold((1, 0), add)
        }
        _ => (1, 0),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(source: &str, wanted: &str) {
        let inputs = json!({"generation": "g", "endpoint": "e", "a": "<x>", "list": [1, 2], "bos_token": "<s>"});
        let rendered = Template::new(source).and_then(|template| template.render(&inputs, Moment::from_unix(0)));
        assert_eq!(rendered.map(|rendered| rendered.text).as_deref(), Ok(wanted), "{source}");
    }

    #[test]
    fn words_of_tags_are_names_elsewhere() {
        check("{{ generation }}{{ endpoint }}", "ge");
        check("{% generation %}{{ generation }}{% endgeneration %}", "g");
        check("{% set in = 'x' %}{{ in }}", "x");
    }

    #[test]
    fn the_ranges_of_generation_and_of_inputs_are_given() {
        let template = Template::new("{{ bos_token }}{% generation %}{{ a }}|{% endgeneration %}").unwrap();
        let rendered = template.render(&json!({"a": "<s>", "bos_token": "<s>"}), Moment::from_unix(0)).unwrap();
        assert_eq!(rendered.text, "<s><s>|");
        assert_eq!(rendered.generation.first(), Some(&(3..7)));
        assert_eq!(rendered.plain.first(), Some(&(3..6)));
    }

    #[test]
    fn what_is_marked_safe_has_its_neighbor_escaped_as_in_the_reference() {
        check("{{ a + (list | tojson | safe) }}", "&lt;x&gt;[1, 2]");
        check("{{ a ~ (list | tojson | safe) }}", "<x>[1, 2]");
    }
}
