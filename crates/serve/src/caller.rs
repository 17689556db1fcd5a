//! Who asks: the key of a request as every route sees it. The guard sets it for the task that
//! answers it; without keys everybody is `local` and may do everything.

use std::sync::Arc;

use crate::visit::Visit;

/// Something that a key may be allowed to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Answers, and tokens of a text.
    Infer,
    /// Vectors of texts.
    Embed,
    /// The server's state, its counts, what is loaded, its end.
    Admin,
    /// Models from the registry.
    Pull,
    /// Models into the registry.
    Push,
    /// The page and its chats.
    Page,
}

impl Scope {
    /// All of them, in the order in which they are told.
    pub const ALL: [Scope; 6] = [Scope::Infer, Scope::Embed, Scope::Admin, Scope::Pull, Scope::Push, Scope::Page];

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Scope::Infer => "infer",
            Scope::Embed => "embed",
            Scope::Admin => "admin",
            Scope::Pull => "pull",
            Scope::Push => "push",
            Scope::Page => "page",
        }
    }
}

/// What a key may do: a set of scopes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scopes(u8);

impl Scopes {
    /// Everything.
    pub const ALL: Scopes = Scopes((1 << Scope::ALL.len()) - 1);

    /// The set of these.
    pub fn of(scopes: &[Scope]) -> Scopes {
        Scopes(scopes.iter().fold(0, |set, scope| set | 1 << *scope as u8))
    }

    /// The set that words name, separated by commas.
    ///
    /// # Errors
    /// When a word is no scope; says which there are.
    pub fn parse(words: &str) -> Result<Scopes, String> {
        let mut set = Scopes::default();
        for word in words.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            let Some(scope) = Scope::ALL.into_iter().find(|scope| scope.word() == word) else {
                let known: Vec<&str> = Scope::ALL.iter().map(|scope| scope.word()).collect();
                return Err(format!("there is no scope {word:?}: there are {}", known.join(", ")));
            };
            set.0 |= 1 << scope as u8;
        }
        match set.0 {
            0 => Err("a key without a scope may do nothing; name at least one".to_owned()),
            _ => Ok(set),
        }
    }

    /// Is it in the set?
    pub fn has(self, scope: Scope) -> bool {
        self.0 & (1 << scope as u8) != 0
    }

    /// The words, in their order.
    pub fn words(self) -> Vec<&'static str> {
        Scope::ALL.into_iter().filter(|scope| self.has(*scope)).map(Scope::word).collect()
    }
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The key's id, which is no secret; `local` where the server has no keys.
    pub id: Arc<str>,
    /// The key's name, as whoever made it chose.
    pub name: Arc<str>,
    /// What it may do.
    pub scopes: Scopes,
}

impl Caller {
    /// Whoever asks a server without keys.
    pub fn local() -> Caller {
        Caller { id: "local".into(), name: "local".into(), scopes: Scopes::ALL }
    }

    /// The program of this machine that looks after the server, which has a key of its own.
    pub fn control() -> Caller {
        Caller { id: "control".into(), name: "this machine".into(), ..Caller::local() }
    }

    /// The caller of an id that is no key's of the file.
    pub fn without_key(id: &str) -> Option<Caller> {
        [Caller::local(), Caller::control()].into_iter().find(|caller| caller.id.as_ref() == id)
    }

    /// Who asked for what this task computes. Threads that a task starts do not know it: ask before.
    pub fn current() -> Caller {
        Visit::current().and_then(|visit| visit.caller.clone()).unwrap_or_else(Caller::local)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_words_and_back() {
        assert_eq!(Scopes::parse("infer, embed").map(Scopes::words), Ok(vec!["infer", "embed"]));
        assert_eq!(Scopes::ALL.words().len(), Scope::ALL.len());
        assert!(Scopes::of(&[Scope::Page]).has(Scope::Page) && !Scopes::of(&[Scope::Page]).has(Scope::Admin));
        for (words, part) in [("", "at least one"), ("root", "no scope \"root\""), ("infer,", "")] {
            match Scopes::parse(words) {
                Ok(set) => assert!(part.is_empty() && set == Scopes::of(&[Scope::Infer])),
                Err(what) => assert!(!part.is_empty() && what.contains(part), "{what}"),
            }
        }
    }

    #[tokio::test]
    async fn a_task_knows_its_caller_and_no_other_does() {
        let other = Caller { id: "k1".into(), ..Caller::local() };
        assert_eq!(Caller::current().id.as_ref(), "local");
        let mut visit = Visit::new("GET", "/");
        visit.caller = Some(other.clone());
        let seen = Arc::new(visit).scope(async {
            tokio::task::yield_now().await;
            Caller::current()
        });
        assert_eq!(seen.await, other);
        assert_eq!(Caller::current().id.as_ref(), "local");
    }
}
