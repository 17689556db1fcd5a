//! Split patterns of published vocabularies, for file formats that name a pattern instead of containing it.
//! tokenizer.json contains its own; nothing here is consulted for it.

/// GPT-2's: what `ByteLevel` of tokenizer.json splits with.
pub(super) const GPT_2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// cl100k's, and with it the pattern of most vocabularies of 100 to 130 thousand tokens: digits in threes.
pub(super) const CL100K: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The same with each digit alone.
pub(super) const QWEN_2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The same with marks counted among letters.
pub(super) const QWEN_35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// o200k's: words break at capitals, contractions stay with their word.
pub(super) const O200K: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Tekken's: o200k's without contractions, each digit alone.
pub(super) const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// CLIP's, which keeps only what it finds.
pub(super) const CLIP: &str =
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

const THREE_DIGITS: &str = r"\p{N}{1,3}";
const ONE_DIGIT: &str = r"\p{N}";
const EAST_ASIA: &str = "[一-龥\u{3040}-ゟ゠-ヿ]+";
const DEEPSEEK_3: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##;
const BLOOM: &str = r" ?[^(\s|.,!?…。，、।۔،)]+";
const FALCON_MARKS: &str = r"[\p{P}\$\+<=>\^~\|`]+";
const THREE_OF_ASCII: &str = "[0-9][0-9][0-9]";
const DEFAULT_MARKS: &str = r"[\p{P}\$\+<=>\^~\|]+";
const DIGITS: &str = r"\p{N}+";
const LINE_BREAK: &str = r"[\r\n]";
const LETTERS: &str = r"\s?\p{L}+";
const MARKS: &str = r"\s?\p{P}+";
const EAST_ASIA_WIDE: &str = "[一-龥ࠀ-一가-\u{d7ff}]+";
const BAILING: &str =
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+";
const SEED_CODER: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The first special tokens of Llama 3's rank file, which does not list them.
pub(super) const LLAMA_3_SPECIALS: [&str; 11] = [
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|reserved_special_token_0|>",
    "<|reserved_special_token_1|>",
    "<|finetune_right_pad_id|>",
    "<|reserved_special_token_2|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eom_id|>",
    "<|eot_id|>",
    "<|python_tag|>",
];

/// The special tokens of Tekken files that list none.
pub(super) const TEKKEN_SPECIALS: [&str; 20] = [
    "<unk>",
    "<s>",
    "</s>",
    "[INST]",
    "[/INST]",
    "[AVAILABLE_TOOLS]",
    "[/AVAILABLE_TOOLS]",
    "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]",
    "[TOOL_CALLS]",
    "[IMG]",
    "<pad>",
    "[IMG_BREAK]",
    "[IMG_END]",
    "[PREFIX]",
    "[MIDDLE]",
    "[SUFFIX]",
    "[SYSTEM_PROMPT]",
    "[/SYSTEM_PROMPT]",
    "[TOOL_CONTENT]",
];

/// All of them, for tests.
#[cfg(test)]
pub(super) const ALL: [&str; 16] = [
    CLIP,
    GPT_2,
    CL100K,
    QWEN_2,
    QWEN_35,
    O200K,
    TEKKEN,
    EAST_ASIA,
    EAST_ASIA_WIDE,
    DEEPSEEK_3,
    BLOOM,
    FALCON_MARKS,
    LETTERS,
    MARKS,
    BAILING,
    SEED_CODER,
];

/// How a GGUF file's `tokenizer.ggml.pre` splits: patterns that are applied one after the other, each isolating what
/// it finds. The names are llama.cpp's; one that is not here is refused, since a guess would give wrong ids.
pub(super) fn of_gguf(name: &str) -> Option<&'static [&'static str]> {
    Some(match name {
        "gpt-2" | "phi-2" | "mpt" | "olmo" | "jais" | "roberta-bpe" | "modern-bert" | "exaone4" | "jina-es"
        | "jina-de" | "jina-v1-en" | "jina-v2-es" | "jina-v2-de" | "jina-v2-code" | "gigachat" | "a.x-4.0"
        | "mellum" | "trillion" | "granite-docling" => &[GPT_2],
        "llama-bpe" | "llama3" | "llama-v3" | "falcon3" | "falcon-h1" | "pixtral" | "midm-2.0" | "lfm2"
        | "jina-v5-nano" | "dbrx" | "smaug-bpe" | "chatglm-bpe" | "glm4" => &[CL100K],
        "qwen2" | "deepseek-r1-qwen" | "kormo" | "f2llmv2" | "megrez" | "stablelm2" | "hunyuan" | "grok-2" => &[QWEN_2],
        "qwen35" => &[QWEN_35],
        "gpt-4o" | "llama4" | "kanana2" | "talkie" | "minimax-m2" => &[O200K],
        "tekken" => &[TEKKEN],
        "starcoder" | "refact" | "command-r" | "smollm" | "codeshell" | "exaone" | "minerva-7b" => &[ONE_DIGIT, GPT_2],
        "deepseek-v3" | "hunyuan-dense" => &[THREE_DIGITS, EAST_ASIA, DEEPSEEK_3],
        "deepseek-coder" => &[LINE_BREAK, LETTERS, MARKS, EAST_ASIA_WIDE, ONE_DIGIT],
        "falcon" => &[FALCON_MARKS, GPT_2, THREE_OF_ASCII],
        "bloom" | "gpt3-finnish" | "poro-chat" => &[BLOOM],
        "viking" => &[BLOOM, ONE_DIGIT],
        "bailingmoe" | "bailingmoe2" | "llada-moe" => &[BAILING],
        "seed-coder" => &[SEED_CODER],
        "default" | "" => &[DEFAULT_MARKS, GPT_2, DIGITS, THREE_OF_ASCII],
        _ => return None,
    })
}

/// Whether a word that is a token is taken without merging, by the name of the pattern.
pub(super) fn takes_whole_words(name: &str) -> bool {
    begins(name)
}

/// Whether such vocabularies put a token before a text unless the file says otherwise.
pub(super) fn begins(name: &str) -> bool {
    const NAMES: [&str; 10] = [
        "llama-bpe",
        "llama3",
        "llama-v3",
        "falcon3",
        "falcon-h1",
        "pixtral",
        "midm-2.0",
        "lfm2",
        "jina-v5-nano",
        "tekken",
    ];
    NAMES.contains(&name)
}

/// Whether such vocabularies put a token behind a text unless the file says otherwise.
pub(super) fn ends(name: &str) -> bool {
    matches!(name, "jina-v1-en" | "jina-v2-code" | "roberta-bpe")
}

/// Whether the original tokenizer composes its text (NFC).
pub(super) fn is_composed(name: &str) -> bool {
    matches!(name, "qwen2" | "qwen35" | "mpt" | "olmo" | "stablelm2")
}

/// The pattern of a tiktoken file, from the number of its ranks.
pub(super) fn of_ranks(ranks: usize) -> &'static str {
    match ranks {
        // r50k and p50k.
        50_000..=50_300 => GPT_2,
        // Qwen: 151,643.
        151_000..=152_000 => QWEN_2,
        // o200k: 199,998.
        190_000.. => O200K,
        _ => CL100K,
    }
}
