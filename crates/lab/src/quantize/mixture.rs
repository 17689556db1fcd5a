//! The mixtures that llama.cpp names: which format each tensor of a file gets. They follow its public behavior, so that
//! a file of a name has the size that people expect of it; what they were chosen by is in its history.

use pasture_kernels::Format;

/// A named mixture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mixture {
    /// Its name: `Q4_K_M`.
    pub name: &'static str,
    /// The number that GGUF has for it.
    pub number: u32,
    /// What most matrices get.
    pub base: Format,
}

const fn mixture(name: &'static str, number: u32, base: Format) -> Mixture {
    Mixture { name, number, base }
}

/// Every mixture that can be written.
pub const ALL: [Mixture; 36] = [
    mixture("F32", 0, Format::F32),
    mixture("F16", 1, Format::F16),
    mixture("BF16", 32, Format::BF16),
    mixture("Q8_0", 7, Format::Q8_0),
    mixture("Q6_K", 18, Format::Q6_K),
    mixture("Q5_K_M", 17, Format::Q5_K),
    mixture("Q5_K_S", 16, Format::Q5_K),
    mixture("Q5_1", 9, Format::Q5_1),
    mixture("Q5_0", 8, Format::Q5_0),
    mixture("Q4_K_M", 15, Format::Q4_K),
    mixture("Q4_K_S", 14, Format::Q4_K),
    mixture("IQ4_NL", 25, Format::IQ4_NL),
    mixture("IQ4_XS", 30, Format::IQ4_XS),
    mixture("Q4_1", 3, Format::Q4_1),
    mixture("Q4_0", 2, Format::Q4_0),
    mixture("MXFP4_MOE", 38, Format::MXFP4),
    mixture("Q3_K_L", 13, Format::Q3_K),
    mixture("Q3_K_M", 12, Format::Q3_K),
    mixture("Q3_K_S", 11, Format::Q3_K),
    mixture("Q2_K", 10, Format::Q2_K),
    mixture("Q2_K_S", 21, Format::Q2_K),
    mixture("IQ3_M", 27, Format::IQ3_S),
    mixture("IQ3_S", 26, Format::IQ3_S),
    mixture("IQ3_XS", 22, Format::IQ3_S),
    mixture("IQ3_XXS", 23, Format::IQ3_XXS),
    mixture("IQ2_M", 29, Format::IQ2_S),
    mixture("IQ2_S", 28, Format::IQ2_XS),
    mixture("IQ2_XS", 20, Format::IQ2_XS),
    mixture("IQ2_XXS", 19, Format::IQ2_XXS),
    mixture("IQ1_M", 31, Format::IQ1_M),
    mixture("IQ1_S", 24, Format::IQ1_S),
    mixture("Q2_0", 41, Format::Q2_0),
    mixture("Q1_0", 40, Format::Q1_0),
    mixture("TQ2_0", 37, Format::TQ2_0),
    mixture("TQ1_0", 36, Format::TQ1_0),
    mixture("NVFP4", 39, Format::NVFP4),
];

/// Short names.
const ALIASES: [(&str, &str); 4] = [("Q3_K", "Q3_K_M"), ("Q4_K", "Q4_K_M"), ("Q5_K", "Q5_K_M"), ("MXFP4", "MXFP4_MOE")];

/// The mixture of a name, or why there is none.
pub fn named(name: &str) -> Result<Mixture, String> {
    let upper = name.to_ascii_uppercase();
    let full = ALIASES.iter().find(|(short, _)| *short == upper).map_or(upper.as_str(), |(_, full)| full);
    ALL.iter().find(|mixture| mixture.name == full).copied().ok_or_else(|| {
        let known = ALL.map(|mixture| mixture.name).join(", ");
        format!("there is no type {name:?}; there are {known}")
    })
}

/// The sizes of a model that the rules ask for.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Layers.
    pub layers: usize,
    /// Heads of queries for each head of keys.
    pub group: usize,
    /// Experts; 1 without any.
    pub experts: usize,
    /// Whether the embedding is the head too.
    pub tied: bool,
    /// Whether there is a measure of importance.
    pub importance: bool,
}

/// The format of a matrix by its GGUF name; `at` is its place among those of its kind and `of` their number.
pub fn choose(
    mixture: Mixture,
    name: &str,
    columns: usize,
    is_stack: bool,
    at: usize,
    of: usize,
    sizes: Sizes,
) -> Format {
    let wanted = wanted(mixture, name, columns, is_stack, (at, of), sizes);
    fitting(wanted, columns)
}

fn wanted(
    mixture: Mixture,
    name: &str,
    columns: usize,
    is_stack: bool,
    (at, of): (usize, usize),
    sizes: Sizes,
) -> Format {
    use Format::{F16, F32, IQ2_S, IQ3_S, IQ3_XXS, MXFP4, Q2_K, Q4_K, Q5_K, Q6_K, Q8_0};
    let base = mixture.base;
    if matches!(base, F32 | F16 | Format::BF16) {
        return base;
    }
    let is = |part: &str| name.split('.').nth_back(1) == Some(part);
    if name == "output.weight" || (sizes.tied && name == "token_embd.weight") {
        return match () {
            () if base == MXFP4 || base == Q8_0 || !columns.is_multiple_of(base.block()) => Q8_0,
            () if mixture.is_two_bits() || mixture.name == "IQ3_XXS" => Q5_K,
            () => Q6_K,
        };
    }
    if mixture.name == "MXFP4_MOE" {
        return if is_stack { MXFP4 } else { Q8_0 };
    }
    match () {
        () if name == "token_embd.weight" => match mixture.name {
            "TQ1_0" | "TQ2_0" | "Q2_0" => Q4_K,
            "IQ1_S" | "IQ1_M" | "IQ2_XXS" | "IQ2_XS" => Q2_K,
            "IQ2_S" | "IQ2_M" | "IQ3_XXS" => IQ3_S,
            _ => base,
        },
        () if mixture.is_two_bits() => two_bits(mixture, is, (at, of), sizes),
        () if is("attn_qkv") && mixture.name == "IQ3_M" => Q4_K,
        () if is("attn_v") || is("attn_qkv") => values(mixture, at, of, sizes),
        () if is("attn_k") && sizes.experts == 8 => Q8_0,
        () if is("attn_k") || is("attn_q") => match mixture.name {
            "IQ3_XS" => IQ3_XXS,
            "IQ3_XXS" => IQ2_S,
            _ => base,
        },
        () if mixture.name == "IQ3_XS" && (is("ffn_gate") || is("ffn_up")) && !is_end(at, of) => IQ3_XXS,
        () if is("ffn_down") || is("ffn_down_exps") => down(mixture, at, of, sizes),
        () if is("attn_output") => output(mixture, sizes),
        () => match base {
            Q5_K => Q5_K,
            base => base,
        },
    }
}

impl Mixture {
    /// Whether it is one of those of one bit or two, which have rules of their own.
    fn is_two_bits(self) -> bool {
        matches!(self.name, "IQ1_S" | "IQ1_M" | "IQ2_XXS" | "IQ2_XS" | "IQ2_S" | "IQ2_M")
    }
}

/// Whether blocks of a format are made only where the importance of inputs is known: without it they lose nearly all, and
/// llama.cpp makes none either.
pub fn needs_importance(format: Format) -> bool {
    matches!(format, Format::IQ1_S | Format::IQ1_M)
}

/// The mixtures of about two bits and fewer: values and the first layers' products down get more.
fn two_bits(mixture: Mixture, is: impl Fn(&str) -> bool, (at, of): (usize, usize), sizes: Sizes) -> Format {
    let larger = matches!(mixture.name, "IQ2_S" | "IQ2_M");
    let more = if larger { Format::IQ3_S } else { Format::Q2_K };
    match () {
        () if is("attn_v") && (sizes.group >= 4 || sizes.experts >= 4) => Format::Q4_K,
        () if is("attn_v") => more,
        () if is("attn_k") && sizes.experts == 8 => Format::Q4_K,
        () if (is("ffn_down") || is("ffn_down_exps")) && at < of / 8 => more,
        () if is("attn_output") && sizes.experts == 8 => Format::Q5_K,
        () if is("attn_output") && larger => Format::IQ3_S,
        () if is("attn_output") && needs_importance(mixture.base) => Format::IQ2_XXS,
        () => mixture.base,
    }
}

/// The eighths of the layers at both ends.
fn is_end(at: usize, of: usize) -> bool {
    at < of / 8 || at >= 7 * of / 8
}

/// Layers at both ends, and every third between.
fn more(at: usize, of: usize) -> bool {
    is_end(at, of) || (at - of / 8) % 3 == 2
}

fn values(mixture: Mixture, at: usize, of: usize, sizes: Sizes) -> Format {
    if sizes.experts == 8 {
        return Format::Q8_0;
    }
    let grouped = sizes.group >= 4;
    match mixture.name {
        "Q2_K" if grouped => Format::Q4_K,
        "Q2_K" => Format::Q3_K,
        "Q2_K_S" if grouped => Format::Q4_K,
        "Q3_K_M" if at < 2 => Format::Q5_K,
        "Q3_K_M" => Format::Q4_K,
        "Q3_K_L" => Format::Q5_K,
        "IQ4_NL" | "IQ4_XS" if grouped => Format::Q5_K,
        "IQ3_M" => Format::Q4_K,
        "IQ3_XXS" | "IQ3_XS" | "IQ3_S" if grouped => Format::Q4_K,
        "IQ3_XXS" if !sizes.importance => Format::IQ3_S,
        "Q4_K_M" | "Q5_K_M" if more(at, of) => Format::Q6_K,
        "Q4_K_S" if at < 4 => Format::Q5_K,
        _ => mixture.base,
    }
}

fn down(mixture: Mixture, at: usize, of: usize, sizes: Sizes) -> Format {
    let first = at < of / 8;
    match mixture.name {
        "Q2_K" => Format::Q3_K,
        "Q2_K_S" if first => Format::Q4_K,
        "IQ3_XXS" if !sizes.importance && first => Format::Q4_K,
        "IQ3_XXS" if !sizes.importance => Format::Q3_K,
        "Q3_K_M" if at < of / 16 => Format::Q5_K,
        "Q3_K_M" => Format::Q4_K,
        "Q3_K_L" => Format::Q5_K,
        "Q4_K_M" | "Q5_K_M" if more(at, of) => Format::Q6_K,
        "Q4_K_S" if first => Format::Q5_K,
        "IQ4_NL" | "IQ4_XS" if first && !sizes.importance => Format::Q5_K,
        "Q4_0" if first && sizes.importance => Format::Q4_1,
        "Q5_0" if first && sizes.importance => Format::Q5_1,
        _ => mixture.base,
    }
}

fn output(mixture: Mixture, sizes: Sizes) -> Format {
    if sizes.experts == 8 {
        let small = ["Q2_K", "Q3_K_S", "Q3_K_M", "IQ4_NL", "IQ4_XS", "Q4_K_S", "Q4_K_M"];
        let small = [&small[..], &["IQ3_XXS", "IQ3_XS", "IQ3_S", "IQ3_M"]].concat();
        return if small.contains(&mixture.name) { Format::Q5_K } else { mixture.base };
    }
    match mixture.name {
        "Q2_K" => Format::Q3_K,
        "Q3_K_M" | "IQ3_M" => Format::Q4_K,
        "Q3_K_L" => Format::Q5_K,
        "IQ3_XXS" => Format::IQ3_S,
        _ => mixture.base,
    }
}

/// The nearest format whose blocks rows of that length are made of.
pub fn fitting(format: Format, columns: usize) -> Format {
    let fits = |format: Format| columns.is_multiple_of(format.block());
    if fits(format) {
        return format;
    }
    let smaller = match format {
        Format::IQ4_XS | Format::IQ3_S | Format::IQ3_XXS => Format::IQ4_NL,
        Format::IQ2_S | Format::IQ2_XS | Format::IQ2_XXS | Format::IQ1_M | Format::IQ1_S => Format::IQ4_NL,
        Format::Q2_K | Format::Q3_K | Format::TQ1_0 | Format::TQ2_0 | Format::Q2_0 => Format::Q4_0,
        // llama.cpp makes no such file.
        Format::Q1_0 => Format::Q4_0,
        Format::Q4_K => Format::Q5_0,
        Format::Q5_K => Format::Q5_1,
        Format::Q6_K | Format::NVFP4 => Format::Q8_0,
        _ => Format::F16,
    };
    if fits(smaller) { smaller } else { Format::F16 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn formats(name: &str, tensor: &str, layers: usize) -> Vec<Format> {
        let sizes = Sizes { layers, group: 1, experts: 1, tied: false, importance: false };
        let mixture = named(name).expect("a mixture");
        (0..layers)
            .map(|at| choose(mixture, &tensor.replace('N', &at.to_string()), 256, false, at, layers, sizes))
            .collect()
    }

    #[test]
    fn the_ends_and_every_third_layer_get_more() {
        use Format::{Q4_K, Q5_K, Q6_K};
        let wanted = [Q6_K, Q4_K, Q4_K, Q6_K, Q4_K, Q4_K, Q6_K, Q6_K];
        assert_eq!(formats("Q4_K_M", "blk.N.ffn_down.weight", 8), wanted);
        assert_eq!(formats("Q4_K_M", "blk.N.attn_v.weight", 8), wanted);
        assert_eq!(formats("Q4_K_M", "blk.N.ffn_up.weight", 2), [Q4_K; 2]);
        assert_eq!(formats("Q4_K_S", "blk.N.attn_v.weight", 6), [Q5_K, Q5_K, Q5_K, Q5_K, Q4_K, Q4_K]);
        assert_eq!(formats("q5_k", "output.weight", 1), [Q6_K]);
    }

    #[test]
    fn rows_that_are_no_whole_blocks_get_smaller_ones() {
        for (format, columns, wanted) in [
            (Format::Q4_K, 64, Format::Q5_0),
            (Format::Q6_K, 96, Format::Q8_0),
            (Format::Q4_K, 50, Format::F16),
            (Format::Q4_K, 512, Format::Q4_K),
        ] {
            assert_eq!(fitting(format, columns), wanted);
        }
    }

    #[test]
    fn the_mixtures_of_one_bit_give_more_to_what_needs_it() {
        use Format::{IQ1_M, IQ1_S, IQ2_XXS, Q2_K, Q4_K, Q5_K, Q6_K};
        assert_eq!(
            formats("IQ1_S", "blk.N.ffn_down.weight", 8),
            [Q2_K, IQ1_S, IQ1_S, IQ1_S, IQ1_S, IQ1_S, IQ1_S, IQ1_S]
        );
        for (name, tensor, wanted) in [
            ("IQ1_M", "blk.N.ffn_up.weight", IQ1_M),
            ("IQ1_M", "blk.N.attn_output.weight", IQ2_XXS),
            ("IQ1_S", "blk.N.attn_v.weight", Q2_K),
            ("IQ1_S", "token_embd.weight", Q2_K),
            ("IQ1_S", "output.weight", Q5_K),
            ("Q2_0", "token_embd.weight", Q4_K),
            ("Q2_0", "output.weight", Q6_K),
            ("Q1_0", "token_embd.weight", Format::Q1_0),
        ] {
            assert_eq!(formats(name, tensor, 1), [wanted], "{tensor} of {name}");
        }
    }

    #[test]
    fn a_name_that_is_no_type_is_told_which_are() {
        assert!(ALL.iter().all(|mixture| mixture.base.can_quantize()));
        assert!(named("Q9").is_err_and(|what| what.contains("Q4_K_M")));
        assert_eq!(named("q4_k").map(|mixture| mixture.name), Ok("Q4_K_M"));
    }
}
