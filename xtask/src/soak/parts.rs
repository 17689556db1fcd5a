//! What is done to the server, and what it must keep.

use std::io::{Read, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::client::{Random, ask, connect, get, percentile, request};
use super::server::Serving;
use super::{Size, at_most, verdict};

/// Slots and queue of the server that is asked too much.
const CAPACITY: usize = 16;
const MIB: f64 = 1024.0 * 1024.0;

/// A request for so many tokens, one by one.
pub fn stream(max_tokens: usize) -> String {
    let body =
        format!(r#"{{"prompt": "Sheep eat grass", "max_tokens": {max_tokens}, "ignore_eos": true, "stream": true}}"#);
    request("POST", "/v1/completions", &body)
}

/// How long first tokens and refusals took.
#[derive(Default)]
pub struct Times {
    accepted: Vec<Duration>,
    refused: Vec<Duration>,
    other: usize,
    without_retry: usize,
}

/// So many clients ask again and again.
pub fn crowd(serving: &Serving, clients: usize, length: Duration) -> Times {
    let times = Mutex::new(Times::default());
    let began = Instant::now();
    let text = stream(32);
    std::thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                while began.elapsed() < length {
                    let answer = ask(&serving.address, &text);
                    let mut times = times.lock().expect("no client panics");
                    match answer {
                        Ok(answer) if answer.status == 200 => times.accepted.push(answer.first),
                        Ok(answer) if answer.status == 429 => {
                            times.refused.push(answer.first);
                            times.without_retry += usize::from(!answer.retry_after);
                            drop(times);
                            std::thread::sleep(Duration::from_millis(100));
                        }
                        _ => times.other += 1,
                    }
                }
            });
        }
    });
    times.into_inner().expect("no client panics")
}

/// Four times as many clients as there are places.
pub fn overload(serving: &Serving, size: &Size) -> Result<()> {
    let length = Duration::from_secs(size.seconds);
    crowd(serving, CAPACITY, Duration::from_secs(5));
    let mut full = crowd(serving, CAPACITY, length / 3);
    let before = serving.memory()?;
    let mut over = crowd(serving, 4 * CAPACITY, length);
    let grown = serving.memory()?.saturating_sub(before);
    println!("  accepted at capacity {}, at four times {}", full.accepted.len(), over.accepted.len());
    println!("  refused {}, without Retry-After {}", over.refused.len(), over.without_retry);
    println!("  refusals: half within {:.1} ms", percentile(&mut over.refused, 50));
    let mut worse = Vec::new();
    let at_capacity = percentile(&mut full.accepted, 99);
    at_most("a refusal takes, p99", percentile(&mut over.refused, 99), 50.0, "ms", &mut worse);
    at_most("first token, p99", percentile(&mut over.accepted, 99), 2.0 * at_capacity, "ms", &mut worse);
    at_most("memory grew by", grown as f64 / MIB, 100.0, "MiB", &mut worse);
    at_most("other answers", (over.other + full.other) as f64, 0.0, "", &mut worse);
    at_most("refusals without Retry-After", over.without_retry as f64, 0.0, "", &mut worse);
    verdict(&worse)
}

/// Many requests, of which some are cut at a random moment, malformed, or too large.
pub fn disconnects(serving: &Serving, size: &Size) -> Result<()> {
    // What grows once, such as threads that wait, is there before it is looked at.
    crowd(serving, 64, Duration::from_secs(5));
    std::thread::sleep(Duration::from_secs(12));
    let (memory, (files, threads)) = (serving.memory()?, serving.counts()?);
    let next = AtomicUsize::new(0);
    let ends = Mutex::new([0usize; 5]);
    std::thread::scope(|scope| {
        for client in 0..64u64 {
            let (next, ends) = (&next, &ends);
            scope.spawn(move || {
                let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ (client + 1));
                while next.fetch_add(1, Ordering::Relaxed) < size.requests {
                    let end = one(serving, &mut random);
                    ends.lock().expect("no client panics")[end] += 1;
                }
            });
        }
    });
    let [done, cut, malformed, large, full] = ends.into_inner().expect("no client panics");
    println!(
        "  seed 0x9e3779b97f4a7c15: {done} done, {cut} cut, {malformed} malformed, {large} too large, {full} refused or lost"
    );
    std::thread::sleep(Duration::from_secs(12));
    let mut worse = Vec::new();
    let (accepted, ended) =
        (serving.metric("pasture_requests_accepted_total")?, serving.metric("pasture_requests_ended_total")?);
    println!("  accepted {accepted}, ended {ended}");
    at_most("accepted without one end", accepted.abs_diff(ended) as f64, 0.0, "", &mut worse);
    for gauge in ["pasture_answers_in_flight", "pasture_answers_waiting", "pasture_prompt_tokens_waiting"] {
        at_most(gauge, serving.metric(gauge)? as f64, 0.0, "", &mut worse);
    }
    // The connection that asked for the metrics goes first.
    std::thread::sleep(Duration::from_secs(1));
    let (files_after, threads_after) = serving.counts()?;
    at_most("descriptors", files_after as f64, files as f64, "", &mut worse);
    at_most("threads", threads_after as f64, threads as f64, "", &mut worse);
    let memory_after = serving.memory()?;
    at_most("memory", memory_after as f64 / MIB, memory as f64 / MIB * 1.05, "MiB", &mut worse);
    verdict(&worse)
}

/// One of them; the place of its end in the list.
pub fn one(serving: &Serving, random: &mut Random) -> usize {
    let (kind, tokens) = (random.below(100), 8 + random.below(56) as usize);
    let status = |text: &str| ask(&serving.address, text).map_or(0, |answer| answer.status);
    match kind {
        0..30 => {
            let Ok(mut stream) = connect(&serving.address) else { return 4 };
            let text = self::stream(tokens);
            let cut = if random.below(4) == 0 { random.below(text.len() as u64) as usize } else { text.len() };
            let _ = stream.write_all(&text.as_bytes()[..cut]);
            std::thread::sleep(Duration::from_millis(random.below(120)));
            1
        }
        30..35 => {
            let wrong = ["{", "[]", r#"{"prompt": 5}"#, r#"{"nonsense": 1}"#, r#"{"prompt": "a", "n": 99}"#];
            let body = wrong[random.below(wrong.len() as u64) as usize];
            if status(&request("POST", "/v1/completions", body)) == 400 { 2 } else { 4 }
        }
        35..40 => {
            let head = request("POST", "/v1/completions", "").replace("Content-Length: 0", "Content-Length: 99999999");
            if status(&head) == 413 { 3 } else { 4 }
        }
        _ => {
            if status(&self::stream(tokens)) == 200 {
                0
            } else {
                4
            }
        }
    }
}

/// A thousand sockets that send a byte now and then.
pub fn slow_senders(serving: &Serving, _: &Size) -> Result<()> {
    let ask_all =
        || -> Result<Vec<Duration>> { (0..400).map(|_| Ok(get(&serving.address, "/healthz")?.first)).collect() };
    ask_all()?;
    let mut alone = ask_all()?;
    let before = serving.memory()?;
    let mut slow = (0..1000).map(|_| connect(&serving.address)).collect::<Result<Vec<_>>>()?;
    let began = Instant::now();
    slow.iter_mut().for_each(|stream| drop(stream.write_all(b"G")));
    let mut beside = ask_all()?;
    let grown = serving.memory()?.saturating_sub(before);
    slow.iter_mut().for_each(|stream| drop(stream.write_all(b"E")));
    let mut worse = Vec::new();
    // Below two milliseconds the machine's own noise decides.
    let limit = (1.5 * percentile(&mut alone, 99)).max(2.0);
    at_most("others, p99", percentile(&mut beside, 99), limit, "ms", &mut worse);
    at_most("memory of a socket", grown as f64 / 1024.0 / 1000.0, 40.0, "KiB", &mut worse);
    while serving.metric("pasture_connections")? > 1 && began.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(200));
    }
    at_most("all closed after", began.elapsed().as_secs_f64(), 15.0, "s", &mut worse);
    verdict(&worse)
}

/// A client that asks for much and reads nothing of it.
pub fn slow_readers(serving: &Serving, _: &Size) -> Result<()> {
    ask(&serving.address, &stream(8))?;
    let before = serving.memory()?;
    let body = r#"{"prompt": "Sheep", "n": 16, "max_tokens": 400, "ignore_eos": true, "stream": true, "logprobs": 20}"#;
    let mut deaf = connect(&serving.address)?;
    deaf.write_all(request("POST", "/v1/completions", body).as_bytes())?;
    let began = Instant::now();
    let (mut most, mut others) = (before, Vec::new());
    while serving.metric("pasture_requests_ended_total{end=\"left\"}")? == 0
        && began.elapsed() < Duration::from_secs(120)
    {
        most = most.max(serving.memory()?);
        others.push(ask(&serving.address, &stream(8))?.first);
        std::thread::sleep(Duration::from_millis(250));
    }
    let seconds = began.elapsed().as_secs_f64();
    let mut worse = Vec::new();
    println!("  others meanwhile: {} answers, first token p99 {:.1} ms", others.len(), percentile(&mut others, 99));
    println!("  memory grew by {:.1} MiB, which other answers share", (most - before) as f64 / MIB);
    at_most("given up after", seconds, 60.0, "s", &mut worse);
    at_most("in flight", serving.metric("pasture_answers_in_flight")? as f64, 0.0, "", &mut worse);
    let mut waiting = Vec::new();
    let _ = deaf.read_to_end(&mut waiting);
    at_most("what waited for it", waiting.len() as f64 / MIB, 1.0, "MiB", &mut worse);
    ensure!(!waiting.is_empty(), "nothing was sent to it");
    verdict(&worse)
}
