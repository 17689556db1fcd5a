//! What an assistant puts before every conversation with its model: documents, a system prompt, examples, tools, and
//! texts that end answers. It becomes part of the prompt object, so that whoever renders with it says the same.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::Value;

use super::Prompt;
use super::conversation::{Conversation, Message, Role};

/// What stands before each conversation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Preamble {
    /// Texts to answer from, by name. They stand before the system prompt, whoever wrote that.
    pub documents: Vec<(String, String)>,
    /// The system prompt of conversations that bring none.
    pub system: Option<String>,
    /// Turns that show how to answer; they follow the system prompt and are never trained.
    pub examples: Vec<Message>,
    /// Tools of conversations that bring none.
    pub tools: Vec<Value>,
    /// Texts that end an answer, beside the model's own.
    pub stops: Vec<String>,
    /// How many tokens an answer has at most, in place of the model's own number.
    pub max_new_tokens: Option<u64>,
}

impl Preamble {
    /// The system message before a conversation: the documents, then the conversation's own text or else this one's.
    pub fn system_message(&self, own: Option<&str>) -> Option<String> {
        let mut text = String::new();
        for (name, document) in &self.documents {
            text.push_str(&format!("<document name={name:?}>\n{}\n</document>\n\n", document.trim_end()));
        }
        text.push_str(own.or(self.system.as_deref()).unwrap_or_default());
        let text = text.trim_end();
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// The conversation as the model gets it.
    fn before(&self, conversation: &Conversation) -> Conversation {
        let is_system = |message: &&Message| matches!(message.role, Role::System | Role::Developer);
        let own = conversation.messages.first().filter(is_system);
        let rest = &conversation.messages[usize::from(own.is_some())..];
        let role = own.map_or(Role::System, |message| message.role);
        let system = self.system_message(own.map(|message| message.content.as_str()));
        let mut whole = conversation.clone();
        whole.messages = system.map(|text| Message::new(role, text)).into_iter().collect();
        whole.messages.extend(self.examples.iter().cloned().map(|message| Message { trained: false, ..message }));
        whole.messages.extend(rest.iter().cloned());
        if whole.tools.is_empty() {
            whole.tools.clone_from(&self.tools);
        }
        whole
    }
}

impl Prompt {
    /// The same prompt with something before every conversation, in place of what stood there.
    #[must_use]
    pub fn with_preamble(&self, preamble: Preamble) -> Prompt {
        let mut inner = (*self.0).clone();
        for stop in &preamble.stops {
            if !inner.stop_strings.contains(stop) {
                inner.stop_strings.push(stop.clone());
            }
        }
        inner.defaults.max_new_tokens = preamble.max_new_tokens.or(inner.defaults.max_new_tokens);
        inner.preamble = Some(preamble);
        Prompt(Arc::new(inner))
    }

    /// What stands before every conversation.
    pub fn preamble(&self) -> Option<&Preamble> {
        self.0.preamble.as_ref()
    }

    /// The conversation as the model gets it.
    pub(super) fn whole<'a>(&self, conversation: &'a Conversation) -> Cow<'a, Conversation> {
        match &self.0.preamble {
            Some(preamble) => Cow::Owned(preamble.before(conversation)),
            None => Cow::Borrowed(conversation),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(own: &[(Role, &str)], wanted: &[(Role, &str)]) {
        let preamble = Preamble {
            documents: vec![("a.txt".into(), "Grass is green.\n".into())],
            system: Some("Be short.".into()),
            examples: vec![Message::new(Role::User, "Hi"), Message::new(Role::Assistant, "Baa")],
            ..Preamble::default()
        };
        let turns = |turns: &[(Role, &str)]| turns.iter().map(|(role, text)| Message::new(*role, *text)).collect();
        let whole = preamble.before(&Conversation::to_answer(turns(own)));
        let said: Vec<(Role, &str)> =
            whole.messages.iter().map(|message| (message.role, message.content.as_str())).collect();
        assert_eq!(said, wanted);
    }

    #[test]
    fn a_conversation_keeps_its_own_system_message_and_gets_the_rest() {
        let (hi, baa, what) = ((Role::User, "Hi"), (Role::Assistant, "Baa"), (Role::User, "What?"));
        let document = "<document name=\"a.txt\">\nGrass is green.\n</document>\n\n";
        let (short, long) = (format!("{document}Be short."), format!("{document}Be long."));
        check(&[what], &[(Role::System, &short), hi, baa, what]);
        check(&[(Role::System, "Be long."), what], &[(Role::System, &long), hi, baa, what]);
    }
}
