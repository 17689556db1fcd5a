//! A row becomes samples: conversations by the model's prompt object, so that the ids are those of chat; texts by its
//! tokenizer. Marks in texts stay texts. Nothing is cut here but long plain text, into pieces that lose nothing.
#![forbid(unsafe_code)]

use std::ops::Range;

use pasture_files::data::{Content, Turns};
use pasture_files::prompt::{Conversation, Message, Prompt, Role};
use pasture_files::tokenizer::{Specials, Tokenizer};
use serde_json::Value;

use super::options::{Options, Prompts, TrainOn};
use super::sample::{Example, Judged, Preference, Sample};

/// Where a piece of plain text stands in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) first: bool,
    pub(super) last: bool,
}

impl Piece {
    pub(super) const WHOLE: Piece = Piece { first: true, last: true };
}

/// Turns rows into samples for one model.
pub(super) struct Encoder<'p> {
    prompt: &'p Prompt,
    tokenizer: &'p Tokenizer,
    options: &'p Options,
}

/// The tokens of a text with the place of the answer in them.
struct Answered {
    ids: Vec<u32>,
    answer: Range<usize>,
}

impl<'p> Encoder<'p> {
    /// None where the model has no tokenizer.
    pub(super) fn new(prompt: &'p Prompt, options: &'p Options) -> Option<Encoder<'p>> {
        Some(Encoder { prompt, tokenizer: prompt.tokenizer()?, options })
    }

    /// The samples of a row: one, but for long plain texts. The error says what is wrong, without the place.
    pub(super) fn samples(&self, content: &Content, piece: Piece) -> Result<Vec<Sample>, String> {
        let sample = match content {
            Content::Chat { messages, tools, .. } => Sample::Example(self.chat(messages, tools)?),
            Content::Pair { prompt, completion } => Sample::Example(self.pair(prompt, completion)?),
            Content::Preference { prompt, chosen, rejected } => {
                Sample::Preference(self.preference(prompt.as_ref(), chosen, rejected)?)
            }
            Content::Judged { prompt, completion, desirable } => {
                let Answered { mut ids, answer } = self.answered(prompt, completion)?;
                ids.truncate(answer.end);
                let completion = ids.split_off(answer.start);
                Sample::Judged(Judged { prompt: ids, completion, desirable: *desirable })
            }
            Content::Text(text) => return self.text(text, piece),
            Content::Tokens { ids, trained } => {
                let all = self.options.train_on == TrainOn::All;
                let trained = if all { vec![true; ids.len()] } else { trained.clone() };
                Sample::Example(Example { ids: ids.clone(), trained })
            }
        };
        self.fit(sample).map(|sample| vec![sample])
    }

    /// A sample within the length, or an error that says by how much it is longer.
    fn fit(&self, mut sample: Sample) -> Result<Sample, String> {
        let (found, most) = (sample.len(), self.options.length_max);
        if found > most {
            if !self.options.truncate {
                return Err(format!("{found} tokens, at most {most} fit; --truncate cuts what is longer"));
            }
            sample.truncate(most);
        }
        if sample.targets() == 0 {
            let cut = if found > most { format!(" within the first {most} tokens") } else { String::new() };
            return Err(format!("there is nothing to learn{cut}: no token of an answer"));
        }
        Ok(sample)
    }

    fn chat(&self, messages: &[Message], tools: &[Value]) -> Result<Example, String> {
        let mut messages = messages.to_vec();
        if self.options.train_on == TrainOn::Last {
            let last = messages.iter().rposition(is_learned);
            for (place, message) in messages.iter_mut().enumerate() {
                message.trained = message.trained && Some(place) == last;
            }
        }
        not_empty(&messages)?;
        let encoded = self.conversation(messages, tools)?;
        match self.options.train_on {
            TrainOn::All => Ok(Example { trained: vec![true; encoded.ids.len()], ids: encoded.ids }),
            _ => Ok(encoded),
        }
    }

    fn conversation(&self, messages: Vec<Message>, tools: &[Value]) -> Result<Example, String> {
        let mut conversation = Conversation::complete(messages);
        conversation.tools = tools.to_vec();
        conversation.now = self.options.now;
        let encoded = self.prompt.conversation(&conversation).map_err(|fault| fault.to_string())?;
        Ok(Example { ids: encoded.ids, trained: encoded.trained })
    }

    fn is_chat(&self, sides: &[&Turns]) -> Result<bool, String> {
        let raw = sides.iter().all(|side| matches!(side, Turns::Text(_)));
        match self.options.prompts {
            Prompts::Auto => Ok(!raw || self.prompt.has_template()),
            Prompts::Chat => Ok(true),
            Prompts::Raw if raw => Ok(false),
            Prompts::Raw => Err("it has turns of a conversation, which --prompts raw cannot be".into()),
        }
    }

    fn pair(&self, prompt: &Turns, completion: &Turns) -> Result<Example, String> {
        if self.is_chat(&[prompt, completion])? {
            let mut turns = turns(prompt, Role::User);
            turns.iter_mut().for_each(|turn| turn.trained = self.options.train_on == TrainOn::All);
            turns.extend(self::turns(completion, Role::Assistant));
            return self.chat(&turns, &[]);
        }
        let Answered { ids, answer } = self.answered(prompt, completion)?;
        let all = self.options.train_on == TrainOn::All;
        let trained = (0..ids.len()).map(|place| all || answer.contains(&place)).collect();
        Ok(Example { ids, trained })
    }

    /// A prompt and the one answer to it.
    fn answered(&self, prompt: &Turns, answer: &Turns) -> Result<Answered, String> {
        if self.is_chat(&[prompt, answer])? {
            let mut messages = turns(prompt, Role::User);
            messages.extend(turns(answer, Role::Assistant));
            return self.last_turn(messages);
        }
        let (Turns::Text(prompt), Turns::Text(answer)) = (prompt, answer) else {
            unreachable!("what is no conversation is text")
        };
        if answer.trim().is_empty() {
            return Err("the answer is empty".into());
        }
        self.continued(prompt, answer)
    }

    /// The tokens of a prompt as `generate` sends it, and those of the text that goes on with it, with the end.
    fn continued(&self, prompt: &str, answer: &str) -> Result<Answered, String> {
        let mut ids = self.with_special(prompt)?;
        let start = ids.len();
        let joined = self.with_special(&format!("{prompt}{answer}"))?;
        match joined.strip_prefix(ids.as_slice()) {
            Some(rest) => ids.extend(rest),
            // The last letters of the prompt would melt with the answer; when it is asked, they stand alone.
            None => ids.extend(self.tokenizer.encode(answer, Specials::AsText).map_err(|fault| fault.to_string())?),
        }
        ids.extend(self.end());
        Ok(Answered { answer: start..ids.len(), ids })
    }

    /// A conversation whose last turn is the answer.
    fn last_turn(&self, mut messages: Vec<Message>) -> Result<Answered, String> {
        let Some((last, before)) = messages.split_last_mut() else { return Err("the answer has no turns".into()) };
        if last.role != Role::Assistant {
            return Err(format!("the last turn is the {}'s, expected the assistant's answer", last.role.name()));
        }
        before.iter_mut().for_each(|message| message.trained = false);
        last.trained = true;
        not_empty(&messages)?;
        let Example { ids, trained } = self.conversation(messages, &[])?;
        let start = trained.iter().position(|trained| *trained).ok_or("no token is of the answer")?;
        let end = trained.iter().rposition(|trained| *trained).map_or(start, |last| last + 1);
        Ok(Answered { ids, answer: start..end })
    }

    fn preference(&self, prompt: Option<&Turns>, chosen: &Turns, rejected: &Turns) -> Result<Preference, String> {
        let [good, bad] = match prompt {
            Some(prompt) => [self.answered(prompt, chosen)?, self.answered(prompt, rejected)?],
            None => match (chosen, rejected) {
                (Turns::Messages(good), Turns::Messages(bad)) => {
                    let [start, other] = [good, bad].map(|turns| &turns[..turns.len() - 1]);
                    if start != other {
                        return Err("the conversations differ before their last answers; only the answers may".into());
                    }
                    [self.last_turn(good.clone())?, self.last_turn(bad.clone())?]
                }
                (Turns::Text(good), Turns::Text(bad)) => self.forked(good, bad)?,
                _ => return Err("one answer is a text and the other a conversation".into()),
            },
        };
        let cut = |answered: &Answered| {
            let Answered { ids, answer } = answered;
            (ids[..answer.start].to_vec(), ids[answer.clone()].to_vec())
        };
        let ((prompt, chosen), (other, rejected)) = (cut(&good), cut(&bad));
        if prompt != other {
            return Err("the template writes another prompt before the one answer than before the other".into());
        }
        if chosen == rejected {
            return Err("the two answers are the same".into());
        }
        Ok(Preference { prompt, chosen, rejected })
    }

    /// Two texts that begin alike: what they share is the prompt.
    fn forked(&self, good: &str, bad: &str) -> Result<[Answered; 2], String> {
        if self.options.prompts == Prompts::Chat {
            return Err("it has no \"prompt\", which --prompts chat needs".into());
        }
        let [good, bad] = [good, bad].map(|text| {
            let mut ids = self.with_special(text)?;
            ids.extend(self.end());
            Ok::<_, String>(ids)
        });
        let (good, bad) = (good?, bad?);
        let shared = good.iter().zip(&bad).take_while(|(a, b)| a == b).count();
        Ok([good, bad].map(|ids| Answered { answer: shared..ids.len(), ids }))
    }

    /// Plain text: as many samples as it takes. Each begins with the token that the one before ended with, so that
    /// every token but the first is learned once.
    fn text(&self, text: &str, piece: Piece) -> Result<Vec<Sample>, String> {
        if text.trim().is_empty() {
            return Err("the text is empty".into());
        }
        let mut ids = match piece.first {
            true => self.with_special(text)?,
            false => self.tokenizer.encode(text, Specials::AsText).map_err(|fault| fault.to_string())?,
        };
        if piece.last {
            ids.extend(self.end());
        }
        let most = self.options.length_max.max(2);
        let mut samples = Vec::new();
        let mut start = 0;
        while start + 1 < ids.len() {
            let end = (start + most).min(ids.len());
            let mut trained = vec![true; end - start];
            trained[0] = false;
            samples.push(Sample::Example(Example { ids: ids[start..end].to_vec(), trained }));
            start = end - 1;
        }
        if samples.is_empty() { Err("a single token has nothing to predict it".into()) } else { Ok(samples) }
    }

    /// A text as `generate` sends it.
    fn with_special(&self, text: &str) -> Result<Vec<u32>, String> {
        self.tokenizer.encode_with_special(text, Specials::AsText).map_err(|fault| fault.to_string())
    }

    /// The token that ends a text.
    fn end(&self) -> Option<u32> {
        self.tokenizer.eos().or(self.prompt.stop_ids().first().copied())
    }
}

fn turns(side: &Turns, role: Role) -> Vec<Message> {
    match side {
        Turns::Text(text) => vec![Message::new(role, text.as_str())],
        Turns::Messages(messages) => messages.clone(),
    }
}

fn is_learned(message: &Message) -> bool {
    message.role == Role::Assistant && message.trained
}

/// An answer that says nothing and calls nothing teaches silence.
fn not_empty(messages: &[Message]) -> Result<(), String> {
    let empty = |message: &Message| message.content.trim().is_empty() && message.tool_calls.is_empty();
    match messages.iter().position(|message| is_learned(message) && empty(message)) {
        Some(place) => {
            Err(format!("message {}: the answer is empty; give it \"weight\": 0, or leave it out", place + 1))
        }
        None => Ok(()),
    }
}
