//! Runs of tuning as a whole, on a model of two layers: the same bits on any number of threads and however often a run was
//! interrupted; damage, change and numbers that are not finite are found.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pasture_kernels::Pool;
use pasture_lab::data::{Example, Judged, Preference};
use pasture_lab::tune::checkpoint::{Identity, list};
use pasture_lab::tune::events::Reason;
use pasture_lab::tune::{self, Error, Event, Job, Outcome, Plan, Recipe, Samples};
use pasture_model::save::write_fresh;
use pasture_model::{Decoder, LoadOptions, Source, load};
use pasture_tensor::{Backend, Cpu, Precision};
use serde_json::json;

const VOCAB: u32 = 2048;

/// A folder with a model that knows nothing.
fn base(folder: &Path) {
    let config = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 32, "intermediate_size": 48,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": VOCAB,
        "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "tie_word_embeddings": true, "hidden_act": "silu",
        "rope_theta": 10000.0, "initializer_range": 0.2,
    });
    let starter = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../starter/starter.gguf");
    write_fresh(&config, &Source::open(&starter).expect("the starter opens"), folder, 1).expect("a model is written");
}

fn open(folder: &Path, threads: usize) -> (Arc<Decoder>, Arc<dyn Backend>) {
    let backend: Arc<dyn Backend> = Arc::new(Cpu::new(Arc::new(Pool::new(threads)), Precision::Exact));
    let source = Source::open(folder).expect("the model opens");
    let loaded = load(&source, &backend, &LoadOptions::default(), &mut |_, _| ()).expect("the model loads");
    (Arc::new(loaded.decoder), backend)
}

fn ids(seed: u32, len: u32) -> Vec<u32> {
    (0..len).map(|at| (at * at * 7 + seed * 31 + at * seed) % VOCAB).collect()
}

fn texts(count: u32) -> Samples {
    let text = |seed: u32| Example { ids: ids(seed, 5 + seed % 9), trained: vec![true; (5 + seed % 9) as usize] };
    Samples::of_texts((0..count).map(text).collect())
}

/// How a run is made.
struct Way<'w> {
    recipe: &'w str,
    threads: usize,
    checkpoints: Option<&'w Path>,
    resume: bool,
    /// Ends after this step.
    stop_after: Option<usize>,
    samples: Samples,
}

fn way(recipe: &str) -> Way<'_> {
    Way { recipe, threads: 2, checkpoints: None, resume: false, stop_after: None, samples: texts(14) }
}

fn plan(way: &Way) -> Plan {
    tune::plan(&Recipe::parse(way.recipe).expect("a recipe"), 64, &way.samples).expect("a plan")
}

fn run(base: &Path, way: Way) -> (tune::Result<Outcome>, Vec<Event>) {
    let (decoder, backend) = open(base, way.threads);
    let (stop, mut events) = (AtomicBool::new(false), Vec::new());
    let plan = plan(&way);
    let identity = Identity::from([
        ("recipe".to_owned(), way.recipe.to_owned()),
        ("data".to_owned(), way.samples.len().to_string()),
    ]);
    let (held_out, after) = (way.samples.only(&[0, 1, 2]), way.stop_after);
    let job = Job {
        decoder,
        backend,
        samples: way.samples,
        held_out,
        plan,
        identity,
        checkpoints: way.checkpoints.map(Path::to_owned),
        resume: way.resume,
        voice: None,
        stop: &stop,
    };
    let outcome = tune::run(job, &mut |event| {
        if let (Event::Step { step, .. }, Some(after)) = (event, after) {
            stop.store(*step >= after, Ordering::Relaxed);
        }
        events.push(event.clone());
    });
    (outcome, events)
}

/// Everything that a run leaves, as bits.
fn bits(mut outcome: Outcome) -> (Vec<Vec<u32>>, Vec<[u64; 4]>, String) {
    let values = outcome.trained.values(&mut outcome.decoder);
    let values = values.iter().map(|values| values.iter().map(|value| value.to_bits()).collect()).collect();
    let log = outcome.log.iter().map(|p| [p.loss, p.norm, p.rate, p.tokens].map(f64::to_bits)).collect();
    (values, log, format!("{:?}", outcome.state))
}

const LORA: &str = "rank = 2\nepochs = 2\nbatch = 4\nlearning_rate = 1e-2\ncheckpoint_every = 1\nevaluate_every = 2\ndropout = 0.1\naccumulate = 2";
const FULL: &str = "method = \"full\"\noptimizer = \"adamw8bit\"\nsteps = 4\nbatch_tokens = 30\ngrouping = \"packed\"\nlearning_rate = 1e-2\ncheckpoint_every = 1\nrecompute = true";
const DORA: &str = "method = \"dora\"\nrank = 2\nsteps = 3\nlearning_rate = 1e-2\ncheckpoint_every = 1\ntargets = [\"q_proj\", \"down_proj\"]";

#[test]
fn threads_and_interruptions_change_no_bit() {
    let place = tempfile::tempdir().expect("a temporary folder");
    base(place.path());
    for (number, recipe) in [LORA, FULL, DORA].into_iter().enumerate() {
        let (whole, _) = run(place.path(), way(recipe));
        let wanted = bits(whole.expect("it runs"));
        assert!(wanted.1.first() != wanted.1.last() && wanted.1.len() >= 3);
        for threads in [1, 3] {
            let (other, _) = run(place.path(), Way { threads, ..way(recipe) });
            assert!(bits(other.expect("it runs")) == wanted, "{recipe}: {threads} threads");
        }
        let folder = place.path().join(format!("run-{number}"));
        let go_on = |stop_after| Way { checkpoints: Some(&folder), resume: true, stop_after, ..way(recipe) };
        for after in 1..=wanted.1.len() {
            let (outcome, events) = run(place.path(), go_on(Some(after)));
            let outcome = outcome.expect("it runs");
            assert_eq!((outcome.reason, outcome.state.step), (Reason::Interrupted, after), "{events:?}");
        }
        let (outcome, _) = run(place.path(), go_on(None));
        assert!(bits(outcome.expect("it runs")) == wanted, "{recipe}: interrupted after each step");
    }
}

#[test]
fn a_damaged_checkpoint_is_found_and_the_one_before_it_used() {
    let place = tempfile::tempdir().expect("a temporary folder");
    base(place.path());
    let (whole, _) = run(place.path(), way(DORA));
    let wanted = bits(whole.expect("it runs"));
    let folder = place.path().join("run");
    let (first, _) = run(place.path(), Way { checkpoints: Some(&folder), stop_after: Some(2), ..way(DORA) });
    first.expect("it runs");
    let all = list(&folder);
    assert_eq!(all.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [2, 1], "the one before is kept");
    let good: Vec<Vec<u8>> = all.iter().map(|(_, file)| std::fs::read(file).expect("it is there")).collect();
    for place_of_damage in 0..100 {
        let mut bad = good[0].clone();
        let at = bad.len() * place_of_damage / 100;
        match place_of_damage % 2 {
            0 => bad.truncate(at),
            _ => bad[at] ^= 1 << (place_of_damage % 8),
        }
        std::fs::write(&all[0].1, &bad).expect("it can be written");
        let identity = Identity::from([("recipe".to_owned(), DORA.to_owned()), ("data".to_owned(), "14".to_owned())]);
        let tensors = {
            let (mut decoder, _) = open(place.path(), 1);
            let recipe = Recipe::parse(DORA).expect("a recipe");
            tune::Trained::of(&recipe, &mut decoder).expect("it trains").tensors().to_vec()
        };
        let (found, notes) = tune::checkpoint::newest(&folder, &identity, &tensors).expect("one is whole");
        assert_eq!(found.expect("one is whole").state.step, 1, "damage at {at}");
        assert!(notes[0].contains("step 2"), "{notes:?}");
    }
    let (last, events) = run(place.path(), Way { checkpoints: Some(&folder), resume: true, ..way(DORA) });
    assert!(events.iter().any(|event| matches!(event, Event::Note { text } if text.contains("step 2"))), "it is said");
    assert!(bits(last.expect("it runs")) == wanted);
    for (_, file) in list(&folder) {
        std::fs::write(file, b"").expect("it can be written");
    }
    let (none, _) = run(place.path(), Way { checkpoints: Some(&folder), resume: true, ..way(DORA) });
    assert!(matches!(none, Err(Error::Damaged { .. })));
}

#[test]
fn a_run_goes_on_only_with_what_it_began_with() {
    let place = tempfile::tempdir().expect("a temporary folder");
    base(place.path());
    let folder = place.path().join("run");
    run(place.path(), Way { checkpoints: Some(&folder), stop_after: Some(1), ..way(DORA) }).0.expect("it runs");
    let again = run(place.path(), Way { checkpoints: Some(&folder), ..way(DORA) }).0;
    assert!(matches!(again, Err(Error::Exists { .. })));
    let other = DORA.replace("rank = 2", "rank = 3");
    for (way, named) in [
        (Way { checkpoints: Some(&folder), resume: true, ..way(&other) }, "rank = 3"),
        (
            Way { checkpoints: Some(&folder), resume: true, samples: texts(15), ..way(DORA) },
            "\"data\" was \"14\" and is now \"15\"",
        ),
    ] {
        let refused = run(place.path(), way).0.err().map(|fault| fault.to_string()).unwrap_or_default();
        assert!(refused.contains(named), "{refused}");
    }
}

#[test]
fn numbers_that_are_not_finite_are_skipped_and_three_in_a_row_end_the_run() {
    let place = tempfile::tempdir().expect("a temporary folder");
    base(place.path());
    let (mut decoder, backend) = open(place.path(), 1);
    let head = decoder.parameters().iter().find(|one| one.tensor.contains("layers.1.mlp.up")).expect("a weight").weight;
    let model = Arc::get_mut(&mut decoder).expect("nobody else holds it");
    model.change_parameters(&|id| id == head, &mut |_, values| values[0] = f32::NAN);
    let way = way(DORA);
    let job = Job {
        plan: Plan { steps: 9, ..plan(&way) },
        decoder,
        backend,
        held_out: Samples::default(),
        samples: way.samples,
        identity: Identity::new(),
        checkpoints: None,
        resume: false,
        voice: None,
        stop: &AtomicBool::new(false),
    };
    let mut skipped = 0;
    let ended = tune::run(job, &mut |event| {
        skipped += usize::from(matches!(event, Event::Step { skipped: true, loss: None, .. }))
    });
    assert!(matches!(ended.err(), Some(Error::NotFinite { step: 3, times: 3, .. })));
    assert_eq!(skipped, 3);
}

#[test]
fn a_checkpoint_that_cannot_be_written_does_not_end_the_run() {
    let place = tempfile::tempdir().expect("a temporary folder");
    base(place.path());
    let file = place.path().join("a-file");
    std::fs::write(&file, b"").expect("it can be written");
    let (outcome, events) = run(place.path(), Way { checkpoints: Some(&file.join("checkpoints")), ..way(DORA) });
    let outcome = outcome.expect("it runs");
    assert_eq!((outcome.reason, outcome.state.step), (Reason::Done, 3));
    assert!(outcome.unsaved.is_some_and(|what| what.contains("step 3")));
    let notes = events.iter().filter(|event| matches!(event, Event::Note { text } if text.contains("tries again")));
    assert_eq!(notes.count(), 3, "each interval tries");
}

#[test]
fn every_loss_of_preferences_brings_the_better_answer_ahead() {
    let place = tempfile::tempdir().expect("a temporary folder");
    base(place.path());
    let pair = |seed: u32| Preference { prompt: ids(seed, 4), chosen: ids(seed + 50, 4), rejected: ids(seed + 90, 5) };
    let judged =
        |seed: u32| Judged { prompt: ids(seed, 4), completion: ids(seed + 50, 4), desirable: seed.is_multiple_of(2) };
    let pairs = || Samples::of_pairs((0..6).map(pair).collect());
    for loss in ["dpo", "ipo", "hinge", "orpo", "kto"] {
        let recipe = format!("loss = \"{loss}\"\nrank = 4\nsteps = 12\nlearning_rate = 1e-2\nevaluate_every = 12");
        let samples = if loss == "kto" { Samples::of_judged((0..6).map(judged).collect()) } else { pairs() };
        let (outcome, _) = run(place.path(), Way { samples, ..way(&recipe) });
        let found = outcome.expect("it runs").state.evaluations;
        let (first, last) = (found.first().expect("before").1, found.last().expect("after").1);
        assert!(last.loss < first.loss, "{loss}: {first:?} {last:?}");
        assert!(last.right >= first.right, "{loss}: {first:?} {last:?}");
    }
}
