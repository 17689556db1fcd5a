//! Answers of a given shape from random logits: whatever the weights say, the answer is in the language.
//!
//! Each schema of the kit's suite that is accepted makes a few documents; `PASTURE_SCHEMA_SAMPLES=1000` makes as many.
#![allow(clippy::unwrap_used)]

#[path = "grammar/valid.rs"]
mod valid;

use std::path::{Path, PathBuf};

use pasture_engine::grammar::{Grammars, Shape};
use pasture_engine::sampling::random::Random;
use pasture_engine::sampling::{Sampler, SamplingOptions};
use pasture_files::gguf::Gguf;
use pasture_files::tokenizer::{Shown, Tokenizer};
use serde_json::{Value, json};

fn tokenizer() -> Tokenizer {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../starter/starter.gguf");
    let bytes = pasture_files::Bytes::from(std::fs::read(file).unwrap());
    Tokenizer::from_gguf(&Gguf::parse(&bytes, "starter.gguf").unwrap().metadata).unwrap().unwrap()
}

struct Bench {
    tokenizer: Tokenizer,
    grammars: Grammars,
    ends: Vec<u32>,
}

impl Bench {
    fn new() -> Bench {
        let tokenizer = tokenizer();
        let ends = vec![tokenizer.eos().unwrap()];
        let grammars = Grammars::new(&tokenizer, tokenizer.len(), &ends).unwrap();
        Bench { tokenizer, grammars, ends }
    }

    /// A text of random logits; none where it has no end within so many tokens. Tokens that close something are a
    /// little more probable, or random nesting would rarely end.
    fn sample(&self, shape: &Shape, seed: u64) -> Option<String> {
        let grammar = self.grammars.compile(shape).unwrap_or_else(|error| panic!("{shape:?}: {error}"));
        let options = SamplingOptions::default();
        let sampler = Sampler::new(&options, self.tokenizer.len(), seed).unwrap();
        let mut sampler = sampler.within(Some(grammar));
        let mut random = Random::new(seed);
        let mut ids = Vec::new();
        let closing: Vec<u32> = ["\"", "}", "]"].iter().filter_map(|text| self.tokenizer.id(text)).collect();
        while ids.len() < 200 {
            let mut logits: Vec<f32> = (0..self.tokenizer.len()).map(|_| random.uniform() as f32 * 4.0).collect();
            closing.iter().chain(&self.ends).for_each(|id| logits[*id as usize] += ids.len() as f32 * 0.2);
            let id = sampler.sample(&mut logits, &ids).unwrap().token;
            if self.ends.contains(&id) {
                return Some(self.tokenizer.decode(&ids, Shown::Show).unwrap());
            }
            ids.push(id);
            if sampler.is_complete() {
                return Some(self.tokenizer.decode(&ids, Shown::Show).unwrap());
            }
        }
        None
    }

    fn check(&self, shape: &Shape, fits: impl Fn(&str) -> bool) {
        let mut ended = 0;
        for seed in 0..20 {
            if let Some(text) = self.sample(shape, seed) {
                assert!(fits(&text), "{text:?} is not of the shape {shape:?} (seed {seed})");
                ended += 1;
            }
        }
        assert!(ended >= 5, "{ended} of 20 answers end: {shape:?}");
    }

    fn refused(&self, shape: &Shape, part: &str) {
        match self.grammars.compile(shape) {
            Ok(_) => panic!("{shape:?} is accepted"),
            Err(error) => assert!(error.0.contains(part), "{error}, not {part:?}"),
        }
    }
}

#[test]
fn every_kind_of_shape_masks_what_is_not_in_it() {
    let bench = Bench::new();
    bench.check(&Shape::JsonObject, |text| serde_json::from_str::<Value>(text).unwrap().is_object());
    bench.check(&Shape::Regex("[a-c]{3}-[0-9]+".into()), |text| {
        let (letters, digits) = text.split_once('-').unwrap();
        letters.len() == 3
            && letters.bytes().all(|letter| (b'a'..=b'c').contains(&letter))
            && digits.parse::<f64>().is_ok()
    });
    let choice = Shape::Choice(vec!["a cow".into(), "a \"sheep\"\n".into()]);
    bench.check(&choice, |text| text == "a cow" || text == "a \"sheep\"\n");
    bench.check(&Shape::Lark("start: \"x\" start \"y\" | \"-\"".into()), |text| {
        let (before, after) = text.split_once('-').unwrap();
        before.len() == after.len() && before.bytes().all(|letter| letter == b'x')
    });
    bench.check(&Shape::Gbnf("root ::= \"(\" root \")\" | [0-9]{1,3}".into()), |text| {
        let inner = text.trim_matches(['(', ')']);
        (1..=3).contains(&inner.len()) && text.matches('(').count() == text.matches(')').count()
    });
}

#[test]
fn what_would_not_be_kept_is_refused_by_name() {
    let bench = Bench::new();
    let schema = |schema: Value| Shape::JsonSchema(schema);
    bench.refused(&schema(json!({"type": "array", "uniqueItems": true})), "\"uniqueItems\"");
    bench.refused(&schema(json!({"properties": {"a": {"not": {}}}})), "\"not\"");
    bench.refused(&schema(json!({"minItem": 1})), "did you mean \"minItems\"?");
    bench.refused(&schema(json!({"$ref": "https://example.com/a.json"})), "leads out of the schema");
    bench.refused(&schema(json!({"$ref": "#/$defs/a"})), "leads nowhere");
    bench.refused(&schema(json!({"type": "string", "format": "iri"})), "the format \"iri\" is not supported");
    bench.refused(&schema(json!({"type": "string", "maxLength": 100_001})), "\"maxLength\"");
    bench.refused(&schema(json!("a")), "must be an object");
    let mut deep = json!({"type": "null"});
    (0..65).for_each(|_| deep = json!({"items": deep}));
    bench.refused(&schema(deep), "deeper than 64");
    bench.refused(&schema(json!({"description": "x".repeat(256 << 10)})), "at most 256 KiB");
    let pair = json!({"anyOf": [{"type": "null"}, {"type": "string"}]});
    bench.refused(&schema(json!({"allOf": vec![pair; 20]})), "alternatives");
    bench.refused(&Shape::Regex("(".into()), "");
    bench.refused(&Shape::Regex("(?=a)b".into()), "");
    bench.refused(&Shape::Choice(Vec::new()), "at least one text");
    bench.refused(&Shape::Gbnf("x ::= \"a\"".into()), "root");
    bench.refused(&Shape::Lark("start: MISSING".into()), "MISSING");
}

#[test]
fn the_same_seed_gives_the_same_answer_and_other_seeds_others() {
    let bench = Bench::new();
    let shape = Shape::JsonSchema(json!({"type": "array", "items": {"type": "integer"}, "maxItems": 5}));
    let texts: Vec<Option<String>> = (0..10).map(|seed| bench.sample(&shape, seed)).collect();
    assert_eq!(texts, (0..10).map(|seed| bench.sample(&shape, seed)).collect::<Vec<_>>());
    assert!(texts.iter().flatten().any(|text| Some(text) != texts[0].as_ref()));
}

fn kit() -> Option<PathBuf> {
    let named = std::env::var_os("PASTURE_KIT").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let kit = named.unwrap_or(beside);
    kit.is_dir().then_some(kit)
}

#[test]
fn grammars_of_the_kit_are_read() {
    let Some(kit) = kit() else { return println!("skipped: no kit") };
    let bench = Bench::new();
    let mut read = 0;
    for folder in ["assets/grammars", "assets/json-schema/llguidance/sample_parser"] {
        for entry in std::fs::read_dir(kit.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "gbnf") {
                let shape = Shape::Gbnf(std::fs::read_to_string(&path).unwrap());
                bench.grammars.compile(&shape).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                bench.sample(&shape, 1);
                read += 1;
            }
        }
    }
    assert!(read >= 16, "{read} grammars");
}

#[test]
fn every_accepted_schema_of_the_suite_makes_only_valid_documents() {
    let Some(kit) = kit() else { return println!("skipped: no kit") };
    let samples = std::env::var("PASTURE_SCHEMA_SAMPLES").ok().and_then(|count| count.parse().ok()).unwrap_or(3);
    let bench = Bench::new();
    let tests = kit.join("assets/json-schema/JSON-Schema-Test-Suite/tests/draft2020-12");
    let mut files: Vec<PathBuf> = Vec::new();
    for folder in [tests.clone(), tests.join("optional"), tests.join("optional/format")] {
        files.extend(std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()));
    }
    files.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    let (mut accepted, mut refused, mut documents) = (0, 0, 0);
    for file in files {
        let cases: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        for case in cases.as_array().unwrap() {
            let schema = case["schema"].clone();
            let shape = Shape::JsonSchema(schema.clone());
            if bench.grammars.compile(&shape).is_err() {
                refused += 1;
                continue;
            }
            accepted += 1;
            for seed in 0..samples {
                let Some(text) = bench.sample(&shape, seed) else { continue };
                documents += 1;
                if let Err(what) = valid::valid(&schema, &text) {
                    panic!("{} of {}: seed {seed} made {text}: {what}", case["description"], file.display());
                }
            }
        }
    }
    println!("{accepted} schemas accepted, {refused} refused, {documents} documents valid");
    assert!(accepted >= 150, "{accepted} schemas are accepted");
    assert!(documents >= accepted * samples as usize / 2, "{documents} documents of {accepted} schemas");
}
