//! Names with `{layer}` and `{expert}` in place of numbers: filled from a place, and matched against a file's names.

use super::place::Place;

/// The name of a tensor at a place.
pub(crate) fn fill(template: &str, place: Place) -> String {
    let number = |number: Option<usize>| number.map_or_else(String::new, |number| number.to_string());
    template.replace("{layer}", &number(place.layer)).replace("{expert}", &number(place.expert))
}

/// Whether a name is the template with some numbers.
pub(crate) fn matches(template: &str, name: &str) -> bool {
    let Some(open) = template.find('{') else { return template == name };
    let Some(rest) = name.strip_prefix(&template[..open]) else { return false };
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let close = template[open..].find('}').map_or(template.len(), |close| open + close + 1);
    digits > 0 && matches(&template[close..], &rest[digits..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filled_template_matches_itself_and_nothing_else() {
        let template = "model.layers.{layer}.experts.{expert}.w1";
        assert_eq!(fill(template, Place::expert("expert.gate", 12, 3)), "model.layers.12.experts.3.w1");
        for (template, name, fits) in [
            (template, "model.layers.12.experts.3.w1", true),
            (template, "model.layers.12.experts..w1", false),
            (template, "model.layers.x.experts.3.w1", false),
            (template, "model.layers.12.experts.3.w12", false),
            ("rope.freqs", "rope.freqs", true),
            ("rope.freqs", "rope.freqs.1", false),
        ] {
            assert_eq!(matches(template, name), fits, "{name}");
        }
    }
}
