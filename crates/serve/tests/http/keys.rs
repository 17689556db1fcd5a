//! Keys of the file: scopes by the server's own table of routes, quotas, models, ends, and that each change is seen by
//! a server that runs.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pasture_serve::{Access, Book, Keys, NewKey, Options, Scope, Scopes, table};
use serde_json::{Value, json};

use crate::client::{Answer, head, open, raw};
use crate::host::{Host, local};

struct With {
    host: Host,
    book: Book,
    _folder: tempfile::TempDir,
}

fn with(slots: usize, delay: Duration) -> With {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("keys.sqlite");
    let book = Book::open(&path).unwrap();
    let options = Options { keys: Some(Arc::new(Keys::watch(&path).unwrap())), slots, ..local() };
    With { host: Host::start(options, delay), book, _folder: folder }
}

fn new(name: &str, scopes: &[Scope]) -> NewKey {
    let scopes = Scopes::of(scopes);
    NewKey { name: name.into(), scopes, models: None, rate: None, tokens: None, in_flight: None, expires: None }
}

impl With {
    fn ask(&self, key: &str, method: &str, path: &str, body: &Value) -> Answer {
        let (body, key) = (body.to_string(), format!("Bearer {key}"));
        let headers = [("Content-Type", "application/json"), ("Authorization", key.as_str())];
        raw(self.host.address, (head(method, path, &headers, body.len()) + &body).as_bytes())
    }

    fn complete(&self, key: &str) -> Answer {
        self.ask(key, "POST", "/v1/completions", &json!({"prompt": "a", "max_tokens": 2}))
    }

    /// A key that the server has seen.
    fn add(&self, key: &NewKey) -> String {
        let (_, text) = self.book.add(key).unwrap();
        // Before the first key is seen, everybody is let in.
        self.wait(|with| with.ask("wrong", "GET", "/api/version", &json!({})).status == 401);
        self.wait(|with| with.ask(&text, "GET", "/api/version", &json!({})).status == 200);
        text
    }

    fn wait(&self, holds: impl Fn(&With) -> bool) {
        self.host.wait("a change of the keys", |_| holds(self));
    }
}

#[test]
fn a_key_does_what_its_scopes_say_and_every_route_asks_for_one() {
    let with = with(4, Duration::ZERO);
    assert_eq!(with.complete("anything").status, 200, "without keys everybody is let in");
    let keys: Vec<(Scope, String)> =
        Scope::ALL.iter().map(|scope| (*scope, with.add(&new(scope.word(), &[*scope])))).collect();
    for row in table().iter().filter(|row| row.access != Access::Open && row.path != "/admin/stop") {
        let path = row.path.replace("{*model}", "starter");
        let method = row.method().to_string();
        assert_eq!(with.ask("wrong", &method, &path, &json!({})).status, 401, "{path}");
        for (scope, key) in &keys {
            let status = with.ask(key, &method, &path, &json!({})).status;
            let refused = matches!(row.access, Access::Scope(needed) if needed != *scope);
            assert_eq!(status == 403, refused, "{path} with {}: {status}", scope.word());
        }
    }
    let refused = with.ask(&keys[1].1, "POST", "/v1/completions", &json!({"prompt": "a"}));
    assert!(refused.error().contains("lacks the scope \"infer\""), "{}", refused.body);
    let plain = with.ask(&keys[1].1, "POST", "/api/generate", &json!({"prompt": "a"}));
    assert!(plain.status == 403 && plain.json()["error"].is_string(), "{}", plain.body);
    with.book.revoke("infer").unwrap();
    with.wait(|with| with.complete(&keys[0].1).status == 401);
    assert_eq!(with.ask("", "GET", "/v1/models", &json!({})).status, 401);
}

#[test]
fn quotas_models_and_ends_hold() {
    let with = with(4, Duration::ZERO);
    let rated = with.add(&NewKey { rate: Some(60), ..new("rated", &[Scope::Infer]) });
    let statuses: Vec<u16> = (0..70).map(|_| with.ask(&rated, "GET", "/v1/models", &json!({})).status).collect();
    assert!(statuses.contains(&429) && statuses[0] == 200, "{statuses:?}");
    let refused = with.ask(&rated, "GET", "/api/tags", &json!({}));
    assert!(refused.status == 429 && refused.error().contains("60 times a minute"), "{}", refused.body);
    assert!(refused.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
    let counted = with.add(&NewKey { tokens: Some(3), ..new("counted", &[Scope::Infer]) });
    assert_eq!(with.complete(&counted).status, 200);
    with.wait(|with| with.complete(&counted).status == 429);
    assert_eq!(with.complete(&counted).json()["error"]["code"], "insufficient_quota");
    let other = with.add(&NewKey { models: Some(vec!["other".into()]), ..new("other", &[Scope::Infer]) });
    let refused = with.complete(&other);
    assert_eq!((refused.status, &refused.json()["error"]["code"]), (404, &json!("model_not_found")));
    assert_eq!(with.ask(&other, "GET", "/v1/models", &json!({})).json()["data"], json!([]));
    assert_eq!(with.ask(&other, "GET", "/api/tags", &json!({})).json()["models"], json!([]));
    let (_, ended) = with.book.add(&NewKey { expires: Some(1), ..new("ended", &[Scope::Infer]) }).unwrap();
    with.wait(|with| with.complete(&ended).body.contains("come to its end"));
    assert_eq!(with.complete(&ended).status, 401);
}

#[test]
fn a_keys_answers_in_flight_are_bounded_and_others_are_not_held_up() {
    let with = with(8, Duration::from_millis(20));
    let one = with.add(&NewKey { in_flight: Some(2), ..new("one", &[Scope::Infer, Scope::Admin]) });
    let two = with.add(&new("two", &[Scope::Infer]));
    let long = json!({"prompt": "Sheep", "max_tokens": 300, "ignore_eos": true, "stream": true});
    let begin = |key: &str| {
        let body = long.to_string();
        let key = format!("Bearer {key}");
        let headers = [("Content-Type", "application/json"), ("Authorization", key.as_str())];
        let mut stream = crate::client::connect(with.host.address);
        let text = head("POST", "/v1/completions", &headers, body.len()) + &body;
        std::io::Write::write_all(&mut stream, text.as_bytes()).unwrap();
        let mut reader = std::io::BufReader::new(stream);
        crate::client::read_to(&mut reader, "data: ");
        reader
    };
    let held = (begin(&one), begin(&one));
    let refused = with.complete(&one);
    assert!(refused.status == 429 && refused.error().contains("2 answers in flight"), "{}", refused.body);
    assert_eq!(with.complete(&two).status, 200);
    drop(held);
    with.wait(|with| with.complete(&one).status == 200);
    drop(open(with.host.address, "/v1/completions", &long));
}
