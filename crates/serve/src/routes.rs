//! The table of routes, the router that is made of it, and the one handler: body, table of fields, answer, in that order.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::Response;
use axum::routing::{MethodFilter, MethodRouter};
use pasture_files::nearest::likely;
use serde_json::{Map, Value};

use crate::caller::Scope;
use crate::chats::{self, Act};
use crate::fields::{Asked, Body, of};
use crate::models::Keep;
use crate::refusal::{Refusal, Style, quoted};
use crate::state::Server;
use crate::visit::Visit;
use crate::{admin, anthropic, batches, body, guard, loading, ollama, openai, own, page, rank};

/// Who may use a route where there is a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody.
    Open,
    /// Who has a key, whatever its scopes.
    Key,
    /// Who has a key with this scope.
    Scope(Scope),
}

/// What a route does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Does {
    /// Says that the program runs.
    Healthy,
    /// Says whether requests are wanted.
    Ready,
    /// Counts.
    Metrics,
    /// The document that describes all routes.
    OpenApi,
    /// What the server does now.
    State,
    /// The served models.
    Models,
    /// One of them.
    Model,
    /// Version of the program.
    Version,
    /// The served models, as Ollama lists them.
    Tags,
    /// The web page.
    Page,
    /// A part of it.
    PagePart,
    /// What it shows of the models.
    PageFacts,
    /// Chats that it keeps.
    Chats(Act),
    /// Files and batches.
    Batches(batches::Act),
    /// What is loaded, as Ollama lists it.
    Running,
    /// The adapters.
    Adapters,
    /// A route with a body.
    Answers(Body),
}

/// One route.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its path.
    pub path: &'static str,
    /// Who may use it.
    pub access: Access,
    /// How its errors look.
    pub style: Style,
    /// What it does, which says how it is asked.
    pub does: Does,
}

impl Row {
    /// The method.
    pub fn method(&self) -> Method {
        match self.does {
            Does::Batches(act) => act.method(),
            Does::Answers(_) => Method::POST,
            Does::Chats(act) if act.has_body() => Method::POST,
            _ => Method::GET,
        }
    }

    /// The row for keys with a scope.
    const fn needs(self, scope: Scope) -> Row {
        Row { access: Access::Scope(scope), ..self }
    }
}

/// All routes. A route without `needs` is for every key.
pub fn table() -> &'static [Row] {
    const fn row(path: &'static str, style: Style, does: Does) -> Row {
        Row { path, access: Access::Key, style, does }
    }
    const fn open(path: &'static str, does: Does) -> Row {
        Row { path, access: Access::Open, style: Style::OpenAi, does }
    }
    use Scope::{Admin, Embed, Infer, Page};
    use Style::{Anthropic, Ollama, OpenAi};
    const TABLE: &[Row] = &[
        open("/healthz", Does::Healthy),
        open("/readyz", Does::Ready),
        open("/", Does::Page),
        open("/page/{*file}", Does::PagePart),
        row("/page/facts", OpenAi, Does::PageFacts).needs(Page),
        row("/metrics", OpenAi, Does::Metrics).needs(Admin),
        row("/openapi.json", OpenAi, Does::OpenApi),
        row("/admin/state", OpenAi, Does::State).needs(Admin),
        row("/admin/stop", OpenAi, Does::Answers(Body::Stop)).needs(Admin),
        row("/v1/models", OpenAi, Does::Models),
        row("/v1/models/{*model}", OpenAi, Does::Model),
        row("/v1/chat/completions", OpenAi, Does::Answers(Body::Chat)).needs(Infer),
        row("/v1/completions", OpenAi, Does::Answers(Body::Completion)).needs(Infer),
        row("/v1/responses", OpenAi, Does::Answers(Body::Responses)).needs(Infer),
        row("/v1/messages", Anthropic, Does::Answers(Body::Messages)).needs(Infer),
        row("/v1/messages/count_tokens", Anthropic, Does::Answers(Body::CountTokens)).needs(Infer),
        row("/v1/embeddings", OpenAi, Does::Answers(Body::Embeddings)).needs(Embed),
        row("/v1/files", OpenAi, Does::Batches(batches::Act::Files)).needs(Infer),
        row("/v1/files", OpenAi, Does::Batches(batches::Act::Upload)).needs(Infer),
        row("/v1/files/{file}", OpenAi, Does::Batches(batches::Act::File)).needs(Infer),
        row("/v1/files/{file}", OpenAi, Does::Batches(batches::Act::Delete)).needs(Infer),
        row("/v1/files/{file}/content", OpenAi, Does::Batches(batches::Act::Content)).needs(Infer),
        row("/v1/batches", OpenAi, Does::Batches(batches::Act::Batches)).needs(Infer),
        row("/v1/batches", OpenAi, Does::Batches(batches::Act::Create)).needs(Infer),
        row("/v1/batches/{batch}", OpenAi, Does::Batches(batches::Act::Batch)).needs(Infer),
        row("/v1/batches/{batch}/cancel", OpenAi, Does::Batches(batches::Act::Cancel)).needs(Infer),
        row("/v1/rerank", OpenAi, Does::Answers(Body::Rerank)).needs(Embed),
        row("/rerank", OpenAi, Does::Answers(Body::Rerank)).needs(Embed),
        row("/v1/score", OpenAi, Does::Answers(Body::Score)).needs(Embed),
        row("/score", OpenAi, Does::Answers(Body::Score)).needs(Embed),
        row("/api/version", Ollama, Does::Version),
        row("/api/tags", Ollama, Does::Tags),
        row("/api/show", Ollama, Does::Answers(Body::OllamaShow)).needs(Infer),
        row("/api/chat", Ollama, Does::Answers(Body::OllamaChat)).needs(Infer),
        row("/api/generate", Ollama, Does::Answers(Body::OllamaGenerate)).needs(Infer),
        row("/api/embed", Ollama, Does::Answers(Body::OllamaEmbed)).needs(Embed),
        row("/api/embeddings", Ollama, Does::Answers(Body::OllamaEmbeddings)).needs(Embed),
        row("/api/ps", Ollama, Does::Running).needs(Infer),
        row("/models/load", OpenAi, Does::Answers(Body::LoadModel)).needs(Admin),
        row("/models/unload", OpenAi, Does::Answers(Body::UnloadModel)).needs(Admin),
        row("/v1/adapters", OpenAi, Does::Adapters).needs(Infer),
        row("/v1/adapters/load", OpenAi, Does::Answers(Body::LoadAdapter)).needs(Admin),
        row("/v1/adapters/unload", OpenAi, Does::Answers(Body::UnloadAdapter)).needs(Admin),
        row("/tokenize", OpenAi, Does::Answers(Body::Tokenize)).needs(Infer),
        row("/detokenize", OpenAi, Does::Answers(Body::Detokenize)).needs(Infer),
        row("/apply-template", OpenAi, Does::Answers(Body::Template)).needs(Infer),
        row("/chats", OpenAi, Does::Chats(Act::List)).needs(Page),
        row("/chats/create", OpenAi, Does::Chats(Act::Create)).needs(Page),
        row("/chats/search", OpenAi, Does::Chats(Act::Search)).needs(Page),
        row("/chats/export", OpenAi, Does::Chats(Act::Export)).needs(Page),
        row("/chats/import", OpenAi, Does::Chats(Act::Import)).needs(Page),
        row("/chats/{chat}", OpenAi, Does::Chats(Act::Read)).needs(Page),
        row("/chats/{chat}/change", OpenAi, Does::Chats(Act::Change)).needs(Page),
        row("/chats/{chat}/delete", OpenAi, Does::Chats(Act::Delete)).needs(Page),
        row("/chats/{chat}/messages", OpenAi, Does::Chats(Act::Add)).needs(Page),
        row("/chats/{chat}/messages/{message}", OpenAi, Does::Chats(Act::ChangeMessage)).needs(Page),
    ];
    TABLE
}

/// Routes of the same APIs that are not there yet.
const NOT_YET: &[&str] = &[
    "/v1/fine_tuning/jobs",
    "/v1/moderations",
    "/v1/uploads",
    "/v1/messages/batches",
    "/api/pull",
    "/api/push",
    "/api/create",
    "/api/copy",
    "/api/delete",
    "/completion",
    "/infill",
    "/props",
    "/slots",
];

/// The router of the table. The guard stands before each route, and before what is none.
pub fn router(server: Arc<Server>) -> Router {
    let mut router = Router::new();
    for (at, first) in table().iter().enumerate() {
        if table()[..at].iter().any(|before| before.path == first.path) {
            continue;
        }
        let rows = || table().iter().filter(|row| row.path == first.path);
        let mut methods = MethodRouter::new();
        for row in rows() {
            let method = match row.method() {
                Method::POST => MethodFilter::POST,
                Method::DELETE => MethodFilter::DELETE,
                _ => MethodFilter::GET,
            };
            let handler = move |State(server): State<Arc<Server>>, request: Request| handle(row, server, request);
            methods = methods.on(method, handler);
        }
        let asked: Vec<String> = rows().map(|row| row.method().to_string()).collect();
        let message = format!("{} is asked with {}", first.path, asked.join(" or "));
        let other = move || async move {
            Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message).response(first.style)
        };
        router = router.route(first.path, methods.fallback(other));
    }
    router
        .fallback(nowhere)
        .layer(axum::middleware::from_fn_with_state(server.clone(), guard::guard))
        .with_state(server)
}

/// What is in no row: the registry's, where one is lent, or nobody's.
async fn nowhere(State(server): State<Arc<Server>>, request: Request) -> Response {
    let request = match &server.options.registry {
        Some(lending) => match lending.answer(request).await {
            Ok(response) => return response,
            Err(request) => request,
        },
        None => request,
    };
    let path = request.uri().path();
    let style = if path.starts_with("/api/") { Style::Ollama } else { Style::OpenAi };
    let message = match NOT_YET.contains(&path) {
        true => format!("{path} is not supported yet"),
        false => {
            let near = likely(path, table().iter().map(|row| row.path));
            let near = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
            format!("there is no route {}{near}", quoted(path))
        }
    };
    Refusal::new(StatusCode::NOT_FOUND, "not_found", message).response(style)
}

async fn handle(row: &'static Row, server: Arc<Server>, request: Request) -> Response {
    let answered = match row.does {
        Does::Healthy => Ok(own::healthy()),
        Does::Ready => own::ready(&server),
        Does::Metrics => Ok(own::metrics(&server)),
        Does::OpenApi => Ok(own::openapi()),
        Does::State => Ok(admin::state(&server)),
        Does::Models => Ok(openai::models::list(&server)),
        Does::Model => openai::models::one(&server, request.uri().path()),
        Does::Version => Ok(ollama::models::version()),
        Does::Tags => Ok(ollama::models::tags(&server)),
        Does::Page | Does::PagePart | Does::PageFacts | Does::Chats(_) => of_page(row.does, &server, request).await,
        Does::Batches(act) => batches::answer(act, &server, request).await,
        Does::Running => Ok(ollama::models::running(&server)),
        Does::Adapters => loading::adapters(&server).await,
        Does::Answers(body) => answer(body, &server, request).await,
    };
    answered.unwrap_or_else(|refusal| refusal.response(row.style))
}

/// The page, its parts and its chats are there where it is not turned off.
async fn of_page(does: Does, server: &Arc<Server>, request: Request) -> Result<Response, Refusal> {
    if !server.options.page {
        let message = "the web page and its chats are turned off; leave --no-page out";
        return Err(Refusal::new(StatusCode::NOT_FOUND, "not_found", message));
    }
    match does {
        Does::Chats(act) => chats::answer(act, server, request).await,
        Does::PageFacts => Ok(page::facts(server)),
        _ => page::part(request.uri().path(), request.headers()),
    }
}

async fn answer(kind: Body, server: &Arc<Server>, request: Request) -> Result<Response, Refusal> {
    compute(kind, server, body::object(request).await?).await
}

/// Answers what a body asks.
pub async fn compute(kind: Body, server: &Arc<Server>, object: Map<String, Value>) -> Result<Response, Refusal> {
    if let Some(visit) = Visit::current() {
        visit.asked(|| Value::Object(object.clone()));
    }
    let mut asked = Asked::check(object, of(kind), server.options.lenient)?;
    if asked.value("stream_options.include_usage").is_some() && !asked.flag("stream") {
        asked.unused.push("stream_options".to_owned());
    }
    // Held until the answer has begun, so that the model that is named stays.
    let lease = match kind {
        Body::UnloadModel | Body::UnloadAdapter => None,
        // Ollama's clients name it so here.
        Body::OllamaShow => server.open(asked.text("model").or(asked.text("name"))).await?,
        _ => server.open(asked.text("model")).await?,
    };
    // Without a lease the model does not exist for this key.
    if let (Some(_), Some(name), Some(keep)) =
        (&lease, asked.text("model"), asked.value("keep_alive").and_then(Keep::parse))
    {
        server.models.keep(name, keep);
    }
    let response = match kind {
        Body::Chat => openai::chat::answer(server, &mut asked).await,
        Body::Completion => openai::completion::answer(server, &mut asked).await,
        Body::Responses => openai::responses::answer(server, &mut asked).await,
        Body::Messages => anthropic::messages(server, &mut asked).await,
        Body::CountTokens => anthropic::count(server, &mut asked).await,
        Body::Embeddings => openai::embeddings::answer(server, &asked).await,
        Body::OllamaChat => ollama::chat::answer(server, &mut asked).await,
        Body::OllamaGenerate => ollama::generate::answer(server, &mut asked).await,
        Body::OllamaEmbed => ollama::models::embed(server, &asked).await,
        Body::OllamaEmbeddings => ollama::models::embed_one(server, &asked).await,
        Body::OllamaShow => ollama::models::show(server, &asked),
        Body::LoadModel => loading::load(server, &asked),
        Body::UnloadModel => loading::unload(server, &asked),
        Body::LoadAdapter => loading::load_adapter(server, &asked).await,
        Body::UnloadAdapter => loading::unload_adapter(server, &asked),
        Body::Tokenize => own::tokenize(server, &asked).await,
        Body::Detokenize => own::detokenize(server, &asked).await,
        Body::Template => own::template(server, &mut asked).await,
        Body::Rerank => rank::rerank(server, &asked).await,
        Body::Score => rank::score(server, &asked).await,
        Body::Stop => admin::stop(server, &asked),
        // These are no models' affair, and have routes that do more than answer.
        Body::Upload | Body::Batch => Err(Refusal::ours("files and batches came to the routes of models")),
    }?;
    Ok(with_unused(response, &asked))
}

/// An answer with the names of the fields that had no effect on it.
pub fn with_unused(mut response: Response, asked: &Asked) -> Response {
    if !asked.unused.is_empty()
        && let Ok(names) = HeaderValue::from_str(&unused(&asked.unused))
    {
        response.headers_mut().insert("x-pasture-unused", names);
    }
    response
}

/// Names of fields for a header: what is no plain letter becomes a question mark, and a long list is cut.
fn unused(names: &[String]) -> String {
    let mut list = String::new();
    for name in names {
        if list.len() > 1000 {
            return list + ", ...";
        }
        if !list.is_empty() {
            list.push_str(", ");
        }
        list.extend(name.chars().take(100).map(|letter| if letter.is_ascii_graphic() { letter } else { '?' }));
    }
    list
}
