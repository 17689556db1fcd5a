//! Stop strings over streamed text: one automaton (Aho and Corasick) for all of them.
//! Text that may be the start of a stop string is held back until it is known not to be.
//! Invariant: each byte of text and of stop strings is looked at a constant number of times on average.

use std::collections::HashMap;

use super::SamplingError;

/// At most so many stop strings.
pub const STOPS_MAX: usize = 16;
/// At most so many bytes in each.
pub const STOP_BYTES_MAX: usize = 256;

/// A node of the automaton: the text since some byte equals the start of a stop string of length `depth`.
#[derive(Clone, Debug, Default)]
struct Node {
    depth: usize,
    /// The node of the longest proper suffix that also starts a stop string.
    fallback: usize,
    /// The longest stop string that ends here, if any.
    ends: Option<usize>,
}

/// Where a stop string ended the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// Index of the stop string.
    pub stop: usize,
}

/// Looks for stop strings in text that comes in pieces.
#[derive(Clone, Debug)]
pub struct StopMatcher {
    nodes: Vec<Node>,
    /// From (node, byte) to node.
    edges: HashMap<(usize, u8), usize>,
    lengths: Vec<usize>,
    state: usize,
    held: String,
}

impl StopMatcher {
    /// A matcher for `stops`; with none it passes all text on at once.
    ///
    /// # Errors
    /// When there are more than [`STOPS_MAX`], or one is empty or longer than [`STOP_BYTES_MAX`].
    pub fn new(stops: &[String]) -> Result<Self, SamplingError> {
        if stops.len() > STOPS_MAX {
            return Err(SamplingError::Stops(format!(
                "stop has {} strings, at most {STOPS_MAX} are allowed",
                stops.len()
            )));
        }
        let mut matcher = Self {
            nodes: vec![Node::default()],
            edges: HashMap::new(),
            lengths: stops.iter().map(String::len).collect(),
            state: 0,
            held: String::new(),
        };
        for (index, stop) in stops.iter().enumerate() {
            if stop.is_empty() || stop.len() > STOP_BYTES_MAX {
                let length = stop.len();
                return Err(SamplingError::Stops(format!(
                    "stop string {index} has {length} bytes, 1 to {STOP_BYTES_MAX} are allowed"
                )));
            }
            matcher.add(index, stop);
        }
        matcher.link();
        Ok(matcher)
    }

    fn add(&mut self, index: usize, stop: &str) {
        let mut node = 0;
        for (depth, byte) in stop.bytes().enumerate() {
            let next = self.nodes.len();
            node = *self.edges.entry((node, byte)).or_insert(next);
            if node == next {
                self.nodes.push(Node { depth: depth + 1, ..Node::default() });
            }
        }
        self.nodes[node].ends.get_or_insert(index);
    }

    /// Sets every node's fallback, shallow nodes first.
    fn link(&mut self) {
        let mut edges: Vec<(usize, u8, usize)> =
            self.edges.iter().map(|(&(from, byte), &to)| (from, byte, to)).collect();
        edges.sort_by_key(|&(_, _, to)| (self.nodes[to].depth, to));
        for (from, byte, to) in edges {
            let fallback = if from == 0 { 0 } else { self.step(self.nodes[from].fallback, byte) };
            self.nodes[to].fallback = fallback;
            let inherited = self.nodes[fallback].ends;
            let node = &mut self.nodes[to];
            node.ends = node.ends.or(inherited);
        }
    }

    fn step(&self, mut node: usize, byte: u8) -> usize {
        loop {
            if let Some(&next) = self.edges.get(&(node, byte)) {
                return next;
            }
            if node == 0 {
                return 0;
            }
            node = self.nodes[node].fallback;
        }
    }

    /// Takes a piece of text; returns the text that is now certain, and the stop string that ended it, if one
    /// did: the text then stops before it, and what followed is dropped.
    pub fn push(&mut self, piece: &str) -> (String, Option<Stopped>) {
        if self.lengths.is_empty() {
            return (piece.to_owned(), None);
        }
        for (offset, byte) in piece.bytes().enumerate() {
            self.state = self.step(self.state, byte);
            if let Some(stop) = self.nodes[self.state].ends {
                self.held.push_str(&piece[..=offset]);
                // A stop string begins and ends with whole characters, so this is a character boundary.
                self.held.truncate(self.held.len() - self.lengths[stop]);
                self.state = 0;
                return (std::mem::take(&mut self.held), Some(Stopped { stop }));
            }
        }
        self.held.push_str(piece);
        let certain = self.held.len() - self.nodes[self.state].depth;
        let rest = self.held.split_off(certain);
        (std::mem::replace(&mut self.held, rest), None)
    }

    /// Ends the text; returns what was held back.
    pub fn finish(&mut self) -> String {
        self.state = 0;
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `text` cut at every size of piece; the sum of the text and the stop must always be as wanted.
    fn check(stops: &[&str], text: &str, wanted: &str, stop: Option<usize>) {
        let stops: Vec<String> = stops.iter().map(|&s| s.to_owned()).collect();
        let characters: Vec<char> = text.chars().collect();
        for size in 1..=characters.len().max(1) {
            let mut matcher = StopMatcher::new(&stops).unwrap();
            let (mut sum, mut found) = (String::new(), None);
            for piece in characters.chunks(size) {
                let (certain, stopped) = matcher.push(&piece.iter().collect::<String>());
                sum.push_str(&certain);
                assert!(wanted.starts_with(&sum), "{sum:?} was let out of {text:?} with {stops:?}");
                if let Some(stopped) = stopped {
                    found = Some(stopped.stop);
                    break;
                }
            }
            if found.is_none() {
                sum.push_str(&matcher.finish());
            }
            assert_eq!((sum.as_str(), found), (wanted, stop), "{text:?} with {stops:?} in pieces of {size}");
        }
    }

    #[test]
    fn text_ends_before_the_first_stop_string_however_it_is_cut() {
        check(&["END"], "one END two", "one ", Some(0));
        check(&["END"], "one EN two", "one EN two", None);
        check(&["END"], "one EEND", "one E", Some(0));
        check(&["aab"], "aaab", "a", Some(0));
        check(&["abab", "b"], "xab", "xa", Some(1));
        check(&["abcd", "bc"], "xabcd", "xa", Some(1));
        check(&["abcd", "cd"], "xabcd", "x", Some(0));
        check(&["é\n"], "cafés é\n!", "cafés ", Some(0));
        check(&["日本語"], "日本 日本語 x", "日本 ", Some(0));
        check(&["\n\n", "\nUser:"], "yes\nUser: no", "yes", Some(1));
        check(&[], "anything", "anything", None);
        check(&["x", "x"], "ax", "a", Some(0));
        check(&["END"], "", "", None);
    }

    #[test]
    fn only_what_may_become_a_stop_string_is_held() {
        let mut matcher = StopMatcher::new(&["stop".to_owned()]).unwrap();
        assert_eq!(matcher.push("a st").0, "a ");
        assert_eq!(matcher.push("r").0, "str");
        assert_eq!(matcher.push("sto").0, "");
        assert_eq!(matcher.finish(), "sto");
    }

    #[test]
    fn bad_stop_strings_are_refused() {
        for (stops, part) in
            [(vec![String::new()], "0 bytes"), (vec!["x".repeat(257)], "257"), (vec!["x".into(); 17], "17")]
        {
            let error = StopMatcher::new(&stops).unwrap_err().to_string();
            assert!(error.contains(part), "{error:?} lacks {part:?}");
        }
    }

    #[test]
    fn a_text_of_near_misses_takes_linear_time() {
        // A quadratic matcher would take 2^40 steps here.
        let stop = "a".repeat(255) + "b";
        let mut matcher = StopMatcher::new(&[stop]).unwrap();
        let piece = "a".repeat(1 << 10);
        let mut sum = 0;
        for _ in 0..1 << 10 {
            sum += matcher.push(&piece).0.len();
        }
        assert_eq!(sum + matcher.finish().len(), 1 << 20);
    }
}
