//! Pulling from a hub that lies: either the model arrives as it is, or the error says what happened; never anything else
//! under a final name.
#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;
use std::time::Duration;

use pasture_store::pull::{Error, Hub as Client, Network, Plan, Step, Wish};
use pasture_testhub::{Content, Gate, Hub, Lie, Repo, sha256};
use tempfile::TempDir;

const MIB: u64 = 1 << 20;

/// A hub with one model of 10 MiB, and an empty home.
struct Bench {
    hub: Hub,
    home: TempDir,
    weights: Content,
}

impl Bench {
    fn new() -> Bench {
        Bench::with(Content::Made { seed: 3, length: 10 * MIB + 17 })
    }

    fn with(weights: Content) -> Bench {
        let hub = Hub::start();
        let repo = Repo::new("lab/model").tag("license:mit").small("config.json", "{\"model_type\": \"x\"}");
        hub.put(repo.small(".gitattributes", "x").large("model.safetensors", weights.clone()));
        Bench { hub, home: tempfile::tempdir().expect("a temporary folder"), weights }
    }

    fn network(&self, more: &[(&str, &str)]) -> Network {
        let endpoint = self.hub.url();
        let variable = |name: &str| {
            let own = (name == "HF_ENDPOINT").then_some(endpoint.as_str());
            more.iter().find(|row| row.0 == name).map(|row| row.1).or(own).map(Into::into)
        };
        let mut network = Network::of(variable, Some(self.home.path().to_owned())).expect("good settings");
        network.patience.stall = Duration::from_millis(400);
        network.patience.tries = 4;
        network.patience.pause = Duration::from_millis(5);
        network.patience.wait_max = Duration::from_secs(3);
        network
    }

    fn pull_with(&self, network: &Network) -> Result<Plan, Error> {
        let client = Client::new(network)?;
        let plan = client.plan("lab/model", &Wish::default())?;
        client.fetch(&plan, &mut |_, _| {})?;
        Ok(plan)
    }

    fn pull(&self) -> Result<Plan, Error> {
        self.pull_with(&self.network(&[]))
    }

    /// The one thing that must hold whatever was answered: what has a final name is right.
    fn check_store(&self) {
        let blobs = self.home.path().join(".cache/huggingface/hub/models--lab--model/blobs");
        for entry in fs::read_dir(blobs).into_iter().flatten().flatten() {
            let name = entry.file_name().into_string().expect("names are ASCII");
            if name.len() == 64 {
                let bytes = fs::read(entry.path()).expect("a blob can be read");
                assert_eq!(name, sha256(&Content::of(bytes)), "a blob holds something else than its name says");
            }
        }
    }

    fn check_model(&self, plan: &Plan) {
        self.check_store();
        let bytes = fs::read(plan.folder.join("model.safetensors")).expect("the model is there");
        assert!(bytes == self.weights.read(0, usize::MAX >> 1), "the model is another");
        assert!(plan.folder.join("config.json").is_file() && !plan.folder.join(".gitattributes").exists());
    }
}

/// A lie told so often to requests of such a path, and a part of the error it must lead to; none where it must not.
fn check(path: &str, lie: Lie, times: usize, wanted: Option<&str>) {
    let bench = Bench::new();
    let told = format!("{path} {lie:?} {times}");
    bench.hub.lie(path, lie, times);
    match (bench.pull(), wanted) {
        (Ok(plan), None) => bench.check_model(&plan),
        (Err(error), Some(part)) => {
            let text = error.to_string();
            assert!(text.contains(part), "{told}: {text:?} lacks {part:?}");
            bench.check_store();
            bench.hub.repent();
            let plan = bench.pull().unwrap_or_else(|error| panic!("{told}: after that: {error}"));
            bench.check_model(&plan);
        }
        (Ok(_), Some(part)) => panic!("{told}: pulled, but must say {part:?}"),
        (Err(error), None) => panic!("{told}: {error}"),
    }
}

const EVER: usize = usize::MAX;

#[test]
fn a_file_arrives_whatever_its_host_says_once() {
    for lie in [
        Lie::WholeForRange,
        Lie::RangeLate,
        Lie::RangeShifted,
        Lie::NoContentRange,
        Lie::OtherTotal,
        Lie::NotSatisfiable,
        Lie::Multipart,
        Lie::Cut(0),
        Lie::Cut(MIB + 5),
        Lie::Short,
        Lie::Long,
        Lie::NoLength,
        Lie::OtherEtag,
        Lie::Silence,
        Lie::Trickle(50),
        Lie::HangUp,
        Lie::HalfHeader,
        Lie::EndlessHeader,
        Lie::RedirectLoop,
        Lie::RedirectNowhere,
        Lie::RedirectTo("file:///etc/passwd".into()),
        Lie::Busy(429, 1),
        Lie::Busy(503, 0),
        Lie::Refuse(500, "Broken"),
        Lie::Html,
        Lie::GzipBomb,
        Lie::Flip(MIB),
    ] {
        check("/large/", lie, 1, None);
    }
}

#[test]
fn a_file_that_never_comes_right_is_an_error_that_says_why() {
    for (lie, wanted) in [
        (Lie::RangeLate, "where \"bytes"),
        (Lie::RangeShifted, "model.safetensors"),
        (Lie::NoContentRange, "does not say which"),
        (Lie::OtherTotal, "where \"bytes"),
        (Lie::NotSatisfiable, "although the listing says so"),
        (Lie::Cut(0), "does not deliver"),
        (Lie::Short, "were asked for"),
        (Lie::Long, "were asked for"),
        (Lie::Silence, "model.safetensors"),
        (Lie::Trickle(50), "bytes came in"),
        (Lie::HangUp, "does not deliver"),
        (Lie::EndlessHeader, "model.safetensors"),
        (Lie::RedirectLoop, "redirects"),
        (Lie::Busy(503, 0), "503"),
        (Lie::Busy(429, 9), "to come back after 9 s"),
        (Lie::Refuse(500, "Broken"), "500"),
        (Lie::Flip(MIB), "is damaged"),
    ] {
        check("/large/", lie, EVER, Some(wanted));
    }
}

#[test]
fn what_stays_damaged_is_kept_aside_and_both_digests_are_told() {
    let bench = Bench::new();
    bench.hub.lie("/large/", Lie::Flip(MIB), EVER);
    let text = bench.pull().expect_err("every copy is damaged").to_string();
    let wanted = sha256(&bench.weights);
    let blobs = bench.home.path().join(".cache/huggingface/hub/models--lab--model/blobs");
    let bytes = fs::read(blobs.join(format!("{wanted}.bad"))).expect("what arrived is kept");
    let found = sha256(&Content::of(bytes));
    assert!(found != wanted && text.contains(&wanted) && text.contains(&found), "{text}");
    assert!(!blobs.join(wanted).exists());
}

#[test]
fn a_host_without_ranges_gives_the_whole() {
    check("/large/", Lie::WholeForRange, EVER, None);
    check("/large/", Lie::OtherEtag, EVER, None);
}

#[test]
fn a_listing_is_judged_before_a_file_is_fetched() {
    let names = "{\"sha\": \"0123456789012345678901234567890123456789\", \"siblings\": [{\"rfilename\": \"../x\"}]}";
    let nested = "[".repeat(60_000);
    for (lie, wanted) in [
        (Lie::Html, "no sound answer"),
        (Lie::GzipBomb, "compressed"),
        (Lie::EndlessJson, "longer than"),
        (Lie::Say(names.into()), "leave its folder"),
        (Lie::Say(nested), "no sound answer"),
        (Lie::Say("{}".into()), "no list of files"),
        (Lie::Cut(10), "lab/model"),
        (Lie::Silence, "lab/model"),
        (Lie::Trickle(1500), "lab/model"),
        (Lie::Trickle(50), "bytes came in"),
        (Lie::HangUp, "lab/model"),
        (Lie::RedirectLoop, "redirects"),
        (Lie::Busy(429, 9), "429"),
        (Lie::Refuse(404, "RepoNotFound"), "has no repository lab/model"),
        (Lie::Refuse(404, "RevisionNotFound"), "revision lab/model@main"),
        (Lie::Refuse(403, "GatedRepo"), "accept its terms at http://127.0.0.1"),
        (Lie::OtherLength, "lab/model/config.json"),
    ] {
        check("/api/", lie, EVER, Some(wanted));
    }
    check("/api/", Lie::Busy(503, 1), 2, None);
}

#[test]
fn the_token_goes_to_the_hub_and_nowhere_else() {
    let bench = Bench::new();
    bench.hub.put(
        Repo::new("lab/model")
            .gate(Gate::Gated)
            .small("config.json", "{}")
            .large("model.safetensors", bench.weights.clone()),
    );
    let text = bench.pull().expect_err("no token").to_string();
    assert!(text.contains("/lab/model while signed in") && text.contains("HF_TOKEN"), "{text}");
    let text = bench.pull_with(&bench.network(&[("HF_TOKEN", "other")])).expect_err("no access").to_string();
    assert!(text.contains("has no access"), "{text}");
    bench.hub.forget();
    let plan = bench.pull_with(&bench.network(&[("HF_TOKEN", "hf_test_token")])).expect("access");
    assert!(plan.gated);
    let seen = bench.hub.seen();
    assert!(seen.iter().any(|seen| seen.at_store), "large files come from the other host");
    for seen in seen {
        assert_eq!(seen.authorization.is_some(), !seen.at_store, "{seen:?}");
        assert_eq!(seen.encoding.as_deref(), Some("identity"), "{seen:?}");
    }
}

/// A byte that is flipped once, at each of these places of a file.
fn check_flipped(weights: &Content, places: &[u64]) {
    for &at in places {
        let bench = Bench::with(weights.clone());
        // In the first copy only: the piece that holds it is asked for once before the whole is compared.
        let pieces = weights.length().div_ceil(4 * MIB) as usize;
        bench.hub.lie("/large/", Lie::Flip(at), pieces);
        let plan = bench.pull().expect("the second copy is right");
        bench.check_model(&plan);
        let sent = bench.hub.sent("/large/");
        let total = bench.weights.length();
        assert!(sent > 2 * total && sent <= 2 * total + 4 * MIB, "{sent} bytes of {total}, flipped at {at}");
    }
}

/// `PULL_FLIPS=100` flips at so many places of a file of 1 GiB.
#[test]
fn a_flipped_byte_costs_one_copy_and_one_piece() {
    check_flipped(&Content::Made { seed: 3, length: 10 * MIB + 17 }, &[0, 4 * MIB - 1, 4 * MIB, 9 * MIB]);
    let places: u64 = std::env::var("PULL_FLIPS").map_or(0, |text| text.parse().expect("a number"));
    let spread = |number: u64| number.wrapping_mul(0x9E37_79B9_7F4A_7C15) % (1024 * MIB);
    check_flipped(&Content::Zeros(1024 * MIB), &(0..places).map(spread).collect::<Vec<_>>());
}

#[test]
fn what_is_here_is_not_asked_for_again() {
    let bench = Bench::new();
    let plan = bench.pull().expect("a good hub");
    bench.check_model(&plan);
    assert_eq!(plan.missing(), plan.bytes());
    let environment = bench.network(&[]);
    let found = pasture_store::resolve_in(environment.environment(), &plan.name).expect("it is in the cache");
    let changed = pasture_store::verify::changed(environment.environment(), &found).expect("a ledger");
    assert_eq!(changed, [], "its digest was found right, and is not computed again before it is loaded");
    bench.hub.forget();
    let again = bench.pull().expect("a good hub");
    assert_eq!((again.missing(), bench.hub.seen().len()), (0, 1), "the listing only");
    let network = bench.network(&[("HF_HUB_OFFLINE", "1")]);
    let text = bench.pull_with(&network).expect_err("offline").to_string();
    assert!(text.contains("HF_HUB_OFFLINE"), "{text}");
    let found = pasture_store::resolve_in(network.environment(), &plan.name).expect("it is in the cache");
    assert_eq!((found.path, bench.hub.seen().len()), (plan.folder, 1));
}

#[test]
fn nothing_is_visible_before_all_of_it_is_there() {
    let bench = Bench::new();
    bench.hub.lie("/large/", Lie::Refuse(403, "Forbidden"), EVER);
    bench.pull().expect_err("no weights");
    assert!(pasture_store::resolve_in(bench.network(&[]).environment(), "lab/model").is_err());
    let repo = bench.home.path().join(".cache/huggingface/hub/models--lab--model");
    assert!(!repo.join("snapshots").exists() && !repo.join("refs").exists());
}

fn at_once(bench: &Bench, locks: bool) -> u64 {
    let total = bench.weights.length();
    let waits = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut network = bench.network(&[]);
                network.locks = locks;
                let client = Client::new(&network).expect("a client");
                let plan = client.plan("lab/model", &Wish::default()).expect("a plan");
                let mut watch = |_: &_, step| {
                    if step == Step::Waits {
                        waits.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    }
                };
                client.fetch(&plan, &mut watch).expect("all succeed");
                bench.check_model(&plan);
            });
        }
    });
    assert!(locks || waits.into_inner() == 0);
    bench.hub.sent("/large/") / total
}

#[test]
fn eight_at_once_fetch_one_copy_and_with_lying_locks_still_the_right_one() {
    assert_eq!(at_once(&Bench::new(), true), 1);
    let copies = at_once(&Bench::new(), false);
    assert!((1..=8).contains(&copies), "{copies}");
}

#[test]
fn a_proxy_and_certificates_are_used_as_the_variables_say() {
    let bench = Bench::new();
    // The test hub answers whole addresses as a proxy would; nobody listens at the hub's own name.
    let proxy = bench.hub.url();
    let network = bench.network(&[("HF_ENDPOINT", "http://hub.invalid"), ("HTTP_PROXY", &proxy)]);
    let plan = Client::new(&network).expect("a client").plan("lab/model", &Wish::default()).expect("through the proxy");
    assert_eq!(plan.files.len(), 2);
    let spared =
        bench.network(&[("HF_ENDPOINT", "http://hub.invalid"), ("HTTP_PROXY", &proxy), ("NO_PROXY", "hub.invalid")]);
    assert!(Client::new(&spared).expect("a client").plan("lab/model", &Wish::default()).is_err());
    let name = |path: &Path| path.to_string_lossy().into_owned();
    let file = bench.home.path().join("roots.pem");
    fs::write(&file, "no certificate").expect("a file");
    for bad in [name(&file), name(&bench.home.path().join("none"))] {
        let network = bench.network(&[("SSL_CERT_FILE", &bad)]);
        assert!(Client::new(&network).is_err_and(|error| error.to_string().contains("SSL_CERT_FILE")));
    }
    let bad = bench.network(&[("HTTPS_PROXY", "nonsense://x")]);
    assert!(Client::new(&bad).is_err_and(|error| error.to_string().contains("HTTPS_PROXY")));
}

#[test]
fn a_disk_that_cannot_hold_it_is_refused_before_anything_is_fetched() {
    let bench = Bench::new();
    let client = Client::new(&bench.network(&[])).expect("a client");
    let mut plan = client.plan("lab/model", &Wish::default()).expect("a plan");
    plan.files[1].file.bytes = u64::MAX / 4;
    bench.hub.forget();
    let text = client.fetch(&plan, &mut |_, _| {}).expect_err("no room").to_string();
    assert!(text.contains("bytes free") && text.contains(&(u64::MAX / 4).to_string()[..6]), "{text}");
    assert!(bench.hub.seen().is_empty());
}
