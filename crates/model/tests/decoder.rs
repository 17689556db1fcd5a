//! What a forward refuses leaves its sequences as they were; and a prefix that is shared, cut or forked changes no bit.

use std::path::Path;
use std::sync::Arc;

use pasture_kernels::Pool;
use pasture_model::spec::{Mask, MixerSpec};
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

/// A text of many times the window, token by token and in chunks: pages behind the window are given back, and no logit
/// changes for it.
#[test]
fn pages_that_left_the_window_are_free_and_change_no_logit() {
    for case in ["text/gemma2", "text/gemma3_text"] {
        let decoder = model(case);
        let windows: Vec<Option<usize>> = windows(&decoder);
        assert!(windows.iter().any(Option::is_some), "{case} has a window");
        let ids = text(3, 300);
        let mut keeps = kv(&decoder);
        let all = keeps.start();
        for chunk in [1, 40] {
            let mut gives = kv(&decoder);
            let sequence = gives.start();
            keeps.truncate(all, 0);
            for part in ids.chunks(chunk) {
                let expected = run(&decoder, &mut keeps, all, part).expect("it fits");
                assert_eq!(run(&decoder, &mut gives, sequence, part).expect("it fits"), expected, "{case}");
                let held = gives.len(sequence);
                gives.release(sequence, held);
                for (pages, window) in gives.pages().iter().zip(&windows) {
                    assert_eq!(pages.free + pages.held, pages.total);
                    let wanted = window.map_or(held.div_ceil(32), |window| (window - 1).div_ceil(32) + 1);
                    assert!(pages.held <= wanted, "{case}: {} pages for a window of {window:?}", pages.held);
                }
            }
            assert!(!gives.can_truncate(sequence, 40) && gives.can_truncate(sequence, 0));
            // A fork shares what is left, and neither frees what the other holds.
            let fork = gives.fork(sequence);
            gives.end(sequence);
            let next = run(&decoder, &mut keeps, all, &[5]).expect("it fits");
            assert_eq!(run(&decoder, &mut gives, fork, &[5]).expect("it fits"), next, "{case}");
            gives.end(fork);
            assert!(gives.pages().iter().all(|pages| pages.held == 0 && pages.free == pages.total));
        }
    }
}

/// The window of each group of layers, in the order of the first layer of each.
fn windows(decoder: &Decoder) -> Vec<Option<usize>> {
    let mut masks: Vec<Mask> = Vec::new();
    for branch in decoder.spec().layers.iter().flatten() {
        if let MixerSpec::Attention(attention) = &branch.mixer
            && !masks.contains(&attention.mask)
        {
            masks.push(attention.mask);
        }
    }
    masks.iter().map(|mask| if let Mask::Window(width) = mask { Some(*width) } else { None }).collect()
}
