//! The known model that a mistyped name most likely means.

use pasture_files::nearest::distance;

/// The known name with the fewest changes, where they are few against its length. A name's last part counts as well as
/// the whole.
pub(crate) fn nearest(name: &str, known: &[String]) -> Option<String> {
    let name = name.to_lowercase();
    let score = |known: &String| {
        let whole = known.to_lowercase();
        let last = whole.rsplit('/').next().unwrap_or(&whole);
        let contains = name.len() >= 3 && whole.contains(&name);
        let fewest = distance(&name, &whole).min(distance(&name, last));
        let fewest = if contains { fewest.min(1) } else { fewest };
        (fewest <= (name.chars().count() / 3).max(1)).then_some(fewest)
    };
    let scored = known.iter().filter_map(|known| Some((score(known)?, known)));
    scored.min().map(|(_, known)| known.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_fingers_is_recognized() {
        let known = ["meta-llama/Llama-3.2-1B", "qwen3:0.6b", "gpt2"].map(String::from);
        let check = |name: &str, wanted: Option<&str>| assert_eq!(nearest(name, &known).as_deref(), wanted, "{name}");
        check("meta-lama/Llama-3.2-1B", Some("meta-llama/Llama-3.2-1B"));
        check("llama-3.2-1b", Some("meta-llama/Llama-3.2-1B"));
        check("qwen3", Some("qwen3:0.6b"));
        check("qwen3:0.6", Some("qwen3:0.6b"));
        check("gpt3", Some("gpt2"));
        check("mixtral", None);
        check("x", None);
    }
}
