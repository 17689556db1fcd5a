//! A conversation to be answered, whatever the API: rendered with its tools, shaped by a grammar where one is asked
//! for, handed to the engine; and its answers sorted into thoughts, text and calls.

use std::sync::Arc;

use pasture_engine::grammar::Shape;
use pasture_engine::{Event, Finish, Piece, Usage};
use pasture_files::prompt::answer::{AnswerFormat, AnswerParser, Said};
use pasture_files::prompt::{Conversation, Preamble};
use serde_json::{Map, Value};

use crate::ask::{self, Answer, Wanted, blocking, number};
use crate::bridge::Run;
use crate::refusal::Refusal;
use crate::shape::Shaped;
use crate::state::{Model, Server};
use crate::tools::{self, Choice, Tools};

/// What is to be answered.
pub struct Turn {
    /// As OpenAI's API writes them.
    pub messages: Value,
    pub tools: Tools,
    /// Inputs of the template by name.
    pub inputs: Map<String, Value>,
}

/// A run that has begun, and what is needed to tell its answers.
pub struct Begun {
    pub run: Run,
    pub sorter: Sorter,
    pub stop_ids: Vec<u32>,
    pub prompt_tokens: usize,
}

/// A conversation as tokens.
pub struct Rendered {
    pub ids: Vec<u32>,
    pub text: String,
}

/// Renders a conversation.
pub async fn render(model: &Arc<Model>, turn: &Turn) -> Result<Rendered, Refusal> {
    let (messages, inputs) = (turn.messages.clone(), turn.inputs.clone());
    let offered = turn.tools.offered();
    let tools = if offered { turn.tools.list.clone() } else { Vec::new() };
    let model = model.clone();
    let prompt = match model.served.prompt.preamble().filter(|_| turn.tools.choice == Choice::Never) {
        Some(own) => model.served.prompt.with_preamble(Preamble { tools: Vec::new(), ..own.clone() }),
        None => model.served.prompt.clone(),
    };
    blocking(move || {
        if offered {
            tools::known(model.served.prompt.answer_format())?;
        }
        let messages = Conversation::messages_from_json(&messages)?;
        let conversation = Conversation { tools, inputs, ..Conversation::to_answer(messages) };
        let encoded = prompt.conversation(&conversation).map_err(|error| refused(error, offered))?;
        Ok(Rendered { ids: encoded.ids, text: encoded.text })
    })
    .await
}

/// A template that has no place for tools is the tools' fault, not the messages'.
fn refused(error: pasture_files::prompt::Error, tools: bool) -> Refusal {
    let about_tools = matches!(&error, pasture_files::prompt::Error::Ignored { what, .. } if what == "tools");
    let mut refusal = Refusal::from(error);
    if tools && about_tools {
        refusal.param = Some("tools".to_owned());
    }
    refusal
}

/// An assistant's own tools are those of a conversation that brings none. Where the answer has a shape, or no call could
/// be told from text, they stand in the prompt alone.
fn own_tools(model: &Model, wanted: &Wanted, tools: &mut Tools) {
    let Some(own) = model.served.prompt.preamble().filter(|own| !own.tools.is_empty()) else { return };
    let told = wanted.shape.is_none() && model.served.prompt.answer_format().calls.is_some();
    if tools.list.is_empty() && told {
        tools.list.clone_from(&own.tools);
    }
}

/// Hands a conversation to the engine.
pub async fn begin(
    server: &Arc<Server>,
    model: &Arc<Model>,
    mut wanted: Wanted,
    mut turn: Turn,
) -> Result<Begun, Refusal> {
    own_tools(model, &wanted, &mut turn.tools);
    turn.tools.check()?;
    let offered = turn.tools.offered();
    if let Some(shaped) = wanted.shape.as_ref().filter(|_| offered) {
        let message = format!("\"{}\" and \"tools\" cannot both say what the answer looks like", shaped.field);
        return Err(Refusal::field(shaped.field, message));
    }
    let mut permit = model.door.admit(wanted.answers as usize)?;
    let rendered = render(model, &turn).await?;
    permit.prompt(rendered.ids.len())?;
    let format = model.served.prompt.answer_format();
    let in_thought = format.begins_in_thought(&rendered.text);
    if let Some(shape) = tools::forced(&turn.tools, format, in_thought)?.filter(|_| offered) {
        wanted.shape = Some(Shaped { field: "tools", shape });
    } else if let Some(shaped) = &mut wanted.shape {
        shaped.shape = framed(format, std::mem::replace(&mut shaped.shape, Shape::JsonObject))?;
    }
    let grammar = ask::grammar(model, &wanted).await?;
    let names = if offered { turn.tools.names() } else { Vec::new() };
    // A shaped answer is told as it is: where nothing was forced by tools no call is looked for.
    let plain = wanted.shape.is_some() && !offered && !format.channels;
    let parser = if plain { AnswerParser::plain() } else { format.parser(&rendered.text, names) };
    let prompt_tokens = rendered.ids.len();
    let mut request = wanted.of(&model.served, rendered.ids, grammar.as_ref());
    if !plain {
        request.shown = format.shown();
    }
    let stop_ids = request.stop_ids.clone();
    let run = Run::submit(server, model, vec![request], permit)?;
    let single = turn.tools.single || matches!(turn.tools.choice, Choice::Named(_));
    let sorter = Sorter { parser, single, calls: 0, last: None };
    Ok(Begun { run, sorter, stop_ids, prompt_tokens })
}

/// A shape inside what the model writes around its answers.
fn framed(format: &AnswerFormat, shape: Shape) -> Result<Shape, Refusal> {
    if !format.channels {
        return Ok(shape);
    }
    let inner = match shape {
        Shape::JsonObject => pasture_engine::grammar::lark_json(&serde_json::json!({"type": "object"})),
        Shape::JsonSchema(schema) => pasture_engine::grammar::lark_json(&schema),
        Shape::Choice(texts) => {
            let texts: Vec<String> = texts.iter().map(|text| pasture_engine::grammar::lark_text(text)).collect();
            Ok(format!("({})", texts.join(" | ")))
        }
        _ => {
            let message =
                "this model writes its answers in channels, inside which only JSON and choices can be asked for";
            return Err(Refusal::wrong(message));
        }
    };
    let inner = inner.map_err(|error| Refusal::wrong(error.to_string()))?;
    Ok(Shape::Lark(format!("start: {} {inner}\n", tools::final_header(format))))
}

/// A call of a tool.
#[derive(Clone, Debug)]
pub struct Call {
    /// Nine letters and digits, which every template takes.
    pub id: String,
    /// Which of the answer's calls.
    pub index: usize,
    pub name: String,
    /// An object in JSON.
    pub arguments: String,
}

impl Call {
    /// The arguments as a value; a text where they are no JSON.
    pub fn value(&self) -> Value {
        serde_json::from_str(&self.arguments).unwrap_or_else(|_| Value::String(self.arguments.clone()))
    }
}

/// A part of an answer.
#[derive(Clone, Debug)]
pub enum Part {
    Reasoning(String),
    Text(String),
    Call(Call),
}

/// Sorts one answer's text as it comes.
#[derive(Clone, Debug)]
pub struct Sorter {
    parser: AnswerParser,
    single: bool,
    calls: usize,
    last: Option<(Finish, Usage)>,
}

impl Sorter {
    /// One that finds nothing but text.
    pub fn plain() -> Sorter {
        Sorter { parser: AnswerParser::plain(), single: false, calls: 0, last: None }
    }

    /// What is certain after an event of the answer.
    pub fn event(&mut self, event: Event) -> Vec<Part> {
        match event {
            Event::Piece(piece) => self.push(&piece.text),
            Event::Ending(ending) => {
                self.last = Some((ending.finish, ending.usage));
                self.finish(&ending.text)
            }
        }
    }

    /// How the answer ended and what it took; one without an end was broken off.
    pub fn ended(&self) -> (Finish, Usage) {
        self.last.unwrap_or((Finish::Cancelled, Usage::default()))
    }

    /// What is certain after more text.
    pub fn push(&mut self, text: &str) -> Vec<Part> {
        let said = self.parser.push(text);
        self.parts(said)
    }

    /// What is left after the last text.
    pub fn finish(&mut self, text: &str) -> Vec<Part> {
        let mut said = self.parser.push(text);
        said.extend(self.parser.finish());
        self.parts(said)
    }

    /// Whether the answer has called a tool.
    pub fn has_called(&self) -> bool {
        self.calls > 0
    }

    fn parts(&mut self, said: Vec<Said>) -> Vec<Part> {
        let mut parts = Vec::new();
        for said in said {
            match said {
                Said::Reasoning(text) => parts.push(Part::Reasoning(text)),
                Said::Text(text) => parts.push(Part::Text(text)),
                // With `parallel_tool_calls: false` the first call is the answer.
                Said::Call { .. } if self.single && self.calls > 0 => {}
                Said::Call { name, arguments } => {
                    parts.push(Part::Call(Call { id: call_id(), index: self.calls, name, arguments }));
                    self.calls += 1;
                }
            }
        }
        parts
    }
}

fn call_id() -> String {
    const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let mut rest = number();
    let letter = |_| {
        let letter = LETTERS[(rest % 36) as usize];
        rest /= 36;
        char::from(letter)
    };
    (0..9).map(letter).collect()
}

/// A whole answer, sorted.
#[derive(Debug)]
pub struct Sorted {
    pub reasoning: String,
    pub text: String,
    pub calls: Vec<Call>,
    pub pieces: Vec<Piece>,
    pub finish: Finish,
    pub usage: Usage,
}

impl Sorted {
    /// Sorts an answer.
    pub fn new(mut sorter: Sorter, answer: Answer) -> Sorted {
        let Answer { text, pieces, finish, usage } = answer;
        let mut sorted =
            Sorted { reasoning: String::new(), text: String::new(), calls: Vec::new(), pieces, finish, usage };
        for part in sorter.finish(&text) {
            match part {
                Part::Reasoning(text) => sorted.reasoning.push_str(&text),
                Part::Text(text) => sorted.text.push_str(&text),
                Part::Call(call) => sorted.calls.push(call),
            }
        }
        sorted
    }
}
