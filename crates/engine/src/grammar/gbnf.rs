//! llama.cpp's grammars (GBNF) as Lark: rules that are not recursive become terminals, so that they are matched letter
//! by letter as GBNF has it, and the others stay rules. What GBNF has and Lark cannot say is refused by name.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;
use std::iter::Peekable;
use std::str::Chars;

/// Rules of one grammar.
const RULES: usize = 2000;
/// Parts of all rules together.
const PARTS: usize = 50_000;

#[derive(Debug, PartialEq)]
enum Part {
    Text(String),
    /// As a regular expression, brackets included.
    Class(String),
    Rule(String),
    Either(Vec<Vec<Part>>),
    Repeat(Box<Part>, usize, Option<usize>),
}

/// A rule's name and its alternatives.
type Rule = (String, Vec<Vec<Part>>);

/// The grammar in Lark's notation.
pub fn to_lark(source: &str) -> Result<String, String> {
    let rules = Reader::new(source).rules()?;
    let index: HashMap<&str, usize> = rules.iter().enumerate().map(|(at, (name, _))| (name.as_str(), at)).collect();
    if !index.contains_key("root") {
        return Err("the grammar has no rule \"root\"".into());
    }
    for (name, body) in &rules {
        let mut used = Vec::new();
        names(body, &mut used);
        if let Some(missing) = used.iter().find(|used| !index.contains_key(**used)) {
            return Err(format!("the rule {name:?} uses {missing:?}, which the grammar does not have"));
        }
    }
    if !ends(&rules).contains("root") {
        return Err("no answer of the rule \"root\" ever ends".into());
    }
    let recursive = recursive(&rules, &index);
    let mut lark = String::new();
    let spelled = |name: &str| {
        let at = index[name];
        if recursive.contains(&at) { format!("r{at}") } else { format!("T{at}") }
    };
    let _ = writeln!(lark, "start: {}", spelled("root"));
    for (name, body) in &rules {
        let _ = write!(lark, "{}: ", spelled(name));
        either(body, &spelled, &mut lark);
        lark.push('\n');
    }
    Ok(lark)
}

/// Rules that reach themselves, or reach one that does.
fn recursive(rules: &[Rule], index: &HashMap<&str, usize>) -> HashSet<usize> {
    let uses: Vec<Vec<usize>> = rules
        .iter()
        .map(|(_, body)| {
            let mut used = Vec::new();
            names(body, &mut used);
            used.iter().map(|name| index[name]).collect()
        })
        .collect();
    // A rule is plain when all that it uses is plain; whatever never becomes so is recursive.
    let mut plain = HashSet::new();
    loop {
        let before = plain.len();
        for (at, uses) in uses.iter().enumerate() {
            if uses.iter().all(|used| plain.contains(used)) {
                plain.insert(at);
            }
        }
        if plain.len() == before {
            return (0..rules.len()).filter(|at| !plain.contains(at)).collect();
        }
    }
}

/// Rules that have an answer of some length.
fn ends(rules: &[Rule]) -> HashSet<&str> {
    fn part_ends(part: &Part, known: &HashSet<&str>) -> bool {
        match part {
            Part::Text(_) | Part::Class(_) | Part::Repeat(_, 0, _) => true,
            Part::Rule(name) => known.contains(name.as_str()),
            Part::Either(body) => body.iter().any(|sequence| sequence.iter().all(|part| part_ends(part, known))),
            Part::Repeat(part, ..) => part_ends(part, known),
        }
    }
    let mut known = HashSet::new();
    loop {
        let before = known.len();
        for (name, body) in rules {
            if body.iter().any(|sequence| sequence.iter().all(|part| part_ends(part, &known))) {
                known.insert(name.as_str());
            }
        }
        if known.len() == before {
            return known;
        }
    }
}

/// Whether a part is nothing, however often it is repeated.
fn is_nothing(part: &Part) -> bool {
    match part {
        Part::Text(text) => text.is_empty(),
        Part::Either(body) => body.iter().flatten().all(is_nothing),
        Part::Repeat(part, ..) => is_nothing(part),
        Part::Class(_) | Part::Rule(_) => false,
    }
}

fn names<'a>(body: &'a [Vec<Part>], used: &mut Vec<&'a str>) {
    for part in body.iter().flatten() {
        named(part, used);
    }
}

fn named<'a>(part: &'a Part, used: &mut Vec<&'a str>) {
    match part {
        Part::Rule(name) => used.push(name),
        Part::Either(body) => names(body, used),
        Part::Repeat(part, ..) => named(part, used),
        Part::Text(_) | Part::Class(_) => {}
    }
}

fn either(body: &[Vec<Part>], spelled: &dyn Fn(&str) -> String, lark: &mut String) {
    for (at, sequence) in body.iter().enumerate() {
        lark.push_str(if at == 0 { "" } else { " | " });
        if sequence.is_empty() {
            lark.push_str("\"\"");
        }
        for (at, part) in sequence.iter().enumerate() {
            lark.push_str(if at == 0 { "" } else { " " });
            one(part, spelled, lark);
        }
    }
}

fn one(part: &Part, spelled: &dyn Fn(&str) -> String, lark: &mut String) {
    match part {
        Part::Text(text) => lark.push_str(&quoted(text)),
        Part::Class(class) => {
            let _ = write!(lark, "/{class}/");
        }
        Part::Rule(name) => lark.push_str(&spelled(name)),
        Part::Either(body) => {
            lark.push('(');
            either(body, spelled, lark);
            lark.push(')');
        }
        Part::Repeat(part, low, high) => {
            lark.push('(');
            one(part, spelled, lark);
            lark.push(')');
            match (low, high) {
                (0, None) => lark.push('*'),
                (1, None) => lark.push('+'),
                (0, Some(1)) => lark.push('?'),
                (low, None) => drop(write!(lark, "{{{low},}}")),
                (low, Some(high)) => drop(write!(lark, "{{{low},{high}}}")),
            }
        }
    }
}

/// A text in Lark's quotation marks, which are JSON's.
pub fn quoted(text: &str) -> String {
    serde_json::Value::String(text.to_owned()).to_string()
}

struct Reader<'a> {
    letters: Peekable<Chars<'a>>,
    line: usize,
    parts: usize,
    depth: usize,
}

impl<'a> Reader<'a> {
    fn new(source: &'a str) -> Reader<'a> {
        Reader { letters: source.chars().peekable(), line: 1, parts: 0, depth: 0 }
    }

    fn fault<T>(&self, what: &str) -> Result<T, String> {
        Err(format!("line {} of the grammar: {what}", self.line))
    }

    fn next(&mut self) -> Option<char> {
        let letter = self.letters.next();
        self.line += usize::from(letter == Some('\n'));
        letter
    }

    fn peek(&mut self) -> Option<char> {
        self.letters.peek().copied()
    }

    fn takes(&mut self, letter: char) -> bool {
        let found = self.peek() == Some(letter);
        if found {
            self.next();
        }
        found
    }

    /// Over spaces and remarks; over ends of lines too where a rule may go on.
    fn space(&mut self, lines: bool) {
        while let Some(letter) = self.peek() {
            match letter {
                '#' => {
                    while self.peek().is_some_and(|letter| letter != '\n') {
                        self.next();
                    }
                }
                '\n' | '\r' if !lines => return,
                letter if letter.is_whitespace() => drop(self.next()),
                _ => return,
            }
        }
    }

    fn rules(mut self) -> Result<Vec<Rule>, String> {
        let mut rules: Vec<Rule> = Vec::new();
        loop {
            self.space(true);
            if self.peek().is_none() {
                break;
            }
            let name = self.name();
            if name.is_empty() {
                return self.fault("a rule's name was expected");
            }
            self.space(false);
            if !(self.takes(':') && self.takes(':') && self.takes('=')) {
                return self.fault(&format!("\"::=\" was expected behind {name:?}"));
            }
            if rules.iter().any(|(known, _)| *known == name) {
                return self.fault(&format!("the rule {name:?} is there twice"));
            }
            if rules.len() >= RULES {
                return self.fault(&format!("more than {RULES} rules"));
            }
            self.space(true);
            let body = self.either(false)?;
            rules.push((name, body));
        }
        Ok(rules)
    }

    fn name(&mut self) -> String {
        let mut name = String::new();
        while let Some(letter) = self.peek().filter(|letter| letter.is_ascii_alphanumeric() || "-_".contains(*letter)) {
            name.push(letter);
            self.next();
        }
        name
    }

    /// Alternatives; in brackets they may go over several lines.
    fn either(&mut self, inside: bool) -> Result<Vec<Vec<Part>>, String> {
        let mut body = vec![self.sequence(inside)?];
        while self.takes('|') {
            self.space(true);
            body.push(self.sequence(inside)?);
        }
        Ok(body)
    }

    fn sequence(&mut self, inside: bool) -> Result<Vec<Part>, String> {
        let mut parts = Vec::new();
        loop {
            self.space(inside);
            let part = match self.peek() {
                Some('"') => Part::Text(self.text()?),
                Some('[') => self.class()?,
                Some('.') => {
                    self.next();
                    Part::Class(r"[\x00-\x{10FFFF}]".into())
                }
                Some('(') => self.group()?,
                Some(letter) if letter.is_ascii_alphanumeric() || letter == '_' || letter == '-' => {
                    Part::Rule(self.name())
                }
                Some('<' | '!') => return self.fault("token references (\"<...>\") are not supported"),
                Some('|' | ')' | '\n' | '\r') | None => return Ok(parts),
                Some(letter) => return self.fault(&format!("{letter:?} was not expected")),
            };
            self.parts += 1;
            if self.parts > PARTS {
                return self.fault(&format!("more than {PARTS} parts"));
            }
            let part = self.repeated(part)?;
            parts.push(part);
        }
    }

    fn group(&mut self) -> Result<Part, String> {
        self.next();
        self.depth += 1;
        if self.depth > super::limits::DEPTH {
            return self.fault("the brackets are nested too deep");
        }
        self.space(true);
        let body = self.either(true)?;
        self.depth -= 1;
        if !self.takes(')') {
            return self.fault("\")\" was expected");
        }
        Ok(Part::Either(body))
    }

    fn repeated(&mut self, mut part: Part) -> Result<Part, String> {
        loop {
            let (low, high) = match self.peek() {
                Some('*') => (0, None),
                Some('+') => (1, None),
                Some('?') => (0, Some(1)),
                Some('{') => {
                    self.next();
                    self.times()?
                }
                _ => return Ok(part),
            };
            if is_nothing(&part) {
                return self.fault("nothing is repeated");
            }
            if self.peek().is_some_and(|letter| "*+?}".contains(letter)) {
                self.next();
            }
            part = Part::Repeat(Box::new(part), low, high);
        }
    }

    /// `3}`, `3,}`, `,5}` or `3,5}`, up to the bracket.
    fn times(&mut self) -> Result<(usize, Option<usize>), String> {
        let mut inside = String::new();
        while let Some(letter) = self.peek().filter(|letter| *letter != '}' && inside.len() < 40) {
            inside.push(letter);
            self.next();
        }
        let number = |text: &str| text.trim().parse::<usize>().ok();
        let times = match inside.split_once(',') {
            None => number(&inside).map(|count| (count, Some(count))),
            Some((low, high)) => {
                let low = if low.trim().is_empty() { Some(0) } else { number(low) };
                let high = if high.trim().is_empty() { Some(None) } else { number(high).map(Some) };
                low.zip(high)
            }
        };
        match times {
            Some((low, high)) if self.peek() == Some('}') && high.is_none_or(|high| high >= low) => Ok((low, high)),
            _ => self.fault("\"{3}\", \"{3,}\" or \"{3,5}\" was expected"),
        }
    }

    fn text(&mut self) -> Result<String, String> {
        self.next();
        let mut text = String::new();
        loop {
            match self.next() {
                Some('"') => return Ok(text),
                Some('\\') => text.push(self.escape()?),
                Some('\n') | None => return self.fault("a text has no end"),
                Some(letter) => text.push(letter),
            }
        }
    }

    fn class(&mut self) -> Result<Part, String> {
        self.next();
        let mut class = String::from(if self.takes('^') { "[^" } else { "[" });
        let begin = class.len();
        loop {
            match self.next() {
                Some(']') if class.len() > begin => return Ok(Part::Class(class + "]")),
                Some(']') => return self.fault("a class of letters is empty"),
                Some('\\') => {
                    let letter = self.escape()?;
                    let _ = write!(class, r"\x{{{:X}}}", letter as u32);
                }
                Some('-') if class.len() > begin && self.peek() != Some(']') => class.push('-'),
                Some('\n') | None => return self.fault("a class of letters has no end"),
                Some(letter) => drop(write!(class, r"\x{{{:X}}}", letter as u32)),
            }
        }
    }

    fn escape(&mut self) -> Result<char, String> {
        let digits = match self.next() {
            Some('n') => return Ok('\n'),
            Some('r') => return Ok('\r'),
            Some('t') => return Ok('\t'),
            Some('x') => 2,
            Some('u') => 4,
            Some('U') => 8,
            Some(letter) if "\"\\[]-^/".contains(letter) => return Ok(letter),
            _ => return self.fault("an escape that is not known"),
        };
        let mut number = 0_u32;
        for _ in 0..digits {
            let Some(digit) = self.next().and_then(|letter| letter.to_digit(16)) else {
                return self.fault("an escape with too few digits");
            };
            number = number.checked_mul(16).map_or(u32::MAX, |number| number.saturating_add(digit));
        }
        match char::from_u32(number) {
            Some(letter) => Ok(letter),
            None => self.fault("an escape that is no letter"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(source: &str, wanted: Result<&str, &str>) {
        match (to_lark(source), wanted) {
            (Ok(lark), Ok(wanted)) => assert_eq!(lark, wanted),
            (Err(what), Err(part)) => assert!(what.contains(part), "{what}"),
            (result, wanted) => panic!("{source}: {result:?}, not {wanted:?}"),
        }
    }

    #[test]
    fn plain_rules_become_terminals_and_recursive_ones_stay_rules() {
        check("root ::= \"a\" [b-d]*", Ok("start: T0\nT0: \"a\" (/[\\x{62}-\\x{64}]/)*\n"));
        check(
            "root ::= \"(\" root \")\" | ws # remark\nws ::= [ \\n]{0,3}",
            Ok("start: r0\nr0: \"(\" r0 \")\" | T1\nT1: (/[\\x{20}\\x{A}]/){0,3}\n"),
        );
        check("root ::= (\n  \"a\" |\n  \"b\"\n)?\n", Ok("start: T0\nT0: ((\"a\" | \"b\"))?\n"));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        check("a ::= \"x\"", Err("no rule \"root\""));
        check("root ::= x", Err("uses \"x\""));
        check("root ::= \"a\"\nroot ::= \"b\"", Err("line 2 of the grammar: the rule \"root\" is there twice"));
        check("root ::= root \"a\"", Err("ever ends"));
        check("root ::= a\na ::= b\nb ::= a", Err("ever ends"));
        check("root ::= (\"\")*", Err("nothing is repeated"));
        check("root = \"a\"", Err("\"::=\" was expected"));
        check("root ::= (\"a\"", Err("\")\" was expected"));
        check("root ::= \"a", Err("no end"));
        check("root ::= [a", Err("no end"));
        check("root ::= \"a\"{3,2}", Err("was expected"));
        check("root ::= <think>", Err("token references"));
        check("root ::= \"\\q\"", Err("not known"));
        check(&format!("root ::= {}", "(".repeat(100)), Err("too deep"));
    }
}
