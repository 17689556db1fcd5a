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

impl Example {
    /// How many tokens are learned: the targets without the first token, which nothing predicts.
    pub fn targets(&self) -> usize {
        self.trained.iter().skip(1).filter(|trained| **trained).count()
    }
}

impl Preference {
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
