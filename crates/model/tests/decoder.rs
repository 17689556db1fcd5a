//! What a forward refuses leaves its sequences as they were; and a prefix that is shared, cut or forked changes no bit.

use std::path::Path;
use std::sync::Arc;

use pasture_kernels::Pool;
use pasture_model::{Batch, Decoder, Error, Kv, LoadOptions, SequenceId, Source, load};
use pasture_tensor::kv::KvFormat;
use pasture_tensor::{Backend, Cpu, Ops, Precision};

fn model(case: &str) -> Decoder {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden")).join(case);
    let backend: Arc<dyn Backend> = Arc::new(Cpu::new(Arc::new(Pool::new(1)), Precision::Exact));
    let source = Source::open(&folder).expect("a committed case opens");
    load(&source, &backend, &LoadOptions::default(), &mut |_, _| ()).expect("a committed case loads").decoder
}

fn kv(decoder: &Decoder) -> Kv {
    decoder.kv(&**decoder.backend(), KvFormat::F16)
}

/// Runs ids at the end of a sequence: the last row.
fn run(decoder: &Decoder, kv: &mut Kv, sequence: SequenceId, ids: &[u32]) -> Result<Vec<f32>, Error> {
    let backend = decoder.backend().clone();
    let start = kv.len(sequence);
    let batch = Batch::one(sequence, start, start + ids.len(), ids);
    let hidden = decoder.forward(&mut Ops::new(&*backend), &batch, kv)?;
    Ok(hidden.rows.row(ids.len() - 1).to_vec())
}

/// Ids that mean nothing, no two texts alike.
fn text(from: u32, len: u32) -> Vec<u32> {
    (0..len).map(|at| (from + at * 37) % 140).collect()
}

#[test]
fn forks_go_their_own_ways_from_a_common_prefix() {
    let decoder = model("pth/bin_base");
    // A page holds 32 tokens: prefixes that end inside a page, at its end, and after it.
    for len in [5, 32, 33, 64] {
        let (prefix, one, two) = (text(1, len), text(5, 40), text(9, 40));
        let whole = |ending: &[u32]| {
            let mut kv = kv(&decoder);
            let sequence = kv.start();
            run(&decoder, &mut kv, sequence, &[&prefix[..], ending].concat()).expect("it fits")
        };
        let mut kv = kv(&decoder);
        let parent = kv.start();
        run(&decoder, &mut kv, parent, &prefix).expect("it fits");
        let child = kv.fork(parent);
        let first = run(&decoder, &mut kv, parent, &one).expect("it fits");
        let second = run(&decoder, &mut kv, child, &two).expect("it fits");
        assert!(first == whole(&one) && second == whole(&two), "a prefix of {len}");
        kv.truncate(parent, len as usize);
        assert!(run(&decoder, &mut kv, parent, &two).expect("it fits") == second, "cut back to {len}");
    }
}

#[test]
fn a_refused_batch_leaves_its_sequences_as_they_were() {
    let decoder = model("pth/bin_base");
    let mut kv = kv(&decoder);
    let sequence = kv.start();
    let before = run(&decoder, &mut kv, sequence, &text(1, 4)).expect("it fits");
    let vocab = decoder.spec().vocab as u32;
    assert!(matches!(run(&decoder, &mut kv, sequence, &[1, vocab]), Err(Error::Token { id, .. }) if id == vocab));
    assert_eq!(kv.len(sequence), 4);
    kv.truncate(sequence, 3);
    assert!(run(&decoder, &mut kv, sequence, &text(1, 4)[3..]).expect("it fits") == before);
}

#[test]
fn an_encoder_has_an_end_of_positions_and_no_head() {
    let decoder = model("embed/bert");
    let mut kv = kv(&decoder);
    let (sequence, limit) = (kv.start(), decoder.spec().context);
    let long = vec![1; limit + 1];
    let refused = run(&decoder, &mut kv, sequence, &long);
    assert!(matches!(refused, Err(Error::Context { wanted, limit: found }) if wanted == limit + 1 && found == limit));
    assert_eq!(kv.len(sequence), 0);
    let backend = decoder.backend().clone();
    let mut ops = Ops::new(&*backend);
    let batch = Batch::one(sequence, 0, 2, &[1, 2]);
    let rows = decoder.forward(&mut ops, &batch, &mut kv).expect("it fits").rows;
    assert!(matches!(decoder.logits(&mut ops, &rows), Err(Error::NoHead)));
}
