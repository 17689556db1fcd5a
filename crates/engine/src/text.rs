//! From tokens to text as they come. The tokenizer does it; this is all that the engine wants of it.

/// Makes a text of each answer's tokens.
pub trait Text: Send + Sync {
    /// The text that goes on after the given tokens, which are not part of it.
    fn start(&self, after: &[u32]) -> Box<dyn Pieces>;
}

/// The text of one answer, piece by piece.
pub trait Pieces: Send {
    /// The text that is certain after one more token: whole characters only, possibly none.
    fn push(&mut self, id: u32) -> String;

    /// What is left at the end.
    fn finish(&mut self) -> String;
}
