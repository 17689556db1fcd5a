//! A whole file with the wrong digest: every piece is fetched once more and compared with what is there, and where they
//! differ a third copy decides. So one flipped byte costs one copy and one piece, and nothing is thrown away unseen.

use std::os::unix::fs::FileExt;

use super::error::{Error, Result};
use super::partial::Partial;
use super::ranges::{Missed, Ranges, TRICKLE};
use super::workers::{PIECE, pause};

/// Compares each piece that was not compared yet, and puts right what two of three copies agree on. A host that sends
/// whole files only cannot be asked for pieces; then nothing is compared.
pub(crate) fn compare(ranges: &Ranges<'_>, partial: &mut Partial) -> Result<()> {
    for (from, to) in partial.checked.missing(ranges.source.size, PIECE) {
        let length = usize::try_from(to - from).unwrap_or_default();
        let mut here = vec![0; length];
        let fault = |fault| pasture_files::Error::read("data".as_ref(), fault);
        partial.data().read_exact_at(&mut here, from).map_err(fault)?;
        let Some(second) = piece(ranges, from, to)? else { return Ok(()) };
        if second != here {
            let Some(third) = piece(ranges, from, to)? else { return Ok(()) };
            if third == second {
                Partial::put(partial.data(), from, &third)?;
            } else if third != here {
                let host = ranges.source.url.host().to_owned();
                let why = format!("bytes {from} to {to} came in three ways");
                return Err(Error::Answer { host, what: ranges.source.what.to_owned(), why });
            }
        }
        partial.record_checked(from, to)?;
    }
    Ok(())
}

/// One piece in memory; none from a host that knows no ranges.
fn piece(ranges: &Ranges<'_>, from: u64, to: u64) -> Result<Option<Vec<u8>>> {
    let mut bytes = vec![0; usize::try_from(to - from).unwrap_or_default()];
    let (mut at, mut failed) = (from, 0);
    while at < to {
        let before = at;
        let mut put = |place: u64, part: &[u8]| {
            let begin = usize::try_from(place - from).unwrap_or_default();
            bytes[begin..begin + part.len()].copy_from_slice(part);
            Ok(())
        };
        let fault = match ranges.read(&mut at, to, &mut put) {
            Ok(()) => continue,
            Err(Missed::Fault(fault)) => fault,
            Err(Missed::NoRanges) => return Ok(None),
        };
        if at - before >= TRICKLE {
            failed = 0;
        }
        failed += 1;
        pause(ranges, fault, failed, None)?;
    }
    Ok(Some(bytes))
}
