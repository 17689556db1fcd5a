//! Pulling as users do: processes that are killed, eight of them at once, a conversation with a model that is not here
//! yet, disks that are full, registries. The hub is on loopback. `PASTURE_KILLS=200` kills more often, `PASTURE_FULL=200`
//! has the disk full at each of the first 200 writes.
#![forbid(unsafe_code)]

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use pasture_testhub::{Content, Gate, Hub, Lie, Repo, sha256};

const MIB: u64 = 1 << 20;
/// What a kill may cost at most.
const LOST_MAX: u64 = 16 * MIB;

fn program(hub: &Hub, home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pasture"));
    command.args(arguments).current_dir(home).env_clear().env("HOME", home).env("HF_ENDPOINT", hub.url());
    command.env("PASTURE_RECEIPT", "none");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(hub: &Hub, home: &Path, arguments: &[&str]) -> Output {
    program(hub, home, arguments).output().expect("the program that was built runs")
}

fn check(output: &Output, status: i32, out: &str, err: &str) {
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(status), "{stdout}\n{stderr}");
    assert!(stdout.contains(out) && stderr.contains(err), "{out:?} {err:?}:\n{stdout}\n{stderr}");
}

fn home() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn starter() -> Content {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../starter/starter.gguf");
    Content::of(fs::read(path).expect("the starter can be read"))
}

fn repository(home: &Path, name: &str) -> PathBuf {
    home.join(".cache/huggingface/hub").join(format!("models--{}", name.replace('/', "--")))
}

/// Nothing has a final name that does not hold what it says.
fn check_blobs(home: &Path, digest: &str) -> bool {
    let blob = repository(home, "lab/model").join("blobs").join(digest);
    let Ok(bytes) = fs::read(blob) else { return false };
    assert_eq!(sha256(&Content::of(bytes)), digest);
    true
}

#[test]
fn a_pull_that_is_killed_again_and_again_ends_with_the_right_file() {
    let wanted: u32 = std::env::var("PASTURE_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(20);
    let hub = Hub::start();
    let weights = Content::Made { seed: 11, length: 64 * MIB + 3 };
    let (size, digest) = (weights.length(), sha256(&weights));
    hub.put(Repo::new("lab/model").small("config.json", "{}").large("model.safetensors", weights));
    hub.pace(24 * MIB);
    let (mut state, mut kills, mut pulls, mut most) = (0x5eed_u64, 0, 0, 0);
    while kills < wanted {
        let home = home();
        hub.forget();
        let mut here = 0;
        loop {
            let mut child = program(&hub, home.path(), &["pull", "lab/model"]).spawn().expect("it starts");
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            std::thread::sleep(Duration::from_millis(20 + (state >> 33) % 400));
            let ended = child.try_wait().expect("it can be asked").is_some();
            if !ended && kills < wanted {
                child.kill().expect("it can be killed");
                child.wait().expect("it ends");
                (kills, here) = (kills + 1, here + 1);
                check_blobs(home.path(), &digest);
                continue;
            }
            let output = child.wait_with_output().expect("it ends");
            check(&output, 0, "lab/model", "");
            break;
        }
        pulls += 1;
        assert!(check_blobs(home.path(), &digest));
        let twice = hub.sent("/large/").saturating_sub(size);
        most = most.max(twice / here.max(1));
        assert!(twice <= here * LOST_MAX, "{twice} bytes came twice after {here} kills");
        let left = fs::read_dir(repository(home.path(), "lab/model").join("blobs")).expect("blobs").count();
        assert_eq!(left, 2, "something is left beside the blobs");
    }
    println!("{kills} kills in {pulls} pulls; at most {most} bytes a kill came twice in one of them");
}

#[test]
fn eight_processes_fetch_one_copy() {
    let (hub, home) = (Hub::start(), home());
    let weights = Content::Made { seed: 5, length: 24 * MIB };
    let (size, digest) = (weights.length(), sha256(&weights));
    hub.put(Repo::new("lab/model").small("config.json", "{}").large("model.safetensors", weights));
    hub.pace(16 * MIB);
    let children: Vec<Child> =
        (0..8).map(|_| program(&hub, home.path(), &["pull", "lab/model"]).spawn().expect("it starts")).collect();
    for child in children {
        check(&child.wait_with_output().expect("it ends"), 0, "lab/model", "");
    }
    assert_eq!(hub.sent("/large/"), size);
    assert!(check_blobs(home.path(), &digest));
}

/// The same, with the `number`-th call of a kind refused because the disk is full.
fn on_a_full_disk(hub: &Hub, home: &Path, call: &str, number: usize) -> Output {
    let pull = program(hub, home, &["pull", "lab/model"]);
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}")]);
    command.args(["-e", &format!("inject={call}:error=ENOSPC:when={number}")]);
    command.arg(pull.get_program()).args(pull.get_args()).current_dir(home).env_remove("PASTURE_FULL");
    command.env("HOME", home).env("HF_ENDPOINT", hub.url()).output().expect("strace runs")
}

#[test]
fn a_disk_that_is_full_stops_a_pull_and_the_next_one_goes_on() {
    if Command::new("strace").arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
        println!("skipped: no strace");
        return;
    }
    let all = std::env::var("PASTURE_FULL").ok().and_then(|text| text.parse::<usize>().ok());
    let numbers: Vec<usize> = all.map_or_else(|| vec![1, 2, 3, 5, 8, 13, 34], |last| (1..=last).collect());
    let hub = Hub::start();
    let (weights, other) = (Content::Made { seed: 2, length: 9 * MIB + 1 }, Content::Made { seed: 4, length: MIB });
    let (size, digest) = (weights.length(), sha256(&weights));
    let is_whole = |home: &Path| {
        let blob = repository(home, "lab/other").join("blobs").join(sha256(&other));
        assert!(fs::read(blob).is_ok_and(|bytes| bytes == other.read(0, usize::MAX >> 1)), "another model is damaged");
        check_blobs(home, &digest)
    };
    hub.put(Repo::new("lab/model").small("config.json", "{}").large("model.safetensors", weights.clone()));
    hub.put(Repo::new("lab/other").small("config.json", "{}").large("model.safetensors", other.clone()));
    let mut stopped = 0;
    for call in ["pwrite64", "write"] {
        for number in &numbers {
            let home = home();
            check(&run(&hub, home.path(), &["pull", "lab/other"]), 0, "", "");
            hub.forget();
            let output = on_a_full_disk(&hub, home.path(), call, *number);
            let text = String::from_utf8_lossy(&output.stderr);
            let (status, place) = (output.status.code(), format!("{call} {number}: {text}"));
            let was_here = is_whole(home.path());
            if status != Some(0) {
                assert_eq!(status, Some(74), "{place}");
                assert!(call == "write" || text.contains("No space left") && text.contains("make room"), "{place}");
                stopped += 1;
            }
            assert!(was_here || status != Some(0), "{place}");
            check(&run(&hub, home.path(), &["pull", "lab/model"]), 0, "lab/model", "");
            assert!(is_whole(home.path()));
            assert!(hub.sent("/large/") <= size + LOST_MAX, "{place}");
        }
    }
    assert!(stopped > 4, "{stopped} pulls were stopped");
    println!("{stopped} pulls were stopped");
}

#[test]
fn a_conversation_fetches_its_model_once_and_then_needs_no_network() {
    let (hub, home) = (Hub::start(), home());
    hub.put(Repo::new("lab/tiny").tag("license:mit").small("README.md", "x").large("tiny-F16.gguf", starter()));
    let output = run(&hub, home.path(), &["chat", "lab/tiny"]);
    check(&output, 66, "", "GGUF, F16");
    check(&output, 66, "", "`pasture pull lab/tiny` fetches it");
    let output = run(&hub, home.path(), &["--pull=never", "chat", "lab/tiny"]);
    check(&output, 66, "", "there is no model");
    assert_eq!(hub.sent("/large/"), 0);
    let generate = ["generate", "lab/tiny", "Once", "--max-tokens", "2", "--temperature", "0"];
    let first = run(&hub, home.path(), &[&["--pull"], &generate[..]].concat());
    check(&first, 0, "", "licence: MIT License (https://");
    hub.forget();
    let second = run(&hub, home.path(), &generate);
    check(&second, 0, "", "");
    assert_eq!((first.stdout, hub.seen().len()), (second.stdout, 0), "the second start asks nobody");
    check(&run(&hub, home.path(), &["show", "lab/tiny"]), 0, "", "");
    check(&run(&hub, home.path(), &["show", "folder/none.gguf"]), 66, "", "");
    fs::create_dir(home.path().join("folder")).expect("a folder");
    check(&run(&hub, home.path(), &["show", "folder/none"]), 66, "", "");
    check(&run(&hub, home.path(), &["show", "nothing"]), 66, "", "");
    assert!(hub.seen().is_empty(), "{:?}", hub.seen());
}

#[test]
fn what_a_pull_will_do_is_told_before_and_while_it_does() {
    let (hub, home) = (Hub::start(), home());
    let rows = ["m-Q4_K_M.gguf", "m-Q8_0.gguf"].map(|path| (path, Content::Made { seed: 1, length: MIB }));
    let repo = rows.iter().fold(Repo::new("lab/m"), |repo, (path, content)| repo.large(path, content.clone()));
    hub.put(repo.small("README.md", "x"));
    let dry = run(&hub, home.path(), &["pull", "hf:lab/m:Q8_0", "--dry-run"]);
    check(&dry, 0, "m-Q8_0.gguf     1.0 MiB", "the only model of Q8_0");
    assert!(!repository(home.path(), "lab/m").exists(), "a dry run writes nothing");
    let output = run(&hub, home.path(), &["pull", "lab/m", "--json"]);
    check(&output, 0, "\"event\":\"done\"", "");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let events: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect();
    assert_eq!((&events[0]["event"], &events[0]["license"]), (&"plan".into(), &serde_json::Value::Null));
    assert!(events[0]["why"].as_str().is_some_and(|why| why.contains("Q4_K_M of 2 models")), "{text}");
    assert_eq!(events.iter().filter(|event| event["event"] == "file").count(), 2);
    check(
        &run(&hub, home.path(), &["pull", "lab/m", "--include", "*.md", "--revision", "refs/pr/1"]),
        0,
        "lab/m@refs",
        "",
    );
    check(&run(&hub, home.path(), &["pull", "lab/m", "--include", "*.txt"]), 2, "", "no file is like \"*.txt\"");
    check(&run(&hub, home.path(), &["pull", "lab/m", "--revision", "none"]), 66, "", "revision lab/m@none");
    check(&run(&hub, home.path(), &["pull", "lab/none"]), 66, "", "no repository lab/none");
    check(&run(&hub, home.path(), &["pull", "nothing"]), 66, "", "no repository nothing");
    check(&run(&hub, home.path(), &["pull", "lab/m", "--to", "x"]), 2, "", "`--to` has no effect");
    check(&run(&hub, home.path(), &["pull", "../x"]), 2, "", "is no name to pull");
    hub.put(Repo::new("lab/closed").gate(Gate::Gated).small("config.json", "{}").small("model.safetensors", "x"));
    check(&run(&hub, home.path(), &["pull", "lab/closed"]), 69, "", "/lab/closed while signed in, then set HF_TOKEN");
    let search = run(&hub, home.path(), &["search", "LAB", "closed"]);
    check(&search, 0, "lab/closed", "");
    assert!(!String::from_utf8_lossy(&search.stdout).contains("lab/m "));
    hub.lie("/api/", Lie::Html, 1);
    check(&run(&hub, home.path(), &["search", "lab"]), 65, "", "no sound answer");
}

#[test]
fn a_registry_gives_a_model_that_is_found_by_its_name() {
    let (hub, home) = (Hub::start(), home());
    let (model, config) = (starter(), Content::of("{}"));
    let kind = "application/vnd.ollama.image.model";
    let row = |content: &Content, kind: &str| {
        let (digest, size) = (sha256(content), content.length());
        format!("{{\"mediaType\":\"{kind}\",\"digest\":\"sha256:{digest}\",\"size\":{size}}}")
    };
    let manifest = format!(
        "{{\"schemaVersion\":2,\"config\":{},\"layers\":[{}]}}",
        row(&config, "application/json"),
        row(&model, kind)
    );
    for owner in ["lab", "locked"] {
        let mut images = hub.state().images();
        images.insert(format!("{owner}/m/manifests/v1"), Content::of(&manifest));
        for content in [&model, &config] {
            images.insert(format!("{owner}/m/blobs/sha256:{}", sha256(content)), content.clone());
        }
    }
    let address = hub.address();
    for owner in ["lab", "locked"] {
        let output = run(&hub, home.path(), &["pull", &format!("oci:{address}/{owner}/m:v1")]);
        let name = format!("{}/{owner}/m:v1", address.to_string().replace(':', "_"));
        check(&output, 0, &name, "");
        check(&run(&hub, home.path(), &["show", &name]), 0, "", "");
    }
    let missing = run(&hub, home.path(), &["pull", &format!("oci:{address}/lab/m:v2")]);
    check(&missing, 66, "", "image 127.0.0.1");
    hub.lie("/manifests/", Lie::Say("{\"schemaVersion\":2}".into()), 1);
    let broken = run(&hub, home.path(), &["pull", &format!("oci:{address}/lab/m:v1")]);
    check(&broken, 65, "", "names no configuration");
}

/// With `PYTHON_WITH_HF` naming a Python that has huggingface_hub.
#[test]
fn huggingface_hub_reads_what_was_pulled_and_the_reverse() {
    let Some(python) = std::env::var_os("PYTHON_WITH_HF") else {
        eprintln!("skipped: PYTHON_WITH_HF names no Python with huggingface_hub");
        return;
    };
    let hub = Hub::start();
    let repo =
        Repo::new("lab/tiny").tag("license:mit").small("README.md", "a card").small("1_Pooling/config.json", "{}");
    hub.put(repo.large("tiny-F16.gguf", starter()));
    let script = |home: &Path, text: &str| {
        let mut command = Command::new(&python);
        command.args(["-c", text]).env_clear().env("HOME", home).env("HF_ENDPOINT", hub.url());
        let output = command.env("HF_HUB_DISABLE_XET", "1").output().expect("Python runs");
        check(&output, 0, "fine", "");
    };
    let ours = home();
    check(&run(&hub, ours.path(), &["pull", "lab/tiny", "--include", "*"]), 0, "lab/tiny", "");
    hub.forget();
    script(
        ours.path(),
        "from huggingface_hub import snapshot_download, hf_hub_download, scan_cache_dir\n\
         import os\n\
         folder = snapshot_download('lab/tiny', local_files_only=True)\n\
         assert sorted(os.listdir(folder)) == ['1_Pooling', 'README.md', 'tiny-F16.gguf'], os.listdir(folder)\n\
         assert open(hf_hub_download('lab/tiny', 'README.md', local_files_only=True)).read() == 'a card'\n\
         found = scan_cache_dir()\n\
         assert not found.warnings and len(found.repos) == 1, found.warnings\n\
         print('fine')",
    );
    assert_eq!(hub.sent("/large/") + hub.sent("/resolve/"), 0);
    // The files that we fetched are no reason for it to fetch them again.
    script(ours.path(), "from huggingface_hub import snapshot_download\nsnapshot_download('lab/tiny')\nprint('fine')");
    assert_eq!(hub.sent("/large/"), 0);
    let theirs = home();
    script(
        theirs.path(),
        "from huggingface_hub import snapshot_download\nsnapshot_download('lab/tiny')\nprint('fine')",
    );
    hub.forget();
    check(&run(&hub, theirs.path(), &["show", "lab/tiny"]), 0, "", "");
    assert!(hub.seen().is_empty());
    check(&run(&hub, theirs.path(), &["pull", "lab/tiny"]), 0, "lab/tiny", "all of it is here");
    assert_eq!(hub.sent("/large/") + hub.sent("/resolve/"), 0);
    // What we push to the same hub is theirs to read.
    let mut push = program(&hub, ours.path(), &["push", "starter", "hf:lab/mine"]);
    check(&push.env("HF_TOKEN", "hf_test_token").output().expect("it runs"), 0, "lab/mine", "");
    script(
        home().path(),
        "from huggingface_hub import snapshot_download\n\
         import os\n\
         folder = snapshot_download('lab/mine', token='hf_test_token')\n\
         assert sorted(os.listdir(folder)) == ['README.md', 'starter.gguf'], os.listdir(folder)\n\
         print('fine', os.path.getsize(os.path.join(folder, 'starter.gguf')))",
    );
}

/// What a model answers in a conversation of one question.
fn chatted(hub: &Hub, home: &Path, arguments: &[&str]) -> String {
    let mut child = program(hub, home, arguments).stdin(Stdio::piped()).spawn().expect("it starts");
    child.stdin.take().expect("a pipe").write_all(b"What is the ship called?\n").expect("it listens");
    let output = child.wait_with_output().expect("it ends");
    check(&output, 0, "", "");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn an_assistant_that_was_pushed_comes_whole() {
    let (hub, here) = (Hub::start(), home());
    let says = |arguments: &[&str]| check(&run(&hub, here.path(), arguments), 0, "", "");
    fs::write(here.path().join("grazer.gguf"), starter().read(0, usize::MAX >> 1)).expect("the starter can be copied");
    says(&["export", "grazer.gguf", "--to", "folder"]);
    let line = |at: usize| format!("{{\"text\": \"line {at} says {} and {}\"}}\n", at * 7 % 13, at % 5);
    fs::write(here.path().join("data.jsonl"), (0..8).map(line).collect::<String>()).expect("data can be written");
    fs::write(here.path().join("ship.txt"), "The ship is called Wool.\n").expect("a document can be written");
    let tune = ["tune", "grazer.gguf", "data.jsonl", "--out", "adapter", "--steps", "4", "--batch", "4", "--rank", "2"];
    says(&[&tune[..], &["--learning-rate", "0.02", "--report=false", "--held-out", "0"]].concat());
    for (name, base) in [("one", "grazer.gguf"), ("two", "folder")] {
        let text = format!(
            "base = {base:?}\nsystem = \"You are a pirate.\"\ndocuments = [\"ship.txt\"]\nadapters = [\"adapter\"]\n\
             [settings]\ntemperature = 0\nmax_tokens = 12\n"
        );
        fs::write(here.path().join("a.toml"), text).expect("an assistant can be written");
        says(&["create", name, "-f", "a.toml"]);
        let repo = format!("lab/{name}");
        let mut push = program(&hub, here.path(), &["push", name, &format!("hf:{repo}"), "--public"]);
        check(&push.env("HF_TOKEN", &hub.state().token).output().expect("it runs"), 0, &repo, "");
        hub.state().repos().get_mut(&repo).expect("it is there").add("notes/other.bin", Content::of("x"), true);
        let answer = chatted(&hub, here.path(), &["chat", name]);
        let there = home();
        let pulled = run(&hub, there.path(), &["pull", &repo]);
        check(&pulled, 0, &repo, "an assistant with all that it is made of");
        assert_eq!(chatted(&hub, there.path(), &["chat", &repo]), answer, "{repo}");
        let snapshots = repository(there.path(), &repo).join("snapshots");
        let snapshot = fs::read_dir(snapshots).expect("a snapshot").flatten().next().expect("a snapshot").path();
        assert!(snapshot.join("adapters/0/adapter_model.safetensors").is_file() && !snapshot.join("notes").exists());
        // A conversation fetches the same by itself.
        let elsewhere = home();
        assert_eq!(chatted(&hub, elsewhere.path(), &["--pull", "chat", &repo]), answer, "{repo}");
        let plain = chatted(&hub, here.path(), &["chat", base, "--temperature", "0", "--max-tokens", "12"]);
        assert!(answer != plain, "{answer}");
    }
    hub.put(Repo::new("lab/thin").small("assistant.toml", "base = \"owner/base\"\n").large("m.gguf", starter()));
    check(&run(&hub, here.path(), &["pull", "lab/thin"]), 2, "", "made of \"owner/base\", which is not in it");
    hub.put(Repo::new("lab/bad").small("assistant.toml", "base").large("m.gguf", starter()));
    check(&run(&hub, here.path(), &["pull", "lab/bad"]), 2, "", "its \"assistant.toml\"");
    check(&run(&hub, here.path(), &["pull", "lab/bad:m.gguf"]), 0, "lab/bad:m.gguf", "");
}

#[test]
fn on_which_terms_a_model_comes_is_told_before_it_is_fetched() {
    let (hub, home) = (Hub::start(), home());
    let told = |repo: Repo, wanted: &[&str]| {
        let name = repo.name.clone();
        hub.put(repo.small("config.json", "{}").large("model.safetensors", Content::of("x")));
        let output = run(&hub, home.path(), &["pull", &name, "--dry-run"]);
        wanted.iter().for_each(|part| check(&output, 0, "", part));
        let object = run(&hub, home.path(), &["pull", &name, "--dry-run", "--json"]);
        serde_json::from_slice::<serde_json::Value>(&object.stdout).expect("one object")["terms"].clone()
    };
    let advice = "no legal advice";
    let llama = ["licence: Llama 3.2 Community License (https://", "it asks: up to 700 million", advice];
    let terms = told(Repo::new("lab/a").tag("license:llama3.2"), &llama);
    assert_eq!((&terms["licences"][0]["id"], &terms["unknown"]), (&"llama3.2".into(), &serde_json::json!([])));
    assert!(terms["asks"].as_array().is_some_and(|asks| asks.len() > 3), "{terms}");
    // A card counts where the hub has not read it, and a text where the card says nothing.
    told(Repo::new("lab/b").small("README.md", "---\nlicense: other\nlicense_name: gemma\n---\n"), &["licence: Gemma"]);
    let text = "LLAMA 3.2 COMMUNITY LICENSE AGREEMENT\n";
    told(Repo::new("lab/c").small("README.md", "# A\n").small("LICENSE", text), &llama);
    told(
        Repo::new("lab/d").small("LICENSE.txt", "ask us"),
        &["licence: see \"LICENSE.txt\"", "it asks: read the text"],
    );
    let none =
        told(Repo::new("lab/e").small("README.md", "# A\n"), &["\nno licence is stated\nask whoever published it"]);
    assert_eq!((&none["licences"], &none["asks"]), (&serde_json::json!([]), &serde_json::json!([])));
    // Those who are not let in are told that there are terms.
    let closed = Repo::new("lab/f").gate(Gate::Gated).small("LICENSE", text);
    told(closed, &["; gated", "licence: the terms of its page"]);
    assert!(!repository(home.path(), "lab/a").exists(), "nothing was written");
}
