//! Assistants on disk: what a file may say, where it is kept, and that reading gives what was written.
#![allow(clippy::unwrap_used)]
#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;

use pasture_store::assistant::{self, Assistant, part_of};
use pasture_store::{Environment, Error, Origin, remove};
use serde_json::{Value, json};

const WHOLE: &str = r####"
base = "starter"
system = "You are a pirate."
license = "mit"
stop = "###"
documents = ["ship.txt"]

[settings]
temperature = 0.5
max_tokens = 40

[[adapters]]
path = "beside"
weight = 0.5

[[tools]]
name = "weather"
description = "The weather at sea"
parameters = { type = "object", properties = { sea = { type = "string" } } }

[[tools]]
name = "wind"
parameters = '{"type": "object", "properties": {"at": {"default": null}}}'

[[messages]]
role = "user"
content = "Who are you?"

[[messages]]
role = "assistant"
content = "Arr."
"####;

fn known(name: &str, value: &Value) -> Result<(), String> {
    match (name, value.is_number()) {
        ("temperature" | "max_tokens", true) => Ok(()),
        ("temperature" | "max_tokens", false) => Err(format!("{name} is a number")),
        _ => Err(format!("no setting is called {name:?}")),
    }
}

fn read(folder: &Path, text: &str) -> Result<Assistant, Error> {
    let file = folder.join("pirate.toml");
    fs::write(&file, text).unwrap();
    Assistant::read(&file, &known, &|_, _| false)
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("beside")).unwrap();
    fs::write(folder.path().join("ship.txt"), "The ship is called Wool.\n").unwrap();
    folder
}

fn check_refused(text: &str, part: &str) {
    let told = read(folder().path(), text).unwrap_err().to_string();
    assert!(told.contains(part), "{told:?} lacks {part:?}");
}

#[test]
fn what_is_kept_is_what_was_read() {
    let folder = folder();
    let mut made = read(folder.path(), WHOLE).unwrap();
    assert_eq!(made.documents[0].text, "The ship is called Wool.\n");
    assert_eq!(made.tools[1]["function"]["parameters"]["properties"]["at"], json!({"default": null}));
    assert_eq!((made.adapters[0].weight, made.settings["max_tokens"].as_u64()), (0.5, Some(40)));
    made.parts.push(part_of(Path::new(&made.adapters[0].path)).unwrap());

    let home = tempfile::tempdir().unwrap();
    let environment = Environment::of(|_| None, Some(home.path().into()));
    let path = assistant::save(&environment, "pirate", &made).unwrap();
    assert!(path.ends_with(".local/share/pasture/assistants/pirate.toml"));
    assert_eq!(assistant::find(&environment, "pirate", &known).unwrap(), Some(made.clone()));
    let found = pasture_store::resolve_in(&environment, "pirate").unwrap();
    assert_eq!((found.origin, found.format), (Origin::Assistant, "assistant"));
    assert_eq!(pasture_store::list_in(&environment).unwrap(), [found]);
    let plan = remove::plan(&environment, "pirate").unwrap();
    assert_eq!((plan.frees, plan.stays.len()), (fs::metadata(&path).unwrap().len(), 0));
    remove::carry_out(&pasture_files::durable::Disk, &environment, &plan).unwrap();
    assert!(matches!(remove::plan(&environment, "pirate"), Err(Error::NotFound { .. })));
    assert_eq!(assistant::names(&environment), [""; 0]);
}

#[test]
fn a_mistake_is_told_with_its_line() {
    check_refused(
        "base = \"a\"\nsytem = \"x\"",
        "\"pirate.toml\", line 2: an assistant has no \"sytem\"; did you mean \"system\"?",
    );
    check_refused("system = \"x\"", "it has no \"base\"");
    check_refused("base = \"../..\\\\x\"", "line 1: \"../..\\\\x\" is no model's name");
    check_refused("base = \"a\"\n[settings]\nheat = 1", "line 3: no setting is called \"heat\"");
    check_refused("base = \"a\"\n[settings]\ntemperature = \"hot\"", "line 3: temperature is a number");
    check_refused("base = \"a\"\n[[adapters]]\npath = \"none\"", "line 3: there is no adapter \"none\"");
    check_refused("base = \"a\"\nadapters = [{path = \"beside\", wieght = 1}]", "did you mean \"weight\"?");
    check_refused("base = \"a\"\ndocuments = [\"none.txt\"]", "there is no document \"none.txt\"");
    check_refused("base = \"a\"\nstop = [\"\"]", "1 to 256 bytes");
    check_refused("base = \"a\"\n[[tools]]\nparameters = {}", "this tool has no \"name\"");
    check_refused("base = \"a\"\n[[tools]]\nname = \"x\"\nparameters = '{'", "line 4: these parameters are no JSON");
    check_refused("base = \"a\"\n[[messages]]\nrole = \"tool\"", "line 3: the role of an example is user or assistant");
    check_refused("base = 1", "line 1: here stands integer, where a text is wanted");
    check_refused("base = \"a\"\n\nbase = \"b\"", "line 3: ");
}

#[test]
fn what_came_with_a_model_stays_in_its_folder() {
    let folder = folder();
    let inside = folder.path().join("model");
    fs::create_dir_all(inside.join("adapters/sea")).unwrap();
    fs::write(folder.path().join("secret.txt"), "secret").unwrap();
    let check = |text: &str| {
        fs::write(inside.join(assistant::FILE), text).unwrap();
        Assistant::in_folder(&inside, &known).map(|found| found.unwrap())
    };
    let good = check("base = \".\"\nadapters = [\"adapters/sea\"]").unwrap();
    assert!(good.adapters[0].path.ends_with("model/adapters/sea"));
    let absolute = folder.path().join("secret.txt");
    for path in ["../secret.txt", "adapters/../../secret.txt", absolute.to_str().unwrap()] {
        let told = check(&format!("base = \".\"\ndocuments = [{path:?}]")).unwrap_err().to_string();
        assert!(told.contains("there is no document"), "{told}");
        assert!(check(&format!("base = \".\"\nadapters = [{path:?}]")).is_err());
    }
    assert!(check("base = \"../model\"").is_err());
}

#[test]
fn a_name_that_leads_elsewhere_is_no_assistants() {
    let environment = Environment::of(|_| None, Some("/at/a".into()));
    for name in ["", "..", "a/b", "../a", "a--b", ".a", "a\0", "a:b"] {
        assert!(assistant::path(&environment, name).is_err(), "{name:?}");
    }
}
