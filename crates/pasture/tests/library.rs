//! The library as its users see it: the starter answers as its recipe computed, conversations remember, go back and
//! stop, and what does not fit is said with numbers.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test may")]
#[path = "../../../tests/kit.rs"]
mod kit;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::Ordering;

use pasture::lab::quantize::ocp;
use pasture::lab::receipt::{Change, Level, Receipt};
use pasture::model::save::Own;
use pasture::model::{Source, UnknownKeys};
use pasture::{Completion, Device, Draft, Error, Finish, KvFormat, LoadOptions, Message, Model, Precision, Tune};
use serde_json::Value;

fn starter(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../starter").join(name)
}

fn exact() -> LoadOptions {
    LoadOptions { precision: Precision::Exact, threads: Some(1), ..LoadOptions::default() }
}

fn model() -> &'static Model {
    static MODEL: OnceLock<Model> = OnceLock::new();
    MODEL.get_or_init(|| Model::open_with(starter("starter.gguf").to_str().unwrap(), &exact()).unwrap())
}

fn cases() -> Vec<(Vec<Message>, String)> {
    let expected: Value = serde_json::from_slice(&std::fs::read(starter("expected.json")).unwrap()).unwrap();
    let case = |case: &Value| {
        let messages = serde_json::from_value(case["messages"].clone()).unwrap();
        (messages, case["text"].as_str().unwrap().to_owned())
    };
    expected["cases"].as_array().unwrap().iter().map(case).collect()
}

#[test]
fn the_starter_answers_as_its_recipe_computed() {
    for (messages, text) in cases() {
        let mut session = model().session().temperature(0.0);
        session.set_messages(messages.clone());
        assert_eq!(session.answer().text().unwrap(), text, "{messages:?}");
        assert_eq!(session.messages().last().unwrap().content, text);
    }
}

#[test]
fn the_starter_inside_is_the_file() {
    let inside = Model::starter_with(&exact()).unwrap();
    let ask = |model: &Model| model.session().temperature(0.0).say("What is GGUF?").text().unwrap();
    assert_eq!(ask(&inside), ask(model()));
    assert_eq!(inside.name(), "starter");
}

#[test]
fn fast_numbers_give_the_answers_whose_lead_is_large() {
    let fast = Model::starter().unwrap();
    for (messages, text) in cases().into_iter().filter(|(_, text)| !text.contains("plus")) {
        let mut session = fast.session().temperature(0.0);
        session.set_messages(messages);
        assert_eq!(session.answer().text().unwrap(), text);
    }
}

#[test]
fn a_conversation_remembers_and_computes_only_what_is_new() {
    // No other test has asked this one anything.
    let model = Model::open_with(starter("starter.gguf").to_str().unwrap(), &exact()).unwrap();
    let mut talk = model.session().temperature(0.0);
    talk.say("My name is Anna.").text().unwrap();
    let first = talk.stats().unwrap();
    assert_eq!((first.cached_tokens, first.finish), (0, Finish::StopId(2)));
    assert_eq!(talk.say("What is my name?").text().unwrap(), "Your name is Anna.");
    let second = talk.stats().unwrap();
    // All but the answer's end token, which was chosen and never run.
    assert_eq!(second.cached_tokens, first.context_used - 1);
    assert_eq!(second.context_used, second.prompt_tokens + second.new_tokens);
    assert_eq!(second.context_limit, model.engine().context());
}

#[test]
fn a_conversation_goes_back() {
    let mut talk = model().session().system("You are a pirate.").temperature(0.0);
    let first = talk.say("what is a token").text().unwrap();
    assert_eq!(talk.regenerate().text().unwrap(), first);
    assert_eq!(talk.messages().len(), 3);
    talk.say("Hello!").text().unwrap();
    assert!(talk.undo());
    assert_eq!((talk.messages().len(), talk.messages()[2].content.as_str()), (3, first.as_str()));
    assert!(talk.drop_oldest() && !talk.drop_oldest() && !talk.undo());
    assert_eq!(talk.system_message(), Some("You are a pirate."));
    assert!(matches!(talk.regenerate().text(), Err(Error::NoQuestion)));
}

#[test]
fn a_stopped_answer_is_kept_as_far_as_it_came() {
    let mut talk = model().session().temperature(0.0);
    let mut reply = talk.say("How do I chat with a model?");
    let first = reply.next().unwrap().unwrap();
    drop(reply);
    assert_eq!(talk.messages()[1], Message::new("assistant", first));

    let mut talk = model().session().temperature(0.0);
    let cancel = talk.cancel_flag();
    let mut reply = talk.say("How do I chat with a model?");
    reply.next().unwrap().unwrap();
    cancel.store(true, Ordering::Relaxed);
    assert!(reply.all(|piece| piece.is_ok()));
    drop(reply);
    assert_eq!(talk.stats().unwrap().finish, Finish::Cancelled);
    assert_eq!(talk.say("What day comes after Monday?").text().unwrap(), "After Monday comes Tuesday.");
}

#[test]
fn a_full_context_is_said_with_numbers_and_nothing_is_lost() {
    let small = Model::starter_with(&LoadOptions { context: Some(40), ..exact() }).unwrap();
    let mut talk = small.session().temperature(0.0);
    talk.say("Hello!").text().unwrap();
    let error = talk.say("word ".repeat(30)).text().unwrap_err();
    assert!(matches!(error, Error::ContextFull { limit: 40, new: 1, prompt } if prompt > 40), "{error}");
    assert_eq!(talk.messages().len(), 2);
    let error = talk.say("How do I chat with a model?").text().unwrap_err();
    assert!(matches!(error, Error::AnswerCut { limit: 40, prompt, new } if prompt + new == 40), "{error}");
    assert_eq!(talk.messages().len(), 4, "what came is kept");
    let error = small.session().max_tokens(100).say("Hello!").text().unwrap_err();
    assert!(error.to_string().contains("100 new ones are more than its 40"), "{error}");
}

#[test]
fn settings_reach_the_sampler() {
    let ask = |seed| model().session().temperature(1.5).seed(seed).say("Who are you?").text().unwrap();
    assert_eq!(ask(7), ask(7));
    assert!((8..12).any(|seed| ask(seed) != ask(7)));
    let mut talk = model().session().temperature(0.0).stop("help");
    assert_eq!(talk.say("Hello!").text().unwrap(), "Hello! How can I ");
    let mut talk = model().session().temperature(0.0).max_tokens(3);
    talk.say("Hello!").text().unwrap();
    assert_eq!(talk.stats().map(|stats| (stats.new_tokens, stats.finish)), Some((3, Finish::MaxTokens)));
    assert!(talk.set("top_pp", &1.into()).unwrap_err().to_string().contains("top_p"));
    let error = model().session().temperature(-1.0).say("Hello!").text().unwrap_err();
    assert!(error.to_string().contains("temperature is -1"), "{error}");
}

#[test]
fn a_text_goes_on_with_its_space() {
    let completion = model().completion("A token is").unwrap().temperature(0.0).max_tokens(6);
    let text = completion.text().unwrap();
    assert!(text.starts_with(' '), "{text:?}");
    let two = completion.temperature(4.0).seed(3).answers(2).run().unwrap();
    assert!(two.len() == 2 && two[0].ids != two[1].ids);
}

#[test]
fn keys_and_values_in_half_the_bytes_change_no_clear_answer() {
    let half = Model::starter_with(&LoadOptions { kv: Some(KvFormat::F16), ..exact() }).unwrap();
    assert_eq!(half.session().temperature(0.0).say("Hello!").text().unwrap(), "Hello! How can I help you?");
}

#[test]
fn trained_weights_tell_their_published_story() {
    let Some(folder) = kit::folder("assets/weights/stories260K") else { return };
    let golden = std::fs::read(folder.join("golden.json")).unwrap();
    let golden: Value = serde_json::from_slice(&golden).unwrap();
    let open = |name: &str| Model::open_with(folder.join(name).to_str().unwrap(), &exact()).unwrap();
    let (with_text, ids_only) = (open("stories260K-f32.gguf"), open("hf"));
    for case in golden["cases"].as_array().unwrap() {
        let wanted: Vec<u32> = serde_json::from_value(case["greedy_ids"].clone()).unwrap();
        let prompt = case["prompt"].as_str().unwrap();
        let go_on = |completion: Completion| completion.temperature(0.0).ignore_end().max_tokens(wanted.len()).run();
        let told = go_on(with_text.completion(prompt).unwrap()).unwrap().remove(0);
        assert_eq!(told.ids, wanted, "{prompt:?}");
        let prompt_ids = serde_json::from_value(case["prompt_ids"].clone()).unwrap();
        assert_eq!(go_on(ids_only.completion_of_ids(prompt_ids)).unwrap()[0].ids, wanted, "{prompt:?}");
        assert_eq!(format!("{prompt}{}", told.text), case["text"].as_str().unwrap());
    }
    assert_eq!(golden["cases"][0]["text"], golden["published_text"]);
    assert!(matches!(ids_only.completion("Once"), Err(Error::NoTokenizer { .. })));
    assert!(matches!(ids_only.chat("Hello"), Err(Error::NoTokenizer { .. })));
}

#[test]
fn a_draft_changes_no_answer_and_needs_the_same_tokenizer() {
    let (device, file) = (Device::new(Some(1)), starter("starter.gguf"));
    let draft = Draft::load(file.to_str().unwrap(), &device).unwrap();
    let options = LoadOptions { draft: Some(draft.clone()), ..exact() };
    let drafted = Model::open_with(file.to_str().unwrap(), &options).unwrap();
    let ask = |model: &Model| model.session().seed(3).temperature(0.8).say("What is a token?").text().unwrap();
    assert_eq!(ask(&drafted), ask(model()));
    let counts = drafted.engine().counts();
    assert!(counts.accepted_tokens <= counts.proposed_tokens);
    let Some(kit) = kit::folder("assets/weights/stories260K") else { return };
    let other = kit.join("stories260K-f32.gguf");
    let error = Model::open_with(other.to_str().unwrap(), &options).err().unwrap();
    assert!(matches!(&error, Error::Draft { what, .. } if what.contains("token id 0 is")), "{error}");
}

#[test]
fn a_model_is_merged_quantized_asked_measured_and_saved() {
    let place = tempfile::tempdir().unwrap();
    let data = place.path().join("pirate.jsonl");
    std::fs::write(&data, "{\"prompt\": \"Who are you?\", \"completion\": \"A pirate!\"}\n".repeat(8)).unwrap();
    let tune = Tune::lora(model()).rank(2).set("steps", 4).set("held_out", 0.0).set("batch", 4);
    let adapter = tune.set("learning_rate", 0.01).run(&data).unwrap();
    let ids = [1, 271, 201, 887, 345, 302, 33, 2, 201, 1, 270, 201];
    let last = |model: &Model| {
        let rows = model.logits(&ids, &[]).unwrap().rows;
        rows.row(ids.len() - 1).to_vec()
    };
    let apart = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let merged = model().merge(&adapter).unwrap();
    let small = merged.quantize("Q8_0").unwrap();
    let (beside, plain) = (last(&model().with(&adapter)), last(model()));
    assert_eq!(last(&merged), beside, "the sum is the same");
    assert!(apart(&beside, &plain) > 1.0, "the adapter has an effect");
    assert!(apart(&last(&small), &beside) < 0.3, "{}", apart(&last(&small), &beside));
    let (file, folder) = (place.path().join("small.gguf"), place.path().join("merged"));
    let receipt = small.save_measured(&file, Level::None).unwrap();
    assert_eq!((receipt.change, receipt.base.len(), receipt.level), (Change::Quantize, 1, Level::None));
    assert_eq!(Receipt::read_beside(&file).unwrap(), Some(receipt));
    let again = |path: &Path| Model::open_with(path.to_str().unwrap(), &exact()).unwrap();
    assert_eq!(last(&again(&file)), last(&small), "the file is the model that was asked");
    merged.save_measured(&folder, Level::None).unwrap();
    assert!(apart(&last(&again(&folder)), &beside) < 1e-3);
    let questions = place.path().join("text.txt");
    std::fs::write(&questions, "A token is a small piece of text.").unwrap();
    assert!(small.eval(questions.to_str().unwrap()).unwrap().run().is_ok());
    let refused = |result: pasture::Result<Model>| result.err().unwrap().to_string();
    assert!(refused(model().quantize("Q9")).contains("no type \"Q9\""));
    assert!(refused(small.quantize("Q4_0")).contains("fewer bits already"));
    assert!(refused(small.merge(&adapter)).contains("rounded twice"));
    assert!(refused(model().with(&adapter).quantize("Q8_0")).contains("stands beside"));
    assert!(small.save(&file).unwrap_err().to_string().contains("is there already"));
    assert!(small.save(place.path().join("folder")).unwrap_err().to_string().contains("ends in .gguf"));
}

/// A small float: bits of its mantissa, bias of its exponent, its greatest number.
type Float = (i32, i32, f32);

const E4M3: Float = (3, 7, 448.0);
const E5M2: Float = (2, 15, 57344.0);

/// How far a value may be from the nearest number of a float format under a scale.
fn bound(value: f32, scale: f32, (mantissa, bias, greatest): Float) -> f32 {
    let (relative, least) = (2f32.powi(-mantissa - 1), 2f32.powi(-bias - mantissa) * scale);
    (value.abs() * relative).max(least).max(value.abs() - greatest * scale) * 1.000_01
}

/// Scales of a row's blocks: how many values share one, and one for a block's largest magnitude.
type Scales = (usize, fn(f32, Float) -> f32);

const BLOCKS: Scales = (32, |largest, (_, _, greatest)| 2f32.powf(largest.log2().floor() - greatest.log2().floor()));
const ROWS: Scales = (usize::MAX, |largest, (_, _, greatest)| largest / greatest);
const NONE: Scales = (usize::MAX, |_, _| 1.0);

#[test]
fn folders_of_every_ocp_format_hold_the_nearest_numbers_and_run() {
    let place = tempfile::tempdir().unwrap();
    let base = Model::starter_source().unwrap();
    let survey = pasture::model::survey(&base).unwrap();
    let ids = [1, 271, 201, 887, 345, 302, 33, 2, 201, 1, 270, 201];
    let logits = |model: &Model| model.logits(&ids, &[]).unwrap().rows.values().to_vec();
    let wanted = logits(model());
    let size = wanted.iter().map(|value| value * value).sum::<f32>().sqrt();
    for (name, float, (width, scale), far) in [
        ("MXFP8", E4M3, BLOCKS, 0.05),
        ("MXFP8_E5M2", E5M2, BLOCKS, 0.1),
        ("E4M3", E4M3, ROWS, 0.05),
        ("E5M2", E5M2, NONE, 0.1),
        ("MXFP6", (3, 1, 7.5), BLOCKS, 0.05),
        ("MXFP6_E3M2", (2, 3, 28.0), BLOCKS, 0.1),
        ("MXFP4", (1, 1, 6.0), BLOCKS, 0.3),
    ] {
        let ocp = ocp::named(name).unwrap();
        let folder = place.path().join(name);
        let content = Own { source: &base, survey: &survey };
        let made = ocp::write(&base, &survey, &content, &folder, ocp, 1, &mut |_, _| {}).unwrap();
        assert_eq!((made.formats[ocp.format.name()], made.fallbacks), (28, 0), "{name}");
        let again = Source::open(&folder).unwrap();
        let found = pasture::model::survey(&again).unwrap();
        for (before, after) in survey.slots.iter().zip(&found.slots).filter(|(slot, _)| slot.cols.is_some()) {
            let (was, is) = (survey.matrix(&base, before).unwrap(), found.matrix(&again, after).unwrap());
            let is_linear = before.place.slot != "embed";
            assert_eq!(
                is_linear,
                made.errors.contains_key(&after.tensor.replace("_packed", "")),
                "{name} {}",
                after.tensor
            );
            let (mut old, mut new) = (vec![0.0; was.cols()], vec![0.0; was.cols()]);
            for row in (0..was.rows()).step_by(7) {
                was.row_values(row, &mut old);
                is.row_values(row, &mut new);
                for (old, new) in old.chunks(width.min(old.len())).zip(new.chunks(width.min(new.len()))) {
                    let largest = old.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
                    let scale = if is_linear { scale(largest, float) } else { 0.0 };
                    let near = |old: f32, new: f32| {
                        (old - new).abs() <= if is_linear { bound(old, scale, float) } else { 0.0 }
                    };
                    assert!(old.iter().zip(new).all(|(old, new)| near(*old, *new)), "{name} {} {row}", after.tensor);
                }
            }
        }
        let strict = pasture::model::LoadOptions { unknown: UnknownKeys::Refuse, ..Default::default() };
        let options = LoadOptions { files: strict, ..exact() };
        let found = logits(&Model::open_with(folder.to_str().unwrap(), &options).unwrap());
        let apart = wanted.iter().zip(&found).map(|(a, b)| (a - b) * (a - b)).sum::<f32>().sqrt() / size;
        assert!(apart < far, "{name}: {apart}");
        println!("{name}: {apart}");
    }
}
