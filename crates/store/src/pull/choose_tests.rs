//! What is chosen from which files.

use super::super::fetch::Checksum;
use super::*;

const GIB: u64 = 1 << 30;

/// Files by path, with sizes in GiB.
fn files(rows: &[(&str, u64)]) -> Vec<Listed> {
    let file = |(path, gib): &(&str, u64)| Listed {
        path: (*path).to_owned(),
        bytes: gib * GIB + 1,
        checksum: Checksum::Git("0".repeat(40)),
    };
    rows.iter().map(file).collect()
}

fn check(rows: &[(&str, u64)], part: Option<&str>, memory: u64, wanted: Result<&[&str], &str>) {
    let listed = files(rows);
    let asked = Asked { part, include: &[], memory: Some(memory * GIB), assistant: None };
    match (choose(&listed, &asked), wanted) {
        (Ok(choice), Ok(wanted)) => {
            let mut found: Vec<&str> = choice.files.iter().map(|file| file.path.as_str()).collect();
            found.sort_unstable();
            assert_eq!(found, wanted, "{rows:?} {part:?}: {}", choice.why);
        }
        (Err(why), Err(wanted)) => assert!(why.contains(wanted), "{why}"),
        (found, wanted) => panic!("{rows:?} {part:?}: {found:?}, not {wanted:?}"),
    }
}

#[test]
fn a_folder_comes_with_its_settings_and_without_the_rest() {
    let rows = [
        ("config.json", 0),
        ("tokenizer.json", 0),
        ("LICENSE.txt", 0),
        ("model-00001-of-00002.safetensors", 2),
        ("model-00002-of-00002.safetensors", 2),
        ("model.safetensors.index.json", 0),
        ("consolidated.safetensors", 4),
        ("model.fp16.safetensors", 2),
        ("original/consolidated.00.pth", 4),
        ("pytorch_model.bin", 4),
        ("onnx/model.onnx", 4),
        ("training_args.bin", 0),
        ("figure.png", 0),
    ];
    let wanted = [
        "LICENSE.txt",
        "config.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
        "tokenizer.json",
    ];
    check(&rows, None, 8, Ok(&wanted));
    check(&[("config.json", 0), ("pytorch_model.bin", 1)], None, 8, Ok(&["config.json", "pytorch_model.bin"]));
    check(
        &[("consolidated.safetensors", 1), ("params.json", 0)],
        None,
        8,
        Ok(&["consolidated.safetensors", "params.json"]),
    );
    check(&[("a.txt", 0)], None, 8, Err("it has a.txt"));
    check(&[], None, 8, Err("no file that a model has"));
}

#[test]
fn exactly_one_gguf_model_comes() {
    let rows = [
        ("README.md", 0),
        ("m-Q2_K.gguf", 2),
        ("m-Q4_K_M.gguf", 4),
        ("m-Q8_0.gguf", 8),
        ("m-F16-00001-of-00002.gguf", 8),
        ("m-F16-00002-of-00002.gguf", 8),
        ("mmproj-F16.gguf", 1),
        ("m-IQ2_XS.gguf", 1),
    ];
    check(&rows, None, 64, Ok(&["README.md", "m-Q4_K_M.gguf"]));
    check(&rows, None, 3, Ok(&["README.md", "m-Q2_K.gguf"]));
    check(&rows, None, 1, Ok(&["README.md", "m-Q2_K.gguf"]));
    check(&rows, Some("Q8_0"), 1, Ok(&["README.md", "m-Q8_0.gguf"]));
    check(&rows, Some("f16"), 1, Ok(&["README.md", "m-F16-00001-of-00002.gguf", "m-F16-00002-of-00002.gguf"]));
    check(&rows, Some("m-IQ2_XS.gguf"), 1, Ok(&["README.md", "m-IQ2_XS.gguf"]));
    check(&rows, Some("Q4_K"), 64, Err("its models are m-Q2_K.gguf"));
    check(&[("a-Q8_0.gguf", 1), ("b-Q8_0.gguf", 1)], Some("Q8_0"), 64, Err("name one of them"));
    check(&[("model.gguf", 1)], None, 64, Ok(&["model.gguf"]));
    check(&[("a.gguf", 1), ("b.gguf", 1)], None, 64, Err("name one of a.gguf, b.gguf"));
}

#[test]
fn a_folder_that_does_not_fit_gives_way_to_a_small_model() {
    let rows = [("config.json", 0), ("model.safetensors", 8), ("m-Q4_K_M.gguf", 2)];
    check(&rows, None, 16, Ok(&["config.json", "model.safetensors"]));
    check(&rows, None, 4, Ok(&["m-Q4_K_M.gguf"]));
    check(&rows[..2], None, 4, Ok(&["config.json", "model.safetensors"]));
}

#[test]
fn a_pattern_names_files() {
    for (pattern, path, wanted) in [
        ("*.json", "a/config.json", true),
        ("*.json", "config.jsonl", false),
        ("config.json", "config.json", true),
        ("config.json", "a/config.json", false),
        ("a*b*c", "axxbyc", true),
        ("a*b*c", "axxyc", false),
        ("*", "x", true),
        ("ab*ba", "aba", false),
    ] {
        assert_eq!(matches(pattern, path), wanted, "{pattern} {path}");
    }
    let listed = files(&[("a.json", 0), ("b.bin", 0)]);
    let ask =
        |patterns: &[String]| choose(&listed, &Asked { part: None, include: patterns, memory: None, assistant: None });
    assert_eq!(ask(&["*.json".to_owned()]).map(|choice| choice.files.len()), Ok(1));
    assert!(ask(&["*.json".to_owned(), "*.md".to_owned()]).is_err_and(|why| why.contains("*.md")));
}

#[test]
fn an_assistant_comes_with_all_that_it_is_made_of() {
    let rows = [
        ("README.md", 0),
        ("adapters/0/adapter_config.json", 0),
        ("adapters/0/adapter_model.safetensors", 0),
        ("adapters/00/other.safetensors", 0),
        ("assistant.toml", 0),
        ("config.json", 0),
        ("figure.png", 0),
        ("m-Q2_K.gguf", 2),
        ("m-Q8_0.gguf", 8),
        ("model.safetensors", 4),
        ("ship.txt", 0),
    ];
    let check = |base: &str, part: Option<&str>, wanted: Result<&[&str], &str>| {
        let listed = files(&rows);
        let named = Mentioned { base: base.into(), paths: vec!["adapters/0".into(), "ship.txt".into()] };
        let asked = Asked { part, include: &[], memory: Some(64 * GIB), assistant: Some(&named) };
        let found = choose(&listed, &asked).map(|choice| {
            let mut found: Vec<String> = choice.files.iter().map(|file| file.path.clone()).collect();
            found.sort_unstable();
            found
        });
        match wanted {
            Ok(weights) => {
                let mut all: Vec<&str> = rows.iter().map(|row| row.0).collect();
                all.retain(|path| {
                    let own =
                        ["README.md", "assistant.toml", "ship.txt"].contains(path) || path.starts_with("adapters/0/");
                    own || weights.contains(path)
                });
                assert_eq!(found.as_ref().map(Vec::len), Ok(all.len()), "{base}");
                assert_eq!(found.unwrap_or_default(), all, "{base}");
            }
            Err(wanted) => assert!(found.as_ref().is_err_and(|why| why.contains(wanted)), "{found:?}"),
        }
    };
    check("m-Q8_0.gguf", None, Ok(&["m-Q8_0.gguf"]));
    check(".", None, Ok(&["config.json", "model.safetensors"]));
    check("owner/base", None, Err("made of \"owner/base\", which is not in it"));
    let listed = files(&rows);
    let named = Mentioned { base: ".".into(), paths: Vec::new() };
    let asked = Asked { part: Some("Q2_K"), include: &[], memory: None, assistant: Some(&named) };
    assert_eq!(choose(&listed, &asked).map(|choice| choice.files.len()), Ok(2), "a part is a part");
}
