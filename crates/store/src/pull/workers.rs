//! Several ranges of one file at once. Each connection has at most one piece in the air, so that what a kill loses is
//! bounded by pieces times connections.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::error::{Error, Result};
use super::http::Fault;
use super::partial::Partial;
use super::ranges::{Missed, Ranges, TRICKLE};

/// Bytes of one request. Four of them are what a kill can lose at most: 16 MiB.
pub(crate) const PIECE: u64 = 4 << 20;
const CONNECTIONS: usize = 4;
/// Bytes after which the log learns of them.
const RECORD: u64 = 1 << 20;

/// What a worker tells.
enum Told {
    Arrived(u64, u64),
    Failed(Error),
}

/// What the workers share.
struct Shared<'a> {
    ranges: &'a Ranges<'a>,
    data: &'a std::fs::File,
    queue: Mutex<VecDeque<(u64, u64)>>,
    stop: AtomicBool,
    no_ranges: AtomicBool,
}

/// Fetches what is missing of a file; `arrived` hears of bytes as they come.
pub(crate) fn fill(ranges: &Ranges<'_>, partial: &mut Partial, arrived: &mut dyn FnMut(u64)) -> Result<()> {
    let missing = partial.done.missing(ranges.source.size, PIECE);
    let count = missing.len().min(CONNECTIONS);
    let data = partial.data().try_clone().map_err(|fault| pasture_files::Error::read("data".as_ref(), fault))?;
    let shared = Shared {
        ranges,
        data: &data,
        queue: Mutex::new(missing.into()),
        stop: AtomicBool::new(false),
        no_ranges: AtomicBool::new(false),
    };
    let mut failed = None;
    std::thread::scope(|scope| {
        let (tell, told) = channel();
        for _ in 0..count {
            let (shared, tell) = (&shared, tell.clone());
            scope.spawn(move || work(shared, &tell));
        }
        drop(tell);
        for told in told {
            let result = match told {
                Told::Arrived(from, to) => {
                    arrived(to - from);
                    partial.record(from, to)
                }
                Told::Failed(error) => Err(error),
            };
            if let Err(error) = result {
                shared.stop.store(true, Ordering::Relaxed);
                failed.get_or_insert(error);
            }
        }
    });
    match failed {
        Some(error) => Err(error),
        None if shared.no_ranges.load(Ordering::Relaxed) => whole(ranges, partial, &data, arrived),
        None => Ok(()),
    }
}

fn work(shared: &Shared<'_>, tell: &Sender<Told>) {
    let mut failed = 0;
    let mut refused = 0;
    while !shared.stop.load(Ordering::Relaxed) {
        let Some((from, to)) = shared.queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front() else { return };
        let mut at = from;
        while at < to && !shared.stop.load(Ordering::Relaxed) {
            let before = at;
            let missed = piece(shared, tell, &mut at, to);
            if at - before >= TRICKLE {
                failed = 0;
            }
            let fault = match missed {
                Ok(()) => continue,
                Err(Missed::NoRanges) => {
                    refused += 1;
                    // Once may be a slip; a host that does it again knows no ranges.
                    if refused > 1 {
                        shared.no_ranges.store(true, Ordering::Relaxed);
                        shared.stop.store(true, Ordering::Relaxed);
                    }
                    Fault::Broken("it sends the whole file for a part".into())
                }
                Err(Missed::Fault(fault)) => fault,
            };
            failed += 1;
            if let Err(error) = pause(shared.ranges, fault, failed, Some(&shared.stop)) {
                let _ = tell.send(Told::Failed(error));
                return;
            }
        }
    }
}

fn piece(shared: &Shared<'_>, tell: &Sender<Told>, at: &mut u64, to: u64) -> Result<(), Missed> {
    let mut recorded = *at;
    let mut end = *at;
    let result = shared.ranges.read(at, to, &mut |place, bytes| {
        if shared.stop.load(Ordering::Relaxed) {
            return Err(Fault::Broken("another part failed".into()));
        }
        Partial::put(shared.data, place, bytes).map_err(Fault::Final)?;
        end = place + bytes.len() as u64;
        if end - recorded >= RECORD {
            let _ = tell.send(Told::Arrived(recorded, end));
            recorded = end;
        }
        Ok(())
    });
    if end > recorded {
        let _ = tell.send(Told::Arrived(recorded, end));
    }
    result
}

/// Waits before the next attempt, or says why there is none.
pub(crate) fn pause(ranges: &Ranges<'_>, fault: Fault, failed: u32, stop: Option<&AtomicBool>) -> Result<()> {
    let patience = &ranges.client.network.patience;
    let (wanted, why) = match fault {
        Fault::Final(error) => return Err(error),
        Fault::Busy(wanted, why) => (wanted, why),
        Fault::Broken(why) => (None, why),
    };
    let pause = wanted.unwrap_or(patience.pause * 2_u32.saturating_pow(failed - 1));
    if failed >= patience.tries || pause > patience.wait_max {
        let source = ranges.source;
        return Err(Error::Network { host: source.url.host().to_owned(), what: source.what.to_owned(), why });
    }
    let until = Instant::now() + pause;
    while Instant::now() < until && stop.is_none_or(|stop| !stop.load(Ordering::Relaxed)) {
        std::thread::sleep(Duration::from_millis(20).min(until.saturating_duration_since(Instant::now())));
    }
    Ok(())
}

/// One stream from the beginning, from a host that knows no ranges.
fn whole(ranges: &Ranges<'_>, partial: &mut Partial, data: &std::fs::File, arrived: &mut dyn FnMut(u64)) -> Result<()> {
    let mut failed = 0;
    let (mut at, mut furthest) = (0, 0);
    loop {
        let mut recorded = 0;
        let result = ranges.read_whole(&mut at, &mut |place, bytes| {
            Partial::put(data, place, bytes).map_err(Fault::Final)?;
            let end = place + bytes.len() as u64;
            if end - recorded >= RECORD || end == ranges.source.size {
                let before = partial.done.count();
                partial.record(recorded, end).map_err(Fault::Final)?;
                arrived(partial.done.count() - before);
                recorded = end;
            }
            Ok(())
        });
        let Err(fault) = result else { return Ok(()) };
        if at.saturating_sub(furthest) >= TRICKLE {
            (failed, furthest) = (0, at);
        }
        failed += 1;
        pause(ranges, fault, failed, None)?;
    }
}
