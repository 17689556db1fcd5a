//! The nearest of several known names, for messages about a name that is not known.

/// Known names, those most like the given one first.
pub(crate) fn by_nearness<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    // A name from a file may be long; what follows its first characters says nothing here.
    let name: String = name.chars().take(64).collect::<String>().to_lowercase();
    let mut sorted: Vec<&str> = known.collect();
    sorted.sort_by_key(|other| distance(&name, &other.to_lowercase()));
    sorted
}

/// Single-character edits from one text to the other (Levenshtein).
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (line, left) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, right) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(left != *right);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_comes_first() {
        for (name, nearest) in [("siluu", "silu"), ("gelu_neww", "gelu_new"), ("GELU", "gelu"), ("", "gelu")] {
            let known = ["gelu_new", "silu", "gelu", "quick_gelu"];
            let sorted = by_nearness(name, known.into_iter());
            assert_eq!(sorted.len(), 4);
            assert!(sorted[0] == nearest || name.is_empty(), "{name}: {sorted:?}");
        }
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
    }
}
