//! The models that turn a piece of text into ids, behind one call. Byte-pair encoding has its own file.

use super::bpe::{Bpe, Ids, Scratch};
use super::error::{Error, Result, quoted};
use super::vocabulary::{Prefixes, Vocabulary};

pub(super) enum Model {
    Bpe(Bpe),
    Unigram(Unigram),
    WordPiece(WordPiece),
    /// A piece is a token or it is unknown.
    Words {
        unknown: Option<u32>,
    },
}

impl Model {
    /// Appends the ids of a piece.
    pub(super) fn encode(&self, words: &Vocabulary, piece: &str, scratch: &mut Scratch, out: &mut Ids) -> Result<()> {
        match self {
            Model::Bpe(bpe) => bpe.encode(words, piece, scratch, out),
            Model::Unigram(unigram) => unigram.encode(words, piece, out),
            Model::WordPiece(word_piece) => {
                word_piece.encode(words, piece, out);
                Ok(())
            }
            Model::Words { unknown } => {
                let id = words.find(piece.as_bytes()).or(*unknown);
                out.push(id.ok_or_else(|| Error::NoToken(quoted(piece)))?, piece.len());
                Ok(())
            }
        }
    }
}

/// The segmentation of highest total score.
pub(super) struct Unigram {
    pub(super) scores: Vec<f32>,
    pub(super) prefixes: Prefixes,
    pub(super) unknown: Option<u32>,
    /// What an unknown character costs: ten less than the lowest score.
    pub(super) unknown_score: f32,
    /// Ids of the bytes, where unknown characters become bytes.
    pub(super) bytes: Option<Box<[u32; 256]>>,
}

#[derive(Clone, Copy)]
struct Node {
    score: f32,
    start: u32,
    id: u32,
}

const NOWHERE: u32 = u32::MAX;
/// Stands for an unknown character until the end.
const UNKNOWN: u32 = u32::MAX;

impl Unigram {
    fn encode(&self, words: &Vocabulary, piece: &str, out: &mut Ids) -> Result<()> {
        let bytes = piece.as_bytes();
        let mut nodes = vec![Node { score: 0.0, start: NOWHERE, id: UNKNOWN }; bytes.len() + 1];
        for (start, character) in piece.char_indices() {
            let before = nodes[start].score;
            let width = character.len_utf8();
            let mut is_known = false;
            self.prefixes.each(words, &bytes[start..], |length, id| {
                let score = before + self.scores[id as usize];
                improve(&mut nodes[start + length], Node { score, start: start as u32, id });
                is_known |= length == width;
            });
            if !is_known {
                let score = before + self.unknown_score;
                improve(&mut nodes[start + width], Node { score, start: start as u32, id: UNKNOWN });
            }
        }
        let mut path = Vec::new();
        let mut end = bytes.len();
        while end > 0 {
            path.push((nodes[end], end));
            end = nodes[end].start as usize;
        }
        let mut after_unknown = false;
        for &(node, end) in path.iter().rev() {
            let is_unknown = node.id == UNKNOWN || Some(node.id) == self.unknown;
            match (is_unknown, &self.bytes, self.unknown) {
                (false, ..) => out.push(node.id, end),
                (true, Some(ids), _) => {
                    let unit = bytes[node.start as usize..end].iter().zip(node.start as usize + 1..);
                    unit.for_each(|(&byte, end)| out.push(ids[byte as usize], end));
                }
                (true, None, Some(_)) if after_unknown => out.stretch(end),
                (true, None, Some(unknown)) => out.push(unknown, end),
                (true, None, None) => return Err(Error::NoToken(quoted(&piece[node.start as usize..end]))),
            }
            after_unknown = is_unknown;
        }
        Ok(())
    }
}

/// Tokens that end inside a character of the text would lead nowhere; vocabularies are UTF-8, so none do.
fn improve(node: &mut Node, candidate: Node) {
    if node.start == NOWHERE || candidate.score > node.score {
        *node = candidate;
    }
}

/// The longest token first, again and again; a word that cannot be finished is unknown as a whole.
pub(super) struct WordPiece {
    /// Before tokens that do not begin a word.
    pub(super) prefix: String,
    pub(super) unknown: u32,
    /// Longer words are unknown.
    pub(super) characters_max: usize,
}

impl WordPiece {
    fn encode(&self, words: &Vocabulary, piece: &str, out: &mut Ids) {
        let is_long = piece.chars().nth(self.characters_max).is_some();
        let from = out.ids.len();
        let mut start = 0;
        let mut key = String::new();
        while start < piece.len() && !is_long {
            let mut found = None;
            let ends = piece[start..].char_indices().map(|(at, character)| start + at + character.len_utf8());
            let ends: Vec<usize> = ends.collect();
            key.clear();
            if start > 0 {
                key.push_str(&self.prefix);
            }
            let prefix = key.len();
            key.push_str(&piece[start..]);
            for &end in ends.iter().rev() {
                key.truncate(prefix + end - start);
                if let Some(id) = words.find(key.as_bytes()) {
                    found = Some((id, end));
                    break;
                }
            }
            match found {
                Some((id, end)) => {
                    out.push(id, end);
                    start = end;
                }
                None => break,
            }
        }
        if start < piece.len() {
            out.ids.truncate(from);
            out.ends.truncate(from);
            out.push(self.unknown, piece.len());
        }
    }
}
