//! Pushes against the hub on loopback: what goes, what does not go twice, and who gets the token.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

use pasture_store::pull::{Network, Patience};
use pasture_store::push::{self, Error, File, Push, Visibility};
use pasture_store::{Content as Bytes, licence};
use pasture_testhub::{Content, Gate, Hub};

fn network(hub: &Hub, token: Option<&str>) -> Network {
    let url = hub.url();
    let variable = |name: &str| match name {
        "HF_ENDPOINT" => Some(url.clone().into()),
        "HF_TOKEN" => token.map(Into::into),
        _ => None,
    };
    let mut network = Network::of(variable, None).unwrap();
    network.patience = Patience { tries: 2, pause: std::time::Duration::ZERO, ..Patience::default() };
    network
}

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 7 % 251) as u8).collect()
}

fn files() -> Vec<File> {
    vec![
        File::of("README.md", "---\nlicense: mit\n---\n"),
        File::of("adapters/0/adapter_model.safetensors", bytes(500)),
        File::of("model.gguf", bytes(10_000)),
    ]
}

fn push(files: Vec<File>, visibility: Visibility) -> Push {
    Push { repo: "lab/sheep".into(), visibility, message: "wool".into(), files, licences: Vec::new() }
}

#[test]
fn what_is_there_by_its_digest_is_not_sent_again() {
    let hub = Hub::start();
    let network = network(&hub, Some("hf_test_token"));
    let pushed = push::to_hub(&network, &push(files(), Visibility::Private), &mut |_| {}).unwrap();
    assert_eq!((pushed.sent.len(), pushed.there.len(), pushed.bytes), (3, 0, 10_500));
    {
        let repos = hub.state().repos();
        let repo = &repos["lab/sheep"];
        assert_eq!(repo.gate, Gate::Private);
        assert_eq!(pushed.commit.as_ref(), Some(&repo.commit));
        for file in files() {
            let Bytes::Bytes(wanted) = file.content else { panic!("all of them are bytes") };
            assert_eq!(repo.files[&file.path].content.read(0, 20_000), wanted, "{}", file.path);
        }
        let large = repo.files.iter().filter(|(_, file)| file.large).count();
        assert_eq!(large, 2);
    }
    // Nobody but the hub itself gets the token.
    for seen in hub.seen() {
        assert_eq!(seen.authorization.is_some(), !seen.at_store, "{} {}", seen.method, seen.path);
    }
    let pieces = hub.seen().iter().filter(|seen| seen.at_store && seen.method == "PUT").count();
    assert_eq!(pieces, 1 + 7, "one whole file, and one in pieces of 1500 bytes");

    hub.forget();
    let again = push::to_hub(&network, &push(files(), Visibility::Public), &mut |_| {}).unwrap();
    assert_eq!((again.sent.len(), again.there.len(), again.commit), (0, 3, pushed.commit));
    assert!(!hub.seen().iter().any(|seen| seen.method == "PUT" || seen.path.contains("/commit/")));

    // A push that broke off before its commit finds what it had uploaded.
    let mut renamed = files();
    renamed[2].path = "other.gguf".into();
    let moved = push::to_hub(&network, &push(renamed, Visibility::Public), &mut |_| {}).unwrap();
    assert_eq!((moved.sent, moved.bytes), (vec!["other.gguf".to_owned()], 0));
}

#[test]
fn a_push_that_may_not_be_is_refused() {
    let hub = Hub::start();
    let plan = push(files(), Visibility::Public);
    assert!(matches!(push::to_hub(&network(&hub, None), &plan, &mut |_| {}), Err(Error::NoToken { .. })));
    assert!(hub.seen().is_empty());
    let told = push::to_hub(&network(&hub, Some("wrong")), &plan, &mut |_| {}).unwrap_err().to_string();
    assert!(told.contains("status 401") && !told.contains("wrong"), "{told}");
    for bad in ["hf:sheep", "hf:a/b/c", "hf:../b", "hf:a/b@main", "hf:", "hf:a/b:c"] {
        assert!(matches!(push::target(bad), Err(Error::Target { .. })), "{bad}");
    }
}

#[test]
fn a_name_that_a_licence_forbids_goes_nowhere() {
    let (hub, folder) = (Hub::start(), tempfile::tempdir().unwrap());
    let network = network(&hub, Some("hf_test_token"));
    let licences = vec![licence::named("llama3.2").unwrap()];
    let plan = Push { licences, ..push(files(), Visibility::Private) };
    let to_hub = push::to_hub(&network, &plan, &mut |_| {}).unwrap_err();
    let told = to_hub.to_string();
    assert!(matches!(to_hub, Error::Named(_)) && told.contains("begins with \"Llama\""), "{told}");
    assert!(matches!(push::into_folder(folder.path(), &plan, &mut |_| {}), Err(Error::Named(_))));
    assert!(hub.seen().is_empty() && folder.path().read_dir().unwrap().next().is_none());

    let plan = Push { repo: "lab/Llama-sheep".into(), ..plan };
    assert_eq!(push::to_hub(&network, &plan, &mut |_| {}).unwrap().sent.len(), 3);
    assert!(hub.state().repos().contains_key("lab/Llama-sheep"));
}

#[test]
fn a_folder_has_what_a_hub_says() {
    let folder = tempfile::tempdir().unwrap();
    let plan = push(files(), Visibility::Private);
    let pushed = push::into_folder(folder.path(), &plan, &mut |_| {}).unwrap();
    let commit = pushed.commit.unwrap();
    let index = std::fs::read(folder.path().join("api/models/lab/sheep/revision/main")).unwrap();
    let index: serde_json::Value = serde_json::from_slice(&index).unwrap();
    assert_eq!(index["sha"], commit);
    for row in index["siblings"].as_array().unwrap() {
        let path = row["rfilename"].as_str().unwrap();
        let found = std::fs::read(folder.path().join("lab/sheep/resolve").join(&commit).join(path)).unwrap();
        assert_eq!(row["blobId"], pasture_testhub::git_sha1(&Content::of(found)), "{path}");
    }
    let again = push::into_folder(folder.path(), &plan, &mut |_| {}).unwrap();
    assert_eq!((again.sent.len(), again.there.len()), (0, 3));
}
