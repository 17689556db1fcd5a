//! The nearest of several known names, for messages about a name that is not known.
//! How near is near enough to be worth a hint is the caller's.

/// A name from a file may be long; what follows so many characters says nothing about which one was meant.
const LETTERS_MAX: usize = 64;

/// Known names, those most like the given one first; capitals do not matter.
pub fn by_nearness<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let name: String = name.chars().take(LETTERS_MAX).collect::<String>().to_lowercase();
    let mut sorted: Vec<&str> = known.collect();
    sorted.sort_by_cached_key(|other| distance(&name, &other.to_lowercase()));
    sorted
}

/// The known name most like the given one.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    by_nearness(name, known).first().copied()
}

/// The nearest name where it is likely the one that was meant: at most a third of its letters differ.
pub fn likely<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    nearest(name, known).filter(|near| distance(name, near) <= (near.chars().count() / 3).max(1))
}

/// Characters to insert, remove or replace (Levenshtein). The time grows with the product of the lengths.
pub fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (above, letter) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = above + 1;
        for (at, &wanted) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != wanted);
            diagonal = row[at + 1];
            row[at + 1] = replaced.min(row[at] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_comes_first() {
        let known = || ["gelu_new", "silu", "gelu", "quick_gelu"].into_iter();
        for (name, wanted) in [("siluu", "silu"), ("gelu_neww", "gelu_new"), ("GELU", "gelu"), ("", "silu")] {
            assert_eq!(nearest(name, known()), Some(wanted), "{name}");
            assert_eq!(by_nearness(name, known()).len(), 4);
        }
        assert_eq!(nearest("gelu", std::iter::empty()), None);
    }

    #[test]
    fn changes_are_counted_exactly() {
        for (from, to, wanted) in [
            ("kitten", "sitting", 3),
            ("", "abc", 3),
            ("abc", "", 3),
            ("abc", "abc", 0),
            ("é", "e", 1),
            ("ab", "ba", 2),
        ] {
            assert_eq!(distance(from, to), wanted, "{from:?} {to:?}");
        }
    }
}
