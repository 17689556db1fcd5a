//! What holds for a work: the terms that its own files name and those of everything it was made from, taken together. The
//! strictest of each kind holds, and what cannot hold together is told.

use super::{Licence, NO_ADVICE, Statement, named};

/// One thing that terms ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obligation {
    /// What: `copy`, `notice`, `attribution`, `name`, `changes`, `acceptable use`, `users`, `commerce`, `share-alike`,
    /// `derivatives`, `other models`, `note`.
    pub kind: &'static str,
    /// In words.
    pub text: String,
    /// The licence that asks it.
    pub licence: &'static Licence,
}

/// All terms of a work.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// The licences that are known here, each once.
    pub licences: Vec<&'static Licence>,
    /// Names of licences of which nothing is known here.
    pub unknown: Vec<String>,
    /// Works among its ancestors whose files name no licence.
    pub silent: Vec<String>,
}

impl Terms {
    /// The terms that one work's files name.
    pub fn of(statements: &[Statement]) -> Terms {
        let mut terms = Terms::default();
        for row in statements {
            match row.licence {
                Some(licence) => terms.add(licence),
                None => terms.add_unknown(&row.named),
            }
        }
        terms
    }

    /// Adds a licence.
    pub fn add(&mut self, licence: &'static Licence) {
        if !self.licences.contains(&licence) {
            self.licences.push(licence);
        }
    }

    /// Adds a licence by a name that may be unknown here.
    pub fn add_named(&mut self, name: &str) {
        match named(name) {
            Some(licence) => self.add(licence),
            None => self.add_unknown(name),
        }
    }

    fn add_unknown(&mut self, name: &str) {
        if !self.unknown.iter().any(|there| there == name) {
            self.unknown.push(name.to_owned());
        }
    }

    /// Adds all terms of an ancestor.
    pub fn join(&mut self, ancestor: &Terms) {
        ancestor.licences.iter().for_each(|licence| self.add(licence));
        ancestor.unknown.iter().for_each(|name| self.add_unknown(name));
        for name in &ancestor.silent {
            if !self.silent.contains(name) {
                self.silent.push(name.clone());
            }
        }
    }

    /// Whether no licence was named.
    pub fn is_empty(&self) -> bool {
        self.licences.is_empty() && self.unknown.is_empty()
    }

    /// What has to be done, of each kind what the strictest asks.
    pub fn obligations(&self) -> Vec<Obligation> {
        let mut found: Vec<Obligation> = Vec::new();
        for licence in &self.licences {
            for (kind, text) in asked(licence) {
                if !found.iter().any(|row| row.kind == kind && row.text == text) {
                    found.push(Obligation { kind, text, licence });
                }
            }
        }
        // Of several thresholds the lowest holds.
        let lowest = self.licences.iter().filter_map(|licence| licence.users_max).min();
        found.retain(|row| row.kind != "users" || row.licence.users_max == lowest);
        found.sort_by_key(|row| KINDS.iter().position(|kind| *kind == row.kind));
        found
    }

    /// What cannot hold together, and what is not known.
    pub fn warnings(&self) -> Vec<String> {
        let mut found = Vec::new();
        for one in &self.licences {
            for other in self.licences.iter().filter(|other| *other != one) {
                found.extend(conflict(one, other));
            }
        }
        found.extend(self.names_that_differ());
        for licence in self.licences.iter().filter(|licence| licence.no_derivatives) {
            found.push(format!("the {} lets nobody pass on what is made from the model", licence.name));
        }
        for name in &self.unknown {
            found.push(format!("nothing is known here of the licence {name:?}: read its text"));
        }
        for name in &self.silent {
            found.push(format!("{NOT_STATED} by the files of {name:?}: ask whoever published it"));
        }
        found
    }

    fn names_that_differ(&self) -> Option<String> {
        let mut rules: Vec<&str> = self.licences.iter().filter_map(|licence| licence.name_begins.as_deref()).collect();
        rules.sort_by_key(|rule| rule.len());
        let (longest, rest) = rules.split_last()?;
        let other = rest.iter().find(|rule| !longest.starts_with(**rule))?;
        Some(format!("its name would have to begin with {longest:?} and with {other:?}"))
    }

    /// Two lines: the licences with the addresses of their texts, and what they ask in short.
    pub fn lines(&self) -> [String; 2] {
        if self.is_empty() {
            return [NOT_STATED.to_owned(), "ask whoever published it before you use it or pass it on".to_owned()];
        }
        let names = self.licences.iter().map(|licence| format!("{} ({})", licence.name, licence.source));
        let names: Vec<String> = names.chain(self.unknown.iter().cloned()).collect();
        let mut asked: Vec<String> = self.obligations().iter().map(|row| row.text.clone()).collect();
        if !self.unknown.is_empty() {
            asked.push("read the text: nothing is known here of it".to_owned());
        }
        if asked.is_empty() {
            asked.push("nothing".to_owned());
        }
        [format!("licence: {}", names.join(" + ")), format!("it asks: {} ({NO_ADVICE})", asked.join("; "))]
    }
}

/// What is said of a work whose files, and those of whatever it was made from, name no licence.
pub const NOT_STATED: &str = "no licence is stated";

/// The order in which obligations are told.
const KINDS: [&str; 12] = [
    "commerce",
    "users",
    "acceptable use",
    "name",
    "attribution",
    "notice",
    "copy",
    "changes",
    "share-alike",
    "derivatives",
    "other models",
    "note",
];

fn asked(licence: &Licence) -> Vec<(&'static str, String)> {
    let mut rows = Vec::new();
    let mut row = |kind, text: Option<String>| rows.extend(text.map(|text| (kind, text)));
    let when = |asked: bool, text: &str| asked.then(|| text.to_owned());
    row("commerce", when(licence.non_commercial, "no commercial use"));
    row("users", licence.users_max.map(|most| format!("up to {} million monthly users", most / 1_000_000)));
    row(
        "acceptable use",
        licence.acceptable_use.as_ref().map(|page| {
            let on = if licence.pass_on { ", also for whoever receives it" } else { "" };
            format!("limits of use: {page}{on}")
        }),
    );
    row(
        "name",
        licence
            .name_begins
            .as_ref()
            .map(|begins| format!("what is made from it has a name that begins with {begins:?}")),
    );
    row("attribution", licence.attribution.as_ref().map(|words| format!("show {words:?}")));
    row("notice", when(licence.notice.is_some(), "a NOTICE file with its line goes along"));
    row("copy", when(licence.copy, "the text of the licence goes along"));
    row("copy", when(licence.keep_notices, "copyright notices stay"));
    row("changes", when(licence.state_changes, "say what was changed"));
    row("share-alike", when(licence.share_alike, "what is made from it is passed on under the same terms"));
    row("derivatives", when(licence.no_derivatives, "what is made from it is not passed on"));
    row("other models", when(licence.own_kind_only, "neither it nor what it writes improves other models"));
    row("note", licence.note.clone());
    rows
}

/// Why two licences cannot both hold for one work, seen from the first.
fn conflict(one: &Licence, other: &Licence) -> Option<String> {
    if one.share_alike {
        let adds = match () {
            () if other.non_commercial && !one.non_commercial => Some("forbids commercial use"),
            () if other.share_alike => Some("asks the same for its own terms"),
            () if other.acceptable_use.is_some() || other.users_max.is_some() => Some("limits its use"),
            () if other.no_derivatives => Some("lets nobody pass it on"),
            () => None,
        };
        return adds.map(|adds| {
            format!(
                "the {} asks that the work is passed on under its terms alone, but the {} {adds}",
                one.name, other.name
            )
        });
    }
    if one.own_kind_only {
        return Some(format!(
            "the {} forbids that it improves models of another kind, and part of the work is under the {}",
            one.name, other.name
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(ids: &[&str]) -> Terms {
        let mut terms = Terms::default();
        ids.iter().for_each(|id| terms.add_named(id));
        terms
    }

    fn check_warnings(ids: &[&str], wanted: &[&str]) {
        let found = terms(ids).warnings();
        assert_eq!(found.len(), wanted.len(), "{ids:?}: {found:?}");
        for (found, wanted) in found.iter().zip(wanted) {
            assert!(found.contains(wanted), "{ids:?}: {found}");
        }
    }

    #[test]
    fn what_cannot_hold_together_is_told() {
        check_warnings(&["mit", "apache-2.0"], &[]);
        check_warnings(&["llama3.1", "llama3.2", "mit"], &[]);
        check_warnings(&["cc-by-nc-4.0", "apache-2.0"], &[]);
        check_warnings(&["cc-by-sa-4.0", "cc-by-nc-4.0"], &["forbids commercial use"]);
        check_warnings(&["cc-by-sa-4.0", "llama3.2"], &["limits its use"]);
        check_warnings(&["cc-by-sa-4.0", "gpl-3.0"], &["asks the same", "asks the same"]);
        check_warnings(&["llama2", "gemma"], &["models of another kind"]);
        check_warnings(&["llama3", "llama3.1"], &["models of another kind"]);
        check_warnings(&["house-rules"], &["nothing is known"]);
    }

    #[test]
    fn of_each_kind_the_strictest_holds() {
        let found = terms(&["mit", "llama3.2", "qwen", "cc-by-nc-4.0"]);
        let texts: Vec<String> = found.obligations().into_iter().map(|row| row.text).collect();
        assert!(texts.contains(&"no commercial use".to_owned()), "{texts:?}");
        assert!(texts.contains(&"up to 100 million monthly users".to_owned()), "{texts:?}");
        assert!(!texts.contains(&"up to 700 million monthly users".to_owned()), "{texts:?}");
        assert_eq!(texts.iter().filter(|text| *text == "copyright notices stay").count(), 1, "{texts:?}");
    }

    #[test]
    fn two_lines_say_the_licence_and_what_it_asks() {
        let [licence, asked] = terms(&["llama3.2"]).lines();
        assert!(licence.starts_with("licence: Llama 3.2 Community License (https://"), "{licence}");
        for part in ["700 million", "\"Built with Llama\"", "begins with \"Llama\"", "use-policy", "no legal advice"] {
            assert!(asked.contains(part), "{asked}");
        }
        let [none, ask] = Terms::default().lines();
        assert!(none == "no licence is stated" && ask.contains("ask whoever"));
        assert!(terms(&["cc0-1.0"]).lines()[1].starts_with("it asks: nothing ("));
        assert!(terms(&["house-rules"]).lines()[1].starts_with("it asks: read the text"));
    }
}
