//! Reads a pattern and compiles it. Everything that is not listed here is refused by name, and the program's length,
//! its depth and its repetitions have limits, so that no pattern is a bomb.

use super::super::category::Categories;
use super::super::error::{Error, Result, quoted};
use super::{Class, Op, Pattern};

const SOURCE_BYTES_MAX: usize = 4096;
const OPS_MAX: usize = 4096;
const DEPTH_MAX: u32 = 24;
const REPEATS_MAX: u32 = 1000;

enum Node {
    Class(Class),
    Sequence(Vec<Node>),
    Choice(Vec<Node>),
    Repeat { node: Box<Node>, least: u32, most: Option<u32>, mode: Mode },
    Ahead { node: Box<Node>, wanted: bool },
    Behind { class: Class, wanted: bool },
    Start,
    End,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Greedy,
    Lazy,
    Possessive,
}

pub(super) fn compile(source: &str) -> Result<Pattern> {
    let refuse =
        |what: &str| Error::Unsupported { what: "split pattern", name: format!("{} ({what})", quoted(source)) };
    if source.len() > SOURCE_BYTES_MAX {
        return Err(refuse("too long"));
    }
    let mut reader = Reader { rest: source, folded: false, depth: 0 };
    let node = reader.choice().map_err(refuse)?;
    if !reader.rest.is_empty() {
        return Err(refuse("a bracket is closed that was not opened"));
    }
    let mut pattern = Pattern { ops: Vec::new(), classes: Vec::new() };
    emit(&node, &mut pattern).map_err(refuse)?;
    pattern.ops.push(Op::Done);
    Ok(pattern)
}

struct Reader<'a> {
    rest: &'a str,
    /// Inside `(?i:…)`.
    folded: bool,
    depth: u32,
}

type Parsed<T> = Result<T, &'static str>;

impl Reader<'_> {
    fn take(&mut self, text: &str) -> bool {
        let stripped = self.rest.strip_prefix(text);
        self.rest = stripped.unwrap_or(self.rest);
        stripped.is_some()
    }

    fn next(&mut self) -> Parsed<char> {
        let character = self.rest.chars().next().ok_or("it ends too early")?;
        self.rest = &self.rest[character.len_utf8()..];
        Ok(character)
    }

    fn choice(&mut self) -> Parsed<Node> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err("nested too deep");
        }
        let mut branches = vec![self.sequence()?];
        while self.take("|") {
            branches.push(self.sequence()?);
        }
        self.depth -= 1;
        Ok(if branches.len() == 1 { branches.remove(0) } else { Node::Choice(branches) })
    }

    fn sequence(&mut self) -> Parsed<Node> {
        let mut nodes = Vec::new();
        while !self.rest.is_empty() && !self.rest.starts_with(['|', ')']) {
            if self.take("(?i)") {
                self.folded = true;
                continue;
            }
            let node = self.atom()?;
            nodes.push(self.repeated(node)?);
        }
        Ok(Node::Sequence(nodes))
    }

    fn atom(&mut self) -> Parsed<Node> {
        Ok(match self.next()? {
            '(' => self.group()?,
            '[' => Node::Class(self.class()?),
            '.' => Node::Class(Class { negated: true, ranges: vec![('\n', '\n')], ..Class::default() }.finish()),
            '^' => Node::Start,
            '$' => Node::End,
            '\\' if self.take("z") => Node::End,
            '\\' if self.take("A") => Node::Start,
            '\\' => {
                let mut class = Class::default();
                match self.escape(&mut class)? {
                    Some(character) => Node::Class(self.literal(character)),
                    None => Node::Class(class.finish()),
                }
            }
            '*' | '+' | '?' => return Err("a repetition of nothing"),
            '{' => return Err("a repetition of nothing"),
            character => Node::Class(self.literal(character)),
        })
    }

    fn group(&mut self) -> Parsed<Node> {
        let folded = self.folded;
        let look = [("?=", true), ("?!", false)].into_iter().find(|(mark, _)| self.take(mark));
        let behind = [("?<=", true), ("?<!", false)].into_iter().find(|(mark, _)| self.take(mark));
        if look.is_none() && behind.is_none() {
            if self.take("?i:") {
                self.folded = true;
            } else if !self.take("?:") && self.rest.starts_with(['?', '*']) {
                return Err("a kind of group that is not known here");
            }
        }
        let inner = self.choice()?;
        if !self.take(")") {
            return Err("a bracket is not closed");
        }
        self.folded = folded;
        if let Some((_, wanted)) = look {
            return Ok(Node::Ahead { node: Box::new(inner), wanted });
        }
        if let Some((_, wanted)) = behind {
            return match inner {
                Node::Sequence(mut nodes) if nodes.len() == 1 => match nodes.remove(0) {
                    Node::Class(class) => Ok(Node::Behind { class, wanted }),
                    _ => Err("a look behind at more than one character"),
                },
                _ => Err("a look behind at more than one character"),
            };
        }
        Ok(inner)
    }

    fn repeated(&mut self, node: Node) -> Parsed<Node> {
        let (least, most) = match self.rest.chars().next() {
            Some('*') => (0, None),
            Some('+') => (1, None),
            Some('?') => (0, Some(1)),
            Some('{') => return self.counted(node),
            _ => return Ok(node),
        };
        self.next()?;
        self.mode(node, least, most)
    }

    fn counted(&mut self, node: Node) -> Parsed<Node> {
        let end = self.rest.find('}').ok_or("a bracket is not closed")?;
        let counts = &self.rest[1..end];
        self.rest = &self.rest[end + 1..];
        let count = |text: &str| text.parse::<u32>().ok().filter(|&count| count <= REPEATS_MAX).ok_or("a bad count");
        let (least, most) = match counts.split_once(',') {
            None => (count(counts)?, Some(count(counts)?)),
            Some((least, "")) => (count(least)?, None),
            Some((least, most)) => (count(least)?, Some(count(most)?)),
        };
        if most.is_some_and(|most| most < least) {
            return Err("a repetition whose end is before its start");
        }
        self.mode(node, least, most)
    }

    fn mode(&mut self, node: Node, least: u32, most: Option<u32>) -> Parsed<Node> {
        let mode = match (self.take("?"), self.take("+")) {
            (true, _) => Mode::Lazy,
            (_, true) => Mode::Possessive,
            _ => Mode::Greedy,
        };
        if self.rest.starts_with(['*', '+', '?']) {
            return Err("a repetition of a repetition");
        }
        if mode == Mode::Possessive && !matches!(node, Node::Class(_)) {
            return Err("a possessive repetition of a group");
        }
        Ok(Node::Repeat { node: Box::new(node), least, most, mode })
    }

    /// One character, or in `(?i:…)` all that fold to it.
    fn literal(&self, character: char) -> Class {
        let mut class = Class { ranges: vec![(character, character)], ..Class::default() };
        if self.folded {
            let cased = character.to_lowercase().chain(character.to_uppercase());
            // U+017F and U+212A fold to letters of ASCII.
            let beyond = match character.to_ascii_lowercase() {
                's' => Some('\u{17f}'),
                'k' => Some('\u{212a}'),
                _ => None,
            };
            class.ranges.extend(cased.chain(beyond).map(|other| (other, other)));
        }
        class.finish()
    }

    fn class(&mut self) -> Parsed<Class> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err("nested too deep");
        }
        let mut class = Class { negated: self.take("^"), ..Class::default() };
        let mut is_first = true;
        loop {
            if self.rest.starts_with("&&") || self.rest.starts_with("[:") || self.rest.starts_with("--") {
                return Err("an operation on sets");
            }
            let low = match self.next()? {
                ']' if !is_first => break,
                '[' => {
                    let nested = self.class()?;
                    class.nested.push(nested);
                    is_first = false;
                    continue;
                }
                '\\' => match self.escape(&mut class)? {
                    Some(character) => character,
                    None => {
                        is_first = false;
                        continue;
                    }
                },
                character => character,
            };
            is_first = false;
            let mut high = low;
            if self.rest.starts_with('-') && !self.rest.starts_with("-]") {
                self.next()?;
                high = match self.next()? {
                    '\\' => self.escape(&mut Class::default())?.ok_or("a range that ends in a set")?,
                    '[' => return Err("a range that ends in a set"),
                    character => character,
                };
            }
            if low > high {
                return Err("a range whose end is before its start");
            }
            if self.folded && low == high {
                class.nested.push(self.literal(low));
            } else if self.folded {
                return Err("a range that ignores case");
            } else {
                class.ranges.push((low, high));
            }
        }
        self.depth -= 1;
        Ok(class.finish())
    }

    /// A character, or none if a set was added to `class`.
    fn escape(&mut self, class: &mut Class) -> Parsed<Option<char>> {
        let set = |name: &str| Categories::named(name).ok_or("a set of characters that is not known here");
        match self.next()? {
            'n' => return Ok(Some('\n')),
            'r' => return Ok(Some('\r')),
            't' => return Ok(Some('\t')),
            'f' => return Ok(Some('\u{c}')),
            'v' => return Ok(Some('\u{b}')),
            'x' if !self.rest.starts_with('{') => return self.code(2).map(Some),
            'u' if !self.rest.starts_with('{') => return self.code(4).map(Some),
            'x' | 'u' => {
                let end = self.rest.find('}').filter(|&end| end <= 7).ok_or("a bad character number")?;
                self.next()?;
                let character = self.code(end - 1)?;
                self.next()?;
                return Ok(Some(character));
            }
            's' => class.space = Some(true),
            'S' => class.outside_of(|class| class.space = Some(true)),
            'w' => class.word = Some(true),
            'W' => class.outside_of(|class| class.word = Some(true)),
            'd' => class.categories.0 |= set("Nd")?.0,
            'D' => class.outside.push(set("Nd")?),
            kind @ ('p' | 'P') => {
                let name = self.property()?;
                let negated = (kind == 'P') != name.starts_with('^');
                let set = set(name.trim_start_matches('^'))?;
                if negated { class.outside.push(set) } else { class.categories.0 |= set.0 }
            }
            character if character.is_ascii_punctuation() || character == ' ' => return Ok(Some(character)),
            _ => return Err("an escape that is not known here"),
        }
        Ok(None)
    }

    fn property(&mut self) -> Parsed<String> {
        if !self.take("{") {
            return Ok(self.next()?.to_string());
        }
        let end = self.rest.find('}').ok_or("a bracket is not closed")?;
        let name = self.rest[..end].to_owned();
        self.rest = &self.rest[end + 1..];
        Ok(name)
    }

    fn code(&mut self, digits: usize) -> Parsed<char> {
        let text = self.rest.get(..digits).ok_or("a bad character number")?;
        self.rest = &self.rest[digits..];
        let number = u32::from_str_radix(text, 16).ok().filter(|_| !text.starts_with('+'));
        number.and_then(char::from_u32).ok_or("a bad character number")
    }
}

impl Class {
    /// Adds the negation of a set.
    fn outside_of(&mut self, fill: impl Fn(&mut Class)) {
        let mut nested = Class { negated: true, ..Class::default() };
        fill(&mut nested);
        self.nested.push(nested);
    }
}

fn emit(node: &Node, out: &mut Pattern) -> Parsed<()> {
    if out.ops.len() > OPS_MAX {
        return Err("too large");
    }
    match node {
        Node::Class(class) => {
            let class = number_of(class, out);
            out.ops.push(Op::One(class));
        }
        Node::Sequence(nodes) => nodes.iter().try_for_each(|node| emit(node, out))?,
        Node::Choice(branches) => emit_choice(branches, out)?,
        Node::Repeat { node, least, most, mode } => emit_repeat(node, *least, *most, *mode, out)?,
        Node::Ahead { node, wanted } => {
            let at = out.ops.len();
            out.ops.push(Op::Done);
            emit(node, out)?;
            out.ops.push(Op::Done);
            out.ops[at] = Op::Ahead { wanted: *wanted, end: out.ops.len() as u32 };
        }
        Node::Behind { class, wanted } => {
            let class = number_of(class, out);
            out.ops.push(Op::Behind { wanted: *wanted, class });
        }
        Node::Start => out.ops.push(Op::Start),
        Node::End => out.ops.push(Op::End),
    }
    Ok(())
}

fn number_of(class: &Class, out: &mut Pattern) -> u16 {
    let known = out.classes.iter().position(|known| known == class);
    known.unwrap_or_else(|| {
        out.classes.push(class.clone());
        out.classes.len() - 1
    }) as u16
}

fn emit_choice(branches: &[Node], out: &mut Pattern) -> Parsed<()> {
    let mut jumps = Vec::new();
    for (number, branch) in branches.iter().enumerate() {
        let fork = out.ops.len();
        let is_last = number + 1 == branches.len();
        if !is_last {
            out.ops.push(Op::Done);
        }
        emit(branch, out)?;
        if !is_last {
            jumps.push(out.ops.len());
            out.ops.push(Op::Done);
            out.ops[fork] = Op::Fork { first: fork as u32 + 1, second: out.ops.len() as u32 };
        }
    }
    let end = out.ops.len() as u32;
    jumps.into_iter().for_each(|at| out.ops[at] = Op::Jump(end));
    Ok(())
}

fn emit_repeat(node: &Node, least: u32, most: Option<u32>, mode: Mode, out: &mut Pattern) -> Parsed<()> {
    if let (Node::Class(class), Mode::Greedy | Mode::Possessive) = (node, mode) {
        let class = number_of(class, out);
        let gives_back = mode == Mode::Greedy;
        out.ops.push(Op::Many { class, least, most: most.unwrap_or(u32::MAX), gives_back });
        return Ok(());
    }
    for _ in 0..least {
        emit(node, out)?;
    }
    let fork = |inside: u32, outside: u32| match mode {
        Mode::Lazy => Op::Fork { first: outside, second: inside },
        _ => Op::Fork { first: inside, second: outside },
    };
    match most {
        None => {
            let start = out.ops.len();
            out.ops.push(Op::Done);
            emit(node, out)?;
            out.ops.push(Op::Jump(start as u32));
            out.ops[start] = fork(start as u32 + 1, out.ops.len() as u32);
        }
        Some(most) => {
            let mut forks = Vec::new();
            for _ in least..most {
                forks.push(out.ops.len());
                out.ops.push(Op::Done);
                emit(node, out)?;
            }
            let end = out.ops.len() as u32;
            forks.into_iter().for_each(|at| out.ops[at] = fork(at as u32 + 1, end));
        }
    }
    Ok(())
}
