//! The web page's files and rules, and the chats that it keeps: a tree of messages, searched, carried, and bounded.

use std::time::Duration;

use pasture_serve::Options;
use serde_json::{Value, json};

use crate::client::{Answer, get, head, post, raw};
use crate::host::{Host, local, shared};

/// A chat with a question, two answers to it, and a further question after the second.
fn tree(host: &Host) -> (String, Vec<i64>) {
    let chat = post(host.address, "/chats/create", &json!({"title": "Meadows", "settings": {"system": "Be kind."}}));
    let id = chat.json()["id"].as_str().unwrap().to_owned();
    let add = |parent: Option<i64>, role: &str, content: &str| {
        let body = json!({"parent": parent, "role": role, "content": content, "more": {"model": "starter"}});
        let answer = post(host.address, &format!("/chats/{id}/messages"), &body);
        answer.json()["id"].as_i64().unwrap_or_else(|| panic!("{}", answer.body))
    };
    let question = add(None, "user", "What do sheep eat?");
    let first = add(Some(question), "assistant", "Grass, and 草地 too.");
    let second = add(Some(question), "assistant", "Hay in winter.");
    let last = add(Some(second), "user", "And in \"summer\" 100%?");
    (id, vec![question, first, second, last])
}

fn read(host: &Host, id: &str) -> Value {
    get(host.address, &format!("/chats/{id}")).json()
}

fn check(answer: &Answer, status: u16, part: &str) {
    assert!(answer.status == status && answer.error().contains(part), "{} {}", answer.status, answer.body);
}

#[test]
fn the_page_is_served_with_its_rules_and_not_sent_twice() {
    let answer = get(shared().address, "/");
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let rules = answer.header("content-security-policy").unwrap();
    for rule in ["default-src 'none'", "script-src 'self';", "frame-ancestors 'none'", "trusted-types 'none'"] {
        assert!(rules.contains(rule), "{rules}");
    }
    assert!(!rules.contains("unsafe") && !rules.contains("http"));
    let tag = answer.header("etag").unwrap();
    let again = raw(shared().address, head("GET", "/", &[("If-None-Match", tag)], 0).as_bytes());
    assert_eq!((again.status, again.body.len(), again.header("etag")), (304, 0, Some(tag)));
    for none in ["/page/../Cargo.toml", "/page/nothing.js", "/page/%2e%2e/Cargo.toml", "/page//etc/passwd"] {
        assert_eq!(get(shared().address, none).status, 404, "{none}");
    }
    let off = Host::start(Options { page: false, ..local() }, Duration::ZERO);
    check(&get(off.address, "/"), 404, "--no-page");
    check(&get(off.address, "/chats"), 404, "--no-page");
}

#[test]
fn the_page_is_told_the_settings_in_force_and_their_limits() {
    let facts = get(shared().address, "/page/facts").json();
    assert_eq!(facts["models"][0]["id"], json!("starter"));
    assert_eq!(facts["models"][0]["context"].as_u64(), Some(shared().engine.context() as u64));
    let settings = facts["settings"].as_array().unwrap();
    let temperature = settings.iter().find(|setting| setting["name"] == json!("temperature")).unwrap();
    assert_eq!((&temperature["min"], &temperature["max"]), (&json!(0.0), &json!(100.0)));
    assert_eq!(facts["chats"]["file"], json!(false));
}

#[test]
fn a_chat_is_a_tree_that_is_read_changed_and_deleted() {
    let host = Host::start(local(), Duration::ZERO);
    let (id, messages) = tree(&host);
    let chat = read(&host, &id);
    let parents: Vec<Option<i64>> =
        chat["tree"].as_array().unwrap().iter().map(|message| message["parent"].as_i64()).collect();
    assert_eq!(parents, [None, Some(messages[0]), Some(messages[0]), Some(messages[2])]);
    assert_eq!((&chat["leaf"], &chat["messages"]), (&json!(messages[3]), &json!(4)));
    assert_eq!(chat["settings"]["system"], json!("Be kind."));

    let path = format!("/chats/{id}");
    let change = json!({"title": "Hills", "leaf": messages[1], "settings": {"temperature": 0}});
    assert_eq!(post(host.address, &format!("{path}/change"), &change).status, 200);
    let change = json!({"content": "Grass.", "more": {"reasoning": "short"}});
    assert_eq!(post(host.address, &format!("{path}/messages/{}", messages[1]), &change).status, 200);
    let chat = read(&host, &id);
    assert_eq!((&chat["title"], &chat["leaf"]), (&json!("Hills"), &json!(messages[1])));
    assert_eq!(chat["tree"][1]["content"], json!("Grass."));
    assert_eq!(chat["tree"][1]["more"], json!({"reasoning": "short"}));

    let list = get(host.address, "/chats").json();
    assert_eq!(list["chats"][0]["title"], json!("Hills"));
    assert_eq!(get(host.address, "/chats?from=1").json()["chats"], json!([]));
    assert_eq!(get(host.address, "/chats?page=1").status, 400);
    assert_eq!(post(host.address, &format!("{path}/delete"), &json!({})).status, 200);
    assert_eq!(get(host.address, &path).status, 404);
    assert_eq!(post(host.address, "/chats/search", &json!({"text": "winter"})).json()["found"], json!([]));
}

#[test]
fn texts_are_found_in_parts_in_any_case_and_without_operators() {
    let host = Host::start(local(), Duration::ZERO);
    let (_, messages) = tree(&host);
    for (text, wanted) in [
        ("GRASS", &[messages[1]][..]),
        ("heep eat", &[messages[0]]),
        ("草地", &[messages[1]]),
        ("in", &[messages[3], messages[2]]),
        ("\"summer\" 100%", &[messages[3]]),
        ("0%", &[messages[3]]),
        ("grass OR hay", &[]),
        ("content:grass*", &[]),
        ("%", &[messages[3]]),
        ("\\", &[]),
    ] {
        let found = post(host.address, "/chats/search", &json!({"text": text})).json();
        let found: Vec<i64> =
            found["found"].as_array().unwrap().iter().filter_map(|found| found["message"].as_i64()).collect();
        assert_eq!(found, wanted, "{text}");
    }
    let title = post(host.address, "/chats/search", &json!({"text": "meadow"})).json();
    assert_eq!((&title["found"][0]["title"], &title["found"][0]["message"]), (&json!("Meadows"), &Value::Null));
    for text in ["", "  ", &"x".repeat(201)] {
        check(&post(host.address, "/chats/search", &json!({"text": text})), 400, "1 to 200 characters");
    }
}

#[test]
fn an_export_is_what_an_import_takes() {
    let host = Host::start(local(), Duration::ZERO);
    let none = get(host.address, "/chats/export").json();
    assert_eq!(none, json!({"pasture_chats": 1, "chats": []}));
    let (id, _) = tree(&host);
    tree(&host);
    let export = get(host.address, "/chats/export").json();
    let imported = post(host.address, "/chats/import", &export).json();
    let ids = imported["ids"].as_array().unwrap();
    assert_eq!(ids.len(), 2);
    let (old, new) = (read(&host, &id), read(&host, ids[0].as_str().unwrap()));
    let texts = |chat: &Value| -> Vec<Value> {
        chat["tree"].as_array().unwrap().iter().map(|message| message["content"].clone()).collect()
    };
    assert_eq!(texts(&old), texts(&new));
    let step = |chat: &Value, key: &str| chat[key].as_i64().unwrap() - chat["tree"][0]["id"].as_i64().unwrap();
    assert_eq!(step(&old, "leaf"), step(&new, "leaf"));

    let message = |id: i64, parent: Option<i64>| json!({"id": id, "parent": parent, "role": "user", "content": "a"});
    for (tree, part) in [
        (json!([message(1, Some(1))]), "does not stand before it"),
        (json!([message(1, None), message(2, Some(3)), message(3, None)]), "message 2 comes after message 3"),
        (json!([message(1, None), message(1, None)]), "two messages have the id 1"),
        (json!([{"id": 1, "role": "system", "content": ""}]), "unknown variant `system`"),
        (json!([{"id": 1, "role": "user", "content": "", "html": "x"}]), "unknown field `html`"),
    ] {
        let body = json!({"pasture_chats": 1, "chats": [{"title": "good", "tree": []}, {"tree": tree}]});
        check(&post(host.address, "/chats/import", &body), 400, part);
    }
    check(&post(host.address, "/chats/import", &json!({"pasture_chats": 2, "chats": []})), 400, "form of the export");
    assert_eq!(
        get(host.address, "/chats").json()["chats"].as_array().unwrap().len(),
        4,
        "an import is whole or nothing"
    );
}

#[test]
fn what_is_too_long_foreign_or_unknown_is_refused() {
    let host = Host::start(local(), Duration::ZERO);
    let (id, messages) = tree(&host);
    let (other, strangers) = tree(&host);
    let path = format!("/chats/{id}");
    let say = |content: &str| json!({"role": "user", "content": content});
    let long = "x".repeat((2 << 20) + 1);
    check(&post(host.address, &format!("{path}/messages"), &say(&long)), 400, "longer than 2 MiB");
    assert_eq!(post(host.address, &format!("{path}/messages"), &say(&long[1..])).status, 200);
    check(&post(host.address, "/chats/create", &json!({"title": "x".repeat(201)})), 400, "200 characters");
    let settings = json!({"settings": {"a": "x".repeat(256 << 10)}});
    check(&post(host.address, &format!("{path}/change"), &settings), 400, "256 KiB");
    let more = json!({"role": "user", "content": "", "more": {"a": "x".repeat(1 << 20)}});
    check(&post(host.address, &format!("{path}/messages"), &more), 400, "1024 KiB");
    check(&post(host.address, &format!("{path}/change"), &json!({"name": "a"})), 400, "unknown field `name`");
    let foreign = json!({"parent": strangers[0], "role": "user", "content": "a"});
    check(&post(host.address, &format!("{path}/messages"), &foreign), 404, "has no message");
    check(&post(host.address, &format!("{path}/messages/{}", strangers[0]), &json!({})), 404, "has no message");
    check(&post(host.address, &format!("{path}/messages/x"), &json!({})), 400, "its number");
    check(&post(host.address, &format!("{path}/change"), &json!({"leaf": strangers[1]})), 404, "has no message");
    check(&post(host.address, "/chats/none/messages", &say("a")), 404, "no such chat");
    check(&post(host.address, &format!("/chats/{other}/delete"), &json!({"all": true})), 400, "empty object");
    assert_eq!(read(&host, &other)["tree"].as_array().unwrap().len(), 4);
    assert_eq!(read(&host, &id)["tree"][0]["id"], json!(messages[0]));
}

#[test]
fn chats_outlive_the_server_in_a_file_that_others_cannot_read() {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("chats-outlive");
    let _ = std::fs::remove_dir_all(&folder);
    let file = folder.join("chats.sqlite");
    let options = || Options { chats: Some(file.clone()), ..local() };
    let host = Host::start(options(), Duration::ZERO);
    let (id, _) = tree(&host);
    drop(host);
    let host = Host::start(options(), Duration::ZERO);
    assert_eq!(read(&host, &id)["tree"].as_array().unwrap().len(), 4);
    assert_eq!(get(host.address, "/page/facts").json()["chats"]["file"], json!(true));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }
    drop(host);
    std::fs::write(&file, "this is no database, and longer than a page's head of one hundred bytes ".repeat(40))
        .unwrap();
    let host = Host::start(options(), Duration::ZERO);
    assert_eq!(get(host.address, "/page/facts").json()["chats"]["file"], json!(false));
    assert_eq!(get(host.address, "/v1/models").status, 200);
}
