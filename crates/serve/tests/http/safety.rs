//! Keys, hosts, origins, types, sizes and raw requests, each by a table; the routes are those of the server's own.

use std::time::Instant;

use pasture_serve::{Access, Key, Options, StartError, table};
use serde_json::{Value, json};

use crate::client::{get, head, post, post_text, raw};
use crate::host::{Host, local, shared};

const KEY: &str = "a-key-of-some-length";

fn with_key() -> Host {
    let options = Options { key: Key::new(KEY), origins: vec!["https://good.example".to_owned()], ..local() };
    Host::start(options, std::time::Duration::ZERO)
}

#[test]
fn every_route_but_health_and_the_page_needs_the_key() {
    let host = with_key();
    let ask = |method: &str, path: &str, headers: &[(&str, &str)]| {
        let json = [headers, &[("Content-Type", "application/json")]].concat();
        raw(host.address, (head(method, path, &json, 2) + "{}").as_bytes())
    };
    let open: Vec<&str> = table().iter().filter(|row| row.access == Access::Open).map(|row| row.path).collect();
    assert_eq!(open, ["/healthz", "/readyz", "/", "/page/{*file}"]);
    let good = format!("Bearer {KEY}");
    for row in table() {
        let path = row.path.replace("{*model}", "starter").replace("{*file}", "page.css");
        let path = path.replace("{chat}", "none").replace("{message}", "1");
        let method = row.method().to_string();
        let is_open = row.access == Access::Open;
        let without = ask(&method, &path, &[]);
        assert_eq!(without.status == 401, !is_open, "{path}: {}", without.status);
        assert!(is_open || without.header("www-authenticate").is_some());
        for wrong in ["Bearer", "Bearer ", "Bearer x", "Basic a-key-of-some-length", "Bearer a-key-of-some-lengtH"] {
            assert_eq!(ask(&method, &path, &[("Authorization", wrong)]).status == 401, !is_open, "{path} {wrong}");
        }
        for right in [("Authorization", good.as_str()), ("x-api-key", KEY)] {
            assert_ne!(ask(&method, &path, &[right]).status, 401, "{path}");
        }
        for other in ["OPTIONS", "PUT", "DELETE"] {
            assert_eq!(ask(other, &path, &[]).status, if is_open { 405 } else { 401 }, "{other} {path}");
        }
    }
    for path in [
        "/nowhere",
        "/v1",
        "/healthz/",
        "/page",
        "/page/",
        "/chats/",
        "//healthz",
        "/healthz/../metrics",
        "/HEALTHZ",
        "/v1/%6dodels",
        "/metrics?/healthz",
    ] {
        assert_eq!(ask("GET", path, &[]).status, 401, "{path}");
    }
}

#[test]
fn an_address_that_others_reach_needs_a_key() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let options = Options::new(address.parse().unwrap());
        let refused = runtime.block_on(pasture_serve::start(Vec::new(), options));
        assert!(matches!(refused.err(), Some(StartError::Options(_))), "{address}");
    }
}

#[test]
fn foreign_hosts_and_origins_are_refused_on_loopback() {
    let address = shared().address;
    let own = format!("http://localhost:{}", address.port());
    let port = format!("localhost:{}", address.port());
    let status = |headers: &[(&str, &str)]| raw(address, head("GET", "/v1/models", headers, 0).as_bytes()).status;
    for (host, wanted) in [
        ("localhost", 200),
        ("LOCALHOST:1", 200),
        ("127.0.0.1:8080", 200),
        ("127.9.9.9", 200),
        ("[::1]:8080", 200),
        ("[::ffff:127.0.0.1]", 200),
        ("evil.example", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("evil.example@localhost", 403),
        ("192.168.1.5", 403),
        ("0.0.0.0", 403),
        ("[::]", 403),
        ("2130706433", 403),
    ] {
        assert_eq!(status(&[("Host", host)]), wanted, "{host}");
    }
    assert_eq!(status(&[("Host", "localhost"), ("Host", "evil.example")]) / 100, 4);
    for (origin, wanted) in [
        (own.as_str(), 200),
        ("null", 403),
        ("http://evil.example", 403),
        ("https://good.example", 403),
        ("http://localhost:1", 403),
        ("", 403),
    ] {
        let headers = [("Host", port.as_str()), ("Origin", origin)];
        let answer = raw(address, head("GET", "/v1/models", &headers, 0).as_bytes());
        assert_eq!(answer.status, wanted, "{origin}");
        assert!(answer.header("access-control-allow-origin").is_none());
    }
}

#[test]
fn a_listed_origin_may_ask_with_the_key_and_no_other() {
    let host = with_key();
    let key = format!("Bearer {KEY}");
    let ask =
        |method: &str, headers: &[(&str, &str)]| raw(host.address, head(method, "/v1/models", headers, 0).as_bytes());
    let good = ("Origin", "https://good.example");
    let preflight = ask("OPTIONS", &[good, ("Access-Control-Request-Method", "POST")]);
    assert_eq!((preflight.status, preflight.body.as_str()), (204, ""));
    assert_eq!(preflight.header("access-control-allow-origin"), Some("https://good.example"));
    assert!(preflight.header("access-control-allow-credentials").is_none());
    assert_eq!(ask("GET", &[good]).status, 401);
    assert_eq!(ask("GET", &[good, ("Authorization", &key)]).status, 200);
    for bad in ["https://good.example.evil", "http://good.example", "https://good.example:1"] {
        let answer = ask("OPTIONS", &[("Origin", bad)]);
        assert!(answer.status == 403 && answer.header("access-control-allow-origin").is_none(), "{bad}");
    }
}

#[test]
fn only_plain_json_is_read() {
    let address = shared().address;
    let ask = |headers: &[(&str, &str)]| {
        let text = head("POST", "/tokenize", headers, 15) + "{\"content\":\"a\"}";
        raw(address, text.as_bytes()).status
    };
    assert_eq!(ask(&[("Content-Type", "application/json; charset=utf-8")]), 200);
    assert_eq!(ask(&[]), 415);
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonp"] {
        assert_eq!(ask(&[("Content-Type", kind)]), 415, "{kind}");
    }
    assert_eq!(ask(&[("Content-Type", "application/json"), ("Content-Encoding", "gzip")]), 415);
    for wrong in ["", "{", "[]", "5", "{\"content\":\"a\",\"content\":\"b\"}", "{\"content\":NaN}", "{} {}"] {
        let answer = post_text(address, "/tokenize", wrong);
        assert_eq!((answer.status, &answer.json()["error"]["code"]), (400, &json!("invalid_json")), "{wrong}");
    }
}

/// A limit, a request at it and one past it.
fn at_limits() -> Vec<(&'static str, Value, Value)> {
    let base = |name: &str, value: Value| {
        let mut body = json!({"prompt": "a", "max_tokens": 1});
        body[name] = value;
        body
    };
    let stops = |count: usize, bytes: usize| Value::Array((0..count).map(|_| json!("x".repeat(bytes))).collect());
    let biases = |count: u32| (0..count).map(|id| (id.to_string(), json!(1))).collect::<Value>();
    let mut rows = vec![
        ("n", base("n", json!(16)), base("n", json!(17))),
        ("stop", base("stop", stops(16, 256)), base("stop", stops(17, 1))),
        ("stop", base("stop", stops(1, 256)), base("stop", stops(1, 257))),
        ("logprobs", base("logprobs", json!(20)), base("logprobs", json!(21))),
        ("temperature", base("temperature", json!(100)), base("temperature", json!(101))),
        ("top_p", base("top_p", json!(1)), base("top_p", json!(1.01))),
        (
            "prompt",
            base("prompt", Value::Array(vec![json!("a"); 128])),
            base("prompt", Value::Array(vec![json!("a"); 129])),
        ),
    ];
    rows.push(("logit_bias", base("logit_bias", biases(64)), base("logit_bias", biases(1025))));
    rows
}

#[test]
fn a_limit_passes_and_one_more_is_a_400_that_names_it() {
    let host = Host::start(Options { queue: Some(4096), ..local() }, std::time::Duration::ZERO);
    for (name, good, wrong) in at_limits() {
        let passed = post(host.address, "/v1/completions", &good);
        assert_eq!(passed.status, 200, "{name}: {}", passed.body);
        let refused = post(host.address, "/v1/completions", &wrong);
        assert_eq!((refused.status, &refused.json()["error"]["param"]), (400, &json!(name)), "{}", refused.body);
        assert!(refused.error().contains(name), "{}", refused.error());
    }
    let messages =
        |count: usize| json!({"messages": vec![json!({"role": "user", "content": "a"}); count], "max_tokens": 1});
    let refused = post(host.address, "/v1/chat/completions", &messages(4097));
    assert!(refused.status == 400 && refused.error().contains("at most 4096 messages"), "{}", refused.error());
    // So many fit the limit, though not the starter's context.
    let refused = post(host.address, "/v1/chat/completions", &messages(4096));
    assert_eq!(refused.json()["error"]["code"], "context_length_exceeded");
}

#[test]
fn fields_are_effective_listed_or_refused_by_name() {
    let address = shared().address;
    let ask = |name: &str, value: Value| {
        let mut body = json!({"messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 1});
        body[name] = value;
        post(address, "/v1/chat/completions", &body)
    };
    for (name, value, unused) in [
        ("user", json!("anna"), Some("user")),
        ("metadata", json!({"a": 1}), Some("metadata")),
        ("store", json!(true), Some("store")),
        ("store", Value::Null, None),
        ("tools", json!([]), None),
        ("tool_choice", json!("auto"), None),
        ("response_format", json!({"type": "text"}), None),
        ("top_k", json!(5), None),
    ] {
        let answer = ask(name, value);
        assert_eq!((answer.status, answer.header("x-pasture-unused")), (200, unused), "{name}: {}", answer.body);
    }
    for (name, value, part) in [
        ("best_of", json!(2), "\"best_of\" is not supported yet"),
        ("modalities", json!(["audio"]), "\"modalities\" is not supported yet"),
        ("temprature", json!(1), "did you mean \"temperature\"?"),
        ("top_logprobs", json!(3), "without \"logprobs\""),
        ("messages", json!([]), "empty"),
        ("messages", json!([{"role": "robot", "content": "a"}]), "role"),
        ("messages", json!([{"role": "user", "content": [{"type": "image_url"}]}]), "image_url"),
    ] {
        let answer = ask(name, value);
        assert!(answer.status == 400 && answer.error().contains(part), "{name}: {}", answer.body);
        assert_eq!(answer.json()["error"]["type"], "invalid_request_error");
    }
    let both = json!({"messages": [{"role": "user", "content": "a"}], "max_tokens": 1, "temperature": 0, "seed": 5});
    assert_eq!(post(address, "/v1/chat/completions", &both).header("x-pasture-unused"), Some("seed"));
    let lenient = Host::start(Options { lenient: true, ..local() }, std::time::Duration::ZERO);
    let body = json!({"prompt": "a", "max_tokens": 1, "tools": [1], "no such": 1});
    let answer = post(lenient.address, "/v1/completions", &body);
    assert_eq!((answer.status, answer.header("x-pasture-unused")), (200, Some("tools, no?such")));
}

#[test]
fn bodies_are_cut_at_their_limit() {
    let address = shared().address;
    let json = [("Content-Type", "application/json")];
    let began = Instant::now();
    let announced = head("POST", "/tokenize", &json, 100 << 20);
    assert_eq!(raw(address, announced.as_bytes()).status, 413);
    assert!(began.elapsed().as_secs() < 5);
    let fits = json!({"content": "a".repeat((4 << 20) - 14)}).to_string();
    assert_eq!(fits.len(), 4 << 20);
    assert_ne!(post_text(address, "/tokenize", &fits).status, 413);
    // A refusal may come while the client still writes, which then sees the connection closed instead.
    assert!(matches!(post_text(address, "/tokenize", &format!("{fits} ")).status, 413 | 0));
    let mut chunked = b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..65 {
        chunked.extend(b"10000\r\n");
        chunked.extend(vec![b' '; 0x10000]);
        chunked.extend(b"\r\n");
    }
    chunked.extend(b"0\r\n\r\n");
    assert!(matches!(raw(address, &chunked).status, 413 | 0));
    let deep = |depth: usize| format!("{{\"content\":{}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1));
    assert!(post_text(address, "/tokenize", &deep(127)).error().contains("\"content\" must be a text"));
    assert_eq!(post_text(address, "/tokenize", &deep(129)).json()["error"]["code"], "invalid_json");
}

#[test]
fn heads_are_bounded_and_raw_requests_end_in_4xx_or_a_close() {
    let address = shared().address;
    assert_eq!(get(address, &format!("/{}", "a".repeat((8 << 10) - 1))).status, 404);
    assert_eq!(get(address, &format!("/{}", "a".repeat(8 << 10))).status, 414);
    let headers = |count: usize| (0..count).map(|at| format!("X-{at}: a\r\n")).collect::<String>();
    let plain = |more: &str| format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{more}\r\n");
    assert_eq!(raw(address, plain(&headers(98)).as_bytes()).status, 200);
    for request in [
        plain(&headers(99)),
        plain(&headers(5000)),
        plain(&format!("X: {}\r\n", "a".repeat(64 << 10))),
        "GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n".to_owned(),
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n".to_owned(),
        "GET /health\0z HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
        "POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n".to_owned(),
        "POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n".to_owned(),
        "GET ../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
        "GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".to_owned(),
        "GET /healthz HTTP/9.9\r\nHost: localhost\r\n\r\n".to_owned(),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
        "nonsense\r\n\r\n".to_owned(),
    ] {
        let answer = raw(address, request.as_bytes());
        let cut: String = request.chars().take(60).collect();
        assert!(answer.status == 0 || answer.status / 100 == 4, "{cut:?}: {}", answer.status);
    }
}

#[test]
fn what_is_not_there_yet_says_so() {
    let address = shared().address;
    for path in ["/api/pull", "/api/create"] {
        let answer = post(address, path, &json!({}));
        assert!(answer.status == 404 && answer.error().contains("not supported yet"), "{path}: {}", answer.body);
    }
    let near = post(address, "/v1/chat/completion", &json!({}));
    assert!(near.status == 404 && near.error().contains("did you mean /v1/chat/completions?"), "{}", near.body);
    assert_eq!(get(address, "/v1/chat/completions").status, 405);
    assert!(!near.body.contains("/work") && !near.body.contains("src/"));
}

#[test]
fn the_page_of_fields_is_the_servers() {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide/serve-fields.md");
    let page = std::fs::read_to_string(file).unwrap_or_default();
    let wanted = pasture_serve::fields_page();
    if page != wanted {
        std::fs::write(concat!(env!("CARGO_TARGET_TMPDIR"), "/serve-fields.md"), wanted).unwrap();
        panic!("docs/guide/serve-fields.md is old: `pasture serve --fields` prints it, and so does target/tmp");
    }
}
