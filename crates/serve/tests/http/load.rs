//! Too many, and those who leave: refusals, steps after a cut, gauges back at nothing, and the end of the server.

use std::io::{BufRead, Read};
use std::sync::atomic::Ordering;
use std::time::Duration;

use pasture_serve::Options;
use serde_json::json;

use crate::client::{get, open, post, read_to};
use crate::host::{Host, local};

const SLOW: Duration = Duration::from_millis(20);

fn long(stream: bool) -> serde_json::Value {
    json!({"prompt": "Sheep", "max_tokens": 400, "ignore_eos": true, "stream": stream})
}

#[test]
fn whoever_leaves_is_not_computed_for() {
    let host = Host::start(local(), SLOW);
    for stream in [true, false] {
        let before = host.steps.load(Ordering::SeqCst);
        let mut reader = open(host.address, "/v1/completions", &long(stream));
        if stream {
            read_to(&mut reader, "data: ");
        }
        host.wait("the answer is being made", |host| host.steps.load(Ordering::SeqCst) >= before + 3);
        drop(reader);
        let left = host.steps.load(Ordering::SeqCst);
        host.wait("its place is free", |host| host.metric("pasture_answers_in_flight{model=\"starter\"}") == 0);
        let free = host.steps.load(Ordering::SeqCst);
        std::thread::sleep(SLOW * 10);
        let after = host.steps.load(Ordering::SeqCst);
        assert!(after <= free + 1, "{} steps after the place was free", after - free);
        assert!(after < before + 400 && free - left < 100, "{} steps after the cut", free - left);
    }
    assert_eq!(host.metric("pasture_requests_ended_total{end=\"left\"}"), 2);
    assert_eq!(host.metric("pasture_requests_accepted_total"), 2);
}

#[test]
fn too_many_are_told_to_come_back_and_every_request_has_one_end() {
    let host = Host::start(Options { slots: 2, queue: Some(3), ..local() }, SLOW);
    let held: Vec<_> = (0..5).map(|_| open(host.address, "/v1/completions", &long(true))).collect();
    let in_flight = "pasture_answers_in_flight{model=\"starter\"}";
    host.wait("five are in", |host| host.metric("pasture_requests_accepted_total") == 5);
    assert_eq!(host.metric(in_flight), 5);
    for path in ["/v1/completions", "/v1/chat/completions", "/api/generate", "/api/chat", "/v1/embeddings"] {
        let message = json!([{"role": "user", "content": "a"}]);
        let body = match path {
            "/v1/embeddings" => json!({"input": "a"}),
            path if path.contains("chat") => json!({"messages": message}),
            _ => json!({"prompt": "a"}),
        };
        let answer = post(host.address, path, &body);
        assert_eq!(answer.status, 429, "{path}: {}", answer.body);
        assert!(answer.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
        assert!(answer.error().contains("try again"));
    }
    assert_eq!(get(host.address, "/healthz").status, 200);
    drop(held);
    host.wait("nobody is in", |host| host.metric(in_flight) == 0);
    let answer = post(host.address, "/v1/completions", &json!({"prompt": "a", "max_tokens": 1}));
    assert_eq!(answer.status, 200);
    let ends = |word: &str| host.metric(&format!("pasture_requests_ended_total{{end=\"{word}\"}}"));
    assert_eq!(host.metric("pasture_requests_accepted_total"), 6);
    assert_eq!((ends("done"), ends("left"), ends("failed")), (1, 5, 0));
}

#[test]
fn n_counts_as_n() {
    let host = Host::start(Options { slots: 2, queue: Some(3), ..local() }, SLOW);
    let _held = open(host.address, "/v1/completions", &long(true));
    host.wait("one is in", |host| host.metric("pasture_answers_in_flight{model=\"starter\"}") == 1);
    let ask = |n: u32| post(host.address, "/v1/completions", &json!({"prompt": "a", "max_tokens": 1, "n": n})).status;
    assert_eq!((ask(4), ask(5)), (200, 429));
}

#[test]
fn an_answer_is_the_same_alone_and_among_strangers() {
    let host = Host::start(Options { slots: 8, ..local() }, Duration::ZERO);
    let body = json!({"prompt": "A token is", "temperature": 0, "max_tokens": 24});
    let alone = post(host.address, "/v1/completions", &body).json()["choices"][0]["text"].clone();
    std::thread::scope(|scope| {
        let stranger = |at: usize| {
            let prompt = format!("Stranger {at} {}", "talks of sheep and ".repeat(at));
            post(host.address, "/v1/completions", &json!({"prompt": prompt, "max_tokens": 40, "seed": at})).status
        };
        let strangers: Vec<_> = (0..10).map(|at| scope.spawn(move || stranger(at))).collect();
        for _ in 0..3 {
            assert_eq!(post(host.address, "/v1/completions", &body).json()["choices"][0]["text"], alone);
        }
        assert!(strangers.into_iter().all(|stranger| stranger.join().unwrap() == 200));
    });
}

#[test]
fn the_end_says_so_first_and_gives_streams_a_last_word() {
    let mut host = Host::start(Options { drain: Duration::from_millis(300), ..local() }, SLOW);
    let mut reader = open(host.address, "/v1/completions", &long(true));
    read_to(&mut reader, "data: ");
    let address = host.address;
    let end = host.end(Duration::from_secs(2));
    host.wait("readiness is gone", |host| get(host.address, "/readyz").status == 503);
    let answer = post(address, "/v1/completions", &json!({"prompt": "a", "max_tokens": 1}));
    assert_eq!(answer.status, 200, "the listener lingers");
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("shutting_down") && rest.trim_end().ends_with('0'), "{rest}");
    assert!(!rest.contains("[DONE]"));
    host.join(end);
    assert!(std::net::TcpStream::connect(address).is_err());
}

#[test]
fn a_slow_head_is_closed() {
    let host = Host::start(Options { head_time: Duration::from_millis(200), ..local() }, Duration::ZERO);
    let mut slow = std::io::BufReader::new(crate::client::connect(host.address));
    std::io::Write::write_all(slow.get_mut(), b"GET /healthz HTTP/1.1\r\nHo").unwrap();
    let mut line = String::new();
    let read = slow.read_line(&mut line).unwrap_or(0);
    assert!(read == 0 || line.contains("408"), "{line}");
    assert_eq!(get(host.address, "/healthz").status, 200);
}
