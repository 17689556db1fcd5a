//! The chat templates that pages hand down for checkpoints without one: each renders the form its family was tuned in.

#![allow(clippy::unwrap_used, reason = "a test may")]

use pasture_files::prompt::template::{Moment, Template};
use pasture_model::families;
use serde_json::json;

fn render(family: &str, roles: &[&str]) -> Result<String, String> {
    let family = families::ALL.iter().find(|page| page.name == family).expect("a page of that name");
    let template = Template::new(family.fallback.expect("a fallback")).unwrap();
    let messages: Vec<_> =
        roles.iter().map(|role| json!({"role": role, "content": format!(" {role}'s text\n")})).collect();
    let context = json!({
        "messages": messages, "bos_token": "<s>", "eos_token": "</s>",
        "add_generation_prompt": roles.last() == Some(&"user"),
    });
    let rendered = template.render(&context, Moment::date(2026, 1, 1).unwrap());
    rendered.map(|rendered| rendered.text).map_err(|fault| fault.to_string())
}

#[test]
fn each_fallback_has_its_familys_form() {
    for (family, roles, wanted) in [
        ("Llama", &["user"][..], "<s>[INST] user's text [/INST]"),
        ("Llama", &["user", "assistant"], "<s>[INST] user's text [/INST] assistant's text </s>"),
        (
            "Llama",
            &["system", "user", "assistant", "user"],
            "<s>[INST] <<SYS>>\n system's text\n\n<</SYS>>\n\n user's text [/INST] assistant's text </s>\
             <s>[INST] user's text [/INST]",
        ),
        ("Gemma", &["user"], "<s><start_of_turn>user\nuser's text<end_of_turn>\n<start_of_turn>model\n"),
        ("Gemma 2", &["user"], "<s><start_of_turn>user\nuser's text<end_of_turn>\n<start_of_turn>model\n"),
        (
            "Gemma 2",
            &["system", "user", "assistant"],
            "<s><start_of_turn>user\nsystem's text\n\nuser's text<end_of_turn>\n\
             <start_of_turn>model\nassistant's text<end_of_turn>\n",
        ),
        ("Mistral", &["user", "assistant"], "<s>[INST] user's text [/INST] assistant's text</s>"),
        ("Mistral", &["system", "user"], "<s>[INST] system's text\n\n\n user's text [/INST]"),
        ("Qwen 2", &["user"], "<|im_start|>user\n user's text\n<|im_end|>\n<|im_start|>assistant\n"),
        ("Phi-3", &["user"], "<|user|>\n user's text\n<|end|>\n<|assistant|>\n"),
        ("Phi-3.5-MoE", &["user"], "<|user|>\n user's text\n<|end|>\n<|assistant|>\n"),
        (
            "Llama 4",
            &["user"],
            "<s><|header_start|>user<|header_end|>\n\nuser's text<|eot|><|header_start|>assistant<|header_end|>\n\n",
        ),
        ("SmolLM 3", &["user"], "<|im_start|>user\n user's text\n<|im_end|>\n<|im_start|>assistant\n"),
        (
            "Granite 3",
            &["user"],
            "<|start_of_role|>user<|end_of_role|> user's text\n<|end_of_text|>\n<|start_of_role|>assistant<|end_of_role|>",
        ),
        (
            "DBRX",
            &["system", "user"],
            "<|im_start|>system\nsystem's text<|im_end|>\n<|im_start|>user\n user's text\n<|im_end|>\n\
             <|im_start|>assistant\n",
        ),
        // Nothing follows the last turn.
        (
            "DBRX",
            &["system", "user", "assistant"],
            "<|im_start|>system\nsystem's text<|im_end|>\n<|im_start|>user\n user's text\n<|im_end|>\n\
             <|im_start|>assistant\n assistant's text\n<|im_end|>",
        ),
        ("Arctic", &["user"], "<|im_start|>user\n user's text\n<|im_end|>\n<|im_start|>assistant\n"),
        ("OLMo 2", &["user"], "<s><|user|>\n user's text\n\n<|assistant|>\n"),
        ("OLMo 2", &["user", "assistant"], "<s><|user|>\n user's text\n\n<|assistant|>\n assistant's text\n</s>"),
        (
            "gpt-oss",
            &["system", "user"],
            "<|start|>system<|message|>You are ChatGPT, a large language model trained by OpenAI.\n\
             Knowledge cutoff: 2024-06\nCurrent date: 2026-01-01\n\nReasoning: medium\n\n\
             # Valid channels: analysis, commentary, final. Channel must be included for every message.<|end|>\
             <|start|>developer<|message|># Instructions\n\n system's text\n\n\n<|end|>\
             <|start|>user<|message|> user's text\n<|end|><|start|>assistant",
        ),
        ("Phi", &["user"], "Instruct: user's text\nOutput:"),
        ("Phi", &["user", "assistant"], "Instruct: user's text\nOutput: assistant's text\n"),
    ] {
        assert_eq!(render(family, roles).as_deref(), Ok(wanted), "{family}: {roles:?}");
    }
}

#[test]
fn dbrx_begins_with_its_publishers_system_text() {
    let shown = render("DBRX", &["user"]).unwrap();
    let (opening, talk) = shown.split_once("<|im_end|>\n").unwrap();
    assert_eq!(talk, "<|im_start|>user\n user's text\n<|im_end|>\n<|im_start|>assistant\n");
    assert!(opening.starts_with("<|im_start|>system\nYou are DBRX, created by Databricks. You were"), "{opening}");
    assert!(opening.ends_with("IS DIRECTLY PERTINENT TO THE USER'S QUERY."), "{opening}");
    // The mark's line and the six of the published text.
    assert_eq!((opening.lines().count(), opening.contains("up to that point.\nYOU PROVIDE")), (7, true));
}

#[test]
fn every_page_of_a_model_that_writes_has_a_fallback() {
    let without: Vec<&str> =
        families::ALL.iter().filter(|family| family.fallback.is_none()).map(|family| family.name).collect();
    assert_eq!(without, ["BERT", "XLM-RoBERTa"]);
}

#[test]
fn a_conversation_that_has_no_form_is_refused() {
    for (family, roles) in
        [("Llama", &["assistant", "user"][..]), ("Llama", &["user", "user"]), ("Gemma 2", &["user", "user"])]
    {
        let shown = render(family, roles).unwrap_err();
        assert!(shown.contains("take turns"), "{family}: {shown}");
    }
}
