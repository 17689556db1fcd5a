//! Looks at the tokens of a source before it is parsed: refuses tags that would nest too deep, and gives the
//! `{% generation %}` marks, which the syntax library does not know, a form that it does. Positions of lines stay.

use minijinja::machinery::{Token, Tokenizer};
use minijinja::syntax::SyntaxConfig;

use super::budget::{DEPTH_MAX, SOURCE_BYTES_MAX};
use super::fault::{Fault, FaultKind, Outcome};

/// The filter by whose name the parser recognizes a generation block again.
pub(super) const GENERATION: &str = "generation__";

/// Tokens in one tag: a chain of operators nests as deep as it is long before its depth can be seen.
const TAG_TOKENS_MAX: usize = 4_096;
/// Lines are counted in 16 bits by the syntax library.
const LINES_MAX: usize = 60_000;

/// What stands for the name `in` where it is assigned to, which the reference allows.
pub(super) const IN: &str = "in__";

/// The source that is parsed in place of `source`.
pub(super) fn prepare(source: &str, syntax: &SyntaxConfig) -> Outcome<String> {
    if source.len() > SOURCE_BYTES_MAX {
        let message = format!("the template is {} bytes long, at most {SOURCE_BYTES_MAX} are read", source.len());
        return Err(Fault::new(FaultKind::Budget, message));
    }
    // Every line end is a newline before anything else looks at the source.
    let source = &*source.replace("\r\n", "\n").replace('\r', "\n");
    if source.split('\n').count() > LINES_MAX {
        return Err(Fault::new(FaultKind::Budget, format!("the template has more than {LINES_MAX} lines")));
    }
    let mut marks = Vec::new();
    let mut tokens = Tokenizer::new(source, "template", false, syntax.clone());
    let mut tag = Tag::default();
    let mut blocks = Blocks::default();
    // A token that cannot be read ends the scan: the parser meets it again and says what is wrong.
    while let Ok(Some((token, span))) = tokens.next_token() {
        let line = u32::from(span.start_line);
        match token {
            Token::TemplateData(_) => {}
            Token::VariableStart => tag = Tag::default(),
            Token::BlockStart => tag = Tag { is_block: true, ..Tag::default() },
            Token::VariableEnd | Token::BlockEnd => {}
            Token::Ident(word) if tag.tokens == 0 && tag.is_block => {
                if matches!(word, "generation" | "endgeneration") {
                    let opening = format!("filter {GENERATION}");
                    let new = if word == "generation" { opening } else { "endfilter".to_owned() };
                    marks.push((span.start_offset as usize, word.len(), new));
                }
                tag.sets = word == "set";
                blocks.meet(word);
                tag.count(line)?;
            }
            Token::Ident("in") if tag.tokens == 1 && tag.sets => {
                marks.push((span.start_offset as usize, 2, IN.to_owned()));
                tag.count(line)?;
            }
            Token::BracketOpen | Token::ParenOpen | Token::BraceOpen => tag.open(line)?,
            Token::BracketClose | Token::ParenClose | Token::BraceClose => {
                tag.depth = tag.depth.saturating_sub(1);
                tag.count(line)?;
            }
            _ => tag.count(line)?,
        }
        if blocks.depth > DEPTH_MAX {
            return Err(too_deep().at(line));
        }
    }
    Ok(rewrite(source, &marks))
}

/// The blocks that are open: for each how deep its branches nest, each `elif` inside the one before it.
#[derive(Default)]
struct Blocks {
    open: Vec<usize>,
    depth: usize,
}

impl Blocks {
    fn meet(&mut self, word: &str) {
        match word {
            "for" | "if" | "macro" | "call" | "filter" | "with" | "generation" | "block" => {
                self.open.push(1);
                self.depth += 1;
            }
            "elif" => {
                if let Some(branches) = self.open.last_mut() {
                    *branches += 1;
                    self.depth += 1;
                }
            }
            "endset" | "endraw" => {}
            word if word.starts_with("end") => self.depth -= self.open.pop().unwrap_or(0),
            _ => {}
        }
    }
}

/// What was seen of the current tag.
#[derive(Default)]
struct Tag {
    is_block: bool,
    tokens: usize,
    /// Its first word is `set`.
    sets: bool,
    depth: usize,
}

impl Tag {
    fn count(&mut self, line: u32) -> Outcome<()> {
        self.tokens += 1;
        if self.tokens > TAG_TOKENS_MAX {
            let message = format!("one tag has more than {TAG_TOKENS_MAX} tokens");
            return Err(Fault::new(FaultKind::Budget, message).at(line));
        }
        Ok(())
    }

    fn open(&mut self, line: u32) -> Outcome<()> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(too_deep().at(line));
        }
        self.count(line)
    }
}

fn too_deep() -> Box<Fault> {
    Fault::new(FaultKind::Budget, format!("the template nests deeper than {DEPTH_MAX} levels"))
}

/// Replaces the words at `marks` (offset, length, new), keeping everything around them.
fn rewrite(source: &str, marks: &[(usize, usize, String)]) -> String {
    let mut out = String::with_capacity(source.len() + marks.len() * 20);
    let mut done = 0;
    for (offset, length, new) in marks {
        out.push_str(&source[done..*offset]);
        out.push_str(new);
        done = offset + length;
    }
    out.push_str(&source[done..]);
    out
}
