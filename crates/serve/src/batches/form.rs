//! A form with a file (`multipart/form-data`), read strictly from a whole body: what is not as the form's own boundary
//! says is refused, and nothing stands before, between or behind its parts.

use serde_json::{Map, Value, json};

use super::limits;

/// A form.
#[derive(Debug, PartialEq)]
pub struct Form<'b> {
    /// Its fields as an object: a name as `a[b]` makes an object inside, a file is told by its name.
    pub fields: Map<String, Value>,
    /// The file.
    pub content: Option<&'b [u8]>,
}

/// Reads a form. `kind` is the content type, of which the boundary is a part.
///
/// # Errors
/// In words, when something is not as it must be.
pub fn read<'b>(kind: &str, body: &'b [u8]) -> Result<Form<'b>, String> {
    let mark = format!("--{}", boundary(kind)?);
    let between = format!("\r\n{mark}");
    let mut rest = body.strip_prefix(mark.as_bytes()).ok_or("the form does not begin with its boundary")?;
    let mut form = Form { fields: Map::new(), content: None };
    for _ in 0..=limits::PARTS {
        if let Some(end) = rest.strip_prefix(b"--") {
            let nothing = end.is_empty() || end == b"\r\n";
            return if nothing { Ok(form) } else { Err("something stands behind the form's end".to_owned()) };
        }
        rest = rest.strip_prefix(b"\r\n").ok_or("a boundary of the form is not at the end of its line")?;
        let head = &rest[..rest.len().min(limits::FORM.1)];
        let end = find(head, b"\r\n\r\n").ok_or("a part of the form has no head, or one that is too long")?;
        let part = head_of(&head[..end])?;
        rest = &rest[end + 4..];
        let end = find(rest, between.as_bytes()).ok_or("the form breaks off")?;
        put(&mut form, part, &rest[..end])?;
        rest = &rest[end + between.len()..];
    }
    Err(format!("the form has more than {} parts", limits::PARTS))
}

/// What a part says of itself.
struct Head {
    name: String,
    file: Option<String>,
}

fn boundary(kind: &str) -> Result<&str, String> {
    let missing = || format!("the content type must name a boundary of 1 to {} plain letters", limits::FORM.0);
    let mut parameters = kind.split(';').skip(1).filter_map(|parameter| parameter.trim().split_once('='));
    let (_, value) = parameters.find(|(name, _)| name.eq_ignore_ascii_case("boundary")).ok_or_else(missing)?;
    let plain = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=?".contains(&byte);
    match !plain.is_empty() && plain.len() <= limits::FORM.0 && plain.bytes().all(good) {
        true => Ok(plain),
        false => Err(missing()),
    }
}

fn head_of(head: &[u8]) -> Result<Head, String> {
    let text = std::str::from_utf8(head).map_err(|_| "a part of the form has a head that is no text")?;
    let mut found = None;
    for line in text.split("\r\n") {
        let (name, value) = line.split_once(':').ok_or("a part of the form has a line that is no header")?;
        match name.to_ascii_lowercase().as_str() {
            "content-disposition" if found.is_none() => found = Some(disposition(value.trim())?),
            "content-type" | "content-length" => {}
            "content-transfer-encoding" if ["binary", "8bit", "7bit"].contains(&value.trim()) => {}
            _ => return Err(format!("a part of the form has a header that is not known there: {:?}", cut(name))),
        }
    }
    found.ok_or_else(|| "a part of the form does not say its name".to_owned())
}

/// `form-data; name="…"; filename="…"`.
fn disposition(value: &str) -> Result<Head, String> {
    let rest = value.strip_prefix("form-data").ok_or("a part of the form is no form-data")?;
    let (mut name, mut file) = (None, None);
    let mut rest = rest.trim_start();
    while let Some(after) = rest.strip_prefix(';') {
        let (key, after) = after.trim_start().split_once("=\"").ok_or("names in a form stand in quotation marks")?;
        let (text, after) = quoted(after)?;
        match key {
            "name" if name.is_none() => name = Some(text),
            "filename" if file.is_none() => file = Some(text),
            other => return Err(format!("a part of the form says {:?}, which is not known there", cut(other))),
        }
        rest = after.trim_start();
    }
    match (name, rest.is_empty()) {
        (Some(name), true) => Ok(Head { name, file }),
        _ => Err("a part of the form does not say its name".to_owned()),
    }
}

/// A text up to its closing mark, and what follows.
fn quoted(text: &str) -> Result<(String, &str), String> {
    let mut plain = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Ok((plain, &text[at + 1..])),
            '\\' => match letters.next() {
                Some((_, letter @ ('"' | '\\'))) => plain.push(letter),
                Some((_, letter)) => plain.extend(['\\', letter]),
                None => break,
            },
            letter => plain.push(letter),
        }
    }
    Err("a name in the form has no end".to_owned())
}

fn put<'b>(form: &mut Form<'b>, head: Head, content: &'b [u8]) -> Result<(), String> {
    let Head { name, file } = head;
    let value = match file {
        Some(_) if form.content.is_some() => return Err("the form has two files".to_owned()),
        Some(file) => {
            form.content = Some(content);
            json!(file)
        }
        None => field(&name, content)?,
    };
    let (outer, inner) = match name.strip_suffix(']').and_then(|name| name.split_once('[')) {
        Some((outer, inner)) => (outer.to_owned(), Some(inner.to_owned())),
        None => (name.clone(), None),
    };
    let twice = || format!("the form has {:?} twice", cut(&name));
    match inner {
        None if form.fields.contains_key(&outer) => Err(twice()),
        None => {
            form.fields.insert(outer, value);
            Ok(())
        }
        Some(inner) => {
            let object = form.fields.entry(outer).or_insert_with(|| json!({}));
            let object = object.as_object_mut().ok_or_else(twice)?;
            match object.insert(inner, value) {
                None => Ok(()),
                Some(_) => Err(twice()),
            }
        }
    }
}

/// The value of a field that is no file; digits are a number.
fn field(name: &str, content: &[u8]) -> Result<Value, String> {
    if content.len() > limits::FIELD_BYTES {
        return Err(format!("{:?} of the form is longer than {} bytes", cut(name), limits::FIELD_BYTES));
    }
    let text = std::str::from_utf8(content).map_err(|_| format!("{:?} of the form is no text", cut(name)))?;
    let digits = (1..=15).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse::<u64>() {
        Ok(number) if digits => Ok(json!(number)),
        _ => Ok(json!(text)),
    }
}

/// A text of the client's, cut.
fn cut(text: &str) -> String {
    text.chars().take(60).collect()
}

/// Where a part begins. The first byte is looked for first: bodies are large.
fn find(body: &[u8], part: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = body.get(from..)?.iter().position(|byte| *byte == part[0]) {
        if body[from + at..].starts_with(part) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: &str = "multipart/form-data; boundary=xx";

    fn part(head: &str, content: &str) -> String {
        format!("--xx\r\nContent-Disposition: form-data; {head}\r\n\r\n{content}\r\n")
    }

    #[test]
    fn a_form_as_clients_send_it_is_read() {
        let file = "--xx\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a \\\"b\\\".jsonl\"\r\n\
                    Content-Type: application/octet-stream\r\n\r\n{\"a\": 1}\r\n--x\r\n\r\n";
        let body = part("name=\"purpose\"", "batch")
            + &part("name=\"expires_after[anchor]\"", "created_at")
            + &part("name=\"expires_after[seconds]\"", "3600")
            + file
            + "--xx--\r\n";
        for kind in [KIND, "multipart/form-data; charset=utf-8; boundary=\"xx\"", "multipart/form-data;Boundary=xx"] {
            let form = read(kind, body.as_bytes()).unwrap();
            let wanted = json!({
                "purpose": "batch", "expires_after": {"anchor": "created_at", "seconds": 3600}, "file": "a \"b\".jsonl",
            });
            assert_eq!(Value::Object(form.fields), wanted);
            assert_eq!(form.content, Some(&b"{\"a\": 1}\r\n--x\r\n"[..]));
        }
        assert_eq!(read(KIND, b"--xx--").unwrap(), Form { fields: Map::new(), content: None });
    }

    #[test]
    fn what_is_not_as_its_boundary_says_is_refused() {
        let good = part("name=\"a\"", "1");
        let file = part("name=\"file\"; filename=\"a\"", "1");
        let end = "--xx--";
        let long = "x".repeat(5000);
        for (body, what) in [
            (String::new(), "begin with its boundary"),
            (format!("before\r\n{good}{end}"), "begin with its boundary"),
            (good.clone(), "breaks off"),
            (format!("{good}--xx"), "end of its line"),
            (format!("{good}{end}more"), "behind the form's end"),
            (format!("{good}{good}{end}"), "\"a\" twice"),
            (format!("{file}{file}{end}"), "two files"),
            (format!("--xx\r\n\r\n\r\n1\r\n{end}"), "no header"),
            (format!("--xx\r\nContent-Type: text/plain\r\n\r\n1\r\n{end}"), "does not say its name"),
            (format!("--xx\r\nContent-Transfer-Encoding: base64\r\n\r\n1\r\n{end}"), "not known there"),
            (format!("{}{end}", part("filename=\"a\"", "1")), "does not say its name"),
            (format!("{}{end}", part("name=a", "1")), "quotation marks"),
            (format!("{}{end}", part("name=\"a", "1")), "has no end"),
            (format!("{}{end}", part("name=\"a\"; name=\"b\"", "1")), "not known there"),
            (format!("{}{end}", part("name=\"a\"", &long)), "longer than"),
            (format!("{}{end}", part(&format!("name=\"{long}\""), "1")), "too long"),
            (format!("{}{}{end}", part("name=\"a\"", "1"), part("name=\"a[b]\"", "1")), "twice"),
            ((0..17).map(|at| part(&format!("name=\"{at}\""), "1")).collect::<String>() + end, "more than 16 parts"),
        ] {
            let error = read(KIND, body.as_bytes()).unwrap_err();
            assert!(error.contains(what), "{body:?}: {error}");
        }
        for kind in ["multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=a b"] {
            assert!(read(kind, b"--xx--").unwrap_err().contains("must name a boundary"), "{kind}");
        }
    }

    #[test]
    fn bytes_of_any_kind_end_in_a_form_or_an_error() {
        let whole = part("name=\"file\"; filename=\"a\"", "content") + "--xx--\r\n";
        for cut in 0..whole.len() {
            let _ = read(KIND, &whole.as_bytes()[..cut]);
            for byte in [0, b'\r', b'"', b'-', 255] {
                let mut other = whole.clone().into_bytes();
                other[cut] = byte;
                if let Ok(form) = read(KIND, &other) {
                    assert!(form.content.is_none_or(|content| content.len() <= 7), "{cut} {byte}");
                }
            }
        }
    }

    #[test]
    fn pieces_in_any_order_end_in_a_form_or_an_error() {
        let whole = part("name=\"a[b]\"", "1") + &part("name=\"file\"; filename=\"a\"", "content") + "--xx--\r\n";
        let mut state = 1_u64;
        let mut below = |limit: usize| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as usize % limit
        };
        let mut read_well = 0;
        for _ in 0..20_000 {
            let mut body = whole.clone().into_bytes();
            for _ in 0..=below(3) {
                let (from, to) = (below(body.len()), below(body.len()));
                let piece = body[from.min(to)..from.max(to)].to_vec();
                match below(3) {
                    0 => drop(body.splice(from..from, piece)),
                    1 => drop(body.drain(from.min(to)..from.max(to).min(from.min(to) + 9))),
                    _ => body[from] = below(256) as u8,
                }
            }
            let Ok(form) = read(KIND, &body) else { continue };
            read_well += 1;
            let content = form.content.unwrap_or_default();
            assert!(body.windows(content.len().max(1)).any(|part| part == content) || content.is_empty());
            assert!(!content.windows(6).any(|six| six == b"\r\n--xx"), "a boundary ends a part");
        }
        assert!(read_well > 100, "{read_well} of the changed forms are forms");
    }
}
