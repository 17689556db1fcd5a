//! Chats in an SQLite file: a row for each chat and each message, and an index of the texts. Every statement names the
//! caller, so that nobody reads, finds or changes another's.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::http::StatusCode;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use serde_json::{Map, Value};

use super::limits;
use super::wire::{Chat, ChatChange, Head, Message, MessageChange, NewChat, NewMessage, Role};
use super::wire::{check_text, check_title, stored};
use crate::moment::now;
use crate::refusal::Refusal;
use crate::sqlite::{self, Layout, Sharing};

/// The version of the tables below.
const VERSION: i64 = 1;

/// `found` holds no text of its own: it is an index of `messages`, three letters at a time, so that parts of words and
/// scripts without spaces are found.
const TABLES: &str = "
    CREATE TABLE chats (
        number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, caller TEXT NOT NULL, title TEXT NOT NULL,
        settings TEXT NOT NULL, leaf INTEGER, created INTEGER NOT NULL, changed INTEGER NOT NULL,
        messages INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0);
    CREATE INDEX chats_of ON chats (caller, changed DESC, number DESC);
    CREATE TABLE messages (
        id INTEGER PRIMARY KEY AUTOINCREMENT, chat INTEGER NOT NULL REFERENCES chats ON DELETE CASCADE,
        parent INTEGER, role TEXT NOT NULL, content TEXT NOT NULL, more TEXT NOT NULL, created INTEGER NOT NULL);
    CREATE INDEX messages_of ON messages (chat, id);
    CREATE VIRTUAL TABLE found USING fts5(content, content='messages', content_rowid='id', tokenize='trigram');
    INSERT INTO found(found, rank) VALUES('secure-delete', 1);
    CREATE TRIGGER message_comes AFTER INSERT ON messages BEGIN
        INSERT INTO found(rowid, content) VALUES (new.id, new.content);
        UPDATE chats SET messages = messages + 1, bytes = bytes + octet_length(new.content) + octet_length(new.more)
            WHERE number = new.chat;
    END;
    CREATE TRIGGER message_goes AFTER DELETE ON messages BEGIN
        INSERT INTO found(found, rowid, content) VALUES ('delete', old.id, old.content);
    END;
    CREATE TRIGGER message_changes AFTER UPDATE OF content, more ON messages BEGIN
        INSERT INTO found(found, rowid, content) VALUES ('delete', old.id, old.content);
        INSERT INTO found(rowid, content) VALUES (new.id, new.content);
        UPDATE chats SET bytes = bytes + octet_length(new.content) + octet_length(new.more)
            - octet_length(old.content) - octet_length(old.more) WHERE number = new.chat;
    END;";

/// The file of chats.
pub struct Book {
    connection: Mutex<Connection>,
}

impl Book {
    /// Opens a file, which nobody but its owner may read, or a book that ends with the program.
    ///
    /// # Errors
    /// When it cannot be made, or another version of the program made it.
    pub fn open(file: Option<&Path>) -> Result<Book, String> {
        let layout = Layout { what: "chats", version: VERSION, tables: TABLES, sharing: Sharing::Several };
        let connection = sqlite::open(file, layout)?;
        Ok(Book { connection: Mutex::new(connection) })
    }

    /// The connection. What a panic left half done was rolled back.
    pub(super) fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Chats of a caller, the last changed first, from a place on; and whether there are more.
    pub fn list(&self, caller: &str, from: u32) -> Result<(Vec<Head>, bool), Refusal> {
        let connection = self.connection();
        let mut statement = connection.prepare_cached(
            "SELECT id, title, created, changed, messages FROM chats WHERE caller = ?1
             ORDER BY changed DESC, number DESC LIMIT ?2 OFFSET ?3",
        )?;
        let rows = statement.query_map(params![caller, limits::LISTED + 1, from], head)?;
        let mut heads = rows.collect::<Result<Vec<Head>, _>>()?;
        let more = heads.len() as i64 > limits::LISTED;
        heads.truncate(limits::LISTED as usize);
        Ok((heads, more))
    }

    /// An empty chat.
    pub fn create(&self, caller: &str, wanted: NewChat) -> Result<Chat, Refusal> {
        check_title(&wanted.title)?;
        let settings = stored("settings", &wanted.settings, limits::SETTINGS_BYTES)?;
        let mut connection = self.connection();
        let change = connection.transaction()?;
        has_place(&change, caller)?;
        has_room(&change, caller, settings.len() as i64)?;
        let now = now();
        let (_, id) = insert_chat(&change, caller, &wanted.title, &settings, (now, now))?;
        change.commit()?;
        let head = Head { id, title: wanted.title, created: now, changed: now, messages: 0 };
        Ok(Chat { head, settings: wanted.settings, leaf: None, messages: Vec::new() })
    }

    /// A chat with all branches.
    pub fn chat(&self, caller: &str, id: &str) -> Result<Chat, Refusal> {
        let connection = self.connection();
        let found = connection.prepare_cached(
            "SELECT id, title, created, changed, messages, settings, leaf, number FROM chats
             WHERE caller = ?1 AND id = ?2",
        );
        let found = found?.query_row(params![caller, id], |row| {
            Ok((head(row)?, row.get::<_, String>(5)?, row.get(6)?, row.get::<_, i64>(7)?))
        });
        let (head, settings, leaf, number) = found.optional()?.ok_or_else(none)?;
        let mut statement = connection.prepare_cached(
            "SELECT id, parent, role, content, more, created FROM messages WHERE chat = ?1 ORDER BY id",
        )?;
        let messages = statement.query_map([number], message)?.collect::<Result<Vec<Message>, _>>()?;
        Ok(Chat { head, settings: object(&settings), leaf, messages })
    }

    /// Another title, other settings, another branch that is shown.
    pub fn change(&self, caller: &str, id: &str, wanted: ChatChange) -> Result<(), Refusal> {
        let mut connection = self.connection();
        let change = connection.transaction()?;
        let number = number(&change, caller, id)?;
        if let Some(title) = wanted.title {
            check_title(&title)?;
            change.execute("UPDATE chats SET title = ?2 WHERE number = ?1", params![number, title])?;
        }
        if let Some(settings) = wanted.settings {
            let settings = stored("settings", &settings, limits::SETTINGS_BYTES)?;
            has_room(&change, caller, settings.len() as i64)?;
            change.execute("UPDATE chats SET settings = ?2 WHERE number = ?1", params![number, settings])?;
        }
        if let Some(leaf) = wanted.leaf {
            is_of(&change, number, leaf)?;
            change.execute("UPDATE chats SET leaf = ?2 WHERE number = ?1", params![number, leaf])?;
        }
        Ok(change.commit()?)
    }

    /// A chat and its messages go.
    pub fn delete(&self, caller: &str, id: &str) -> Result<(), Refusal> {
        let gone = self.connection().execute("DELETE FROM chats WHERE caller = ?1 AND id = ?2", params![caller, id])?;
        if gone == 0 { Err(none()) } else { Ok(()) }
    }

    /// A message after another; none where it begins the chat.
    pub fn add(&self, caller: &str, id: &str, wanted: NewMessage) -> Result<Message, Refusal> {
        let mut connection = self.connection();
        let change = connection.transaction()?;
        let number = number(&change, caller, id)?;
        let count: i64 =
            change.query_row("SELECT messages FROM chats WHERE number = ?1", [number], |row| row.get(0))?;
        if count >= limits::MESSAGES {
            return Err(full(format!("a chat has at most {} messages; begin another", limits::MESSAGES)));
        }
        let more = stored("more", &wanted.more, limits::MORE_BYTES)?;
        has_room(&change, caller, (wanted.content.len() + more.len()) as i64)?;
        if let Some(parent) = wanted.parent {
            is_of(&change, number, parent)?;
        }
        let now = now();
        let message = Message {
            id: 0,
            parent: wanted.parent,
            role: wanted.role,
            content: wanted.content,
            more: wanted.more,
            created: now,
        };
        let place = insert_message(&change, number, &message)?;
        change.execute("UPDATE chats SET changed = ?2 WHERE number = ?1", params![number, now])?;
        if wanted.leaf {
            change.execute("UPDATE chats SET leaf = ?2 WHERE number = ?1", params![number, place])?;
        }
        change.commit()?;
        Ok(Message { id: place, ..message })
    }

    /// Another text of a message, or other things that it has.
    pub fn change_message(&self, caller: &str, id: &str, at: i64, wanted: MessageChange) -> Result<(), Refusal> {
        let mut connection = self.connection();
        let change = connection.transaction()?;
        let number = number(&change, caller, id)?;
        is_of(&change, number, at)?;
        if let Some(content) = wanted.content {
            check_text(&content)?;
            has_room(&change, caller, content.len() as i64)?;
            change.execute("UPDATE messages SET content = ?2 WHERE id = ?1", params![at, content])?;
        }
        if let Some(more) = wanted.more {
            let more = stored("more", &more, limits::MORE_BYTES)?;
            has_room(&change, caller, more.len() as i64)?;
            change.execute("UPDATE messages SET more = ?2 WHERE id = ?1", params![at, more])?;
        }
        Ok(change.commit()?)
    }
}

/// A row for a chat: its number, and the id by which requests ask, which nobody can guess.
pub(super) fn insert_chat(
    change: &Transaction<'_>,
    caller: &str,
    title: &str,
    settings: &str,
    (created, changed): (i64, i64),
) -> Result<(i64, String), Refusal> {
    let mut statement = change.prepare_cached(
        "INSERT INTO chats (id, caller, title, settings, created, changed)
         VALUES (lower(hex(randomblob(12))), ?1, ?2, ?3, ?4, ?5) RETURNING number, id",
    )?;
    let row = statement.query_row(params![caller, title, settings, created, changed], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?))
    });
    Ok(row?)
}

/// A row for a message; its id is given back, and the one that it has is not looked at.
pub(super) fn insert_message(change: &Transaction<'_>, number: i64, message: &Message) -> Result<i64, Refusal> {
    check_text(&message.content)?;
    let more = stored("more", &message.more, limits::MORE_BYTES)?;
    let mut statement = change.prepare_cached(
        "INSERT INTO messages (chat, parent, role, content, more, created) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    let Message { parent, role, content, created, .. } = message;
    Ok(statement.insert(params![number, parent, role.name(), content, more, created])?)
}

/// Whether a caller may keep another chat.
pub(super) fn has_place(change: &Transaction<'_>, caller: &str) -> Result<(), Refusal> {
    let mut statement = change.prepare_cached("SELECT count(*) FROM chats WHERE caller = ?1")?;
    let chats: i64 = statement.query_row([caller], |row| row.get(0))?;
    match chats >= limits::CHATS {
        true => Err(full(format!("at most {} chats are kept; delete some", limits::CHATS))),
        false => Ok(()),
    }
}

/// Whether a caller may keep so many bytes more, in messages and settings.
pub(super) fn has_room(change: &Transaction<'_>, caller: &str, bytes: i64) -> Result<(), Refusal> {
    let mut statement = change
        .prepare_cached("SELECT coalesce(sum(bytes + octet_length(settings)), 0) FROM chats WHERE caller = ?1")?;
    let kept: i64 = statement.query_row([caller], |row| row.get(0))?;
    match kept.saturating_add(bytes) > limits::CALLER_BYTES {
        true => Err(full(format!("at most {} MiB of chats are kept; delete some", limits::CALLER_BYTES >> 20))),
        false => Ok(()),
    }
}

fn full(message: String) -> Refusal {
    Refusal::new(StatusCode::INSUFFICIENT_STORAGE, "chats_full", message)
}

fn none() -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "chat_not_found", "there is no such chat")
}

fn number(change: &Transaction<'_>, caller: &str, id: &str) -> Result<i64, Refusal> {
    let mut statement = change.prepare_cached("SELECT number FROM chats WHERE caller = ?1 AND id = ?2")?;
    statement.query_row(params![caller, id], |row| row.get(0)).optional()?.ok_or_else(none)
}

/// Is a message one of that chat's?
fn is_of(change: &Transaction<'_>, number: i64, message: i64) -> Result<(), Refusal> {
    let mut statement = change.prepare_cached("SELECT 1 FROM messages WHERE chat = ?1 AND id = ?2")?;
    let missing =
        || Refusal::new(StatusCode::NOT_FOUND, "message_not_found", format!("the chat has no message {message}"));
    match statement.exists(params![number, message])? {
        true => Ok(()),
        false => Err(missing()),
    }
}

fn head(row: &Row<'_>) -> rusqlite::Result<Head> {
    Ok(Head { id: row.get(0)?, title: row.get(1)?, created: row.get(2)?, changed: row.get(3)?, messages: row.get(4)? })
}

fn message(row: &Row<'_>) -> rusqlite::Result<Message> {
    let role = match row.get_ref(2)?.as_str()? {
        "user" => Role::User,
        "tool" => Role::Tool,
        _ => Role::Assistant,
    };
    Ok(Message {
        id: row.get(0)?,
        parent: row.get(1)?,
        role,
        content: row.get(3)?,
        more: object(row.get_ref(4)?.as_str()?),
        created: row.get(5)?,
    })
}

/// An object as it was stored.
fn object(text: &str) -> Map<String, Value> {
    serde_json::from_str(text).unwrap_or_default()
}
