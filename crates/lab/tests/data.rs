//! Rows become samples with the ids that chat would send; what is learned, cut, left out, parted and found wrong.
//! The model is the starter, whose template is that of ChatML.
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::path::{Path, PathBuf};

use pasture_files::prompt::{Conversation, Message, Prompt, Role};
use pasture_files::tokenizer::{Shown, Specials};
use pasture_lab::data::{self, Dataset, Example, Options, Prompts, Samples, Severity, TrainOn};

fn prompt() -> Prompt {
    Prompt::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../starter/starter.gguf"), None).unwrap()
}

struct File(tempfile::TempDir, PathBuf);

fn file(name: &str, text: &str) -> File {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    File(folder, path)
}

fn read(name: &str, text: &str, options: &Options) -> Result<Dataset, String> {
    let file = file(name, text);
    Dataset::read(&file.1, &prompt(), options, &mut |_| {}).map_err(|fault| fault.to_string())
}

fn examples(name: &str, text: &str, options: &Options) -> Vec<Example> {
    match read(name, text, options).unwrap().samples {
        Samples::Examples(examples) => examples,
        other => panic!("{other:?}"),
    }
}

/// What is learned, spelled out.
fn learned(example: &Example) -> String {
    let ids: Vec<u32> = example.ids.iter().zip(&example.trained).filter(|(_, t)| **t).map(|(id, _)| *id).collect();
    prompt().tokenizer().unwrap().decode(&ids, Shown::Show).unwrap()
}

const TALK: &str = r#"{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}, {"role": "user", "content": "Who are you?"}, {"role": "assistant", "content": "A tiny model."}]}"#;

#[test]
fn a_conversation_has_the_ids_that_chat_sends() {
    let example = &examples("a.jsonl", TALK, &Options::new(512))[0];
    let turns = [(Role::User, "Hi"), (Role::Assistant, "Hello."), (Role::User, "Who are you?")];
    let asked = Conversation::to_answer(turns.map(|(role, text)| Message::new(role, text)).to_vec());
    let sent = prompt().conversation(&asked).unwrap().ids;
    assert_eq!(example.ids[..sent.len()], sent[..]);
    assert!(!example.trained[sent.len() - 1] && example.trained[sent.len()]);
}

#[test]
fn answers_are_learned_with_their_ends() {
    let of = |train_on| learned(&examples("a.jsonl", TALK, &Options { train_on, ..Options::new(512) })[0]);
    assert_eq!(of(TrainOn::Answers), "Hello.<|im_end|>A tiny model.<|im_end|>");
    assert_eq!(of(TrainOn::Last), "A tiny model.<|im_end|>");
    assert!(of(TrainOn::All).starts_with("<|im_start|>") && of(TrainOn::All).contains("Who are you?"));
}

#[test]
fn marks_in_a_text_stay_text() {
    let row = r#"{"prompt": "a<|im_end|>b", "completion": "c<|im_start|>d"}"#;
    let end = prompt().tokenizer().unwrap().id("<|im_end|>").unwrap();
    for prompts in [Prompts::Chat, Prompts::Raw] {
        let example = &examples("a.jsonl", row, &Options { prompts, ..Options::new(512) })[0];
        let ends = example.ids.iter().filter(|id| **id == end).count();
        // The template writes one behind each turn; plain text has one at its end.
        assert_eq!(ends, if prompts == Prompts::Chat { 2 } else { 1 }, "{prompts:?}");
        assert_eq!(learned(example), "c<|im_start|>d<|im_end|>");
    }
}

#[test]
fn a_prompt_of_text_is_what_generate_sends() {
    let row = r#"{"prompt": "Once upon", "completion": " a time"}"#;
    let example = &examples("a.jsonl", row, &Options { prompts: Prompts::Raw, ..Options::new(512) })[0];
    let sent = prompt().tokenizer().unwrap().encode_with_special("Once upon", Specials::AsText).unwrap();
    assert_eq!(example.ids[..sent.len()], sent[..]);
    assert_eq!(example.trained.iter().position(|trained| *trained), Some(sent.len()));
}

#[test]
fn plain_text_becomes_pieces_that_lose_nothing() {
    let text = "One two three.\n\nFour five six seven.\n".repeat(20);
    let tokenizer = prompt().tokenizer().unwrap().clone();
    let pieces = examples("a.txt", &text, &Options::new(32));
    assert!(pieces.len() > 3 && pieces.iter().all(|piece| piece.ids.len() <= 32));
    let targets: Vec<u32> = pieces.iter().flat_map(|piece| piece.ids[1..].to_vec()).collect();
    let mut whole = tokenizer.encode_with_special(text.trim_end_matches('\n'), Specials::AsText).unwrap();
    whole.extend(tokenizer.eos());
    assert_eq!(targets, whole[1..]);
    assert_eq!(pieces.iter().map(Example::targets).sum::<usize>(), whole.len() - 1);
}

#[test]
fn nothing_is_cut_unless_it_is_asked_for() {
    let fault = read("a.jsonl", TALK, &Options::new(16)).unwrap_err();
    assert!(fault.contains("line 1") && fault.contains("at most 16") && fault.contains("--truncate"), "{fault}");
    let cut = examples("a.jsonl", TALK, &Options { truncate: true, ..Options::new(16) });
    assert_eq!(cut[0].ids.len(), 16);
    let fault = read("a.jsonl", TALK, &Options { truncate: true, ..Options::new(4) }).unwrap_err();
    assert!(fault.contains("nothing to learn within the first 4"), "{fault}");
}

#[test]
fn preferences_share_their_prompt() {
    let of = |row: &str| match read("a.jsonl", row, &Options::new(512)).unwrap().samples {
        Samples::Preferences(pairs) => pairs[0].clone(),
        other => panic!("{other:?}"),
    };
    let with = of(r#"{"prompt": "Hi", "chosen": "Hello.", "rejected": "Go."}"#);
    let turns = |answer: &str| {
        format!(r#"[{{"role": "user", "content": "Hi"}}, {{"role": "assistant", "content": "{answer}"}}]"#)
    };
    let without = of(&format!(r#"{{"chosen": {}, "rejected": {}}}"#, turns("Hello."), turns("Go.")));
    assert_eq!(with, without);
    let sent = prompt().conversation(&Conversation::to_answer(vec![Message::new(Role::User, "Hi")])).unwrap().ids;
    assert_eq!(with.prompt, sent);
    let [chosen, rejected] = with.examples().map(|example| learned(&example));
    assert_eq!((chosen.as_str(), rejected.as_str()), ("Hello.<|im_end|>", "Go.<|im_end|>"));
    let text = of(r#"{"chosen": "The cat sat.", "rejected": "The cat ran."}"#);
    let [chosen, rejected] = text.examples().map(|example| learned(&example));
    assert!(chosen.contains("sat") && rejected.contains("ran") && !chosen.contains("The"), "{chosen} {rejected}");
}

#[test]
fn judged_answers_keep_their_label() {
    let row = |answer: &str, label: bool| {
        format!("{{\"prompt\": \"a\", \"completion\": \"{answer}\", \"label\": {label}}}\n")
    };
    let rows = row("b", true) + &row("c", false);
    let Samples::Judged(judged) = read("a.jsonl", &rows, &Options::new(512)).unwrap().samples else { panic!("judged") };
    assert_eq!(judged.iter().map(|answer| answer.desirable).collect::<Vec<_>>(), [true, false]);
    assert_eq!(learned(&judged[0].example()), "b<|im_end|>");
}

#[test]
fn an_option_without_an_effect_is_an_error() {
    let plain = Options::new(64);
    for (row, options, wanted) in [
        (r#"{"text": "a b"}"#, Options { train_on: TrainOn::Last, ..plain.clone() }, "--train-on last"),
        (r#"{"text": "a b"}"#, Options { prompts: Prompts::Raw, ..plain.clone() }, "--prompts raw"),
        (TALK, Options { prompts: Prompts::Chat, ..plain.clone() }, "--prompts chat"),
        (
            r#"{"prompt": "a", "chosen": "b", "rejected": "c"}"#,
            Options { train_on: TrainOn::All, ..plain.clone() },
            "--train-on all",
        ),
    ] {
        let fault = read("a.jsonl", row, &options).unwrap_err();
        assert!(fault.contains(wanted) && fault.contains("no effect"), "{fault}");
    }
}

#[test]
fn wrong_rows_are_left_out_only_when_asked() {
    let silent = r#"{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": ""}]}"#;
    let rows = format!("{TALK}\n{{\n{silent}\n{TALK}\n");
    assert!(read("a.jsonl", &rows, &Options::new(512)).unwrap_err().contains("line 2"));
    let dataset = read("a.jsonl", &rows, &Options { skip_bad: true, ..Options::new(512) }).unwrap();
    assert_eq!((dataset.facts.rows, dataset.facts.skipped, dataset.samples.len()), (2, 2, 2));
    assert!(dataset.facts.reasons[1].contains("line 3") && dataset.facts.reasons[1].contains("empty"));
}

#[test]
fn a_split_is_that_of_the_rows_and_not_of_their_order() {
    let row = |n: usize| format!("{{\"prompt\": \"What is {n}?\", \"completion\": \"{n}.\"}}\n");
    let forward: String = (0..100).map(row).collect();
    let backward: String = (0..100).rev().map(row).collect();
    let held = |text: &str| {
        let (kept, held) = read("a.jsonl", text, &Options::new(64)).unwrap().split(0.1, 1);
        assert_eq!(kept.len() + held.len(), 100);
        let Samples::Examples(mut held) = held else { panic!("examples") };
        held.sort_by(|a, b| a.ids.cmp(&b.ids));
        held
    };
    assert_eq!(held(&forward), held(&backward));
    assert!((3..20).contains(&held(&forward).len()));
    let digests = |text: &str| {
        let facts = read("a.jsonl", text, &Options::new(64)).unwrap().facts;
        (facts.digest, facts.digest_unordered)
    };
    let (one, other) = (digests(&forward), digests(&backward));
    assert!(one.0 != other.0 && one.1 == other.1);
}

/// A conversation of turns by `u`ser and `a`ssistant.
fn talk(turns: &[(&str, &str)]) -> String {
    let role = |short: &str| if short == "u" { "user" } else { "assistant" };
    let turns: Vec<String> =
        turns.iter().map(|(by, text)| format!(r#"{{"role": "{}", "content": "{text}"}}"#, role(by))).collect();
    format!(r#"{{"messages": [{}]}}"#, turns.join(", "))
}

#[test]
fn a_check_names_every_problem_by_its_line() {
    let rows = [
        talk(&[("u", "a"), ("a", "b")]),
        talk(&[("u", "a"), ("a", "b")]),
        talk(&[("u", "A!"), ("a", "b")]),
        talk(&[("u", "a"), ("a", " ")]),
        talk(&[("u", "a"), ("u", "b"), ("a", "c")]),
        talk(&[("u", "<|im_end|>"), ("a", "e")]),
        "{".into(),
        r#"{"text": "a"}"#.into(),
        talk(&[("u", &"long ".repeat(30)), ("a", "f")]),
    ];
    let file = file("a.jsonl", &rows.join("\n"));
    let prompt = prompt();
    let found = data::check(&file.1, Some(&prompt), &Options::new(24), &mut |_| {}).unwrap();
    let told: Vec<(usize, Severity, &str)> =
        found.problems.iter().map(|problem| (problem.line.unwrap(), problem.severity, problem.what.as_str())).collect();
    use Severity::{Error, Warning};
    for (line, severity, part) in [
        (2, Warning, "the same as line 1"),
        (3, Warning, "nearly the same as line 1"),
        (4, Error, "message 2: the answer is empty"),
        (5, Warning, "message 2: the user speaks twice in a row"),
        (6, Warning, "<|im_end|>"),
        (7, Error, "JSON"),
        (8, Error, "a row of text"),
        (9, Error, "at most 24"),
    ] {
        let hit = told.iter().any(|(at, how, what)| *at == line && *how == severity && what.contains(part));
        assert!(hit, "line {line}: {part:?} in {told:#?}");
    }
    assert_eq!((found.duplicates, found.near_duplicates), (1, 1));
}

#[test]
fn files_are_parted_and_freed_of_repetitions() {
    let rows: String = (0..40).map(|n| format!("{{\"prompt\": \"{}\", \"completion\": \"x\"}}\n", n % 20)).collect();
    let file = file("a.jsonl", &rows);
    let into = |name: &str| file.0.path().join(name);
    let found = data::deduplicate(&file.1, None, data::Sameness::Exact, Some(&into("once.jsonl"))).unwrap();
    assert_eq!((found.rows, found.duplicates, found.kept, found.pairs[0]), (40, 20, 20, (21, 1)));
    let sides = [&*into("train.jsonl"), &*into("held.jsonl")];
    let parted = data::split(&into("once.jsonl"), None, 0.2, 5, Some(sides)).unwrap();
    let lines = |name: &str| std::fs::read_to_string(into(name)).unwrap().lines().count();
    assert_eq!((lines("train.jsonl"), lines("held.jsonl")), (parted.kept, parted.held_out));
    assert_eq!(parted.kept + parted.held_out, 20);
    assert!(parted.held_out > 0);
}
