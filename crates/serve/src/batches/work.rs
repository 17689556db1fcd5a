//! Batches in the book: made, told, begun, their answers kept one by one, ended. Invariant: a line is answered at most
//! once, and nothing is added to a batch that has ended.

use std::collections::HashSet;

use axum::http::StatusCode;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use serde_json::{Map, Value, json};

use super::book::{ACTIVE, Book, Range, file_number, has_room, insert_file};
use super::limits;
use super::lines::{Checking, is_blank, read, unanswered};
use crate::moment::now;
use crate::refusal::Refusal;

/// A batch to be made.
pub struct NewBatch {
    pub endpoint: String,
    /// The id of its file.
    pub input: String,
    pub metadata: Option<Map<String, Value>>,
    /// For how many seconds its output is kept.
    pub kept: u64,
}

/// A batch whose lines are being answered.
#[derive(Debug)]
pub struct Job {
    pub number: i64,
    pub caller: String,
    pub endpoint: String,
    /// The number of its file.
    pub input: i64,
    /// Seconds since 1970.
    pub expires: i64,
    /// Lines that have no answer yet.
    pub pending: Vec<i64>,
    /// Whether its end was asked for.
    pub cancelled: bool,
}

/// How a batch ends.
pub enum Ended {
    Completed,
    Cancelled,
    /// Its time is over.
    Expired,
    /// Its answers cannot be kept.
    Failed(Refusal),
}

/// Whether a line was answered well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Went {
    Well,
    Wrong,
}

impl Book {
    /// A batch that waits to be begun: its number, and what is told of it.
    pub fn create(&self, caller: &str, batch: &NewBatch) -> Result<(i64, Value), Refusal> {
        let mut connection = self.connection();
        let change = connection.transaction()?;
        let count = |which: &str| format!("SELECT count(*) FROM batches WHERE caller = ?1 AND {which}");
        let active: i64 = change.query_row(&count(&format!("status IN {ACTIVE}")), [caller], |row| row.get(0))?;
        if active >= limits::ACTIVE {
            let message = format!("{active} batches have not ended, and more are not taken; wait for one");
            let refusal = Refusal::new(StatusCode::TOO_MANY_REQUESTS, "too_many_batches", message);
            return Err(Refusal { retry_after: Some(60), ..refusal });
        }
        let missing = |refusal: Refusal| Refusal { param: Some("input_file_id".to_owned()), ..refusal };
        let input = file_number(&change, caller, &batch.input).map_err(missing)?;
        let purpose: String =
            change.query_row("SELECT purpose FROM files WHERE number = ?1", [input], |row| row.get(0))?;
        if purpose != "batch" {
            return Err(Refusal::field("input_file_id", "the file's purpose must be \"batch\""));
        }
        let all: i64 = change.query_row(&count("1"), [caller], |row| row.get(0))?;
        if all >= limits::BATCHES {
            let oldest = format!(
                "DELETE FROM batches WHERE number = (SELECT min(number) FROM batches
                 WHERE caller = ?1 AND status NOT IN {ACTIVE})"
            );
            change.execute(&oldest, [caller])?;
        }
        let metadata = batch.metadata.clone().map(|object| Value::Object(object).to_string());
        change.execute(
            "INSERT INTO batches (id, caller, endpoint, input, metadata, kept, status, created)
             VALUES ('batch_' || lower(hex(randomblob(12))), ?1, ?2, ?3, ?4, ?5, 'validating', ?6)",
            params![caller, batch.endpoint, batch.input, metadata, batch.kept as i64, now()],
        )?;
        let number = change.last_insert_rowid();
        let made = change.query_row(&format!("{BATCH} WHERE number = ?1"), [number], told)?;
        change.commit()?;
        Ok((number, made))
    }

    /// Batches of a caller, and whether there are more.
    pub fn batches(&self, caller: &str, range: &Range) -> Result<(Vec<Value>, bool), Refusal> {
        self.listed("batches", &format!("{BATCH} WHERE caller = ?1 AND ?2 IS NULL"), caller, range, told)
    }

    /// A batch.
    pub fn batch(&self, caller: &str, id: &str) -> Result<Value, Refusal> {
        one(&self.connection(), caller, id)
    }

    /// Asks for a batch's end: its number, and what is told of it.
    pub fn cancel(&self, caller: &str, id: &str) -> Result<(i64, Value), Refusal> {
        let mut connection = self.connection();
        let change = connection.transaction()?;
        let before = one(&change, caller, id)?;
        let update = "UPDATE batches SET status = 'cancelling', cancelling = ?3
            WHERE caller = ?1 AND id = ?2 AND status IN ('validating', 'in_progress')";
        let changed = change.execute(update, params![caller, id, now()])?;
        if changed == 0 && before["status"] != "cancelling" {
            let status = before["status"].as_str().unwrap_or_default();
            let message = format!("the batch is {status}, so there is nothing to cancel");
            return Err(Refusal::new(StatusCode::CONFLICT, "batch_ended", message));
        }
        let number = change.query_row("SELECT number FROM batches WHERE id = ?1", [id], |row| row.get(0))?;
        let after = one(&change, caller, id)?;
        change.commit()?;
        Ok((number, after))
    }

    /// The numbers of batches that have not ended, the oldest first.
    pub fn active(&self) -> Result<Vec<i64>, Refusal> {
        let connection = self.connection();
        let select = format!("SELECT number FROM batches WHERE status IN {ACTIVE} ORDER BY number");
        let mut statement = connection.prepare(&select)?;
        let numbers = statement.query_map([], |row| row.get(0))?;
        Ok(numbers.collect::<Result<_, _>>()?)
    }

    /// Begins a batch, or goes on with it: its file is checked, and its lines without an answer are found. None where it
    /// has ended, or ends because its file is wrong.
    pub fn begin(&self, number: i64) -> Result<Option<Job>, Refusal> {
        let Some((mut job, status)) = self.job(number)? else { return Ok(None) };
        let mut checking = Checking::default();
        let mut from = 0;
        while let Some((line, text)) = self.line(job.input, from)? {
            from = line + 1;
            if !is_blank(&text) {
                job.pending.push(line);
            }
            if status == "validating" && !checking.line(from as usize, &text, &job.endpoint) {
                break;
            }
        }
        if status == "validating" {
            if checking.requests == 0 {
                let what = "the file has no requests, or is no longer there";
                checking.faults.push(json!({"code": "empty_file", "message": what, "param": null, "line": null}));
            }
            if !self.checked(&job, &checking)? {
                return Ok(None);
            }
        }
        let answered = answered(&self.connection(), number)?;
        job.pending.retain(|line| !answered.contains(line));
        Ok(Some(job))
    }

    fn job(&self, number: i64) -> Result<Option<(Job, String)>, Refusal> {
        let connection = self.connection();
        let select = format!(
            "SELECT caller, endpoint, (SELECT files.number FROM files WHERE files.id = input), created, status
             FROM batches WHERE number = ?1 AND status IN {ACTIVE}"
        );
        let job = connection.query_row(&select, [number], |row| {
            let status: String = row.get(4)?;
            let job = Job {
                number,
                caller: row.get(0)?,
                endpoint: row.get(1)?,
                // One that is gone has no lines.
                input: row.get::<_, Option<i64>>(2)?.unwrap_or(-1),
                expires: row.get::<_, i64>(3)?.saturating_add(limits::WINDOW),
                pending: Vec::new(),
                cancelled: status == "cancelling",
            };
            Ok((job, status))
        });
        Ok(job.optional()?)
    }

    /// Notes what came of the check. False where the batch has failed by it.
    fn checked(&self, job: &Job, checking: &Checking) -> Result<bool, Refusal> {
        let mut connection = self.connection();
        let change = connection.transaction()?;
        if !checking.faults.is_empty() {
            let errors = json!(checking.faults).to_string();
            let update = format!(
                "UPDATE batches SET status = 'failed', errors = ?2, ended = ?3 WHERE number = ?1 AND status IN {ACTIVE}"
            );
            change.execute(&update, params![job.number, errors, now()])?;
            change.commit()?;
            return Ok(false);
        }
        let name = |what: &str| format!("batch_{}_{what}.jsonl", job.number);
        let output = insert_file(&change, &job.caller, "batch_output", &name("output"), None)?;
        let error = insert_file(&change, &job.caller, "batch_output", &name("error"), None)?;
        // One whose end was asked for meanwhile stays so.
        let update = "UPDATE batches SET output = ?2, error = ?3, total = ?4, began = ?5,
            status = CASE status WHEN 'validating' THEN 'in_progress' ELSE status END WHERE number = ?1";
        change.execute(update, params![job.number, output, error, checking.requests as i64, now()])?;
        change.commit()?;
        Ok(true)
    }

    /// Keeps the answer to a line.
    ///
    /// # Errors
    /// When the caller has no room for it.
    pub fn keep(&self, job: &Job, line: i64, text: &str, went: Went) -> Result<(), Refusal> {
        let mut connection = self.connection();
        let change = connection.transaction()?;
        put(&change, job, (line, text, went), self.bytes_max)?;
        Ok(change.commit()?)
    }

    /// Ends a batch: what was answered becomes its files.
    pub fn end(&self, job: &Job, how: &Ended) -> Result<(), Refusal> {
        let mut connection = self.connection();
        let change = connection.transaction()?;
        let select = format!("SELECT output, error, kept FROM batches WHERE number = ?1 AND status IN {ACTIVE}");
        let row = change.query_row(&select, [job.number], |row| {
            Ok(([row.get::<_, Option<i64>>(0)?, row.get(1)?], row.get::<_, i64>(2)?))
        });
        let Some((files, kept)) = row.optional()? else { return Ok(()) };
        if let Ended::Expired = how {
            expire(&change, job, self.bytes_max)?;
        }
        let now = now();
        for file in files.into_iter().flatten() {
            let update = "UPDATE files SET ready = 1, created = ?2, expires = ?3 WHERE number = ?1 AND bytes > 0";
            if change.execute(update, params![file, now, now.saturating_add(kept)])? == 0 {
                change.execute("DELETE FROM files WHERE number = ?1", [file])?;
            }
        }
        let (status, errors) = match how {
            Ended::Completed => ("completed", None),
            Ended::Cancelled => ("cancelled", None),
            Ended::Expired => ("expired", None),
            Ended::Failed(refusal) => {
                let fault = json!({"code": refusal.code, "message": refusal.message, "param": null, "line": null});
                ("failed", Some(json!([fault]).to_string()))
            }
        };
        // One whose last answer came while its end was asked for is cancelled, as was said.
        let update = "UPDATE batches SET ended = ?4, errors = ?3,
            status = CASE WHEN status = 'cancelling' THEN 'cancelled' ELSE ?2 END WHERE number = ?1";
        change.execute(update, params![job.number, status, errors, now])?;
        Ok(change.commit()?)
    }
}

/// Lines that have an answer.
fn answered(connection: &Connection, number: i64) -> Result<HashSet<i64>, Refusal> {
    let mut select = connection.prepare_cached(
        "SELECT line FROM lines JOIN batches ON lines.file IN (batches.output, batches.error)
         WHERE batches.number = ?1",
    )?;
    let lines = select.query_map([number], |row| row.get(0))?;
    Ok(lines.collect::<Result<_, _>>()?)
}

/// Tells every line without an answer that the time is over, as far as there is room.
fn expire(change: &Transaction<'_>, job: &Job, bytes_max: i64) -> Result<(), Refusal> {
    let answered = answered(change, job.number)?;
    let select = "SELECT text FROM lines WHERE file = ?1 AND line = ?2";
    for line in job.pending.iter().filter(|line| !answered.contains(line)) {
        let text: Option<Vec<u8>> =
            change.prepare_cached(select)?.query_row(params![job.input, line], |row| row.get(0)).optional()?;
        let Some(Ok(request)) = text.map(|text| read(&text, &job.endpoint)) else { continue };
        let message = "the batch was not done within its window of 24 hours";
        let told = unanswered(&request.custom_id, "batch_expired", message);
        match put(change, job, (*line, &told, Went::Wrong), bytes_max) {
            Err(refusal) if refusal.status == StatusCode::INSUFFICIENT_STORAGE => break,
            put => put?,
        }
    }
    Ok(())
}

fn put(
    change: &Transaction<'_>,
    job: &Job,
    (line, text, went): (i64, &str, Went),
    bytes_max: i64,
) -> Result<(), Refusal> {
    let (file, count) = match went {
        Went::Well => ("output", "completed"),
        Went::Wrong => ("error", "failed"),
    };
    let select = format!("SELECT {file} FROM batches WHERE number = ?1 AND status IN {ACTIVE}");
    let file: Option<Option<i64>> = change.query_row(&select, [job.number], |row| row.get(0)).optional()?;
    // An answer that comes after the end is nobody's.
    let Some(file) = file.flatten() else { return Ok(()) };
    has_room(change, &job.caller, text.len(), bytes_max)?;
    let insert = "INSERT INTO lines (file, line, text) VALUES (?1, ?2, ?3)";
    change.prepare_cached(insert)?.execute(params![file, line, text.as_bytes()])?;
    let grown = "UPDATE files SET bytes = bytes + ?2 WHERE number = ?1";
    change.prepare_cached(grown)?.execute(params![file, text.len() as i64])?;
    let counted = format!("UPDATE batches SET {count} = {count} + 1 WHERE number = ?1");
    change.prepare_cached(&counted)?.execute([job.number])?;
    Ok(())
}

fn one(connection: &Connection, caller: &str, id: &str) -> Result<Value, Refusal> {
    let select = format!("{BATCH} WHERE caller = ?1 AND id = ?2");
    let found = connection.query_row(&select, params![caller, id], told).optional()?;
    found.ok_or_else(|| Refusal::new(StatusCode::NOT_FOUND, "batch_not_found", "there is no such batch"))
}

const BATCH: &str = "SELECT id, endpoint, input, status, created, began, cancelling, ended, total, completed, failed,
    errors, metadata, (SELECT files.id FROM files WHERE files.number = output AND ready = 1),
    (SELECT files.id FROM files WHERE files.number = error AND ready = 1) FROM batches";

fn told(row: &Row<'_>) -> rusqlite::Result<Value> {
    let status: String = row.get(3)?;
    let created: i64 = row.get(4)?;
    let parsed = |column: usize| -> rusqlite::Result<Option<Value>> {
        let text: Option<String> = row.get(column)?;
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
    };
    let ended = |word: &str| match status == word {
        true => row.get::<_, Option<i64>>(7),
        false => Ok(None),
    };
    Ok(json!({
        "id": row.get::<_, String>(0)?,
        "object": "batch",
        "endpoint": row.get::<_, String>(1)?,
        "errors": parsed(11)?.map(|list| json!({"object": "list", "data": list})),
        "input_file_id": row.get::<_, String>(2)?,
        "completion_window": "24h",
        "status": status,
        "output_file_id": row.get::<_, Option<String>>(13)?,
        "error_file_id": row.get::<_, Option<String>>(14)?,
        "created_at": created,
        "in_progress_at": row.get::<_, Option<i64>>(5)?,
        "expires_at": created.saturating_add(limits::WINDOW),
        "finalizing_at": ended("completed")?,
        "completed_at": ended("completed")?,
        "failed_at": ended("failed")?,
        "expired_at": ended("expired")?,
        "cancelling_at": row.get::<_, Option<i64>>(6)?,
        "cancelled_at": ended("cancelled")?,
        "request_counts": {
            "total": row.get::<_, i64>(8)?, "completed": row.get::<_, i64>(9)?, "failed": row.get::<_, i64>(10)?,
        },
        "metadata": parsed(12)?,
    }))
}
