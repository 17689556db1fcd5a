//! A receipt for people: what was done, from what, and each figure before and after.

use std::fmt;

use super::{Change, Measures, Receipt};
use crate::evaluate::figure;

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let change = match self.change {
            Change::Tune => "tuned",
            Change::Merge => "merged",
            Change::Quantize => "quantized",
        };
        let mut line = |name: &str, value: &str| writeln!(f, "{name:<13} {value}");
        for (at, base) in self.base.iter().enumerate() {
            let of = format!("{change} from {} ({})", base.name, short(&base.digest));
            line(if at == 0 { "receipt" } else { "" }, &of)?;
        }
        for data in &self.data {
            line("", &format!("with {} ({})", data.name, short(&data.digest)))?;
        }
        for (name, of) in FIGURES {
            let (before, after) = (of(&self.before), of(&self.after));
            match (before, after) {
                (Some(before), Some(after)) => line("", &format!("{name}: {} -> {}", told(before), told(after)))?,
                (None, Some(after)) => line("", &format!("{name}: {}", told(after)))?,
                (_, None) => {}
            }
        }
        for (name, after) in &self.after.tasks {
            let before = self.before.tasks.get(name).map(|score| format!("{} -> ", figure(score.value)));
            line("", &format!("{name}: {}{}", before.unwrap_or_default(), figure(after.value)))?;
        }
        if let Some(required) = &self.required {
            line("", &format!("required: {required}"))?;
        }
        self.unmeasured.iter().try_for_each(|left| line("", &format!("not measured: {}: {}", left.what, left.reason)))
    }
}

type Figure = fn(&Measures) -> Option<f64>;

const FIGURES: [(&str, Figure); 7] = [
    ("perplexity", |of| of.perplexity.as_ref().map(|found| found.value)),
    ("KL", |of| of.divergence.as_ref().map(|found| found.kl)),
    ("KL, 99 % below", |of| of.divergence.as_ref().map(|found| found.kl_p99)),
    ("same first token", |of| of.divergence.as_ref().map(|found| found.top1)),
    ("bytes", |of| of.bytes.map(|bytes| bytes as f64)),
    ("prompt tokens/s", |of| of.prompt_tokens_per_second),
    ("new tokens/s", |of| of.new_tokens_per_second),
];

/// Sizes are whole numbers, and stay so.
fn told(value: f64) -> String {
    if value.fract() == 0.0 && value >= 1000.0 { format!("{value:.0}") } else { figure(value) }
}

/// Enough of a digest to tell two apart.
fn short(digest: &str) -> &str {
    digest.get(..19).unwrap_or(digest)
}

#[cfg(test)]
mod tests {
    use super::super::{Input, Perplexity, Unmeasured, digest_of};
    use super::*;

    #[test]
    fn a_receipt_is_told_in_lines() {
        let base = Input { name: "base".into(), digest: digest_of(b"x"), bytes: 1 };
        let mut receipt = Receipt::new(Change::Quantize, vec![base], serde_json::Value::Null);
        let perplexity = |value| {
            let text = || "text".to_owned();
            Some(Perplexity { value, stderr: 0.0, tokens: 1, window: 1, stride: 1, text: text(), digest: text() })
        };
        (receipt.before.perplexity, receipt.after.perplexity) = (perplexity(4.0), perplexity(4.5));
        receipt.unmeasured.push(Unmeasured { what: "speed".into(), reason: "no time".into() });
        let wanted = "\
receipt       quantized from base (sha256:2d711642b726)
              perplexity: 4.0000 -> 4.5000
              not measured: speed: no time
";
        assert_eq!(receipt.to_string(), wanted);
    }
}
