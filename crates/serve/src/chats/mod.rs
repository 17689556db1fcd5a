//! `/chats`: conversations that the web page keeps here, each caller's own. Beside the routes that answer, and without
//! an effect on them.

mod book;
mod carry;
pub mod limits;
mod wire;

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tokio::sync::mpsc::{Sender, channel};

pub use book::Book;
use wire::{ChatChange, Import, MessageChange, NewChat, NewMessage, Search, read};

use crate::ask::blocking;
use crate::body;
use crate::caller::Caller;
use crate::refusal::Refusal;
use crate::state::Server;
use crate::telling::Parts;

/// What a route does with chats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Lists them.
    List,
    /// Gives all of them as one file.
    Export,
    /// Gives one.
    Read,
    /// Begins one.
    Create,
    /// Takes an export in.
    Import,
    /// Finds texts.
    Search,
    /// Changes title, settings or branch.
    Change,
    /// Deletes one.
    Delete,
    /// Adds a message.
    Add,
    /// Changes a message.
    ChangeMessage,
}

impl Act {
    /// Whether it is asked with POST.
    pub fn has_body(self) -> bool {
        !matches!(self, Act::List | Act::Export | Act::Read)
    }
}

/// The answer of a route.
pub async fn answer(act: Act, server: &Arc<Server>, request: Request) -> Result<Response, Refusal> {
    let (caller, path) = (Caller::current().id, request.uri().path().to_owned());
    let mut parts = path.trim_start_matches("/chats").trim_start_matches('/').split('/');
    let id = parts.next().unwrap_or_default().to_owned();
    let message = parts.nth(1).unwrap_or_default().to_owned();
    let book = server.chats.clone();
    match act {
        Act::List => {
            let from = from(request.uri().query())?;
            let (chats, more) = blocking(move || book.list(&caller, from)).await?;
            return Ok(Json(json!({"chats": chats, "more": more})).into_response());
        }
        Act::Export => return Ok(export(book, caller)),
        Act::Read => return Ok(Json(blocking(move || book.chat(&caller, &id)).await?).into_response()),
        _ => {}
    }
    let max = if act == Act::Import { limits::IMPORT_BYTES } else { crate::limits::BODY_BYTES };
    let body = body::object_within(request, max).await?;
    let done = || Json(json!({"done": true})).into_response();
    blocking(move || match act {
        Act::Create => Ok(Json(book.create(&caller, read::<NewChat>(body)?)?).into_response()),
        Act::Import => Ok(Json(json!({"ids": book.import(&caller, read::<Import>(body)?)?})).into_response()),
        Act::Search => Ok(Json(json!({"found": book.search(&caller, &read::<Search>(body)?.text)?})).into_response()),
        Act::Change => book.change(&caller, &id, read::<ChatChange>(body)?).map(|()| done()),
        Act::Delete if !body.is_empty() => Err(Refusal::wrong("a chat is deleted with an empty object as body")),
        Act::Delete => book.delete(&caller, &id).map(|()| done()),
        Act::Add => Ok(Json(book.add(&caller, &id, read::<NewMessage>(body)?)?).into_response()),
        Act::ChangeMessage => {
            let wrong = |_| Refusal::wrong("a message is named by its number");
            let message = message.parse().map_err(wrong)?;
            book.change_message(&caller, &id, message, read::<MessageChange>(body)?).map(|()| done())
        }
        Act::List | Act::Export | Act::Read => Err(Refusal::ours("a route without a body came to those with one")),
    })
    .await
}

/// Where a list begins: nothing, or `from=N`.
fn from(query: Option<&str>) -> Result<u32, Refusal> {
    let wrong = || Refusal::wrong("the list takes \"from=N\" and nothing else");
    match query.unwrap_or_default() {
        "" => Ok(0),
        query => query.strip_prefix("from=").and_then(|from| from.parse().ok()).ok_or_else(wrong),
    }
}

/// All chats as one object, read one by one while the client takes them.
fn export(book: Arc<Book>, caller: Arc<str>) -> Response {
    let (sender, parts) = channel(1);
    tokio::task::spawn_blocking(move || {
        if let Err(refusal) = write(&book, &caller, &sender) {
            eprintln!("error: an export broke off: {:?}", refusal.message);
        }
    });
    let mut response = Response::new(Body::from_stream(Parts(parts)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let name = "attachment; filename=\"pasture-chats.json\"";
    headers.insert(header::CONTENT_DISPOSITION, HeaderValue::from_static(name));
    response
}

/// A client that is gone ends it. What breaks off has no closing bracket, so that nobody takes it for whole.
fn write(book: &Book, caller: &str, parts: &Sender<String>) -> Result<(), Refusal> {
    let mut before = format!("{{\"pasture_chats\": {}, \"chats\": [\n", carry::FORM);
    for id in book.ids(caller)? {
        let chat = book.chat(caller, &id)?;
        let chat = serde_json::to_string(&chat).map_err(|error| Refusal::ours(&error.to_string()))?;
        if parts.blocking_send(format!("{before}{chat}")).is_err() {
            return Ok(());
        }
        before = ",\n".to_owned();
    }
    let none = if before.starts_with('{') { before.as_str() } else { "" };
    let _ = parts.blocking_send(format!("{none}\n]}}\n"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, from_value};
    use wire::Role;

    fn of<T: for<'a> serde::Deserialize<'a>>(value: Value) -> T {
        from_value(value).unwrap()
    }

    #[test]
    fn nobody_lists_reads_finds_or_changes_the_chats_of_another() {
        let book = Book::open(None).unwrap();
        let id = book.create("anna", of(json!({"title": "Secret meadow"}))).unwrap().head.id;
        let said = || of::<NewMessage>(json!({"role": "user", "content": "the meadow behind the house"}));
        let message = book.add("anna", &id, said()).unwrap().id;

        assert!(book.list("bert", 0).unwrap().0.is_empty());
        assert!(book.search("bert", "meadow").unwrap().is_empty());
        assert!(book.search("bert", "me").unwrap().is_empty());
        assert!(book.ids("bert").unwrap().is_empty());
        let status = |refusal: Refusal| refusal.status.as_u16();
        assert_eq!(book.chat("bert", &id).map_err(status).err(), Some(404));
        assert_eq!(book.change("bert", &id, of(json!({"title": "mine"}))).map_err(status), Err(404));
        assert_eq!(book.add("bert", &id, said()).map_err(status).err(), Some(404));
        assert_eq!(book.change_message("bert", &id, message, of(json!({"content": ""}))).map_err(status), Err(404));
        assert_eq!(book.delete("bert", &id).map_err(status), Err(404));

        let chat = book.chat("anna", &id).unwrap();
        assert_eq!((chat.head.title.as_str(), chat.messages.len()), ("Secret meadow", 1));
        assert_eq!((chat.messages[0].role, chat.messages[0].content.len()), (Role::User, 27));
        assert_eq!(book.search("anna", "MEADOW").unwrap().len(), 2);
    }

    #[test]
    fn what_a_caller_keeps_is_counted_by_the_file_itself() {
        let book = Book::open(None).unwrap();
        let id = book.create("anna", of(json!({}))).unwrap().head.id;
        let kept = || -> i64 {
            let count = "SELECT coalesce(sum(bytes), 0) FROM chats";
            book.connection().query_row(count, [], |row| row.get(0)).unwrap()
        };
        let message = book.add("anna", &id, of(json!({"role": "user", "content": "1234é"}))).unwrap().id;
        assert_eq!(kept(), 6 + 2);
        book.change_message("anna", &id, message, of(json!({"content": "123", "more": {"a": 1}}))).unwrap();
        assert_eq!(kept(), 3 + 7);
        book.connection().execute("UPDATE chats SET bytes = ?1", [limits::CALLER_BYTES - 1]).unwrap();
        let full = book.add("anna", &id, of(json!({"role": "user", "content": "12"}))).unwrap_err();
        assert_eq!((full.status.as_u16(), full.code), (507, "chats_full"));
        book.delete("anna", &id).unwrap();
        let left: i64 = book.connection().query_row("SELECT count(*) FROM messages", [], |row| row.get(0)).unwrap();
        assert_eq!(left, 0);
    }
}
