//! Licences of all dependencies against the list in `deny.toml`, so that it holds where `cargo deny` is not installed.
//! Advisories and yanked versions are `cargo deny`'s alone.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{cargo, root};

/// Fails with the names of packages whose licence is not on the list.
pub fn run() -> Result<()> {
    let allowed = allowed(&fs::read_to_string(root().join("deny.toml")).context("cannot read \"deny.toml\"")?)?;
    let output = Command::new(cargo())
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(root())
        .output()
        .context("cannot start `cargo metadata`")?;
    if !output.status.success() {
        bail!("`cargo metadata` failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let metadata: Value = serde_json::from_slice(&output.stdout).context("`cargo metadata` gave no JSON")?;
    let packages = metadata["packages"].as_array().context("`cargo metadata` gave no packages")?;
    let mut wrong = Vec::new();
    for package in packages {
        let license = package["license"].as_str().unwrap_or("none");
        if !permits(license, &allowed) {
            wrong.push(format!("{} ({license})", package["name"].as_str().unwrap_or_default()));
        }
    }
    if !wrong.is_empty() {
        bail!("licences that \"deny.toml\" does not allow: {}", wrong.join(", "));
    }
    eprintln!("licenses: {} packages, all allowed", packages.len());
    Ok(())
}

fn allowed(text: &str) -> Result<Vec<String>> {
    let table: toml::Table = text.parse().context("\"deny.toml\" cannot be read")?;
    let list = table.get("licenses").and_then(|l| l.get("allow")).and_then(toml::Value::as_array);
    let list = list.context("\"deny.toml\" has no `licenses.allow`")?;
    Ok(list.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect())
}

/// Does a licence expression leave a choice that is allowed? `AND` binds closer than `OR` and `/`.
fn permits(expression: &str, allowed: &[String]) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    any(&words, &mut at, allowed) && at == words.len()
}

fn any(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let mut fits = all(words, at, allowed);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        fits |= all(words, at, allowed);
    }
    fits
}

fn all(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let mut fits = one(words, at, allowed);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        fits &= one(words, at, allowed);
    }
    fits
}

fn one(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let Some(word) = words.get(*at) else { return false };
    *at += 1;
    if *word == "(" {
        let fits = any(words, at, allowed);
        *at += 1;
        return fits;
    }
    let mut name = (*word).to_owned();
    if words.get(*at) == Some(&"WITH") {
        name = format!("{name} WITH {}", words.get(*at + 1).unwrap_or(&""));
        *at += 2;
    }
    allowed.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_needs_one_allowed_choice() {
        let allowed = ["MIT", "Apache-2.0", "Unicode-3.0", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned);
        for (expression, fits) in [
            ("MIT", true),
            ("MIT OR GPL-3.0", true),
            ("MIT AND GPL-3.0", false),
            ("MIT/Apache-2.0", true),
            ("(MIT OR GPL-3.0) AND Unicode-3.0", true),
            ("(MIT OR GPL-3.0) AND MPL-2.0", false),
            ("Apache-2.0 WITH LLVM-exception", true),
            ("MPL-2.0", false),
            ("none", false),
            ("", false),
        ] {
            assert_eq!(permits(expression, &allowed), fits, "{expression:?}");
        }
    }
}
