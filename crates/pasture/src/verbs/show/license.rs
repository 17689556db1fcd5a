//! The licence that a model's files name, and what it asks. Nothing is judged: the name is what the publisher wrote, and
//! what it asks is the store's summary of the text.

use pasture_model::Source;
use pasture_store::licence::{NO_ADVICE, NOT_STATED, Statement, Terms, add_beside, of_folder, of_gguf};
use serde_json::{Value, json};

use crate::exit::Failure;

/// What the files say: of a GGUF file its keys, of a folder its card and the texts beside it, of a cache both.
pub fn find(source: &Source) -> Result<Vec<Statement>, Failure> {
    match (source.tensors.gguf(), &source.folder) {
        (Some(metadata), _) => {
            let mut found = of_gguf(metadata);
            if let Some(file) = source.tensors.files().first() {
                add_beside(&mut found, file)?;
            }
            Ok(found)
        }
        (None, Some(folder)) => Ok(of_folder(folder)?),
        (None, None) => Ok(Vec::new()),
    }
}

/// One name for the licence, as a card has it.
pub fn name(statements: &[Statement]) -> Option<String> {
    statements.first().map(|row| row.named.clone())
}

/// The lines that `show` prints of it: a title and a text each. `terms` are those of the model and its ancestors.
pub fn lines(statements: &[Statement], terms: &Terms) -> Vec<(&'static str, String)> {
    if statements.is_empty() && terms.is_empty() {
        return vec![("licence", format!("{NOT_STATED}; ask whoever published it"))];
    }
    let named = |row: &Statement| {
        let meant = row.licence.filter(|licence| licence.name != row.named);
        let meant = meant.map(|licence| format!(": {}, {}", licence.name, licence.source)).unwrap_or_default();
        format!("{} (from {}){meant}", row.named, row.place)
    };
    let mut lines: Vec<_> = statements.iter().map(|row| ("licence", named(row))).collect();
    let told = |name: &str| statements.iter().any(|row| row.licence.is_some_and(|licence| licence.id == name));
    let inherited = terms.licences.iter().filter(|licence| !told(&licence.id));
    lines.extend(
        inherited
            .map(|licence| ("licence", format!("{} (from what it was made of): {}", licence.name, licence.source))),
    );
    lines.extend(terms.obligations().into_iter().map(|row| ("it asks", row.text)));
    lines.extend(terms.warnings().into_iter().map(|warning| ("terms", warning)));
    if !terms.licences.is_empty() {
        lines.push(("terms", NO_ADVICE.to_owned()));
    }
    lines
}

/// The same for machines.
pub fn object(statements: &[Statement], terms: &Terms) -> Value {
    let Some(first) = statements.first() else { return Value::Null };
    let asked = terms.obligations();
    let asked = asked.iter().map(|row| json!({"kind": row.kind, "text": row.text, "licence": row.licence.id}));
    let named = statements.iter().map(|row| {
        json!({"name": row.named, "from": row.place, "id": row.licence.map(|licence| &licence.id),
               "source": row.licence.map(|licence| &licence.source)})
    });
    json!({
        "name": first.named, "from": first.place, "named": named.collect::<Vec<_>>(),
        "asks": asked.collect::<Vec<_>>(), "holds": terms.licences.iter().map(|licence| &licence.id).collect::<Vec<_>>(), "warnings": terms.warnings(),
    })
}
