//! The page of fields for the guide, made from the tables.

use std::fmt::Write;

use super::tables::{BATCHES_QUERY, Body, FILES_QUERY, OLLAMA_OPTIONS, of};
use super::{Effect, Field};
use crate::limits;

const INTRODUCTION: &str = "\
# Fields of requests

This page is made from the server's own tables; a test compares it.

```console
$ pasture serve --fields
```

- *Effective* fields change the answer; a value outside its limits is a 400 that names the field.
- *Advisory* fields are accepted without an effect and listed in the header `x-pasture-unused`.
  So is a setting that the others leave without effect, such as a seed at temperature 0.
- Fields that are *not supported yet* are accepted where they ask for nothing: `null` and the values shown.
- Every other name is a 400 with the nearest known one.
  With `--lenient` it is listed in the header instead.

## Limits of every request

| what | limit |
|---|---|
";

/// The whole text of `docs/guide/serve-fields.md`.
pub fn page() -> String {
    let mut page = String::from(INTRODUCTION);
    for (what, limit) in limits::table() {
        row(&mut page, &[what, &limit]);
    }
    page.push_str("\n## Limits of chats\n\nThe [web page](serve.md) keeps them.\n\n| what | limit |\n|---|---|\n");
    for (what, limit) in crate::chats::limits::table() {
        row(&mut page, &[what, &limit]);
    }
    page.push_str("\n## Limits of files and batches\n\n| what | limit |\n|---|---|\n");
    for (what, limit) in crate::batches::limits::table() {
        row(&mut page, &[what, &limit]);
    }
    for (body, route) in Body::ALL {
        let _ = write!(page, "\n## `POST {route}`\n\n");
        section(&mut page, of(body));
    }
    for (route, query) in [("/v1/files", FILES_QUERY), ("/v1/batches", BATCHES_QUERY)] {
        let _ = write!(page, "\n## The query of `GET {route}`\n\n");
        section(&mut page, query);
    }
    page.push_str("\n## `options` of `/api/chat` and `/api/generate`\n\n");
    section(&mut page, OLLAMA_OPTIONS);
    page
}

fn section(page: &mut String, fields: &[Field]) {
    if fields.is_empty() {
        page.push_str("An empty object.\n");
        return;
    }
    page.push_str("| field | values | meaning |\n|---|---|---|\n");
    for field in fields {
        if let Effect::Effective(kind) = field.effect {
            row(page, &[&format!("`{}`", field.name), &kind.to_string(), field.meaning]);
        }
    }
    let idle = fields.iter().filter(|field| matches!(field.effect, Effect::Advisory));
    list(page, "Advisory", idle.map(|field| format!("`{}`", field.name)).collect());
    let later = fields.iter().filter_map(|field| match field.effect {
        Effect::NotYet([]) => Some(format!("`{}`", field.name)),
        Effect::NotYet(neutral) => Some(format!("`{}` (`{}`)", field.name, neutral.join("`, `"))),
        _ => None,
    });
    list(page, "Not supported yet", later.collect());
}

fn list(page: &mut String, title: &str, names: Vec<String>) {
    if !names.is_empty() {
        let _ = write!(page, "\n{title}: {}.\n", names.join(", "));
    }
}

fn row(page: &mut String, cells: &[&str]) {
    let _ = writeln!(page, "| {} |", cells.iter().map(|cell| cell.replace('|', "\\|")).collect::<Vec<_>>().join(" | "));
}
