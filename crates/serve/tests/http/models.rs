//! Models that come when a request names them and go when nobody does, adapters beside them, and prompts whose beginning
//! is known.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pasture_files::prompt::Preamble;
use pasture_serve::{Failed, Keep, Loader, Options, Served};
use serde_json::{Value, json};

use crate::client::{get, post};
use crate::host::{Host, local, prompt_with, served, shared};

/// Has two models, one that is broken, and one that is too large.
#[derive(Default)]
struct Shelf {
    loads: AtomicUsize,
    steps: Arc<AtomicUsize>,
}

impl Loader for Shelf {
    fn names(&self) -> Vec<String> {
        ["one", "two", "broken", "huge"].map(str::to_owned).into()
    }

    fn bytes(&self, name: &str) -> Result<u64, Failed> {
        Ok(if name == "huge" { 1 << 40 } else { 100 })
    }

    fn load(&self, name: &str) -> Result<Served, Failed> {
        self.loads.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(50));
        match name {
            "broken" => Err(Failed::Here("a tensor is missing in /secret/place".to_owned())),
            name => Ok(served(name, &local(), &self.steps, &Arc::default(), Duration::from_millis(1))),
        }
    }
}

fn host(memory: u64) -> (Arc<Shelf>, Host) {
    let shelf = Arc::new(Shelf::default());
    let options = Options { loader: Some(shelf.clone()), memory, ..local() };
    (shelf, Host::start(options, Duration::ZERO))
}

fn ask(model: &str) -> Value {
    json!({"model": model, "prompt": "Sheep", "max_tokens": 3, "temperature": 0})
}

fn running(host: &Host) -> Vec<String> {
    let models = get(host.address, "/api/ps").json()["models"].clone();
    models.as_array().unwrap().iter().map(|model| model["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_model_comes_when_it_is_named_and_the_longest_unused_goes_for_it() {
    // The starter and one more.
    let (shelf, host) = host(250);
    let text = |model: &str| post(host.address, "/v1/completions", &ask(model)).json()["choices"][0]["text"].clone();
    assert_eq!(text("one"), text("starter"));
    assert_eq!(running(&host), ["starter", "one"]);
    assert_eq!(text("two:latest"), text("starter"));
    assert_eq!((running(&host), shelf.loads.load(Ordering::SeqCst)), (vec!["starter".into(), "two".into()], 2));
    let names = get(host.address, "/v1/models").json()["data"].clone();
    let names: Vec<&str> = names.as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert_eq!(names, ["starter", "two", "one", "broken", "huge"]);
    assert_eq!(get(host.address, "/v1/models/one").json()["id"], "one");

    let broken = post(host.address, "/v1/completions", &ask("broken"));
    assert_eq!((broken.status, broken.body.contains("secret")), (500, false));
    let huge = post(host.address, "/v1/completions", &ask("huge"));
    assert!(huge.status == 400 && huge.error().contains("MiB"), "{}", huge.body);
    assert_eq!(post(host.address, "/v1/completions", &ask("three")).status, 404);
    assert_eq!(text("two"), text("starter"), "failed loads change nothing for others");
}

#[test]
fn a_load_that_many_wait_for_is_done_once() {
    let (shelf, host) = host(250);
    let ask = || post(host.address, "/v1/completions", &ask("one")).status;
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!((statuses, shelf.loads.load(Ordering::SeqCst)), (vec![200; 8], 1));
}

#[test]
fn a_model_goes_when_it_is_told_to_or_its_time_is_over() {
    let (_, host) = host(1000);
    let load = |body: Value| post(host.address, "/models/load", &body);
    assert_eq!(load(json!({"model": "one"})).json()["loaded"], true);
    assert_eq!(post(host.address, "/models/unload", &json!({"model": "one"})).status, 200);
    assert_eq!(post(host.address, "/models/unload", &json!({"model": "one"})).status, 404);
    assert_eq!(running(&host), ["starter"]);
    let brief = json!({"model": "two", "prompt": "Hello!", "stream": false, "keep_alive": "1ms"});
    assert_eq!(post(host.address, "/api/generate", &brief).status, 200);
    host.wait("its time is over", |host| running(host) == ["starter"]);
    assert_eq!(load(json!({"model": "two", "keep_alive": "soon"})).status, 400);
    // What the program was started with stays, whatever a request says.
    let brief = json!({"model": "starter", "prompt": "Hello!", "stream": false, "keep_alive": 0});
    assert_eq!(post(host.address, "/api/generate", &brief).status, 200);
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!(running(&host), ["starter"]);
    assert_eq!(post(host.address, "/models/unload", &json!({"model": "starter"})).status, 200);
    assert!(running(&host).is_empty());
}

#[test]
fn what_is_loaded_says_its_memory_and_when_it_goes() {
    let (_, host) = host(1000);
    assert_eq!(post(host.address, "/models/load", &json!({"model": "one", "keep_alive": "10m"})).status, 200);
    let listed = get(host.address, "/api/ps").json()["models"].clone();
    // Years tell apart: the starter stays, which Ollama's clients are told by a day centuries ahead.
    let year = |at: usize| listed[at]["expires_at"].as_str().unwrap()[..4].parse::<u32>().unwrap();
    assert!(year(0) > year(1) + 200, "{listed}");
    assert_eq!((&listed[1]["size"], &listed[1]["size_vram"]), (&json!(100), &json!(0)));
    let state = get(host.address, "/admin/state").json()["models"].clone();
    assert_eq!((&state[0]["goes"], &state[0]["bytes"]), (&Value::Null, &json!(100)));
    let goes: u32 = state[1]["goes"].as_str().unwrap()[..4].parse().unwrap();
    // Asked one after the other, perhaps at the turn of a year.
    assert!((year(1)..=year(1) + 1).contains(&goes), "{goes}");
}

#[test]
fn a_model_in_use_stays() {
    let shelf = Arc::new(Shelf::default());
    let keep = Keep::For(Duration::ZERO);
    let host = Host::start(Options { loader: Some(shelf.clone()), memory: 250, keep, ..local() }, Duration::ZERO);
    let long = json!({"model": "one", "prompt": "Sheep", "max_tokens": 400, "ignore_eos": true, "stream": true});
    let mut reader = crate::client::open(host.address, "/v1/completions", &long);
    crate::client::read_to(&mut reader, "data: ");
    // There is room for one beside the starter, and it is taken.
    let refused = post(host.address, "/v1/completions", &ask("two"));
    assert_eq!((refused.status, refused.header("retry-after").is_some()), (503, true), "{}", refused.body);
    assert_eq!(post(host.address, "/models/unload", &json!({"model": "one"})).status, 503);
    drop(reader);
    host.wait("nobody uses it", |host| running(host) == ["starter"]);
    assert_eq!(post(host.address, "/v1/completions", &ask("two")).status, 200);
}

#[test]
fn adapters_are_models_of_their_own_and_change_nothing_for_others() {
    let host = Host::start(local(), Duration::from_millis(2));
    let told = |model: &str| {
        let ask = json!({"model": model, "prompt": "A model is", "max_tokens": 12, "temperature": 0});
        post(host.address, "/v1/completions", &ask).json()["choices"][0]["text"].clone()
    };
    let plain = told("starter");
    let load = |body: Value| post(host.address, "/v1/adapters/load", &body);
    assert_eq!(load(json!({"adapter": "loud"})).json()["model"], "starter");
    assert_eq!(load(json!({"adapter": "soft", "name": "gentle", "model": "starter"})).status, 200);
    for (body, part) in [
        (json!({"adapter": "loud"}), "is taken"),
        (json!({"adapter": "none"}), "no adapter"),
        (json!({"adapter": "../loud"}), "is no name"),
        (json!({"adapter": "soft", "name": "a/b"}), "is no name"),
        (json!({"name": "x"}), "missing"),
    ] {
        assert!(load(body.clone()).error().contains(part), "{body}");
    }
    let listed = get(host.address, "/v1/adapters").json();
    assert_eq!(
        listed["adapters"],
        json!([{"name": "loud", "model": "starter"}, {"name": "gentle", "model": "starter"}])
    );
    let models = get(host.address, "/v1/models").json()["data"].clone();
    assert_eq!((&models[1]["id"], &models[1]["parent"]), (&json!("loud"), &json!("starter")));
    let (loud, gentle) = (told("loud"), told("gentle"));
    assert!(loud != plain, "it changes the answer");
    // All three in one batch, again and again.
    std::thread::scope(|scope| {
        for (model, text) in [("loud", &loud), ("starter", &plain), ("gentle", &gentle)].repeat(3) {
            scope.spawn(move || assert_eq!(&told(model), text, "{model}"));
        }
    });
    assert_eq!(post(host.address, "/v1/embeddings", &json!({"model": "loud", "input": "a"})).status, 400);
    assert_eq!(host.metric("pasture_adapters"), 2);
    assert_eq!(post(host.address, "/v1/adapters/unload", &json!({"name": "starter"})).status, 400);
    assert_eq!(post(host.address, "/v1/adapters/unload", &json!({"name": "loud"})).status, 200);
    assert_eq!(told("loud"), Value::Null);
    assert_eq!(told("gentle"), gentle);
}

#[test]
fn a_prompt_that_is_known_says_so() {
    let address = shared().address;
    let prompt = "Once there was a flock that nobody had counted, on a pasture by the sea. ".repeat(4);
    let ask = json!({"prompt": prompt, "max_tokens": 2, "temperature": 0});
    let usage = || post(address, "/v1/completions", &ask).json()["usage"].clone();
    let (cold, warm) = (usage(), usage());
    let known = |usage: &Value| usage["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap();
    assert_eq!((known(&cold), known(&warm)), (0, cold["prompt_tokens"].as_u64().unwrap() - 1));
    assert!(shared().metric("pasture_cached_tokens_total{model=\"starter\"}") >= known(&warm));
}

/// A template that writes calls of tools as many do.
const CALLING: &str = "{% if tools %}<|im_start|>system\n{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}\
    <|im_end|>\n{% endif %}{% for message in messages %}<|im_start|>{{ message.role }}\n\
    {% if message.tool_calls %}{% for call in message.tool_calls %}<tool_call>\n{\"name\": \"{{ call.function.name }}\", \
    \"arguments\": {{ call.function.arguments | tojson }}}\n</tool_call>{% endfor %}{% else %}{{ message.content }}\
    {% endif %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// Has an assistant with a tool and an adapter.
struct Assistant;

impl Loader for Assistant {
    fn names(&self) -> Vec<String> {
        vec!["helper".to_owned()]
    }

    fn bytes(&self, _: &str) -> Result<u64, Failed> {
        Ok(100)
    }

    fn load(&self, name: &str) -> Result<Served, Failed> {
        let plain = served(name, &local(), &Arc::default(), &Arc::default(), Duration::ZERO);
        let own = json!({"type": "object", "properties": {"sea": {"enum": ["north"]}}, "required": ["sea"],
                         "additionalProperties": false});
        let tool = json!({"type": "function", "function": {"name": "weather", "parameters": own}});
        let before = Preamble { tools: vec![tool], max_new_tokens: Some(2), ..Preamble::default() };
        let adapter = plain.work.adapter("soft")?;
        Ok(Served { prompt: prompt_with(CALLING).with_preamble(before), adapter: Some(adapter), ..plain })
    }
}

#[test]
fn an_assistants_own_tools_are_called_and_its_adapters_place_is_taken() {
    let host = Host::start(Options { loader: Some(Arc::new(Assistant)), ..local() }, Duration::ZERO);
    let ask = |more: Value| {
        let mut body = json!({"model": "helper", "messages": [{"role": "user", "content": "Rain?"}], "max_tokens": 60});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        post(host.address, "/v1/chat/completions", &body).json()
    };
    // A model so small fills JSON with white space, unless that is made dear.
    let dear = json!({"tool_choice": "required", "temperature": 0, "frequency_penalty": 2, "max_tokens": 300});
    let called = ask(dear);
    let call = &called["choices"][0]["message"]["tool_calls"][0]["function"];
    let arguments: Value = serde_json::from_str(call["arguments"].as_str().unwrap_or_default()).unwrap_or_default();
    assert_eq!((&call["name"], arguments), (&json!("weather"), json!({"sea": "north"})), "{called}");
    // Without a word the prompt has the tool all the same, and a shape goes before it.
    let tokens = |more: Value| ask(more)["usage"]["prompt_tokens"].as_u64().unwrap();
    let (with, without) = (tokens(json!({})), tokens(json!({"tool_choice": "none"})));
    assert!(with > without + 10, "{with} {without}");
    let shaped = ask(json!({"guided_choice": ["wool"]}));
    assert_eq!(shaped["choices"][0]["message"]["content"], "wool", "{shaped}");
    // What it says of lengths holds where a text is gone on with.
    let goes_on = json!({"model": "helper", "prompt": "Sheep", "temperature": 0, "ignore_eos": true});
    assert_eq!(post(host.address, "/v1/completions", &goes_on).json()["usage"]["completion_tokens"], 2);
    let more = post(host.address, "/v1/adapters/load", &json!({"adapter": "loud", "model": "helper"}));
    assert!(more.status == 400 && more.error().contains("adapters of its own"), "{}", more.body);
}
