//! The book of files and batches: whose is whose, what is counted, and what stands after each way to end.

#[cfg(test)]
mod cases {
    use serde_json::{Value, json};

    use super::super::book::{Book, NewFile, Range};
    use super::super::limits;
    use super::super::work::{Ended, Job, NewBatch, Went};
    use crate::refusal::Refusal;

    const URL: &str = "/v1/completions";

    fn lines(count: usize) -> Vec<u8> {
        let line = |at: usize| json!({"custom_id": format!("r{at}"), "method": "POST", "url": URL, "body": {}});
        (0..count).map(|at| format!("{}\n", line(at))).collect::<String>().into_bytes()
    }

    fn file(book: &Book, caller: &str, content: Vec<u8>) -> String {
        let file = NewFile { name: "in.jsonl".into(), content, kept: 3600 };
        book.add_file(caller, &file).unwrap()["id"].as_str().unwrap().to_owned()
    }

    fn create(book: &Book, caller: &str, input: &str) -> Result<(i64, Value), Refusal> {
        let batch = NewBatch { endpoint: URL.into(), input: input.into(), metadata: None, kept: 3600 };
        book.create(caller, &batch)
    }

    /// A batch of three requests that has begun.
    fn begun(book: &Book) -> (String, String, Job) {
        let input = file(book, "anna", lines(3));
        let (number, told) = create(book, "anna", &input).unwrap();
        let job = book.begin(number).unwrap().unwrap();
        (input, told["id"].as_str().unwrap().to_owned(), job)
    }

    fn content(book: &Book, caller: &str, id: &Value) -> Vec<String> {
        let (_, number, bytes) = book.content(caller, id.as_str().unwrap()).unwrap();
        let (mut from, mut found, mut sum) = (0, Vec::new(), 0);
        while let Some((line, text)) = book.line(number, from).unwrap() {
            (from, sum) = (line + 1, sum + text.len() as u64);
            found.push(String::from_utf8(text).unwrap());
        }
        assert_eq!(sum, bytes);
        found
    }

    fn code(refusal: Refusal) -> &'static str {
        refusal.code
    }

    #[test]
    fn nobody_reads_removes_or_ends_what_is_anothers() {
        let book = Book::open(None).unwrap();
        let (input, batch, _) = begun(&book);
        let all = Range { limit: 10, ..Range::default() };
        assert!(book.files("bert", &all).unwrap().0.is_empty() && book.batches("bert", &all).unwrap().0.is_empty());
        assert_eq!(book.file("bert", &input).map_err(code).err(), Some("file_not_found"));
        assert_eq!(book.content("bert", &input).map_err(code).err(), Some("file_not_found"));
        assert_eq!(book.delete_file("bert", &input).map_err(code), Err("file_not_found"));
        assert_eq!(create(&book, "bert", &input).map_err(code).err(), Some("file_not_found"));
        assert_eq!(book.batch("bert", &batch).map_err(code).err(), Some("batch_not_found"));
        assert_eq!(book.cancel("bert", &batch).map_err(code).err(), Some("batch_not_found"));
        let after = Range { after: Some(input), ..all };
        assert!(book.files("bert", &after).unwrap_err().message.contains("one of the list"));
    }

    #[test]
    fn answers_become_files_when_the_batch_ends_and_are_counted_once() {
        let book = Book::open(None).unwrap();
        let (input, batch, job) = begun(&book);
        assert_eq!(job.pending, [0, 1, 2]);
        assert_eq!(book.delete_file("anna", &input).map_err(code), Err("file_in_use"));
        book.keep(&job, 1, "one\n", Went::Well).unwrap();
        assert!(book.keep(&job, 1, "one\n", Went::Well).is_err(), "a line is answered once");
        // As after a crash: what has an answer is not asked again.
        let job = book.begin(job.number).unwrap().unwrap();
        assert_eq!(job.pending, [0, 2]);
        book.keep(&job, 0, "zero\n", Went::Wrong).unwrap();
        let told = book.batch("anna", &batch).unwrap();
        assert_eq!(told["request_counts"], json!({"total": 3, "completed": 1, "failed": 1}));
        assert_eq!((&told["status"], &told["output_file_id"]), (&json!("in_progress"), &Value::Null));
        book.keep(&job, 2, "two\n", Went::Well).unwrap();
        book.end(&job, &Ended::Completed).unwrap();
        let told = book.batch("anna", &batch).unwrap();
        assert_eq!((&told["status"], told["completed_at"].is_i64()), (&json!("completed"), true));
        assert_eq!(content(&book, "anna", &told["output_file_id"]), ["one\n", "two\n"]);
        assert_eq!(content(&book, "anna", &told["error_file_id"]), ["zero\n"]);
        // What comes late changes nothing.
        book.keep(&job, 5, "late\n", Went::Well).unwrap();
        book.end(&job, &Ended::Cancelled).unwrap();
        assert_eq!(book.batch("anna", &batch).unwrap(), told);
        assert!(book.begin(job.number).unwrap().is_none() && book.active().unwrap().is_empty());
        assert_eq!(book.cancel("anna", &batch).map_err(code).err(), Some("batch_ended"));
        book.delete_file("anna", &input).unwrap();
    }

    #[test]
    fn a_cancelled_batch_keeps_what_was_answered_and_an_expired_one_tells_the_rest() {
        let book = Book::open(None).unwrap();
        let (_, batch, job) = begun(&book);
        book.keep(&job, 0, "zero\n", Went::Well).unwrap();
        assert_eq!(book.cancel("anna", &batch).unwrap().1["status"], "cancelling");
        assert!(book.begin(job.number).unwrap().unwrap().cancelled);
        // The last answer came at the same moment.
        book.end(&job, &Ended::Completed).unwrap();
        let told = book.batch("anna", &batch).unwrap();
        assert_eq!((&told["status"], &told["error_file_id"]), (&json!("cancelled"), &Value::Null));
        assert_eq!(content(&book, "anna", &told["output_file_id"]), ["zero\n"]);

        let (_, batch, job) = begun(&book);
        book.keep(&job, 1, "one\n", Went::Well).unwrap();
        book.end(&job, &Ended::Expired).unwrap();
        let told = book.batch("anna", &batch).unwrap();
        assert_eq!((&told["status"], &told["request_counts"]["failed"]), (&json!("expired"), &json!(2)));
        let rest = content(&book, "anna", &told["error_file_id"]);
        assert!(rest.len() == 2 && rest[0].contains("\"r0\"") && rest[1].contains("batch_expired"), "{rest:?}");
    }

    #[test]
    fn a_file_that_is_wrong_fails_its_batch_and_says_where() {
        let book = Book::open(None).unwrap();
        for (content, wanted) in [
            (b"{}\n".to_vec(), "missing_required_parameter"),
            (b"\n\n".to_vec(), "empty_file"),
            (b"\xff\n".to_vec(), "invalid_json_line"),
            ([lines(2), lines(1)].concat(), "duplicate_custom_id"),
        ] {
            let (number, told) = create(&book, "anna", &file(&book, "anna", content)).unwrap();
            assert!(book.begin(number).unwrap().is_none());
            let told = book.batch("anna", told["id"].as_str().unwrap()).unwrap();
            assert_eq!((&told["status"], &told["errors"]["data"][0]["code"]), (&json!("failed"), &json!(wanted)));
            assert!(told["failed_at"].is_i64());
        }
        let (number, told) = create(&book, "anna", &file(&book, "anna", b"{}\n".to_vec())).unwrap();
        let id = told["id"].as_str().unwrap();
        book.cancel("anna", id).unwrap();
        let job = book.begin(number).unwrap().unwrap();
        book.end(&job, &Ended::Cancelled).unwrap();
        assert_eq!(book.batch("anna", id).unwrap()["status"], "cancelled");
    }

    #[test]
    fn what_a_caller_keeps_is_bounded_and_goes_when_its_time_is_over() {
        let book = Book::open(None).unwrap();
        let (input, batch, job) = begun(&book);
        let sql = |text: &str| book.connection().execute(text, []).unwrap();
        sql(&format!("UPDATE files SET bytes = {} WHERE bytes > 0", limits::MEMORY_BYTES - 3));
        let new = NewFile { name: "a".into(), content: vec![b'a'; 4], kept: 3600 };
        let full = |result: Result<(), Refusal>| result.map_err(|refusal| (refusal.status.as_u16(), refusal.code));
        assert_eq!(full(book.add_file("anna", &new).map(drop)), Err((507, "files_full")));
        assert_eq!(full(book.keep(&job, 0, "zero\n", Went::Well)), Err((507, "files_full")));
        assert!(book.add_file("bert", &new).is_ok());
        let refusal = book.keep(&job, 0, "zero\n", Went::Well).unwrap_err();
        book.end(&job, &Ended::Failed(refusal)).unwrap();
        assert_eq!(book.batch("anna", &batch).unwrap()["errors"]["data"][0]["code"], "files_full");

        sql("UPDATE files SET expires = 1, bytes = 10");
        assert_eq!(book.file("anna", &input).map_err(code).err(), Some("file_not_found"));
        book.sweep().unwrap();
        let left = |table: &str| -> i64 {
            let count = format!("SELECT count(*) FROM {table}");
            book.connection().query_row(&count, [], |row| row.get(0)).unwrap()
        };
        assert_eq!((left("files"), left("lines"), left("batches")), (0, 0, 1));
        sql("UPDATE batches SET ended = 1");
        book.sweep().unwrap();
        assert_eq!(left("batches"), 0);

        for at in 0..limits::FILES {
            book.add_file("anna", &new).unwrap_or_else(|refusal| panic!("{at}: {refusal:?}"));
        }
        assert_eq!(full(book.add_file("anna", &new).map(drop)), Err((507, "files_full")));
        sql("DELETE FROM files");
        let input = file(&book, "anna", lines(1));
        (0..limits::ACTIVE).for_each(|_| drop(create(&book, "anna", &input).unwrap()));
        assert_eq!(create(&book, "anna", &input).map_err(code).err(), Some("too_many_batches"));
    }

    #[test]
    fn lists_come_in_parts() {
        let book = Book::open(None).unwrap();
        let ids: Vec<String> = (0..5).map(|_| file(&book, "anna", lines(1))).collect();
        let ask = |after: Option<&String>, ascending: bool| {
            let range = Range { after: after.cloned(), limit: 2, ascending, purpose: None };
            let (files, more) = book.files("anna", &range).unwrap();
            (files.iter().map(|file| file["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>(), more)
        };
        assert_eq!(ask(None, false), (vec![ids[4].clone(), ids[3].clone()], true));
        assert_eq!(ask(Some(&ids[1]), false), (vec![ids[0].clone()], false));
        assert_eq!(ask(Some(&ids[1]), true), (vec![ids[2].clone(), ids[3].clone()], true));
        let none = Range { purpose: Some("batch_output".into()), limit: 9, ..Range::default() };
        assert_eq!(book.files("anna", &none).unwrap().0, Vec::<Value>::new());
    }
}
