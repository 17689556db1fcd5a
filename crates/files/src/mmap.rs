//! Bytes of a file, mapped or owned, and the only `unsafe` of this crate. A `Bytes` is a cheap clone of a range;
//! readers check every length against the length of the range, never against what a file says of itself.
#![deny(clippy::indexing_slicing)]

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::{Deref, Range};
use std::sync::Arc;

use memmap2::{Advice, Mmap};

/// A range of a mapped file or of owned memory. Clones share it; the last one unmaps.
///
/// No alignment is promised: a tensor in a file starts where its writer put it.
#[derive(Clone)]
pub struct Bytes {
    storage: Storage,
    start: usize,
    length: usize,
}

#[derive(Clone)]
enum Storage {
    Mapped(Arc<Mmap>),
    Owned(Arc<Vec<u8>>),
}

impl Bytes {
    /// Maps a whole file to be read. A file of no bytes is an empty range.
    pub fn map(file: &File) -> io::Result<Bytes> {
        if file.metadata()?.len() == 0 {
            return Ok(Bytes::from(Vec::new()));
        }
        // SAFETY: the map is read-only and lives as long as the last `Bytes` that borrows from it. Every reader takes
        // lengths from the map itself and re-checks UTF-8 where it reads text, so bytes that another program changes
        // in place can make an answer wrong but reach no memory outside the map. Our own writers never change a file
        // in place (module `durable`). A file cut short by another program ends this one with SIGBUS,
        // of which `end_where_a_file_is_cut` makes an error.
        let map = unsafe { Mmap::map(file)? };
        let length = map.len();
        Ok(Bytes { storage: Storage::Mapped(Arc::new(map)), start: 0, length })
    }

    /// The bytes in order.
    pub fn as_slice(&self) -> &[u8] {
        let whole: &[u8] = match &self.storage {
            Storage::Mapped(map) => map,
            Storage::Owned(owned) => owned,
        };
        whole.get(self.start..self.start + self.length).expect("a range is checked when it is made")
    }

    /// A part of the range, sharing its memory; none where it would end outside.
    pub fn slice(&self, range: Range<usize>) -> Option<Bytes> {
        let length = range.end.checked_sub(range.start)?;
        if range.end > self.length {
            return None;
        }
        Some(Bytes { storage: self.storage.clone(), start: self.start + range.start, length })
    }

    /// Where the range begins in what was mapped, a whole file, and how long it is.
    pub(crate) fn place(&self) -> (usize, usize) {
        (self.start, self.length)
    }

    /// Whether the bytes lie in a mapped file, so that the system may drop and fetch them again.
    pub fn is_mapped(&self) -> bool {
        matches!(self.storage, Storage::Mapped(_))
    }

    /// Asks the system to start reading the range from disk. Owned bytes are left alone.
    pub fn prefetch(&self) {
        #[cfg(unix)]
        if let Storage::Mapped(map) = &self.storage
            && self.length > 0
        {
            // A refusal only means that pages come one by one.
            let _ = map.advise_range(Advice::WillNeed, self.start, self.length);
        }
    }

    /// Asks for large pages, which a file has whose content was written or is read in large parts: they are mapped
    /// several hundred times as fast as small ones. Owned bytes are left alone.
    pub fn in_large_pages(&self) {
        #[cfg(target_os = "linux")]
        if let Storage::Mapped(map) = &self.storage
            && self.length > 0
        {
            // A refusal only means that pages stay small.
            let _ = map.advise_range(Advice::HugePage, self.start, self.length);
        }
    }

    /// Tells the system that the range is not read again soon, so that its pages leave this program's memory.
    /// Reading it again is correct and fetches the pages anew. Owned bytes are left alone.
    pub fn release(&self) {
        #[cfg(unix)]
        if let Storage::Mapped(map) = &self.storage {
            // Only pages that lie wholly in the range: its neighbors' pages may still be in use.
            let start = self.start.next_multiple_of(PAGE);
            let end = (self.start + self.length) / PAGE * PAGE;
            if start < end {
                // SAFETY: the mapping is shared, read-only and backed by a file, and nothing can have written to it
                // through this map, so dropping a page loses no data: the next access reads it from the file again.
                let _ = unsafe { map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, start, end - start) };
            }
        }
    }
}

/// From now on a mapped file that another program cuts short ends this program with one line on the standard error
/// stream and status 74 (`EX_IOERR`), instead of SIGBUS without a word. For programs, once, at their start; where the
/// system has no such signal for files, nothing changes.
pub fn end_where_a_file_is_cut() {
    #[cfg(target_os = "linux")]
    {
        const TEXT: &[u8] = b"error: a file that is being read was cut short by another program\n  \
            Nothing was computed from what is missing. `pasture verify` finds files that are not whole.\n";
        extern "C" fn cut(_signal: libc::c_int) {
            // SAFETY: both calls may be made in a signal handler (signal-safety(7)), and the text is a constant.
            unsafe {
                libc::write(libc::STDERR_FILENO, TEXT.as_ptr().cast(), TEXT.len());
                libc::_exit(74);
            }
        }
        // SAFETY: a zeroed `sigaction` is a valid one without flags and with an empty mask; the handler is a function
        // of the type that is expected without SA_SIGINFO, lives for ever, and never returns to the faulty access.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = cut as extern "C" fn(libc::c_int) as libc::sighandler_t;
            action.sa_flags = libc::SA_ONSTACK;
            libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut());
        }
    }
}

/// The smallest page size of the supported systems. Where pages are larger the kernel rounds, and a neighbor's page is
/// fetched again.
const PAGE: usize = 4096;

impl From<Vec<u8>> for Bytes {
    fn from(owned: Vec<u8>) -> Bytes {
        let length = owned.len();
        Bytes { storage: Storage::Owned(Arc::new(owned)), start: 0, length }
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bytes").field("length", &self.length).field("mapped", &self.is_mapped()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn mapped(content: &[u8]) -> Bytes {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        Bytes::map(&file).unwrap()
    }

    #[test]
    fn a_file_of_no_bytes_is_an_empty_range() {
        let bytes = mapped(b"");
        assert!(bytes.is_empty());
        bytes.prefetch();
        bytes.release();
    }

    #[test]
    fn a_part_never_reaches_outside() {
        let check = |range: Range<usize>, wanted: Option<&[u8]>| {
            for bytes in [mapped(b"abcdef"), Bytes::from(b"abcdef".to_vec())] {
                assert_eq!(bytes.slice(range.clone()).as_deref(), wanted);
            }
        };
        check(0..6, Some(b"abcdef"));
        check(2..4, Some(b"cd"));
        check(6..6, Some(b""));
        check(0..7, None);
        check(7..7, None);
        #[allow(clippy::reversed_empty_ranges)]
        check(4..2, None);
        check(usize::MAX..usize::MAX, None);
        let part = mapped(b"abcdef").slice(2..5).unwrap();
        assert_eq!(part.slice(1..3).as_deref(), Some(&b"de"[..]));
        assert!(part.slice(0..4).is_none());
    }

    /// What [`a_file_that_is_cut_is_an_error`] runs in a process of its own.
    #[test]
    fn worker() {
        let Ok(path) = std::env::var("PASTURE_TEST_CUT") else { return };
        end_where_a_file_is_cut();
        let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
        let bytes = Bytes::map(&file).unwrap();
        file.set_len(10).unwrap();
        println!("{:?}", bytes.get(PAGE));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_that_is_cut_is_an_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(4 * PAGE as u64).unwrap();
        let mut program = std::process::Command::new(std::env::current_exe().unwrap());
        program.args(["--exact", "mmap::tests::worker", "--nocapture"]).env("PASTURE_TEST_CUT", file.path());
        let output = program.output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(74), "{text}");
        assert!(text.contains("cut short by another program"), "{text}");
    }

    #[test]
    fn released_bytes_read_the_same_again() {
        let content: Vec<u8> = (0..64 * 1024u32).flat_map(u32::to_le_bytes).collect();
        let bytes = mapped(&content);
        bytes.prefetch();
        assert!(bytes[..] == content[..]);
        bytes.release();
        bytes.slice(5000..100_000).unwrap().release();
        assert!(bytes[..] == content[..]);
    }
}
