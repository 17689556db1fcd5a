//! Task files: the form of each is recognized by its first row, published variants become the same rows, and what is wrong
//! is named with file and line.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::path::Path;

use pasture_lab::evaluate::{Form, Kind, Pick, Task, open};

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn read(name: &str, text: &str) -> Result<Task, String> {
    let folder = tempfile::tempdir().unwrap();
    open(&write(folder.path(), name, text)).map_err(|error| error.to_string())
}

#[test]
fn a_form_is_recognized_by_its_fields() {
    let arc = r#"{"question": "Q", "choices": {"text": ["a", "b"], "label": ["1", "2"]}, "answerKey": "2"}"#;
    let ai2 = r#"{"id": "x", "question": {"stem": "Q", "choices": [{"text": "a", "label": "A"}, {"text": "b", "label": "B"}]}, "answerKey": "B"}"#;
    let hellaswag =
        r#"{"activity_label": "L", "ctx_a": "A.", "ctx_b": "he", "endings": ["x", "y"], "label": 1, "ind": 3}"#;
    let mmlu = r#"{"question": " Q ", "choices": ["a", "b", "c", "d"], "answer": 1, "subject": "old_maps"}"#;
    for (name, text, form, query) in [
        ("a.jsonl", arc, Form::Arc, "Question: Q\nAnswer:"),
        ("a.jsonl", ai2, Form::Arc, "Question: Q\nAnswer:"),
        ("a.json", &format!("[{hellaswag}]"), Form::Hellaswag, "L: A. He"),
        ("a.jsonl", mmlu, Form::Mmlu, "Q\nA. a\nB. b\nC. c\nD. d\nAnswer:"),
        ("old_maps_test.csv", "Q,a,b,c,d,B\n\"x, y\",1,2,3,4,A\n", Form::Mmlu, "Q\nA. a\nB. b\nC. c\nD. d\nAnswer:"),
        (
            "old_maps_val.csv",
            "question,A,B,C,D,answer\nQ,a,b,c,d,B\n",
            Form::Mmlu,
            "Q\nA. a\nB. b\nC. c\nD. d\nAnswer:",
        ),
        ("g.jsonl", r##"{"question": "Q", "answer": "A\n#### 3"}"##, Form::Gsm8k, "Question: Q\nAnswer:"),
        ("t.jsonl", r#"{"page": "P"}"#, Form::Text, "P"),
        ("t.txt", " P\n", Form::Text, " P\n"),
        ("o.jsonl", r#"{"prompt": "P", "answer": 3}"#, Form::Own, "P"),
    ] {
        let task = read(name, text).unwrap();
        assert_eq!((task.form, task.rows[0].query.as_str()), (form, query), "{text}");
        if !task.rows[0].choices.is_empty() {
            assert_eq!(task.rows[0].gold, 1, "{text}");
        }
        if form == Form::Mmlu {
            let about = "The following are multiple choice questions (with answers) about old maps.\n\n";
            assert_eq!(task.rows[0].description, about, "{text}");
        }
    }
}

#[test]
fn settings_of_an_own_task_have_an_effect() {
    let settings = r#"{"task": {"name": "n", "description": "D\n", "delimiter": "", "shots": 2, "pick": "random", "seed": 7, "until": ["."], "max_tokens": 9, "scorers": ["f1", "json"]}}"#;
    let task = read("o.jsonl", &format!("{settings}\n{{\"prompt\": \"P\", \"answer\": [\"a\", \"b\"]}}\n")).unwrap();
    assert_eq!((task.name.as_str(), task.delimiter.as_str(), task.shots), ("n", "", 2));
    assert_eq!((task.pick, task.rows[0].description.as_str(), task.rows[0].right.len()), (Pick::Random(7), "D\n", 2));
    let Kind::Generate { until, max_tokens, measures } = task.kind else { panic!("answers are written") };
    assert_eq!((until, max_tokens), (vec![".".to_owned()], 9));
    assert_eq!(measures.iter().map(|measure| measure.name.as_str()).collect::<Vec<_>>(), ["f1", "json"]);
}

#[test]
fn what_is_wrong_is_named() {
    let own = |settings: &str| format!("{{\"task\": {settings}}}\n{{\"prompt\": \"P\", \"answer\": \"a\"}}\n");
    for (text, said) in [
        (String::new(), "no rows"),
        (r#"{"foo": 1}"#.to_owned(), "no form of tasks has the fields [\"foo\"]"),
        ("[1]".to_owned(), "no form of tasks"),
        (r#"{"task": {}}"#.to_owned(), "settings and no rows"),
        (own(r#"{"untill": ["x"]}"#), "did you mean \"until\"?"),
        (own(r#"{"metric": "acc"}"#), "\"scorers\" names these"),
        (own(r#"{"scorers": ["bleu"]}"#), "known are exact, regex"),
        (own(r#"{"scorers": []}"#), "\"scorers\" is empty"),
        (own(r#"{"extract": "(?=x)"}"#), "look-around"),
        (own(r#"{"seed": 3}"#), "needs \"pick\""),
        (own(r#"{"max_tokens": -1}"#), "no whole number"),
        (r#"{"prompt": "P", "answer": "c", "choices": ["a", "b"]}"#.to_owned(), "none of the choices"),
        (r#"{"prompt": "P", "answer": 2, "choices": ["a", "b"]}"#.to_owned(), "none of the choices"),
        (r#"{"prompt": "P", "answer": "a", "anwser": "b"}"#.to_owned(), "did you mean \"answer\"?"),
        (r#"{"question": "Q", "choices": ["a"], "answer": 0}"#.to_owned(), "MMLU has four"),
        (r#"{"question": "Q", "choices": ["a", "b", "c", "d"], "answer": 4}"#.to_owned(), "number 4"),
        (r#"{"question": "Q", "choices": {"text": ["a"], "label": ["A"]}, "answerKey": "B"}"#.to_owned(), "answerKey"),
        ("{\"prompt\": \"P\", \"answer\": \"a\"}\n{\"prompt\"".to_owned(), "line 2"),
    ] {
        let error = read("x.jsonl", &text).unwrap_err();
        assert!(error.contains(said), "{text}: {error}");
    }
    assert!(open("gsm8k").unwrap_err().to_string().contains("give your file as gsm8k:FILE"));
    assert!(read("x.txt", " \n").unwrap_err().contains("no text"));
}
