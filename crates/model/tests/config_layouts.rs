//! Configurations as they are published: each layout of a golden case is one spec, and files from the hub read as the
//! models they belong to, without a key that nobody knows.

#![allow(clippy::unwrap_used, reason = "a test may")]
#[path = "../../../tests/kit.rs"]
mod kit;

use std::path::PathBuf;

use pasture_files::folder::Folder;
use pasture_model::{Config, families};

/// A golden case of the kit.
fn kit(case: &str) -> Option<PathBuf> {
    kit::folder("golden").map(|golden| golden.join(case))
}

#[test]
fn every_layout_of_a_golden_case_reads_as_one_spec() {
    let cases = [
        "text/llama2",
        "text/llama2_sharded",
        "text/llama3",
        "text/llama31_rope",
        "text/llama_bf16",
        "text/llama_bias_headdim",
        "text/llama_rope_dynamic",
        "text/llama_rope_linear",
        "text/llama_rope_yarn",
        "text/llama_rope_yarn_opts",
        "text/dbrx",
        "text/gemma1",
        "text/gemma2",
        "text/gemma3_text",
        "text/phi3",
        "text/phi3_longrope",
        "text/phi4",
        "text/phi4_mini",
        "text/phi35_moe",
        "text/llama4_text",
        "text/llama4_text_rope",
        "text/ministral",
        "text/ministral3",
        "text/mixtral",
        "text/mistral_v01_swa",
        "text/mistral_v03",
        "text/mistral_nemo",
        "text/qwen2",
        "text/qwen25_swa_yarn",
        "text/qwen3",
        "text/qwen3_moe",
        "text/qwen3_moe_nonorm",
        "text/olmo2",
        "text/phi2",
        "text/phi1_5_qkln",
        "arctic/arctic",
        "arctic/arctic_freq2",
        "embed/bert",
        "embed/xlm_roberta",
        "pth/bin_base",
    ];
    for case in cases {
        let Some(path) = kit(case) else { return };
        check_layouts(case, &Folder::open(&path).unwrap());
    }
}

#[test]
fn every_layout_of_a_committed_case_reads_as_one_spec() {
    for case in ["smollm3", "granite", "granite_moe"] {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/text").join(case);
        check_layouts(case, &Folder::open(&folder).unwrap());
    }
}

fn check_layouts(case: &str, folder: &Folder) {
    let read_one = |name: &str| {
        let value = pasture_files::json::read_in(folder, name).unwrap()?;
        let found = families::blueprint(&Config::from_json(name, value).unwrap());
        let found = found.unwrap_or_else(|fault| panic!("{case}: {fault}"));
        assert_eq!(found.report.unknown, Vec::<String>::new(), "{case}/{name}");
        Some(found.spec)
    };
    let first = read_one("config.json").unwrap();
    for name in ["config.v5.json", "config.hub.json"] {
        if let Some(other) = read_one(name) {
            assert_eq!(other, first, "{case}/{name}");
        }
    }
}
