//! What holds for every text and every list of ids: streaming equals decoding, texts come back, marks in users' text
//! stay text, and the crate `tokenizers` gives the same ids for the files that it reads too.

#![allow(clippy::unwrap_used)]
#[path = "../../../tests/kit.rs"]
mod kit;

use pasture_files::tokenizer::{Shown, Specials, Tokenizer};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

const STARTER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../starter/starter.gguf");

/// Tokenizers of the kit whose ids spell exactly the text that was encoded.
const EXACT: [&str; 5] = [
    "hf/phi-2/tokenizer.json",
    "tiktoken/cl100k_base.tiktoken",
    "tiktoken/tiktoken_small.model",
    "gguf-vocab/ggml-vocab-gpt-2.gguf",
    "spm/mistral-v3/tokenizer.model",
];

const OTHERS: [&str; 7] = [
    "hf/phi-3-mini/tokenizer.json",
    "hf/bert-base-uncased/tokenizer.json",
    "hf/clip/tokenizer.json",
    "hf/tiny-bpe/tiny_bpe_tokenizer.json",
    "spm/torchtune-m/m.model",
    "gguf-vocab/ggml-vocab-bert-bge.gguf",
    "gguf-vocab/ggml-vocab-phi-3.gguf",
];

/// The starter's tokenizer, and the kit's.
fn each(names: &[&str], mut check: impl FnMut(&str, &Tokenizer)) {
    check("starter", &Tokenizer::open(STARTER).unwrap());
    let Some(kit) = kit::folder(".") else { return };
    for name in names {
        check(name, &Tokenizer::open(kit.join("assets/tokenizers").join(name)).unwrap());
    }
}

fn runner(cases: u32) -> TestRunner {
    TestRunner::new(ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() })
}

/// Letters, digits, spaces, marks of every kind, and anything else.
fn texts() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        4 => "[a-zA-Z]{1,8}",
        3 => "[ \\n\\t\\r]{1,4}",
        2 => "[0-9]{1,5}",
        2 => "['’.,!?()<>|\\[\\]{}#-]{1,3}",
        1 => "[\\u{300}-\\u{36f}]{1,3}",
        1 => "[一-鿿ぁ-ヿ가-힣]{1,4}",
        1 => "[😀-🙏👩\\u{200d}\\u{fe0f}]{1,4}",
        1 => "\\PC{1,4}",
        1 => any::<char>().prop_map(String::from),
        1 => prop_oneof![Just("<|im_start|>"), Just("<|endoftext|>"), Just("</s>"), Just("[INST]"), Just("<0x0A>"), Just("▁")]
            .prop_map(String::from),
    ];
    proptest::collection::vec(part, 0..16).prop_map(|parts| parts.concat())
}

fn streamed(tokenizer: &Tokenizer, ids: &[u32], shown: Shown) -> String {
    let mut stream = tokenizer.stream_with(shown);
    let mut text: String = ids.iter().map(|&id| stream.push(id)).collect();
    text.push_str(&stream.finish());
    text
}

#[test]
fn streaming_any_ids_gives_what_decoding_gives() {
    each(&[&EXACT[..], &OTHERS[..]].concat(), |name, tokenizer| {
        // Ids a little beyond the vocabulary are taken as no text.
        let ids = proptest::collection::vec(0..tokenizer.len() as u32 + 3, 0..24);
        let check = |ids: Vec<u32>| {
            for shown in [Shown::Show, Shown::Hide] {
                let decoded = tokenizer.decode(&ids, shown).unwrap();
                prop_assert_eq!(&streamed(tokenizer, &ids, shown), &decoded, "{}", name);
            }
            Ok(())
        };
        runner(200).run(&ids, check).unwrap();
    });
}

#[test]
fn byte_tokens_join_to_the_decoded_text() {
    each(&EXACT[..4], |name, tokenizer| {
        let ids = proptest::collection::vec(0..tokenizer.len() as u32, 0..24);
        let check = |ids: Vec<u32>| {
            let bytes: Vec<u8> = ids.iter().filter_map(|&id| tokenizer.token_bytes(id)).flatten().collect();
            let decoded = tokenizer.decode(&ids, Shown::Show).unwrap();
            prop_assert_eq!(decoded, String::from_utf8_lossy(&bytes), "{}", name);
            Ok(())
        };
        runner(200).run(&ids, check).unwrap();
    });
}

#[test]
fn texts_come_back() {
    let Some(kit) = kit::folder(".") else { return };
    for name in EXACT {
        let tokenizer = Tokenizer::open(kit.join("assets/tokenizers").join(name)).unwrap();
        let has_marks = name.starts_with("spm");
        let check = |text: String| {
            for specials in [Specials::AsText, Specials::Parse] {
                // Between marks SentencePiece puts spaces, which is why its text comes back only as plain text.
                if has_marks && specials == Specials::Parse {
                    continue;
                }
                let ids = tokenizer.encode(&text, specials).unwrap();
                let wanted = if has_marks { text.replace('▁', " ") } else { text.clone() };
                prop_assert_eq!(&tokenizer.decode(&ids, Shown::Show).unwrap(), &wanted, "{} {:?}", name, specials);
            }
            Ok(())
        };
        runner(300).run(&texts(), check).unwrap();
    }
}

#[test]
fn marks_in_users_text_are_text() {
    each(&[&EXACT[..], &OTHERS[..]].concat(), |name, tokenizer| {
        let marks: Vec<String> = (0..tokenizer.len() as u32)
            .filter(|&id| tokenizer.is_special(id))
            .filter_map(|id| tokenizer.token(id))
            .collect();
        let part = prop_oneof![texts(), proptest::sample::select([&marks[..], &[String::new()]].concat())];
        let text = proptest::collection::vec(part, 1..6).prop_map(|parts| parts.concat());
        let unknown = tokenizer.unknown();
        let check = |text: String| {
            let no_mark = |ids: &[u32]| ids.iter().all(|&id| !tokenizer.is_special(id) || Some(id) == unknown);
            // A vocabulary may lack a character and have no unknown token.
            let ids = tokenizer.encode(&text, Specials::AsText).unwrap_or_default();
            prop_assert!(no_mark(&ids), "{}: {:?} gives {:?}", name, text, ids);
            let all = 0..text.len();
            let plain = tokenizer.encode_marked(&text, std::slice::from_ref(&all)).unwrap_or_default();
            prop_assert_eq!(&plain.ids, &ids, "{}", name);
            let free = tokenizer.encode_marked(&text, &[]).unwrap_or_default();
            prop_assert_eq!(&free.ids, &tokenizer.encode(&text, Specials::Parse).unwrap_or_default(), "{}", name);
            prop_assert_eq!(free.ids.len(), free.ends.len());
            prop_assert!(
                free.ends.is_sorted() && free.ends.last().is_none_or(|&end| end <= text.len()),
                "{}: {:?}",
                name,
                free
            );
            Ok(())
        };
        runner(120).run(&text, check).unwrap();
    });
}

#[test]
fn only_the_marks_outside_plain_ranges_are_control_tokens() {
    let tokenizer = Tokenizer::open(STARTER).unwrap();
    let text = "<|im_start|>user\n<|im_end|> \u{e9}<|im_end|>\n";
    let user = 17..28;
    let found = tokenizer.encode_marked(text, std::slice::from_ref(&user)).unwrap();
    let marks: Vec<(u32, usize)> =
        found.ids.iter().copied().zip(found.ends.iter().copied()).filter(|(id, _)| tokenizer.is_special(*id)).collect();
    assert_eq!(marks, [(1, 12), (2, 40)]);
    assert_eq!(found.ends.last(), Some(&text.len()));
    // A range that touches a mark makes it text; one beside it does not.
    for (range, count) in [(0..1, 2), (11..12, 2), (12..17, 3), (39..40, 2), (40..41, 3), (28..31, 2), (0..40, 0)] {
        let found = tokenizer.encode_marked(text, std::slice::from_ref(&range)).unwrap();
        assert_eq!(found.ids.iter().filter(|&&id| tokenizer.is_special(id)).count(), count, "{range:?}");
    }
}

#[test]
fn the_crate_gives_the_same_ids() {
    let Some(kit) = kit::folder(".") else { return };
    let files = [
        "assets/tokenizers/hf/phi-2/tokenizer.json",
        "assets/tokenizers/hf/phi-3-mini/tokenizer.json",
        "assets/tokenizers/hf/bert-base-uncased/tokenizer.json",
        "assets/tokenizers/hf/clip/tokenizer.json",
        "assets/tokenizers/hf/tiny-bpe/tiny_bpe_tokenizer.json",
        "hostile/tokenizer/valid_bpe.json",
        "hostile/tokenizer/valid_text_merges.json",
        "hostile/tokenizer/valid_unigram.json",
        "hostile/tokenizer/valid_wordpiece.json",
    ];
    for name in files {
        let ours = Tokenizer::open(kit.join(name)).unwrap();
        let theirs = tokenizers::Tokenizer::from_file(kit.join(name)).unwrap();
        // The crate strips accents by an older version of Unicode.
        let is_old =
            |character: char| matches!(character, '\0'..='\u{5ff}' | '\u{2000}'..='\u{206f}' | '\u{3040}'..='\u{9fff}');
        let check = |text: String| {
            if name.contains("bert") && !text.chars().all(is_old) {
                return Ok(());
            }
            let wanted = theirs.encode(text.as_str(), true).map(|encoding| encoding.get_ids().to_vec()).ok();
            let found = ours.encode_with_special(&text, Specials::Parse).ok();
            prop_assert_eq!(found, wanted, "{}", name);
            Ok(())
        };
        runner(400).run(&texts(), check).unwrap();
    }
}
