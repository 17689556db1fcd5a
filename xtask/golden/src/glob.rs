//! Names with `*` (any run of characters) and `?` (any one), as a shell reads them; `*` also crosses `/`.

/// Does the whole name fit the pattern?
pub fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    // fits[j]: the pattern so far fits the first j characters.
    let mut fits = vec![false; name.len() + 1];
    fits[0] = true;
    for p in pattern {
        let mut next = vec![false; name.len() + 1];
        next[0] = fits[0] && p == '*';
        for j in 1..=name.len() {
            next[j] = match p {
                '*' => fits[j] || next[j - 1],
                '?' => fits[j - 1],
                c => fits[j - 1] && c == name[j - 1],
            };
        }
        fits = next;
    }
    fits[name.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_read_as_a_shell_reads_them() {
        for (pattern, name, fits) in [
            ("*", "text/llama2", true),
            ("text/llama*", "text/llama2", true),
            ("text/llama*", "text/gemma1", false),
            ("*/q?_k", "gguf/q4_k", true),
            ("*llama", "text/llama2", false),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        }
    }
}
