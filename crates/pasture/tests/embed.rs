//! Vectors of texts: they equal the golden cases', do not depend on how texts are divided, and follow the model's own
//! files; what those do not say, and what does not fit, is refused.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::path::{Path, PathBuf};

use pasture::files::Tensors;
use pasture::{EmbedOptions, Embeddings, LoadOptions, Model, Pooling, Precision, TextPrompt};

fn case(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/embed").join(name)
}

fn open(folder: &Path, precision: Precision, chunk: usize) -> Model {
    let options = LoadOptions { precision, threads: Some(1), chunk: Some(chunk), ..LoadOptions::default() };
    Model::open_with(folder.to_str().unwrap(), &options).unwrap()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// The ids of each text of a case, without what fills it up.
fn texts(golden: &Tensors) -> Vec<Vec<u32>> {
    let width = golden.get("input_ids").unwrap().shape[1] * 4;
    let numbers = |name: &str| golden.bytes(name).unwrap().to_vec();
    let number = |four: &[u8]| u32::from_le_bytes(four.try_into().unwrap());
    let (ids, mask) = (numbers("input_ids"), numbers("attention_mask"));
    let text = |(ids, mask): (&[u8], &[u8])| {
        let pairs = ids.chunks_exact(4).zip(mask.chunks_exact(4));
        pairs.filter(|(_, mask)| number(mask) == 1).map(|(id, _)| number(id)).collect()
    };
    ids.chunks_exact(width).zip(mask.chunks_exact(width)).map(text).collect()
}

/// Which texts of a case are two in one.
fn pairs(golden: &Tensors) -> Vec<bool> {
    let [texts, width] = golden.get("input_ids").unwrap().shape[..] else { panic!("texts of one width") };
    let types = golden.bytes("token_type_ids").map_or_else(|_| vec![0; texts * width * 4], |types| types.to_vec());
    types.chunks_exact(width * 4).map(|types| types.iter().any(|part| *part != 0)).collect()
}

#[test]
fn vectors_equal_the_goldens_however_texts_are_divided() {
    for name in ["bert", "xlm_roberta"] {
        let golden = Tensors::open(&case(name).join("golden.safetensors")).unwrap();
        let expected = golden.bytes("cls_normalized").unwrap();
        let expected: Vec<f32> =
            expected.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect();
        let ids = texts(&golden);
        let pairs = pairs(&golden);
        for (precision, chunk) in [(Precision::Exact, 512), (Precision::Exact, 7), (Precision::Fast, 40)] {
            let model = open(&case(name), precision, chunk);
            let made = model.embed_ids(ids.clone(), &EmbedOptions::default(), &mut |_| {}).unwrap();
            assert_eq!((made.pooling, made.normalized, made.prompt), (Pooling::Cls, true, None));
            for (at, (found, expected)) in made.vectors.iter().zip(expected.chunks_exact(64)).enumerate() {
                let cosine = cosine(found, expected);
                // A pair's second text has a type of its own, which no single text has: `cargo xtask golden` runs it.
                assert!(pairs[at] || cosine >= 0.99999, "{name} text {at} in chunks of {chunk}: {cosine}");
            }
        }
    }
}

#[test]
fn a_causal_models_vectors_are_the_same_in_parts() {
    let starter = |chunk: usize| {
        let options = LoadOptions { threads: Some(1), chunk: Some(chunk), ..LoadOptions::default() };
        Model::starter_with(&options).unwrap()
    };
    let (whole, parts) = (starter(512), starter(3));
    for pooling in [Pooling::Mean, Pooling::Last] {
        let options = EmbedOptions { pooling: Some(pooling), normalize: Some(true), ..EmbedOptions::default() };
        let embed = |model: &Model| model.embed_with(&["What is GGUF?", "no"], &options, &mut |_| {}).unwrap();
        let (whole, parts) = (embed(&whole), embed(&parts));
        assert_eq!(whole.tokens, parts.tokens);
        for (whole, parts) in whole.vectors.iter().zip(&parts.vectors) {
            assert!(cosine(whole, parts) > 1.0 - 1e-9, "{pooling:?}");
            assert!((cosine(whole, whole) - 1.0).abs() < 1e-9);
        }
    }
    let error = whole.embed(&["no rule"]).unwrap_err().to_string();
    assert!(error.contains("choose a pooling: cls, mean or last"), "{error}");
}

/// `[PAD] [UNK] [CLS] [SEP]`, the letters, and the letters within a word.
fn tokenizer() -> String {
    let letters = ('a'..='z').map(String::from).chain(('a'..='z').map(|letter| format!("##{letter}")));
    let words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", ":", "A"].map(String::from).into_iter().chain(letters);
    let vocabulary: Vec<String> = words.enumerate().map(|(id, word)| format!("{word:?}:{id}")).collect();
    let special = |name: &str| format!(r#"{{"SpecialToken":{{"id":"{name}","type_id":0}}}}"#);
    let template = |middle: &str| format!("[{},{middle},{}]", special("[CLS]"), special("[SEP]"));
    let added = |id: u32, name: &str| {
        format!(
            r#"{{"id":{id},"content":"{name}","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true}}"#
        )
    };
    format!(
        r###"{{"version":"1.0","truncation":null,"padding":null,"added_tokens":[{},{},{},{}],"normalizer":null,
        "pre_tokenizer":{{"type":"BertPreTokenizer"}},
        "post_processor":{{"type":"TemplateProcessing","single":{},"pair":{},"special_tokens":{{
            "[CLS]":{{"id":"[CLS]","ids":[2],"tokens":["[CLS]"]}},"[SEP]":{{"id":"[SEP]","ids":[3],"tokens":["[SEP]"]}}}}}},
        "decoder":{{"type":"WordPiece","prefix":"##","cleanup":true}},
        "model":{{"type":"WordPiece","unk_token":"[UNK]","continuing_subword_prefix":"##","max_input_chars_per_word":100,
            "vocab":{{{}}}}}}}"###,
        added(0, "[PAD]"),
        added(1, "[UNK]"),
        added(2, "[CLS]"),
        added(3, "[SEP]"),
        template(r#"{"Sequence":{"id":"A","type_id":0}}"#),
        template(r#"{"Sequence":{"id":"A","type_id":0}},{"Sequence":{"id":"B","type_id":1}}"#),
        vocabulary.join(",")
    )
}

/// A committed case with a tokenizer, changed by further files.
fn with_files(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("1_Pooling")).unwrap();
    for name in ["config.json", "model.safetensors", "modules.json", "1_Pooling/config.json"] {
        std::fs::write(root.path().join(name), std::fs::read(case("bert").join(name)).unwrap()).unwrap();
    }
    std::fs::write(root.path().join("tokenizer.json"), tokenizer()).unwrap();
    for (name, text) in files {
        std::fs::write(root.path().join(name), text).unwrap();
    }
    root
}

fn embed(files: &[(&str, &str)], text: &str, options: &EmbedOptions) -> pasture::Result<Embeddings> {
    let folder = with_files(files);
    open(folder.path(), Precision::Exact, 512).embed_with(&[text], options, &mut |_| {})
}

const PROMPTS: &str = r#"{"prompts":{"query":"ask: ","document":""},"default_prompt_name":null}"#;

#[test]
fn prompts_small_letters_and_the_longest_text_are_the_models_own() {
    let usual = EmbedOptions::default();
    let named = |name: &str| EmbedOptions { prompt: TextPrompt::Named(name.into()), ..EmbedOptions::default() };
    let prompts = ("config_sentence_transformers.json", PROMPTS);
    let plain = embed(&[], "ask: me", &usual).unwrap();
    assert_eq!(plain.tokens, [2 + 3 + 1 + 2]);
    let asked = embed(&[prompts], "me", &named("query")).unwrap();
    assert_eq!((&asked.vectors, asked.prompt.as_deref()), (&plain.vectors, Some("query")));
    let default = PROMPTS.replace("null", "\"query\"");
    let default = ("config_sentence_transformers.json", default.as_str());
    assert_eq!(embed(&[default], "me", &usual).unwrap().vectors, plain.vectors);
    let nothing = EmbedOptions { prompt: TextPrompt::Nothing, ..EmbedOptions::default() };
    assert_eq!(embed(&[default], "ask: me", &nothing).unwrap().vectors, plain.vectors);
    let error = embed(&[prompts], "me", &named("passage")).unwrap_err().to_string();
    assert!(error.contains("no prompt \"passage\"; it has \"document\", \"query\""), "{error}");

    let small = ("sentence_bert_config.json", r#"{"max_seq_length":6,"do_lower_case":true}"#);
    assert_eq!(embed(&[small], "ME", &usual).unwrap().vectors, embed(&[], "me", &usual).unwrap().vectors);
    let error = embed(&[small], "ask: me", &usual).unwrap_err().to_string();
    assert!(error.contains("text 1 has 8 tokens, but this model takes 6"), "{error}");
    let cut = embed(&[small], "ask: me", &EmbedOptions { truncate: true, ..EmbedOptions::default() }).unwrap();
    assert_eq!((cut.tokens, cut.truncated), (vec![6], vec![true]));
    assert_eq!(cut.vectors, embed(&[], "ask:", &usual).unwrap().vectors, "what closes a text stays");
}

#[test]
fn what_the_files_ask_for_and_is_not_known_is_refused_by_name() {
    let pooling = |modes: &str| format!("{{\"word_embedding_dimension\":64,{modes}}}");
    let module = |kind: &str| {
        let one =
            |kind: &str, path: &str| format!(r#"{{"path":"{path}","type":"sentence_transformers.models.{kind}"}}"#);
        format!("[{},{}]", one("Transformer", ""), one(kind, "1_Pooling"))
    };
    let refused = |name: &str, text: &str, part: &str| {
        let error = embed(&[(name, text)], "me", &EmbedOptions::default()).expect_err(part).to_string();
        assert!(error.contains(part), "{error:?} lacks {part:?}");
    };
    let config = "1_Pooling/config.json";
    refused("modules.json", &module("Dense"), "known are Transformer, Pooling and Normalize");
    refused("modules.json", &module("Pooling").replace("1_P", "../1_P"), "no plain file name");
    refused("modules.json", "{}", "a list of modules");
    refused(config, &pooling(r#""pooling_mode_max_tokens":true"#), "it asks for max");
    refused(config, &pooling(r#""pooling_mode_cls_token":true,"pooling_mode_mean_tokens":true"#), "cls and mean");
    refused(config, &pooling(r#""pooling_mode_cls_token":true,"pooling_mode_odd":true"#), "pooling_mode_odd");
    refused(config, r#"{"word_embedding_dimension":32,"pooling_mode_cls_token":true}"#, "rows are 64 long");
    refused("config_sentence_transformers.json", r#"{"prompts":["a"]}"#, "texts by name");
    let named =
        embed(&[(config, r#"{"embedding_dimension":64,"pooling_mode":"mean"}"#)], "me", &EmbedOptions::default());
    assert_eq!(named.unwrap().pooling, Pooling::Mean);
    let open = embed(&[("modules.json", "[]")], "me", &EmbedOptions::default()).unwrap_err().to_string();
    assert!(open.contains("choose a pooling"), "{open}");
}

#[test]
fn a_gguf_file_says_its_pooling_by_number() {
    use pasture::files::gguf::{Metadata, Value};
    use pasture::model::{EmbedRules, Source};
    let mut source = Source::open(&case("bert")).unwrap();
    for (number, pooling) in [(1, Some(Pooling::Mean)), (2, Some(Pooling::Cls)), (3, Some(Pooling::Last)), (0, None)] {
        let mut metadata = Metadata::new("m.gguf");
        metadata.insert("general.architecture", Value::text("bert")).unwrap();
        metadata.insert("bert.pooling_type", Value::U32(number)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("m.gguf");
        pasture::files::gguf::write(&file, &metadata, &[], |_, _| Ok(())).unwrap();
        source.tensors = Tensors::open(&file).unwrap();
        let rules = EmbedRules::of(&source, 64).unwrap();
        assert_eq!((rules.pooling, rules.normalize), (pooling, pooling.map(|_| true)));
    }
}

/// A server that does not outlive its test.
struct Serving(std::process::Child);

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_served_encoder_ranks_documents_by_a_question_with_its_own_prompt() {
    use std::io::{BufRead, BufReader, Read, Write};
    let folder = with_files(&[("config_sentence_transformers.json", PROMPTS)]);
    let home = tempfile::tempdir().unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_pasture"));
    command.arg("serve").arg(folder.path()).args(["--port", "0", "--json", "--threads", "1", "--exact"]);
    command.env("PASTURE_HOME", home.path()).env("XDG_RUNTIME_DIR", home.path()).env_remove("PASTURE_API_KEY");
    let mut serving = Serving(command.stdout(std::process::Stdio::piped()).spawn().unwrap());
    let mut line = String::new();
    BufReader::new(serving.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let told: serde_json::Value = serde_json::from_str(&line).unwrap();
    let address = told["url"].as_str().unwrap().strip_prefix("http://").unwrap();
    let ask = |path: &str, body: &serde_json::Value| -> serde_json::Value {
        let body = body.to_string();
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        let head = format!("POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n");
        write!(stream, "{head}Content-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap_or_else(|_| panic!("{text}"))
    };
    let ranked = ask("/v1/rerank", &serde_json::json!({"query": "me", "documents": ["zz", "ask: me", "me"]}));
    let best = &ranked["results"][0];
    // The question is the second document, with the prompt before it.
    assert_eq!(
        (&best["index"], &ranked["scored_by"]),
        (&serde_json::json!(1), &serde_json::json!("cosine")),
        "{ranked}"
    );
    assert!((best["relevance_score"].as_f64().unwrap() - 1.0).abs() < 1e-6, "{ranked}");
    let scored = ask("/v1/score", &serde_json::json!({"text_1": "me", "text_2": ["ask: me", "me"]}));
    let score = |at: usize| scored["data"][at]["score"].as_f64().unwrap();
    assert!(score(0) < 1.0 - 1e-6 && (score(1) - 1.0).abs() < 1e-6, "{scored}");
    let older = ask("/api/embeddings", &serde_json::json!({"prompt": "me"}));
    let newer = ask("/v1/embeddings", &serde_json::json!({"input": "me"}));
    assert_eq!(older["embedding"], newer["data"][0]["embedding"]);
}
