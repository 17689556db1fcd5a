//! Searching all chats of a caller, and carrying them: an export chat by chat, an import whole or not at all.

use std::collections::HashMap;

use rusqlite::params;

use super::book::{Book, has_place, has_room, insert_chat, insert_message};
use super::limits;
use super::wire::{Found, Import, Imported, Message, check_title, stored};
use crate::moment::now;
use crate::refusal::Refusal;

/// The version of the form of exports.
pub const FORM: i64 = 1;

/// Letters of the shortest text that the index finds.
const INDEXED_CHARS: usize = 3;

/// Characters of an excerpt before and after what was found.
const AROUND: (usize, usize) = (40, 120);

impl Book {
    /// Titles and messages that have a text, in any case of letters, the last first.
    pub fn search(&self, caller: &str, text: &str) -> Result<Vec<Found>, Refusal> {
        let text = text.trim();
        let chars = text.chars().count();
        if chars == 0 || chars > limits::SEARCH_CHARS {
            let message = format!("a search has 1 to {} characters", limits::SEARCH_CHARS);
            return Err(Refusal::field("text", message));
        }
        let like = format!("%{}%", text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_"));
        let connection = self.connection();
        let mut titles = connection.prepare_cached(
            "SELECT id, title FROM chats WHERE caller = ?1 AND title LIKE ?2 ESCAPE '\\' ORDER BY changed DESC LIMIT ?3",
        )?;
        let titles = titles.query_map(params![caller, like, limits::FOUND], |row| {
            Ok(Found { chat: row.get(0)?, title: row.get(1)?, message: None, excerpt: String::new() })
        })?;
        let mut found = titles.collect::<Result<Vec<Found>, _>>()?;
        let (which, asked) = match chars < INDEXED_CHARS {
            true => ("messages.content LIKE ?2 ESCAPE '\\'", like),
            // A phrase in quotation marks has no operators.
            false => (
                "messages.id IN (SELECT rowid FROM found WHERE found MATCH ?2)",
                format!("\"{}\"", text.replace('"', "\"\"")),
            ),
        };
        let mut messages = connection.prepare_cached(&format!(
            "SELECT chats.id, chats.title, messages.id, messages.content FROM messages
             JOIN chats ON chats.number = messages.chat
             WHERE chats.caller = ?1 AND {which} ORDER BY messages.id DESC LIMIT ?3"
        ))?;
        let messages = messages.query_map(params![caller, asked, limits::FOUND], |row| {
            let excerpt = excerpt(row.get_ref(3)?.as_str()?, text);
            Ok(Found { chat: row.get(0)?, title: row.get(1)?, message: Some(row.get(2)?), excerpt })
        })?;
        for message in messages {
            found.push(message?);
        }
        found.truncate(limits::FOUND as usize);
        Ok(found)
    }

    /// The ids of all chats of a caller.
    pub fn ids(&self, caller: &str) -> Result<Vec<String>, Refusal> {
        let connection = self.connection();
        let mut statement = connection.prepare_cached("SELECT id FROM chats WHERE caller = ?1 ORDER BY number")?;
        let ids = statement.query_map([caller], |row| row.get(0))?;
        Ok(ids.collect::<Result<_, _>>()?)
    }

    /// Chats from an export, as further chats; their ids.
    pub fn import(&self, caller: &str, import: Import) -> Result<Vec<String>, Refusal> {
        if import.pasture_chats != FORM {
            let message = format!("the form of the export is {}, and this program reads {FORM}", import.pasture_chats);
            return Err(Refusal::field("pasture_chats", message));
        }
        let mut connection = self.connection();
        let change = connection.transaction()?;
        let mut ids = Vec::new();
        for chat in import.chats {
            has_place(&change, caller)?;
            ids.push(import_chat(&change, caller, chat)?);
            // What is too much is undone with the whole import.
            has_room(&change, caller, 0)?;
        }
        change.commit()?;
        Ok(ids)
    }
}

fn import_chat(change: &rusqlite::Transaction<'_>, caller: &str, chat: Imported) -> Result<String, Refusal> {
    check_title(&chat.title)?;
    if chat.tree.len() as i64 > limits::MESSAGES {
        return Err(Refusal::field("tree", format!("a chat has at most {} messages", limits::MESSAGES)));
    }
    let settings = stored("settings", &chat.settings, limits::SETTINGS_BYTES)?;
    let now = now();
    // A time that is still to come would keep the chat on top for ever.
    let time = |time: Option<i64>| time.unwrap_or(now).clamp(0, now);
    let times = (time(chat.created), time(chat.changed));
    let (number, id) = insert_chat(change, caller, &chat.title, &settings, times)?;
    let mut places: HashMap<i64, i64> = HashMap::new();
    for message in chat.tree {
        let old = message.id;
        let unknown = |parent: i64| {
            Refusal::field(
                "tree",
                format!("message {old} comes after message {parent}, which does not stand before it"),
            )
        };
        let parent = message.parent.map(|parent| places.get(&parent).copied().ok_or_else(|| unknown(parent)));
        let message = Message { parent: parent.transpose()?, created: time(Some(message.created)), ..message };
        if places.insert(old, insert_message(change, number, &message)?).is_some() {
            return Err(Refusal::field("tree", format!("two messages have the id {old}")));
        }
    }
    if let Some(leaf) = chat.leaf {
        let missing = || Refusal::field("leaf", format!("the chat has no message {leaf}"));
        let leaf = places.get(&leaf).ok_or_else(missing)?;
        change.execute("UPDATE chats SET leaf = ?2 WHERE number = ?1", params![number, leaf])?;
    }
    Ok(id)
}

/// The text around what was found, on one line.
fn excerpt(text: &str, wanted: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let wanted: Vec<char> = wanted.chars().collect();
    let same = |one: &char, other: &char| one == other || one.to_lowercase().eq(other.to_lowercase());
    let found = chars.windows(wanted.len()).position(|part| part.iter().zip(&wanted).all(|(a, b)| same(a, b)));
    let found = found.unwrap_or(0);
    let (from, to) = (found.saturating_sub(AROUND.0), chars.len().min(found + wanted.len() + AROUND.1));
    let inside: String =
        chars[from..to].iter().map(|letter| if letter.is_whitespace() { ' ' } else { *letter }).collect();
    let (before, after) = (if from > 0 { "…" } else { "" }, if to < chars.len() { "…" } else { "" });
    format!("{before}{}{after}", inside.trim())
}
