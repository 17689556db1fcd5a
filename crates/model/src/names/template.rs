//! Names with `{layer}` and `{expert}` in place of numbers: filled from a place, and matched against a file's names.

use super::place::Place;

/// The name of a tensor at a place.
pub(crate) fn fill(template: &str, place: Place) -> String {
    let number = |number: Option<usize>| number.map_or_else(String::new, |number| number.to_string());
    template.replace("{layer}", &number(place.layer)).replace("{expert}", &number(place.expert))
}

/// Whether a name is the template with some numbers.
pub(crate) fn matches(template: &str, name: &str) -> bool {
    read(template, name).is_some()
}

/// The numbers in a name: layer and expert, where the template has them.
pub(crate) fn read(template: &str, name: &str) -> Option<(Option<usize>, Option<usize>)> {
    let Some(open) = template.find('{') else { return (template == name).then_some((None, None)) };
    let rest = name.strip_prefix(&template[..open])?;
    let close = template[open..].find('}').map_or(template.len(), |close| open + close + 1);
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let number: usize = rest[..digits].parse().ok()?;
    let (layer, expert) = read(&template[close..], &rest[digits..])?;
    match &template[open..close] {
        "{layer}" => Some((Some(number), expert)),
        _ => Some((layer, Some(number))),
    }
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
            (template, "model.layers.99999999999999999999.experts.3.w1", false),
            ("rope.freqs", "rope.freqs", true),
            ("rope.freqs", "rope.freqs.1", false),
        ] {
            assert_eq!(matches(template, name), fits, "{name}");
        }
        assert_eq!(read(template, "model.layers.12.experts.3.w1"), Some((Some(12), Some(3))));
    }
}
