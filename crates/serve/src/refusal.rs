//! Why a request is not answered, in the words of the API it came by. No path, address or foreign text is ever in it:
//! what the client wrote is quoted and cut.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::caller::Scope;

/// Longest quotation of a request in an error, in characters.
const QUOTED_MAX: usize = 60;

/// Which API's shape an error has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// `{"error": {"message", "type", "param", "code"}}`.
    OpenAi,
    /// `{"error": "message"}`.
    Ollama,
    /// `{"type": "error", "error": {"type", "message"}}`.
    Anthropic,
}

/// The word for why an answer is a refusal, as it goes with the answer to whoever tells it elsewhere.
#[derive(Clone, Copy, Debug)]
pub struct Why(pub &'static str);

/// A request that is not answered.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The status.
    pub status: StatusCode,
    /// A word for programs.
    pub code: &'static str,
    /// The field at fault.
    pub param: Option<String>,
    /// For people.
    pub message: String,
    /// Seconds after which to try again.
    pub retry_after: Option<u64>,
}

impl Refusal {
    /// A refusal of that status.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Refusal {
        Refusal { status, code, param: None, message: message.into(), retry_after: None }
    }

    /// 400: something in the request is wrong.
    pub fn wrong(message: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::BAD_REQUEST, "invalid_value", message)
    }

    /// 400 for a field.
    pub fn field(name: impl Into<String>, message: impl Into<String>) -> Refusal {
        Refusal { param: Some(name.into()), ..Refusal::wrong(message) }
    }

    /// 500: ours. What happened stays in the log.
    pub fn ours(what: &str) -> Refusal {
        // `{:?}` keeps line ends and escape codes out of the log.
        eprintln!("error: a request failed: {what:?}");
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", "the answer could not be computed")
    }

    /// 503: the server is about to end.
    pub fn draining() -> Refusal {
        let message = "the server is shutting down";
        Refusal { retry_after: Some(5), ..Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "shutting_down", message) }
    }

    /// 503: what is not told in the audit log is not done.
    pub fn untold() -> Refusal {
        let message = "the audit log cannot be written, so nothing is answered";
        Refusal { retry_after: Some(5), ..Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "audit_failed", message) }
    }

    /// 403: a key that may not do it.
    pub fn without(scope: Scope) -> Refusal {
        let message = format!("this key may not do that: it lacks the scope \"{}\"", scope.word());
        Refusal::new(StatusCode::FORBIDDEN, "scope_missing", message)
    }

    /// With the code.
    pub fn code(mut self, code: &'static str) -> Refusal {
        self.code = code;
        self
    }

    fn kind(&self) -> &'static str {
        match self.status.as_u16() {
            401 => "authentication_error",
            403 => "permission_error",
            429 => "rate_limit_error",
            500.. => "server_error",
            _ => "invalid_request_error",
        }
    }

    fn kind_of_anthropic(&self) -> &'static str {
        match self.status.as_u16() {
            404 => "not_found_error",
            413 => "request_too_large",
            503 => "overloaded_error",
            500.. => "api_error",
            _ => self.kind(),
        }
    }

    /// The body.
    pub fn body(&self, style: Style) -> Value {
        match style {
            Style::OpenAi => json!({"error": {
                "message": self.message, "type": self.kind(), "param": self.param, "code": self.code,
            }}),
            Style::Ollama => json!({"error": self.message}),
            Style::Anthropic => {
                json!({"type": "error", "error": {"type": self.kind_of_anthropic(), "message": self.message}})
            }
        }
    }

    /// The answer.
    pub fn response(&self, style: Style) -> Response {
        let mut response = (self.status, axum::Json(self.body(style))).into_response();
        response.extensions_mut().insert(Why(self.code));
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<pasture_engine::Error> for Refusal {
    fn from(error: pasture_engine::Error) -> Refusal {
        use pasture_engine::Error as E;
        match &error {
            E::ContextFull { .. } => Refusal::wrong(error.to_string()).code("context_length_exceeded"),
            E::Pages { .. } | E::EmptyPrompt | E::Zero { .. } | E::Token { .. } => Refusal::wrong(error.to_string()),
            E::NoTokenizer { .. } | E::Sampling(_) => Refusal::wrong(error.to_string()),
            _ => Refusal::ours(&error.to_string()),
        }
    }
}

impl From<pasture_files::prompt::Error> for Refusal {
    fn from(error: pasture_files::prompt::Error) -> Refusal {
        Refusal::field("messages", cut(&error.to_string(), 400))
    }
}

impl From<pasture_files::tokenizer::Error> for Refusal {
    fn from(error: pasture_files::tokenizer::Error) -> Refusal {
        Refusal::wrong(cut(&error.to_string(), 400))
    }
}

/// A text of the client's in quotation marks, escaped and cut.
pub fn quoted(text: &str) -> String {
    format!("{:?}", cut(text, QUOTED_MAX))
}

fn cut(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}
