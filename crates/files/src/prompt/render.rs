//! Renders conversations: what the template is handed, how it wants things written, and that nothing which was handed
//! over is lost without a word.
#![forbid(unsafe_code)]

use serde_json::{Map, Value, json};

use super::Inner;
use super::conversation::{Conversation, Layout, Message, Role};
use super::error::{Error, Result};
use super::template::{FaultKind, Moment, Rendered, Template, TemplateError};

/// Words that no template has and that every template prints as they are.
pub(super) const PROBES: [&str; 2] = ["quiet meadow", "green pasture"];

impl Inner {
    /// The template for a conversation: one for tools where there is one and they are needed.
    pub(super) fn template_for(&self, conversation: &Conversation) -> Result<&Template> {
        let tools = self.tool_template.as_ref().filter(|_| !conversation.tools.is_empty());
        tools.or(self.template.as_ref()).ok_or(Error::NoTemplate)
    }

    /// Renders and refuses what the template would drop.
    pub(super) fn render(&self, conversation: &Conversation) -> Result<Rendered> {
        let for_tools = self.tool_source.as_ref().filter(|_| !conversation.tools.is_empty());
        let source = for_tools.or(self.source.as_ref()).map_or("", |source| source.text.as_str());
        if let Some(name) = conversation.inputs.keys().find(|name| !source.contains(name.as_str())) {
            return Err(Error::Ignored {
                what: format!("the input {}", crate::error::quoted(name)),
                hint: "leave it out",
            });
        }
        if let Some(name) = conversation.inputs.keys().find(|name| self.is_own(name)) {
            let name = crate::error::quoted(name);
            return Err(Error::Conversation(format!("the input {name} is the prompt's own and cannot be replaced")));
        }
        let rendered = self.render_unchecked(conversation)?;
        let lost = |message: &&Message| {
            let instructs = matches!(message.role, Role::System | Role::Developer);
            instructs && !rendered.text.contains(message.content.trim())
        };
        if conversation.messages.iter().any(|message| lost(&message)) {
            let mut without = conversation.clone();
            without.messages.retain(|message| !lost(&message));
            if self.render_unchecked(&without).is_ok_and(|without| without.text == rendered.text) {
                return Err(Error::Ignored {
                    what: "a system message".into(),
                    hint: "put its text into the first user message",
                });
            }
        }
        if !conversation.tools.is_empty() {
            let without = Conversation { tools: Vec::new(), ..conversation.clone() };
            if self.render_unchecked(&without).is_ok_and(|without| without.text == rendered.text) {
                return Err(Error::Ignored { what: "tools".into(), hint: "use a model that was trained with them" });
            }
        }
        Ok(rendered)
    }

    /// Whether an input is given by the conversation or the tokenizer.
    fn is_own(&self, name: &str) -> bool {
        const OWN: [&str; 4] = ["messages", "tools", "documents", "add_generation_prompt"];
        OWN.contains(&name) || name.ends_with("_token") || self.tokens.iter().any(|(known, _)| known == name)
    }

    /// Renders as it is asked for.
    pub(super) fn render_unchecked(&self, conversation: &Conversation) -> Result<Rendered> {
        let template = self.template_for(conversation)?;
        let now = conversation.now.unwrap_or_else(Moment::now);
        let mut layout = self.layout;
        let first = template.render(&self.inputs(conversation, layout), now);
        let has_calls = conversation.messages.iter().any(|message| !message.tool_calls.is_empty());
        let outcome = match first {
            // A template that adds the arguments to a text wants them as one.
            Err(fault) if fault.kind == FaultKind::Runtime && has_calls => {
                layout.arguments_as_text = true;
                template.render(&self.inputs(conversation, layout), now).map_err(|_| fault)
            }
            other => other,
        };
        outcome.map_err(|fault| refusal(fault, conversation))
    }

    fn inputs(&self, conversation: &Conversation, layout: Layout) -> Value {
        let mut inputs = Map::new();
        for (name, text) in &self.tokens {
            inputs.insert(name.clone(), json!(text));
        }
        let messages = conversation.messages.iter().map(|message| message.to_input(layout));
        inputs.insert("messages".into(), messages.collect());
        let tools = &conversation.tools;
        inputs.insert("tools".into(), if tools.is_empty() { Value::Null } else { json!(tools) });
        inputs.insert("documents".into(), Value::Null);
        inputs.insert("add_generation_prompt".into(), json!(conversation.add_generation_prompt));
        inputs.extend(conversation.inputs.clone());
        Value::Object(inputs)
    }

    /// Finds out how the template wants a message's content: as a text, or as a list of parts.
    pub(super) fn probe_layout(&mut self) {
        let probe = Conversation::to_answer(vec![Message::new(Role::User, PROBES[0])]);
        let prints =
            |inner: &Inner| inner.render_unchecked(&probe).is_ok_and(|rendered| rendered.text.contains(PROBES[0]));
        if self.template.is_none() || prints(self) {
            return;
        }
        self.layout.content_as_parts = true;
        if !prints(self) {
            self.layout.content_as_parts = false;
            self.notes.push("the template prints no text of a lone user message".into());
        }
    }

    /// The control token that the template writes behind an answer.
    pub(super) fn probe_turn_end(&self) -> Option<u32> {
        let tokenizer = self.tokenizer.as_ref()?;
        let turns = vec![Message::new(Role::User, PROBES[0]), Message::new(Role::Assistant, PROBES[1])];
        let text = self.render_unchecked(&Conversation::complete(turns)).ok()?.text;
        let after = text[text.rfind(PROBES[1])? + PROBES[1].len()..].trim_start();
        let first = *tokenizer.encode_marked(after, &[]).ok()?.ids.first()?;
        (tokenizer.is_special(first) && Some(first) != tokenizer.bos()).then_some(first)
    }
}

fn refusal(fault: TemplateError, conversation: &Conversation) -> Error {
    if fault.kind != FaultKind::Raised {
        return Error::Render(fault);
    }
    let instructs = |message: &Message| matches!(message.role, Role::System | Role::Developer);
    let hint = if conversation.messages.iter().any(instructs) {
        "; where it takes no system message, put its text into the first user message"
    } else {
        ""
    };
    Error::Refused { message: fault.message, hint }
}
