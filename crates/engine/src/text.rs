//! From tokens to text as they come. The tokenizer does it; this is all that the engine wants of it.

/// Makes a text of each answer's tokens.
pub trait Text: Send + Sync {
    /// The text of one answer, from its first new token on.
    fn start(&self) -> Box<dyn Pieces>;
}

/// The text of one answer, piece by piece.
pub trait Pieces: Send {
    /// The text that is certain after one more token: whole characters only, possibly none.
    fn push(&mut self, id: u32) -> String;

    /// What is left at the end.
    fn finish(&mut self) -> String;
}
