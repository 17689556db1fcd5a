//! The commands of the conversation: what `/help` lists and how a line becomes one. What they do is in `talk.rs`.

use pasture_files::nearest::likely;

/// Name, what follows it, what it does.
pub const COMMANDS: [(&str, &str, &str); 13] = [
    ("help", "", "this list"),
    ("system", "TEXT", "sets the system message; without a text, shows it"),
    ("set", "NAME VALUE", "changes a setting, such as temperature 0.7; without a name, shows them"),
    ("save", "FILE", "keeps the conversation in a file"),
    ("load", "FILE", "goes on with a conversation from a file"),
    ("regenerate", "", "throws the last answer away and makes another"),
    ("undo", "", "takes back the last question and its answer"),
    ("stats", "", "tokens, speed, and how full the context is"),
    ("compact", "", "replaces the conversation by the model's own summary of it, to make room"),
    ("drop", "", "forgets the oldest question and its answer, to make room"),
    ("clear", "", "starts over"),
    ("exit", "", "leaves, like Ctrl-D"),
    ("image", "FILE", "reserved: no model with eyes runs yet"),
];

/// What the user typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Something to say to the model.
    Say(String),
    /// A command with what follows it.
    Command(&'static str, String),
    /// A slash with a name that is no command, and the nearest that is.
    Unknown(String, Option<&'static str>),
    /// Nothing.
    Empty,
}

/// Reads what was typed. A line that begins with two slashes says what follows the first.
pub fn read(text: &str) -> Input {
    let text = text.trim();
    if text.is_empty() {
        return Input::Empty;
    }
    if let Some(rest) = text.strip_prefix("//") {
        return Input::Say(format!("/{rest}"));
    }
    let Some(command) = text.strip_prefix('/') else { return Input::Say(text.to_owned()) };
    let (name, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
    let alias = match name {
        "?" => "help",
        "quit" | "bye" => "exit",
        name => name,
    };
    let known = || COMMANDS.iter().map(|(name, ..)| *name);
    match known().find(|known| *known == alias) {
        Some(name) => Input::Command(name, rest.trim().to_owned()),
        None => Input::Unknown(name.to_owned(), likely(name, known())),
    }
}

/// What `/help` prints.
pub fn help() -> String {
    let mut text = String::new();
    for (name, takes, does) in COMMANDS {
        text.push_str(&format!("  {:<18} {does}\n", format!("/{name} {takes}")));
    }
    text.push_str("  End a line with \\ to go on in the next, or put several lines between \"\"\" and \"\"\".\n");
    text.push_str("  Ctrl-C stops an answer and keeps the conversation. Ctrl-D leaves.");
    text
}

/// Whether more lines belong to what was typed so far: an open `"""`, or a line that ends with a backslash.
pub fn goes_on(text: &str) -> bool {
    match text.strip_prefix("\"\"\"") {
        Some(rest) => !rest.contains("\"\"\""),
        None => text.ends_with('\\'),
    }
}

/// The text without the marks that joined its lines.
pub fn joined(text: &str) -> String {
    match text.strip_prefix("\"\"\"").and_then(|rest| rest.split_once("\"\"\"")) {
        Some((inside, _)) => inside.trim_matches('\n').to_owned(),
        None => text.replace("\\\n", "\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_said_or_done() {
        for (line, wanted) in [
            ("hello", Input::Say("hello".into())),
            ("  ", Input::Empty),
            ("//etc", Input::Say("/etc".into())),
            ("/set top_k 5", Input::Command("set", "top_k 5".into())),
            ("/quit", Input::Command("exit", String::new())),
            ("/zzzzzz", Input::Unknown("zzzzzz".into(), None)),
            ("/regenrate", Input::Unknown("regenrate".into(), Some("regenerate"))),
        ] {
            assert_eq!(read(line), wanted, "{line:?}");
        }
    }

    #[test]
    fn several_lines_are_one_text() {
        for (typed, more, text) in [
            ("one", false, "one"),
            ("one \\", true, "one \\"),
            ("one\\\ntwo", false, "one\ntwo"),
            ("\"\"\"one", true, "\"\"\"one"),
            ("\"\"\"\none\ntwo\n\"\"\"", false, "one\ntwo"),
        ] {
            assert_eq!((goes_on(typed), joined(typed).as_str()), (more, text), "{typed:?}");
        }
    }

    #[test]
    fn every_command_is_in_the_help() {
        assert!(COMMANDS.iter().all(|(name, ..)| help().contains(&format!("/{name}"))));
    }
}
