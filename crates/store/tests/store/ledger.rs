//! The ledger: rows read as they were written, changes happen whole, and what is not ours is refused.

use pasture_store::ledger::{FILE, Seen, Stamp, Work};
use pasture_store::{Digest, Error, Ledger, Sums};

/// Does to a ledger's file what no program of ours does.
fn meddle(ledger: &Ledger, statement: &str) {
    rusqlite::Connection::open(ledger.path()).unwrap().execute_batch(statement).unwrap();
}

fn work(name: &str, content: &[u8]) -> Work {
    Work {
        name: name.into(),
        digest: Digest::of(content),
        path: format!("/models/{name}.gguf").into(),
        format: "GGUF".into(),
        bytes: u64::MAX,
        origin: Some("hf:owner/name".into()),
        revision: None,
        license: Some("mit".into()),
        made: 7,
    }
}

fn ledger() -> (tempfile::TempDir, Ledger) {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::open_at(&folder.path().join(FILE)).unwrap();
    (folder, ledger)
}

#[test]
fn what_is_written_is_read_again_by_the_next_process() {
    let (_folder, ledger) = ledger();
    let (one, two) = (work("a", b"one"), work("b", b"one"));
    ledger.put_work(&two).unwrap();
    ledger.put_work(&one).unwrap();
    let stamp = Stamp { bytes: 3, modified_ns: -1, inode: u64::MAX };
    let sums = Sums::of_reader(&b"one"[..], &mut |_| true).unwrap();
    let seen = Seen { path: "/models/a.gguf".into(), digest: one.digest, quick: Some(sums.quick), stamp };
    ledger.put_seen(&seen).unwrap();
    let next = Ledger::open_at(ledger.path()).unwrap();
    assert_eq!(next.works().unwrap(), [one.clone(), two.clone()]);
    assert_eq!(next.seen(&seen.path).unwrap(), Some(seen));
    assert_eq!(next.check().unwrap(), None);
    assert!(next.remove_work("a").unwrap() && !next.remove_work("a").unwrap());
    assert_eq!(ledger.work("a").unwrap(), None);
}

#[test]
fn a_change_that_fails_has_changed_nothing() {
    let (_folder, mut ledger) = ledger();
    let fault = ledger.change(|change| {
        change.put_work(&work("a", b"one"))?;
        assert!(change.work("a")?.is_some());
        Err::<(), _>(Error::NoData)
    });
    assert!(fault.is_err());
    assert_eq!(ledger.works().unwrap(), []);
    ledger.change(|change| change.put_work(&work("a", b"one"))).unwrap();
    assert_eq!(ledger.works().unwrap().len(), 1);
}

#[test]
fn a_ledger_of_a_later_version_is_left_alone() {
    let (_folder, ledger) = ledger();
    meddle(&ledger, "PRAGMA user_version = 999");
    let fault = Ledger::open_at(ledger.path()).map(drop).unwrap_err();
    assert!(fault.to_string().contains("later version of Pasture"), "{fault}");
}

#[test]
fn a_row_that_is_no_row_of_ours_is_refused() {
    let (_folder, ledger) = ledger();
    ledger.put_work(&work("a", b"one")).unwrap();
    meddle(&ledger, "UPDATE work SET digest = 'sha256:../../x'");
    let fault = ledger.work("a").unwrap_err().to_string();
    assert!(fault.contains("ledger") && fault.contains("no digest"), "{fault}");
}

#[test]
fn a_file_that_is_no_ledger_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE);
    std::fs::write(&path, "no database at all, but some text of more than a hundred bytes ".repeat(9)).unwrap();
    let fault = Ledger::open_at(&path).map(drop).unwrap_err().to_string();
    assert!(fault.contains("cannot open the ledger"), "{fault}");
}
