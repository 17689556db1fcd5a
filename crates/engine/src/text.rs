//! From tokens to text as they come. The tokenizer does it; this is all that the engine wants of it.

use std::sync::Arc;

use pasture_files::tokenizer::{TextStream, Tokenizer};

/// Makes a text of each answer's tokens.
pub trait Text: Send + Sync {
    /// The text that goes on after the given tokens, which are not part of it. Control tokens are hidden, but for
    /// those in `shown`.
    fn start(&self, after: &[u32], shown: &Arc<[u32]>) -> Box<dyn Pieces>;
}

/// The text of one answer, piece by piece.
pub trait Pieces: Send {
    /// The text that is certain after one more token: whole characters only, possibly none.
    fn push(&mut self, id: u32) -> String;

    /// What is left at the end.
    fn finish(&mut self) -> String;
}

impl Text for Tokenizer {
    fn start(&self, after: &[u32], shown: &Arc<[u32]>) -> Box<dyn Pieces> {
        let mut stream = self.stream();
        // What a token is as text depends on what stands before it: some lose a space at the start of a text.
        after.iter().for_each(|id| drop(stream.push(*id)));
        match shown.is_empty() {
            true => Box::new(stream),
            false => Box::new(Marked { stream, tokenizer: self.clone(), shown: shown.clone() }),
        }
    }
}

impl Pieces for TextStream {
    fn push(&mut self, id: u32) -> String {
        TextStream::push(self, id)
    }

    fn finish(&mut self) -> String {
        TextStream::finish(self)
    }
}

/// Text with the spelling of some control tokens in it.
struct Marked {
    stream: TextStream,
    tokenizer: Tokenizer,
    shown: Arc<[u32]>,
}

impl Pieces for Marked {
    fn push(&mut self, id: u32) -> String {
        if !self.shown.contains(&id) {
            return self.stream.push(id);
        }
        let before = std::mem::replace(&mut self.stream, self.tokenizer.stream()).finish();
        before + &self.tokenizer.token(id).unwrap_or_default()
    }

    fn finish(&mut self) -> String {
        self.stream.finish()
    }
}
