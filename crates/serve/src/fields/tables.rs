//! The tables of fields, one for each kind of body.

use std::sync::OnceLock;

use pasture_engine::sampling;

use super::{Effect, Field, Kind};
use crate::batches::limits as batches;
use crate::limits;

/// The bodies that routes take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Body {
    /// `/v1/chat/completions`.
    Chat,
    /// `/v1/completions`.
    Completion,
    /// `/v1/responses`.
    Responses,
    /// `/v1/messages`.
    Messages,
    /// `/v1/messages/count_tokens`.
    CountTokens,
    /// `/v1/embeddings`.
    Embeddings,
    /// `/api/chat`.
    OllamaChat,
    /// `/api/generate`.
    OllamaGenerate,
    /// `/api/embed`.
    OllamaEmbed,
    /// `/api/embeddings`.
    OllamaEmbeddings,
    /// `/api/show`.
    OllamaShow,
    /// `/models/load`.
    LoadModel,
    /// `/models/unload`.
    UnloadModel,
    /// `/v1/adapters/load`.
    LoadAdapter,
    /// `/v1/adapters/unload`.
    UnloadAdapter,
    /// `/tokenize`.
    Tokenize,
    /// `/detokenize`.
    Detokenize,
    /// `/apply-template`.
    Template,
    /// `/v1/rerank`.
    Rerank,
    /// `/v1/score`.
    Score,
    /// `/v1/files`, as a form.
    Upload,
    /// `/v1/batches`.
    Batch,
    /// `/admin/stop`.
    Stop,
}

impl Body {
    /// All of them, with their routes.
    pub const ALL: [(Body, &'static str); 23] = [
        (Body::Chat, "/v1/chat/completions"),
        (Body::Completion, "/v1/completions"),
        (Body::Responses, "/v1/responses"),
        (Body::Messages, "/v1/messages"),
        (Body::CountTokens, "/v1/messages/count_tokens"),
        (Body::Embeddings, "/v1/embeddings"),
        (Body::OllamaChat, "/api/chat"),
        (Body::OllamaGenerate, "/api/generate"),
        (Body::OllamaEmbed, "/api/embed"),
        (Body::OllamaEmbeddings, "/api/embeddings"),
        (Body::OllamaShow, "/api/show"),
        (Body::LoadModel, "/models/load"),
        (Body::UnloadModel, "/models/unload"),
        (Body::LoadAdapter, "/v1/adapters/load"),
        (Body::UnloadAdapter, "/v1/adapters/unload"),
        (Body::Tokenize, "/tokenize"),
        (Body::Detokenize, "/detokenize"),
        (Body::Template, "/apply-template"),
        (Body::Rerank, "/v1/rerank"),
        (Body::Score, "/v1/score"),
        (Body::Upload, "/v1/files"),
        (Body::Batch, "/v1/batches"),
        (Body::Stop, "/admin/stop"),
    ];
}

/// The table of a body.
pub fn of(body: Body) -> &'static [Field] {
    static TABLES: OnceLock<Vec<Vec<Field>>> = OnceLock::new();
    let tables = TABLES.get_or_init(|| Body::ALL.iter().map(|(body, _)| build(*body)).collect());
    let at = Body::ALL.iter().position(|(other, _)| *other == body).unwrap_or(0);
    &tables[at]
}

fn build(body: Body) -> Vec<Field> {
    match body {
        Body::Chat => {
            [CHAT, TEMPLATED, ANSWER, SHAPES, SAMPLE_MORE, IDLE, LATER].concat().into_iter().chain(settings()).collect()
        }
        Body::Completion => {
            [COMPLETION, ANSWER, SHAPES, SAMPLE_MORE, IDLE, LATER].concat().into_iter().chain(settings()).collect()
        }
        Body::Responses => RESPONSES.to_vec(),
        Body::Messages => [MESSAGES, MESSAGES_MORE].concat(),
        Body::CountTokens => MESSAGES.to_vec(),
        Body::Embeddings => EMBEDDINGS.to_vec(),
        Body::OllamaChat => [OLLAMA_CHAT, OLLAMA].concat(),
        Body::OllamaGenerate => [OLLAMA_GENERATE, OLLAMA].concat(),
        Body::OllamaEmbed => OLLAMA_EMBED.to_vec(),
        Body::OllamaEmbeddings => OLLAMA_EMBEDDINGS.to_vec(),
        Body::OllamaShow => OLLAMA_SHOW.to_vec(),
        Body::LoadModel => LOAD_MODEL.to_vec(),
        Body::UnloadModel => UNLOAD_MODEL.to_vec(),
        Body::LoadAdapter => LOAD_ADAPTER.to_vec(),
        Body::UnloadAdapter => UNLOAD_ADAPTER.to_vec(),
        Body::Tokenize => TOKENIZE.to_vec(),
        Body::Detokenize => DETOKENIZE.to_vec(),
        Body::Template => [TEMPLATE, TEMPLATED].concat(),
        Body::Rerank => [RERANK, PAIRS].concat(),
        Body::Score => [SCORE, PAIRS].concat(),
        Body::Upload => UPLOAD.to_vec(),
        Body::Batch => BATCH.to_vec(),
        Body::Stop => Vec::new(),
    }
}

/// The engine's settings under their own names. `logprobs` means something else in each API.
fn settings() -> impl Iterator<Item = Field> {
    sampling::FIELDS
        .iter()
        .filter(|field| field.name != "logprobs")
        .map(|field| on(field.name, Kind::Sampling(field.name), field.meaning))
}

const fn on(name: &'static str, kind: Kind, meaning: &'static str) -> Field {
    Field { name, effect: Effect::Effective(kind), meaning }
}

const fn idle(name: &'static str) -> Field {
    Field { name, effect: Effect::Advisory, meaning: "" }
}

const fn later(name: &'static str, neutral: &'static [&'static str]) -> Field {
    Field { name, effect: Effect::NotYet(neutral), meaning: "" }
}

const MODEL: Field = on("model", Kind::Text, "The name of a served model; may be left out where there is one only");
const KEEP: Field = on(
    "keep_alive",
    Kind::KeepAlive,
    "For how long the model stays loaded when nobody asks for it: seconds, or a text as 5m; 0 lets it go, -1 keeps it",
);
const STREAM: Field = on("stream", Kind::Flag, "Sends the answer as it is made");
const TOKENS: Kind = Kind::Whole(1, 1 << 32);

const STREAM_OPTIONS: &[Field] =
    &[on("include_usage", Kind::Flag, "A last part says what the answer took"), idle("include_obfuscation")];

/// What both ways of answering share.
const ANSWER: &[Field] = &[
    MODEL,
    STREAM,
    on("stream_options", Kind::Object(STREAM_OPTIONS), "`include_usage`: a last part says what the answer took"),
    on("n", Kind::Whole(1, limits::ANSWERS), "Makes so many answers to each prompt"),
    on("stop", Kind::Stops, "Ends an answer before this text"),
    on("ignore_eos", Kind::Flag, "An end token may be chosen like any other and ends nothing"),
];

const CHAT: &[Field] = &[
    on("messages", Kind::Messages, "The conversation; content is a text or a list of parts of type text"),
    on("max_completion_tokens", TOKENS, "Makes at most so many new tokens; without it the answer may fill the context"),
    on("max_tokens", TOKENS, "The older name of `max_completion_tokens`"),
    on("logprobs", Kind::Flag, "Reports each token's log-probability"),
    on("top_logprobs", Kind::Whole(0, limits::TOP_LOGPROBS), "With `logprobs`: reports so many others for each token"),
    later("echo", &["false"]),
    on("parallel_tool_calls", Kind::Flag, "False: at most one call"),
];

/// What the template of a chat is given beside the messages.
const TEMPLATED: &[Field] = &[
    on("tools", FUNCTIONS, "What the model may call, as its template prints it"),
    on("tool_choice", Kind::Read(CHOICE), "Whether tools are called; `required` and a name are kept by a grammar"),
    on("reasoning_effort", Kind::Text, "Handed to the template, where it asks for it"),
    on(
        "chat_template_kwargs",
        Kind::Read("an object"),
        "Handed to the template; an input that it has no place for is refused",
    ),
    later("add_generation_prompt", &["true"]),
    later("continue_final_message", &["false"]),
];

const TEMPLATE: &[Field] =
    &[MODEL, on("messages", Kind::Messages, "The conversation; content is a text or a list of parts of type text")];

const COMPLETION: &[Field] = &[
    on("prompt", Kind::Prompts, "What to go on with; token ids are taken as they are"),
    on(
        "max_tokens",
        Kind::Whole(0, 1 << 32),
        "Makes at most so many new tokens (default 16, or what an assistant says); 0 only with `echo`",
    ),
    on("logprobs", Kind::Whole(0, limits::TOP_LOGPROBS), "Reports log-probabilities, and those of so many others"),
    on("echo", Kind::Flag, "The prompt stands before the answer; with `logprobs` it has its own"),
    later("suffix", &["\"\""]),
    later("tools", &["[]"]),
    later("tool_choice", &["\"none\"", "\"auto\""]),
    later("parallel_tool_calls", &["true", "false"]),
    later("reasoning_effort", &[]),
];

const SCHEMA: Kind = Kind::Read("a JSON schema");

/// What an answer must look like. At most one of them.
const SHAPES: &[Field] = &[
    on(
        "response_format",
        Kind::Read("an object of type text, json_object or json_schema"),
        "The answer is JSON; with `json_schema` the `schema` inside accepts it",
    ),
    on("json_schema", SCHEMA, "The answer is JSON that the schema accepts, as llama.cpp names it"),
    on("guided_json", SCHEMA, "The answer is JSON that the schema accepts, as vLLM names it"),
    on("guided_regex", Kind::Text, "The regular expression matches the whole answer"),
    on("guided_choice", Kind::Read("a list of texts"), "The answer is one of the texts"),
    on("guided_grammar", Kind::Text, "The answer is in the language of this grammar, in GBNF or Lark"),
    on("grammar", Kind::Text, "The answer is in the language of this grammar in GBNF"),
    on(
        "structured_outputs",
        Kind::Read("an object with one of json, json_object, regex, choice, grammar"),
        "The same as `guided_`, as newer vLLM names it",
    ),
];

/// Accepted without an effect.
const IDLE: &[Field] = &[
    idle("user"),
    idle("metadata"),
    idle("store"),
    idle("service_tier"),
    idle("safety_identifier"),
    idle("prompt_cache_key"),
    idle("prompt_cache_retention"),
    idle("prediction"),
    idle("cache_prompt"),
    idle("id_slot"),
];

/// Choosing that other servers have.
const SAMPLE_MORE: &[Field] = &[
    later("best_of", &["1"]),
    later("min_tokens", &["0"]),
    later("length_penalty", &["1"]),
    later("use_beam_search", &["false"]),
    later("skip_special_tokens", &["true"]),
    later("include_stop_str_in_output", &["false"]),
    later("stop_token_ids", &["[]"]),
];

/// Not supported yet.
const LATER: &[Field] = &[
    later("functions", &["[]"]),
    later("function_call", &["\"none\"", "\"auto\""]),
    later("modalities", &["[\"text\"]"]),
    later("audio", &[]),
    later("web_search_options", &[]),
    later("verbosity", &[]),
];

const CHOICE: &str = "auto, none, required, or a function's name in its object";
const FUNCTIONS: Kind = Kind::Read("a list of at most 128 functions");

/// The responses API.
const RESPONSES: &[Field] = &[
    MODEL,
    STREAM,
    on("input", Kind::Read("a text or a list of items"), "The conversation: messages, calls and what came of them"),
    on("instructions", Kind::Text, "The system message"),
    on("max_output_tokens", TOKENS, "Makes at most so many new tokens; without it the answer may fill the context"),
    on("temperature", Kind::Sampling("temperature"), "Divides the logits; 0 takes the most probable token"),
    on("top_p", Kind::Sampling("top_p"), "Keeps the most probable tokens up to this sum of probabilities"),
    on("text", Kind::Read("an object with a `format`"), "`format`: the answer is JSON, as with `response_format`"),
    on("tools", FUNCTIONS, "What the model may call, as its template prints it"),
    on("tool_choice", Kind::Read(CHOICE), "Whether tools are called; `required` and a name are kept by a grammar"),
    on("parallel_tool_calls", Kind::Flag, "False: at most one call"),
    on(
        "reasoning",
        Kind::Read("an object with an `effort`"),
        "`effort` is handed to the template, where it asks for it",
    ),
    on("previous_response_id", Kind::Text, "Refused: responses are not stored here"),
    idle("user"),
    idle("metadata"),
    idle("store"),
    idle("service_tier"),
    idle("safety_identifier"),
    idle("prompt_cache_key"),
    idle("prompt_cache_retention"),
    idle("stream_options"),
    later("include", &["[]"]),
    later("truncation", &["\"disabled\""]),
    later("background", &["false"]),
    later("top_logprobs", &["0"]),
    later("max_tool_calls", &[]),
    later("conversation", &[]),
    later("prompt", &[]),
];

/// Anthropic's messages, to be answered or counted.
const MESSAGES: &[Field] = &[
    MODEL,
    on("messages", Kind::Messages, "The conversation; blocks of text, thinking, tool_use and tool_result"),
    on("system", Kind::Read("a text or a list of text blocks"), "The system message"),
    on("tools", Kind::Read("a list of at most 128 tools"), "What the model may call, as its template prints it"),
    on(
        "tool_choice",
        Kind::Read("an object of type auto, any, tool or none"),
        "Whether tools are called; `any` and `tool` are kept by a grammar",
    ),
    on(
        "thinking",
        Kind::Read("an object of type enabled, adaptive or disabled"),
        "Whether the model thinks first, where its template can be told",
    ),
    idle("cache_control"),
];

/// What only answering has.
const MESSAGES_MORE: &[Field] = &[
    STREAM,
    on("max_tokens", TOKENS, "Makes at most so many new tokens; must be there, as its API says"),
    on("stop_sequences", Kind::Stops, "Ends an answer before this text"),
    on("temperature", Kind::Sampling("temperature"), "Divides the logits; 0 takes the most probable token"),
    on("top_p", Kind::Sampling("top_p"), "Keeps the most probable tokens up to this sum of probabilities"),
    on("top_k", Kind::Sampling("top_k"), "Keeps so many of the most probable tokens"),
    idle("metadata"),
    idle("service_tier"),
    idle("inference_geo"),
    later("container", &[]),
    later("context_management", &[]),
    later("mcp_servers", &["[]"]),
    later("output_config", &["{}"]),
    later("output_format", &[]),
];

const EMBEDDINGS: &[Field] = &[
    MODEL,
    on("input", Kind::Prompts, "What to embed; token ids are taken as they are"),
    on("encoding_format", Kind::Words(&["float", "base64"]), "base64: little-endian f32 (default float)"),
    idle("user"),
    later("dimensions", &[]),
];

/// What the chat and the text of Ollama share.
const OLLAMA: &[Field] = &[
    MODEL,
    on("stream", Kind::Flag, "Sends the answer as it is made, one JSON object a line (default true)"),
    on("options", Kind::Object(OLLAMA_OPTIONS), "Settings, see below"),
    KEEP,
    on("format", Kind::Read("json, or a JSON schema"), "The answer is a JSON object, or JSON that the schema accepts"),
    on(
        "think",
        Kind::Read("true, false, low, medium or high"),
        "Whether the model thinks first, where its template can be told",
    ),
    later("logprobs", &["false"]),
    later("top_logprobs", &["0"]),
];

const OLLAMA_CHAT: &[Field] = &[
    on("messages", Kind::Messages, "The conversation; an empty one only asks whether the model is there"),
    on("tools", FUNCTIONS, "What the model may call, as its template prints it"),
];

const OLLAMA_GENERATE: &[Field] = &[
    on("prompt", Kind::Text, "A question, which the model's template wraps; with `raw` a text to go on with"),
    on("system", Kind::Text, "The system message"),
    on("raw", Kind::Flag, "No template: the text is gone on with as it is"),
    later("suffix", &["\"\""]),
    later("images", &["[]"]),
    later("template", &["\"\""]),
    later("context", &["[]"]),
];

/// The inside of Ollama's `options`.
pub(super) const OLLAMA_OPTIONS: &[Field] = &[
    on("num_predict", Kind::Signed(-2, 1 << 32), "Makes at most so many new tokens; negative: as many as fit"),
    on("stop", Kind::Stops, "Ends an answer before this text"),
    on("temperature", Kind::Sampling("temperature"), "Divides the logits; 0 takes the most probable token"),
    on("top_k", Kind::Sampling("top_k"), "Keeps so many of the most probable tokens"),
    on("top_p", Kind::Sampling("top_p"), "Keeps the most probable tokens up to this sum"),
    on("min_p", Kind::Sampling("min_p"), "Keeps tokens with this share of the best one's probability"),
    on("typical_p", Kind::Sampling("typical_p"), "Keeps the tokens of most typical surprise up to this sum"),
    on("repeat_penalty", Kind::Sampling("repetition_penalty"), "Divides the logits of earlier tokens"),
    on("repeat_last_n", Kind::Signed(-1, 1 << 31), "Tokens that the penalties look back on; -1: all"),
    on("presence_penalty", Kind::Sampling("presence_penalty"), "Taken from the logits of earlier tokens"),
    on("frequency_penalty", Kind::Sampling("frequency_penalty"), "Taken from a logit for each earlier use"),
    on("seed", Kind::Sampling("seed"), "Seed of the random numbers"),
    idle("num_ctx"),
    idle("num_batch"),
    idle("num_gpu"),
    idle("main_gpu"),
    idle("num_thread"),
    idle("num_keep"),
    idle("low_vram"),
    idle("use_mmap"),
    idle("use_mlock"),
    idle("numa"),
    idle("f16_kv"),
    later("mirostat", &["0"]),
    later("mirostat_tau", &["5"]),
    later("mirostat_eta", &["0.1"]),
    later("tfs_z", &["1"]),
    later("penalize_newline", &["true"]),
];

const OLLAMA_EMBED: &[Field] = &[
    MODEL,
    on("input", Kind::Prompts, "What to embed"),
    on("truncate", Kind::Flag, "Cuts texts that are too long at their end (default true)"),
    KEEP,
    idle("options"),
    later("dimensions", &["0"]),
];

const OLLAMA_EMBEDDINGS: &[Field] = &[
    MODEL,
    on("prompt", Kind::Text, "What to embed, cut at its end where it is too long; without it the model is only loaded"),
    KEEP,
    idle("options"),
];

const OLLAMA_SHOW: &[Field] = &[MODEL, on("name", Kind::Text, "The older name of `model`"), idle("verbose")];

const LOAD_MODEL: &[Field] = &[on("model", Kind::Text, "The model to load"), KEEP];

const UNLOAD_MODEL: &[Field] = &[on("model", Kind::Text, "The model to let go, with its adapters")];

const LOAD_ADAPTER: &[Field] = &[
    on("model", Kind::Text, "The model beside which the adapter stands; may be left out where there is one only"),
    on("adapter", Kind::Text, "Its name in the folder that `--adapters` names"),
    on("name", Kind::Text, "The name that requests have in `model` (default: that of the adapter)"),
];

const UNLOAD_ADAPTER: &[Field] = &[on("name", Kind::Text, "The adapter to let go")];

const TOKENIZE: &[Field] = &[
    MODEL,
    on("content", Kind::Text, "The text"),
    on("add_special", Kind::Flag, "With the special tokens that the model puts around a text (default false)"),
    on("parse_special", Kind::Flag, "Marks in the text become control tokens (default false)"),
    on(
        "with_pieces",
        Kind::Flag,
        "Tells each token's text beside it, or its bytes where they are no text (default false)",
    ),
];

const DETOKENIZE: &[Field] = &[MODEL, on("tokens", Kind::Ids, "The token ids")];

const RERANK: &[Field] = &[
    on("query", Kind::Text, "The question, with the model's own prompt for questions before it"),
    on("documents", Kind::Documents, "What is ranked"),
    on("top_n", Kind::Whole(1, 1 << 32), "Tells only so many of the best (default: all)"),
    on("return_documents", Kind::Flag, "Tells the texts as well (default false)"),
    later("rank_fields", &["[]"]),
    later("max_chunks_per_doc", &[]),
    later("max_tokens_per_doc", &[]),
    later("return_embeddings", &["false"]),
];

const SCORE: &[Field] = &[
    on("text_1", Kind::Texts, "One text that is compared with all of `text_2`, or as many as these"),
    on("text_2", Kind::Texts, "What is compared with it"),
    later("encoding_format", &["\"float\""]),
];

/// What ranking and scoring share.
const PAIRS: &[Field] = &[
    MODEL,
    on("truncate", Kind::Flag, "Cuts texts that are too long at their end (default false)"),
    idle("user"),
    later("truncate_prompt_tokens", &[]),
    later("priority", &["0"]),
];

/// For how long a file is kept.
const KEPT: &[Field] = &[
    on("anchor", Kind::Words(&["created_at"]), "From when on: when the file was made"),
    on("seconds", Kind::Whole(batches::KEPT.0, batches::KEPT.1), "For how many seconds"),
];

const UPLOAD: &[Field] = &[
    on("file", Kind::Text, "The file: a request of a batch on each line, as JSON"),
    on("purpose", Kind::Words(&["batch"]), "What it is for; the only use that files have here"),
    on("expires_after", Kind::Object(KEPT), "`anchor` created_at and `seconds`: for how long it is kept"),
];

const BATCH: &[Field] = &[
    on("input_file_id", Kind::Text, "The id of an uploaded file"),
    on(
        "endpoint",
        Kind::Words(&["/v1/chat/completions", "/v1/completions", "/v1/embeddings"]),
        "The route that every line asks",
    ),
    on("completion_window", Kind::Words(&["24h"]), "In which time it must be done; what is not done then is told so"),
    on("metadata", Kind::Read("an object of at most 16 texts"), "Told with the batch"),
    on("output_expires_after", Kind::Object(KEPT), "The same as `expires_after`, for the files with the answers"),
];

const AFTER: Field = on("after", Kind::Text, "The id behind which the list begins");

/// The query of the list of files.
pub const FILES_QUERY: &[Field] = &[
    AFTER,
    on("limit", Kind::Whole(1, 10_000), "At most so many (default 1000)"),
    on("order", Kind::Words(&["asc", "desc"]), "asc: the oldest first (default desc)"),
    on("purpose", Kind::Text, "Only files of this purpose: batch or batch_output"),
];

/// The query of the list of batches.
pub const BATCHES_QUERY: &[Field] = &[AFTER, on("limit", Kind::Whole(1, 100), "At most so many (default 20)")];
