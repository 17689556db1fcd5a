//! General categories of characters, of the Unicode version that the crate `tokenizers` splits with; the standard
//! library has no such table. White space is `char::is_whitespace`, which agrees with it.

use std::sync::LazyLock;

/// Short names in the order of their numbers.
const NAMES: [&str; 28] = [
    "Cn", "Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "No", "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po",
    "Sm", "Sc", "Sk", "So", "Zs", "Zl", "Zp", "Cc", "Cf",
];

/// A set of categories: bit n is category number n.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Categories(pub(super) u32);

impl Categories {
    /// The set of a name as regular expressions use it: `L`, `Lu`, `P`, ….
    pub(super) fn named(name: &str) -> Option<Categories> {
        if name == "L&" || name == "LC" {
            return Some(Categories(0b1110));
        }
        let bits = |matches: &dyn Fn(&str) -> bool| {
            NAMES.iter().enumerate().filter(|(_, known)| matches(known)).map(|(number, _)| 1 << number).sum()
        };
        let long = |name: &str| match name {
            "Letter" => "L",
            "Mark" => "M",
            "Number" => "N",
            "Punctuation" | "Punct" => "P",
            "Symbol" => "S",
            _ => "",
        };
        let name = if name.len() > 2 { long(name) } else { name };
        let set = match name.len() {
            1 => bits(&|known| known.starts_with(name)),
            2 => bits(&|known| known == name),
            _ => 0,
        };
        (set != 0).then_some(Categories(set))
    }

    /// Whether a character is of one of the categories.
    pub(super) fn contain(self, character: char) -> bool {
        self.0 >> number(character) & 1 == 1
    }
}

/// Letters, marks, decimal digits, connectors and joiners: what `\w` matches.
pub(super) fn is_word(character: char) -> bool {
    const WORD: Categories = Categories(0b1_0111_1111_1110);
    // Symbols that are letters in a circle or square.
    let is_enclosed = || matches!(character, '\u{24b6}'..='\u{24e9}' | '\u{1f130}'..='\u{1f149}' | '\u{1f150}'..='\u{1f169}' | '\u{1f170}'..='\u{1f189}');
    match character {
        _ if character.is_ascii() => character.is_ascii_alphanumeric() || character == '_',
        '\u{200c}' | '\u{200d}' => true,
        _ => WORD.contain(character) || is_enclosed(),
    }
}

/// The category's number; characters outside the table's runs are `Cn`.
fn number(character: char) -> u8 {
    let at = character as usize;
    if at < TABLE.low.len() {
        return TABLE.low[at];
    }
    let after = TABLE.high.partition_point(|&(start, _)| start <= at as u32);
    after.checked_sub(1).map_or(0, |run| TABLE.high[run].1)
}

struct Table {
    /// Categories of the characters below U+10000.
    low: Vec<u8>,
    /// Starts of the runs above.
    high: Vec<(u32, u8)>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    const LOW: usize = 0x1_0000;
    let mut table = Table { low: Vec::with_capacity(LOW), high: vec![(LOW as u32, 0)] };
    let mut at = 0;
    let lines = include_str!("categories.txt").lines().filter(|line| !line.starts_with('#'));
    for run in lines.flat_map(|line| line.split(' ')) {
        let (name, length) = run.split_at(2);
        let length = usize::from_str_radix(length, 16).expect("a test reads the whole table");
        let number = NAMES.iter().position(|known| *known == name).expect("a test reads the whole table") as u8;
        let below = LOW.saturating_sub(at).min(length);
        table.low.extend(std::iter::repeat_n(number, below));
        if below < length {
            table.high.push(((at + below) as u32, number));
        }
        at += length;
    }
    table.low.resize(LOW, 0);
    table
});

#[cfg(test)]
mod tests {
    use tokenizers::utils::SysRegex;

    use super::*;

    /// Whether the crate finds the same characters with `pattern`; `all` holds every one.
    fn check(all: &str, pattern: &str, ours: impl Fn(char) -> bool) {
        let mut theirs = vec![false; all.len()];
        for (start, end) in SysRegex::new(&format!("{pattern}+")).unwrap().find_iter(all) {
            theirs[start..end].fill(true);
        }
        for (at, character) in all.char_indices() {
            assert_eq!(ours(character), theirs[at], "{pattern} {character:?}");
        }
    }

    #[test]
    fn the_crate_has_the_same_categories() {
        let all: String = ('\0'..=char::MAX).collect();
        for name in ["L", "Lu", "Ll", "Lt", "Lm", "Lo", "M", "Mn", "N", "Nd", "P", "S", "Z", "Cc", "Cf"] {
            let set = Categories::named(name).unwrap();
            check(&all, &format!("\\p{{{name}}}"), |character| set.contain(character));
        }
        check(&all, "\\s", char::is_whitespace);
        check(&all, "\\w", is_word);
    }
}
