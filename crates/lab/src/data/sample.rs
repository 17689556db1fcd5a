//! What tuning consumes: tokens with what is learned of them, pairs of answers, judged answers. How they are made from
//! files of rows is in `mod`; how they become batches is tuning's.
#![forbid(unsafe_code)]

/// One text to learn from. Several may share a batch as separate spans; they never see each other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Example {
    /// The tokens.
    pub ids: Vec<u32>,
    /// For each token whether it is a target: `trained[i]` says that token `i` is learned as the one after token `i - 1`.
    /// The first token is never predicted, whatever stands here.
    pub trained: Vec<bool>,
}

/// Two answers to one prompt, one better than the other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Preference {
    /// What both answer; not learned.
    pub prompt: Vec<u32>,
    /// The better answer with its end.
    pub chosen: Vec<u32>,
    /// The worse answer with its end.
    pub rejected: Vec<u32>,
}

/// One answer and whether it is wanted (the data of KTO).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Judged {
    /// What is answered; not learned.
    pub prompt: Vec<u32>,
    /// The answer with its end.
    pub completion: Vec<u32>,
    /// Whether such an answer is wanted.
    pub desirable: bool,
}

/// What a row became.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sample {
    /// A text to learn from.
    Example(Example),
    /// Two answers, one better.
    Preference(Preference),
    /// An answer and whether it is wanted.
    Judged(Judged),
}

impl Sample {
    /// Tokens of the longest text in it.
    pub fn len(&self) -> usize {
        match self {
            Sample::Example(example) => example.ids.len(),
            Sample::Preference(pair) => pair.prompt.len() + pair.chosen.len().max(pair.rejected.len()),
            Sample::Judged(judged) => judged.prompt.len() + judged.completion.len(),
        }
    }

    /// Whether there is no token.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many tokens are learned; of two answers, of the one that has fewer.
    pub fn targets(&self) -> usize {
        match self {
            Sample::Example(example) => example.targets(),
            Sample::Preference(pair) => pair.chosen.len().min(pair.rejected.len()),
            Sample::Judged(judged) => judged.completion.len(),
        }
    }

    /// How often a token stands in it.
    pub(super) fn count(&self, id: u32) -> usize {
        let lists: Vec<&[u32]> = match self {
            Sample::Example(example) => vec![&example.ids],
            Sample::Preference(pair) => vec![&pair.prompt, &pair.chosen, &pair.rejected],
            Sample::Judged(judged) => vec![&judged.prompt, &judged.completion],
        };
        lists.concat().iter().filter(|token| **token == id).count()
    }

    /// Leaves the first tokens of each text in it.
    pub(super) fn truncate(&mut self, length: usize) {
        match self {
            Sample::Example(example) => {
                example.ids.truncate(length);
                example.trained.truncate(length);
            }
            Sample::Preference(pair) => {
                let left = length.saturating_sub(pair.prompt.len());
                pair.chosen.truncate(left);
                pair.rejected.truncate(left);
            }
            Sample::Judged(judged) => judged.completion.truncate(length.saturating_sub(judged.prompt.len())),
        }
    }
}

impl Example {
    /// How many tokens are learned: the targets without the first token, which nothing predicts.
    pub fn targets(&self) -> usize {
        self.trained.iter().skip(1).filter(|trained| **trained).count()
    }
}

impl Preference {
    /// Tokens of both answers, each with the prompt.
    pub fn tokens(&self) -> usize {
        2 * self.prompt.len() + self.chosen.len() + self.rejected.len()
    }

    /// The better and the worse answer, each behind the prompt, the answers' tokens being the targets.
    pub fn examples(&self) -> [Example; 2] {
        [&self.chosen, &self.rejected].map(|answer| behind(&self.prompt, answer))
    }
}

impl Judged {
    /// The answer behind its prompt, the answer's tokens being the targets.
    pub fn example(&self) -> Example {
        behind(&self.prompt, &self.completion)
    }
}

fn behind(prompt: &[u32], answer: &[u32]) -> Example {
    let trained = std::iter::repeat_n(false, prompt.len()).chain(std::iter::repeat_n(true, answer.len())).collect();
    Example { ids: [prompt, answer].concat(), trained }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answers_of_a_preference_are_its_targets() {
        let pair = Preference { prompt: vec![1, 2], chosen: vec![3, 4], rejected: vec![5] };
        let [chosen, rejected] = pair.examples();
        assert_eq!(chosen, Example { ids: vec![1, 2, 3, 4], trained: vec![false, false, true, true] });
        assert_eq!(rejected, Example { ids: vec![1, 2, 5], trained: vec![false, false, true] });
        assert_eq!((chosen.targets(), rejected.targets()), (2, 1));
    }

    #[test]
    fn nothing_predicts_the_first_token() {
        assert_eq!(Example { ids: vec![1, 2], trained: vec![true, true] }.targets(), 1);
    }
}
