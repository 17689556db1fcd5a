//! Log-probabilities in the two forms of OpenAI's API.

use pasture_engine::Piece;
use pasture_files::tokenizer::Tokenizer;
use serde_json::{Map, Value, json};

/// A token's text; bytes that are no whole characters are shown by the replacement character.
fn text(tokenizer: Option<&Tokenizer>, id: u32) -> (String, Vec<u8>) {
    let bytes = tokenizer.and_then(|tokenizer| tokenizer.token_bytes(id)).unwrap_or_default();
    (String::from_utf8_lossy(&bytes).into_owned(), bytes)
}

/// A token of a chat's answer.
pub fn of_chat(tokenizer: Option<&Tokenizer>, piece: &Piece) -> Value {
    let one = |id: u32, logprob: f32| {
        let (text, bytes) = text(tokenizer, id);
        json!({"token": text, "logprob": logprob, "bytes": bytes})
    };
    let mut token = one(piece.id, piece.logprob.unwrap_or(0.0));
    token["top_logprobs"] = piece.top.iter().map(|(id, logprob)| one(*id, *logprob)).collect();
    token
}

/// Tokens of a completion, with the places of their texts in characters.
#[derive(Default)]
pub struct Tokens {
    tokens: Vec<Value>,
    logprobs: Vec<Value>,
    top: Vec<Value>,
    offsets: Vec<usize>,
    at: usize,
}

impl Tokens {
    /// Tokens that begin behind so many characters.
    pub fn from(at: usize) -> Tokens {
        Tokens { at, ..Tokens::default() }
    }

    /// Adds a token; the first of a prompt has no probability. The chosen one is always among the top ones.
    pub fn push(&mut self, tokenizer: Option<&Tokenizer>, id: u32, known: Option<(f32, &[(u32, f32)])>) {
        let (own, _) = text(tokenizer, id);
        let (logprob, top) = match known {
            None => (Value::Null, Value::Null),
            Some((logprob, top)) => {
                let mut map = Map::new();
                for (id, logprob) in top.iter().copied().chain([(id, logprob)]) {
                    map.entry(text(tokenizer, id).0).or_insert_with(|| json!(logprob));
                }
                (json!(logprob), Value::Object(map))
            }
        };
        self.offsets.push(self.at);
        self.at += own.chars().count();
        self.tokens.push(Value::String(own));
        self.logprobs.push(logprob);
        self.top.push(top);
    }

    /// How many characters there are up to the end.
    pub fn end(&self) -> usize {
        self.at
    }

    /// As the API has it.
    pub fn json(self) -> Value {
        json!({
            "tokens": self.tokens, "token_logprobs": self.logprobs, "top_logprobs": self.top,
            "text_offset": self.offsets,
        })
    }
}
