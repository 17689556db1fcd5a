//! The same mixed load for long: nothing may grow, and nothing become slower.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::client::{Random, ask, percentile};
use super::parts::{self, stream};
use super::server::Serving;
use super::{Size, at_most, verdict};

const CLIENTS: u64 = 12;
/// After so long a connection that nobody uses is closed.
const REST: Duration = Duration::from_secs(12);
/// The longest that a client thinks between two requests, in milliseconds: so the server works for a part of the
/// time, and how long an answer takes tells of the server and not of its queue.
const THINKING: u64 = 1000;
const MIB: f64 = 1024.0 * 1024.0;

/// Clients of which some leave, send nonsense or too much, beside others that are timed. The first tenth warms up.
pub fn steady(serving: &Serving, size: &Size) -> Result<()> {
    let length = Duration::from_secs(size.steady);
    // What grows once, such as threads that wait, is there before it is looked at.
    parts::crowd(serving, 64, Duration::from_secs(5));
    std::thread::sleep(REST);
    let (files, threads) = serving.counts()?;
    let (began, times, memory) = (Instant::now(), Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    let text = stream(32);
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (times, text) = (&times, &text);
            scope.spawn(move || {
                let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ (client + 1));
                while began.elapsed() < length {
                    std::thread::sleep(Duration::from_millis(random.below(THINKING)));
                    if client % 2 == 0 {
                        parts::one(serving, &mut random);
                    } else if let Ok(answer) = ask(&serving.address, text)
                        && answer.status == 200
                    {
                        times.lock().expect("no client panics").push((began.elapsed(), answer.first));
                    }
                }
            });
        }
        while began.elapsed() < length {
            std::thread::sleep(length / 200);
            if let Ok(bytes) = serving.memory() {
                let at = began.elapsed().as_secs_f64() / 3600.0;
                memory.lock().expect("no client panics").push((at, bytes as f64 / MIB));
            }
        }
    });
    let (times, memory) =
        (times.into_inner().expect("no client panics"), memory.into_inner().expect("no client panics"));
    let part = |from: u32, to: u32| {
        let range = length * from / 10..length * to / 10;
        let mut times: Vec<_> = times.iter().filter(|(at, _)| range.contains(at)).map(|(_, first)| *first).collect();
        percentile(&mut times, 99)
    };
    let (early, late) = (part(1, 4), part(7, 10));
    let warm: Vec<_> = memory.iter().copied().skip(memory.len() / 10).collect();
    println!("  {} timed answers in {} s, first token p99 {early:.1} ms and {late:.1} ms", times.len(), size.steady);
    if let (Some(first), Some(last)) = (warm.first(), warm.last()) {
        println!("  memory {:.2} MiB after the first tenth, {:.2} MiB in the end", first.1, last.1);
    }
    let mut worse = Vec::new();
    at_most("memory grows by", slope(&warm), 1.0, "MiB an hour", &mut worse);
    at_most("p99 of the last third over the first's", late / early, 1.05, "", &mut worse);
    std::thread::sleep(REST);
    let (files_after, threads_after) = serving.counts()?;
    at_most("descriptors", files_after as f64, files as f64, "", &mut worse);
    at_most("threads", threads_after as f64, threads as f64, "", &mut worse);
    verdict(&worse)
}

/// The slope of the straight line nearest to some points.
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len().max(1) as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let (above, below) = points.iter().fold((0.0, 0.0), |(above, below), point| {
        (above + (point.0 - x) * (point.1 - y), below + (point.0 - x).powi(2))
    });
    if below > 0.0 { above / below } else { 0.0 }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_slope_is_that_of_the_line() {
        let points: Vec<_> = (0..10).map(|x| (f64::from(x), 3.0 * f64::from(x) + f64::from(x % 2))).collect();
        assert!((super::slope(&points) - 3.03).abs() < 0.01, "{}", super::slope(&points));
    }
}
