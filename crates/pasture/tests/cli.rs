//! What the program says and how it ends, verb by verb, where no model has to run.
#![forbid(unsafe_code)]

use std::path::Path;
use std::process::{Command, Output};

/// Runs the program in an empty folder with an empty environment and the given variables.
fn pasture_with(folder: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pasture"))
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .env("HOME", folder)
        .envs(variables.iter().copied())
        .stdin(std::process::Stdio::null())
        .output()
        .expect("the program that was built runs")
}

/// Runs a conversation through a pipe, and gives both outputs.
fn said(arguments: &[&str], lines: &str) -> (Option<i32>, String, String) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("lines.txt"), lines).expect("lines can be written");
    let output = Command::new(env!("CARGO_BIN_EXE_pasture"))
        .args(arguments)
        .env_clear()
        .env("HOME", folder.path())
        .stdin(std::fs::File::open(folder.path().join("lines.txt")).expect("lines can be read"))
        .output()
        .expect("the program that was built runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// Checks status, and that both outputs hold what they must.
fn check(variables: &[(&str, &str)], arguments: &[&str], status: i32, out: &str, err: &str) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = pasture_with(folder.path(), variables, arguments);
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let shown = format!("{arguments:?}: {:?}\n{stdout}\n{stderr}", output.status);
    assert_eq!(output.status.code(), Some(status), "{shown}");
    assert!(stdout.contains(out), "standard output lacks {out:?}: {shown}");
    assert!(stderr.contains(err), "standard error lacks {err:?}: {shown}");
}

#[test]
fn every_verb_explains_itself_with_an_example() {
    let verbs = [
        "chat",
        "generate",
        "tokenize",
        "detokenize",
        "template",
        "show",
        "list",
        "pull",
        "push",
        "search",
        "check",
        "logits",
        "bench",
        "plan",
        "prepare",
        "embed",
        "data",
        "serve",
        "keys",
        "ps",
        "stop",
        "config",
        "doctor",
        "completions",
        "man",
    ];
    for verb in verbs {
        check(&[], &[verb, "--help"], 0, "Example", "");
    }
}

#[test]
fn the_status_says_what_was_wrong() {
    for (arguments, status, err) in [
        (&["sing"][..], 2, "unrecognized subcommand"),
        (&["show", "no/such/model.gguf"], 66, "no/such/model.gguf"),
        (&["generate", "x.gguf", "hello", "--top-p", "7"], 2, "at most 1"),
        (&["generate", "x.gguf", "hello", "--system", "x"], 2, "--system"),
        (&["tokenize", "x", "text", "--temperature", "1"], 2, "--temperature"),
        (&["chat", "--image", "x.png"], 69, "--image"),
        (&["show", "no/such/model"], 66, "`pasture list` shows the models on this machine"),
        (&["chat", "--context", "999999"], 2, "1024 that this model was made for"),
        (&["generate", "starter"], 2, "--file FILE, or as token ids"),
        (&["logits", "starter", "--ids", "1,2", "--out", "x", "--context", "1"], 2, "more than the context of 1"),
        (&["generate", "starter", ""], 2, "has no tokens"),
        (&["generate", "starter", "--ids", "99999"], 2, "past the vocabulary of 2048"),
        (&["generate", "starter", "hi", "--stop", ""], 2, "1 to 256 bytes"),
        (&["detokenize", "starter", "--ids", "7777"], 2, "there are 2048 tokens"),
        (&["logits", "starter", "--ids", "1", "--out", "no/x"], 73, "there is no folder \"no\""),
        (&["bench", "--prompt", "0", "--tokens", "0"], 2, "there is nothing to measure"),
        (&["bench", "--prompt", "100", "--context", "64"], 2, "\"prefill 100\" takes 101 positions"),
        (&["bench", "--batch", "9", "--chunk", "8"], 2, "--chunk N allows more"),
        (&["plan", "no/such-model"], 66, "a plan fetches nothing"),
        (&["plan", "--context", "999999"], 2, "1024 that this model was made for"),
        (&["plan", "--expert-cache", "1GiB"], 2, "`--expert-cache` has no effect here"),
    ] {
        check(&[], arguments, status, "", err);
    }
}

#[test]
fn what_would_have_no_effect_is_refused() {
    for (arguments, status, err) in [
        (&["generate", "starter", "hi", "--logprobs", "2"][..], 2, "without --json"),
        (&["chat", "--logprobs", "2"], 2, "in a conversation"),
        (&["generate", "starter", "hi", "--top-p", "0.5", "--temperature", "0"], 2, "--top-p"),
        (&["tokenize", "starter", "--jsn"], 2, "write -- before it"),
    ] {
        check(&[], arguments, status, "", err);
    }
}

#[test]
fn a_setting_tells_where_it_is_from() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("pasture.toml"), "top_k = 5\nthreads = 3\n").expect("settings can be written");
    let variables = [("PASTURE_THREADS", "2")];
    let output = pasture_with(folder.path(), &variables, &["config", "--show-origin", "--temperature", "0.5"]);
    let text = String::from_utf8_lossy(&output.stdout);
    for line in ["temperature = 0.5  # flag", "threads = 2  # variable", "top_k = 5  # pasture.toml"] {
        assert!(text.contains(line), "{text} lacks {line:?}");
    }
}

#[test]
fn an_unknown_setting_names_the_nearest() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("pasture.toml"), "temprature = 0.5\n").expect("settings can be written");
    let output = pasture_with(folder.path(), &[], &["config"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{text}");
    assert!(text.contains("temprature") && text.contains("\"temperature\""), "{text}");
}

#[test]
fn a_wrong_variable_is_an_error_that_names_it() {
    check(&[("PASTURE_TOP_P", "7")], &["config"], 2, "", "PASTURE_TOP_P");
}

#[test]
fn a_mistyped_variable_is_an_error_that_names_the_nearest() {
    check(&[("PASTURE_TEMPRATURE", "1")], &["config"], 78, "", "did you mean PASTURE_TEMPERATURE");
    check(&[("PASTURE_ISA", "abacus")], &["doctor"], 78, "", "this processor has scalar");
}

#[test]
fn the_starter_has_a_name() {
    check(&[], &["tokenize", "starter", "--", "--jsn"], 0, "\"j\"", "");
    check(&[], &["show", "starter", "--json"], 0, "\"parameters\":3672320", "");
    check(&[], &["generate", "starter", "A token is", "--temperature", "0", "-n", "4"], 0, " a small piece of\n", "");
}

#[test]
fn a_quantized_folder_is_shown_with_its_method_and_its_numbers() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/prequantized");
    for (case, method) in [
        ("fp8_block", "fp8: E4M3 under a scale for each 32x64"),
        ("fp8_tensor", "fp8: E4M3 under a scale of the tensor or of each row"),
        ("compressed_fp8", "compressed-tensors: E4M3 under a scale of the tensor or of each row"),
        ("bnb_nf4", "bitsandbytes: NF4"),
        ("bnb_fp4", "bitsandbytes: FP4"),
        ("bnb_int8", "bitsandbytes: INT8 under a scale for each row"),
    ] {
        let folder = format!("{root}/{case}");
        check(&[], &["show", &folder], 0, &format!("quantization  {method}\n"), "");
        check(&[], &["show", &folder, "--strict", "--json"], 0, "\"parameters\":106816,", "");
    }
}

#[test]
fn an_answer_that_does_not_end_by_itself_says_so() {
    check(&[], &["generate", "starter", "hi", "--ignore-eos"], 0, "", "ended after 256 tokens; --max-tokens N");
    let cut = ["generate", "starter", "hi", "--ignore-eos", "--context", "40"];
    check(&[], &cut, 1, "\n", "fills the context of 40 tokens");
    check(&[], &["generate", "starter", "hi", "--answers", "2", "-n", "3"], 0, "--- 2 of 2 ---\n", "");
    let (_, _, errors) = said(&["chat", "-n", "2"], "Hello!\n");
    assert!(errors.contains("(ended after 2 tokens; /set max_tokens N"), "{errors}");
}

#[test]
fn a_full_conversation_says_so_and_goes_on_after_compact_or_drop() {
    let arguments = ["chat", "--context", "124", "--temperature", "0"];
    let questions = "Who are you?\nWhat is GGUF?\nHow do I chat with a model?\n";
    let (status, _, errors) = said(&arguments, &format!("{questions}What is a token?\n"));
    assert_eq!(status, Some(1), "{errors}");
    for part in ["124 tokens of at most 124", "/compact", "/drop", "--context N"] {
        assert!(errors.contains(part), "{errors} lacks {part:?}");
    }
    for (room, told) in [("/compact", "the conversation is this summary"), ("/drop", "forgot the oldest question")] {
        let (status, answers, errors) = said(&arguments, &format!("{questions}{room}\nhello\n/stats\n"));
        assert_eq!(status, Some(0), "{errors}");
        assert!(errors.contains(told), "{errors}");
        assert!(
            answers.contains("Hello! How can I help you?") && answers.contains("of 124 tokens in use"),
            "{answers}"
        );
    }
    let (status, _, errors) = said(&["chat", "--context", "48"], "Who are you?\n/compact\n");
    assert_eq!(status, Some(1), "{errors}");
    assert!(errors.contains("no room for a summary") && errors.contains("/drop"), "{errors}");
}

#[test]
fn machines_get_one_object() {
    for arguments in [&["config", "--json"][..], &["doctor", "--json"], &["list", "--json"]] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let output = pasture_with(folder.path(), &[], arguments);
        let value: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
        assert!(value.is_object() && output.status.success(), "{arguments:?}");
    }
}

#[test]
fn bench_measures_what_it_is_asked_for_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let arguments = ["bench", "--prompt", "24", "-n", "3", "-d", "0,40", "--batch", "1,3", "-r", "2", "--json"];
    let output = pasture_with(folder.path(), &[], &arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    assert_eq!((&value["name"], &value["format"], &value["runs"]), (&"starter".into(), &"Q8_0".into(), &2.into()));
    let tests = value["tests"].as_array().expect("rows");
    let told: Vec<_> =
        tests.iter().map(|row| ["test", "tokens", "depth", "batch"].map(|key| row[key].clone())).collect();
    let mut wanted = Vec::new();
    for depth in [0, 40] {
        for (test, tokens, batch) in [("prefill", 24, 1), ("decode", 3, 1), ("decode", 3, 3)] {
            wanted.push([serde_json::json!(test), tokens.into(), depth.into(), batch.into()]);
        }
    }
    assert_eq!(told, wanted);
    for (row, key) in tests.iter().flat_map(|row| [(row, "tokens_per_second"), (row, "first_token_seconds")]) {
        let [least, median, most] = ["least", "median", "most"].map(|name| row[key][name].as_f64().expect("a figure"));
        assert!(0.0 < least && least <= median && median <= most, "{row}");
        assert_eq!(row[key]["runs"].as_array().map(Vec::len), Some(2), "{row}");
    }
}

#[test]
fn a_plan_is_made_of_figures_that_are_measured_once_and_stands_beside_what_is() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let run = |arguments: &[&str]| -> serde_json::Value {
        let output = pasture_with(folder.path(), &[], arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("one JSON object")
    };
    let plan = ["plan", "--context", "128", "--threads", "1", "--json"];
    let (first, second) = (run(&plan), run(&plan));
    assert_eq!(first["read_bytes_per_second"], second["read_bytes_per_second"], "the machine is measured once");
    assert!(folder.path().join(".cache/pasture/machine.json").is_file());
    let rows = first["candidates"].as_array().expect("rows");
    assert_eq!((&rows[0]["type"], &first["best"]), (&"as it is".into(), &"as it is".into()), "{first}");
    assert!(rows.iter().any(|row| row["type"] == "Q4_K_M"), "{first}");
    let bytes = |row: &serde_json::Value| row["bytes"].as_u64().expect("a size");
    assert!(rows.windows(2).all(|pair| bytes(&pair[0]) >= bytes(&pair[1])), "the largest stands first");
    for (row, key) in rows.iter().flat_map(|row| {
        let rates = ["prefill_tokens_per_second", "decode_tokens_per_second", "decode_at_context_tokens_per_second"];
        rates.map(|key| (row, key))
    }) {
        assert!(row[key].as_f64().is_some_and(|rate| rate > 0.0), "{key}: {row}");
        assert!(row["memory_bytes"]["all"].as_u64() > row["memory_bytes"]["weights"].as_u64(), "{row}");
    }
    let bench = run(&["bench", "--threads", "1", "--prompt", "8", "-n", "2", "-r", "1", "--json"]);
    for row in bench["tests"].as_array().expect("rows") {
        assert!(row["planned_tokens_per_second"].as_f64().is_some_and(|rate| rate > 0.0), "{row}");
    }
    assert!(bench["memory_planned_bytes"].as_u64() > Some(0), "{bench}");
    let told = |arguments: &[&str], wanted: &[&str]| {
        let output = pasture_with(folder.path(), &[], arguments);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && wanted.iter().all(|part| text.contains(part)), "{text}");
    };
    let bench = ["bench", "--prompt", "8", "-n", "2", "-r", "1", "--verbose", "--threads"];
    told(&[&bench[..], &["1"]].concat(), &["planned and measured: memory ", "prefill 8 ", "decode 2 "]);
    told(&[&bench[..], &["2"]].concat(), &["nothing is planned", "2 threads", "--measure"]);
    told(&["chat", "--verbose", "--threads", "1"], &["planned and actual: nothing was asked"]);
}

#[test]
fn shells_and_man_get_their_pages() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        check(&[], &["completions", shell], 0, "pasture", "");
    }
    check(&[], &["man", "chat"], 0, ".TH", "");
    check(&[], &["man", "sing"], 2, "", "no verb");
}

#[test]
fn embed_says_what_it_lacks_and_gives_one_object() {
    let last = ["embed", "starter", "hi", "there", "--pooling", "last", "--normalize=no", "--json"];
    check(&[], &last, 0, "\"pooling\":\"last\"", "");
    check(&[], &last, 0, "\"truncated\":[false,false]", "");
    for (arguments, status, err) in [
        (&["embed", "starter"][..], 2, "--file FILE, or as token ids"),
        (&["embed", "starter", "hi"], 2, "--pooling cls, mean or last"),
        (&["embed", "starter", "hi", "--pooling", "max"], 2, "cls, mean, last"),
        (&["embed", "starter", "hi", "--pooling", "last", "--query"], 2, "no prompt \"query\"; it has none"),
        (&["embed", "starter", "hi", "--pooling", "last", "--no-prompt"], 2, "`--no-prompt` has no effect"),
        (&["embed", "starter", "--ids", "1,2", "--query"], 2, "--query"),
        (&["embed", "starter", "--ids", "1,2,3", "--pooling", "last", "--context", "2"], 2, "--truncate cuts it"),
    ] {
        check(&[], arguments, status, "", err);
    }
    let cut = ["embed", "starter", "--ids", "1,2,3", "--pooling", "last", "--context", "2", "--truncate", "--json"];
    check(&[], &cut, 0, "\"tokens\":[2]", "");
}

#[test]
fn the_folder_of_data_is_one_for_all_that_is_kept_there() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let run = |arguments: &[&str]| {
        let output = pasture_with(folder.path(), &[("PASTURE_HOME", "~/p")], arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    run(&["keys", "add", "anna"]);
    std::fs::write(folder.path().join("a.toml"), "base = \"starter\"\n").expect("a file can be written");
    run(&["create", "mine", "-f", "a.toml"]);
    let there = |name: &str| folder.path().join("p").join(name).is_file();
    assert!(there("keys.sqlite") && there("assistants/mine.toml"));
    let removed = "\"removed\":true";
    assert!(!run(&["rm", "mine", "--dry-run", "--json"]).contains(removed) && there("assistants/mine.toml"));
    assert!(run(&["rm", "mine", "--yes", "--json"]).contains(removed) && !there("assistants/mine.toml"));
    assert!(!folder.path().join("~").exists());
}

/// A committed mixture of two layers with four experts each, two of them for a token.
const MIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/text/mixtral");

#[test]
fn experts_on_disk_change_no_token_and_show_says_what_they_cost() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let run = |more: &[&str]| {
        let arguments =
            ["generate", MIXTURE, "--ids", "1,7,3", "-n", "6", "--temperature", "0", "--exact", "--ignore-eos"];
        let output = pasture_with(folder.path(), &[], &[&arguments[..], more].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert_eq!(run(&["--expert-cache", "60kB"]), run(&[]));
    // Two experts of three products of 64x72 numbers in each of two layers.
    check(&[], &["show", MIXTURE, "--json"], 0, "\"read_bytes_per_token_max\":221184", "");
    check(&[], &["show", MIXTURE, "--time-disk"], 0, "GB/s of one timed read", "");
    for (arguments, status, err) in [
        (&["generate", "starter", "hi", "--expert-cache", "1GiB"][..], 2, "this model has none"),
        (&["generate", MIXTURE, "--ids", "1", "--expert-cache", "1kB"], 2, "one has 55296 bytes"),
        (&["generate", MIXTURE, "--ids", "1", "--expert-cache", "much"], 2, "as 800MB or 2GiB"),
        (&["show", "starter", "--time-disk"], 2, "`--time-disk` has no effect"),
    ] {
        check(&[], arguments, status, "", err);
    }
    // What speaks of every model is no mistake where a model is dense.
    let dense = ["generate", "starter", "A token is", "--temperature", "0", "-n", "1"];
    check(&[("PASTURE_EXPERT_CACHE", "1GiB")], &dense, 0, " a", "");
}

/// A folder with the starter's file.
fn with_a_model() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let starter = concat!(env!("CARGO_MANIFEST_DIR"), "/../../starter/starter.gguf");
    std::fs::copy(starter, folder.path().join("a.gguf")).expect("the starter can be copied");
    folder
}

/// Status, standard output and standard error of the program in a folder.
fn told_in(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = pasture_with(folder, &[], arguments);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// Files of packed weights.
fn packed_in(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder.join(".cache/pasture/packed")).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| !path.ends_with(".lock")).collect()
}

const GO_ON: [&str; 7] = ["generate", "a.gguf", "A token is", "--temperature", "0", "-n", "6"];

#[test]
fn a_prepared_model_says_the_same_and_what_is_damaged_is_left_aside() {
    let folder = with_a_model();
    let (at, run) = (folder.path(), |arguments: &[&str]| told_in(folder.path(), arguments));
    let plain = run(&GO_ON);
    assert_eq!((plain.0, plain.2.as_str()), (Some(0), ""));
    assert!(!at.join(".cache").exists(), "nothing is written unasked");
    let prepare = || run(&["prepare", "a.gguf", "--json"]);
    assert!(prepare().1.contains("\"written\":true") && prepare().1.contains("\"written\":false"));
    let [file] = &packed_in(at)[..] else { panic!("one file") };
    let good = std::fs::read(file).expect("it is there");
    assert_eq!(run(&GO_ON), plain);
    let (mut other, cut) = (good.clone(), good.len() / 2);
    other[64..cut].iter_mut().for_each(|byte| *byte ^= 0x5a);
    for (bytes, part) in [(&good[..cut], "does not end as"), (&other, "other numbers in"), (&[], "shorter than")] {
        std::fs::write(file, bytes).expect("it can be written");
        let (status, out, err) = run(&GO_ON);
        assert_eq!((status, out.as_str()), (Some(0), plain.1.as_str()));
        assert!(err.contains("its packed weights are not used") && err.contains(part), "{err}");
        assert_eq!(run(&[&GO_ON[..], &["--prepare", "off"]].concat()), plain, "it is not looked at");
        assert!(prepare().1.contains("\"written\":true"));
        assert!(std::fs::read(file).expect("it is there") == good);
    }
    let (status, out, _) = run(&["prepare", "--list", "--json"]);
    assert!(status == Some(0) && out.contains("\"state\":\"ready\"") && out.contains("\"model\":\"a.gguf\""), "{out}");
    // A model whose files changed has no packed weights any more, and those that it had are garbage.
    std::fs::copy(at.join("a.gguf"), at.join("b.gguf")).expect("it can be copied");
    std::fs::rename(at.join("b.gguf"), at.join("a.gguf")).expect("it can be moved");
    assert_eq!(run(&GO_ON), plain);
    assert!(run(&["prepare", "--list"]).1.contains("outdated"));
    assert!(run(&["gc", "--all"]).1.contains("outdated"));
    assert_eq!(packed_in(at).len(), 0);
}

#[test]
fn several_processes_prepare_one_file_and_it_can_be_removed() {
    let folder = with_a_model();
    let (at, run) = (folder.path(), |arguments: &[&str]| told_in(folder.path(), arguments));
    let auto = [&GO_ON[..], &["--prepare", "auto"]].concat();
    let all: Vec<_> = std::thread::scope(|scope| {
        let one = |_| scope.spawn(|| pasture_with(at, &[], &auto));
        let begun: Vec<_> = (0..3).map(one).collect();
        begun.into_iter().map(|one| one.join().expect("it ran")).collect()
    });
    let plain = run(&[&GO_ON[..], &["--prepare", "off"]].concat());
    for output in all {
        let shown =
            (output.status.code(), String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(shown, (Some(0), plain.1.as_str().into(), "".into()));
    }
    let [file] = &packed_in(at)[..] else { panic!("one file, and nothing else") };
    // Another model's file of the same name and form is another's still.
    std::fs::copy(at.join("a.gguf"), at.join("b.gguf")).expect("it can be copied");
    assert_eq!(run(&["prepare", "b.gguf"]).0, Some(0));
    let other = packed_in(at).into_iter().find(|path| path != file).expect("a second file");
    std::fs::copy(&other, file).expect("it can be copied");
    assert!(run(&GO_ON).2.contains("it was made of other files"));
    let (status, out, _) = run(&["prepare", "--remove", "b.gguf", "--json"]);
    assert!(status == Some(0) && out.contains("\"removed\":2"), "{out}");
    assert_eq!((run(&["prepare", "--remove", "b.gguf"]).0, packed_in(at).len()), (Some(66), 0));
    assert_eq!(run(&["prepare", "a.gguf"]).0, Some(0));
    assert!(run(&["prepare", "--remove", "--all"]).1.contains("1 file removed"));
    for (arguments, status, err) in [
        (&["prepare"][..], 2, "required"),
        (&["prepare", "starter"], 2, "cannot be prepared"),
        (&["plan", "starter", "--prepare", "auto"], 2, "`--prepare` has no effect"),
        (
            &["generate", MIXTURE, "--ids", "1", "--expert-cache", "1GiB", "--prepare", "auto"],
            2,
            "`--prepare` has no effect",
        ),
    ] {
        check(&[], arguments, status, "", err);
    }
}
