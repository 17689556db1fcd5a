//! Log-likelihoods of known tokens. Questions that begin alike are run once up to where they part, and many go through
//! the decoder in one batch.

use pasture_model::{Kv, SequenceId};

use super::error::{Error, Result};
use super::subject::{Piece, ROWS, Subject};

/// Tokens of which the last are scored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// All tokens; the first is never scored.
    pub ids: Vec<u32>,
    /// How many of them are scored, counted from the end.
    pub scored: usize,
    /// Neighbors of one group may begin alike.
    pub group: usize,
}

/// What the model thinks of an [`Ask`]'s scored tokens.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Said {
    /// The natural logarithm of each token's probability.
    pub logprobs: Vec<f32>,
    /// Whether each is the most probable token of its place.
    pub greedy: bool,
}

impl Said {
    /// The logarithm of the probability of all tokens.
    pub fn sum(&self) -> f64 {
        self.logprobs.iter().map(|logprob| f64::from(*logprob)).sum()
    }
}

/// A token whose likelihood is asked: of which question, its place among the scored ones.
struct Target {
    ask: usize,
    place: usize,
    id: u32,
}

/// Answers questions. Texts longer than the context lose their beginning. `watch` is told the questions that are done,
/// and says whether to go on; what is not done then has no log-probabilities.
///
/// # Errors
/// When the model cannot run them, or more tokens are scored than the context holds.
pub fn likelihoods(subject: &Subject, asks: &[Ask], watch: &mut dyn FnMut(usize) -> bool) -> Result<Vec<Said>> {
    let cut: Vec<&[u32]> = asks.iter().map(|ask| cut(subject, ask)).collect::<Result<_>>()?;
    let mut said: Vec<Said> = vec![Said::default(); asks.len()];
    let mut kv = subject.memory();
    let mut done = 0;
    while done < asks.len() {
        if !watch(done) {
            return Ok(said);
        }
        let groups = next_groups(subject, asks, &cut, done);
        let end = groups.last().map_or(done, |group| group.end);
        run(subject, asks, &cut, &groups, &mut kv, &mut said)?;
        done = end;
    }
    watch(done);
    Ok(said)
}

/// The tokens that fit: the inputs and one more.
fn cut<'a>(subject: &Subject, ask: &'a Ask) -> Result<&'a [u32]> {
    let (len, context) = (ask.ids.len(), subject.context());
    assert!(ask.scored < len, "a scored token has one before it");
    if ask.scored > context {
        return Err(pasture_model::Error::Context { wanted: ask.scored, limit: context }.into());
    }
    Ok(&ask.ids[len.saturating_sub(context + 1)..])
}

/// Questions whose first `shared` inputs are the same.
struct Group {
    start: usize,
    end: usize,
    shared: usize,
}

/// Groups whose rows fill a forward, one at least.
fn next_groups(subject: &Subject, asks: &[Ask], cut: &[&[u32]], start: usize) -> Vec<Group> {
    let (mut groups, mut rows, mut at) = (Vec::new(), 0, start);
    while at < asks.len() && rows < ROWS {
        let mut end = at + 1;
        while subject.shares() && end < asks.len() && asks[end].group == asks[at].group {
            end += 1;
        }
        let inputs = |ask: usize| &cut[ask][..cut[ask].len() - 1];
        let alike = |ask: usize| inputs(at).iter().zip(inputs(ask)).take_while(|(a, b)| a == b).count();
        let shared = (at..end).map(alike).min().unwrap_or(0);
        rows += shared + (at..end).map(|ask| inputs(ask).len() - shared).sum::<usize>();
        groups.push(Group { start: at, end, shared });
        at = end;
    }
    groups
}

fn run(
    subject: &Subject,
    asks: &[Ask],
    cut: &[&[u32]],
    groups: &[Group],
    kv: &mut Kv,
    said: &mut [Said],
) -> Result<()> {
    for group in groups {
        for ask in group.start..group.end {
            said[ask] = Said { logprobs: vec![0.0; asks[ask].scored], greedy: true };
        }
    }
    let bases: Vec<SequenceId> = groups.iter().map(|_| kv.start()).collect();
    let (mut pieces, mut targets) = (Vec::new(), Vec::new());
    for (group, sequence) in groups.iter().zip(&bases).filter(|(group, _)| group.shared > 0) {
        let inputs = &cut[group.start][..group.shared];
        let rope_len = cut[group.start].len() - 1;
        let of_all = (group.start..group.end).flat_map(|ask| targets_of(asks, cut, ask, 0..group.shared));
        push(&mut pieces, &mut targets, *sequence, 0, rope_len, inputs, of_all.collect());
    }
    subject.run(&pieces, kv, &mut |piece, row, logits| score(&targets[piece], row, logits, said))?;
    let (mut pieces, mut targets, mut forks) = (Vec::new(), Vec::new(), Vec::new());
    for (group, base) in groups.iter().zip(&bases) {
        for ask in group.start..group.end {
            let inputs = &cut[ask][..cut[ask].len() - 1];
            if inputs.len() > group.shared {
                let sequence = kv.fork(*base);
                let own = targets_of(asks, cut, ask, group.shared..inputs.len());
                let rest = &inputs[group.shared..];
                push(&mut pieces, &mut targets, sequence, group.shared, inputs.len(), rest, own);
                forks.push(sequence);
            }
        }
    }
    subject.run(&pieces, kv, &mut |piece, row, logits| score(&targets[piece], row, logits, said))?;
    bases.into_iter().chain(forks).for_each(|sequence| kv.end(sequence));
    Ok(())
}

/// The scored tokens of a question that the rows `rows` of its inputs predict, by the row counted from `rows.start`.
fn targets_of(asks: &[Ask], cut: &[&[u32]], ask: usize, rows: std::ops::Range<usize>) -> Vec<(usize, Target)> {
    let first = cut[ask].len() - 1 - asks[ask].scored;
    let scored = rows.clone().filter(|row| *row >= first);
    scored.map(|row| (row - rows.start, Target { ask, place: row - first, id: cut[ask][row + 1] })).collect()
}

fn push(
    pieces: &mut Vec<Piece>,
    targets: &mut Vec<Vec<(usize, Target)>>,
    sequence: SequenceId,
    start: usize,
    rope_len: usize,
    ids: &[u32],
    mut own: Vec<(usize, Target)>,
) {
    own.sort_by_key(|(row, _)| *row);
    let mut wanted: Vec<usize> = own.iter().map(|(row, _)| *row).collect();
    wanted.dedup();
    pieces.push(Piece { sequence, start, rope_len, ids: ids.to_vec(), wanted });
    targets.push(own);
}

fn score(targets: &[(usize, Target)], row: usize, logits: &[f32], said: &mut [Said]) {
    let Normal { log_sum, best } = normal(logits);
    let first = targets.partition_point(|(of, _)| *of < row);
    for (_, target) in targets[first..].iter().take_while(|(of, _)| *of == row) {
        let said = &mut said[target.ask];
        said.logprobs[target.place] = (f64::from(logits[target.id as usize]) - log_sum) as f32;
        said.greedy &= best == target.id as usize;
    }
}

/// What normalizes a row of logits.
pub(crate) struct Normal {
    /// The logarithm of the sum of `exp(logit)`.
    pub(crate) log_sum: f64,
    /// The first of the largest logits.
    pub(crate) best: usize,
}

/// Normalizes a row of logits; the sum is kept in f64.
pub(crate) fn normal(logits: &[f32]) -> Normal {
    let (mut best, mut largest) = (0, f32::NEG_INFINITY);
    for (at, logit) in logits.iter().enumerate() {
        if *logit > largest {
            (best, largest) = (at, *logit);
        }
    }
    let sum: f64 = logits.iter().map(|logit| f64::from((logit - largest).exp())).sum();
    Normal { log_sum: f64::from(largest) + sum.ln(), best }
}

/// The windows of a text: each token is scored once, after at most `size` tokens before it. The first window scores
/// all it holds, the others their last `stride` tokens; with `stride` = `size` they are those of lm-evaluation-harness.
///
/// # Panics
/// When the stride is zero or larger than the size.
pub fn windows(ids: &[u32], prefix: u32, size: usize, stride: usize) -> Vec<Ask> {
    assert!(0 < stride && stride <= size, "windows go on and overlap");
    let mut asks = Vec::new();
    let mut done = size.min(ids.len());
    if done > 0 {
        let first = [&[prefix][..], &ids[..done]].concat();
        asks.push(Ask { ids: first, scored: done, group: 0 });
    }
    while done < ids.len() {
        let end = (done + stride).min(ids.len());
        asks.push(Ask { ids: ids[end - size - 1..end].to_vec(), scored: end - done, group: asks.len() });
        done = end;
    }
    asks
}

/// The tokens of a context and its continuation. White space at the context's end belongs to the continuation, and both
/// are encoded as one text, as lm-evaluation-harness does.
///
/// # Errors
/// When the continuation has no tokens, or the tokenizer refuses a text.
pub fn continuation(subject: &Subject, context: &str, continuation: &str, group: usize) -> Result<Ask> {
    if context.is_empty() {
        let ids = subject.tokenizer()?.encode(continuation, pasture_files::tokenizer::Specials::Parse)?;
        let scored = ids.len();
        return match (subject.prefix()?, ids.first()) {
            (_, None) => Err(empty(continuation)),
            (Some(prefix), Some(first)) if prefix == *first && scored > 1 => Ok(Ask { ids, scored: scored - 1, group }),
            (Some(prefix), _) => Ok(Ask { ids: [&[prefix][..], &ids].concat(), scored, group }),
            (None, _) => Err(Error::Task {
                task: "likelihood".into(),
                what: "a text without a context needs a begin or end token, and the tokenizer has none".into(),
            }),
        };
    }
    let kept = context.trim_end();
    let whole = subject.encode(&format!("{context}{continuation}"))?;
    let mut ids = subject.encode(kept)?;
    let scored = whole.len().saturating_sub(ids.len());
    if scored == 0 || ids.is_empty() {
        return Err(empty(continuation));
    }
    let start = ids.len();
    ids.extend_from_slice(&whole[start..]);
    Ok(Ask { ids, scored, group })
}

fn empty(continuation: &str) -> Error {
    let what = format!("the continuation {continuation:?} has no tokens of its own, so it cannot be scored");
    Error::Task { task: "likelihood".into(), what }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_is_scored_once_after_as_much_as_fits() {
        let ids: Vec<u32> = (10..20).collect();
        let shown = |size, stride| {
            let show = |ask: Ask| (ask.ids[0], ask.ids[ask.ids.len() - ask.scored..].to_vec());
            windows(&ids, 1, size, stride).into_iter().map(show).collect::<Vec<_>>()
        };
        let whole: Vec<u32> = (10..20).collect();
        assert_eq!(shown(16, 16), [(1, whole)]);
        assert_eq!(
            shown(4, 4),
            [(1, vec![10, 11, 12, 13]), (13, vec![14, 15, 16, 17]), (15, vec![18, 19])],
            "the last window has all the context that fits"
        );
        assert_eq!(
            shown(4, 2),
            [(1, vec![10, 11, 12, 13]), (11, vec![14, 15]), (13, vec![16, 17]), (15, vec![18, 19])]
        );
        assert!(windows(&[], 1, 4, 2).is_empty());
    }

    #[test]
    fn a_row_is_normalized() {
        let Normal { log_sum, best } = normal(&[1.0, 3.0, 3.0, -1e30]);
        assert_eq!(best, 1);
        assert!((log_sum - (1f64.exp() + 2.0 * 3f64.exp()).ln()).abs() < 1e-6);
    }
}
