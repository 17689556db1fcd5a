//! The OpenAPI document, made from the table of routes and the tables of fields, so that it cannot say anything else
//! than the server does.

use serde_json::{Map, Value, json};

use crate::fields::{Effect, Field, Kind, of};
use crate::limits;
use crate::refusal::Style;
use crate::routes::{Access, Does, Row, table};

/// The document.
pub fn document() -> Value {
    let mut paths = Map::new();
    for row in table() {
        let path = row.path.replace("{*", "{");
        let operations = paths.entry(path).or_insert_with(|| json!({}));
        operations[row.method().as_str().to_ascii_lowercase()] = operation(row);
    }
    let error = |inside: Value| json!({"type": "object", "required": ["error"], "properties": {"error": inside}});
    let text = json!({"type": "string"});
    let nullable = json!({"type": ["string", "null"]});
    let detailed = json!({
        "type": "object", "required": ["message", "type"],
        "properties": {"message": text, "type": text, "param": nullable, "code": nullable},
    });
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Pasture",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Open-weight models behind the APIs that clients know. A field without an effect is refused \
                by name or listed in the header x-pasture-unused.",
            "license": {"name": "Apache-2.0 OR MIT", "identifier": "Apache-2.0 OR MIT"},
        },
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
            "schemas": {"Error": error(detailed), "PlainError": error(text)},
        },
    })
}

fn operation(row: &Row) -> Value {
    let mut operation =
        json!({"operationId": name(row), "responses": responses(row), "security": security(row.access)});
    if let Access::Scope(scope) = row.access {
        operation["x-pasture-scope"] = json!(scope.word());
    }
    let parameters: Vec<Value> = parameters(row.path).chain(queries(row.does)).collect();
    if !parameters.is_empty() {
        operation["parameters"] = json!(parameters);
    }
    let json = "application/json";
    let body = match row.does {
        Does::Answers(body) => Some((object(of(body)), json)),
        Does::Chats(act) if act.has_body() => Some((json!({"type": "object"}), json)),
        Does::Batches(act) => act.body().map(|(body, kind)| (object(of(body)), kind)),
        _ => None,
    };
    if let Some((schema, kind)) = body {
        operation["requestBody"] = json!({"required": true, "content": {kind: {"schema": schema}}});
    }
    operation
}

/// A name for programs: method and path in words.
fn name(row: &Row) -> String {
    let words = row.path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let words: Vec<&str> = words.collect();
    let method = row.method().as_str().to_ascii_lowercase();
    if words.is_empty() { format!("{method}_root") } else { format!("{method}_{}", words.join("_")) }
}

fn security(access: Access) -> Value {
    match access {
        Access::Open => json!([]),
        _ => json!([{"bearer": []}, {"x-api-key": []}]),
    }
}

/// The parts of a path that stand in braces.
fn parameters(path: &str) -> impl Iterator<Item = Value> {
    let names = path.split('{').skip(1).filter_map(|rest| rest.split('}').next());
    names.map(|name| {
        let name = name.trim_start_matches('*');
        json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}})
    })
}

/// What a query may say.
fn queries(does: Does) -> impl Iterator<Item = Value> {
    let fields = if let Does::Batches(act) = does { act.query() } else { &[] };
    fields.iter().map(|field| {
        let schema = if let Effect::Effective(kind) = field.effect { schema(kind) } else { json!({}) };
        json!({"name": field.name, "in": "query", "description": field.meaning, "schema": schema})
    })
}

fn responses(row: &Row) -> Value {
    let schema = match row.style {
        Style::Ollama => "PlainError",
        _ => "Error",
    };
    let reference = json!({"$ref": format!("#/components/schemas/{schema}")});
    let refusal = |what: &str| json!({"description": what, "content": {"application/json": {"schema": reference}}});
    let mut responses = json!({
        "200": {"description": "The answer"},
        "403": refusal("Another host, another origin, or a key without the scope"),
        "503": refusal("The server is loading, ending, or cannot write its audit log"),
    });
    if row.access != Access::Open {
        responses["401"] = refusal("A key is needed");
        responses["429"] = refusal("Too many requests; Retry-After says when to come back");
    }
    if row.access != Access::Open || row.path.contains('{') {
        responses["404"] = refusal("No such model, or no such thing");
    }
    if row.method() == "POST" || queries(row.does).next().is_some() {
        responses["400"] = refusal("A field is wrong, and the message names it");
    }
    if row.method() == "POST" {
        responses["408"] = refusal("The body did not arrive in time");
        responses["413"] = refusal("The body is too long");
        responses["415"] = refusal("The body is not JSON, or compressed");
        responses["500"] = refusal("The answer could not be computed");
    }
    responses
}

fn object(fields: &[Field]) -> Value {
    let mut properties = Map::new();
    for field in fields {
        properties.insert(field.name.to_owned(), property(field));
    }
    json!({"type": "object", "properties": properties, "additionalProperties": false})
}

fn property(field: &Field) -> Value {
    match field.effect {
        Effect::Effective(kind) => {
            // Every field takes null, which says nothing.
            let mut schema = json!({"anyOf": [schema(kind), {"type": "null"}]});
            schema["description"] = json!(format!("{}: {kind}", field.meaning));
            schema
        }
        Effect::Advisory => json!({"description": "Accepted without an effect"}),
        Effect::NotYet(neutral) => {
            let values: Vec<Value> = neutral.iter().filter_map(|text| serde_json::from_str(text).ok()).collect();
            let values: Vec<Value> = values.into_iter().chain([Value::Null]).collect();
            json!({"enum": values, "description": "Not supported yet; only values that ask for nothing"})
        }
    }
}

fn schema(kind: Kind) -> Value {
    let (stops, bytes) = limits::STOPS;
    let ids = json!({"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1});
    let stop = json!({"type": "string", "minLength": 1, "maxLength": bytes});
    let text = json!({"type": "string"});
    let documents =
        |items: Value| json!({"type": "array", "items": items, "minItems": 1, "maxItems": limits::DOCUMENTS});
    match kind {
        Kind::Text => json!({"type": "string"}),
        Kind::Flag => json!({"type": "boolean"}),
        Kind::Whole(low, high) => json!({"type": "integer", "minimum": low, "maximum": high}),
        Kind::Signed(low, high) => json!({"type": "integer", "minimum": low, "maximum": high}),
        Kind::Stops => json!({"anyOf": [stop, {"type": "array", "items": stop, "maxItems": stops}]}),
        Kind::Messages => json!({"type": "array", "items": {"type": "object"}, "maxItems": limits::MESSAGES}),
        Kind::Prompts => {
            let many =
                |items: Value| json!({"type": "array", "items": items, "minItems": 1, "maxItems": limits::PROMPTS});
            json!({"anyOf": [{"type": "string"}, ids, many(json!({"type": "string"})), many(ids.clone())]})
        }
        Kind::Ids => ids,
        Kind::Texts => json!({"anyOf": [text, documents(text.clone())]}),
        Kind::Documents => {
            let object = json!({"type": "object", "properties": {"text": text}, "required": ["text"], "additionalProperties": false});
            documents(json!({"anyOf": [text, object]}))
        }
        Kind::Words(words) => json!({"enum": words}),
        Kind::Object(fields) => object(fields),
        // Its limits stand in the description, in words.
        _ => json!({}),
    }
}
