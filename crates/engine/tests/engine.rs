//! The engine over a model of arithmetic: its next token is a function of the whole sequence, so that a row at a
//! wrong place, a mixed-up sequence or a lost token changes the answer.

#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use pasture_engine::sampling::SamplingOptions;
use pasture_engine::scheduler::Ticket;
use pasture_engine::{
    Answer, Engine, EngineOptions, Event, Finish, Forward, Pieces, Propose, Request, RopeRule, Speculation, Stream,
    Text, Wanted,
};
use pasture_kernels::Pool;
use pasture_model::spec::Mask;
use pasture_model::{Batch, Kv, KvShape};
use pasture_tensor::kv::{KvFormat, PAGE};
use pasture_tensor::{Cpu, Precision, Tensor};

const VOCAB: usize = 97;

/// Gives the token that the sum of all tokens so far, each times its place, names.
struct Arithmetic {
    backend: Cpu,
    /// Ids and rope lengths, where keys and values would stand: by page.
    pages: HashMap<u32, [(u32, usize); PAGE]>,
    rope: RopeRule,
    rows: Arc<AtomicUsize>,
    delay: Duration,
    /// So many sequences at once find memory.
    crowd_max: usize,
    /// So many rows at once find memory.
    rows_max: usize,
}

impl Arithmetic {
    fn new(rope: RopeRule) -> Self {
        let backend = Cpu::new(Arc::new(Pool::new(1)), Precision::Exact);
        Self {
            backend,
            pages: HashMap::new(),
            rope,
            rows: Arc::default(),
            delay: Duration::ZERO,
            crowd_max: usize::MAX,
            rows_max: usize::MAX,
        }
    }
}

/// The token after `ids`, whose rows ran with the given rope lengths.
fn after(rows: &[(u32, usize)]) -> usize {
    let sum: usize = rows.iter().enumerate().map(|(at, (id, length))| (at + 1) * (*id as usize + 31 * length)).sum();
    sum * 7919 % VOCAB
}

impl Forward for Arithmetic {
    fn vocab(&self) -> usize {
        VOCAB
    }

    fn context(&self) -> usize {
        400
    }

    fn rope_rule(&self) -> RopeRule {
        self.rope
    }

    fn kv(&self) -> Kv {
        let shape = KvShape { mask: Mask::Causal, kv_heads: 1, head_dim: 1 };
        Kv::new(&self.backend, &[shape], KvFormat::F32)
    }

    fn logits(&mut self, batch: &Batch, kv: &mut Kv, rows: &[u32]) -> pasture_model::Result<Tensor> {
        std::thread::sleep(self.delay);
        self.rows.fetch_add(batch.ids.len(), Ordering::Relaxed);
        assert!(!batch.ids.contains(&13), "thirteen");
        let crowd = batch.spans.len() > self.crowd_max || batch.ids.len() > self.rows_max;
        let mut logits = Vec::new();
        for span in &batch.spans {
            let end = span.start + span.rows.len();
            assert!(kv.len(span.sequence) == span.start);
            let before = kv.table(span.sequence, 0).get(span.start / PAGE).copied();
            kv.extend(&self.backend, span.sequence, span.start, end)?;
            if crowd {
                return Err(pasture_model::Error::Memory { pages: 7 });
            }
            // Only lengths on the other side of a switch count.
            let length = match self.rope {
                RopeRule::Fixed => 0,
                RopeRule::Switch(at) => usize::from(span.rope_len > at),
                RopeRule::Grows(at) => span.rope_len.max(at),
            };
            let table = kv.table(span.sequence, 0);
            if let Some(copied) =
                before.filter(|page| !span.start.is_multiple_of(PAGE) && table[span.start / PAGE] != *page)
            {
                self.pages.insert(table[span.start / PAGE], self.pages[&copied]);
            }
            for (at, id) in (span.start..end).zip(&batch.ids[span.rows.clone()]) {
                self.pages.entry(table[at / PAGE]).or_insert([(0, 0); PAGE])[at % PAGE] = (*id, length);
            }
            let seen: Vec<(u32, usize)> = (0..end).map(|at| self.pages[&table[at / PAGE]][at % PAGE]).collect();
            for row in rows.iter().map(|row| *row as usize).filter(|row| span.rows.contains(row)) {
                let next = after(&seen[..=span.start + row - span.rows.start]);
                logits.extend((0..VOCAB).map(|id| if id == next { 3.0 } else { (id % 7) as f32 * 0.3 }));
            }
        }
        Ok(Tensor::new(rows.len(), VOCAB, logits))
    }
}

/// Letters, a to z again and again.
struct Letters;

impl Text for Letters {
    fn start(&self, _: &[u32], _: &Arc<[u32]>) -> Box<dyn Pieces> {
        Box::new(Letters)
    }
}

impl Pieces for Letters {
    fn push(&mut self, id: u32) -> String {
        char::from(b'a' + (id % 26) as u8).to_string()
    }

    fn finish(&mut self) -> String {
        String::new()
    }
}

/// Without proposals, for tests that count rows.
fn counted() -> EngineOptions {
    EngineOptions { speculation: Speculation::Off, ..EngineOptions::default() }
}

fn engine(options: EngineOptions) -> Engine {
    Engine::start(Box::new(Arithmetic::new(RopeRule::Fixed)), Some(Arc::new(Letters)), options).expect("it starts")
}

fn greedy(ids: &[u32], max_tokens: usize) -> Request {
    let sampling = SamplingOptions { temperature: Some(0.0), ..Default::default() };
    Request { sampling, max_tokens: Some(max_tokens), ..Request::new(ids.to_vec()) }
}

fn answer(engine: &Engine, request: Request) -> Answer {
    engine.submit(request).expect("it is taken").answer().expect("it is answered")
}

/// What the model says without an engine, where `length` is what a row of a sequence so long counts.
fn told(ids: &[u32], count: usize, length: impl Fn(usize) -> usize) -> Vec<u32> {
    let mut known = ids.to_vec();
    for _ in 0..count {
        let rows: Vec<(u32, usize)> = known.iter().map(|id| (*id, length(known.len()))).collect();
        known.push(after(&rows) as u32);
    }
    known.split_off(ids.len())
}

fn expected(ids: &[u32], count: usize) -> Vec<u32> {
    told(ids, count, |_| 0)
}

fn prompt(seed: u32, len: usize) -> Vec<u32> {
    (0..len as u32).map(|at| (seed * 31 + at * at * 7 + 14) % 97).map(|id| if id == 13 { 14 } else { id }).collect()
}

/// Prompts after which the token that makes the model panic does not come.
fn safe_prompts(len: usize, count: usize) -> Vec<Vec<u32>> {
    (0..).map(|seed| prompt(seed, len)).filter(|ids| !expected(ids, 40).contains(&13)).take(count).collect()
}

#[test]
fn chunks_neighbors_and_lack_of_pages_change_no_token() {
    let prompts: Vec<Vec<u32>> = [3, 50, 70, 1, 20].iter().flat_map(|len| safe_prompts(*len, 2)).collect();
    for step_tokens in [1, 7, 16, 512] {
        for pages in [None, Some(4)] {
            let engine = engine(EngineOptions { step_tokens, pages, ..Default::default() });
            let streams: Vec<Stream> = prompts.iter().map(|ids| engine.submit(greedy(ids, 40)).unwrap()).collect();
            for (ids, stream) in prompts.iter().zip(streams) {
                let answer = stream.answer().unwrap();
                assert_eq!(answer.ids, expected(ids, 40), "{step_tokens} rows, {pages:?} pages");
                assert_eq!((answer.finish, answer.usage.new_tokens), (Finish::MaxTokens, 40));
            }
        }
    }
}

#[test]
fn a_stream_that_is_polled_gives_the_same_events_and_a_notice_for_each() {
    let engine = engine(EngineOptions::default());
    let ids = safe_prompts(5, 1).remove(0);
    let (sender, notices) = std::sync::mpsc::channel();
    let wake: Arc<dyn Fn() + Send + Sync> = Arc::new(move || sender.send(()).unwrap_or_default());
    let mut stream = engine.submit(Request { wake: Some(wake), ..greedy(&ids, 6) }).unwrap();
    let mut events = Vec::new();
    // The last notice, after the last event, ends with the channel.
    while notices.recv_timeout(Duration::from_secs(60)).is_ok() {
        while let Poll::Ready(Some(event)) = stream.poll_event() {
            events.push(event.unwrap());
        }
    }
    let id = |event: &Event| if let Event::Piece(piece) = event { Some(piece.id) } else { None };
    let new: Vec<u32> = events.iter().filter_map(id).collect();
    assert_eq!(new, expected(&ids, 6));
    assert!(matches!(events.last(), Some(Event::Ending(_))) && events.len() == 7);
    assert!(matches!(stream.poll_event(), Poll::Ready(None)));
}

#[test]
fn requests_that_are_handed_in_together_begin_with_the_same_step() {
    let engine = engine(EngineOptions::default());
    let prompts = safe_prompts(5, 3);
    let (sender, notices) = std::sync::mpsc::channel();
    let requests = prompts.iter().enumerate().map(|(at, ids)| {
        let sender = sender.clone();
        let wake: Arc<dyn Fn() + Send + Sync> = Arc::new(move || sender.send(at).unwrap_or_default());
        Request { wake: Some(wake), ..greedy(ids, 4) }
    });
    let streams = engine.submit_all(requests.collect()).unwrap();
    for (stream, ids) in streams.into_iter().zip(&prompts) {
        assert_eq!(stream.answer().unwrap().ids, expected(ids, 4));
    }
    let first: Vec<usize> = (0..3).map(|_| notices.recv_timeout(Duration::from_secs(60)).unwrap()).collect();
    assert!((0..3).all(|at| first.contains(&at)), "one went on before all had begun: {first:?}");
    let one_is_empty = engine.submit_all(vec![greedy(&prompts[0], 4), greedy(&[], 4)]);
    assert!(matches!(one_is_empty, Err(pasture_engine::Error::EmptyPrompt)));
}

#[test]
fn a_conversation_computes_only_what_is_new() {
    let model = Arithmetic::new(RopeRule::Fixed);
    let rows = model.rows.clone();
    let engine = Engine::start(Box::new(model), None, counted()).unwrap();
    let mut ids = safe_prompts(50, 1).remove(0);
    let first = answer(&engine, greedy(&ids, 10));
    assert_eq!((first.usage.cached_tokens, rows.load(Ordering::Relaxed)), (0, 59));
    ids.extend(&first.ids);
    ids.extend([1, 2, 3]);
    let second = answer(&engine, greedy(&ids, 1));
    assert_eq!((second.usage.cached_tokens, second.ids), (59, expected(&ids, 1)));
    assert_eq!(rows.load(Ordering::Relaxed), 59 + 4);
    // Another question at the same place: what follows it is forgotten.
    ids[55] = 90;
    let third = answer(&engine, greedy(&ids, 1));
    assert_eq!((third.usage.cached_tokens, third.ids), (55, expected(&ids, 1)));
}

#[test]
fn a_stopped_answer_leaves_what_it_computed_to_the_next() {
    let model = Arithmetic { delay: Duration::from_millis(5), ..Arithmetic::new(RopeRule::Fixed) };
    let engine = Engine::start(Box::new(model), None, counted()).unwrap();
    let ids = safe_prompts(50, 1).remove(0);
    let mut stream = engine.submit(greedy(&ids, 40)).unwrap();
    assert!(matches!(stream.next(), Some(Ok(Event::Piece(_)))));
    drop(stream);
    let next = answer(&engine, greedy(&ids, 1));
    assert_eq!((next.usage.cached_tokens, next.ids), (49, expected(&ids, 1)));
}

#[test]
fn what_is_known_is_shared_within_a_scope_only() {
    let engine = engine(EngineOptions::default());
    let ids = safe_prompts(100, 1).remove(0);
    let of = |scope: &str| {
        let answer = answer(&engine, Request { scope: scope.into(), ..greedy(&ids, 5) });
        assert_eq!(answer.ids, expected(&ids, 5));
        answer.usage.cached_tokens
    };
    assert_eq!((of("one"), of("two"), of("one"), of("two")), (0, 0, 99, 99));
    let counts = engine.counts();
    assert_eq!((counts.cached_tokens, counts.now.held, counts.now.running), (198, 0, 0));
}

#[test]
fn a_beginning_that_many_share_is_computed_once() {
    let model = Arithmetic { delay: Duration::from_millis(1), ..Arithmetic::new(RopeRule::Fixed) };
    let rows = model.rows.clone();
    let options = EngineOptions { step_tokens: 48, ..counted() };
    let engine = Engine::start(Box::new(model), None, options).unwrap();
    let common = prompt(2, 320);
    let asks: Vec<Vec<u32>> = (20..84).map(|id| [common.as_slice(), &[id, 5]].concat()).collect();
    let streams: Vec<Stream> = asks.iter().map(|ids| engine.submit(greedy(ids, 1)).unwrap()).collect();
    for (ids, stream) in asks.iter().zip(streams) {
        assert_eq!(stream.answer().unwrap().ids, expected(ids, 1));
    }
    assert_eq!(rows.load(Ordering::Relaxed), 320 + 64 * 2);
    assert_eq!(engine.counts().cached_tokens, 63 * 320);
}

#[test]
fn several_answers_share_the_prompt_and_differ() {
    let model = Arithmetic::new(RopeRule::Fixed);
    let rows = model.rows.clone();
    let engine = Engine::start(Box::new(model), None, counted()).unwrap();
    let request = |answers, seed| {
        let sampling =
            SamplingOptions { seed: Some(seed), logit_bias: Some([(13, -100.0)].into()), ..Default::default() };
        Request { sampling, max_tokens: Some(12), answers, ..Request::new(prompt(3, 40)) }
    };
    let three = engine.submit(request(3, 5)).unwrap().answers().unwrap();
    assert_eq!(rows.load(Ordering::Relaxed), 40 + 3 * 11);
    assert!(three[0].ids != three[1].ids && three[1].ids != three[2].ids);
    let again = engine.submit(request(3, 5)).unwrap().answers().unwrap();
    let ids = |answers: &[Answer]| answers.iter().map(|answer| answer.ids.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&three), ids(&again), "the same seed gives the same answers");
    let alone = answer(&engine, request(1, 5));
    assert_eq!(alone.ids, three[0].ids, "the first answer does not depend on how many there are");
    assert!(answer(&engine, request(1, 6)).ids != alone.ids);
}

#[test]
fn answers_end_where_the_request_says() {
    let engine = engine(EngineOptions::default());
    let ids = safe_prompts(5, 1).remove(0);
    let all = expected(&ids, 40);
    let stopped = answer(&engine, Request { stop_ids: vec![all[6]], ..greedy(&ids, 40) });
    let at = all.iter().position(|id| *id == all[6]).unwrap();
    assert_eq!((stopped.ids.as_slice(), stopped.finish), (&all[..=at], Finish::StopId(all[6])));
    assert_eq!(stopped.text.len(), at, "an end token is no text");

    let text = answer(&engine, greedy(&ids, 40)).text;
    let stops = vec!["#".to_owned(), text[20..23].to_owned()];
    let cut = answer(&engine, Request { stops, ..greedy(&ids, 40) });
    assert_eq!((cut.text.as_str(), cut.finish), (text.split(&text[20..23]).next().unwrap(), Finish::StopString(1)));

    let filled = answer(&engine, Request { max_tokens: None, ..greedy(&prompt(1, 390), 1) });
    assert_eq!((filled.ids.len(), filled.finish), (10, Finish::ContextFull));
}

#[test]
fn what_cannot_be_answered_is_refused_with_numbers() {
    let engine = engine(EngineOptions { pages: Some(4), ..Default::default() });
    let check = |request: Request, part: &str| {
        let error = engine.submit(request).err().expect("it is refused").to_string();
        assert!(error.contains(part), "{error:?} lacks {part:?}");
    };
    check(greedy(&[], 1), "no tokens");
    check(greedy(&[97], 1), "token id 97 is past the vocabulary of 97");
    check(greedy(&[1; 400], 1), "400 tokens of prompt and 1 new ones are more than its 400");
    check(greedy(&[1; 10], 391), "10 tokens of prompt and 391 new ones");
    check(greedy(&[1; 100], 29), "needs 5 pages");
    check(greedy(&[1], 0), "max_tokens is 0");
    check(Request { answers: 0, ..greedy(&[1], 1) }, "answers is 0");
    check(Request { stops: vec![String::new()], ..greedy(&[1], 1) }, "0 bytes");
    let sampling = SamplingOptions { top_p: Some(2.0), ..Default::default() };
    check(Request { sampling, ..greedy(&[1], 1) }, "top_p is 2");
}

#[test]
fn a_cancelled_request_ends_within_a_step() {
    let model = Arithmetic { delay: Duration::from_millis(5), ..Arithmetic::new(RopeRule::Fixed) };
    let rows = model.rows.clone();
    let engine = Engine::start(Box::new(model), None, counted()).unwrap();
    let ids = safe_prompts(5, 1).remove(0);
    let request = greedy(&ids, 300);
    let cancel = request.cancel.clone();
    let mut stream = engine.submit(request).unwrap();
    assert!(matches!(stream.next(), Some(Ok(Event::Piece(_)))));
    cancel.store(true, Ordering::Relaxed);
    let before = rows.load(Ordering::Relaxed);
    let last = stream.last();
    assert!(matches!(last, Some(Ok(Event::Ending(ending))) if ending.finish == Finish::Cancelled));
    // The step that was about to begin when the flag was set may still run.
    assert!(rows.load(Ordering::Relaxed) <= before + 1);

    drop(engine.submit(greedy(&ids, 300)).unwrap());
    let _ = answer(&engine, greedy(&ids, 1));
    let before = rows.load(Ordering::Relaxed);
    std::thread::sleep(Duration::from_millis(30));
    assert_eq!(rows.load(Ordering::Relaxed), before, "nothing is computed for a stream that was dropped");
}

#[test]
fn where_memory_runs_out_the_youngest_gives_way() {
    let model = Arithmetic { crowd_max: 2, delay: Duration::from_millis(10), ..Arithmetic::new(RopeRule::Fixed) };
    let engine = Engine::start(Box::new(model), None, counted()).unwrap();
    let prompts = safe_prompts(10, 3);
    let streams: Vec<Stream> = prompts.iter().map(|ids| engine.submit(greedy(ids, 40)).unwrap()).collect();
    let answers: Vec<_> = streams.into_iter().map(Stream::answer).collect();
    for (ids, answer) in prompts.iter().zip(&answers).take(2) {
        assert_eq!(answer.as_ref().unwrap().ids, expected(ids, 40));
    }
    assert!(answers[2].as_ref().unwrap_err().to_string().contains("7 more pages"));
}

/// Proposes two tokens wherever it is asked, and counts that.
struct Guesses(Arc<AtomicUsize>);

impl Propose for Guesses {
    fn propose(&mut self, wanted: &[Wanted]) -> Vec<Option<Vec<u32>>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        wanted.iter().map(|_| Some(vec![1, 2])).collect()
    }

    fn end(&mut self, _: Ticket) {}

    fn clear(&mut self) {}
}

#[test]
fn where_memory_runs_out_for_proposals_nobody_gives_way() {
    let asked: Arc<AtomicUsize> = Arc::default();
    let model = Box::new(Arithmetic { rows_max: 2, ..Arithmetic::new(RopeRule::Fixed) });
    let options = EngineOptions { speculation: Speculation::Always(2), step_tokens: 4, ..EngineOptions::default() };
    let engine = Engine::start_with(model, Some(Box::new(Guesses(asked.clone()))), None, options).unwrap();
    let prompts = safe_prompts(1, 2);
    let streams: Vec<Stream> = prompts.iter().map(|ids| engine.submit(greedy(ids, 40)).unwrap()).collect();
    for (ids, stream) in prompts.iter().zip(streams) {
        assert_eq!(stream.answer().unwrap().ids, expected(ids, 40));
    }
    assert!((1..5).contains(&asked.load(Ordering::Relaxed)), "it is not asked in every step");
    assert_eq!(engine.counts().proposed_tokens, 0, "their rows never found memory");
}

#[test]
fn a_panic_ends_the_answers_and_not_the_engine() {
    let engine = engine(EngineOptions::default());
    let ids = safe_prompts(5, 1).remove(0);
    let error = engine.submit(greedy(&[13], 5)).unwrap().answer().unwrap_err().to_string();
    assert!(error.contains("thirteen") && error.contains("bug"), "{error}");
    assert_eq!(answer(&engine, greedy(&ids, 5)).ids, expected(&ids, 5));
}

#[test]
fn angles_that_switch_are_those_of_the_length_in_every_row() {
    let long = |known: usize| usize::from(known > 24);
    let safe = |ids: &Vec<u32>| !told(ids, 12, long).contains(&13);
    let ids = (0..).map(|seed| prompt(seed, 20)).find(safe).unwrap();
    for step_tokens in [1, 7, 512] {
        let model = Box::new(Arithmetic::new(RopeRule::Switch(24)));
        let engine = Engine::start(model, None, EngineOptions { step_tokens, ..Default::default() }).unwrap();
        assert_eq!(answer(&engine, greedy(&ids, 12)).ids, told(&ids, 12, long), "{step_tokens} rows");
    }
}
